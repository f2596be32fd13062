"""Reading a file that something untrusted has left: it may be a pipe that nobody writes to, a device, or
larger than any memory. What is no regular file is not read, and no more is read than was asked for.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
)


class NotSmallError(OSError):
    """It is no regular file, or larger than what may be read; the text says which."""

    def __str__(self) -> str:
        return str(self.args[0])


def open_regular(path: str | os.PathLike[str], *, follow: bool = True) -> int:
    """A descriptor of a regular file, to read; links are followed if ``follow``.

    Raises:
        NotSmallError: it is something else.
        OSError: it cannot be opened.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW)
    file = os.open(path, flags)  # to open a pipe without waiting for who writes is no harm
    try:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            kind = next((words for test, words in _KINDS if test(mode)), "a device")
            raise NotSmallError(f"{_name(path)} is {kind} and not a regular file")
    except BaseException:
        os.close(file)
        raise
    return file


def read_small(path: str | os.PathLike[str], most: int, *, follow: bool = True) -> bytes:
    """The bytes of a regular file.

    Args:
        path: of the file.
        most: bytes it may have.
        follow: whether it may be a link.

    Raises:
        NotSmallError: it is something else, or larger.
        OSError: it cannot be read.
    """
    with os.fdopen(open_regular(path, follow=follow), "rb", buffering=0) as file:
        parts, left = [], most + 1
        while left and (part := file.read(min(left, 1 << 20))):
            parts.append(part)
            left -= len(part)
        if not left:
            raise NotSmallError(f"{_name(path)} is larger than {most} bytes")
        return b"".join(parts)


def read_end(path: str | os.PathLike[str], most: int, *, follow: bool = True) -> bytes:
    """The last bytes of a regular file; errors as :func:`read_small`, except that no file is too large."""
    file = open_regular(path, follow=follow)
    try:
        return os.pread(file, most, max(0, os.fstat(file).st_size - most))
    finally:
        os.close(file)


def _name(path: str | os.PathLike[str]) -> str:
    return repr(Path(path).name)[1:-1]
