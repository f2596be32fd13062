"""Stand-ins: files of the workspace whose bytes are still at the node that made them.

A stand-in has the name, the size and the permissions of its file, and no bytes: globs, listings, links and
sizes are answered by the file system as for any other file. It is told by its time of change and by having no
blocks; whoever opens a file to read it asks :func:`is_stand_in`, so that no hole is ever taken for content.
It must not know where the bytes are.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from wes_bridge.model.manifest import EntryKind, ManifestEntry

_WHEN = 1
"""Nanoseconds since the epoch: the time of change that no other file has."""


class Elsewhere(Protocol):
    """What knows where the bytes are. Its functions block, and are not for the event loop."""

    def bring(self, real: str) -> None:
        """See that the bytes of a file, or of all in a folder, are in the workspace.

        Args:
            real: its path, links followed.

        Raises:
            OSError: they cannot be had.
        """

    def checksum(self, real: str) -> str | None:
        """The SHA-1 of a file, as CWL writes it; None: not known."""

    def start(self, real: str, size: int) -> bytes:
        """The first bytes of a file, at most ``size``.

        Raises:
            OSError: they cannot be had.
        """


class ElsewhereError(OSError):
    """A file's bytes are not in the workspace, but at the node that made it."""

    def __init__(self, name: str) -> None:
        text = "its bytes are still at the node that made it, and come when a step or a user needs them"
        super().__init__(errno.EREMOTE, text, name)


def is_stand_in(status: os.stat_result) -> bool:
    """Whether a file is one, by what ``stat`` says of it."""
    return (
        status.st_mtime_ns == _WHEN
        and status.st_blocks == 0
        and status.st_size > 0
        and stat.S_ISREG(status.st_mode)
    )


def put_stand_in(path: Path, entry: ManifestEntry) -> None:
    """Make the stand-in of a file; an empty file is that file.

    Raises:
        OSError: it cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        os.ftruncate(file, entry.size or 0)
        os.fchmod(file, (0o644 if entry.mode is None else entry.mode) | 0o600)
        if entry.size:
            os.utime(file, ns=(_WHEN, _WHEN))
    finally:
        os.close(file)


def stands_in(folder: Path, entry: ManifestEntry) -> bool:
    """Whether a file of a manifest has only a stand-in in a folder."""
    if entry.kind is not EntryKind.FILE or not entry.size:
        return False
    try:
        return is_stand_in(os.lstat(folder / entry.path))
    except OSError:  # it was removed: nobody wants it
        return False


def stand_ins_below(path: str) -> Iterator[str]:
    """The paths of all stand-ins at or below a real path; no link is followed."""
    try:
        status = os.lstat(path)
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as found:
            names = [entry.path for entry in found]
        for name in names:
            yield from stand_ins_below(name)
    elif is_stand_in(status):
        yield path
