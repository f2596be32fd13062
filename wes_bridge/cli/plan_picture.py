"""A plan as a picture: a lane a node, a bar a step, time from left to right. SVG, written here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from wes_bridge.cli.plan_view import amount, moved
from wes_bridge.model.run_plan import ESTIMATED, PlannedStep, RunPlan
from wes_bridge.model.units import spell_seconds

_WIDTH, _LEFT, _RIGHT, _TOP, _BAR, _GAP = 1000, 110, 20, 56, 18, 4
_PLOT = _WIDTH - _LEFT - _RIGHT
_TICKS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
_STYLE = """
text { font: 12px sans-serif; fill: #222 } .title { font-size: 15px } .small { font-size: 11px; fill: #555 }
.lane { fill: #f4f5f7 } .tick { stroke: #d5d8dd } .bar { fill: #7aa6d8 } .estimated { fill: #c3d6ec }
.critical { stroke: #c0392b; stroke-width: 2 } .refused { fill: #e8a49c }
"""


def svg(plan: RunPlan) -> str:
    """The picture as an SVG document."""
    lanes = [(node, _rows(steps)) for node, steps in _by_node(plan)]
    unplaced = [step for step in plan.steps if step.start is None]
    end = _end(plan)
    bars_height = sum(len(rows) * (_BAR + _GAP) + _GAP for _, rows in lanes)
    height = _TOP + bars_height + 30 + (20 + 16 * min(len(unplaced), 12) if unplaced else 0) + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}"'
        f' height="{height}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text class="title" x="10" y="22">{escape(_title(plan))}</text>',
        '<text class="small" x="10" y="40">red frame: the end waits for it; pale: estimated;'
        " ?: may be skipped; bars show the time offered, a real run is shorter</text>",
        *_axis(end, _TOP + bars_height),
    ]
    y = _TOP
    for node, rows in lanes:
        tall = len(rows) * (_BAR + _GAP) + _GAP
        parts.append(f'<rect class="lane" x="0" y="{y}" width="{_WIDTH}" height="{tall - 2}"/>')
        parts.append(f'<text x="10" y="{y + _BAR}">{escape(node[:16])}</text>')
        for number, row in enumerate(rows):
            parts.extend(_bar(step, y + _GAP + number * (_BAR + _GAP), end) for step in row)
        y += tall
    parts.extend(_unplaced(unplaced, y + 40))
    return "\n".join([*parts, "</svg>\n"])


def _title(plan: RunPlan) -> str:
    name = plan.workflow.rpartition("/")[2] or plan.workflow
    until = "end not known" if plan.totals.end is None else f"at most {spell_seconds(plan.totals.end)}"
    cost = plan.totals.cost
    price = "" if cost.max is None else f", cost {amount(cost)}{'' if cost.complete else ' or more'}"
    return f"{name}: {plan.totals.tasks} tasks, {until}{price}"


def _end(plan: RunPlan) -> float:
    return max((_stop(step) for step in plan.steps if step.start is not None), default=1.0) or 1.0


def _stop(step: PlannedStep) -> float:
    start = step.start or 0.0
    return step.end if step.end is not None else start + 1.0


def _by_node(plan: RunPlan) -> list[tuple[str, list[PlannedStep]]]:
    lanes: dict[str, list[PlannedStep]] = {node: [] for node in plan.nodes}
    for step in plan.steps:
        if step.chosen is not None and step.start is not None:
            lanes.setdefault(step.chosen.node, []).append(step)
    return [(node, steps) for node, steps in lanes.items() if steps] or [("", [])]


def _rows(steps: list[PlannedStep]) -> list[list[PlannedStep]]:
    """Rows in which no two steps overlap."""
    rows: list[list[PlannedStep]] = []
    for step in sorted(steps, key=lambda one: (one.start or 0.0, one.name)):
        row = next((row for row in rows if _stop(row[-1]) <= (step.start or 0.0)), None)
        if row is None:
            rows.append([step])
        else:
            row.append(step)
    return rows or [[]]


def _x(when: float, end: float) -> float:
    return round(_LEFT + _PLOT * when / end, 1)


def _axis(end: float, bottom: float) -> Iterator[str]:
    distance: float = next((tick for tick in _TICKS if end / tick <= 9), 86400 * math.ceil(end / 9 / 86400))
    when = 0.0
    while when <= end:
        x = _x(when, end)
        yield f'<line class="tick" x1="{x}" x2="{x}" y1="{_TOP}" y2="{bottom + 4}"/>'
        text = spell_seconds(when)
        yield f'<text class="small" x="{x}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
        when += distance


def _bar(step: PlannedStep, y: float, end: float) -> str:
    left, right = _x(step.start or 0.0, end), _x(_stop(step), end)
    width = max(3.0, right - left)
    classes = (
        "bar" + (" estimated" if step.certainty == ESTIMATED else "") + (" critical" if step.critical else "")
    )
    label = step.name + ("?" if step.optional else "") + ("" if step.count == 1 else f" {step.label}")
    room = int(width / 6.5)
    shown = label if len(label) <= room else label[: max(0, room - 1)] + "…" if room > 3 else ""
    return (
        f'<g><title>{escape(_tooltip(step))}</title><rect class={quoteattr(classes)} x="{left}" y="{y}"'
        f' width="{round(width, 1)}" height="{_BAR}" rx="2"/>'
        f'<text x="{left + 4}" y="{y + 13}">{escape(shown)}</text></g>'
    )


def _tooltip(step: PlannedStep) -> str:
    chosen = step.chosen
    assert chosen is not None
    lines = [f"{step.name} {step.label} on {chosen.node}", chosen.reason]
    if chosen.cost:
        lines.append(f"cost {amount(chosen.cost, step.count or 1)}")
    lines.append(f"to move {moved(chosen.move)}")
    return "\n".join([*lines, *step.unknown])


def _unplaced(steps: list[PlannedStep], y: float) -> Iterator[str]:
    """Steps without a time, in words."""
    if steps:
        yield f'<text class="small" x="10" y="{y}">not in the picture:</text>'
    for number, step in enumerate(steps[:12]):
        why = "nobody offers to run it" if step.chosen is None else "when is not known"
        more = f" (and {len(steps) - 12} more)" if number == 11 and len(steps) > 12 else ""
        text = escape(f"{step.name} {step.label}: {why}{more}")
        yield f'<text x="20" y="{y + 16 * (number + 1)}">{text}</text>'


def png(plan: RunPlan, path: str) -> None:
    """The same as PNG, with matplotlib.

    Raises:
        ImportError: it is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    rows = [(node, row) for node, steps in _by_node(plan) for row in _rows(steps)]
    figure = Figure(figsize=(11, 1.4 + 0.32 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for y, (_, row) in enumerate(rows):
        for step in row:
            start = step.start or 0.0
            axes.barh(
                y,
                _stop(step) - start,
                left=start,
                color="#c3d6ec" if step.certainty == ESTIMATED else "#7aa6d8",
                edgecolor="#c0392b" if step.critical else "none",
            )
            axes.text(start, y, f" {step.name} {step.label}", va="center", fontsize=8, clip_on=True)
    axes.set_yticks(range(len(rows)), [node for node, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("seconds from now")
    axes.set_title(_title(plan))
    figure.savefig(path, dpi=120)
