"""Making a planned tree: directories, copies, downloads, and links where the platform works with links."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from wes_bridge.node.errors import StagingError
from wes_bridge.node.staging.file import copy
from wes_bridge.node.staging.plan import Entry, Kind, Tree
from wes_bridge.node.staging.schemes import Schemes, scheme_of

PARALLEL = 4
"""Downloads of one session at once."""


def place(tree: Tree, schemes: Schemes, links: bool, stop: Event) -> None:
    """Make everything of ``tree`` that is not there yet. Blocks.

    Args:
        tree: the plan.
        schemes: how to fetch.
        links: whether LINK entries become symbolic links, and paths in literals are rewritten; otherwise
            the platform mounts them.
        stop: set to give up.

    Raises:
        StagingError: names the resource, its path and the reason.
    """
    _Placing(tree, schemes, links, stop).place()


class _Placing:
    def __init__(self, tree: Tree, schemes: Schemes, links: bool, stop: Event) -> None:
        self._tree = tree
        self._schemes = schemes
        self._links = links
        self._stop = stop
        self._made: set[Path] = set()

    def place(self) -> None:
        downloads: list[tuple[Entry, Path]] = []
        for entry in self._tree.ordered():
            if entry.kind is Kind.LINK and not self._links:
                continue
            target = self._tree.paths.host(entry.path)
            if entry.kind is Kind.FETCH and scheme_of(entry.location) != "data":
                downloads.append((entry, target))
            self._named(entry, target, self._make)
        self._download(downloads)

    def _named(self, entry: Entry, target: Path, work: Callable[[Entry, Path], None]) -> None:
        """Do ``work``; what goes wrong says which resource it was."""
        location = entry.location or str(entry.source)
        if self._stop.is_set():
            raise StagingError(location, entry.path, "stopped")
        try:
            work(entry, target)
        except (OSError, ValueError, shutil.Error) as error:
            raise StagingError(location, entry.path, _reason(error)) from error

    def _make(self, entry: Entry, target: Path) -> None:
        _make_folder(target.parent, self._made)
        if entry.kind in (Kind.DIRECTORY, Kind.OUTPUT):
            _make_real_folder(target, self._made)
            return
        _clear(target, keep_directory=entry.kind is Kind.COPY and entry.source.is_dir())
        if entry.kind is Kind.LINK:
            target.symlink_to(entry.source)
        elif entry.kind is Kind.COPY:
            copy(entry.source, target)
        elif scheme_of(entry.location) == "data":
            self._fetch(entry, target)

    def _fetch(self, entry: Entry, target: Path) -> None:
        scheme = self._schemes.get(entry.location)
        if scheme is None:
            raise ValueError("no way to fetch this kind of URL")
        scheme.fetch(entry.location, target, self._stop)
        if self._links and scheme_of(entry.location) == "data":
            content = target.read_bytes()
            changed = self._tree.paths.inward_bytes(content)
            if changed is not content:
                target.write_bytes(changed)
        if not entry.writable:
            target.chmod(0o444 | (target.stat().st_mode & 0o111))

    def _download(self, downloads: list[tuple[Entry, Path]]) -> None:
        if len(downloads) < 2:
            for entry, target in downloads:
                self._named(entry, target, self._fetch)
            return
        with ThreadPoolExecutor(PARALLEL, "wb-download") as pool:
            list(pool.map(lambda item: self._named(item[0], item[1], self._fetch), downloads))


def _make_folder(folder: Path, made: set[Path]) -> None:
    if folder not in made:
        folder.mkdir(parents=True, exist_ok=True)
        made.add(folder)


def _make_real_folder(folder: Path, made: set[Path]) -> None:
    """The same, in place of a link that an earlier, less specific volume put there."""
    if folder in made:
        return
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_symlink():
            folder.unlink()
        folder.mkdir(exist_ok=True)
    made.add(folder)


def _clear(target: Path, keep_directory: bool = False) -> None:
    """Take away what is at ``target``: an earlier, less specific volume put it there."""
    if not os.path.lexists(target):
        return
    if target.is_dir() and not target.is_symlink():
        if not keep_directory:
            shutil.rmtree(target)
    else:
        target.unlink()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
