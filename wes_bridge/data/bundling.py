"""Files and folders of ours as one tar archive, made while it is read: memory stays flat.

Nothing is reached by a link: folders are walked by descriptors, and links in them are kept as links where
they lead inside. Names are bytes to us and stay so. It must not know who fetches it.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator

from wes_bridge.data.archive import ChangedError
from wes_bridge.data.beneath import folder_beneath, folders_below, open_beneath, opened, top_of
from wes_bridge.data.unpacking import leads_inside

_CHUNK = 512 * 1024


def bundle(members: list[tuple[str, str]]) -> Iterator[bytes]:
    """A tar archive (GNU).

    Args:
        members: for each, its name in the archive, and where it really is.

    Raises:
        OSError: something cannot be read.
        ChangedError: a file changes while it is read.
    """
    for name, real in members:
        with opened(top_of("/")) as top:
            with opened(open_beneath(top, real.strip("/"))) as found:
                status = os.fstat(found)
                if stat.S_ISREG(status.st_mode):
                    yield from _file(name, found, status)
                    continue
            with opened(folder_beneath(top, real.strip("/"))) as folder:
                yield from _folder(name, folder)
    yield b"\0" * _END


_END = tarfile.BLOCKSIZE * 2


def _folder(name: str, top: int) -> Iterator[bytes]:
    yield _header(name, tarfile.DIRTYPE, os.fstat(top).st_mode)
    for folder, relative, entries in folders_below(top):
        inside = f"{relative}/" if relative else ""
        for entry in entries:
            path, status = inside + entry.name, entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield _header(f"{name}/{path}", tarfile.DIRTYPE, status.st_mode)
            elif stat.S_ISLNK(status.st_mode):
                target = os.readlink(entry.name, dir_fd=folder)
                if leads_inside(path, target) is not None:
                    yield _header(f"{name}/{path}", tarfile.SYMTYPE, 0o777, target=target)
            elif stat.S_ISREG(status.st_mode):
                with opened(open_beneath(folder, entry.name)) as file:
                    yield from _file(f"{name}/{path}", file, os.fstat(file))


def _file(name: str, file: int, status: os.stat_result) -> Iterator[bytes]:
    yield _header(name, tarfile.REGTYPE, status.st_mode, status.st_size)
    left = status.st_size
    while left:
        piece = os.read(file, min(_CHUNK, left))
        if not piece:
            raise ChangedError(name)
        left -= len(piece)
        yield piece
    yield b"\0" * (-status.st_size % tarfile.BLOCKSIZE)


def _header(name: str, kind: bytes, mode: int, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, target
    info.mode = (mode & 0o777) | (0o755 if kind == tarfile.DIRTYPE else 0o644)
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
