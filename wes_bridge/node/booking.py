"""Sessions and time: who may start when, and until when.

Two ways, by configuration. :class:`FirstCome` promises nothing: a session starts when the queue lets it.
:class:`Booked` keeps a calendar: an offer names a slot, accepting reserves it, its end is enforced. An offer
holds nothing, the first acceptance wins (``docs/design.md`` says why).

What is booked is told by the schedules of accepted sessions, so a restart needs no table of its own. It must
not know the database, HTTP or platforms.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol

from wes_bridge.config import BookingConfig, NodeConfig
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.states import Phase
from wes_bridge.model.units import (
    format_duration,
    format_instant,
    parse_duration,
    parse_instant,
    parse_interval,
)
from wes_bridge.node import messages
from wes_bridge.node.calendar import Calendar
from wes_bridge.node.capacity import Capacity, Need, Queue
from wes_bridge.node.errors import NodeError
from wes_bridge.node.live import LiveSession
from wes_bridge.node.messages import message
from wes_bridge.node.offers import (
    DEFAULT_DURATION,
    Planner,
    QueuePlanner,
    Slot,
    need_of,
    nothing_free,
    schedule_of,
)

EARLY = 0.05
"""Seconds before its time a session may start."""
LATE = 5.0
"""Seconds an acceptance may come after the start of a slot that can be moved no more."""
LOOK_AGAIN = 3600.0
"""Seconds a session sleeps at most while it waits for its time: the machine's clock may be set."""
ADVANCED_AT_ONCE = 32
"""Sessions looked at when room was freed; more would keep others waiting."""
SETTLE = 0.02
"""Seconds in which freed bookings are gathered before somebody is moved into their place."""

Clock = Callable[[], float]
Ending = Callable[[eb.Message], None]


class Reservations(Protocol):
    """What the node asks about time.

    Attributes:
        planner: makes offers.
    """

    planner: Planner

    def take(self, live: LiveSession, first: bool) -> eb.Message | None:
        """Reserve what an offer said, as it is accepted; else why not.

        Args:
            live: the offer.
            first: whether it was the earliest its client could choose.
        """

    def restore(self, live: LiveSession) -> None:
        """Know a session accepted before a restart."""

    def free(self, uuid: str) -> None:
        """A session holds nothing any more; told more than once."""

    def due(self, live: LiveSession) -> float:
        """When it may start, seconds since the epoch."""

    async def wait_due(self, live: LiveSession) -> None:
        """Return when it may start."""

    def check(self, live: LiveSession) -> None:
        """Check that there is time left.

        Raises:
            NodeError: the booking has ended.
        """

    def in_time(self, live: LiveSession) -> AbstractAsyncContextManager[object]:
        """A context for what must be done before the booking ends.

        Raises:
            NodeError: the booking has ended.
        """

    def at_end(self, live: LiveSession, tell: Ending) -> asyncio.TimerHandle | None:
        """Have ``tell`` called, with the reason, when the booking ends; None when it never does."""

    def span(self, live: LiveSession) -> tuple[datetime, datetime]:
        """From when until when it runs, as far as is known."""

    def close(self) -> None:
        """The node is going down."""


def reservations(
    config: NodeConfig, capacity: Capacity, queue: Queue, moved: Callable[[LiveSession], None]
) -> Reservations:
    """Those that the configuration asks for.

    Args:
        config: of the node.
        capacity: what it has.
        queue: who runs.
        moved: called with a session that got another slot.
    """
    if config.booking.mode == "queue":
        return FirstCome(queue)
    return Booked(config.booking, capacity, moved)


class FirstCome:
    """No reservations: as soon as free, and not before the start that was asked for.

    Args:
        queue: the node's.
    """

    def __init__(self, queue: Queue) -> None:
        self.planner: Planner = QueuePlanner(queue)

    def take(self, live: LiveSession, first: bool) -> eb.Message | None:
        """Nothing is reserved."""

    def restore(self, live: LiveSession) -> None:
        """Nothing was."""

    def free(self, uuid: str) -> None:
        """Nothing was."""

    def due(self, live: LiveSession) -> float:
        """The earliest start the client asked for; 0 when it did not."""
        wished = _wished(live.session)
        return wished[0].timestamp() if wished else 0.0

    async def wait_due(self, live: LiveSession) -> None:
        """See :meth:`Reservations.wait_due`."""
        await asyncio.sleep(self.due(live) - time.time() - EARLY)

    def check(self, live: LiveSession) -> None:
        """There is always time."""

    def in_time(self, live: LiveSession) -> AbstractAsyncContextManager[object]:
        """There is always time."""
        return contextlib.nullcontext()

    def at_end(self, live: LiveSession, tell: Ending) -> None:
        """There is no end."""

    def span(self, live: LiveSession) -> tuple[datetime, datetime]:
        """When it started, else the estimate of its offer; and as long as it asked for."""
        start, length = _window(live.session)
        started = live.session.executable.started if live.session.executable else None
        start = started or start
        return start, start + length

    def close(self) -> None:
        """Nothing to do."""


class CalendarPlanner:
    """The next free slots of a calendar.

    Args:
        calendar: the node's.
        config: how many, how far ahead.
        clock: seconds since the epoch.
    """

    def __init__(self, calendar: Calendar, config: BookingConfig, clock: Clock) -> None:
        self._calendar = calendar
        self._config = config
        self._clock = clock

    def slots(self, need: Need, earliest: datetime, latest: datetime | None) -> list[Slot]:
        """See :meth:`Planner.slots`."""
        now = _milliseconds(self._clock())
        self._calendar.forget_past(now)
        starts = self._calendar.starts(
            need.amount,
            _length(need.duration),
            _moment(earliest),
            None if latest is None else _moment(latest),
            now=now,
            count=self._config.offers,
        )
        return [Slot(_instant(start), need.duration) for start in starts]

    def why_none(self, need: Need, earliest: datetime, latest: datetime | None) -> eb.Message:
        """See :meth:`Planner.why_none`."""
        horizon, slot = self._config.horizon, self._config.slot
        if need.duration > horizon:
            text = "a booking here lasts {longest} at most, {asked} was asked for"
            values = {"longest": format_duration(horizon), "asked": format_duration(need.duration)}
            return message(messages.RESOURCE_LIMIT, text, **values)
        now = _instant(_milliseconds(self._clock()))
        if earliest + need.duration > now + horizon:
            text = "bookings here end before {end}; {asked} from {earliest} is later"
            asked = format_duration(need.duration)
            values = {
                "end": format_instant(now + horizon),
                "asked": asked,
                "earliest": format_instant(earliest),
            }
            return message(messages.NO_SLOT, text, **values)
        boundary = -(-_moment(earliest) // _length(slot)) * _length(slot)
        if latest is not None and earliest > now and boundary > _moment(latest):
            text = "bookings here start every {slot}; the next after {earliest} is {next}"
            values = {"slot": format_duration(slot), "earliest": format_instant(earliest)}
            return message(messages.NO_SLOT, text, **values, next=format_instant(_instant(boundary)))
        return nothing_free(max(earliest, now), min(latest or now + horizon, now + horizon))


class Booked:
    """Reservations in a calendar.

    Args:
        config: slots and horizon.
        capacity: the quota.
        moved: called with a session that got another slot.
        clock: seconds since the epoch.

    Attributes:
        calendar: the bookings, by session.
    """

    def __init__(
        self,
        config: BookingConfig,
        capacity: Capacity,
        moved: Callable[[LiveSession], None],
        clock: Clock = time.time,
    ) -> None:
        self.calendar = Calendar(capacity.amount, _length(config.slot), _length(config.horizon))
        self.planner: Planner = CalendarPlanner(self.calendar, config, clock)
        self._config = config
        self._moved = moved
        self._clock = clock
        self._waiting: dict[str, tuple[LiveSession, asyncio.Event]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def take(self, live: LiveSession, first: bool) -> eb.Message | None:
        """See :meth:`Reservations.take`. An acceptance after the slot's start moves it to now."""
        now = _milliseconds(self._clock())
        start, length = _window(live.session)
        begin, span = _moment(start), _length(length)
        amount = need_of(live.session.compute, length, live.session.storage).amount
        wished = _wished(live.session)
        for candidate in _candidates(begin, now, _moment(wished[1]) if wished else None):
            if self.calendar.book(live.uuid, amount, candidate, candidate + span):
                if candidate != begin:
                    _reschedule(live.session, _instant(candidate), length)
                    live.changed()
                if first and wished is None and self._config.advance and candidate > now:
                    live.session.advance = True
                    live.changed()
                return None
        values = {"start": format_instant(start)}
        if wished and _milliseconds(self._clock()) > _moment(wished[1]):
            return message(
                messages.SLOT_OVER, "the start of this offer, {start}, is over; ask again", **values
            )
        text = "what was offered from {start} has been taken by others; ask again"
        return message(messages.SLOT_TAKEN, text, **values)

    def restore(self, live: LiveSession) -> None:
        """See :meth:`Reservations.restore`; a promise is kept even if the quota has become smaller."""
        start, length = _window(live.session)
        begin = _moment(start)
        amount = need_of(live.session.compute, length, live.session.storage).amount
        self.calendar.force(live.uuid, amount, begin, begin + _length(length))

    def free(self, uuid: str) -> None:
        """See :meth:`Reservations.free`; somebody who waits may start in its place."""
        if self.calendar.free(uuid) is not None and self._waiting:
            self._advance_soon()

    def due(self, live: LiveSession) -> float:
        """The start of its booking."""
        return _window(live.session)[0].timestamp()

    async def wait_due(self, live: LiveSession) -> None:
        """See :meth:`Reservations.wait_due`; it may become earlier meanwhile."""
        moved = asyncio.Event()
        self._waiting[live.uuid] = live, moved
        if live.session.advance:
            self._advance_soon()  # what was freed since its offer was made
        try:
            while (left := self.due(live) - self._clock() - EARLY) > 0:
                try:
                    async with asyncio.timeout(min(left, LOOK_AGAIN)):
                        await moved.wait()
                except TimeoutError:
                    continue
                moved.clear()
        finally:
            self._waiting.pop(live.uuid, None)

    def check(self, live: LiveSession) -> None:
        """See :meth:`Reservations.check`."""
        if self._end(live) <= self._clock():
            raise self._too_late(live)

    @contextlib.asynccontextmanager
    async def in_time(self, live: LiveSession) -> AsyncIterator[None]:
        """See :meth:`Reservations.in_time`."""
        try:
            async with asyncio.timeout(max(0.0, self._end(live) - self._clock())):
                yield
        except TimeoutError:
            raise self._too_late(live) from None

    def at_end(self, live: LiveSession, tell: Ending) -> asyncio.TimerHandle:
        """See :meth:`Reservations.at_end`."""
        text = "the command was ended at {end}, the end of its booking of {duration}"
        duration = format_duration(_window(live.session)[1])
        late = message(messages.BOOKING_ENDED, text, end=self._end_text(live), duration=duration)
        left = max(0.0, self._end(live) - self._clock())
        return asyncio.get_running_loop().call_later(left, tell, late)

    def span(self, live: LiveSession) -> tuple[datetime, datetime]:
        """Of its booking."""
        start, length = _window(live.session)
        return start, start + length

    def close(self) -> None:
        """See :meth:`Reservations.close`: nobody is moved any more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _too_late(self, live: LiveSession) -> NodeError:
        text = "the booking ended at {end}, before the command could start"
        return NodeError(message(messages.BOOKING_ENDED, text, end=self._end_text(live)))

    def _end(self, live: LiveSession) -> float:
        return self.span(live)[1].timestamp()

    def _end_text(self, live: LiveSession) -> str:
        return format_instant(self.span(live)[1])

    def _booked_start(self, item: tuple[LiveSession, asyncio.Event]) -> int:
        entry = self.calendar.get(item[0].uuid)
        return entry.start if entry else 0

    def _advance_soon(self) -> None:
        if self._timer is None and not self._closed:
            self._timer = asyncio.get_running_loop().call_later(SETTLE, self._advance)

    def _advance(self) -> None:
        """Let sessions whose clients wanted the earliest start begin now, where there is room now.

        They overtake nobody: all others keep the times they were promised.
        """
        self._timer = None
        eager = (item for item in self._waiting.values() if item[0].session.advance)
        for live, moved in heapq.nsmallest(ADVANCED_AT_ONCE, eager, key=self._booked_start):
            now = _milliseconds(self._clock())
            start, length = _window(live.session)
            if now < _moment(start) and self.calendar.move(live.uuid, now):
                _reschedule(live.session, _instant(now), length)
                text = "room was freed: starting now instead of at {start}"
                live.say(message(messages.ADVANCED, text, "INFO", start=format_instant(start)))
                self._moved(live)
                moved.set()


def _candidates(start: int, now: int, latest: int | None) -> list[int]:
    """When an offer that is accepted now may start: as offered; or now, when that is past."""
    if start >= now:
        return [start]
    found = [now] if latest is None or now <= latest else []
    return [*found, start] if now - start <= LATE * 1000 else found


def _wished(session: eb.Session) -> tuple[datetime, datetime] | None:
    """The interval of starts that was asked for."""
    requested = session.schedule.requested if session.schedule else None
    return parse_interval(requested.start) if requested is not None and requested.start else None


def _window(session: eb.Session) -> tuple[datetime, timedelta]:
    """When a session was promised to run, and for how long; from now where its offer says nothing."""
    available = session.schedule.available if session.schedule else None
    if available is None or not available.start:
        return datetime.now(UTC), DEFAULT_DURATION
    length = parse_duration(available.duration) if available.duration else DEFAULT_DURATION
    return parse_instant(available.start.partition("/")[0]), length


def _reschedule(session: eb.Session, start: datetime, length: timedelta) -> None:
    schedule = schedule_of(Slot(start, length))
    requested = session.schedule.requested if session.schedule else None
    if session.compute is not None:
        session.compute.schedule = schedule
    session.schedule = schedule.model_copy(update={"requested": requested})


def is_booked(live: LiveSession) -> bool:
    """Whether a session was accepted and has not begun to be prepared."""
    return live.phase in (Phase.ACCEPTED, Phase.WAITING)


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _moment(when: datetime) -> int:
    """Milliseconds since the epoch, exactly as :func:`format_instant` writes them."""
    return (when - _EPOCH) // timedelta(milliseconds=1)


def _length(duration: timedelta) -> int:
    """Whole milliseconds, at least one."""
    return max(1, duration // timedelta(milliseconds=1))


def _instant(moment: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=moment)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
