"""An output before it is brought away: its links are made good for when the session's folder has gone.

Something may still change the output: a command of another session that was handed a descriptor of it. So
all is read, written and removed in folders that are held open; paths are only compared, and written into
links. It must not know where outputs go.
"""

from __future__ import annotations

import os
from pathlib import Path

from wes_bridge.data.beneath import folders_below, open_beneath, opened, top_of
from wes_bridge.data.copying import drop_rights
from wes_bridge.data.swapping import replace_by_copy
from wes_bridge.node.layout import INPUTS
from wes_bridge.node.staging.plan import Kind, Tree

OF_THE_IMAGE = "/nonexistent/file-of-the-container-image"
"""Where links lead that led to a file of a container's own."""


def sources_of(tree: Tree) -> list[Path]:
    """What the session was given to see of this machine, without links."""
    return [entry.source.resolve() for entry in tree.entries.values() if entry.kind is Kind.LINK]


class Settling:
    """One output that is a folder.

    Args:
        tree: the session's file system.
        fs: descriptor of the folder of that.
        output: descriptor of the output, to read.
        top: its path.
    """

    def __init__(self, tree: Tree, fs: int, output: int, top: Path) -> None:
        self._tree = tree
        self._fs = fs
        self._output = output
        self._top = top

    def settle(self) -> None:
        """Make all links good for when the output has moved, and let no program keep the rights of the
        node's user.

        Raises:
            OSError: something was changed meanwhile, or cannot be copied.
        """
        for folder, relative, entries in folders_below(self._output):
            for entry in entries:
                if entry.is_symlink():
                    self._settle(folder, self._top / relative, entry.name)
                else:
                    drop_rights(entry.name, folder)

    def _settle(self, folder: int, path: Path, name: str) -> None:
        """Make one link, in an open folder, good for when the rest of the session is gone."""
        raw = os.readlink(name, dir_fd=folder)
        there = Path(os.path.normpath(path / self._here(raw)))
        fs = Path(self._tree.paths.real)
        if not there.is_relative_to(fs):
            if there.is_relative_to(fs.parent / INPUTS):
                self._copy_input(folder, name, Path(os.path.realpath(there)), fs)
            elif there.is_relative_to(fs.parent.parent):
                os.unlink(name, dir_fd=folder)  # into another session
            return
        if there.is_relative_to(self._top):
            wanted: Path | None = Path(os.path.relpath(there, path))
        else:
            wanted = self._outside(there, fs)
        if wanted is None:
            self._copy(folder, name, there, fs)
        elif str(wanted) != raw:
            os.unlink(name, dir_fd=folder)
            os.symlink(wanted, name, dir_fd=folder)

    def _copy(self, folder: int, name: str, there: Path, fs: Path) -> None:
        """Put a copy of something of the session in the place of a link to it."""
        real, real_fs = Path(os.path.realpath(there)), Path(os.path.realpath(fs))
        given = Path(os.path.realpath(self._tree.resolve(self._tree.paths.session_path(there))))
        for place in (real, given):
            if place.is_relative_to(real_fs.parent / INPUTS):
                self._copy_input(folder, name, place, fs)
                return
        if not real.is_relative_to(real_fs):
            return  # by way of a link that the command made, to somewhere else on this machine
        if self._top.is_relative_to(fs / real.relative_to(real_fs)):
            return  # the output is in it: there would be no end
        try:
            found = open_beneath(self._fs, str(real.relative_to(real_fs)))
        except FileNotFoundError:
            return
        with opened(found) as thing:
            replace_by_copy(thing, folder, name, self._fs)

    def _copy_input(self, folder: int, name: str, real: Path, fs: Path) -> None:
        """Put a copy of what was fetched for the session in the place of a link to it."""
        inputs = Path(os.path.realpath(fs.parent)) / INPUTS
        if real == inputs or not real.is_relative_to(inputs):
            return
        try:
            with opened(top_of(inputs)) as top:
                found = open_beneath(top, str(real.relative_to(inputs)))
        except FileNotFoundError:
            return
        with opened(found) as thing:
            replace_by_copy(thing, folder, name, self._fs)

    def break_foreign_links(self) -> None:
        """Let no link of a container's output lead to files of this machine: it meant those of its image,
        which are gone with it. It then leads nowhere, by a name that says why.

        Raises:
            OSError: something was changed meanwhile.
        """
        sources, real_top = sources_of(self._tree), self._top.resolve()
        for folder, relative, entries in folders_below(self._output):
            for entry in entries:
                if not entry.is_symlink():
                    continue
                raw = os.readlink(entry.name, dir_fd=folder)
                there = Path(os.path.realpath(self._top / relative / raw))
                inside = not os.path.isabs(raw) and there.is_relative_to(real_top)  # noqa: PTH117 - a text
                if inside or (raw.startswith("/") and any(map(there.is_relative_to, sources))):
                    continue
                os.unlink(entry.name, dir_fd=folder)
                os.symlink(f"{OF_THE_IMAGE}/{raw.lstrip('/')}", entry.name, dir_fd=folder)

    def _here(self, target: str) -> Path:
        """Where on this machine a link of the session leads; one of a container may name its paths outside
        the root, such as an output directory that the image demands."""
        paths, path = self._tree.paths, os.path.normpath(target)
        if path.startswith("/") and not paths.is_rooted(path) and self._tree.has(path):
            return paths.host(path)
        return Path(paths.inward(target))

    def _outside(self, there: Path, fs: Path) -> Path | None:
        """Where a staged thing really is, when that is not in the session's folder."""
        source = self._tree.resolve(self._tree.paths.session_path(there))
        if not source.exists():
            return None
        real = source.resolve()
        return None if real.is_relative_to(os.path.realpath(fs.parent.parent)) else real
