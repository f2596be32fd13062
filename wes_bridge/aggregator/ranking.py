"""Which offers are passed on, and in which order: the earliest start first, then the lowest price."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from wes_bridge.model.execution_broker import COST_MONETARY, Session, StartDuration
from wes_bridge.model.units import parse_duration, parse_instant, parse_interval


def order(offers: Sequence[Session], now: datetime) -> list[int]:
    """The offers' indices, the best first; equal ones stay in order.

    Starts are compared to the second: brokers work them out at slightly different times. An offer that does
    not say when it starts is taken to start now; one without a price comes after those with one.
    """
    keys = [(int((start(offer, now) - now).total_seconds()), price(offer)) for offer in offers]
    return sorted(range(len(offers)), key=keys.__getitem__)


def start(offer: Session, now: datetime) -> datetime:
    """When the command would start, not before ``now``."""
    schedule = (offer.compute.schedule if offer.compute else None) or offer.schedule
    if schedule is None:
        return now
    try:
        if schedule.available and schedule.available.start:
            return max(now, parse_interval(schedule.available.start)[0])
        return max(now, _end(schedule.preparing, now))
    except (ValueError, OverflowError):
        return now


def price(offer: Session) -> float:
    """The most it may cost, in the site's currency; infinite when it does not say."""
    costs = [*(offer.costs or []), *((offer.compute.costs if offer.compute else None) or [])]
    told = [cost.max if cost.max is not None else cost.min for cost in costs if cost.type == COST_MONETARY]
    known = [value for value in told if value is not None]
    return sum(known) if known else float("inf")


def _end(part: StartDuration | None, now: datetime) -> datetime:
    if part is None or not part.start:
        return now
    length = parse_duration(part.duration) if part.duration else timedelta()
    return parse_instant(part.start) + length
