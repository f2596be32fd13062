"""What ``wes-bridge run`` and ``wes-bridge-runner`` share: see a run through, say why it failed.

Standard library and the client only: the runner must start fast.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from wes_bridge.cli.exit_codes import FAILURE, SUCCESS, UNSUPPORTED
from wes_bridge.client import WESClient, WESError

TAIL = 4000
"""Bytes of a failed step's stderr that are shown."""
MAX_FAILED = 5
"""Failed steps that are shown."""

Progress = Callable[[dict[str, Any]], None]


class InterruptedRunError(Exception):
    """Ctrl-C: the run was cancelled. ``state`` is how it ended."""

    def __init__(self, state: str) -> None:
        super().__init__(f"interrupted; the run is {state}")
        self.state = state


def see_through(
    client: WESClient, run_id: str, on_progress: Progress | None, say: Callable[[str], None]
) -> str:
    """Wait for a run's end; Ctrl-C cancels it and waits for that, a second Ctrl-C does not wait.

    Returns:
        The final state.

    Raises:
        InterruptedRunError: after the first Ctrl-C, once the run has ended.
        KeyboardInterrupt: the second.
    """
    try:
        return client.wait(run_id, on_progress=on_progress)
    except KeyboardInterrupt:
        say("interrupted: cancelling the run (Ctrl-C again to leave at once)")
        client.cancel(run_id)
        raise InterruptedRunError(client.wait(run_id)) from None


def exit_code(run: dict[str, Any]) -> int:
    """The exit code for a run that has ended, as cwltool's: 0, 1, or 33 for an unsupported feature."""
    if run.get("state") == "COMPLETE":
        return SUCCESS
    log = run.get("run_log") or {}
    words = log.get("system_logs") or []
    if log.get("exit_code") == UNSUPPORTED or any(str(line).startswith("Unsupported") for line in words):
        return UNSUPPORTED
    return FAILURE


def reasons(client: WESClient, run: dict[str, Any]) -> Iterator[str]:
    """Why a run failed, in lines: the run's own words, then each failed step with the end of its stderr."""
    run_id = str(run.get("run_id"))
    log = run.get("run_log") or {}
    seen: set[str] = set()
    for line in log.get("system_logs") or []:
        seen.add(str(line))
        yield str(line)
    failed = [task for task in tasks_of(client, run_id) if is_failed(task)]
    for task in failed[:MAX_FAILED]:
        where = f" on {task['node']}" if task.get("node") else ""
        code = "" if task.get("exit_code") is None else f", exit code {task['exit_code']}"
        yield f"step {task.get('name')}{where}: {task.get('state', 'failed')}{code}"
        for line in task.get("system_logs") or []:
            if str(line) not in seen:
                yield f"  {line}"
        yield from (f"  | {line}" for line in stderr_lines(client, run_id, str(task.get("id"))))
    if len(failed) > MAX_FAILED:
        yield f"... and {len(failed) - MAX_FAILED} more failed steps"


def remarks(run: dict[str, Any]) -> Iterator[str]:
    """What must be known of a run that went well, in lines."""
    log = run.get("run_log") or {}
    yield from (f"note: {line}" for line in log.get("system_logs") or [])


def tasks_of(client: WESClient, run_id: str) -> list[dict[str, Any]]:
    """A run's tasks; none on services that do not tell of them."""
    try:
        return list(client.tasks(run_id, page_size=1000))
    except WESError as error:
        if error.status_code is None:
            raise
        return []


def is_failed(task: dict[str, Any]) -> bool:
    """Whether a task ended badly, on servers without task states too."""
    state = task.get("state")
    if state:
        return state in ("EXECUTOR_ERROR", "SYSTEM_ERROR")
    return task.get("exit_code") not in (None, 0)


def stderr_lines(client: WESClient, run_id: str, task_id: str) -> list[str]:
    """The last lines of a task's stderr; none when it cannot be had."""
    try:
        tail = client.log_tail(run_id, "stderr", task_id, size=TAIL)
    except WESError:
        return []
    lines = tail.decode(errors="replace").splitlines()
    return lines[1:] if len(tail) >= TAIL and len(lines) > 1 else lines
