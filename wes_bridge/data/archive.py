"""A folder, of a run or in a store, as one tar or zip archive, made while it is read: memory stays flat.

Links are followed when they stay inside the run's folder and left out when not. It must not know HTTP.
"""

from __future__ import annotations

import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, cast

from wes_bridge.data.downloads import Opened, open_file, walk
from wes_bridge.data.workspace import RunFolder

_CHUNK = 512 * 1024


class ChangedError(Exception):
    """A file became shorter while it was packed: the archive would be wrong."""


@dataclass(frozen=True)
class Member:
    """One thing in an archive.

    Attributes:
        name: in it.
        size: bytes of a file; None: it is a folder.
        mtime_ns: when it was written.
        is_executable: whether it may be run.
        content: gives a file's pieces.
    """

    name: str
    size: int | None = None
    mtime_ns: int = 0
    is_executable: bool = False
    content: Callable[[], Iterator[bytes]] = lambda: iter(())


def members_of(folder: RunFolder, path: Path) -> Iterator[Member]:
    """What is in a run's folder, given by its real path; each is to be read before the next.

    Raises:
        NotThereError: the folder is gone.
    """
    for name, real in walk(folder, path, path.name):
        if real is None:
            yield Member(name)
            continue
        opened = open_file(folder, real)
        with opened.file:
            pieces = partial(_pieces, opened)
            yield Member(name, opened.size, opened.mtime_ns, opened.is_executable, pieces)


def tar_stream(members: Iterable[Member]) -> Iterator[bytes]:
    """A tar archive (PAX), in chunks.

    Raises:
        ChangedError: see there.
        NotThereError: the folder is gone.
    """
    for member in members:
        info = tarfile.TarInfo(member.name)
        if member.size is None:
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
            yield info.tobuf(tarfile.PAX_FORMAT)
            continue
        info.size, info.mode, info.mtime = member.size, _mode(member), member.mtime_ns // 10**9
        yield info.tobuf(tarfile.PAX_FORMAT)
        yield from _content(member)
        yield b"\0" * (-member.size % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.BLOCKSIZE * 2


def zip_stream(members: Iterable[Member]) -> Iterator[bytes]:
    """A zip archive, in chunks; errors as of :func:`tar_stream`."""
    sink = _Sink()
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in members:
            if member.size is None:
                archive.mkdir(member.name)
                continue
            when = time.gmtime(max(member.mtime_ns // 10**9, 315532800))  # zip knows nothing before 1980
            info = zipfile.ZipInfo(member.name, when[:6])
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, _mode(member) << 16
            info.file_size = member.size  # decides between 32 and 64 bit headers
            with archive.open(info, "w") as packed:
                for chunk in _content(member):
                    packed.write(chunk)
                    yield sink.take()
    yield sink.take()


def _mode(member: Member) -> int:
    return 0o755 if member.is_executable else 0o644


def _content(member: Member) -> Iterator[bytes]:
    """As many bytes as were announced: no more, and no less."""
    left = member.size or 0
    for chunk in member.content() if left else ():
        piece = chunk[:left]
        left -= len(piece)
        yield piece
        if not left:
            return
    if left:
        raise ChangedError(member.name)


def _pieces(opened: Opened) -> Iterator[bytes]:
    while chunk := opened.file.read(_CHUNK):
        yield chunk


class _Sink:
    """What a ZipFile writes to: not seekable, emptied after each chunk."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing to do: there is no buffer below."""

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data
