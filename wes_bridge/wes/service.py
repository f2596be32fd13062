"""What every handler needs, in one object: no handler reaches for anything global."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import caller
from wes_bridge.auth.private import bearer, private_token
from wes_bridge.config import ServiceConfig
from wes_bridge.data.attachments import remove_stale
from wes_bridge.data.workspace import Workspace
from wes_bridge.model.finite import finite_json
from wes_bridge.model.states import State
from wes_bridge.store import runs
from wes_bridge.store.changes import Changes
from wes_bridge.store.database import Database
from wes_bridge.store.listing import Totals
from wes_bridge.store.lookup import StateLookup
from wes_bridge.store.notices import Channel, Teller
from wes_bridge.store.writer import Writer
from wes_bridge.wes.allowances import Allowances
from wes_bridge.wes.errors import NotFoundError
from wes_bridge.wes.links import Links
from wes_bridge.wes.threads import PATIENCE, Threads
from wes_bridge.wes.watching import Watcher

_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class Service:
    """The server's shared parts.

    Args:
        config: how the service is configured.
        database: runs and tasks; the caller closes it.
        wake: tells the engine workers of this machine that there is something new.
    """

    def __init__(self, config: ServiceConfig, database: Database, wake: Callable[[], None]) -> None:
        self.config = config
        self.database = database
        self._teller = Teller(database)
        self._wake = wake
        self.workspace = Workspace(config.workspace_dir)
        self.threads = Threads()
        self.writer = Writer(
            database, "wes-writer", limit=PATIENCE, after=partial(self._teller.tell, Channel.CHANGES)
        )
        self.public_url = str(config.public_url) if config.public_url else None
        self.watcher = Watcher(Changes(database), self.threads.sql)
        self.totals = Totals(database)
        self._state = StateLookup(database)
        self.allowances = Allowances(config.limits, database, self.workspace, self.threads)
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        """The client for what nodes hold; made on first use."""
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(30.0, connect=5.0), follow_redirects=False, auth=_own_nodes(self.config)
            )
        return self._http

    async def start(self) -> None:
        """Tidy up after a server that died here, and begin to watch runs."""
        self.watcher.start()
        await self.threads.files(remove_stale, self.workspace)

    async def stop(self) -> None:
        """Finish writes and let go of everything but the database."""
        await self.watcher.stop()
        if self._http is not None:
            await self._http.aclose()
        await self.threads.files(self.writer.close)
        await self.threads.files(self._teller.close)
        self.threads.close()

    def wake(self) -> None:
        """Tell the engine workers, here and elsewhere, that there is something new."""
        self._wake()
        self._teller.tell(Channel.WORK)

    def links(self, request: Request) -> Links:
        """URLs for the answer to this request."""
        return Links.of(request, self.public_url)

    async def state_of(self, request: Request) -> tuple[str, State]:
        """The id and state of the run that the path names.

        Raises:
            NotFoundError: there is none, or it is not the caller's.
        """
        run_id = _run_id(request)
        state = await self.threads.sql(self._state, run_id, caller(request))
        if state is None:
            raise _no_run(run_id)
        return run_id, state

    async def run_of(self, request: Request) -> Row[Any]:
        """The whole row of the run that the path names.

        Raises:
            NotFoundError: there is none, or it is not the caller's.
        """
        run_id = _run_id(request)
        row = await self.threads.sql(runs.get_run, self.database, run_id, caller(request))
        if row is None:
            raise _no_run(run_id)
        return row

    async def task_of(self, request: Request) -> Row[Any]:
        """The whole row of the task that the path names.

        Raises:
            NotFoundError: there is none, or it is not the caller's.
        """
        run_id, _ = await self.state_of(request)
        task_id: str = request.path_params["task_id"]
        row = None
        if task_id.isprintable():
            row = await self.threads.sql(runs.get_task, self.database, run_id, task_id)
        if row is None:
            raise NotFoundError(f"run {run_id} has no task {task_id[:80]!r}")
        return row


def json_response(content: Any) -> Response:
    """A 200 with compact JSON."""
    body = finite_json(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, media_type="application/json")


def _run_id(request: Request) -> str:
    run_id: str = request.path_params["run_id"]
    if len(run_id) > 64 or not _ID_LETTERS.issuperset(run_id):
        raise _no_run(run_id)
    return run_id


def _no_run(run_id: str) -> NotFoundError:
    return NotFoundError(f"there is no run {run_id[:80]!r}, or it is not yours")


def _own_nodes(config: ServiceConfig) -> Callable[[httpx.Request], httpx.Request]:
    """Adds a private service's token to requests to its own nodes, and to no others."""
    token, own = private_token(), {node.name for node in config.nodes}
    places = tuple(str(broker.url).rstrip("/") + "/" for broker in config.brokers if broker.name in own)

    def authorize(request: httpx.Request) -> httpx.Request:
        if token and str(request.url).startswith(places):
            request.headers["Authorization"] = bearer(token)
        return request

    return authorize
