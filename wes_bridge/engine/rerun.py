"""A run that is done again: what of the earlier run's work it takes over.

When a rerun is asked for, the earlier run's attachments and finished steps are linked into the new run's
folder: ``attachments`` as they are, ``taken/TASK`` for each step with what it left behind, and
``taken/steps.jsonl`` with what is known of them. From then on the new run needs nothing of the old one. A
step that comes up in the new run with the same place and the same inputs gets its folder moved to where it
would have written itself. This module knows no HTTP and no cwltool: the API imports it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from wes_bridge.data.linking import link_tree
from wes_bridge.data.workspace import RunFolder, Workspace, url_path
from wes_bridge.engine.journal import is_still_there, restored
from wes_bridge.model.run_urls import stored_url, to_store
from wes_bridge.model.states import State
from wes_bridge.model.step_plan import StageMode, StepPlan
from wes_bridge.store.runs import TaskRow

_TAKEN = "taken"
_STEPS = "steps.jsonl"
_INCOMING = ".incoming"


def can_be_taken(row: TaskRow) -> bool:
    """Whether a step of an earlier run ended well."""
    return bool(row.outcome and row.outcome.get("status") == "success" and row.inputs_hash)


def prepare(
    workspace: Workspace, old_id: str, new_id: str, rows: Iterable[TaskRow], again: Callable[[TaskRow], bool]
) -> None:
    """Make the folder of a rerun; all or nothing. Blocks.

    Args:
        workspace: of both runs.
        old_id: the earlier run; it must have ended.
        new_id: the new one.
        rows: the earlier run's tasks.
        again: which of them are to be done again in any case.

    Raises:
        OSError: no room.
    """
    old, new = workspace.run(old_id), workspace.run(new_id)
    base = workspace.root / _INCOMING / new_id
    taken = base / _TAKEN
    taken.mkdir(parents=True)
    try:
        if old.attachments.is_dir():
            link_tree(old.attachments, base / "attachments")
        with (taken / _STEPS).open("w") as steps:
            for row in rows:
                if can_be_taken(row) and not again(row) and _link(row, old, taken):
                    steps.write(_as_text(row) + "\n")
        base.rename(new.root)
    except BaseException:
        shutil.rmtree(base, ignore_errors=True)
        raise


def _link(row: TaskRow, old: RunFolder, taken: Path) -> bool:
    """Link a step's files; false when they are not there any more."""
    source = old.tasks / row.task_id
    try:
        if not is_still_there((restored(row, old).outcome or {}).get("outputs")):
            return False
        if source.is_dir():
            link_tree(source, taken / row.task_id)
    except (FileNotFoundError, shutil.Error):  # they are being cleaned up just now
        shutil.rmtree(taken / row.task_id, ignore_errors=True)
        return False
    return True


def _as_text(row: TaskRow) -> str:
    """What is known of a step, as the database stores it: relative to the run's folder, whichever that is."""
    stored = asdict(row) | {"outcome": to_store(row.outcome, row.run_id)}
    for name in ("stdout", "stderr"):
        stored[name] = stored[name] and stored_url(stored[name], row.run_id)
    return json.dumps(stored)


class Carried:
    """Steps that a run can take over from an earlier one.

    Args:
        folder: of the run. Reads a file.
        fresh: tasks of the run that were run, not taken over, by an earlier worker.
    """

    def __init__(self, folder: RunFolder, fresh: Iterable[str] = ()) -> None:
        self._folder = folder
        self._taken = folder.root / _TAKEN
        self._steps: dict[str, dict[str, Any]] = {}
        self._fresh = set(fresh)
        self._is_rerun = self._taken.is_dir()
        with contextlib.suppress(FileNotFoundError), (self._taken / _STEPS).open() as lines:
            for line in lines:
                step = json.loads(line)
                step["outcome"] = folder.outputs_now(step["outcome"])
                for name in ("stdout", "stderr"):
                    step[name] = step[name] and folder.url_now(step[name])
                self._steps[step["key"]] = step

    @property
    def is_rerun(self) -> bool:
        """Whether the run is a rerun of another."""
        return self._is_rerun

    def take(self, task: TaskRow, plan: StepPlan) -> bool:
        """Finish a task with what the earlier run left, if that did the same. Blocks.

        Args:
            task: about to begin, with its ``inputs_hash``; changed when it is taken over.
            plan: of it.
        """
        if not self._steps:
            return False
        step = self._steps.get(task.key)
        if step is None or step["inputs_hash"] != task.inputs_hash or self._is_changed(plan, step):
            self._fresh.add(task.task_id)
            return False
        source, target = self._taken / task.task_id, self._folder.tasks / task.task_id
        if source.is_dir() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        if not is_still_there(step["outcome"]["outputs"]):
            self._fresh.add(task.task_id)
            return False
        _finish(task, step)
        return True

    def _is_changed(self, plan: StepPlan, step: dict[str, Any]) -> bool:
        """Whether inputs are others than the hash can tell."""
        return any(
            staged.mode is StageMode.INPLACE
            or (staged.url is not None and self._is_newer(staged.url, step["created"]))
            for staged in plan.staged
        )

    def _is_newer(self, url: str, when: float) -> bool:
        """Whether a local file changed since; one of this run, whether the step that made it ran anew."""
        if not url.startswith("file:"):
            return False
        path = url_path(url)
        if not path.is_relative_to(self._folder.root):
            return _changed_since(Path(os.path.realpath(path)), when)
        parts = path.relative_to(self._folder.root).parts
        return path.is_dir() and parts[0] == "tasks" and parts[1] in self._fresh

    def discard(self) -> None:
        """Remove what was not taken over."""
        shutil.rmtree(self._taken, ignore_errors=True)


def _changed_since(path: Path, when: float) -> bool:
    try:
        if path.lstat().st_mtime > when:
            return True
        is_folder = path.is_dir() and not path.is_symlink()
        return is_folder and any(_changed_since(Path(entry), when) for entry in os.scandir(path))
    except OSError:
        return True


def _finish(task: TaskRow, step: dict[str, Any]) -> None:
    words = f"taken over from run {step['run_id']}"
    where = f", where it ran on {step['node']}" if step["node"] else ""
    task.state, task.outcome, task.exit_code = State.COMPLETE, step["outcome"], step["exit_code"]
    task.stdout, task.stderr, task.node = step["stdout"], step["stderr"], step["node"]
    task.placement = {
        "node": step["node"],
        "reason": words + where,
        "taken_from": {"run_id": step["run_id"], "task_id": step["task_id"]},
    }
    task.system_logs = [words]
    if (step.get("placement") or {}).get("without_image"):
        task.placement["without_image"] = step["placement"]["without_image"]
        task.system_logs.append(step["placement"]["without_image"])
    task.start_time = task.end_time = time.time()
