"""The ExecutionBroker's HTTP operations, as methods named after the ``operationId`` of our document."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.acting import may_see, owner_key
from wes_bridge.auth.identity import principal_of
from wes_bridge.model.execution_broker import ExecutionRequest, Session, Update
from wes_bridge.model.states import Phase
from wes_bridge.node.data_api import DataApi
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.live import LiveSession, as_uuid
from wes_bridge.node.node import LiveOfferSet, Node
from wes_bridge.node.phases import may_move
from wes_bridge.surface import http

_FINDS = 2
"""Times a stream's file is looked for: it may be moved on meanwhile."""

ENDING_WAIT = 5.0
"""Seconds the answer to a cancellation waits for the end: longer than a command has before it is killed."""


class Api(DataApi):
    """Handlers, those of :class:`DataApi` too.

    Args:
        node: what they work on.
    """

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self._limit = node.config.max_body

    async def request_offers(self, request: Request) -> Response:
        """``POST /requests``: 303 to the offer set, which is also the body."""
        wanted = await http.read_model(request, ExecutionRequest, self._limit)
        caller = principal_of(request)
        offerset = await self._node.offer(wanted, owner_key(caller), caller)
        base = self._base(request)
        headers = {"Location": f"{base}/offersets/{offerset.uuid}"}
        body = offerset.encode(base)
        self._node.make_room(offerset, len(body))
        return http.answer(request, body, 303, headers)

    async def run_directly(self, request: Request) -> Response:
        """``POST /direct``: 303 to the accepted session; 400 with a FAILED session that says why not."""
        wanted = await http.read_model(request, ExecutionRequest, self._limit)
        caller = principal_of(request)
        offerset, live = await self._node.direct(wanted, owner_key(caller), caller)
        base = self._base(request)
        if live is None:
            return http.answer(request, _refusal(wanted, offerset), 400)
        self._node.came(live, caller)
        headers = {"Location": f"{base}/sessions/{live.uuid}", "ETag": live.etag}
        return http.answer(request, live.encode(base), 303, headers)

    async def get_offerset(self, request: Request) -> Response:
        """``GET /offersets/{uuid}``."""
        uuid = _uuid(request)
        offerset = await self._node.offerset(uuid)
        if offerset is None or not may_see(principal_of(request), offerset.owner):
            raise BadRequestError(f"no offer set {uuid}", 404)
        return http.answer(request, offerset.encode(self._base(request)))

    async def get_session(self, request: Request) -> Response:
        """``GET /sessions/{uuid}``: at once, or with ``Prefer: wait=N`` once it has changed."""
        live = await self._session(request)
        self._node.came(live, principal_of(request))
        seen = http.etag_seen(request)
        seconds = http.wait_preference(request)
        if seconds and not self._node.closing:
            await live.wait_change(seen or live.etag, seconds)
        headers = {"ETag": live.etag, "Cache-Control": "no-cache"}
        if seconds:
            headers["Preference-Applied"] = f"wait={seconds:g}"
        if seen == live.etag:
            return Response(status_code=304, headers=headers)
        return http.answer(request, live.encode(self._base(request)), headers=headers)

    async def update_session(self, request: Request) -> Response:
        """``POST /sessions/{uuid}``: 200 with the session, changed or not.

        With ``Prefer: wait=N`` the answer is held as a ``GET``'s is: accepting and the first poll in one. A
        client that says nothing and ends a session is answered when it has ended, if that is soon.
        """
        live = await self._session(request)
        update = await http.read_model(request, Update, self._limit)
        await self._node.update(live, update)
        self._node.came(live, principal_of(request))
        seconds = http.wait_asked(request)
        if seconds and not self._node.closing:
            await live.wait_change(live.etag, seconds)
        elif seconds is None and live.stop is not None:
            await live.wait_end(ENDING_WAIT)
        headers = {"ETag": live.etag}
        return http.answer(request, live.encode(self._base(request)), headers=headers)

    async def get_stream(self, request: Request) -> Response:
        """``GET /streams/{uuid}/{stream}``: what the command has written so far."""
        live = await self._session(request)
        name = request.path_params["stream"]
        if name not in ("stdout", "stderr"):
            raise BadRequestError(f"no stream {name!r}; there are stdout and stderr", 404)
        if live.phase is Phase.OFFERED or not (live.phase.is_final or may_move(live.phase, Phase.FAILED)):
            raise BadRequestError(f"session {live.uuid} has not been accepted", 404)
        file = None
        for _ in range(_FINDS):
            file = await self._node.stream(live, name)
            if file is not None:
                break
        return await http.file_answer(request, file)

    async def get_health(self, request: Request) -> Response:
        """``GET /health``: a small status."""
        return http.answer(request, json.dumps({"status": "ok", **self._node.status()}).encode())

    async def _session(self, request: Request) -> LiveSession:
        uuid = _uuid(request)
        live = await self._node.session(uuid)
        if live is None or not may_see(principal_of(request), live.owner):
            raise BadRequestError(f"no session {uuid}", 404)
        return live


def _uuid(request: Request) -> str:
    text = request.path_params["uuid"]
    uuid = as_uuid(text)
    if uuid is None:
        raise BadRequestError(f"not a UUID: {text[:80]!r}")
    return uuid


def _refusal(wanted: ExecutionRequest, offerset: LiveOfferSet) -> bytes:
    """A session that failed before it began, with the reasons of a NO."""
    reasons = offerset.model.meta.messages or []
    session = Session(
        phase=Phase.FAILED,
        executable=wanted.executable,
        compute=wanted.compute,
        storage=wanted.storage,
        data=wanted.data,
        message="; ".join(reason.text() for reason in reasons),
    )
    session.meta.messages = reasons
    return session.model_dump_json(by_alias=True, exclude_none=True).encode()
