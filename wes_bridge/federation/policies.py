"""Which offer is best. A policy turns an offer into a sort key and says why in words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from wes_bridge.model.execution_broker import Session, StartDuration
from wes_bridge.model.units import parse_duration, parse_instant, parse_interval


@dataclass(frozen=True)
class Candidate:
    """An offer and who made it. ``url`` is the session's."""

    broker: str
    offer: Session
    url: str


@dataclass(frozen=True)
class Choice:
    """Candidates in order of preference, and why the first is first."""

    ranked: list[Candidate]
    reason: str


def earliest(candidates: list[Candidate], now: datetime) -> Choice:
    """Order by when the step would start: preparation's start plus its duration.

    An offer that does not say is taken to start now. Ties keep the order of the brokers.
    """
    ranked = sorted(candidates, key=lambda candidate: _start(candidate.offer, now))
    best = ranked[0]
    delay = max(timedelta(), _start(best.offer, now) - now)
    reason = f"earliest start, in {delay.total_seconds():.1f} s"
    if len(ranked) == 1:
        reason = f"the only offer; it starts in {delay.total_seconds():.1f} s"
    return Choice(ranked, reason)


def _start(offer: Session, now: datetime) -> datetime:
    schedule = (offer.compute.schedule if offer.compute else None) or offer.schedule
    if schedule is None:
        return now
    try:
        if schedule.available and schedule.available.start:
            return max(now, parse_interval(schedule.available.start)[0])
        return max(now, _end(schedule.preparing, now))
    except ValueError:
        return now


def _end(part: StartDuration | None, now: datetime) -> datetime:
    if part is None or not part.start:
        return now
    length = parse_duration(part.duration) if part.duration else timedelta()
    return parse_instant(part.start) + length
