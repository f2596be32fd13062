"""Making a planned tree: directories, copies, downloads, and links where the platform works with links."""

from __future__ import annotations

import os
import shutil
import stat
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from wes_bridge.data.beneath import folder_beneath, top_of
from wes_bridge.node.errors import StagingError
from wes_bridge.node.staging.file import copy_into
from wes_bridge.node.staging.inputs import Inputs
from wes_bridge.node.staging.literal import literal_bytes
from wes_bridge.node.staging.plan import Entry, Kind, Tree
from wes_bridge.node.staging.schemes import Schemes, scheme_of

PARALLEL = 4
"""Downloads of one session at once."""
_OPEN = 32
"""Folders that are kept open while things are placed in them."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def place(tree: Tree, schemes: Schemes, inputs: Inputs, links: bool, stop: Event) -> None:
    """Make everything of ``tree`` that is not there yet. Blocks.

    Args:
        tree: the plan; what is fetched and then linked becomes a LINK in it.
        schemes: how to fetch.
        inputs: where what is fetched goes.
        links: whether LINK entries become symbolic links, and paths in literals are rewritten; otherwise
            the platform mounts them.
        stop: set to give up.

    Raises:
        StagingError: names the resource, its path and the reason.
    """
    _Placing(tree, schemes, inputs, links, stop).place()


class _Placing:
    def __init__(self, tree: Tree, schemes: Schemes, inputs: Inputs, links: bool, stop: Event) -> None:
        self._tree = tree
        self._schemes = schemes
        self._inputs = inputs
        self._links = links
        self._stop = stop
        self._folders: OrderedDict[str, int] = OrderedDict()

    def place(self) -> None:
        Path(self._tree.paths.real).mkdir(parents=True, exist_ok=True)
        self._top = top_of(self._tree.paths.real)
        try:
            downloads = self._make_all()
        finally:
            for folder in (self._top, *self._folders.values()):
                os.close(folder)
        self._download(downloads)

    def _make_all(self) -> list[tuple[Entry, Path]]:
        downloads: list[tuple[Entry, Path]] = []
        for entry in self._tree.ordered():
            if entry.kind is Kind.LINK and not self._links:
                continue
            target = self._tree.paths.host(entry.path)
            if entry.kind is Kind.FETCH and scheme_of(entry.location) != "data":
                downloads.append((entry, target))
            self._named(entry, target, self._make)
        return downloads

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
        folder, name = self._folder(entry.path), target.name
        if target == Path(self._tree.paths.real):
            return
        if entry.kind in (Kind.DIRECTORY, Kind.OUTPUT):
            _make_real_folder(folder, name)
            return
        _clear(folder, name, keep_directory=entry.kind is Kind.COPY and entry.source.is_dir())
        if entry.kind is Kind.LINK:
            os.symlink(entry.source, name, dir_fd=folder)
        elif entry.kind is Kind.SAME:
            os.symlink(entry.source.readlink(), name, dir_fd=folder)
        elif entry.kind is Kind.COPY:
            copy_into(entry.source, folder, name)
        elif scheme_of(entry.location) == "data":
            self._write(entry, folder, name)

    def _folder(self, path: str) -> int:
        """A descriptor of the folder that a session path is in; no link is followed to it, for the content of
        a copied Directory, with its links, may be on the way."""
        relative = self._tree.paths.below(path).rpartition("/")[0]
        folder = self._folders.get(relative)
        if folder is None:
            folder = folder_beneath(self._top, relative, make=True)
            self._folders[relative] = folder
            if len(self._folders) > _OPEN:
                os.close(self._folders.popitem(last=False)[1])
        return folder

    def _write(self, entry: Entry, folder: int, name: str) -> None:
        content = literal_bytes(entry.location)
        if self._links:
            content = self._tree.paths.inward_bytes(content)
        with os.fdopen(os.open(name, _NEW, 0o666, dir_fd=folder), "wb") as file:
            file.write(content)
            if not entry.writable:
                os.fchmod(file.fileno(), 0o444)

    def _fetch(self, entry: Entry, _target: Path) -> None:
        self._inputs.bring(entry, self._tree, self._schemes, links=self._links, stop=self._stop)

    def _download(self, downloads: list[tuple[Entry, Path]]) -> None:
        if len(downloads) < 2:
            for entry, target in downloads:
                self._named(entry, target, self._fetch)
            return
        with ThreadPoolExecutor(PARALLEL, "wb-download") as pool:
            list(pool.map(lambda item: self._named(item[0], item[1], self._fetch), downloads))


def _make_real_folder(folder: int, name: str) -> None:
    """Also in place of a link that an earlier, less specific volume put there."""
    try:
        os.mkdir(name, dir_fd=folder)
    except FileExistsError:
        if stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
            os.unlink(name, dir_fd=folder)
            os.mkdir(name, dir_fd=folder)


def _clear(folder: int, name: str, keep_directory: bool = False) -> None:
    """Take away what is there: an earlier, less specific volume put it there."""
    try:
        status = os.lstat(name, dir_fd=folder)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        os.unlink(name, dir_fd=folder)
    elif not keep_directory:
        shutil.rmtree(name, dir_fd=folder)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
