"""``file:`` URLs: things on this machine. Inputs are used where they are; outputs are moved into place."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import stat
from pathlib import Path
from threading import Event
from urllib.parse import unquote, urlsplit
from uuid import uuid4

_NOT_RENAMED = (errno.EXDEV, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)
"""On another file system, or something is in the way that a directory can be merged into."""


class FileScheme:
    """Files and directories of this machine."""

    names: tuple[str, ...] = ("file",)
    can_store = True

    def local(self, location: str) -> Path | None:
        """The path of a ``file:`` URL.

        Raises:
            ValueError: the URL names another host, or no absolute path.
        """
        return file_path(location)

    def fetch(self, location: str, target: Path, stop: Event) -> None:
        """Copy; used when a link will not do."""
        copy(file_path(location), target)

    def store(self, source: Path, location: str) -> Path | None:
        """Move ``source`` to ``location``; in one step when nothing is there yet."""
        return move(source, file_path(location))


@functools.lru_cache(maxsize=4096)
def file_path(location: str) -> Path:
    """The absolute path of a ``file:`` URL, ``..`` taken out.

    Raises:
        ValueError: the URL names another host, or no absolute path.
    """
    split = urlsplit(location.replace("?", "%3F").replace("#", "%23"))
    path = unquote(split.path)
    if split.netloc not in ("", "localhost"):
        raise ValueError(f"a file URL of another host: {location}")
    if not path.startswith("/") or "\x00" in path:
        raise ValueError(f"not an absolute path: {location}")
    return Path(os.path.normpath(path))


def copy(source: Path, target: Path) -> None:
    """A hard copy of a file or directory that its owner may write to, and that gives nobody more rights."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        for folder, names, files in os.walk(target):
            for name in (".", *names, *files):
                _make_usable(os.path.join(folder, name))  # noqa: PTH118
    else:
        shutil.copy2(source, target)
        _make_usable(str(target))


def _make_usable(path: str) -> None:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return
    drop_rights(path, mode)
    if not mode & 0o200:
        os.chmod(path, (mode & 0o777) | 0o200)  # noqa: PTH101


def drop_rights(path: str, mode: int) -> None:
    """Take from a regular file what would run it with its owner's rights, or its group's (setuid, setgid)."""
    if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
        os.chmod(path, mode & 0o777)  # noqa: PTH101


def move(source: Path, target: Path) -> Path:
    """Bring ``source`` to ``target``: renamed when on the same file system, else copied beside it first.

    A directory moved onto a directory that has something in it is merged into it, file by file.
    """
    try:
        _rename(source, target)
    except OSError as error:
        if error.errno not in _NOT_RENAMED:
            raise
        if source.is_dir() and not source.is_symlink() and target.is_dir() and any(target.iterdir()):
            for child in list(source.iterdir()):
                move(child, target / child.name)
            source.rmdir()
        elif error.errno == errno.EXDEV:
            _copy_then_rename(source, target)
        else:
            raise
    return target


def _rename(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)


def _copy_then_rename(source: Path, target: Path) -> None:
    part = target.with_name(f".{target.name[:200]}.{uuid4().hex[:8]}.part")
    try:
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, part, symlinks=True)
        else:
            shutil.copy2(source, part, follow_symlinks=False)
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
        raise
    if source.is_dir() and not source.is_symlink():
        shutil.rmtree(source)
    else:
        source.unlink()
