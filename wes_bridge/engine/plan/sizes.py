"""How large local Directories are that steps read: looked at once each, and not for ever."""

from __future__ import annotations

import os
from dataclasses import replace

from wes_bridge.data.workspace import url_path
from wes_bridge.model.step_plan import StagedFile, StepPlan

MOST_ENTRIES = 100_000
"""Files and folders that are looked at in one Directory; of a larger one the size stays unknown."""


class Sizes:
    """Fills in sizes; the plan's own files have been found to be readable when it was made."""

    def __init__(self) -> None:
        self._known: dict[str, int | None] = {}

    def fill(self, plan: StepPlan) -> StepPlan:
        """The plan with the sizes of its local Directories."""
        if all(item.size is not None or not item.directory or not item.url for item in plan.staged):
            return plan
        return replace(plan, staged=[self._filled(item) for item in plan.staged])

    def _filled(self, item: StagedFile) -> StagedFile:
        if item.size is not None or not item.directory or not (item.url or "").startswith("file://"):
            return item
        url = item.url or ""
        if url not in self._known:
            self._known[url] = _directory_size(url)
        return replace(item, size=self._known[url])


def _directory_size(url: str) -> int | None:
    """Bytes of all files below; symbolic links are not followed. None: too many, or not readable."""
    total = seen = 0
    try:
        folders = [os.fspath(url_path(url))]
        while folders:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MOST_ENTRIES:
                        return None
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    except (OSError, ValueError):
        return None
    return total
