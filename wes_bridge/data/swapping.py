"""A copy in the place of a link, all of it or nothing: whoever is killed meanwhile leaves the link."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
from uuid import uuid4

from wes_bridge.data.copying import copy_thing, remove

_EXCHANGE = 2
"""RENAME_EXCHANGE: two names change places."""


def replace_by_copy(thing: int, folder: int, name: str, scratch: int, *, usable: bool = True) -> None:
    """Put a copy of what is open in the place of a link or a file.

    Args:
        thing: descriptor of a file or a folder, opened to be read.
        folder: descriptor of the folder that the link is in.
        name: its name there.
        scratch: descriptor of a folder on the same file system, where the copy is made; what a crash leaves
            there is its owner's to remove.
        usable: see :func:`wes_bridge.data.copying.copy_thing`.

    Raises:
        OSError: there is no room, or something cannot be read.
    """
    new = f".{uuid4().hex}"
    try:
        copy_thing(thing, scratch, new, usable=usable)
        if not stat.S_ISDIR(os.fstat(thing).st_mode):
            os.rename(new, name, src_dir_fd=scratch, dst_dir_fd=folder)
            return
        if not _exchange(scratch, new, folder, name):  # such as a file system that cannot
            os.unlink(name, dir_fd=folder)
            os.rename(new, name, src_dir_fd=scratch, dst_dir_fd=folder)
    finally:
        with contextlib.suppress(FileNotFoundError):
            remove(scratch, new)


def _exchange(folder: int, name: str, other_folder: int, other_name: str) -> bool:
    """Let two things change places; whether the system can."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done = call(folder, os.fsencode(name), other_folder, os.fsencode(other_name), ctypes.c_uint(_EXCHANGE))
    if done == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(number, os.strerror(number), name)
