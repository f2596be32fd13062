"""A real node in a process of its own, on a loopback socket, and a small client for it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests import ready_made
from wes_bridge.model import execution_broker as eb
from wes_bridge.node.platforms.sandbox import bubblewrap

ROOT = "/wb-3f9a"
REPOSITORY = Path(__file__).parent.parent.parent
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "REJECTED", "EXPIRED"}


def process(*command: str, **more: Any) -> dict[str, Any]:
    """An executable of kind process with the usual root and workdir."""
    return {
        "kind": eb.PROCESS,
        "command": list(command),
        "root": ROOT,
        "workdir": f"{ROOT}/out",
        **more,
    }


def shell(script: str, **more: Any) -> dict[str, Any]:
    return process("/bin/sh", "-c", script, **more)


class Request:
    """Builds an execution request."""

    def __init__(self, executable: dict[str, Any] | None, **compute: Any) -> None:
        self.body: dict[str, Any] = {"data": []}
        if executable is not None:
            self.body["executable"] = executable
        self.body["compute"] = {"kind": eb.SIMPLE_COMPUTE, "volumes": [], **compute}

    def data(
        self, path: str, location: str | None, mode: str = "READONLY", copy: bool | None = None, **more: Any
    ) -> Request:
        name = f"d{len(self.body['data'])}"
        item = {"kind": eb.SIMPLE_DATA, "meta": {"name": name}, **more}
        if location is not None:
            item["location"] = location
        volume = {"kind": eb.SIMPLE_VOLUME, "path": path, "mode": mode, "resource": name}
        if copy is not None:
            volume["copy"] = copy
        self.body["data"].append(item)
        self.body["compute"]["volumes"].append(volume)
        return self

    def output(self, location: Path | str, path: str = f"{ROOT}/out") -> Request:
        url = location.as_uri() if isinstance(location, Path) else location
        return self.data(path, url, "READWRITE", access="WRITE")


class NodeProcess:
    """A node and how to talk to it."""

    kind = "node"

    def __init__(self, state: Path, config: dict[str, Any], arguments: tuple[str, ...] = ()) -> None:
        self.state = state
        self.config = config
        self.arguments = arguments
        self.process: ready_made.Copy | subprocess.Popen[str] | None = None
        self.http = httpx.Client(timeout=60)
        self.url = ""

    def start(self) -> Self:
        words = ["--state-dir", str(self.state), "--config-json", json.dumps(self.config), *self.arguments]
        env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        self.process = ready_made.begin(f"wes_bridge.{self.kind}.main", words, env=env)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        match = re.search(rf"wes-bridge {self.kind} \S+ is ready at (http\S+)", line)
        assert match, f"no ready line: {line!r}"
        self.url = match[1]
        return self

    def kill(self, number: int = signal.SIGKILL) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        if self.process.stdout:
            self.process.stdout.close()
        self.process = None
        return code

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.kill(signal.SIGTERM)
        if self.process is not None:
            self.kill()
        self.http.close()

    def ask(self, request: Request | dict[str, Any], **more: Any) -> dict[str, Any]:
        body = request.body if isinstance(request, Request) else request
        answer = self.http.post(f"{self.url}/requests", json=body, **more)
        assert answer.status_code == 303, answer.text
        return answer.json()

    def refused(self, request: Request | dict[str, Any]) -> list[dict[str, Any]]:
        offers = self.ask(request)
        assert offers["result"] == "NO", offers
        return offers["meta"]["messages"]

    def offer(self, request: Request | dict[str, Any]) -> dict[str, Any]:
        offers = self.ask(request)
        assert offers["result"] == "YES", offers["meta"].get("messages")
        return offers["offers"][0]

    def update(self, session: dict[str, Any], phase: str) -> dict[str, Any]:
        answer = self.http.post(
            self.at(session), json={"kind": "uri:enum-value-update", "path": "/phase", "value": phase}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def at(self, session: dict[str, Any]) -> str:
        return f"{self.url}/sessions/{session['meta']['uuid']}"

    def begin(self, request: Request | dict[str, Any]) -> dict[str, Any]:
        return self.update(self.offer(request), "ACCEPTED")

    def get(self, session: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.get(self.at(session))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def until(
        self, session: dict[str, Any], done: Callable[[dict[str, Any]], bool], seconds: float = 120
    ) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        etag = ""
        while time.monotonic() < deadline:
            headers = {"Prefer": "wait=1", "If-None-Match": etag} if etag else {}
            answer = self.http.get(self.at(session), headers=headers)
            if answer.status_code != 304:  # what is awaited may be no change of the session
                assert answer.status_code == 200, answer.text
                session, etag = answer.json(), answer.headers["etag"]
            if done(session):
                return session
            assert session["phase"] not in FINAL, (session["phase"], texts(session), session)
        raise AssertionError(f"not within {seconds} s: {session}")

    def wait_stored(self, table: str, item: dict[str, Any]) -> None:
        """Return when an offer set or offer is in the database: they are stored soon, not at once."""
        database = sqlite3.connect(f"file:{self.state / 'node.db'}?mode=ro", uri=True)
        query = f"SELECT 1 FROM {table} WHERE uuid = ?"
        deadline = time.monotonic() + 60
        while not database.execute(query, [item["meta"]["uuid"]]).fetchone():
            assert time.monotonic() < deadline, "it was not stored"
            time.sleep(0.02)
        database.close()

    def end(self, session: dict[str, Any], seconds: float = 120) -> dict[str, Any]:
        return self.until(session, lambda now: now["phase"] in FINAL, seconds)

    def run(self, request: Request | dict[str, Any], seconds: float = 120) -> dict[str, Any]:
        return self.end(self.begin(request), seconds)

    def completed(self, request: Request | dict[str, Any]) -> dict[str, Any]:
        session = self.run(request)
        assert session["phase"] == "COMPLETED", (texts(session), self.stream(session, "stderr"))
        return session

    def stream(self, session: dict[str, Any], name: str = "stdout", **headers: str) -> str:
        return self.http.get(f"{self.url}/streams/{session['meta']['uuid']}/{name}", headers=headers).text


def texts(session: dict[str, Any]) -> str:
    """All messages of a session or offer set, as text."""
    return " | ".join(message["message"] for message in session["meta"].get("messages", []))


def kinds(messages: list[dict[str, Any]]) -> set[str]:
    return {message["kind"] for message in messages}


def session_kinds(session: dict[str, Any]) -> set[str]:
    return kinds(session["meta"].get("messages", []))


Starter = Callable[..., NodeProcess]


@contextlib.contextmanager
def starting_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts nodes; all are stopped at the end."""
    nodes: list[NodeProcess] = []

    def start(*arguments: str, **config: Any) -> NodeProcess:
        state = tmp_path_factory.mktemp("node")
        settings = {"name": "test", "platforms": ["process"], "cores": 8, "memory_gib": 8, **config}
        settings.setdefault("fetch", {"private_hosts": ["127.0.0.0/8"]})
        node = NodeProcess(state, settings, arguments or ("--end-sessions-on-exit",))
        nodes.append(node)
        return node.start()

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture(scope="module")
def start_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts nodes that are stopped at the end of the module."""
    with starting_nodes(tmp_path_factory) as start:
        yield start


@pytest.fixture(scope="module")
def node(start_node: Starter) -> NodeProcess:
    """A node that runs plain processes, sandboxed where that works."""
    return start_node()


@pytest.fixture(scope="module")
def plain(start_node: Starter) -> NodeProcess:
    """A node without a sandbox."""
    return start_node(sandbox="none")


@pytest.fixture
def need_bwrap() -> None:
    path, reason = bubblewrap()
    if path is None:
        pytest.skip(reason)


def engine() -> str | None:
    return shutil.which("podman") or shutil.which("docker")
