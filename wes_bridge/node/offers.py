"""Making offers: what a request would get here, when, and at what price.

When is asked of a :class:`Planner`: the one here looks at the queue, the one in ``booking`` at a calendar.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from wes_bridge.config import NodeConfig, Quotes, Range
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.states import LifecyclePhase, Phase
from wes_bridge.model.units import (
    GIB,
    format_duration,
    format_instant,
    gib_ceil,
    parse_duration,
    parse_interval,
    utcnow,
)
from wes_bridge.node import messages
from wes_bridge.node.capacity import Capacity, Need, Queue
from wes_bridge.node.constraints import unmet
from wes_bridge.node.ids import new_uuid
from wes_bridge.node.messages import message

_C = TypeVar("_C", bound=eb.Component)

DEFAULT_DURATION = timedelta(hours=2)
DEFAULT_MEMORY = GIB
PREPARING = timedelta(seconds=1)
"""How long staging is said to take; only links are made for data that is on this machine."""
RELEASING = timedelta(seconds=1)


@dataclass(frozen=True)
class Slot:
    """A time to run: when the command starts, and how long it may be there."""

    start: datetime
    duration: timedelta


class Planner(Protocol):
    """Finds times to run."""

    def slots(self, need: Need, earliest: datetime, latest: datetime | None) -> list[Slot]:
        """Times at which ``need`` can be met.

        Args:
            need: what the session would hold.
            earliest: not before this.
            latest: start no later than this, when given.

        Returns:
            The best first; empty when there is none.
        """

    def why_none(self, need: Need, earliest: datetime, latest: datetime | None) -> eb.Message:
        """What to tell a client for whom :meth:`slots` found nothing."""


class QueuePlanner:
    """One slot: as soon as the work that is ahead lets it.

    Args:
        queue: the node's.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def slots(self, need: Need, earliest: datetime, latest: datetime | None) -> list[Slot]:
        """See :meth:`Planner.slots`."""
        start = max(self._queue.earliest(need), earliest)
        if latest is not None and start > latest:
            return []
        return [Slot(start, need.duration)]

    def why_none(self, need: Need, earliest: datetime, latest: datetime | None) -> eb.Message:
        """See :meth:`Planner.why_none`."""
        return nothing_free(earliest, latest)


def nothing_free(earliest: datetime, latest: datetime | None) -> eb.Message:
    """The reason of a NO: everything is taken."""
    text = "nothing is free between {earliest} and {latest}"
    end = format_instant(latest) if latest else "any time"
    return message(messages.NO_SLOT, text, earliest=format_instant(earliest), latest=end)


def need_of(
    compute: eb.Compute | None, duration: timedelta, storage: Sequence[eb.Storage] | None = None
) -> Need:
    """What a session holds: the minimum asked for, else one core and one GiB (or the most, if less)."""
    cores = compute.cores.min if compute and compute.cores and compute.cores.min is not None else 1
    gpus = compute.gpus.min if compute and compute.gpus and compute.gpus.min is not None else 0
    return Need(max(1, cores), memory_min(compute), duration, storage_min(storage), max(0, gpus))


def memory_min(compute: eb.Compute | None) -> int:
    """Bytes of memory asked for at least."""
    least, most = _bytes(compute.memory if compute else None)
    if least is not None:
        return max(0, least)
    return DEFAULT_MEMORY if most is None else max(0, min(DEFAULT_MEMORY, most))


def storage_min(storage: Sequence[eb.Storage] | None) -> int:
    """Bytes of scratch space asked for at least, all together."""
    return sum(max(0, _bytes(item.size)[0] or 0) for item in storage or ())


def _bytes(size: eb.MinMax | None) -> tuple[int | None, int | None]:
    """The least and the most of a size, in bytes: the finer figure counts; of two maximums the lower."""
    if size is None:
        return None, None
    least = size.min_bytes if size.min_bytes is not None else None if size.min is None else size.min * GIB
    limits = [size.max_bytes, None if size.max is None else size.max * GIB]
    return least, min((limit for limit in limits if limit is not None), default=None)


def wish_of(
    request: eb.ExecutionRequest, default: timedelta = DEFAULT_DURATION
) -> tuple[timedelta, datetime, datetime | None]:
    """The duration asked for, the earliest start, and the latest start if any."""
    requested = request.schedule.requested if request.schedule else None
    duration = parse_duration(requested.duration) if requested and requested.duration else default
    if requested is None or not requested.start:
        return duration, utcnow(), None
    earliest, latest = parse_interval(requested.start)
    return duration, earliest, latest


def check_limits(request: eb.ExecutionRequest, capacity: Capacity) -> list[eb.Message]:
    """Minimums beyond what the node has (ERROR) and maximums beyond it (WARN, they are capped)."""
    found = _check_ranges(request)
    compute = request.compute
    cores = (compute.cores if compute else None) or eb.MinMax()
    memory = (compute.memory if compute else None) or eb.MinMax()
    gpus = (compute.gpus if compute else None) or eb.MinMax()
    wanted = [
        ("cores", cores.min, cores.max, capacity.cores, ""),
        ("memory", memory.min, memory.max, capacity.memory // GIB, " GiB"),
        ("memory", memory.min_bytes, memory.max_bytes, capacity.memory, " bytes"),
        ("gpus", gpus.min, gpus.max, capacity.gpus, ""),
    ]
    if capacity.storage is not None:
        wanted.append(("storage", storage_min(request.storage), None, capacity.storage, " bytes"))
    for what, least, most, here, unit in wanted:
        if least is not None and least > here:
            text = "{what}: {asked}{unit} asked for at least, {here}{unit} here at most"
            found.append(message(messages.RESOURCE_LIMIT, text, what=what, asked=least, here=here, unit=unit))
        elif most is not None and most > here:
            text = "{what}: up to {asked}{unit} asked for, {here}{unit} is the most here"
            found.append(
                message(messages.RESOURCE_LIMIT, text, "WARN", what=what, asked=most, here=here, unit=unit)
            )
    return found


def _check_ranges(request: eb.ExecutionRequest) -> list[eb.Message]:
    """Figures that make no sense on any node: negative ones, minimums above maximums."""
    compute = request.compute or eb.Compute()
    sizes = [("compute.memory", compute.memory)]
    sizes += [(f"storage[{index}].size", item.size) for index, item in enumerate(request.storage or ())]
    found = _check_time_limit(request.executable)
    for what, size, one in [("compute.cores", compute.cores, 1), ("compute.gpus", compute.gpus, 0)]:
        if size is not None:
            found += _check_range(what, size.min, size.max, one, "")
    for what, size in sizes:
        if size is not None:
            lowest = 1 if what == "compute.memory" else 0
            coarse = _check_range(what, size.min, size.max, lowest, " GiB")
            found += coarse or _check_range(what, *_bytes(size), lowest, " bytes")
    return found


def _check_time_limit(executable: eb.Executable | None) -> list[eb.Message]:
    limit = executable.time_limit if executable else None
    if limit is None or limit > 0:
        return []
    text = "executable.timeLimit: it must be 1 s or more, not {limit}; leave it out for none"
    return [message(messages.INVALID_VALUE, text, limit=limit)]


def _check_range(what: str, least: int | None, most: int | None, lowest: int, unit: str) -> list[eb.Message]:
    for name, figure, floor in (("minimum", least, 0), ("maximum", most, lowest)):
        if figure is not None and figure < floor:
            text = "{what}: the {name} must be {floor} or more, not {figure}"
            values = {"what": what, "name": name, "floor": floor, "figure": figure}
            return [message(messages.INVALID_VALUE, text, **values)]
    if least is not None and most is not None and least > most:
        text = "{what}: the minimum {least}{unit} is above the maximum {most}{unit}"
        return [message(messages.INVALID_VALUE, text, what=what, least=least, most=most, unit=unit)]
    return []


class OfferMaker:
    """Makes offers.

    Args:
        config: quotes, and how long offers stand.
        capacity: what the node has.
        planner: says when.
    """

    def __init__(self, config: NodeConfig, capacity: Capacity, planner: Planner) -> None:
        self._config = config
        self._capacity = capacity
        self._planner = planner
        booking = config.booking
        self._default = booking.default_duration if booking.mode == "slots" else DEFAULT_DURATION

    def make(
        self, request: eb.ExecutionRequest, notes: list[eb.Message]
    ) -> tuple[list[eb.Session], list[eb.Message]]:
        """Offers for a request that the node can do.

        Args:
            request: checked.
            notes: messages each offer carries.

        Returns:
            Offers, and when there are none the reasons.
        """
        duration, earliest, latest = wish_of(request, self._default)
        if latest is not None and latest < utcnow():
            text = "the requested start, {earliest} to {latest}, is over"
            values = {"earliest": format_instant(earliest), "latest": format_instant(latest)}
            return [], [message(messages.NO_SLOT, text, **values)]
        need = need_of(request.compute, duration, request.storage)
        slots = self._planner.slots(need, earliest, latest)
        if slots:
            offers = [self._offer(request, slot, notes, index) for index, slot in enumerate(slots)]
            reasons = unmet(request, offers[0])  # all slots have one length, and so one price
            return ([], reasons) if reasons else (offers, [])
        return [], [self._planner.why_none(need, earliest, latest)]

    def _offer(
        self, request: eb.ExecutionRequest, slot: Slot, notes: list[eb.Message], index: int
    ) -> eb.Session:
        now = utcnow()
        quotes = self._config.quotes
        schedule = schedule_of(slot)
        requested = request.schedule.requested if request.schedule else None
        name = f"{self._config.name}-offer-{index}"
        return eb.Session(
            meta=eb.Meta(uuid=new_uuid(), name=name, created=now, messages=list(notes) or None),
            phase=Phase.OFFERED,
            expires=now + timedelta(seconds=self._config.offer_lifetime),
            executable=_own(request.executable, now) if request.executable else None,
            compute=self._compute(request.compute, slot, schedule, now),
            storage=[_own(storage, now) for storage in request.storage or []] or None,
            data=[_own(data, now) for data in request.data or []] or None,
            schedule=schedule.model_copy(update={"requested": requested}),
            costs=_costs(quotes, slot.duration.total_seconds() / 3600, "") or None,
            metrics=_metrics(quotes) or None,
        )

    def _compute(
        self, asked: eb.Compute | None, slot: Slot, schedule: eb.Schedule, now: datetime
    ) -> eb.Compute:
        need = need_of(asked, slot.duration)
        compute = _own(asked or eb.Compute(), now)
        cores = (asked.cores if asked else None) or eb.MinMax()
        memory = (asked.memory if asked else None) or eb.MinMax()
        gpus = (asked.gpus if asked else None) or eb.MinMax()
        here = self._capacity
        compute.cores = eb.MinMax(min=need.cores, max=_at_most(cores.max, here.cores))
        compute.memory = eb.MinMax(
            min=memory.min if memory.min is not None else _at_least(need.memory, memory.max),
            max=_at_most(memory.max, here.memory // GIB),
            min_bytes=need.memory,
            max_bytes=_at_most(memory.max_bytes, here.memory),
        )
        if asked is not None and asked.gpus is not None:
            compute.gpus = eb.MinMax(min=need.gpus, max=_at_most(gpus.max, here.gpus))
        compute.schedule = schedule
        compute.costs = _costs(self._config.quotes, 1.0, " per hour", only_money=True) or None
        compute.metrics = _metrics(self._config.quotes) or None
        return compute


def _at_most(asked: int | None, here: int) -> int | None:
    return None if asked is None else min(asked, here)


def _at_least(size: int, most: int | None) -> int:
    """Bytes as whole GiB, rounded up unless that were more than the most that was asked for."""
    whole = gib_ceil(size)
    return whole if most is None else min(whole, most)


def schedule_of(slot: Slot) -> eb.Schedule:
    """When a session is prepared, may run, and is cleared away."""
    return eb.Schedule(
        preparing=eb.StartDuration(
            start=format_instant(slot.start - PREPARING), duration=format_duration(PREPARING)
        ),
        available=eb.StartDuration(
            start=f"{format_instant(slot.start)}/PT0S", duration=format_duration(slot.duration)
        ),
        releasing=eb.StartDuration(
            start=format_instant(slot.start + slot.duration), duration=format_duration(RELEASING)
        ),
    )


def _own(part: _C, now: datetime) -> _C:
    """A copy of a part of the request that a session may change: new identity, first phase."""
    copy = part.model_copy()
    copy.meta = (
        part.meta.model_copy(update={"uuid": part.meta.uuid or new_uuid(), "created": now})
        if part.meta
        else eb.Meta(uuid=new_uuid(), created=now)
    )
    copy.phase = LifecyclePhase.INITIALIZING
    return copy


def _costs(quotes: Quotes, hours: float, unit: str, only_money: bool = False) -> list[eb.CostOrMetric]:
    lines = [(eb.COST_MONETARY, "price", quotes.monetary)]
    if not only_money:
        lines += [
            (eb.COST_ENERGY, "energy, kWh", quotes.energy),
            (eb.COST_CARBON, "carbon, grams of CO2", quotes.carbon),
        ]
    return [
        eb.CostOrMetric(
            kind=eb.MINMAX_COST,
            type=kind,
            description=text + unit,
            min=round(figure.min * hours, 9),
            max=round(figure.max * hours, 9),
        )
        for kind, text, figure in lines
        if figure is not None
    ]


def _metrics(quotes: Quotes) -> list[eb.CostOrMetric]:
    lines: list[tuple[str, str, Range | None]] = [
        (eb.METRIC_COMPUTE, "compute performance, relative", quotes.compute_performance),
        (eb.METRIC_IO, "throughput, MB/s", quotes.io_throughput),
    ]
    return [
        eb.CostOrMetric(kind=eb.MINMAX_METRIC, type=kind, description=text, min=figure.min, max=figure.max)
        for kind, text, figure in lines
        if figure is not None
    ]
