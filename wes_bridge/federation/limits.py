"""Hard limits: an offer that may go over one of them is refused, in words."""

from __future__ import annotations

from datetime import datetime

from wes_bridge.federation.figures import Figures, Span
from wes_bridge.model.execution_broker import Message
from wes_bridge.model.preferences import Wish
from wes_bridge.model.quantities import COST_CARBON, COST_ENERGY, COST_MONETARY, METRIC_COMPUTE, METRIC_IO
from wes_bridge.model.units import spell_seconds

NOT_MET = "urn:wes-bridge:constraint-not-met"
"""Kind of the message with which our own node says that it cannot keep a limit."""
_COSTS = {
    COST_MONETARY: ("costs", "max_cost", ""),
    COST_ENERGY: ("takes", "max_energy", " kWh"),
    COST_CARBON: ("emits", "max_carbon", " g of CO2"),
}
_METRICS = {METRIC_COMPUTE: "compute performance", METRIC_IO: "I/O throughput"}


def over_limit(figures: Figures, wish: Wish, asked: datetime, now: datetime) -> str | None:
    """Why an offer is refused; None when it keeps all limits.

    A limit holds for the worst that the offer allows, and one that says nothing does not keep it.

    Args:
        figures: of the offer, in seconds from ``now``.
        wish: the limits.
        asked: when nodes were first asked for the step.
        now: when the offers came.
    """
    if figures.impossible is not None:
        return figures.impossible
    if not wish.has_limits:
        return None
    return (
        _over_costs(figures, wish)
        or _below_metrics(figures, wish)
        or _over_deadline(figures, wish, asked, now)
    )


def constraint_words(message: Message, wish: Wish) -> str | None:
    """A broker's message about a limit that it cannot keep, in the words of the user who set it.

    Returns:
        None when it is no such message.
    """
    values = message.values or {}
    kind = values.get("type", "")
    if message.kind != NOT_MET or not kind:
        return None
    quoted = {kind: Span(_figure(values.get("least")), _figure(values.get("most")))}
    costs = {name: limit for name, limit in wish.max_costs.items() if name == kind}
    metrics = {name: floor for name, floor in wish.required.items() if name == kind}
    figures = Figures(costs=quoted, metrics=quoted)
    only = Wish(max_costs=costs, required=metrics)
    return _over_costs(figures, only) or _below_metrics(figures, only)


def _figure(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _over_costs(figures: Figures, wish: Wish) -> str | None:
    for kind, limit in wish.max_costs.items():
        verb, name, unit = _COSTS.get(kind, ("costs", kind, ""))
        most = figures.cost(kind).most
        if most is None:
            return f"it does not say what it {verb} at most ({name} is {limit:g}{unit})"
        if most > limit:
            return f"it {verb} up to {most:g}{unit}, over {name} {limit:g}"
    return None


def _below_metrics(figures: Figures, wish: Wish) -> str | None:
    for kind, floor in wish.required.items():
        least, name = figures.metric(kind).least, _METRICS.get(kind, kind)
        if least is None:
            return f"it promises no {name} (required: {floor:g})"
        if least < floor:
            return f"it promises {name} of {least:g}, below the required {floor:g}"
    return None


def _over_deadline(figures: Figures, wish: Wish, asked: datetime, now: datetime) -> str | None:
    left = []
    if wish.before is not None:
        left.append((wish.before - now).total_seconds())
    if wish.within is not None:
        left.append(wish.within.total_seconds() - (now - asked).total_seconds())
    if not left:
        return None
    if figures.finish is None:
        return "it does not say when it would be done (there is a deadline)"
    if figures.finish > min(left):
        return f"it would be done in {spell_seconds(figures.finish)}, and the deadline is {_told(min(left))}"
    return None


def _told(seconds: float) -> str:
    return f"in {spell_seconds(seconds)}" if seconds > 0 else "over"
