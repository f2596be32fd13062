"""Mounts: each is made, and made safe, before it has a place anywhere."""

from __future__ import annotations

import os
import stat
import struct

from .calls import File, call, libc, syscall

READ_ONLY, NO_SUID, NO_DEV, NO_EXEC = 1, 2, 4, 8

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _MOUNT_SETATTR = 428, 429, 430, 431, 432, 442
_CLONE_TREE, _CLOEXEC, _RECURSIVE, _EMPTY_PATH = 1, os.O_CLOEXEC, 0x8000, 0x1000
_FROM_EMPTY_PATH = 4
_SET_STRING, _CREATE = 1, 6
_MS_PRIVATE = 1 << 18
_MNT_DETACH = 2
_AT_FDCWD = -100


def taken(path: str, flags: int) -> File:
    """What is at a path, with all that is mounted below it, as a mount without a place."""
    how = _CLONE_TREE | _CLOEXEC | _RECURSIVE
    mount = File(syscall(f"cannot take {path}", _OPEN_TREE, _AT_FDCWD, os.fsencode(path), how))
    restrict(mount, flags)
    return mount


def read_only(path: str) -> File:
    """As :func:`taken`, for what is only looked at."""
    return taken(path, READ_ONLY | NO_SUID | NO_DEV)


def new(kind: str, flags: int, **options: str) -> File:
    """A new file system, without a place."""
    what = f"cannot make {kind}"
    context = File(syscall(what, _FSOPEN, kind.encode(), 1))
    for name, value in options.items():
        syscall(what, _FSCONFIG, context.number, _SET_STRING, name.encode(), value.encode(), 0)
    syscall(what, _FSCONFIG, context.number, _CREATE, None, None, 0)
    return File(syscall(what, _FSMOUNT, context.number, 1, flags))


def restrict(mount: File, flags: int, *, below: bool = True) -> None:
    """Set flags of a mount, and of all that is mounted below it; nothing comes to it from outside now."""
    attributes = struct.pack("=QQQQ", flags, 0, _MS_PRIVATE, 0)
    where = _EMPTY_PATH | (_RECURSIVE if below else 0)
    syscall("cannot restrict a mount", _MOUNT_SETATTR, mount.number, b"", where, attributes, len(attributes))


def place(mount: File, path: str, made: list[str] | None = None) -> File:
    """Put a mount where it belongs; ``made`` gets what is made for that in the root file system."""
    if not os.path.lexists(path):
        _make_room(path, [] if made is None else made, stat.S_ISDIR(os.fstat(mount.number).st_mode))
    move(mount, path)
    return mount


def move(mount: File, path: str) -> None:
    """Put a mount on what is at a path."""
    to = (_AT_FDCWD, os.fsencode(path), _FROM_EMPTY_PATH)
    syscall(f"cannot mount on {path}", _MOVE_MOUNT, mount.number, b"", *to)


def enter(root: File) -> None:
    """Make a mount the root of all, and let go of the former one."""
    move(root, "/proc")  # anywhere: what is there goes with the rest
    os.fchdir(root.number)
    call("cannot change the root", libc.pivot_root, b".", b".")
    call("cannot leave the machine's files", libc.umount2, b".", _MNT_DETACH)
    os.chdir("/")


def _make_room(path: str, made: list[str], is_folder: bool) -> None:
    parent = os.path.dirname(path)
    if not os.path.lexists(parent):
        _make_room(parent, made, True)
    if os.stat(parent).st_dev == os.stat("/").st_dev:
        made.append(path)
    if is_folder:
        os.mkdir(path, 0o755)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o444))
