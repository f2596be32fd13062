"""What a run has done already: read when it is taken up again, so that nothing is run twice.

A step is known by its place in the workflow and a hash of what it does with which inputs; both are the same
in every walk of the run, whatever the timing. It must not write: the run does, before it acts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from wes_bridge.data.workspace import RunFolder, file_url, url_path
from wes_bridge.model.step_plan import StepOutcome, StepPlan
from wes_bridge.store.runs import TaskRow

_NOT_INPUTS = frozenset(
    {"output_url", "stdout_url", "stderr_url", "wish", "booking", "name", "temporary_codes"}
    | {"containers", "image_is_there", "left_out"}
)
_ROOT = "/wb-root"
_FOLDER = "file:///wb-run/"


class Journal:
    """The tasks of a run as an earlier worker left them.

    Looks at the files of all that is finished at once: not for the event loop.

    Args:
        rows: all of them, :func:`restored`.
    """

    def __init__(self, rows: Iterable[TaskRow] = ()) -> None:
        self._rows = {row.key: row for row in rows}
        finished = [row for row in self._rows.values() if row.outcome is not None]
        self._kept = {row.key for row in finished if is_still_there((row.outcome or {}).get("outputs"))}
        self.last_seq = max((row.seq for row in self._rows.values()), default=0)

    @property
    def is_left(self) -> bool:
        """Whether some of it was not asked for yet."""
        return bool(self._rows)

    def take(self, key: str) -> TaskRow | None:
        """The task of a step, given once; None when it was never begun."""
        return self._rows.pop(key, None)

    def recall(self, key: str, asked: str) -> dict[str, Any] | None:
        """The outputs of a step that did well when asked the same, and that are still there; given once."""
        row = self._rows.get(key)
        outcome = (row and row.outcome) or {}
        if key not in self._kept or outcome.get("status") != "success" or outcome.get("asked") != asked:
            return None
        self._rows.pop(key, None)
        outputs: dict[str, Any] = outcome["outputs"]
        return outputs

    def has_kept(self, key: str) -> bool:
        """Whether a step was finished and what it left is still there."""
        return key in self._kept

    def ran(self) -> list[str]:
        """Ids of the tasks that were run, not taken over."""
        return [row.task_id for row in self._rows.values() if not is_taken(row)]

    def without_images(self) -> list[TaskRow]:
        """Tasks not taken that ran without the image their tool hints at."""
        return [
            row for row in self._rows.values() if row.outcome and (row.placement or {}).get("without_image")
        ]

    def open_sessions(self) -> list[TaskRow]:
        """Tasks not taken whose sessions may still be running."""
        return [row for row in self._rows.values() if is_open(row)]


def restored(row: TaskRow, folder: RunFolder) -> TaskRow:
    """A task as it was read, with its files where they are now."""
    return replace(
        row,
        outcome=folder.outputs_now(row.outcome),
        stdout=row.stdout and folder.url_now(row.stdout),
        stderr=row.stderr and folder.url_now(row.stderr),
    )


def is_open(row: TaskRow) -> bool:
    """Whether a task's session may still be running."""
    return row.outcome is None and row.session_url is not None and not row.state.is_final


def is_taken(row: TaskRow) -> bool:
    """Whether a task was taken over, not run."""
    return bool(row.placement and row.placement.get("taken_from"))


def inputs_hash(plan: StepPlan, folder: Path) -> str:
    """A hash of what a step does: its command, environment, files, resources and image.

    Where its output goes and how its node is chosen do not count, nor does the session's own root, nor where
    the run's folder is: a rerun has another. Files count by place and, where it is known, by checksum.

    Args:
        plan: of the step.
        folder: of the run.
    """
    parts = {name: value for name, value in vars(plan).items() if name not in _NOT_INPUTS}
    parts["resources"] = vars(plan.resources)
    parts["staged"] = [
        (item.path, item.url, item.contents, item.directory, item.mode.value, item.checksum)
        for item in plan.staged
    ]
    text = json.dumps(parts, sort_keys=True).replace(plan.root, _ROOT)
    text = text.replace(file_url(folder) + "/", _FOLDER)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def outcome_record(
    outputs: dict[str, Any], status: str, outcome: StepOutcome | None = None, asked: str | None = None
) -> dict[str, Any]:
    """What is kept of how a step ended, as plain JSON types."""
    record: dict[str, Any] = {"outputs": outputs, "status": status}
    if asked is not None:
        record["asked"] = asked
    if outcome is not None and outcome.unsupported:
        record["unsupported"] = outcome.problem
    return record


def is_still_there(outputs: Any) -> bool:
    """Whether all files of an output object are where it says; those elsewhere are believed to be."""
    if isinstance(outputs, list):
        return all(is_still_there(item) for item in outputs)
    if not isinstance(outputs, dict):
        return True
    location = outputs.get("location")
    if (
        outputs.get("class") in ("File", "Directory")
        and isinstance(location, str)
        and location.startswith("file:")
        and not _exists(url_path(location))
    ):
        return False
    return all(is_still_there(value) for value in outputs.values() if isinstance(value, (dict, list)))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False
