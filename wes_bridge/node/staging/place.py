"""Making a planned tree: directories, copies, downloads, and links where the platform works with links."""

from __future__ import annotations

import os
import shutil
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
    made: set[Path] = set()
    downloads: list[tuple[Entry, Path]] = []
    for entry in tree.ordered():
        if stop.is_set():
            raise StagingError(entry.location, entry.path, "stopped")
        if entry.kind is Kind.LINK and not links:
            continue
        target = tree.paths.host(entry.path)
        try:
            _make_folder(target.parent, made)
            if entry.kind is Kind.FETCH and scheme_of(entry.location) != "data":
                downloads.append((entry, target))
            else:
                _make(tree, entry, target, schemes, links, made, stop)
        except (OSError, ValueError, shutil.Error) as error:
            raise StagingError(entry.location or str(entry.source), entry.path, _reason(error)) from error
    _download(downloads, schemes, stop)


def _make(
    tree: Tree, entry: Entry, target: Path, schemes: Schemes, links: bool, made: set[Path], stop: Event
) -> None:
    if entry.kind in (Kind.DIRECTORY, Kind.OUTPUT):
        if target.is_symlink():
            target.unlink()
        _make_folder(target, made)
        return
    _clear(target, keep_directory=entry.kind is Kind.COPY and entry.source.is_dir())
    if entry.kind is Kind.LINK:
        target.symlink_to(entry.source)
    elif entry.kind is Kind.COPY:
        copy(entry.source, target)
    else:
        _fetch(entry, target, schemes, stop)
        if links:
            _rewrite(tree, target)
        _set_mode(entry, target)


def _download(downloads: list[tuple[Entry, Path]], schemes: Schemes, stop: Event) -> None:
    def one(item: tuple[Entry, Path]) -> None:
        entry, target = item
        try:
            _clear(target)
            _fetch(entry, target, schemes, stop)
            _set_mode(entry, target)
        except (OSError, ValueError) as error:
            raise StagingError(entry.location, entry.path, _reason(error)) from error

    if len(downloads) < 2:
        for item in downloads:
            one(item)
        return
    with ThreadPoolExecutor(PARALLEL, "wb-download") as pool:
        list(pool.map(one, downloads))


def _fetch(entry: Entry, target: Path, schemes: Schemes, stop: Event) -> None:
    scheme = schemes.get(entry.location)
    if scheme is None:
        raise ValueError("no way to fetch this kind of URL")
    scheme.fetch(entry.location, target, stop)


def _rewrite(tree: Tree, target: Path) -> None:
    content = target.read_bytes()
    changed = tree.paths.inward_bytes(content)
    if changed is not content:
        target.write_bytes(changed)


def _set_mode(entry: Entry, target: Path) -> None:
    if not entry.writable:
        target.chmod(0o444)


def _make_folder(folder: Path, made: set[Path]) -> None:
    if folder not in made:
        folder.mkdir(parents=True, exist_ok=True)
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
