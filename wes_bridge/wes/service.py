"""What every handler needs, in one object: no handler reaches for anything global."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import httpx
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.identity import principal_of
from wes_bridge.config import ServiceConfig
from wes_bridge.data.attachments import remove_stale
from wes_bridge.data.workspace import Workspace
from wes_bridge.federation.credentials import Credentials, CredentialsError
from wes_bridge.model.finite import finite_json
from wes_bridge.model.states import State
from wes_bridge.store import runs
from wes_bridge.store.changes import Changes
from wes_bridge.store.database import Database
from wes_bridge.store.listing import Totals
from wes_bridge.store.lookup import StateLookup
from wes_bridge.store.notices import Channel, Teller
from wes_bridge.store.sharing import Viewer, find_run
from wes_bridge.store.writer import Writer
from wes_bridge.wes.allowances import Allowances
from wes_bridge.wes.errors import ForbiddenError, NotFoundError
from wes_bridge.wes.links import Links
from wes_bridge.wes.stored_outputs import StoredOutputs
from wes_bridge.wes.threads import PATIENCE, Threads
from wes_bridge.wes.watching import Watcher

_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")


class Seen(NamedTuple):
    """A run that the caller may see: its id, its state, and the name of its owner."""

    run_id: str
    state: State
    owner: str


def viewer_of(request: Request) -> Viewer:
    """Whose runs the caller may see: their own, those shared with their groups now, as an admin all."""
    principal = principal_of(request)
    return Viewer(principal.name, tuple(sorted(principal.groups)), principal.is_admin)


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
        store = config.outputs_store
        self.stored = None if store is None else StoredOutputs(store)
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        """The client for what nodes hold; made on first use."""
        if self._http is None:
            limits, auth = httpx.Timeout(30.0, connect=5.0), _credentials(self.config)
            self._http = httpx.AsyncClient(timeout=limits, follow_redirects=False, auth=auth)
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
        if self.stored is not None:
            self.stored.close()
        self.threads.close()

    def wake(self) -> None:
        """Tell the engine workers, here and elsewhere, that there is something new."""
        self._wake()
        self._teller.tell(Channel.WORK)

    def links(self, request: Request) -> Links:
        """URLs for the answer to this request."""
        return Links.of(request, self.public_url)

    async def state_of(self, request: Request, *, changing: bool = False) -> Seen:
        """The run that the path names, as far as its id and state go.

        Args:
            request: whose path names it.
            changing: whether it is to be changed, rather than looked at.

        Raises:
            NotFoundError: there is none, or the caller may not see it.
            ForbiddenError: the caller may see it, but not change it.
        """
        run_id, viewer = _run_id(request), viewer_of(request)
        found = await self.threads.sql(self._state, run_id, viewer)
        if found is None:
            raise _no_run(run_id)
        seen = Seen(run_id, *found)
        if changing:
            _check_change(viewer, run_id, seen.owner)
        return seen

    async def run_of(self, request: Request, *, changing: bool = False) -> Row[Any]:
        """The whole row of the run that the path names; arguments and errors as of :meth:`state_of`."""
        run_id, viewer = _run_id(request), viewer_of(request)
        row = await self.threads.sql(find_run, self.database, run_id, viewer)
        if row is None:
            raise _no_run(run_id)
        if changing:
            _check_change(viewer, run_id, row.owner)
        return row

    async def task_of(self, request: Request) -> tuple[Row[Any], str]:
        """The whole row of the task that the path names, and who owns its run.

        Raises:
            NotFoundError: there is none, or the caller may not see its run.
        """
        seen = await self.state_of(request)
        run_id = seen.run_id
        task_id: str = request.path_params["task_id"]
        row = None
        if task_id.isprintable():
            row = await self.threads.sql(runs.get_task, self.database, run_id, task_id)
        if row is None:
            raise NotFoundError(f"run {run_id} has no task {task_id[:80]!r}")
        return row, seen.owner


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


def _check_change(viewer: Viewer, run_id: str, owner: str) -> None:
    if not viewer.may_change(owner):
        raise ForbiddenError(f"run {run_id} is shared with you to look at; only its owner may change it")


def _credentials(config: ServiceConfig) -> Callable[[httpx.Request], httpx.Request]:
    """Adds a broker's credentials to requests to it, and to no others."""
    known = [
        (str(broker.url).rstrip("/") + "/", Credentials(broker.credentials))
        for broker in config.brokers
        if broker.credentials is not None
    ]

    def authorize(request: httpx.Request) -> httpx.Request:
        url = str(request.url)
        for place, credentials in known:
            if url.startswith(place):
                with suppress(CredentialsError):  # the broker says that they are missing
                    request.headers["Authorization"] = credentials.header()
                break
        return request

    return authorize
