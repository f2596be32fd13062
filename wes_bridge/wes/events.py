"""GET /runs/{run_id}/events: how a run goes, as server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wes_bridge.auth.identity import is_still_known
from wes_bridge.store.changes import Position
from wes_bridge.store.outage import OUTAGE, is_passing
from wes_bridge.wes.errors import BusyError, NotAcceptableError
from wes_bridge.wes.service import Service
from wes_bridge.wes.watching import END, Batch, Watcher, position_of

MEDIA_TYPE = "text/event-stream"
KEEP_ALIVE = 15.0
"""Seconds without an event until a comment is sent: proxies close what is silent."""
SECOND_LOOK = 5.0
"""Seconds after which it is seen again whether a client is still let in."""
STALLED = 60.0
"""Seconds until a client that takes nothing is given up."""
_HEADERS = {
    "Content-Type": f"{MEDIA_TYPE}; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would wait for more
}
_HELLO = b"retry: 2000\n\n"


class EventHandlers:
    """The stream of a run."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def get(self, request: Request) -> Response:
        """GetRunEvents and HeadRunEvents.

        Raises:
            NotAcceptableError: the client does not take the media type.
            BusyError: too many listen.
        """
        run_id, state, _ = await self._service.state_of(request)
        if not takes_events(request.headers.get("accept")):
            raise NotAcceptableError(f"this address answers with {MEDIA_TYPE}; send Accept: {MEDIA_TYPE}")
        seen = request.headers.get("last-event-id")
        if state.is_final and seen == END:
            return Response(None, 204)  # a browser would come back for ever
        if request.method == "HEAD":
            return Response(None, 200, _HEADERS)
        watcher, most = self._service.watcher, self._service.config.events.max_listeners
        if watcher.listeners >= most:
            raise BusyError(
                f"{most} clients listen already; poll .../runs/{run_id}/status, or try again later",
                {"Retry-After": "30"},
            )
        with_tasks = request.query_params.get("tasks", "true").lower() != "false"
        return _Stream(watcher, run_id, position_of(seen), with_tasks)


def takes_events(accept: str | None) -> bool:
    """Whether an ``Accept`` header allows events."""
    if not accept or not accept.strip():
        return True
    for part in accept.split(","):
        kind, *parameters = (text.strip().lower() for text in part.split(";"))
        if kind in (MEDIA_TYPE, "text/*", "*/*") and not any(_is_zero(text) for text in parameters):
            return True
    return False


def _is_zero(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and not value.strip().strip("0.")


class _Stream(Response):
    """Sends events until the run has ended, the client is gone or no longer let in, or the server stops."""

    def __init__(self, watcher: Watcher, run_id: str, position: Position, with_tasks: bool) -> None:
        super().__init__(None, 200, _HEADERS)
        self._watcher = watcher
        self._run_id = run_id
        self._position = position
        self._with_tasks = with_tasks
        self._state: object = None
        self._news = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def leave(_ended: object) -> None:
            if not gone.done():
                gone.set_result(None)
            self._news.set()

        ends = [asyncio.ensure_future(end) for end in (_until_gone(receive), _until_unknown(scope))]
        for end in ends:
            end.add_done_callback(leave)
        try:
            with contextlib.suppress(TimeoutError):
                await self._send(send, _HELLO)
                await self._follow_while_there(gone, send)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            for end in ends:
                end.cancel()

    async def _follow_while_there(self, gone: asyncio.Future[None], send: Send) -> None:
        """Follow the run; a database that does not answer ends the stream, and its listener comes back."""
        try:
            await self._follow(gone, send)
        except Exception as error:
            if not is_passing(error):
                raise
            OUTAGE.seen(error)

    async def _follow(self, gone: asyncio.Future[None], send: Send) -> None:
        batch = await self._catch_up(gone, send)
        if batch.is_last or gone.done():
            return
        topic = self._watcher.join(self._run_id, batch, self._news, self._with_tasks)
        try:
            while not gone.done() and not self._watcher.is_closing:
                if not await self._wait():
                    await self._send(send, b": still here\n\n")
                    continue
                self._news.clear()
                batch = topic.latest
                if gone.done() or batch.state is None:
                    return
                if batch.until <= self._position:
                    continue
                is_all = batch.tasks is not None or not self._with_tasks
                if batch.since <= self._position and is_all:
                    await self._tell(batch, send)
                else:  # others were told something meanwhile that we were too slow for, or wanted less
                    batch = await self._catch_up(gone, send)
                if batch.is_last:
                    return
        finally:
            self._watcher.leave(self._run_id, self._news)

    async def _wait(self) -> bool:
        """Wait for news; false when there were none for long."""
        try:
            async with asyncio.timeout(KEEP_ALIVE):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _catch_up(self, gone: asyncio.Future[None], send: Send) -> Batch:
        """Read and send all there is after our position."""
        while True:
            batch = await self._watcher.read(self._run_id, self._position)
            if batch.until < self._position:  # a position of another database
                self._position = Position()
            await self._tell(batch, send)
            if batch.is_whole or gone.done():
                return batch

    async def _tell(self, batch: Batch, send: Send) -> None:
        """Send a batch; the run first, but last when it has ended."""
        parts = []
        if batch.state != self._state and not batch.is_last:
            parts.append(batch.run)
        if self._with_tasks and batch.tasks and batch.until > self._position:
            parts.append(batch.tasks)
        if batch.is_last:
            parts.append(batch.run)
        self._state, self._position = batch.state, max(self._position, batch.until)
        text = b"".join(parts)
        if text:
            await self._send(send, text)

    async def _send(self, send: Send, text: bytes) -> None:
        async with asyncio.timeout(STALLED):
            await send({"type": "http.response.body", "body": text, "more_body": True})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_unknown(scope: Scope) -> None:
    """Return when the caller's credentials are good no more."""
    while True:
        await asyncio.sleep(SECOND_LOOK)
        if not await is_still_known(scope):
            return
