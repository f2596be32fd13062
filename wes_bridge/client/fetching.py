"""Bringing files here: one by one, or, where a service packs its folders, many of a folder as one archive.

A thousand small outputs cost a thousand requests; an archive of them costs one.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import os
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from wes_bridge.client.errors import DownloadError, WESError
from wes_bridge.client.http import Http
from wes_bridge.model.headers import EXECUTABLE

ARCHIVE_FROM = 16
"""Files of one folder from which an archive is asked for."""
_CHUNK = 1024**2
_MOST_SKIPPED = 16 * 1024**2
"""Bytes of files nobody asked for, beyond those that were, after which an archive is not read on."""
_PACKED = "/files/"
"""What wes-bridge's download URLs have in their path."""


@dataclass(frozen=True)
class Fetch:
    """One file to be brought.

    Attributes:
        source: its URL.
        target: where it goes.
        entry: the File object as the service gave it, with size and checksum to check.
        done: the File object for the user, completed when the file is here.
    """

    source: str
    target: Path
    entry: dict[str, Any]
    done: dict[str, Any]


def fetch_archives(http: Http, fetches: list[Fetch]) -> list[Fetch]:
    """Bring what can be had as an archive; returns what is left to be brought one by one.

    The files of one run have one archive, that of the innermost folder all of them are in.

    Raises:
        DownloadError: a file came with another size or checksum than the service said.
    """
    runs: dict[str, list[Fetch]] = defaultdict(list)
    for fetch in fetches:
        base, packed, _ = fetch.source.partition(_PACKED)
        runs[base if packed else ""].append(fetch)
    left = runs.pop("", [])
    for members in runs.values():
        if len(members) < ARCHIVE_FROM:
            left += members
            continue
        left += _fetch_archive(http, _shared_folder([fetch.source for fetch in members]), members)
    return left


def _shared_folder(urls: list[str]) -> str:
    """The innermost folder that all URLs are in."""
    folders = [url.rpartition("/")[0].split("/") for url in urls]
    pairs = zip(min(folders), max(folders), strict=False)
    return "/".join(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _fetch_archive(http: Http, folder: str, members: list[Fetch]) -> list[Fetch]:
    wanted = {unquote(fetch.source[len(folder) + 1 :]): fetch for fetch in members}
    if folder.endswith(_PACKED.rstrip("/")):  # the run's folder itself is not packed
        return members
    try:
        response = http.send("GET", folder, params={"archive": "tar"}, headers={"Accept": "*/*"}, stream=True)
    except WESError:
        return members  # it packs nothing
    with contextlib.closing(response):
        body = io.BufferedReader(_Body(http.pieces(response)), _CHUNK)
        try:
            with tarfile.open(fileobj=body, mode="r|") as archive:
                _unpack(archive, wanted)
        except tarfile.TarError as error:
            raise DownloadError(f"{folder}: the archive cannot be read: {error}") from error
    return list(wanted.values())


def _unpack(archive: tarfile.TarFile, wanted: dict[str, Fetch]) -> None:
    """Store what is wanted and take it out of ``wanted``; an archive that has mostly other files is left."""
    stored = skipped = 0
    for member in archive:
        name = member.name.partition("/")[2]
        content = archive.extractfile(member) if name in wanted and member.isfile() else None
        if content is None:
            skipped += member.size
            if skipped > stored + _MOST_SKIPPED:
                return
            continue
        pieces = iter(functools.partial(content.read, _CHUNK), b"")
        _store(pieces, wanted.pop(name), is_executable=bool(member.mode & 0o100))
        stored += member.size
        if not wanted:
            return


class _Body(io.RawIOBase):
    """Pieces as a file to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            try:
                self._rest = next(self._pieces)
            except StopIteration:
                return 0
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)


def fetch_one(http: Http, fetch: Fetch) -> None:
    """Bring one file.

    Raises:
        DownloadError: it cannot be read, or came with another size or checksum than the service said.
    """
    local = local_path(fetch.source)
    if local is not None:
        _store(_local_pieces(local), fetch, is_executable=os.access(local, os.X_OK))
        return
    response = http.send("GET", fetch.source, headers={"Accept": "*/*"}, stream=True)
    is_executable = response.headers.get(EXECUTABLE, "").strip().lower() == "true"
    _store(http.pieces(response), fetch, is_executable=is_executable)


def _store(pieces: Iterable[bytes], fetch: Fetch, *, is_executable: bool) -> None:
    target = fetch.target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, part = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=".part", dir=target.parent)
    digest, size = hashlib.sha1(usedforsecurity=False), 0
    try:
        with os.fdopen(handle, "wb") as stream:
            for piece in pieces:
                stream.write(piece)
                digest.update(piece)
                size += len(piece)
        checksum = "sha1$" + digest.hexdigest()
        _verify(fetch.source, fetch.entry, size, checksum)
        mode = 0o777 if is_executable else 0o666
        os.chmod(part, mode & ~_umask())  # noqa: PTH101 - mkstemp made it private
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
    fetch.done.setdefault("checksum", checksum)
    fetch.done["size"] = size


def _local_pieces(path: Path) -> Any:
    try:
        with path.open("rb") as stream:
            while piece := stream.read(1024**2):
                yield piece
    except OSError as error:
        raise DownloadError(f"cannot read output {path}: {error.strerror}") from error


def _verify(source: str, entry: dict[str, Any], size: int, checksum: str) -> None:
    expected = entry.get("size")
    if isinstance(expected, int) and expected != size:
        raise DownloadError(f"{source} came with {size} bytes instead of {expected}")
    wanted = entry.get("checksum")
    if isinstance(wanted, str) and wanted.startswith("sha1$") and wanted != checksum:
        raise DownloadError(f"{source} came with checksum {checksum} instead of {wanted}")


def local_path(source: str) -> Path | None:
    """The path of a ``file://`` URL of this machine; None for any other."""
    split = urlsplit(source)
    return Path(unquote(split.path)) if split.scheme == "file" and split.netloc in ("", "localhost") else None


@functools.cache
def _umask() -> int:
    """The process's umask; reading it means setting it, so on Linux it is looked up instead, once."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
            for line in status:
                if line.startswith("Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022
