"""Sharing files between folders of the workspace without copying bytes: hard links, else copies.

A linked file lives until its last name is gone, so that deleting a run never takes a file from another one.
Who wants to change such a file makes it its own first (:func:`own`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from pathlib import Path

from wes_bridge.data.copying import drop_rights

_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def link_file(source: Path, target: Path) -> None:
    """Give a file a second name; across file systems, a copy.

    Raises:
        OSError: there is no such file, no room, or ``target`` is there already.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
        if not target.is_symlink():
            drop_rights(str(target))


def share(folder: int, name: str, target: Path) -> os.stat_result:
    """Give a file a second name for others to read; of its permissions only that to execute it comes along.

    A file that would run with the rights of its owner or group (setuid, setgid) is copied instead, as plain
    programs are: whoever gets the copy has no rights by it. So is a file on another file system.

    Args:
        folder: descriptor of the folder it is in.
        name: its name there, not that of a link; or the absolute name of a file that is held
            (:func:`wes_bridge.data.beneath.held`).
        target: its second name.

    Returns:
        What is known of the file.

    Raises:
        OSError: there is no room, or the file vanished, or is a link by now.
    """
    is_held = name.startswith("/proc/self/fd/")
    status = os.stat(name, dir_fd=folder, follow_symlinks=is_held)
    if not status.st_mode & _SPECIAL_BITS:
        with contextlib.suppress(OSError):
            os.link(name, target, src_dir_fd=folder, follow_symlinks=is_held)
            return status
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if is_held else os.O_NOFOLLOW)
    with os.fdopen(os.open(name, flags, dir_fd=folder), "rb") as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    if status.st_mode & 0o111:
        make_executable(target)
    return status


def make_executable(path: Path) -> None:
    """Let everybody execute a file whom its permissions let read it."""
    mode = path.stat().st_mode
    path.chmod((mode & 0o777) | (mode & 0o444) >> 2)


def link_tree(source: Path, target: Path) -> None:
    """Give all files below ``source`` a second name below ``target``; symbolic links stay what they are.

    Raises:
        OSError: something vanished, there is no room, or ``source`` itself is a link.
    """
    if source.is_symlink():
        raise NotADirectoryError(errno.ENOTDIR, "it is a link, and is not followed", str(source))
    shutil.copytree(source, target, symlinks=True, copy_function=_link_for_copytree)


def _link_for_copytree(source: str, target: str) -> None:
    link_file(Path(source), Path(target))


def own(path: Path) -> None:
    """Make a file, or all files below a folder, this name's own: a change is then seen nowhere else.

    Raises:
        OSError: no room, or it vanished.
    """
    if path.is_dir() and not path.is_symlink():
        for entry in list(path.iterdir()):
            own(entry)
        return
    if path.is_symlink() or path.stat().st_nlink == 1:
        return
    copy = path.with_name(f".{uuid.uuid4().hex}")
    try:
        shutil.copy2(path, copy)
        drop_rights(str(copy))
        copy.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            copy.unlink()
        raise


def tree_size(path: Path) -> int:
    """Bytes of all files at or below a path; what vanishes meanwhile is not counted."""
    total = 0
    with contextlib.suppress(OSError):
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        for entry in os.scandir(path):
            total += tree_size(Path(entry.path))
    return total
