"""What an offer says of itself, in numbers that can be compared.

Brokers may say nothing, nonsense or lies. A figure that is missing, not a number, negative, absurdly large or
contradicts itself is *not known* (None), and a note says so; nothing here raises. Times are seconds from
``now``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

from wes_bridge.model.execution_broker import CostOrMetric, Session
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY, COST_MONETARY, METRIC_COMPUTE, METRIC_IO
from wes_bridge.model.units import parse_duration, parse_instant, parse_interval, spell_seconds

ABSURD = 1e15
"""A cost or metric above this is no figure."""
YEAR = 366 * 86400.0
SKEW = 86400.0
"""Seconds that an offer may lie in the past and still mean now: clocks differ. Earlier is no time at all."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Span:
    """A figure between two bounds; either may not be known.

    ``expected`` is what offers are compared by: the middle, or the one bound there is.
    """

    least: float | None = None
    most: float | None = None

    @property
    def expected(self) -> float | None:
        """The middle."""
        if self.least is None or self.most is None:
            return self.least if self.most is None else self.most
        return (self.least + self.most) / 2


UNKNOWN = Span()


@dataclass(frozen=True, slots=True)
class Figures:
    """An offer in numbers.

    Attributes:
        start: seconds until the command starts, preparation and data movement included; None: not said.
        duration: seconds the command has; None: not said.
        takes: seconds the command is taken to need, where that is not ``duration``.
        releasing: seconds until its outputs are where they belong.
        costs, metrics: by type (``urn:...``).
        notes: what was said and cannot be used, in words.
        impossible: why the offer cannot be taken at all; None: it can.
        moved: bytes of inputs that are not there yet.
        moved_unknown: inputs that are not there yet and whose size is not known.
    """

    start: float | None = None
    duration: float | None = None
    takes: float | None = None
    releasing: float = 0.0
    costs: dict[str, Span] = field(default_factory=dict)
    metrics: dict[str, Span] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    impossible: str | None = None
    moved: int = 0
    moved_unknown: int = 0

    @property
    def finish(self) -> float | None:
        """Seconds until its outputs are there; None when start or duration is not known."""
        if self.start is None or self.duration is None:
            return None
        return self.start + (self.takes or self.duration) + self.releasing

    def cost(self, kind: str) -> Span:
        """A cost by type."""
        return self.costs.get(kind, UNKNOWN)

    def metric(self, kind: str) -> Span:
        """A metric by type."""
        return self.metrics.get(kind, UNKNOWN)

    def to_json(self) -> dict[str, Any]:
        """What is known, as plain JSON types."""
        found: dict[str, Any] = {}
        if self.start is not None:
            found["start"] = round(self.start, 1)
        if self.finish is not None:
            found["finish"] = round(self.finish, 1)
        for names, spans in ((_COSTS, self.costs), (_METRICS, self.metrics)):
            for kind, span in spans.items():
                found[names.get(kind, kind)] = [span.least, span.most]
        if self.notes:
            found["notes"] = list(self.notes)
        return found


_COSTS = {COST_MONETARY: "cost", COST_ENERGY: "energy", COST_CARBON: "carbon"}
_METRICS = {METRIC_COMPUTE: "compute-performance", METRIC_IO: "io-throughput"}


def figures_of(offer: Session, now: datetime) -> Figures:
    """Read an offer's figures."""
    notes: list[str] = []
    start, duration, releasing = _times(offer, now, notes)
    impossible = None
    if start is not None and start > YEAR:
        impossible = f"it starts in {start / YEAR:.0f} years"
    elif offer.expires is not None and _seconds(offer.expires, now) < -SKEW:
        impossible = f"it expired at {offer.expires.isoformat()}"
    compute = offer.compute
    return Figures(
        start=None if start is None else max(0.0, start),
        duration=duration,
        releasing=releasing,
        costs=_spans(offer.costs or [], notes, add=True) if offer.costs else {},
        metrics=_spans(offer.metrics or (compute.metrics if compute else None) or [], notes, add=False),
        notes=tuple(notes),
        impossible=impossible,
    )


def lasting(figures: Figures, asked: float | None) -> Figures:
    """The figures of an offer, with the time that was asked for as the command's.

    A command takes as long wherever it runs: the broker that promises the least must not win by that.

    Args:
        figures: as the offer has them.
        asked: seconds all brokers were asked for; None: each took its own default.
    """
    if asked is None or figures.duration is None or figures.duration == asked:
        return figures
    notes = figures.notes
    if figures.duration < asked:
        less = f"duration: {spell_seconds(figures.duration)}, less than the {spell_seconds(asked)} asked for"
        notes += (less,)
    return replace(figures, takes=asked, notes=notes)


def _times(offer: Session, now: datetime, notes: list[str]) -> tuple[float | None, float | None, float]:
    schedule = (offer.compute.schedule if offer.compute else None) or offer.schedule
    if schedule is None:
        return None, None, 0.0
    begins: list[float] = []
    duration = None
    available, preparing = schedule.available, schedule.preparing
    if available is not None and available.start:
        begins += _instant("start", available.start, lambda text: parse_interval(text)[0], now, notes)
    if available is not None and available.duration:
        duration = _length("duration", available.duration, notes)
        if duration == 0.0:
            notes.append(f"duration: {available.duration!r} leaves no time")
            duration = None
    if preparing is not None and preparing.start:
        prepared = _instant("preparation", preparing.start, parse_instant, now, notes)
        took = _length("preparation", preparing.duration, notes) if preparing.duration else 0.0
        begins += [max(0.0, at) + (took or 0.0) for at in prepared]
    if not begins:
        return None, duration, 0.0
    moving = max((_moving(part.schedule, notes) for part in offer.data or [] if part.schedule), default=0.0)
    release = schedule.releasing
    releasing = (
        (_length("releasing", release.duration, notes) or 0.0) if release and release.duration else 0.0
    )
    return max(*begins, moving, 0.0), duration, releasing


def _moving(schedule: Any, notes: list[str]) -> float:
    """Seconds that bringing one data resource takes; its start is not looked at (some brokers say 1970)."""
    preparing = schedule.preparing
    if preparing is None or not preparing.duration:
        return 0.0
    return _length("data movement", preparing.duration, notes) or 0.0


def _instant(
    name: str, text: str, parse: Callable[[str], datetime], now: datetime, notes: list[str]
) -> list[float]:
    """Seconds from now, in a list that is empty when it is no time that makes sense."""
    try:
        seconds = _seconds(parse(text), now)
    except (ValueError, OverflowError):
        notes.append(f"{name}: {text[:60]!r} cannot be read")
        return []
    if seconds < -SKEW:
        notes.append(f"{name}: {text[:60]!r} is long past")
        return []
    return [seconds]


def _length(name: str, text: str, notes: list[str]) -> float | None:
    try:
        seconds = parse_duration(text).total_seconds()
    except (ValueError, OverflowError):
        notes.append(f"{name}: {text[:60]!r} cannot be read")
        return None
    if not 0 <= seconds <= 10 * YEAR:
        notes.append(f"{name}: {text[:60]!r} is no length of time for a step")
        return None
    return seconds


def _seconds(when: datetime, now: datetime) -> float:
    try:
        return (when - now).total_seconds()
    except (OverflowError, TypeError):
        return -math.inf if when.year < now.year else math.inf


def _spans(items: list[CostOrMetric], notes: list[str], *, add: bool) -> dict[str, Span]:
    """Spans by type. Several of one type are all true: costs add up, of metrics the least holds."""
    found: dict[str, Span] = {}
    spoilt: set[str] = set()
    for item in items:
        if not item.type:
            continue
        span = _span(item, notes)
        if span is None:
            spoilt.add(item.type)
        elif item.type in found:
            found[item.type] = _both(found[item.type], span, add=add)
        else:
            found[item.type] = span
    return {kind: span for kind, span in found.items() if kind not in spoilt}


def _span(item: CostOrMetric, notes: list[str]) -> Span | None:
    """None when there is nothing usable."""
    bounds = [bound for bound in (item.min, item.max) if bound is not None]
    for bound in bounds:
        if not (math.isfinite(bound) and 0 <= bound <= ABSURD):
            notes.append(f"{item.type}: {bound:g} is no figure")
            return None
    if len(bounds) == 2 and bounds[0] > bounds[1]:
        notes.append(f"{item.type}: the least ({bounds[0]:g}) is above the most ({bounds[1]:g})")
        return None
    return Span(item.min, item.max) if bounds else None


def _both(one: Span, other: Span, *, add: bool) -> Span:
    join: Callable[[float, float], float] = (lambda a, b: a + b) if add else min
    return Span(_joined(one.least, other.least, join), _joined(one.most, other.most, join))


def _joined(one: float | None, other: float | None, join: Callable[[float, float], float]) -> float | None:
    return None if one is None or other is None else join(one, other)
