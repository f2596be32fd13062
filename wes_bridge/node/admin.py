"""What a site's administrator asks of a node: how it is, what is booked, drain it, open it again."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.auth.acting import may_see
from wes_bridge.auth.identity import principal_of
from wes_bridge.model.execution_broker import Instant
from wes_bridge.model.states import Phase
from wes_bridge.model.units import format_duration, format_instant
from wes_bridge.node.capacity import UNCOUNTED
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.kept.store import KeptNote
from wes_bridge.node.live import LiveSession
from wes_bridge.node.node import Node
from wes_bridge.node.offers import DEFAULT_DURATION, need_of
from wes_bridge.surface import http

_LIMIT = 64 * 1024
_AT_ONCE = 200
"""Bookings told without a pause."""


class Drain(BaseModel):
    """Body of ``POST /admin/drain``; may be left out.

    Attributes:
        cancel_booked: cancel the sessions that have not begun, too.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    cancel_booked: StrictBool = Field(False, alias="cancelBooked")


class Booking(BaseModel):
    """One accepted session that has not ended, as ``GET /bookings`` tells it.

    Attributes:
        session: its UUID.
        name: of the executable, when the request gave one.
        start, end: promised with a calendar; without one, the estimate.
        cores, gpus: numbers held.
        memory, storage: bytes held.
        phase: of the session.
        kept: name of an output of a session that has ended: it takes storage until its lease runs out.
    """

    session: str
    name: str | None
    start: Instant
    end: Instant
    cores: int
    memory: int
    storage: int
    gpus: int
    phase: Phase
    kept: str | None = None


class Admin:
    """Handlers, named after the ``operationId`` of our document.

    Args:
        node: what they work on.
    """

    def __init__(self, node: Node) -> None:
        self._node = node

    async def get_status(self, request: Request) -> Response:
        """``GET /status``: whether it is open, its quota and what is in use now."""
        return http.answer(request, json.dumps(status(self._node)).encode())

    async def get_bookings(self, request: Request) -> Response:
        """``GET /bookings``: all that is booked or runs, by start.

        Of other people's it is told that they keep the node busy, and until when.
        """
        found = []
        principal = principal_of(request)
        own: set[str] = set()
        for index, live in enumerate(self._node.runner.sessions):
            found.append(booking_of(self._node, live))
            if may_see(principal, live.owner):
                own.add(live.uuid)
            if index % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)  # ten thousand take a second, in which others want answers
        for note in self._node.kept.store.all():
            found.append(_kept_booking(note))
            if may_see(principal, note.owner):
                own.add(note.session)
        found.sort(key=lambda booking: (booking.start, booking.session))
        hidden = {"session", "name", "kept"}
        texts = [
            item.model_dump_json(exclude_none=True, exclude=None if item.session in own else hidden)
            for item in found
        ]
        return http.answer(request, f"[{','.join(texts)}]".encode())

    async def drain(self, request: Request) -> Response:
        """``POST /admin/drain``: take nothing new."""
        _check_admin(request)
        empty = (
            request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
        )
        wanted = Drain() if empty else await http.read_model(request, Drain, _LIMIT)
        cancelled = await self._node.drain(wanted.cancel_booked)
        body = {**status(self._node), "cancelled": cancelled}
        return http.answer(request, json.dumps(body).encode())

    async def reopen(self, request: Request) -> Response:
        """``POST /admin/open``: take new sessions again."""
        _check_admin(request)
        await self._node.reopen()
        return http.answer(request, json.dumps(status(self._node)).encode())


def status(node: Node) -> dict[str, Any]:
    """A node's status, as JSON types."""
    booking, quota, used = node.config.booking, node.capacity.amount, node.queue.used
    since = node.door.draining
    counted = {"cores": 0, "memory": 1, "gpus": 3, "sessions": 4}
    if quota.storage != UNCOUNTED:
        counted["storage"] = 2
    slots = {"slot": format_duration(booking.slot), "horizon": format_duration(booking.horizon)}
    return {
        "name": node.config.name,
        "state": "draining" if since else "open",
        **({"since": format_instant(since)} if since else {}),
        "booking": {"mode": booking.mode, **(slots if booking.mode == "slots" else {})},
        "quota": {name: quota[place] for name, place in counted.items()},
        "used": {name: used[place] for name, place in counted.items()},
        "sessions": {"running": node.queue.running, "accepted": node.runner.active},
        "kept": _kept(node),
        **({} if node.gaps is None else {"unenforced": {gap.what: gap.text for gap in node.gaps}}),
    }


def _kept(node: Node) -> dict[str, int]:
    """The outputs that stay here, and the bytes of them that have moved since the node was started."""
    kept = node.kept
    totals, most = kept.store.totals, kept.store.most
    return {
        "outputs": totals.outputs,
        "files": totals.files,
        "bytes": totals.size,
        **({} if most is None else {"limit": most}),
        "linked": kept.linked,
        "served": kept.served,
        "fetched": kept.fetched,
    }


def _kept_booking(note: KeptNote) -> Booking:
    return Booking(
        session=note.session,
        name=None,
        start=datetime.fromtimestamp(note.made, UTC),
        end=datetime.fromtimestamp(note.until, UTC),
        cores=0,
        memory=0,
        storage=note.size,
        gpus=0,
        phase=Phase.COMPLETED,
        kept=note.output,
    )


def booking_of(node: Node, live: LiveSession) -> Booking:
    """What an accepted session holds, and when."""
    session = live.session
    start, end = node.reservations.span(live)
    need = need_of(session.compute, DEFAULT_DURATION, session.storage)
    meta = session.executable.meta if session.executable else None
    return Booking(
        session=live.uuid,
        name=meta.name if meta else None,
        start=start,
        end=end,
        cores=need.cores,
        memory=need.memory,
        storage=need.storage,
        gpus=need.gpus,
        phase=live.phase,
    )


def _check_admin(request: Request) -> None:
    """Refuse who is no administrator.

    Raises:
        BadRequestError: 403.
    """
    caller = principal_of(request)
    if not caller.is_admin:
        text = f"only administrators of this node may do this; {caller.display or caller.name} is none"
        raise BadRequestError(text, 403)
