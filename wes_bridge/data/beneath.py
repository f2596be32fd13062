"""Files below a folder, reached without following a link on the way.

Commands that nobody trusts leave links behind, in folders that we then read, write, move and delete in. Each
function here begins at a folder that we made ourselves and walks by descriptors, so that what was looked at
is what is used, whatever is put in its place meanwhile. It must not know what the files are for.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

_OPENAT2 = 437
"""Its number, the same on all machines that Linux has it on."""
_BENEATH, _NO_MAGIC_LINKS, _NO_LINKS = 0x08, 0x02, 0x04
_ONLY_NAMES = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""To go through: a folder that may be entered need not be one that may be read."""
_NAME_ONLY = getattr(os, "O_PATH", 0) or -1
_NAMES_LINKS = getattr(os, "O_PATH", 0) | os.O_DIRECTORY
"""What of the flags tells whether a link is opened as itself, if it is ``_NAME_ONLY``."""
_NOT_HERE = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG)
"""An older kernel, another system, or a container that does not let us ask."""
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR, errno.EXDEV)


class LinkInTheWayError(OSError):
    """A part of a path is a link, or no folder: it is not followed."""

    def __init__(self, relative: str) -> None:
        text = "a link, or a file that should be a folder, is on the way to it, and is not followed"
        super().__init__(errno.ELOOP, text, relative)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Kernel:
    """``openat2``, as long as the kernel has it."""

    _call: Callable[..., int] | None

    def __init__(self) -> None:
        try:
            self._call = ctypes.CDLL(None, use_errno=True).syscall
        except (OSError, AttributeError):
            self._call = None

    def open(self, folder: int, relative: str, flags: int, mode: int) -> int | None:
        """A descriptor; None when there is no such call here."""
        if self._call is None:
            return None
        how = _How(flags, mode if flags & os.O_CREAT else 0, _BENEATH | _NO_MAGIC_LINKS | _NO_LINKS)
        for _ in range(100):  # it gives up when something was renamed meanwhile
            found = self._call(
                ctypes.c_long(_OPENAT2),
                ctypes.c_int(folder),
                ctypes.c_char_p(os.fsencode(relative)),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
            if found >= 0:
                return int(found)
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                continue
            if number in _NOT_HERE and not self._answers():
                self._call = None
                return None
            raise OSError(number, os.strerror(number), relative)
        raise LinkInTheWayError(relative)

    def _answers(self) -> bool:
        """Whether the call works at all: a file may be refused for the same reason as the call."""
        how = _How(os.O_PATH | os.O_CLOEXEC, 0, _BENEATH) if hasattr(os, "O_PATH") else None
        if how is None or self._call is None:
            return False
        top = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = self._call(
                ctypes.c_long(_OPENAT2),
                ctypes.c_int(top),
                ctypes.c_char_p(b"."),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
            if found < 0:
                return False
            os.close(int(found))
            return True
        finally:
            os.close(top)


_KERNEL = _Kernel()


def _parts(relative: str) -> list[str]:
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in relative or relative.startswith("/"):
        raise LinkInTheWayError(relative)
    return parts


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """A descriptor that is closed afterwards."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def top_of(folder: str | Path) -> int:
    """A descriptor of a folder of our own that walks begin at, good for nothing else; links above it are
    ours and are followed.

    Raises:
        OSError: there is none, or it is itself a link.
    """
    try:
        return os.open(folder, _FOLDER)
    except OSError as error:
        if error.errno in _IN_THE_WAY:
            raise LinkInTheWayError(os.fspath(folder)) from error
        raise


def open_beneath(top: int, relative: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Open what is at ``relative`` below a folder. Never waits for the other end of a pipe.

    Args:
        top: descriptor of the folder.
        relative: path below it, without ``..``; the empty one is the folder itself.
        flags: as of ``os.open``.
        mode: permissions of a file that is made.

    Raises:
        LinkInTheWayError: a part of the path, or the thing itself, is a link.
        OSError: it cannot be opened.
    """
    parts = _parts(relative)
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    if not flags & getattr(os, "O_PATH", 0):
        flags |= os.O_NONBLOCK
    try:
        if len(parts) <= 1:  # nothing is on the way, and Python's own call is quicker
            found = os.open(parts[0] if parts else ".", flags, mode, dir_fd=top)
        else:
            kernels = _KERNEL.open(top, "/".join(parts), flags, mode)
            found = _walk(top, parts, flags, mode) if kernels is None else kernels
    except OSError as error:
        if error.errno in _IN_THE_WAY:
            raise LinkInTheWayError(relative) from error
        raise
    if flags & _NAMES_LINKS == _NAME_ONLY and stat.S_ISLNK(os.fstat(found).st_mode):  # opened, not refused
        os.close(found)
        raise LinkInTheWayError(relative)
    return found


def _walk(top: int, parts: list[str], flags: int, mode: int) -> int:
    """The same part by part."""
    current = os.open(".", _FOLDER, dir_fd=top)
    try:
        for part in parts[:-1]:
            following = os.open(part, _FOLDER, dir_fd=current)
            os.close(current)
            current = following
        return os.open(parts[-1] if parts else ".", flags, mode, dir_fd=current)
    finally:
        os.close(current)


def regular_file(top: int, relative: str) -> int | None:
    """A descriptor, to read, of a regular file below a folder; None where there is none, or a link is met."""
    try:
        found = open_beneath(top, relative)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(found).st_mode):
        return found
    os.close(found)
    return None


def folder_beneath(top: int, relative: str, *, make: bool = False, mode: int = 0o777) -> int:
    """A descriptor, to walk on from, of a folder below another; ``make``: what is missing on the way is made.

    Raises:
        LinkInTheWayError: a link or a file is on the way, or in its place.
        OSError: it is not there, or cannot be made.
    """
    if not make:
        return open_beneath(top, relative, _FOLDER)
    there, missing = _parts(relative), list[str]()
    while True:  # what is missing are the last parts, and few
        try:
            current = open_beneath(top, "/".join(there), _FOLDER)
            break
        except FileNotFoundError:
            if not there:
                raise
            missing.insert(0, there.pop())
    try:
        for part in missing:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, mode, dir_fd=current)
            following = os.open(part, _FOLDER, dir_fd=current)
            os.close(current)
            current = following
    except OSError as error:
        os.close(current)
        if error.errno in _IN_THE_WAY:
            raise LinkInTheWayError(relative) from error
        raise
    return current


def parent_beneath(top: int, relative: str, *, make: bool = False) -> tuple[int, str]:
    """The folder that something below another is in, and its name there.

    Raises:
        OSError: see :func:`folder_beneath`; also where ``relative`` is empty.
    """
    parts = _parts(relative)
    if not parts:
        raise LinkInTheWayError(relative)
    return folder_beneath(top, "/".join(parts[:-1]), make=make), parts[-1]


def kind_beneath(top: int, relative: str) -> int | None:
    """The type (``stat.S_IFMT``) of what is there, a link being a link; None when nothing is.

    Raises:
        LinkInTheWayError: a link is on the way.
    """
    try:
        folder, name = parent_beneath(top, relative)
    except FileNotFoundError:
        return None
    with opened(folder):
        try:
            return stat.S_IFMT(os.lstat(name, dir_fd=folder).st_mode)
        except FileNotFoundError:
            return None


_LIST = os.O_RDONLY | os.O_DIRECTORY


def folders_below(top: int) -> Iterator[tuple[int, str, list[os.DirEntry[str]]]]:
    """Walk a folder and all below it that are no links, each before those in it.

    One folder is open at a time, however deep it is. What is put in the place of a folder after it was seen
    is not entered: the walk ends with an error.

    Args:
        top: descriptor of the folder.

    Yields:
        A descriptor that is good until the next; its path below ``top``, empty for that itself; its entries.

    Raises:
        OSError: a folder has gone, cannot be read, or is something else by now.
    """
    waiting = [""]
    while waiting:
        relative = waiting.pop()
        with opened(open_beneath(top, relative, _LIST)) as folder:
            with os.scandir(folder) as found:
                entries = list(found)
            before = relative + "/" if relative else ""
            waiting += [before + entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
            yield folder, relative, entries


def folder_at(path: str, *, partly: bool = False) -> tuple[int, str, str]:
    """The folder at an absolute path, links followed, as they are now.

    Args:
        path: without ``..``.
        partly: whether the last folder of the path that is there will do.

    Returns:
        A descriptor to walk on from, where the folder really is, and what of the path is missing below it.

    Raises:
        OSError: there is none.
    """
    missing = ""
    while True:
        try:
            found = os.open(path or "/", _FOLDER & ~os.O_NOFOLLOW)
            break
        except FileNotFoundError:
            if not partly or not path:
                raise
            path, _, name = path.rpartition("/")
            missing = f"{name}/{missing}" if missing else name
    try:
        return found, name_of(found) or os.path.realpath(path or "/", strict=True), missing
    except OSError:
        os.close(found)
        raise


def real_path(path: str | Path) -> str:
    """A path with links followed, by the kernel: three calls, where Python makes one for each folder."""
    try:
        found = os.open(path, _ONLY_NAMES)
    except OSError:  # as far as it is there
        return os.path.realpath(path)
    try:
        return name_of(found) or os.path.realpath(path)
    finally:
        os.close(found)


_GONE = " (deleted)"
"""What Linux appends to the name of a file that was removed."""


def name_of(descriptor: int) -> str | None:
    """Where what is open is now, links followed; None where the system does not say, or it was removed."""
    try:
        name = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - texts, for each file
    except OSError:  # not Linux
        return None
    return None if name.endswith(_GONE) or not name.startswith("/") else name


@contextlib.contextmanager
def held(path: str | Path) -> Iterator[tuple[str, str]]:
    """What is at a path, links followed, held fast: where it really is, and a name by which it can be opened
    that nobody can put anything else in the place of (where the system has such names).

    Raises:
        OSError: there is nothing.
    """
    found = os.open(path, _ONLY_NAMES)
    try:
        name = name_of(found)
        if name is None:
            real = os.path.realpath(path)
            yield real, real
        else:
            yield name, f"/proc/self/fd/{found}"
    finally:
        os.close(found)
