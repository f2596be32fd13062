"""Kept results that are in the store, too (``outputs_store``): a worker with another disk finds them there.

A result is one object, a tar archive: an object store knows no links, modes and empty folders. The workspace
has what this machine has kept or taken. Where the store does not answer, a result is not found, and the step
is run.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, cast

from wes_bridge.data.beneath import folder_beneath, opened, parent_beneath, top_of
from wes_bridge.engine.reuse import Kept, ResultFolder
from wes_bridge.model.step_plan import StepPlan
from wes_bridge.storage.base import MissingError, Storage

_logger = logging.getLogger(__name__)
_FOLDER, _NAME = "reuse", "result.tar"
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1024 * 1024


class StoredResults(ResultFolder):
    """The results.

    Args:
        workspace: folder of all runs.
        storage: where they are, too.
    """

    def __init__(self, workspace: Path, storage: Storage) -> None:
        super().__init__(workspace)
        self._storage = storage

    def keep(self, key: str, kept: Kept, out: Path, streams: dict[str, Path]) -> bool:
        """See the base class; one that the store does not take is kept here only."""
        is_new = super().keep(key, kept, out, streams)
        if is_new:
            try:
                self._send(key)
            except OSError as error:
                _logger.warning("a result is kept here only, and not in outputs_store: %s", error)
        return is_new

    def take(self, key: str, plan: StepPlan) -> Kept | None:
        """See the base class."""
        if not self._place(key).is_dir():
            try:
                self._fetch(key)
            except MissingError:
                return None
            except (OSError, tarfile.TarError, EOFError) as error:
                _logger.warning("a kept result cannot be had from outputs_store: %s", error)
                return None
        return super().take(key, plan)

    def drop(self, keys: Iterable[str]) -> None:
        """See the base class."""
        keys = list(keys)
        super().drop(keys)
        for key in keys:
            try:
                self._storage.delete(f"{_FOLDER}/{key}")
            except OSError as error:
                _logger.warning("a result may be left in outputs_store: %s", error)

    def sweep(self, known: set[str], before: float) -> list[str]:
        """See the base class; what only the store has is not missing."""
        missing = super().sweep(known, before)
        if not missing:
            return []
        try:
            stored = {one.name.split("/")[1] for one in self._storage.files(_FOLDER)}
        except OSError as error:
            _logger.warning("outputs_store does not say which results it has: %s", error)
            return []
        return [key for key in missing if key not in stored]

    def _send(self, key: str) -> None:
        packed = self._new()
        try:
            with packed.open("xb") as file:
                _pack(self._place(key), file)
            with opened(os.open(packed, os.O_RDONLY | os.O_CLOEXEC)) as made:
                self._storage.put(f"{_FOLDER}/{key}/{_NAME}", made)
        finally:
            packed.unlink(missing_ok=True)

    def _fetch(self, key: str) -> None:
        new, place = self._new(), self._place(key)
        pieces = self._storage.read(f"{_FOLDER}/{key}/{_NAME}")
        try:
            new.mkdir()
            with opened(top_of(new)) as top, tarfile.open(fileobj=_file(pieces), mode="r|") as archive:
                for member in archive:
                    _unpack(archive, member, top)
            place.parent.mkdir(exist_ok=True)
            new.rename(place)
        except OSError:
            if not place.is_dir():  # else another thread was quicker
                raise
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _pack(folder: Path, file: IO[bytes]) -> None:
    with tarfile.open(fileobj=file, mode="w|") as archive:

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
            # of a file with two names, the second would only mention the first
            archive.inodes.clear()  # type: ignore[attr-defined]
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            return member if member.isreg() or member.isdir() or member.issym() else None

        archive.add(folder, arcname="", filter=plain)


def _unpack(archive: tarfile.TarFile, member: tarfile.TarInfo, top: int) -> None:
    """One thing of an archive; no link is followed on the way, and none is made but symbolic ones.

    Raises:
        OSError: it would lead elsewhere, or there is no room.
    """
    if member.name in ("", "."):
        return
    parts = PurePosixPath(member.name).parts
    if member.name.startswith("/") or ".." in parts:
        raise OSError(f"a result has the name {member.name[:100]!r}, which leads elsewhere")
    if member.isdir():
        os.close(folder_beneath(top, member.name, make=True, mode=0o755))
        return
    folder, name = parent_beneath(top, member.name, make=True)
    with opened(folder):
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=folder)
            return
        content = archive.extractfile(member) if member.isreg() else None
        if content is None:
            raise OSError(f"a result has something that is no file: {member.name[:100]!r}")
        with os.fdopen(os.open(name, _NEW, stat.S_IMODE(member.mode) | 0o600, dir_fd=folder), "wb") as out:
            shutil.copyfileobj(content, out, _CHUNK)


class _Reader:
    """What comes in pieces, as :mod:`tarfile` reads a stream."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def read(self, size: int) -> bytes:
        """As many bytes, fewer at the end."""
        found = bytearray(self._left)
        while len(found) < size and (piece := next(self._pieces, None)) is not None:
            found += piece
        self._left = bytes(found[size:])
        return bytes(found[:size])


def _file(pieces: Iterator[bytes]) -> IO[bytes]:
    return cast("IO[bytes]", _Reader(pieces))


def results_in(workspace: Path, storage: Storage | None) -> ResultFolder:
    """The kept results of a service.

    Args:
        workspace: folder of all runs.
        storage: ``outputs_store``; None: there is none.
    """
    return ResultFolder(workspace) if storage is None else StoredResults(workspace, storage)
