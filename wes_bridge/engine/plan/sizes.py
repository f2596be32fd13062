"""How large the local inputs are that nobody has measured yet: looked at once each, and not for ever."""

from __future__ import annotations

import os
from dataclasses import replace

from wes_bridge.cwl.files.fs_access import RunFsAccess
from wes_bridge.cwl.vocabulary import ValidationException
from wes_bridge.data.workspace import url_path
from wes_bridge.model.step_plan import StagedFile, StepPlan

MOST_ENTRIES = 100_000
"""Files and folders that are looked at in one Directory; of a larger one the size stays unknown."""


class Sizes:
    """Fills in sizes.

    Args:
        files: what may be looked at.
    """

    def __init__(self, files: RunFsAccess) -> None:
        self._files = files
        self._known: dict[str, int | None] = {}

    def fill(self, plan: StepPlan) -> StepPlan:
        """The plan with the sizes of its local files and Directories."""
        if all(item.size is not None or not item.url for item in plan.staged):
            return plan
        return replace(plan, staged=[self._filled(item) for item in plan.staged])

    def _filled(self, item: StagedFile) -> StagedFile:
        url = item.url or ""
        if item.size is not None or not url.startswith("file://"):
            return item
        if url not in self._known:
            self._known[url] = self._size(url, item.directory)
        return replace(item, size=self._known[url])

    def _size(self, url: str, directory: bool) -> int | None:
        try:
            self._files.policy.files.check(url_path(url))
            return _directory_size(url) if directory else self._files.size(url)
        except (OSError, ValueError, ValidationException):
            return None


def _directory_size(url: str) -> int | None:
    """Bytes of all files below; symbolic links are not followed. None: too many."""
    total = seen = 0
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
    return total
