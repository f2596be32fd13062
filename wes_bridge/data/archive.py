"""A folder as one tar or zip archive, made while it is read: memory stays flat whatever the size.

Links are followed when they stay inside the run's folder and left out when not. It must not know HTTP.
"""

from __future__ import annotations

import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from wes_bridge.data.downloads import Opened, entries, open_file
from wes_bridge.data.workspace import RunFolder

_CHUNK = 512 * 1024
_MAX_DEPTH = 100


class ChangedError(Exception):
    """A file became shorter while it was packed: the archive would be wrong."""


def tar_stream(folder: RunFolder, path: Path) -> Iterator[bytes]:
    """The tar archive (PAX) of the folder at the real path ``path``, in chunks.

    Raises:
        ChangedError: see there.
        NotThereError: the folder is gone.
    """
    top = path.name
    for name, real in _files(folder, path, top, ()):
        if real is None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, int(time.time())
            yield info.tobuf(tarfile.PAX_FORMAT)
            continue
        opened = open_file(folder, real)
        with opened.file:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = opened.size, _mode(opened), opened.mtime_ns // 10**9
            yield info.tobuf(tarfile.PAX_FORMAT)
            yield from _content(opened, name)
            yield b"\0" * (-opened.size % tarfile.BLOCKSIZE)
    yield b"\0" * tarfile.BLOCKSIZE * 2


def zip_stream(folder: RunFolder, path: Path) -> Iterator[bytes]:
    """The zip archive of the folder at the real path ``path``, in chunks.

    Raises:
        ChangedError: see there.
        NotThereError: the folder is gone.
    """
    sink = _Sink()
    with zipfile.ZipFile(cast(IO[bytes], sink), "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, real in _files(folder, path, path.name, ()):
            if real is None:
                archive.mkdir(name)
                continue
            opened = open_file(folder, real)
            with opened.file:
                when = time.gmtime(max(opened.mtime_ns // 10**9, 315532800))  # zip knows nothing before 1980
                info = zipfile.ZipInfo(name, when[:6])
                info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, _mode(opened) << 16
                info.file_size = opened.size  # decides between 32 and 64 bit headers
                with archive.open(info, "w") as member:
                    for chunk in _content(opened, name):
                        member.write(chunk)
                        yield sink.take()
    yield sink.take()


def _files(
    folder: RunFolder, path: Path, name: str, above: tuple[Path, ...]
) -> Iterator[tuple[str, Path | None]]:
    """Names in the archive with real paths; None for a folder. Folders that contain themselves end there."""
    if path in above or len(above) > _MAX_DEPTH:
        return
    yield name, None
    for entry, real in entries(folder, path):
        inner = f"{name}/{entry.name}"
        if entry.is_folder:
            yield from _files(folder, real, inner, (*above, path))
        else:
            yield inner, real


def _mode(opened: Opened) -> int:
    return 0o755 if opened.is_executable else 0o644


def _content(opened: Opened, name: str) -> Iterator[bytes]:
    left = opened.size
    while left:
        chunk = opened.file.read(min(_CHUNK, left))
        if not chunk:
            raise ChangedError(name)
        left -= len(chunk)
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
