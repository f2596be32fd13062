"""Making offers: what a request would get here, when, and at what price.

When is asked of a :class:`Planner`; the one here looks at the queue. A booking calendar can take its place.
"""

from __future__ import annotations

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


def need_of(compute: eb.Compute | None, duration: timedelta) -> Need:
    """What a session holds: the minimum asked for, else one core and one GiB."""
    cores = compute.cores.min if compute and compute.cores and compute.cores.min is not None else 1
    return Need(max(1, cores), memory_min(compute), duration)


def memory_min(compute: eb.Compute | None) -> int:
    """Bytes of memory asked for at least."""
    memory = compute.memory if compute else None
    if memory is None:
        return DEFAULT_MEMORY
    if memory.min_bytes is not None:
        return max(0, memory.min_bytes)
    return max(0, memory.min) * GIB if memory.min is not None else DEFAULT_MEMORY


def wish_of(request: eb.ExecutionRequest) -> tuple[timedelta, datetime, datetime | None]:
    """The duration asked for, the earliest start, and the latest start if any."""
    requested = request.schedule.requested if request.schedule else None
    duration = parse_duration(requested.duration) if requested and requested.duration else DEFAULT_DURATION
    if requested is None or not requested.start:
        return duration, utcnow(), None
    earliest, latest = parse_interval(requested.start)
    return duration, earliest, latest


def check_limits(request: eb.ExecutionRequest, capacity: Capacity) -> list[eb.Message]:
    """Minimums beyond what the node has (ERROR) and maximums beyond it (WARN, they are capped)."""
    found = []
    compute = request.compute
    cores = (compute.cores if compute else None) or eb.MinMax()
    memory = (compute.memory if compute else None) or eb.MinMax()
    wanted = [
        ("cores", cores.min, cores.max, capacity.cores, ""),
        ("memory", memory.min, memory.max, capacity.memory // GIB, " GiB"),
        ("memory", memory.min_bytes, memory.max_bytes, capacity.memory, " bytes"),
    ]
    for what, least, most, here, unit in wanted:
        if least is not None and most is not None and least > most:
            text = "compute.{what}: the minimum {least} is above the maximum {most}"
            found.append(message(messages.INVALID_VALUE, text, what=what, least=least, most=most))
        if least is not None and least > here:
            text = "{what}: {asked}{unit} asked for at least, {here}{unit} here at most"
            found.append(message(messages.RESOURCE_LIMIT, text, what=what, asked=least, here=here, unit=unit))
        elif most is not None and most > here:
            text = "{what}: up to {asked}{unit} asked for, {here}{unit} is the most here"
            found.append(
                message(messages.RESOURCE_LIMIT, text, "WARN", what=what, asked=most, here=here, unit=unit)
            )
    return found


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
        duration, earliest, latest = wish_of(request)
        slots = self._planner.slots(need_of(request.compute, duration), earliest, latest)
        if slots:
            return [self._offer(request, slot, notes, index) for index, slot in enumerate(slots)], []
        text = "nothing is free between {earliest} and {latest}"
        end = format_instant(latest) if latest else "any time"
        return [], [message(messages.NO_SLOT, text, earliest=format_instant(earliest), latest=end)]

    def _offer(
        self, request: eb.ExecutionRequest, slot: Slot, notes: list[eb.Message], index: int
    ) -> eb.Session:
        now = utcnow()
        quotes = self._config.quotes
        schedule = _schedule(slot)
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
        here = self._capacity
        compute.cores = eb.MinMax(min=need.cores, max=_at_most(cores.max, here.cores))
        compute.memory = eb.MinMax(
            min=memory.min if memory.min is not None else gib_ceil(need.memory),
            max=_at_most(memory.max, here.memory // GIB),
            min_bytes=need.memory,
            max_bytes=_at_most(memory.max_bytes, here.memory),
        )
        compute.schedule = schedule
        compute.costs = _costs(self._config.quotes, 1.0, " per hour", only_money=True) or None
        compute.metrics = _metrics(self._config.quotes) or None
        return compute


def _at_most(asked: int | None, here: int) -> int | None:
    return None if asked is None else min(asked, here)


def _schedule(slot: Slot) -> eb.Schedule:
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
