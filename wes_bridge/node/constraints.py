"""Costs and metrics in a request are constraints: all of them must hold, or there is no offer.

A quote is a range, and what is asked for is one: the quote must lie within it, for the worst that it allows
counts. What is not quoted cannot be promised. It must not know when a session would run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from wes_bridge.model import execution_broker as eb
from wes_bridge.node import messages
from wes_bridge.node.messages import message

Figures = Sequence[eb.CostOrMetric]


def unmet(request: eb.ExecutionRequest, offer: eb.Session) -> list[eb.Message]:
    """What a request asks for and the node does not quote.

    Args:
        request: as it came.
        offer: what would be offered; each part of it quotes for the same part of the request.
    """
    compute, quoted = request.compute or eb.Compute(), offer.compute or eb.Compute()
    found = _unmet("costs", request.costs, offer.costs) + _unmet("metrics", request.metrics, offer.metrics)
    found += _unmet("compute.costs", compute.costs, quoted.costs)
    found += _unmet("compute.metrics", compute.metrics, quoted.metrics)
    parts: list[tuple[str, eb.Component | eb.Volume]] = []
    if request.executable is not None:
        parts.append(("executable", request.executable))
    parts += _numbered("storage", request.storage) + _numbered("data", request.data)
    parts += _numbered("compute.volumes", compute.volumes)
    for where, part in parts:  # nothing is quoted for them
        found += _unmet(f"{where}.costs", part.costs, None) + _unmet(f"{where}.metrics", part.metrics, None)
    return found


def _numbered(
    where: str, parts: Iterable[eb.Component | eb.Volume] | None
) -> list[tuple[str, eb.Component | eb.Volume]]:
    return [(f"{where}[{index}]", part) for index, part in enumerate(parts or ())]


def _unmet(where: str, asked: Figures | None, quoted: Figures | None) -> list[eb.Message]:
    found = (_reason(f"{where}[{index}]", item, quoted or ()) for index, item in enumerate(asked or ()))
    return [reason for reason in found if reason is not None]


def _reason(where: str, asked: eb.CostOrMetric, quoted: Figures) -> eb.Message | None:
    """Why a constraint cannot be met; None when it is."""
    bounds = [bound for bound in (asked.min, asked.max) if bound is not None]
    if not bounds:
        return None
    values: dict[str, object] = {"where": where}
    if not all(map(math.isfinite, bounds)) or bounds != sorted(bounds):
        values |= {"least": _told(asked.min), "most": _told(asked.max)}
        return message(messages.INVALID_VALUE, "{where}: from {least} to {most} is no range", **values)
    if not asked.type:
        text = "{where}: it has no type, which says what is limited"
        return message(messages.INVALID_VALUE, text, **values)
    values["type"] = asked.type
    quote = next((item for item in quoted if item.type == asked.type), None)
    if quote is None:
        return message(messages.CONSTRAINT, "{where}: {type} is limited, this node quotes none", **values)
    return _outside(values, asked, quote)


def _outside(values: dict[str, object], asked: eb.CostOrMetric, quote: eb.CostOrMetric) -> eb.Message | None:
    """On which side a quote goes beyond what is asked for; None when on neither."""
    values |= {"least": _told(quote.min), "most": _told(quote.max)}
    if asked.max is not None and (quote.max is None or quote.max > asked.max):
        text = "{where}: {type} is up to {most} here, {limit} is the most asked for"
        return message(messages.CONSTRAINT, text, **values, limit=_told(asked.max))
    if asked.min is not None and (quote.min is None or quote.min < asked.min):
        text = "{where}: {type} is from {least} here, {limit} is the least asked for"
        return message(messages.CONSTRAINT, text, **values, limit=_told(asked.min))
    return None


def _told(figure: float | None) -> str:
    return "anything" if figure is None else f"{figure:.6g}"
