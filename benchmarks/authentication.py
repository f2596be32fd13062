"""What looking at credentials costs: processor time of the guard for one request, by kind of credential.

    python -m benchmarks.authentication [--requests 20000]

The guard stands before an application that answers nothing, called as an ASGI server would call it.
Connections are real sockets of this machine. The goal is less than 0.2 ms a request once keys and peers are
known; the command fails where one of those kinds takes more.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.auth.issuers import AUDIENCE, TestIssuer, new_key
from wes_bridge.auth.api_keys import KeyFile
from wes_bridge.auth.door import Served, guarded
from wes_bridge.auth.guard import CONNECTION
from wes_bridge.auth.passwords import hashed
from wes_bridge.auth.peers import Connection
from wes_bridge.config import ServiceConfig

GOAL = timedelta(milliseconds=0.2)


async def _nothing(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


class Measured:
    """Requests of one kind."""

    def __init__(self, config: ServiceConfig, state: Path, connection: Callable[[], Connection]) -> None:
        self._app = guarded(config, Served(_nothing, state, "benchmark"))
        self._connection = connection

    async def once(self, authorization: bytes | None) -> int | None:
        told: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])

        headers = [
            (b"host", b"127.0.0.1:8080"),
            (b"accept", b"application/json"),
            (b"user-agent", b"benchmark"),
        ]
        if authorization is not None:
            headers.append((b"authorization", authorization))
        connection = self._connection()
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/ga4gh/wes/v1/runs",
            "http_version": "1.1",
            "headers": headers,
            "server": connection.local,
            "client": connection.remote,
            CONNECTION: connection,
        }
        await self._app(scope, None, send)  # type: ignore[arg-type]
        return told[0] if told else None

    async def time(self, count: int, authorization: Callable[[int], bytes | None]) -> float:
        """Seconds of processor time of one request."""
        values = [authorization(number) for number in range(count)]
        assert await self.once(values[0]) is None, "the first request is refused"
        begun = time.process_time()
        for value in values:
            refused = await self.once(value)
        assert refused is None
        return (time.process_time() - begun) / count


async def main(count: int) -> int:
    issuer = TestIssuer()
    issuer.keys += [new_key("ES256", "es"), new_key("EdDSA", "ed")]
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    accepted, _ = server.accept()
    known = Connection(accepted.getsockname(), client.getsockname())

    def fresh() -> Connection:
        return Connection(accepted.getsockname(), client.getsockname())

    results: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        (state / "users").write_text(f"alice:{hashed('secret-of-alice')}\n")
        _, key = KeyFile(state).create("robot", ["user"], [], None)
        laptop = ServiceConfig(state_dir=state)
        site = ServiceConfig.model_validate(
            {
                "state_dir": state,
                "authentication": {
                    "oidc": [{"issuer": issuer.url, "audience": [AUDIENCE]}],
                    "basic": {"file": state / "users"},
                    "keys": True,
                    "admins": ["group:operators"],
                },
            }
        )
        here = Measured(laptop, state, lambda: known)
        new = Measured(laptop, state, fresh)
        there = Measured(site, state, lambda: known)
        token = b"Bearer " + (state / "token").read_text().strip().encode()
        basic = b"Basic " + base64.b64encode(b"alice:secret-of-alice")
        good = f"Bearer {issuer.token()}".encode()
        few = max(50, count // 40)
        results["laptop: a connection that is known"] = await here.time(count, lambda _: None)
        results["laptop: a new connection for each request"] = await new.time(few, lambda _: None)
        results["the token of the state folder"] = await here.time(count, lambda _: token)
        results["API key"] = await there.time(count, lambda _: f"Bearer {key}".encode())
        results["name and password, seen before"] = await there.time(count, lambda _: basic)
        results["OIDC token, seen before"] = await there.time(count, lambda _: good)
        for number, kind in enumerate(("RS256", "ES256", "EdDSA")):
            one = issuer.keys[number]
            results[f"OIDC token, never seen before, {kind}"] = await there.time(
                few, lambda n, one=one: f"Bearer {issuer.token(one, jti=str(n))}".encode()
            )
    known = [what for what in results if not ("new" in what or "never" in what)]
    missed = [what for what in known if results[what] > GOAL.total_seconds()]
    for what, seconds in results.items():
        goal = ("more than the goal" if what in missed else "goal met") if what in known else ""
        print(f"{what:45} {seconds * 1e6:8.1f} µs  {goal}".rstrip())
    print(json.dumps({"load": os.getloadavg()[0], "goal_us": GOAL.total_seconds() * 1e6, "missed": missed}))
    issuer.close()
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    sys.exit(asyncio.run(main(parser.parse_args().requests)))
