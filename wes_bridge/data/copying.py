"""Copies and moves of what commands left behind: by descriptors, no link followed, no rights handed on.

A copy is its maker's: the owner may write to it, and neither setuid nor setgid bits nor capabilities come
along. A thing that is neither file, folder nor link is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from uuid import uuid4

from wes_bridge.data.beneath import opened
from wes_bridge.data.special import special_kind

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ONLY_NAMES = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC
_CAPABILITIES = "security.capability"
_NOT_RENAMED = (errno.EXDEV, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)
"""On another file system, or something is in the way that a folder can be merged into."""
_CHUNK = 1 << 20
_DEEPEST = 200
"""Folders in one another that are copied: two descriptors are open for each."""


def copy_thing(source: int, folder: int, name: str, *, usable: bool, deep: int = 0) -> None:
    """Copy what is open, and all below it; a folder is merged with one that is there.

    Args:
        source: descriptor of a file or a folder, opened to be read.
        folder: descriptor of the folder that the copy goes to.
        name: its name there.
        usable: whether its owner may write to the copy, whatever the permissions were.
        deep: how many folders that are copied it is in.

    Raises:
        OSError: there is no room, or something cannot be read or is no file.
    """
    status = os.fstat(source)
    if not stat.S_ISDIR(status.st_mode):
        _copy_file(source, status, folder, name, usable)
        return
    if deep > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, f"more than {_DEEPEST} folders are in one another", name)
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=folder)
    with opened(os.open(name, _FOLDER, dir_fd=folder)) as target:
        with os.scandir(source) as found:
            names = [(entry.name, entry.is_symlink()) for entry in found]
        for inner, is_link in names:
            if is_link:
                _clear(target, inner)
                os.symlink(os.readlink(inner, dir_fd=source), inner, dir_fd=target)
                continue
            with opened(os.open(inner, _READ, dir_fd=source)) as opened_inner:
                copy_thing(opened_inner, target, inner, usable=usable, deep=deep + 1)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fchmod(target, (status.st_mode & 0o777) | (0o200 if usable else 0))


def _copy_file(source: int, status: os.stat_result, folder: int, name: str, usable: bool) -> None:
    special = special_kind(status.st_mode)
    if special is not None:
        raise OSError(errno.EINVAL, f"it is {special}, and cannot be copied", name)
    try:
        new = os.open(name, _WRITE, 0o600, dir_fd=folder)
    except FileExistsError:
        _clear(folder, name)
        new = os.open(name, _WRITE, 0o600, dir_fd=folder)
    with opened(new) as target:
        if status.st_size:
            _copy_bytes(source, target)
        _copy_attributes(source, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.fchmod(target, (status.st_mode & 0o777) | (0o200 if usable else 0))


def _clear(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)


def _copy_bytes(source: int, target: int) -> None:
    try:
        while os.copy_file_range(source, target, 1 << 30):
            pass
        return
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
    os.lseek(source, 0, os.SEEK_SET)
    os.lseek(target, 0, os.SEEK_SET)
    while chunk := os.read(source, _CHUNK):
        while chunk:
            chunk = chunk[os.write(target, chunk) :]


def _copy_attributes(source: int, target: int) -> None:
    """Users' own extended attributes, no others: those of the system give rights."""
    with contextlib.suppress(OSError, AttributeError):
        for name in os.listxattr(source):
            if name.startswith("user."):
                os.setxattr(target, name, os.getxattr(source, name))


def drop_rights(name: str, folder: int | None = None) -> None:
    """Take from a file what would run it with others' rights (setuid, setgid, capabilities), and from a
    folder and a file the sticky bit and its like.

    Args:
        name: of the file, not of a link to it.
        folder: descriptor of the folder it is in.
    """
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return
    has_bits = status.st_mode & 0o7000
    may_have = os.geteuid() == 0 and stat.S_ISREG(status.st_mode) and status.st_mode & 0o111
    if not has_bits and not may_have:
        return
    with opened(os.open(name, _ONLY_NAMES | os.O_NOFOLLOW, dir_fd=folder)) as file:
        status = os.fstat(file)
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return  # something else was put in its place
        here = f"/proc/self/fd/{file}"  # also of what its owner may not read
        if has_bits:
            os.chmod(here, status.st_mode & 0o777)  # noqa: PTH101
        if may_have:
            with contextlib.suppress(OSError, AttributeError):
                os.removexattr(here, _CAPABILITIES)


def move(source: int, name: str, folder: int, new_name: str) -> None:
    """Bring a thing to another folder: renamed where it is on the same file system, else copied beside its
    place first. A folder that is moved onto one that has something in it is merged into it, file by file.

    Args:
        source: descriptor of the folder it is in.
        name: its name there.
        folder: descriptor of the folder it goes to.
        new_name: its name there.

    Raises:
        OSError: it cannot be moved, or a file is in the way of a folder.
    """
    try:
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in _NOT_RENAMED:
            raise
        is_folder, there = _is_folder(source, name), _kind(folder, new_name)
        if there == stat.S_IFLNK:  # to what it leads is nobody's business
            os.unlink(new_name, dir_fd=folder)
            move(source, name, folder, new_name)
        elif is_folder and there == stat.S_IFDIR and _has_something(folder, new_name):
            _merge(source, name, folder, new_name)
        elif error.errno == errno.EXDEV:
            _copy_then_rename(source, name, folder, new_name)
        else:
            raise


def move_copy(source: int, name: str, folder: int, new_name: str) -> None:
    """The same for a thing that somebody may hold open: what comes is a copy, of which they hold nothing.

    Args:
        source, name, folder, new_name: as of :func:`move`.

    Raises:
        OSError: as of :func:`move`, or it cannot be copied.
    """
    part = f".{new_name[:100]}.{uuid4().hex[:8]}.part"
    _copy_then_rename(source, name, folder, part)
    try:
        move(folder, part, folder, new_name)
    except BaseException:
        remove(folder, part)
        raise


def _kind(folder: int, name: str) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _is_folder(folder: int, name: str) -> bool:
    return _kind(folder, name) == stat.S_IFDIR


def _has_something(folder: int, name: str) -> bool:
    with opened(os.open(name, _FOLDER, dir_fd=folder)) as there, os.scandir(there) as found:
        return next(found, None) is not None


def _merge(source: int, name: str, folder: int, new_name: str) -> None:
    with (
        opened(os.open(name, _FOLDER, dir_fd=source)) as inner,
        opened(os.open(new_name, _FOLDER, dir_fd=folder)) as there,
    ):
        with os.scandir(inner) as found:
            names = [entry.name for entry in found]
        for each in names:
            move(inner, each, there, each)
    os.rmdir(name, dir_fd=source)


def _copy_then_rename(source: int, name: str, folder: int, new_name: str) -> None:
    part = f".{new_name[:100]}.{uuid4().hex[:8]}.part"
    try:
        if _kind(source, name) == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), part, dir_fd=folder)
        else:
            with opened(os.open(name, _READ, dir_fd=source)) as thing:
                copy_thing(thing, folder, part, usable=False)
        os.rename(part, new_name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        remove(folder, part)
        raise
    remove(source, name)


def remove(folder: int, name: str) -> None:
    """Remove a thing and all below it, whatever stands in the way."""
    with contextlib.suppress(OSError):
        if _is_folder(folder, name):
            shutil.rmtree(name, ignore_errors=True, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
