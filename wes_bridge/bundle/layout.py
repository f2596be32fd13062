"""What uploaded files are called: relative names that keep relative references true.

Documents, and the files they refer to, keep their layout below their common folder. Files from elsewhere
(inputs, absolute references) go below ``inputs``, one numbered folder for each folder they came from, so
that siblings stay siblings and nothing of this machine's paths is told.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath


class Layout:
    """Names for paths.

    Args:
        anchors: absolute, normalised paths whose layout must be kept.
    """

    def __init__(self, anchors: Iterable[Path]) -> None:
        folders = [os.fspath(path.parent) for path in anchors]
        self.root = Path(os.path.commonpath(folders)) if folders else None
        self._folders: dict[Path, str] = {}
        self._trees: dict[Path, str] = {}
        self._outside = "inputs"
        while self.root is not None and (self.root / self._outside).exists():
            self._outside += "_"

    def keep(self, folder: Path) -> None:
        """Name what is in ``folder`` below the folder's own name, whatever folder it is in itself."""
        self._trees[folder] = self.name(folder)

    def name(self, path: Path) -> str:
        """The relative name of a file or folder, the same each time."""
        for above in (path, *path.parents):
            if above in self._trees:
                return PurePosixPath(self._trees[above], path.relative_to(above).as_posix()).as_posix()
        if self.root is not None and path.is_relative_to(self.root) and path != self.root:
            return path.relative_to(self.root).as_posix()
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = f"{self._outside}/{len(self._folders) + 1}"
        return f"{self._folders[folder]}/{path.name}"
