"""A node whose machine vanishes closes no connection: it is noticed while a poll is held, all the same."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.apart.separation import Separation, why_not
from wes_bridge.federation.client import BrokenError, Broker, NotReachedError, http_session
from wes_bridge.fetching import sockets

HOLDS = """
import socket, time
server = socket.create_server(("", 8080))
print("ready", flush=True)
held = [server.accept()[0] for _ in range(2)]
time.sleep(600)
"""
"""A node that takes a poll and does not answer it for as long as nothing happens."""


@pytest.mark.timeout(120)
def test_a_machine_that_vanishes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = why_not()
    if problem is not None:
        pytest.skip(problem)
    for name, value in {"IDLE": 1, "BETWEEN": 1, "PROBES": 1, "UNNOTICED": 1.5}.items():
        monkeypatch.setattr(sockets, name, value)
    separation = Separation(tmp_path)
    try:
        client, node = separation.site("client"), separation.site("node")
        words = node.network.words(sys.executable, "-c", HOLDS)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server, client.inside():
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                asyncio.run(polled(f"http://{node.address}:8080", lambda: separation.cut("node")))
            finally:
                server.kill()
    finally:
        separation.close()


async def polled(url: str, vanish: Callable[[], None]) -> None:
    async with http_session() as http:
        broker = Broker("node", url, http)
        poll = asyncio.create_task(broker.poll(f"{url}/sessions/a", None))
        await asyncio.sleep(1.2)  # it was asked once whether it is there, and has answered
        assert not poll.done()
        vanish()
        with pytest.raises((BrokenError, NotReachedError)):
            async with asyncio.timeout(30):  # a poll is held for 41 s at least
                await poll
