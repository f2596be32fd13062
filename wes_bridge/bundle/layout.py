"""What uploaded files are called: relative names that keep relative references true.

Documents, and the files they refer to, keep their layout below their common folder. Files from elsewhere
(inputs, absolute references) go below ``inputs``, one numbered folder for each folder they came from, so
that siblings stay siblings and nothing of this machine's paths is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


class Layout:
    """Names for paths.

    Args:
        anchors: absolute, normalised paths whose layout must be kept.
    """

    def __init__(self, anchors: Iterable[Path]) -> None:
        anchors = list(anchors)
        folders = [os.fspath(path.parent) for path in anchors]
        self.root = Path(os.path.commonpath(folders)) if folders else None
        if self.root is not None and any(_like_drive(path, self.root) for path in anchors):
            self.root = self.root.parent
        self._folders: dict[Path, str] = {}
        self._trees: dict[Path, str] = {}
        self._names: dict[Path, str] = {}
        self._outside = "inputs"
        while self.root is not None and (self.root / self._outside).exists():
            self._outside += "_"

    def tree(self, folder: Path) -> str:
        """The relative name of a folder whose files, named after this, are to be found below it."""
        name = self.name(folder)
        if self._inside(folder) is None:
            self._trees.setdefault(folder, name)
        return name

    def name(self, path: Path) -> str:
        """The relative name of a file or folder, the same each time."""
        if path not in self._names:
            self._names[path] = self._inside(path) or self._new_name(path)
        return self._names[path]

    def _inside(self, path: Path) -> str | None:
        root = self.root
        if root is None or path == root or not path.is_relative_to(root) or _like_drive(path, root):
            return None
        return path.relative_to(root).as_posix()

    def _new_name(self, path: Path) -> str:
        for parent in path.parents if self._trees else ():
            if parent in self._trees:
                return f"{self._trees[parent]}/{path.relative_to(parent).as_posix()}"
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = f"{self._outside}/{len(self._folders) + 1}"
        return f"{self._folders[folder]}/{path.name}"


def _like_drive(path: Path, root: Path) -> bool:
    """Whether the relative name would begin like ``C:``, which servers take for absolute."""
    name = path.relative_to(root).as_posix()
    return name[1:2] == ":" and name[0].isalpha()
