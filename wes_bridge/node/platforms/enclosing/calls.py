"""The kernel's calls that Python does not have, and their numbers. Whatever fails is told."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:  # without importing typing
    from typing import Any

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
CLONE_NEWPID, CLONE_NEWNET, CLONE_PARENT = 0x20000000, 0x40000000, 0x8000
CLONE3 = 435
"""The same number on all processors, as all that are newer."""
WALL = 0x40000000
"""For ``waitpid``: also processes that were made in unusual ways."""
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 24, 38
PR_SET_SECCOMP = 22

libc = ctypes.CDLL(None, use_errno=True)


class NoSandboxError(Exception):
    """The sandbox cannot be made; the text says why."""


def call(what: str, function: Any, *args: Any) -> int:
    """Call the C library.

    Raises:
        NoSandboxError: it failed.
    """
    result = int(function(*args))
    if result < 0:
        raise NoSandboxError(f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


def syscall(what: str, number: int, *args: Any) -> int:
    """Make a system call.

    Raises:
        NoSandboxError: it failed.
    """
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in args]
    return call(what, libc.syscall, ctypes.c_long(number), *words)


def clone(flags: int) -> int:
    """As ``fork(2)``, with flags: there is one thread, and nothing that must be told.

    Raises:
        OSError: no process can be made.
    """
    number = 0 if flags & CLONE_PARENT else int(signal.SIGCHLD)
    arguments = struct.pack("=8Q", flags, 0, 0, 0, number, 0, 0, 0)
    pid = int(libc.syscall(ctypes.c_long(CLONE3), arguments, ctypes.c_long(len(arguments))))
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return pid


class File:
    """A descriptor, closed when nothing refers to it any more: also where something fails."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


def opened(path: str) -> File:
    """A file to read, or a namespace."""
    return File(os.open(path, os.O_RDONLY | os.O_CLOEXEC))


def go_to(namespace: File, kind: int) -> None:
    """Be in a namespace."""
    call("cannot enter a namespace", libc.setns, namespace.number, kind)
