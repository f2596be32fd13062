"""A plan in words: the rows of its table, who refuses what, and the sums."""

from __future__ import annotations

from collections.abc import Iterator

from wes_bridge.model.run_plan import ESTIMATED, Moved, PlannedStep, Range, RunPlan, Total
from wes_bridge.model.units import spell_seconds

COLUMNS = ("step", "runs", "node", "start", "up to", "cost", "kWh", "g CO2", "to move", "how sure")


def rows(plan: RunPlan) -> list[list[str]]:
    """One row for each step or kind of scatter element."""
    return [_row(step) for step in plan.steps]


def _row(step: PlannedStep) -> list[str]:
    name = step.name + ("?" if step.optional else "")
    sure = "estimated" if step.certainty == ESTIMATED else "known"
    chosen = step.chosen
    if chosen is None:
        return [name, step.label, "nobody", "", "", "", "", "", "", sure]
    count = step.count or 1
    more = step.count is None
    return [
        name,
        step.label,
        chosen.node,
        "?" if step.start is None else f"+{spell_seconds(step.start)}",
        "?" if chosen.duration is None else spell_seconds(chosen.duration),
        amount(chosen.cost, count, more=more),
        amount(chosen.energy, count, more=more),
        amount(chosen.carbon, count, more=more),
        moved(chosen.move),
        sure,
    ]


def amount(figure: Range | None, count: int = 1, *, more: bool = False) -> str:
    """``0.1-0.3``, for ``count`` of them; ``more``: for each of an unknown number."""
    if figure is None or (figure.min is None and figure.max is None):
        return "?"
    bounds = [f"{bound * count:.3g}" for bound in (figure.min, figure.max) if bound is not None]
    return "-".join(dict.fromkeys(bounds)) + (" each" if more else "")


def moved(part: Moved) -> str:
    """``12 MB``, ``12 MB + 2 unknown``."""
    if not part.unknown:
        return size(part.bytes)
    return (f"{size(part.bytes)} + " if part.bytes else "") + f"{part.unknown} unknown"


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def refusals(plan: RunPlan) -> Iterator[str]:
    """Why steps have no offer, for each node; equal reasons of several steps in one line."""
    steps: dict[str, list[str]] = {}
    for step in plan.steps:
        if step.problem:
            steps.setdefault(("unsupported: " if step.unsupported else "") + step.problem, []).append(
                step.name
            )
        for answer in step.answers:
            why = answer.reason or "; ".join(answer.refused)
            if why:
                steps.setdefault(f"{answer.node}: {why}", []).append(step.name)
    for why, names in steps.items():
        unique = list(dict.fromkeys(names))
        some = unique[0] if len(unique) == 1 else f"{unique[0]} and {len(unique) - 1} more"
        yield f"{some}: {why}"


def summary(plan: RunPlan) -> Iterator[str]:
    """The sums, and what must be said of them."""
    totals = plan.totals
    tasks = f"{totals.tasks} task{'' if totals.tasks == 1 else 's'}" + ("" if totals.complete else " or more")
    end = "not known" if totals.end is None else f"in {spell_seconds(totals.end)} at the latest"
    yield f"{tasks}; end {end}; policy {plan.policy}"
    figures = [
        ("cost", totals.cost, ""),
        ("energy", totals.energy, " kWh"),
        ("carbon", totals.carbon, " g CO2"),
    ]
    said = [f"{name} {_total(figure, unit)}" for name, figure, unit in figures if figure.max is not None]
    yield "; ".join([*said, f"reads {moved(totals.reads)}", f"to move {moved(totals.move)}"])
    path = list(dict.fromkeys(step.name for step in plan.steps if step.critical))
    if len(path) > 1:
        yield "the end waits for: " + " -> ".join(path)
    if plan.skipped:
        yield f"skipped by their conditions: {_some(plan.skipped)}"
    yield from (f"problem: {text}" for text in plan.problems)
    yield from (f"note: {text}" for text in plan.notes)


def _total(figure: Total, unit: str) -> str:
    return amount(figure) + unit + ("" if figure.complete else " or more")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
