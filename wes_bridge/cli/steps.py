"""A run's steps in words: the rows of tables and of progress."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

from wes_bridge.model.units import spell_seconds

COLUMNS = ("step", "node", "state", "start", "duration", "exit", "why there")
FINAL = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"})

Task = dict[str, Any]


def rows(tasks: list[Task]) -> list[list[str]]:
    """One row a step, for :data:`COLUMNS`."""
    return [
        [
            str(task.get("name") or task.get("id") or ""),
            str(task.get("node") or ""),
            state(task),
            clock(task.get("start_time")),
            duration(task.get("start_time"), task.get("end_time")),
            "" if task.get("exit_code") is None else str(task["exit_code"]),
            why(task),
        ]
        for task in tasks
    ]


def state(task: Task) -> str:
    """A task's state; guessed from its times on servers that do not say it."""
    if task.get("state"):
        return str(task["state"])
    if task.get("end_time"):
        return "COMPLETE" if task.get("exit_code") in (None, 0) else "EXECUTOR_ERROR"
    return "RUNNING" if task.get("start_time") else "QUEUED"


def why(task: Task) -> str:
    """Why the step ran where it ran."""
    placement = task.get("placement")
    if not isinstance(placement, dict):
        return ""
    reason = str(placement.get("reason") or "")
    attempt = placement.get("attempt") or 1
    return f"{reason} (attempt {attempt})" if attempt > 1 else reason


def choices(tasks: list[Task]) -> list[str]:
    """Why steps did not run elsewhere, what became of earlier attempts, and how data came; one line for equal
    ones."""
    steps_by_line: dict[str, list[str]] = {}
    for task in tasks:
        placement = task.get("placement")
        if not isinstance(placement, dict):
            continue
        lines = [
            f"not {entry.get('node')}: {entry['reason']}"
            for entry in placement.get("asked") or []
            if entry.get("reason") and entry.get("node") != task.get("node")
        ]
        lines += [
            f"attempt {entry.get('attempt')} on {entry.get('node')}: {entry.get('problem')}"
            for entry in placement.get("earlier") or []
        ]
        lines += [str(note) for note in placement.get("notes") or []]
        for line in lines:
            steps_by_line.setdefault(line, []).append(str(task.get("name") or task.get("id") or ""))
    return [f"{_some(names)}  {line}" for line, names in steps_by_line.items()]


def _some(names: list[str]) -> str:
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else f"{unique[0]} and {len(unique) - 1} more"


def summary(tasks: list[Task]) -> str:
    """``3/8 steps, 2 RUNNING, nodes a b``."""
    states = Counter(state(task) for task in tasks)
    done = sum(count for name, count in states.items() if name in FINAL)
    parts = [f"{done}/{len(tasks)} steps"]
    parts += [f"{count} {name}" for name, count in sorted(states.items()) if name != "COMPLETE"]
    nodes = sorted({str(task["node"]) for task in tasks if task.get("node")})
    if nodes:
        parts.append(f"node{'s' if len(nodes) > 1 else ''} {' '.join(nodes)}")
    return ", ".join(parts)


def instant(text: Any) -> datetime | None:
    """A WES time."""
    try:
        when = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def clock(text: Any) -> str:
    """A time of today as hours, minutes and seconds, another with its date; local time."""
    when = instant(text) if text else None
    if when is None:
        return ""
    local = when.astimezone()
    return local.strftime(
        "%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M"
    )


def duration(start: Any, end: Any) -> str:
    """The time between two WES times, or since the first: ``4 s``, ``1 h 3 min``."""
    begun = instant(start) if start else None
    if begun is None:
        return ""
    ended = (instant(end) if end else None) or datetime.now(UTC)
    return spell_seconds(max(0.0, (ended - begun).total_seconds()))
