"""A real server on a loopback socket, a real SQLite database, and something that plays the engine."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
import uvicorn
from sqlalchemy import Connection
from starlette.types import ASGIApp

from wes_bridge.config import ServiceConfig
from wes_bridge.data.workspace import RunFolder, Workspace, file_url
from wes_bridge.model.states import State
from wes_bridge.store import runs
from wes_bridge.store.database import Database
from wes_bridge.store.notices import Channel, Teller
from wes_bridge.store.runs import TaskRow
from wes_bridge.store.tables import SERVICE
from wes_bridge.wes.app import create_app

BASE = "/ga4gh/wes/v1"
GOOD = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "https://example.org/w.cwl"}


@dataclass
class Server:
    """A running server. ``url`` ends in the API's base path; ``woken`` counts wake-up calls."""

    root: str
    database: Database
    workspace: Workspace
    config: ServiceConfig
    woken: list[float] = field(default_factory=list)
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def url(self) -> str:
        return self.root + BASE

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, **options)

    def post(self, path: str, **options: Any) -> requests.Response:
        return self.session.post(self.url + path, timeout=60, **options)

    def submit(self, files: dict[str, bytes] | None = None, **fields: Any) -> str:
        parts: list[tuple[str, Any]] = [
            (name, (None, value)) for name, value in {**GOOD, **fields}.items() if value is not None
        ]
        parts += [("workflow_attachment", (name, content)) for name, content in (files or {}).items()]
        answer = self.post("/runs", files=parts)
        assert answer.status_code == 200, answer.text
        run_id: str = answer.json()["run_id"]
        return run_id

    def folder(self, run_id: str) -> RunFolder:
        return self.workspace.run(run_id)


class Engine:
    """Writes to the database what an engine worker would."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._database = server.database
        self._fences: dict[str, int] = {}
        self._teller = Teller(server.database)

    def close(self) -> None:
        """Send the last hints."""
        self._teller.close()

    @contextlib.contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._database.write() as connection:
            yield connection
        self._teller.tell(Channel.CHANGES)

    def claim(self) -> list[str]:
        with self._write() as connection:
            rows = runs.claim_runs(connection, "test", 60.0, 1000, time.time())
        self._fences |= {row.run_id: row.fence for row in rows}
        return [row.run_id for row in rows]

    def state(self, run_id: str, state: State, **values: Any) -> State:
        with self._write() as connection:
            return runs.set_run_state(connection, run_id, self._fences[run_id], state, **values)

    def task(self, run_id: str, number: int = 1, **values: Any) -> TaskRow:
        row = TaskRow(run_id, f"t{number}", number, f"main/step{number}", f"step{number}", **values)
        with self._write() as connection:
            runs.put_tasks(connection, [row])
        return row

    def output(self, run_id: str, name: str, content: bytes) -> dict[str, Any]:
        """Store an output file; return it as CWL says it."""
        path = self._server.folder(run_id).outputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return {"class": "File", "location": file_url(path), "path": str(path), "size": len(content)}

    def finish(self, run_id: str, outputs: dict[str, Any] | None = None) -> None:
        if run_id not in self._fences:
            self.claim()
        now = time.time()
        self.state(run_id, State.RUNNING, start_time=now)
        self.state(run_id, State.COMPLETE, end_time=now, exit_code=0, outputs=outputs or {})


def start(config: ServiceConfig, wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app) -> Iterator[Server]:
    """Serve ``config`` in a thread; ``wrap`` puts something in front of the application."""
    database = Database(config.database_url, SERVICE)
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    made = Server(f"http://127.0.0.1:{port}", database, Workspace(config.workspace_dir), config)
    app = create_app(config, database, lambda: made.woken.append(time.time()))
    settings = uvicorn.Config(wrap(app), log_level="warning", access_log=False)
    server = uvicorn.Server(settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield made
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        made.session.close()
        database.close()


def is_error(answer: requests.Response, status: int, *words: str) -> None:
    """The answer is an error as WES says it, and its message has these words."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"msg", "status_code"}
    assert body["status_code"] == status
    for word in words:
        assert word in body["msg"], body["msg"]


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port
