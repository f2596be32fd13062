"""Which files a workflow's own documents may take along when it is uploaded.

A workflow is somebody else's: a default of ``../.ssh/id_rsa``, or a link to it, must not leave this machine
because somebody ran it. What the user names (a job file, the command line) is taken from wherever it is; what
the documents name must lie in the workflow's project: its folder, or the git work tree that this is in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wes_bridge.bundle.shape import PROCESSES


class Roots:
    """The folders that a workflow's documents may name files of.

    Args:
        main: the workflow's document; absolute.
        more: folders (or files) that the user adds.
    """

    def __init__(self, main: Path, more: Iterable[str | Path] = ()) -> None:
        self.project = project_of(main)
        self._roots = (self.project, *(Path(os.path.realpath(root)) for root in more))

    def hold(self, path: Path) -> bool:
        """Whether a file or folder, links followed, is in one of them."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in self._roots)


def project_of(main: Path) -> Path:
    """The project that a document belongs to: its git work tree, else its folder.

    A work tree that holds the user's home is none: some people keep their settings in one.
    """
    folder = Path(os.path.realpath(main.parent))
    home = Path(os.path.realpath(Path.home()))
    for parent in (folder, *folder.parents):
        if home.is_relative_to(parent):
            return folder
        if (parent / ".git").exists():
            return parent
    return folder


def is_cwl(data: object) -> bool:
    """Whether a document is one of CWL: a process, a list of them, or types; anything else may be private."""
    if isinstance(data, list):
        return bool(data) and all(is_cwl(item) for item in data)
    if not isinstance(data, dict):
        return False
    if data.get("class") in PROCESSES or isinstance(data.get("$graph"), list):
        return True
    return data.get("type") in ("record", "enum", "array") and any(
        name in data for name in ("fields", "symbols", "items")
    )
