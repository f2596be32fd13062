"""What a task's row shows of its step: planned, under way, ended. It stores nothing and decides nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from wes_bridge.data.beneath import opened, regular_file, top_of
from wes_bridge.data.stand_ins import is_stand_in
from wes_bridge.data.workspace import file_url, url_path
from wes_bridge.federation.placement import Progress
from wes_bridge.model.execution_broker import UNENFORCED, Session
from wes_bridge.model.states import State, task_state
from wes_bridge.model.step_plan import StepOutcome, StepPlan, Times
from wes_bridge.model.units import format_instant, signal_of
from wes_bridge.store.runs import TaskRow

_STREAMS = ("stdout", "stderr")
_TAIL = 2000
"""Bytes at the end of a stream that are looked at for its last line."""


def begin_anew(task: TaskRow) -> None:
    """Forget what an earlier worker did for a task."""
    task.state, task.outcome, task.exit_code = State.QUEUED, None, None
    task.node = task.session_url = task.placement = None
    task.start_time = task.end_time = None
    task.system_logs = []
    task.created = time.time()


def show_plan(task: TaskRow, plan: StepPlan) -> None:
    """Show what will be run, and where its streams go unless they go to files of the session."""
    task.cmd = plan.argv
    _set_streams(task, plan)


def show_progress(task: TaskRow, progress: Progress) -> None:
    """Show where the task is, and how far."""
    placement, session = progress.placement, progress.session
    task.node, task.session_url = placement.shown_node, placement.session_url
    task.placement = placement.to_json()
    lacking = _unenforced(session) if session is not None else []
    if lacking:
        task.placement["unenforced"] = lacking
    task.system_logs = [*([placement.without_image] if placement.without_image else []), *lacking]
    if placement.attempt > 1 and placement.plan is not None:
        _set_streams(task, placement.plan)
    if session is None:
        return
    for name in _STREAMS:
        if getattr(task, name) is None:  # it goes to a file of the session: the node shows it meanwhile
            setattr(task, name, _stream_url(session, name))
    compute_phase = session.compute.phase if session.compute else None
    task.state = task_state(session.phase, compute_phase)
    if task.state is State.RUNNING and task.start_time is None:
        started = session.executable.started if session.executable else None
        now = time.time()
        task.start_time = min(max(started.timestamp(), task.created), now) if started else now


def show_end(
    task: TaskRow, plan: StepPlan, outcome: StepOutcome, status: str, reason: str | None = None
) -> str | None:
    """Show how it ended.

    Args:
        task: of the step.
        plan: of the step.
        outcome: of its session.
        status: cwltool's word for the step's end.
        reason: why the outputs of a command that ended well are not those of its tool.

    Returns:
        What went wrong, in words; None when nothing did.
    """
    task.exit_code = outcome.exit_code
    _set_times(task, outcome.times.between(task.created, time.time()))
    out = url_path(outcome.output_dir or plan.output_url)
    for name in _STREAMS:
        redirected = getattr(plan, name)
        if redirected:
            setattr(task, name, file_url(out / redirected))
    if status == "success":
        task.state = State.COMPLETE
        return None
    ran = outcome.exit_code is not None or outcome.by_command
    task.state = State.EXECUTOR_ERROR if ran else State.SYSTEM_ERROR
    problem = outcome.problem or _exit_words(outcome, status, reason, lambda: _tail(task, out.parent))
    if outcome.hint is not None:
        problem = f"{problem}; {outcome.hint}"
    task.system_logs = [problem, *task.system_logs]
    return problem


def without_image(task: TaskRow) -> str | None:
    """That the step ran without the image its tool hints at, and why; None where it did not."""
    words = (task.placement or {}).get("without_image")
    return words if isinstance(words, str) else None


def remarks(task: TaskRow) -> set[str]:
    """Lines of its log that are no problems: what it ran without."""
    words = without_image(task)
    return {*([words] if words else []), *((task.placement or {}).get("unenforced") or [])}


def _unenforced(session: Session) -> list[str]:
    """What its node does not enforce, in the node's words."""
    told = (session.meta.messages if session.meta else None) or []
    return list(dict.fromkeys(message.text() for message in told if message.kind == UNENFORCED))


def _set_times(task: TaskRow, times: Times) -> None:
    """Start and end are the command's; when it was asked for, had its turn and was cleared away is told in
    our extension. Where its broker says nothing, what was seen of it counts."""
    task.end_time = times.finished or time.time()
    task.start_time = times.started or task.start_time or task.created
    told = {name: when for name, when in vars(times).items() if when is not None}
    if told:
        asked = {"asked": task.created} | told
        task.placement = (task.placement or {}) | {
            "times": {name: format_instant(datetime.fromtimestamp(when, UTC)) for name, when in asked.items()}
        }


def _set_streams(task: TaskRow, plan: StepPlan) -> None:
    task.stdout = None if plan.stdout else plan.stdout_url
    task.stderr = None if plan.stderr else plan.stderr_url


def _stream_url(session: Session, name: str) -> str | None:
    streams = session.executable.streams if session.executable else None
    stream = getattr(streams, name, None) if streams else None
    return stream.locations[0] if stream and stream.locations else None


def _exit_words(outcome: StepOutcome, status: str, reason: str | None, tail: Callable[[], str]) -> str:
    code = outcome.exit_code
    if code is None:
        return "the command ended without an exit code"
    if reason is not None:
        return f"the command ended well, but its outputs cannot be collected: {reason}"
    temporary = ", which the tool calls a temporary failure" if status == "temporaryFail" else ""
    return f"the command ended with exit code {code}{_signal(code)}{temporary}{tail()}"


def _signal(code: int) -> str:
    name = signal_of(code)
    return f": signal {name}" if name else ""


def _tail(task: TaskRow, folder: Path) -> str:
    """The last words of its standard error, for people who read only the first message; the command may have
    put a link in its place, which is not followed below the task's folder."""
    try:
        relative = url_path(task.stderr or "").relative_to(folder)
        with opened(top_of(folder)) as top:
            file = regular_file(top, str(relative))
        if file is None:
            return ""
        with opened(file):
            if is_stand_in(os.fstat(file)):
                return ""
            text = os.pread(file, _TAIL, max(0, os.fstat(file).st_size - _TAIL))
    except (OSError, ValueError):
        return ""
    lines = text.decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:300]}" if lines else ""
