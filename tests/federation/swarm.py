"""Many brokers in one process and event loop, each answering after a set time: for tests of speed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

from wes_bridge.model.execution_broker import OFFERSET, SCHEDULED_SESSION


@contextlib.asynccontextmanager
async def swarm(delays: list[float | None]) -> AsyncIterator[list[str]]:
    """Brokers that answer after so many seconds; None: never. Gives their URLs."""
    servers = []
    hung = asyncio.Event()

    def serve(delay: float | None) -> object:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                    length = int(head.partition("content-length: ")[2].partition("\r\n")[0] or 0)
                    await reader.readexactly(length)
                    if delay is None:
                        await hung.wait()
                        return
                    await asyncio.sleep(delay if head.startswith("post /requests") else 0)
                    port = writer.get_extra_info("sockname")[1]
                    offer = {
                        "kind": SCHEDULED_SESSION,
                        "phase": "OFFERED",
                        "meta": {"url": f"http://127.0.0.1:{port}/sessions/1"},
                    }
                    body = json.dumps({"kind": OFFERSET, "result": "YES", "offers": [offer]}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        return on_connection

    for delay in delays:
        servers.append(await asyncio.start_server(serve(delay), "127.0.0.1", 0))  # type: ignore[arg-type]
    try:
        yield [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    finally:
        hung.set()
        for server in servers:
            server.close()
