"""What is in a kept output: a walk in the order of a manifest, each file read once for its checksums.

The output may still be changed, by a command of another session that was handed a descriptor of it. A file
that has changed since it was sealed has a later ``ctime``, which no program can set.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Event

from wes_bridge.data.beneath import opened
from wes_bridge.data.hashing import hash_file
from wes_bridge.data.special import readable, special_kind
from wes_bridge.model.manifest import DEEPEST, LONGEST_PATH, EntryKind, ManifestEntry
from wes_bridge.node.staging.schemes import UnusableError

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_COARSE = 5
"""CLOCK_REALTIME_COARSE of Linux, for which Python has no name."""
_LEADS_OUT = "it leads out of the output, and what it leads to is not kept"


@dataclass
class Counted:
    """What was found.

    Attributes:
        entries: lines of the manifest.
        files: regular files, by their names.
        size: bytes of them; of files with several names once.
    """

    entries: int = 0
    files: int = 0
    size: int = 0


def seal() -> int:
    """The moment from which on a change is seen, nanoseconds since the epoch: every later one has a later
    ``ctime``. Blocks for some milliseconds: the clock that files are stamped with goes in steps."""
    now = time.time_ns()
    while time.clock_gettime_ns(_COARSE) <= now:
        time.sleep(0.0005)
    return now


Sum = tuple[str, dict[str, str] | None]


@dataclass
class Listing:
    """Lists one output.

    Args:
        sealed: nanoseconds since the epoch: nothing may have changed since.
        algorithms: checksums beside SHA-1.
        stop: set to give up.

    Attributes:
        counted: what was found so far.
    """

    sealed: int
    algorithms: tuple[str, ...] = ()
    stop: Event | None = None
    counted: Counted = field(default_factory=Counted)
    _known: dict[tuple[int, int], Sum] = field(default_factory=dict)

    def entries(self, top: int) -> Iterator[ManifestEntry]:
        """The entries, in order.

        Args:
            top: descriptor of the output, opened to be read.

        Raises:
            UnusableError: it is too deep, or something was changed meanwhile.
            OSError: something cannot be read.
        """
        for folder, path, name in walk(top):
            entry = self._entry(folder, path, name)
            self.counted.entries += 1
            yield entry

    def _entry(self, folder: int, path: str, name: str) -> ManifestEntry:
        status = os.lstat(name, dir_fd=folder)
        mode = stat.S_IMODE(status.st_mode) & 0o777
        if stat.S_ISREG(status.st_mode):
            return self._file(folder, path, name, mode)
        if stat.S_ISDIR(status.st_mode):
            return ManifestEntry(path, EntryKind.DIRECTORY, mode=mode)
        if stat.S_ISLNK(status.st_mode):
            link = ManifestEntry(path, EntryKind.LINK, target=os.readlink(name, dir_fd=folder))
            return link if link.leads_inside else _with_note(link, _LEADS_OUT)
        what = special_kind(status.st_mode)
        return ManifestEntry(path, EntryKind.OTHER, note=f"it is {what}, of which nothing is kept")

    def _file(self, folder: int, path: str, name: str, mode: int) -> ManifestEntry:
        with opened(os.open(name, _READ, dir_fd=folder)) as file:
            status = os.fstat(file)
            key = status.st_dev, status.st_ino
            found = self._known.get(key)
            if found is None:
                size, sums = hash_file(file, self.algorithms, self.stop)
                found = sums.checksum, sums.others
                after = os.fstat(file)
                if (
                    not stat.S_ISREG(after.st_mode)
                    or size != after.st_size
                    or after.st_ctime_ns > self.sealed
                ):
                    raise UnusableError(f"{readable(path)} was changed after the command had ended")
                self.counted.size += size
                if status.st_nlink > 1:
                    self._known[key] = found
            self.counted.files += 1
        return ManifestEntry(
            path, EntryKind.FILE, size=status.st_size, mode=mode, checksum=found[0], checksums=found[1]
        )


def walk(top: int) -> Iterator[tuple[int, str, str]]:
    """Everything below a folder, in the order of a manifest; no link is followed.

    Args:
        top: descriptor of the folder, opened to be read.

    Yields:
        A descriptor of the folder that a thing is in, good until the next; its path; its name.

    Raises:
        UnusableError: it is deeper, or a path is longer, than a manifest takes.
        OSError: a folder has gone, or cannot be read.
    """
    stack = [(os.open(".", _FOLDER, dir_fd=top), "", _names(top))]
    try:
        while stack:
            folder, before, names = stack[-1]
            name = next(names, None)
            if name is None:
                os.close(stack.pop()[0])
                continue
            path = before + name
            if len(stack) > DEEPEST or len(os.fsencode(path)) > LONGEST_PATH:
                raise UnusableError(f"{readable(path)[:100]}... is deeper or longer than a manifest takes")
            yield folder, path, name
            if stat.S_ISDIR(os.lstat(name, dir_fd=folder).st_mode):
                inner = os.open(name, _FOLDER, dir_fd=folder)
                stack.append((inner, path + "/", _names(inner)))
    finally:
        for folder, _, _ in stack:
            os.close(folder)


def _names(folder: int) -> Iterator[str]:
    return iter(sorted(os.listdir(folder), key=os.fsencode))


def _with_note(entry: ManifestEntry, note: str) -> ManifestEntry:
    return ManifestEntry(entry.path, entry.kind, target=entry.target, note=note)
