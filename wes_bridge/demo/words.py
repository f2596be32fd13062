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
    moved = [task for task in act.tasks if (task.get("placement") or {}).get("earlier")]
    after = [line for task in moved[:_REASONS] for line in _earlier(task)]
    others = [line for line in steps.choices(act.tasks) if "attempt" not in line]
    yield from after or [_clean(line) for line in others[:_REASONS]]


def brief(task: Task) -> str:
    """Why a step is where it is: the best offer, and the best of each other node."""
    reason = str((task.get("placement") or {}).get("reason") or "")
    head, bracket, rest = reason.partition(" (")
    if not bracket:
        return _clean(reason)
    heard = {str(task.get("node"))}
    others = []
    for part in rest.rstrip(")").split("; "):
        node, colon, words = part.partition(": ")
        if colon and node not in heard:
            heard.add(node)
            others.append(f"{node}: {words}")
    return _clean(head + (f" ({'; '.join(others)})" if others else ""))


def _earlier(task: Task) -> Iterator[str]:
    for entry in (task.get("placement") or {}).get("earlier") or []:
        if entry.get("session_url"):
            problem = _clean(str(entry.get("problem")))
            yield f"{task.get('name')} was on {entry.get('node')} ({problem}), done on {task.get('node')}"


def _clean(text: str) -> str:
    """Without host names, in which nobody is interested here."""
    return re.sub(r"https?://\S+", "…", " ".join(text.split()))
