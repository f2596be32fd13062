"""Fetching what another node keeps: a file, or a whole output by its manifest, all of it or nothing.

An output that is large may be left where it is: then what comes is its manifest, and stand-ins for its files,
which :meth:`Receiving.fill` brings later.

Every file is hashed while it is written, and compared with what its node says of it. A transfer that breaks
off is gone on with where it ended. The other node is trusted with nothing but its own bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import IO
from uuid import uuid4

from wes_bridge.data.hashing import Sums
from wes_bridge.data.special import put_not_kept, readable
from wes_bridge.data.stand_ins import put_stand_in, stands_in
from wes_bridge.fetching.client import Answer, Fetcher
from wes_bridge.fetching.errors import FetchError, StatusError, TooLargeError, is_worth_retrying
from wes_bridge.model.data_urls import data_path_of, quote_path
from wes_bridge.model.expected import UNSAID, Expected
from wes_bridge.model.headers import EXECUTABLE
from wes_bridge.model.manifest import (
    LONGEST_LINE,
    MEDIA_TYPE,
    MOST_ENTRIES,
    EntryKind,
    ManifestEntry,
    read_manifest,
)

ATTEMPTS = 4
"""How often a transfer is tried."""
PARALLEL = 8
"""Files of one output that are fetched at once."""
_AHEAD = 4 * PARALLEL
_CHUNK = 256 * 1024
_LONGEST_REASON = 4096
_EMPTY = f"sha1${hashlib.sha1(usedforsecurity=False).hexdigest()}"
_LONGEST_MANIFEST = 1 << 30
"""Bytes: a million entries, and a kilobyte for each."""
Count = Callable[[int], None]


class WrongContentError(ValueError):
    """What came is not what the other node's manifest says."""


@dataclass(frozen=True)
class Leaving:
    """When an output is left where it is.

    Attributes:
        size: it has more bytes.
        files: or more files.
        note: is given the manifest, in pieces, before anything stands in for the output.
    """

    size: int
    files: int
    note: Callable[[Iterator[bytes]], None]


class Receiving:
    """Fetches what kept outputs hold.

    Args:
        fetcher: asks their nodes.
        count: is told how many bytes came.
        pause: seconds before the second attempt; doubles each time.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        count: Count = lambda _size: None,
        pause: float = 0.5,
    ) -> None:
        self._fetcher = fetcher
        self._count = count
        self._lock = threading.Lock()
        self._pause = pause

    def receive(
        self,
        location: str,
        target: Path,
        stop: Event,
        expected: Expected = UNSAID,
        *,
        leaving: Leaving | None = None,
        admit: Count = lambda _size: None,
    ) -> bool:
        """Bring a file, or a folder with all that is in it, to a place where nothing is.

        Args:
            location: URL; of a folder it ends, before its query, with a slash or with the output's name.
            target: the place.
            stop: set to give up.
            expected: how a file must be.
            leaving: when what is in a folder stays where it is, and stand-ins are made.
            admit: is told the bytes of a folder that is to be brought, and may refuse them by an error.

        Returns:
            Whether its bytes have come.

        Raises:
            OSError, ValueError: it cannot be had; the text says what its node says.
        """
        place = data_path_of(location)
        part = target.with_name(f".{uuid4().hex}.part")
        has_come = True
        try:
            if place is not None and place.is_folder:
                has_come = self._fetch_folder(location, part, stop, leaving, admit)
            else:
                self._fetch_file(location, part, None, stop, expected)
            part.rename(target)
        finally:
            _remove(part)
        return has_come

    def fill(self, url: str, folder: Path, entries: Iterable[ManifestEntry], stop: Event) -> None:
        """Bring files of an output to the places of their stand-ins, each when it is whole and right.

        Args:
            url: of the output's folder.
            folder: where the stand-ins are.
            entries: the files; what has no stand-in is left alone.
            stop: set to give up.

        Raises:
            OSError, ValueError: see :meth:`receive`; what has come by then stays.
        """
        self._fetch_files(url, folder, (entry for entry in entries if stands_in(folder, entry)), stop)

    def start(self, url: str, size: int) -> bytes:
        """The first bytes of a file, at most ``size``.

        Raises:
            OSError: they cannot be had.
        """
        headers = {"Range": f"bytes=0-{size - 1}"}
        content = b""
        with self._fetcher.open("GET", url, headers=headers) as answer:
            _check_status(answer)
            for chunk in answer.chunks():
                content += chunk
                self._counted(len(chunk))
                if len(content) >= size:
                    break
        return content[:size]

    # ---- a file ------------------------------------------------------------------------------------

    def _fetch_file(
        self,
        url: str,
        target: Path,
        entry: ManifestEntry | None,
        stop: Event,
        expected: Expected = UNSAID,
    ) -> None:
        """Fetch a file and compare it: with its entry, else with the checksum that its answer gives; and with
        what the session expects."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(target, flags, 0o600), "wb") as out:
            came = _Coming(out, expected, entry.size if entry is not None else expected.size)
            for attempt in range(ATTEMPTS):
                try:
                    self._receive(url, came, stop)
                    break
                except FetchError as error:
                    if attempt == ATTEMPTS - 1 or not is_worth_retrying(error):
                        raise
                if stop.wait(self._pause * 2**attempt):
                    raise InterruptedError("stopped")
        came.check(entry)
        mode = entry.mode if entry is not None and entry.mode is not None else came.mode
        target.chmod(mode | 0o600)

    def _receive(self, url: str, came: _Coming, stop: Event) -> None:
        with self._fetcher.open("GET", url, headers=came.headers) as answer:
            _check_status(answer)
            came.begin(answer)
            for chunk in answer.chunks():
                came.take(chunk)
                self._counted(len(chunk))
                if stop.is_set():
                    raise InterruptedError("stopped")

    def _counted(self, size: int) -> None:
        with self._lock:
            self._count(size)

    # ---- a folder ----------------------------------------------------------------------------------

    def _fetch_folder(
        self, url: str, target: Path, stop: Event, leaving: Leaving | None, admit: Count
    ) -> bool:
        with tempfile.TemporaryFile(dir=target.parent) as manifest:
            self._fetch_manifest(url, manifest, stop)
            most, total, files = self._fetcher.limits.max_bytes, 0, 0
            target.mkdir(0o700)
            for entry in _entries(manifest):
                total += entry.size or 0
                files += entry.kind is EntryKind.FILE
                if entry.kind is EntryKind.DIRECTORY:
                    (target / entry.path).mkdir(0o700)
            if most is not None and total > most:
                raise TooLargeError(f"larger than {most} bytes (fetch.max_bytes)")
            stays = leaving is not None and (total > leaving.size or (files > leaving.files and total > 0))
            if leaving is not None and stays:
                leaving.note(_pieces(manifest))
                for entry in _entries(manifest):
                    if entry.kind is EntryKind.FILE:
                        put_stand_in(target / entry.path, entry)
            else:
                admit(total)
                self._fetch_files(url, target, _entries(manifest), stop)
            for entry in _entries(manifest):
                if entry.kind is EntryKind.LINK and entry.leads_inside:
                    (target / entry.path).symlink_to(entry.target or "")
                elif entry.kind in (EntryKind.LINK, EntryKind.OTHER):
                    put_not_kept(str(target / entry.path), entry)
                elif entry.kind is EntryKind.DIRECTORY:
                    (target / entry.path).chmod((entry.mode or 0o755) | 0o700)
        target.chmod(0o755)
        return not stays

    def _fetch_manifest(self, url: str, file: IO[bytes], stop: Event) -> None:
        for attempt in range(ATTEMPTS):
            file.seek(0)
            file.truncate()
            try:
                with self._fetcher.open("GET", url) as answer:
                    _check_status(answer)
                    if (answer.header("content-type") or "").partition(";")[0].strip() != MEDIA_TYPE:
                        raise WrongContentError("a folder was asked for, and what came is no manifest")
                    _write_manifest(answer.chunks(), file, stop)
                return
            except FetchError as error:
                if attempt == ATTEMPTS - 1 or not is_worth_retrying(error):
                    raise
            if stop.wait(self._pause * 2**attempt):
                raise InterruptedError("stopped")

    def _fetch_files(self, url: str, target: Path, entries: Iterator[ManifestEntry], stop: Event) -> None:
        """Several at once; the first that fails ends it."""
        base, question, query = url.partition("?")
        base = base if base.endswith("/") else base + "/"
        over = _Either(stop)
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(PARALLEL, "wb-kept") as pool:
            try:
                for entry in entries:
                    if entry.kind is not EntryKind.FILE:
                        continue
                    place = f"{base}{quote_path(entry.path)}{question}{query}"
                    waiting.append(pool.submit(self._fetch_entry, place, target, entry, over))
                    if len(waiting) >= _AHEAD:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
            except BaseException:
                over.set()
                for future in waiting:
                    future.cancel()
                raise

    def _fetch_entry(self, url: str, target: Path, entry: ManifestEntry, stop: Event) -> None:
        place = target / entry.path
        if entry.size == 0 and entry.checksum == _EMPTY:
            put_stand_in(place, entry)  # which is the whole file
            return
        part = place.with_name(f".{uuid4().hex}.part")
        try:
            self._fetch_file(url, part, entry, stop)
            part.replace(place)
        except FetchError as error:
            raise ValueError(f"{readable(entry.path)}: {error}") from error
        finally:
            part.unlink(missing_ok=True)


class _Either(Event):
    """Set when somebody else's event is, or when we are done ourselves."""

    def __init__(self, other: Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()


class _Coming:
    """A file on its way: what of it has come, and what it should be."""

    def __init__(self, out: IO[bytes], expected: Expected, most: int | None) -> None:
        self._out = out
        self._most = most
        self._expected = expected
        self._algorithms = [expected.checksum[0]] if expected.checksum else []
        self._etag: str | None = None
        self._size = 0
        self._sums = Sums(self._algorithms)
        self.mode = 0o644

    @property
    def headers(self) -> dict[str, str]:
        """What asks for the rest, of the same version."""
        if not self._size or self._etag is None:
            return {}
        return {"Range": f"bytes={self._size}-", "If-Range": self._etag}

    def begin(self, answer: Answer) -> None:
        """An answer has begun: it goes on, or brings all of it."""
        starts = (answer.header("content-range") or "").startswith(f"bytes {self._size}-")
        if self._size and not (answer.status == 206 and starts and answer.header("etag") == self._etag):
            self._out.seek(0)
            self._out.truncate()
            self._size, self._sums = 0, Sums(self._algorithms)
            if answer.status == 206:
                raise WrongContentError("another part of the file came than was asked for")
        self._etag = answer.header("etag")
        if (answer.header(EXECUTABLE.lower()) or "").strip().lower() == "true":
            self.mode = 0o755

    def take(self, chunk: bytes) -> None:
        """Some of it.

        Raises:
            WrongContentError: more has come than there should be; a hostile node might never end.
        """
        if self._most is not None and self._size + len(chunk) > self._most:
            raise WrongContentError(f"more than the {self._most} bytes come that the file should have")
        self._out.write(chunk)
        self._sums.update(memoryview(chunk))
        self._size += len(chunk)

    def check(self, entry: ManifestEntry | None) -> None:
        """See that it is what it should be.

        Raises:
            WrongContentError: it is not.
        """
        if entry is not None and entry.size != self._size:
            raise WrongContentError(
                f"{readable(entry.path)} has {self._size} bytes and not the {entry.size} of its manifest"
            )
        etag = (self._etag or "").strip('"')
        wanted = entry.checksum if entry is not None else etag if etag.startswith("sha1$") else None
        if wanted is not None and wanted != self._sums.checksum:
            name = readable(entry.path) if entry is not None else "what came"
            raise WrongContentError(f"{name} has the checksum {self._sums.checksum} and not {wanted}")
        self._compare()

    def _compare(self) -> None:
        """The same with what the session expects."""
        if self._expected.size not in (None, self._size):
            raise WrongContentError(f"what came has {self._size} bytes and not {self._expected.size}")
        if self._expected.checksum is None:
            return
        algorithm, wanted = self._expected.checksum
        found = self._sums.value(algorithm)
        if found != wanted:
            raise WrongContentError(f"what came has the {algorithm} checksum {found} and not {wanted}")


def _pieces(manifest: IO[bytes]) -> Iterator[bytes]:
    manifest.seek(0)
    return iter(lambda: manifest.read(_CHUNK), b"")


def _entries(manifest: IO[bytes]) -> Iterator[ManifestEntry]:
    return read_manifest(_pieces(manifest))


def _write_manifest(chunks: Iterable[bytes], file: IO[bytes], stop: Event) -> None:
    """Write a manifest as it comes, up to a limit; its lines are checked later.

    Raises:
        WrongContentError: it is longer than any manifest.
    """
    size, lines = 0, 0
    for chunk in chunks:
        size, lines = size + len(chunk), lines + chunk.count(b"\n")
        if size > _LONGEST_MANIFEST or lines > MOST_ENTRIES or size > (lines + 1) * LONGEST_LINE + _CHUNK:
            raise WrongContentError(f"its manifest is longer than is taken: {size} bytes in {lines} lines")
        file.write(chunk)
        if stop.is_set():
            raise InterruptedError("stopped")


def _check_status(answer: Answer) -> None:
    """Raise StatusError unless it is a success, with what the other node says."""
    if 200 <= answer.status < 300:
        return
    reason = ""
    with contextlib.suppress(FetchError, ValueError, TypeError, KeyError):
        content = b""
        for chunk in answer.chunks():
            content += chunk
            if len(content) > _LONGEST_REASON:
                break
        reason = f": {str(json.loads(content)['message'])[:500]}"
    raise StatusError(f"HTTP {answer.status}{reason}", answer.status)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
