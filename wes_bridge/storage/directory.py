"""A folder of this machine as a store. No link in it is followed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from uuid import uuid4

from wes_bridge.data.beneath import (
    folder_beneath,
    folders_below,
    open_beneath,
    opened,
    parent_beneath,
    regular_file,
    top_of,
)
from wes_bridge.data.plain_files import chunks_of
from wes_bridge.storage.base import ALGORITHM, MissingError, Stat, Stored

_CHUNK = 512 * 1024
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN = ".wb-"
"""What names of our own begin with."""


class DirectoryStorage:
    """Files below a folder.

    Args:
        root: the folder; made if missing. When it cannot be made, each use of it says why.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        with contextlib.suppress(OSError):
            root.mkdir(parents=True, exist_ok=True)

    def stat(self, name: str) -> Stat:
        """See the protocol."""
        with opened(self._open(name)) as file:
            return _stat(name, os.fstat(file))

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See the protocol."""
        with opened(self._open(name)) as file:
            at, last = start, os.fstat(file).st_size if end is None else end
            while at < last and (piece := os.pread(file, min(_CHUNK, last - at), at)):
                yield piece
                at += len(piece)

    def files(self, folder: str) -> Iterator[Stat]:
        """See the protocol."""
        with opened(top_of(self._root)) as top:
            try:
                found = folder_beneath(top, folder)
            except FileNotFoundError:
                return
            with opened(found):
                for here, relative, entries in folders_below(found):
                    before = "/".join(part for part in (folder, relative) if part)
                    for entry in entries:
                        status = os.lstat(entry.name, dir_fd=here)
                        if stat.S_ISREG(status.st_mode) and not entry.name.startswith(_OWN):
                            yield _stat(f"{before}/{entry.name}", status)

    def entries(self, folder: str) -> tuple[list[str], list[Stat]]:
        """See the protocol."""
        folders, files = [], []
        try:
            with opened(top_of(self._root)) as top, opened(open_beneath(top, folder, os.O_DIRECTORY)) as here:
                for name in os.listdir(here):  # noqa: PTH208 - a descriptor
                    status = os.lstat(name, dir_fd=here)
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(name)
                    elif stat.S_ISREG(status.st_mode):
                        files.append(_stat(f"{folder}/{name}", status))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise MissingError(folder) from error
        return sorted(folders), sorted(files, key=lambda one: one.name)

    def put(self, name: str, file: int) -> Stored:
        """See the protocol."""
        with opened(top_of(self._root)) as top:
            return _put(top, name, file)

    def publish(self, folder: str, files: Iterable[tuple[str, int]]) -> list[Stored]:
        """See the protocol: it is renamed into place."""
        made, old = f"{_OWN}{uuid4().hex}", f"{_OWN}{uuid4().hex}"
        found = []
        with opened(top_of(self._root)) as top:
            try:
                os.mkdir(made, dir_fd=top)
                with opened(folder_beneath(top, made)) as draft:
                    for name, file in files:
                        with opened(file):
                            one = _put(draft, name, file)
                        found.append(Stored(f"{folder}/{name}", one.size, one.checksum))
                there, last = parent_beneath(top, folder, make=True)
                with opened(there):
                    with contextlib.suppress(FileNotFoundError):
                        os.rename(last, old, src_dir_fd=there, dst_dir_fd=top)
                    os.rename(made, last, src_dir_fd=top, dst_dir_fd=there)
            finally:
                for name in (made, old):
                    shutil.rmtree(name, ignore_errors=True, dir_fd=top)
        return found

    def is_published(self, folder: str) -> bool:
        """See the protocol."""
        with opened(top_of(self._root)) as top:
            try:
                os.close(folder_beneath(top, folder))
            except OSError:
                return False
            return True

    def delete(self, folder: str) -> None:
        """See the protocol."""
        with opened(top_of(self._root)) as top, contextlib.suppress(FileNotFoundError):
            there, name = parent_beneath(top, folder)
            with opened(there):
                shutil.rmtree(name, dir_fd=there)

    def signed_url(self, name: str, method: str, seconds: int) -> str | None:
        """None: a folder has no URLs."""
        return None

    def _open(self, name: str) -> int:
        with opened(top_of(self._root)) as top:
            file = regular_file(top, name)
        if file is None:
            raise MissingError(name)
        return file


def _put(top: int, name: str, file: int) -> Stored:
    folder, last = parent_beneath(top, name, make=True)
    digest, size = hashlib.new(ALGORITHM, usedforsecurity=False), 0
    new = f"{_OWN}{uuid4().hex}"
    with opened(folder):
        try:
            mode = 0o644 | (os.fstat(file).st_mode & 0o111)
            with os.fdopen(os.open(new, _NEW, mode, dir_fd=folder), "wb") as out:
                for piece in chunks_of(file):
                    out.write(piece)
                    digest.update(piece)
                    size += len(piece)
            os.rename(new, last, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(new, dir_fd=folder)
            raise
    return Stored(name, size, f"{ALGORITHM}${digest.hexdigest()}")


def _stat(name: str, status: os.stat_result) -> Stat:
    version = f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    return Stat(name, status.st_size, version, status.st_mtime_ns, bool(status.st_mode & 0o100))
