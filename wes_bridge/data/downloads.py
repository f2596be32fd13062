"""Handing out a run's files: opening them safely, cutting ranges, listing folders.

Paths come from clients and the files from commands nobody trusts: every open follows links only inside the
run's folder and walks the rest without following any. It must not know HTTP beyond the text of a range.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from wes_bridge.data.stand_ins import is_stand_in
from wes_bridge.data.workspace import RunFolder, UnsafeNameError, stored_relative

SHOWN = ("attachments", "logs", "outputs", "tasks")
"""The parts of a run's folder that may be looked at."""

_MAX_DEPTH = 100
_RANGE = re.compile(r"^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$")


class NotThereError(Exception):
    """No such file or folder in the run, or none that may be shown."""


class StandInError(NotThereError):
    """The file's bytes are not in the workspace; ``path`` is its real path."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path


class RangeError(Exception):
    """The range begins behind the end; ``size`` is how long the file is now."""

    def __init__(self, size: int) -> None:
        super().__init__(f"the range begins at or behind the end: {size} bytes are there")
        self.size = size


@dataclass(frozen=True)
class Opened:
    """An open file and what it was when it was opened. The caller closes ``file``."""

    file: FileIO
    size: int
    mtime_ns: int
    inode: int
    is_executable: bool = False

    @property
    def etag(self) -> str:
        """A strong validator: it changes whenever the file grows or is written anew."""
        return f'"{self.inode:x}-{self.size:x}-{self.mtime_ns:x}"'


@dataclass(frozen=True)
class Entry:
    """One entry of a folder. ``size`` is in bytes, None for a folder."""

    name: str
    is_folder: bool
    size: int | None
    is_executable: bool = False


def locate(folder: RunFolder, name: str) -> Path:
    """The real path, links followed, of the file or folder ``name`` of a run.

    Args:
        folder: the run's.
        name: relative to it, for example ``outputs/a/b.txt``; its first part must be one of :data:`SHOWN`.

    Raises:
        NotThereError: see there.
    """
    try:
        relative = stored_relative(name.rstrip("/"))
        if relative.parts[0] not in SHOWN:
            raise NotThereError(name)
        return _inside(folder, folder.root / relative)
    except (UnsafeNameError, UnicodeEncodeError) as error:
        raise NotThereError(name) from error


def _inside(folder: RunFolder, path: Path) -> Path:
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise NotThereError(str(path)) from error
    if not real.is_relative_to(folder.real_root):
        raise NotThereError(str(path))
    return real


def open_file(folder: RunFolder, path: Path) -> Opened:
    """Open a regular file given by its real path (:func:`locate`) below ``folder``.

    Raises:
        NotThereError: it is gone, no regular file, or was replaced by a link meanwhile.
        StandInError: its bytes are elsewhere.
    """
    try:
        descriptor = _open(folder, path)
    except (OSError, ValueError) as error:
        raise NotThereError(str(path)) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or is_stand_in(status):
        os.close(descriptor)
        raise StandInError(path) if is_stand_in(status) else NotThereError(str(path))
    is_executable = bool(status.st_mode & 0o100)
    return Opened(FileIO(descriptor, "rb"), status.st_size, status.st_mtime_ns, status.st_ino, is_executable)


def _open(folder: RunFolder, path: Path) -> int:
    """A descriptor of a file or folder, no link followed below the run's; NONBLOCK so that a FIFO cannot
    hold us."""
    parts = path.relative_to(folder.real_root).parts
    current = os.open(folder.real_root, os.O_RDONLY | os.O_DIRECTORY)
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        flags = os.O_RDONLY | os.O_NOFOLLOW | (os.O_NONBLOCK if last else os.O_DIRECTORY)
        try:
            following = os.open(part, flags, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def list_folder(folder: RunFolder, path: Path) -> list[Entry]:
    """What is in a folder given by its real path, by name; special files and links that lead outside are
    left out.

    Raises:
        NotThereError: it is gone.
    """
    return [entry for entry, _ in entries(folder, path)]


def entries(folder: RunFolder, path: Path) -> Iterator[tuple[Entry, Path]]:
    """Entries of a folder with their real paths, as :func:`list_folder`.

    Raises:
        NotThereError: it is gone.
    """
    try:
        children = sorted(_children(_open(folder, path)), key=lambda child: child[0])
    except (OSError, ValueError) as error:
        raise NotThereError(str(path)) from error
    for name, found in children:
        with contextlib.suppress(NotThereError, OSError):
            real, status = path / name, found
            if status is None:
                real = _inside(folder, real)
                status = real.stat()
            if stat.S_ISDIR(status.st_mode):
                yield Entry(name, True, None), real
            elif stat.S_ISREG(status.st_mode):
                yield Entry(name, False, status.st_size, bool(status.st_mode & 0o100)), real


def walk(
    folder: RunFolder, path: Path, name: str, above: tuple[Path, ...] = ()
) -> Iterator[tuple[str, Path | None]]:
    """A folder given by its real path and all in it, links followed inside the run: names that begin with
    ``name``, and real paths; None for a folder. Folders that contain themselves end there.

    Raises:
        NotThereError: it is gone.
    """
    if path in above or len(above) > _MAX_DEPTH:
        return
    yield name, None
    for entry, real in entries(folder, path):
        inner = f"{name}/{entry.name}"
        if entry.is_folder:
            yield from walk(folder, real, inner, (*above, path))
        else:
            yield inner, real


def _children(descriptor: int) -> list[tuple[str, os.stat_result | None]]:
    """Names in a folder, and what each is; None for links, which are to be followed with care."""
    children: list[tuple[str, os.stat_result | None]] = []
    try:
        with os.scandir(descriptor) as found:
            for child in found:
                with contextlib.suppress(OSError):  # it is gone by now
                    status = None if child.is_symlink() else child.stat(follow_symlinks=False)
                    children.append((child.name, status))
    finally:
        os.close(descriptor)
    return children


def parse_range(text: str | None, size: int) -> tuple[int, int] | None:
    """The bytes a ``Range`` header asks for, of a file of ``size`` bytes.

    Args:
        text: ``bytes=0-99``, ``bytes=100-``, ``bytes=-50``; None, several ranges or anything else means the
            whole file, as HTTP says.
        size: of the file.

    Returns:
        First byte and the one after the last, or None for the whole file.

    Raises:
        RangeError: it begins at or behind the end.
    """
    match = _RANGE.match(text or "")
    if not match or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        wanted = int(last[:20])
        if wanted == 0 or size == 0:
            raise RangeError(size)
        return max(0, size - wanted), size
    start = int(first[:20])
    if last and int(last[:20]) < start:
        return None
    if start >= size:
        raise RangeError(size)
    return start, min(size, int(last[:20]) + 1) if last else size
