"""What it costs one worker process to follow 5,000 sessions that run, by long poll and by plain polling.

    python benchmarks/following.py [--sessions 5000] [--seconds 120] [--only held|plain]

The worker's own code for following (connections, parsing, timers) runs in this process, on its event loop.
The broker is a fake in a process of its own: a bare HTTP server on loopback that knows one session shape and
its phases, since a real one would take the processor that is measured. All sessions are RUNNING.
  held    it does as `Prefer: wait=N` asks: 304 after N seconds, as our node does when there is no news
  plain   it knows neither that nor ETags, as the Java broker: each request is answered at once
Measured when all sessions have been asked for once and for so many seconds: processor time of this process
(user and system) in parts of one core, requests as the broker counted them, and how late this process's
timers are (what any other work of the worker would feel). Then 100 sessions end, and the time is taken until
each is known to have.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.federation.conftest import PLAN
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.federation.following import Accepted, Following
from wes_bridge.model.execution_broker import SCHEDULED_SESSION, Session
from wes_bridge.model.states import Phase
from wes_bridge.open_files import allow_many

ENDING = 100
PATIENCE = 300.0


# ---- the fake broker ---------------------------------------------------------------------------------


class FakeBroker:
    """Sessions by number; those below ``ended`` are COMPLETED, all others RUNNING."""

    def __init__(self, holds: bool) -> None:
        self._holds = holds
        self._ended = 0
        self._requests = 0
        self._asked: set[str] = set()
        self._waiting: dict[int, Callable[[], None]] = {}

    async def serve(self) -> None:
        """Until standard input ends."""
        server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0, backlog=4096)
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)  # with thousands of answers held, each of which would have words to say

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                path = head.split(" ", 2)[1]
                writer.write(await self._answer(path, head))

    async def _answer(self, path: str, head: str) -> bytes:
        if path == "/figures":
            return _ok(json.dumps({"requests": self._requests, "asked": len(self._asked)}))
        if path.startswith("/end/"):
            self._ended = int(path.rpartition("/")[2])
            for number in range(self._ended):
                if number in self._waiting:
                    self._waiting[number]()
            return _ok("{}")
        number = int(path.rpartition("/")[2])
        self._requests += 1
        self._asked.add(path)
        if number >= self._ended and self._holds and "if-none-match" in head:
            wait = float(head.partition("prefer: wait=")[2].partition("\r\n")[0] or 0)
            woken = asyncio.get_running_loop().create_future()
            self._waiting[number] = lambda: None if woken.done() else woken.set_result(None)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await woken
            del self._waiting[number]
            if number >= self._ended:
                return b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\n\r\n'
        phase = "COMPLETED" if number < self._ended else "RUNNING"
        etag = f'ETag: "{"2" if number < self._ended else "1"}"\r\n' if self._holds else ""
        return _ok(json.dumps(_session(path, phase)), etag)


def _ok(body: str, header: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{header}\r\n{body}".encode()


def _session(url: str, phase: str) -> dict[str, object]:
    executable = {"kind": "urn:wes-bridge:kind:executable:process", "command": ["sleep", "1000"]}
    compute = {"kind": "urn:x", "phase": "RUNNING", "cores": {"min": 1, "max": 1}}
    schedule = {"available": {"start": "2030-01-01T00:00:00Z/PT0S", "duration": "PT1H"}}
    return {
        "kind": SCHEDULED_SESSION,
        "meta": {"url": url, "name": "measure"},
        "phase": phase,
        "executable": executable | ({"exitCode": 0} if phase == "COMPLETED" else {}),
        "compute": compute,
        "schedule": schedule,
    }


# ---- the worker's side -------------------------------------------------------------------------------


async def measure(port: int, sessions: int, seconds: float, holds: bool) -> None:
    """Follow, and print what it costs."""
    url, process = f"http://127.0.0.1:{port}", psutil.Process()

    async def nothing(_session: Session) -> None:
        return

    async with http_session() as http:
        broker = Broker("fake", url, http)
        ended: dict[int, float] = {}

        async def follow(number: int) -> None:
            address = f"{url}/sessions/{number}"
            session = Session.model_validate(_session(address, "RUNNING"))
            etag = '"1"' if holds else None
            accepted = Accepted(broker, address, session, etag)
            report: Callable[[Session], Awaitable[None]] = nothing
            outcome = await Following(accepted, PLAN, report, 60.0, lambda: True).outcome()
            assert not isinstance(outcome, str), outcome
            assert session.phase is not Phase.COMPLETED
            ended[number] = time.monotonic()

        async def figures(path: str = "/figures") -> dict[str, int]:
            async with http.get(url + path) as answer:
                found: dict[str, int] = await answer.json(content_type=None)
                return found

        tasks = []
        for number in range(sessions):
            tasks.append(asyncio.create_task(follow(number)))
            if number % 50 == 49:  # as sessions do, they begin one after another
                await asyncio.sleep(0.05)
        end = time.monotonic() + PATIENCE
        while (await figures())["asked"] < sessions:
            assert time.monotonic() < end, "not all sessions were asked for"
            await asyncio.sleep(0.5)
        await asyncio.sleep(10.0)
        before, cpu, begun = await figures(), sum(process.cpu_times()[:2]), time.monotonic()
        late = []
        while time.monotonic() < begun + seconds:
            due = time.monotonic() + 0.1
            await asyncio.sleep(0.1)
            late.append(time.monotonic() - due)
        took = time.monotonic() - begun
        spent, after = sum(process.cpu_times()[:2]) - cpu, await figures()
        rate = (after["requests"] - before["requests"]) / took
        memory = process.memory_info().rss / 2**20
        print(f"{'held' if holds else 'plain'}: {sessions} sessions, {took:.0f} s, {memory:.0f} MiB")
        target = "   target < 10 %" if holds else ""
        print(f"  processor          {100 * spent / took:6.1f} % of a core{target}")
        target = "   target: at least 20 s" if holds else ""
        print(
            f"  requests           {rate:6.1f} a second: one a session each {sessions / rate:.1f} s{target}"
        )
        print(f"  a request          {1000 * spent / max(1.0, rate * took):6.2f} ms of processor time")
        print(
            f"  timers late by     {1000 * statistics.median(late):6.1f} ms, at most {1000 * max(late):.0f}"
        )
        await figures(f"/end/{ENDING}")
        begun = time.monotonic()
        await asyncio.wait(tasks[:ENDING], timeout=PATIENCE)
        delays = [at - begun for at in ended.values()]
        shown = f"median {statistics.median(delays):.2f} s, at most {max(delays):.2f} s" if delays else "none"
        print(f"  {len(ended)} ends known after  {shown}", flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """Both ways."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--only", choices=["held", "plain"])
    parser.add_argument("--serve", choices=["held", "plain"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    allow_many()
    if options.serve:
        uvloop.run(FakeBroker(options.serve == "held").serve())
        return
    for way in [options.only] if options.only else ["held", "plain"]:
        command = [sys.executable, __file__, "--serve", way]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as broker:
            assert broker.stdout is not None
            port = int(broker.stdout.readline())
            uvloop.run(measure(port, options.sessions, options.seconds, way == "held"))
            assert broker.stdin is not None
            broker.stdin.close()


if __name__ == "__main__":
    main()
