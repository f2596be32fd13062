"""Sessions in memory: the model, a version that changes with it, and who waits for that."""

from __future__ import annotations

import asyncio
from uuid import UUID

from wes_bridge.model.data_urls import quote_path
from wes_bridge.model.execution_broker import Data, Kept, Message, Session, Stream, Streams
from wes_bridge.model.states import LifecyclePhase, Phase
from wes_bridge.model.units import utcnow
from wes_bridge.node.phases import component_phase, may_move, options

SETTLE = 0.3
"""Seconds to wait for more changes before telling one that is not final: a quick command is told once."""


class IllegalMoveError(Exception):
    """A phase that may not follow the present one: a mistake of the node."""


class LiveSession:
    """One offer or session.

    Args:
        session: the model; changed only through this object.
        offerset: UUID of the set it was offered in.
        boot: names the node's process; part of the version, so that one of an earlier process differs.
        owner: whose it is.

    Attributes:
        uuid: the session's.
        stop: the final phase a client asked for, once it has.
    """

    __slots__ = (
        "_encoded",
        "_released",
        "_version",
        "_waiters",
        "boot",
        "expires",
        "offerset",
        "owner",
        "session",
        "stop",
        "uuid",
    )

    def __init__(self, session: Session, offerset: str, boot: str, owner: str = "") -> None:
        if session.meta.uuid is None:
            raise ValueError("a session has a uuid")
        self.uuid = str(session.meta.uuid)
        self.session = session
        self.offerset = offerset
        self.boot = boot
        self.owner = owner
        self.expires = session.expires.timestamp() if session.expires else None
        self.stop: Phase | None = None
        self._released = False
        self._version = 0
        self._waiters: dict[asyncio.Future[None], bool] = {}
        self._encoded: tuple[str, int, bytes] | None = None

    @property
    def phase(self) -> Phase:
        """The phase now."""
        return self.session.phase

    @property
    def etag(self) -> str:
        """The version, as the HTTP header ``ETag``."""
        return f'"{self.boot}.{self._version}"'

    @property
    def watched(self) -> bool:
        """Whether somebody waits for a change."""
        return bool(self._waiters)

    def move(self, phase: Phase, failed: str | None = None) -> None:
        """Go on to ``phase``, the components too.

        Args:
            phase: the next phase.
            failed: which component failed (executable, compute or data), for FAILED.

        Raises:
            IllegalMoveError: that is not a next phase.
        """
        if not may_move(self.session.phase, phase):
            raise IllegalMoveError(f"session {self.uuid}: {self.session.phase} to {phase}")
        self.session.phase = phase
        self.session.reached = {**(self.session.reached or {}), phase: utcnow()}
        if phase is Phase.ACCEPTED:
            self.session.expires = None
        self.set_components(component_phase(phase), failed)
        self.changed()

    def set_components(self, phase: LifecyclePhase, failed: str | None = None) -> None:
        """Set the phase of the components; of the others CANCELLED when one is named as ``failed``."""
        session = self.session
        other = LifecyclePhase.CANCELLED if failed else phase
        running = phase is LifecyclePhase.RUNNING
        for name, part in (("executable", session.executable), ("compute", session.compute)):
            if part is not None:
                part.phase = phase if failed in (None, name) else other
        for part in (*(session.storage or ()), *(session.data or ())):
            part.phase = phase if failed in (None, "data") else other
            if running:
                part.phase = LifecyclePhase.AVAILABLE

    def say(self, *messages: Message) -> None:
        """Add messages."""
        self.session.meta.messages = [*(self.session.meta.messages or []), *messages]
        self.changed()

    def changed(self) -> None:
        """Make the version a new one and wake who waits."""
        self._version += 1
        self.session.meta.modified = utcnow()
        self.wake()

    def release(self) -> None:
        """Let go of who waits, without a change: the node is going down."""
        self._released = True
        self.wake()

    def wake(self) -> None:
        """Let those look again for whom there may be news: what is about to go on is none to some."""
        goes_on = not (self._released or self.phase.is_final)
        for waiter, waits_for_end in self._waiters.items():
            if not (waiter.done() or (goes_on and waits_for_end)):
                waiter.set_result(None)

    async def wait_change(self, seen: str, seconds: float) -> None:
        """Return once the version is not ``seen`` and things have settled, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if self.etag == seen and not self.phase.is_final and not self._released:
            await self._next(seconds)
        while self.phase is Phase.WAITING and not self._released and (left := deadline - loop.time()) > 0:
            await self._next(left)  # to wait for one's turn is no news to who knows it is accepted
        if self.etag == seen:
            return
        settled = min(deadline, loop.time() + SETTLE)
        while not (self.phase.is_final or self._released) and (left := settled - loop.time()) > 0:
            await self._next(left, end=True)

    async def wait_end(self, seconds: float) -> None:
        """Return once the session has ended, or after ``seconds``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not (self.phase.is_final or self._released) and (left := deadline - loop.time()) > 0:
            await self._next(left, end=True)

    async def _next(self, seconds: float, *, end: bool = False) -> None:
        """Wait for a change, or only for the last one."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiters[waiter] = end
        timer = loop.call_later(seconds, _set, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiters.pop(waiter, None)

    def encode(self, base: str) -> bytes:
        """The wire form as JSON, with URLs below ``base``."""
        if self._encoded is None or self._encoded[:2] != (base, self._version):
            self._encoded = (base, self._version, encode(self.session, base))
        return self._encoded[2]

    def body(self) -> str:
        """The wire form to be stored; its URLs are those of the latest answer."""
        return self.encode(self._encoded[0] if self._encoded else "").decode()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def encode(session: Session, base: str) -> bytes:
    """A session's wire form as JSON, with the URLs it has when the node is called ``base``."""
    _set_urls(session, base)
    return session.model_dump_json(by_alias=True, exclude_none=True).encode()


def _set_urls(session: Session, base: str) -> None:
    uuid = session.meta.uuid
    session.meta.url = f"{base}/sessions/{uuid}"
    session.meta.options = options(session.phase)
    for data in session.data or ():
        if data.kept is not None:
            set_kept_urls(data, data.kept, f"{base}/data/{uuid}")
    executable = session.executable
    if executable is None or session.phase in _NO_STREAMS:
        return
    streams = executable.streams.model_copy() if executable.streams else Streams()
    for name in ("stdout", "stderr"):
        old: Stream | None = getattr(streams, name)
        stream = old.model_copy() if old else Stream()
        stream.locations = [f"{base}/streams/{uuid}/{name}"]
        setattr(streams, name, stream)
    executable.streams = streams


def set_kept_urls(data: Data, kept: Kept, base: str) -> None:
    """Say where a kept output is: the file, or the directory, whose representation is its manifest."""
    name = data.meta.name or data.meta.uuid if data.meta else None
    kept.manifest = f"{base}/{name}"
    data.location = f"{base}/{name}/{quote_path(kept.file or '')}"


_NO_STREAMS = frozenset({Phase.INITIAL, Phase.OFFERED, Phase.REJECTED, Phase.EXPIRED})


def decode(body: str, phase: str) -> Session:
    """A session from its stored wire form, in the phase its row says."""
    session = Session.model_validate_json(body)
    session.phase = Phase(phase)
    if session.phase not in _NO_STREAMS:
        session.expires = None
    return session


def as_uuid(text: str) -> str | None:
    """A UUID as it is written in URLs and tables; None when ``text`` is not one."""
    try:
        return str(UUID(text))
    except ValueError:
        return None
