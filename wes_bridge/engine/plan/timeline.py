"""When each step would begin and end, and which steps the end waits for.

Offers are for now; a step that waits for others is moved to their end. Elements of a scatter are taken to run
side by side. A step runs as long as its offer lets it, so the end is the latest, not the likeliest.
"""

from __future__ import annotations

from collections.abc import Sequence

from wes_bridge.cwl.expanding.order import InOrder
from wes_bridge.model.run_plan import PlannedStep


def schedule(steps: Sequence[PlannedStep]) -> float | None:
    """Set ``start``, ``end`` and ``critical`` of each step.

    Returns:
        When the last one ends; None when that is not known.
    """
    by_name: dict[str, list[PlannedStep]] = {}
    for step in steps:
        by_name.setdefault(step.name, []).append(step)
    waits = {name: _waits_for(by_name, name) for name in by_name}
    order = InOrder(waits.items())
    for name in order:
        _place_all(by_name, name, waits[name])
        order.add([name])
    for name in order.waiting:  # they wait for each other
        _place_all(by_name, name, waits[name])
    end = _ends(steps)
    _mark(steps, by_name, end)
    return end


def _place_all(by_name: dict[str, list[PlannedStep]], name: str, after: set[str]) -> None:
    before = _ends([one for other in after for one in by_name[other]])
    for step in by_name[name]:
        _place(step, before)


def _waits_for(by_name: dict[str, list[PlannedStep]], name: str) -> set[str]:
    found = {other for step in by_name[name] for other in step.after}
    return {other for other in found if other in by_name and other != name}


def _ends(steps: Sequence[PlannedStep]) -> float | None:
    """When the last ends; 0 for none; None when one does not say."""
    ends = [step.end for step in steps]
    known = [end for end in ends if end is not None]
    return max(known, default=0.0) if len(known) == len(ends) else None


def _place(step: PlannedStep, before: float | None) -> None:
    chosen = step.chosen
    if before is None or chosen is None or chosen.wait is None:
        return
    step.start = round(before + chosen.wait, 1)
    if chosen.duration is not None:
        step.end = round(step.start + chosen.duration + chosen.releasing, 1)


def _mark(steps: Sequence[PlannedStep], by_name: dict[str, list[PlannedStep]], end: float | None) -> None:
    """Follow the end backwards through the steps that each waited for longest."""
    if end is None:
        return
    step = next((one for one in steps if one.end == end), None)
    while step is not None and not step.critical:
        step.critical = True
        before = [one for name in _waits_for(by_name, step.name) for one in by_name[name]]
        step = max(before, key=lambda one: one.end or 0.0, default=None)
