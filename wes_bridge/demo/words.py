"""What the demonstration says at the end: the table of runs, and why some steps went where they did."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from wes_bridge.cli import steps
from wes_bridge.demo.story import Act, Task

_REASONS = 2
"""Choices of each run that are explained."""


def table(acts: Sequence[Act], nodes: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Columns, and a row a run."""
    columns = ["run", *nodes, "price", "energy", "CO2", "time", "state"]
    rows = []
    for act in acts:
        by_node = act.by_node()
        counts = []
        for node in nodes:
            lost = sum(bar.lost and bar.node == node for bar in act.bars)
            counts.append(f"{by_node[node] or '-'}" + (f" (+{lost} lost)" if lost else ""))
        figures = [_figure(act.figure("cost"), 1, "", 2), _figure(act.figure("energy"), 1000, " Wh", 0)]
        figures += [_figure(act.figure("carbon"), 1, " g", 1), f"{act.makespan:.1f} s"]
        rows.append([act.title, *counts, *figures, act.state])
    return columns, rows


def _figure(value: float | None, factor: float, unit: str, digits: int) -> str:
    return "?" if value is None else f"{value * factor:.{digits}f}{unit}"


def reasons(act: Act) -> Iterator[str]:
    """A few choices of a run: the first step of each node, then what kept steps away from nodes."""
    told = set()
    for task in act.tasks:
        node = str(task.get("node"))
        if node not in told and (reason := brief(task)):
            told.add(node)
            yield f"{task.get('name')} → {node}: {reason}"
    lost = [line for task in act.tasks for line in _lost(task)]
    others = [_clean(line) for line in steps.choices(act.tasks) if "  not " in line]
    yield from (lost or others)[:_REASONS]


def brief(task: Task) -> str:
    """Why a step is where it is: what its node offered, and the best of each other node."""
    placement = task.get("placement") or {}
    reason = str(placement.get("reason") or "").removeprefix("the better ones could not be accepted; ")
    head, bracket, rest = reason.partition(" (")
    offers = (placement.get("choice") or {}).get("offers") or []
    title, colon, words = head.partition(": ")
    if not (bracket and colon and offers):
        return _clean(reason)
    found = {str(offers[0].get("node")): words}
    for part in rest.rstrip(")").split("; "):
        node, colon, words = part.partition(": ")
        if colon:
            found.setdefault(node, words)
    chosen = found.pop(str(task.get("node")), "")
    others = "; ".join(f"{node}: {words}" for node, words in found.items())
    taken = [entry for entry in placement.get("earlier") or [] if "EXPIRED" in str(entry.get("problem"))]
    late = ", ".join(dict.fromkeys(str(entry.get("node")) for entry in taken))
    text = f"{title}: {chosen}" + (f" ({others})" if others else "")
    return _clean(text + (f"; what {late} had offered, another step took first" if late else ""))


def _lost(task: Task) -> Iterator[str]:
    for entry in (task.get("placement") or {}).get("earlier") or []:
        if entry.get("session_url"):
            problem = _clean(str(entry.get("problem")))
            yield f"{task.get('name')} was lost on {entry.get('node')} ({problem}) → {task.get('node')}"


def _clean(text: str) -> str:
    """On one line, with short numbers (but not in times), without addresses, which nobody wants here."""
    text = re.sub(r"\s*(at )?https?://\S+|\s*Cannot connect to host.*?\]", "", " ".join(text.split()))
    return re.sub(r"(?<![\d:])\d+\.\d{3,}", lambda found: f"{float(found[0]):.2g}", text)
