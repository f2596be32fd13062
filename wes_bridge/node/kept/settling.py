"""Making an output one that stands by itself: what is in it is nobody else's, and nobody else's is needed.

It comes after :mod:`wes_bridge.node.staging.settling`, which made the links good for when the session's
folder has gone. It must not know where the output goes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wes_bridge.data.beneath import open_beneath, opened, top_of
from wes_bridge.data.swapping import replace_by_copy
from wes_bridge.node.kept.listing import walk

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ONLY_NAMES = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_NOFOLLOW | os.O_CLOEXEC


def bring_in(output: int, sources: Sequence[Path], scratch: int) -> None:
    """Put a copy in the place of each link to what the session was given, or to a part of it.

    Args:
        output: descriptor of the output, opened to be read.
        sources: what the session was given, links followed.
        scratch: descriptor of a folder on the same file system, which is removed when all is done.

    Raises:
        OSError: something cannot be read or copied.
    """
    if not sources:
        return
    links: list[str] = []
    for folder, path, name in walk(output):
        if stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode):
            links.append(path)
    for path in links:
        with contextlib.suppress(FileNotFoundError):
            _bring_in(output, path, sources, scratch)


def _bring_in(output: int, path: str, sources: Sequence[Path], scratch: int) -> None:
    before, _, name = path.rpartition("/")
    with opened(open_beneath(output, before, os.O_RDONLY | os.O_DIRECTORY)) as folder:
        target = os.readlink(name, dir_fd=folder)
        if not target.startswith("/"):
            return
        real = Path(os.path.realpath(target, strict=True))
        if not any(map(real.is_relative_to, sources)):
            return
        with opened(top_of("/")) as root, opened(open_beneath(root, str(real)[1:])) as thing:
            replace_by_copy(thing, folder, name, scratch)


def own(output: int, scratch: int) -> None:
    """Copy the files that have names outside of the output, and see that all can be read and removed.

    Args:
        output: descriptor of the output, opened to be read.
        scratch: see :func:`bring_in`.

    Raises:
        OSError: something cannot be copied.
    """
    names: Counter[tuple[int, int]] = Counter()
    linked: list[tuple[str, tuple[int, int], int]] = []
    for folder, path, name in walk(output):
        status = os.lstat(name, dir_fd=folder)
        if stat.S_ISDIR(status.st_mode):
            _allow(folder, name, status.st_mode, stat.S_IRWXU)
        if not stat.S_ISREG(status.st_mode):
            continue
        _allow(folder, name, status.st_mode, stat.S_IRUSR)
        if status.st_nlink > 1:
            key = status.st_dev, status.st_ino
            names[key] += 1
            linked.append((path, key, status.st_nlink))
    for path, key, number in linked:
        if number > names[key]:
            _copy_in_place(output, path, scratch)


def _allow(folder: int, name: str, mode: int, bits: int) -> None:
    """Let the owner of a file or a folder do something with it."""
    if mode & bits == bits:
        return
    with opened(os.open(name, _ONLY_NAMES, dir_fd=folder)) as thing:
        now = os.fstat(thing).st_mode
        if stat.S_ISREG(now) or stat.S_ISDIR(now):
            os.chmod(f"/proc/self/fd/{thing}", now & 0o777 | bits)  # noqa: PTH101


def _copy_in_place(output: int, path: str, scratch: int) -> None:
    before, _, name = path.rpartition("/")
    with (
        opened(open_beneath(output, before, os.O_RDONLY | os.O_DIRECTORY)) as folder,
        opened(os.open(name, _READ, dir_fd=folder)) as file,
    ):
        replace_by_copy(file, folder, name, scratch, usable=False)
