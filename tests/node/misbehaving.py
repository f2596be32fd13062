"""A web server that does what tests tell it: sends too little, stalls, is busy, or redirects."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

from aiohttp import web


class Site:
    """Its pages are handlers, by path.

    Attributes:
        url: without a slash at its end.
        asked: method, path and headers of each request.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.pages: dict[str, Callable[[web.Request], object]] = {}
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._ready.wait(30)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(1 for _, asked, _ in self.asked if asked == path)

    def headers(self, path: str) -> list[dict[str, str]]:
        """Those of each request for a path."""
        return [headers for _, asked, headers in self.asked if asked == path]

    def _run(self) -> None:
        runner = self._loop.run_until_complete(self._open())
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _open(self) -> web.AppRunner:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        listener = web.TCPSite(runner, "127.0.0.1", 0)
        await listener.start()
        port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        return runner

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.headers)))
        page = self.pages.get(request.path)
        if page is None:
            return web.Response(status=404)
        found = page(request)
        return await found if asyncio.iscoroutine(found) else found  # type: ignore[return-value]


async def part(request: web.Request, body: bytes, sent: int, **headers: str) -> web.StreamResponse:
    """Announce all of a body, send some of it, and hang up."""
    response = web.StreamResponse(headers={k.replace("_", "-"): v for k, v in headers.items()})
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[:sent])
    assert request.transport is not None
    request.transport.close()
    return response


def site() -> Iterator[Site]:
    """For a fixture."""
    made = Site()
    made.start()
    yield made
    made.stop()
