"""Responses with files in them: whole, in part, or made while they are sent."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from email.utils import formatdate, parsedate_to_datetime
from typing import NamedTuple, Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wes_bridge.data.downloads import Opened, RangeError, parse_range
from wes_bridge.model.headers import EXECUTABLE
from wes_bridge.storage.base import Stat
from wes_bridge.surface.safe_headers import INERT, inert_type
from wes_bridge.wes.errors import NoSuchRangeError
from wes_bridge.wes.threads import Threads

_CHUNK = 512 * 1024
_SAFE = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": INERT}
"""Files come from commands nobody trusts: a browser must not run them as ours."""


class _Streamed(Response, ABC):
    """A response whose body is read chunk by chunk in a thread, and no further once nobody listens."""

    def __init__(self, status: int, headers: Mapping[str, str], threads: Threads) -> None:
        super().__init__(None, status)
        # Starlette would add the length of the body it knows: none
        self.raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self._threads = threads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            if scope["method"] != "HEAD":
                await self._send_body(receive, send)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.close()

    async def _send_body(self, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        try:
            while not gone.done():
                chunk = await self._threads.files(self.read)
                if chunk is None:
                    return
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            gone.cancel()

    @abstractmethod
    def read(self) -> bytes | None:
        """The next chunk, None at the end. Runs in a thread."""

    def close(self) -> None:
        """Let go of what is open."""


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class FileBody(_Streamed):
    """An open file, or a part of it."""

    def __init__(
        self, opened: Opened, part: tuple[int, int], status: int, headers: Mapping[str, str], threads: Threads
    ) -> None:
        super().__init__(status, headers, threads)
        self._opened = opened
        self._at, self._end = part

    def read(self) -> bytes | None:
        """See the base class."""
        if self._at >= self._end:
            return None
        chunk = os.pread(self._opened.file.fileno(), min(_CHUNK, self._end - self._at), self._at)
        if not chunk:
            raise EOFError("the file became shorter while it was sent")
        self._at += len(chunk)
        return chunk

    def close(self) -> None:
        """See the base class."""
        self._opened.file.close()


class MadeBody(_Streamed):
    """What an iterator gives: an archive as it is made, a file from a store."""

    def __init__(
        self, chunks: Iterator[bytes], headers: Mapping[str, str], threads: Threads, status: int = 200
    ) -> None:
        super().__init__(status, headers, threads)
        self._chunks = chunks

    def read(self) -> bytes | None:
        """See the base class."""
        gathered = bytearray()
        for chunk in self._chunks:
            gathered += chunk
            if len(gathered) >= _CHUNK:
                break
        return bytes(gathered) or None


def send_file(
    request: Request, opened: Opened, name: str, threads: Threads, media_type: str | None = None
) -> Response:
    """The file as the request's headers want it: whole, a range, or not at all when it is known.

    Args:
        request: its ``Range``, ``If-Range``, ``If-None-Match`` and ``If-Modified-Since`` count.
        opened: closed when the response was sent.
        name: the file's name; its type is guessed from it.
        threads: to read in.
        media_type: when the name says nothing.

    Raises:
        NoSuchRangeError: the range begins behind the end.
    """
    try:
        answer = _asked(request, opened, name, media_type)
    except NoSuchRangeError:
        opened.file.close()
        raise
    if answer.part is None:
        opened.file.close()
        return Response(None, answer.status, answer.headers)
    return FileBody(opened, answer.part, answer.status, answer.headers, threads)


def send_stored(
    request: Request,
    stat: Stat,
    read: Callable[[int, int], Iterator[bytes]],
    threads: Threads,
    media_type: str | None = None,
) -> Response:
    """The same of a file in a store, read from there.

    Args:
        request: as of :func:`send_file`.
        stat: what the file is.
        read: gives the bytes from one place to before another.
        threads: to read in.
        media_type: when the name says nothing.

    Raises:
        NoSuchRangeError: the range begins behind the end.
    """
    answer = _asked(request, stat, stat.name.rpartition("/")[2], media_type)
    if answer.part is None:
        return Response(None, answer.status, answer.headers)
    return MadeBody(read(*answer.part), answer.headers, threads, answer.status)


class _Sendable(Protocol):
    """What is known of a file that is sent."""

    @property
    def etag(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def mtime_ns(self) -> int: ...

    @property
    def is_executable(self) -> bool: ...


class _Answer(NamedTuple):
    """Status and headers, and which part of the file; None: nothing of it."""

    status: int
    headers: dict[str, str]
    part: tuple[int, int] | None


def _asked(request: Request, found: _Sendable, name: str, media_type: str | None) -> _Answer:
    """What of a file the request's headers want."""
    headers = {
        "ETag": found.etag,
        "Last-Modified": formatdate(found.mtime_ns / 1e9, usegmt=True),
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        **({EXECUTABLE: "true"} if found.is_executable else {}),
        **_SAFE,
    }
    if _is_known(request, found):
        return _Answer(304, headers, None)
    try:
        part = parse_range(request.headers.get("range"), found.size) if _may_cut(request, found) else None
    except RangeError as error:
        raise nothing_there(error.size) from error
    start, end = part or (0, found.size)
    headers["Content-Length"] = str(end - start)
    headers["Content-Type"], how = inert_type(media_type or guess_type(name))
    headers["Content-Disposition"] = f"{how}; filename*=UTF-8''{quote(os.fsencode(name))}"
    if part:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{found.size}"
    return _Answer(206 if part else 200, headers, (start, end))


def send_nothing(request: Request) -> Response:
    """A log that is not there yet: empty text.

    Raises:
        NoSuchRangeError: a range of it was asked for.
    """
    try:
        part = parse_range(request.headers.get("range"), 0)
    except RangeError as error:
        raise nothing_there(0) from error
    assert part is None
    return Response(b"", 200, {"Accept-Ranges": "bytes", **_SAFE}, "text/plain")


def nothing_there(size: int) -> NoSuchRangeError:
    """The error for a range that begins at or behind the end, ``size``."""
    return NoSuchRangeError(
        f"nothing (yet) where the range begins: {size} bytes are there", {"Content-Range": f"bytes */{size}"}
    )


def send_archive(chunks: Iterator[bytes], name: str, media_type: str, threads: Threads) -> Response:
    """An archive, made while it is sent. ``name`` is the file's name for a browser."""
    headers = {
        "Content-Type": media_type,
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(os.fsencode(name))}",
        **_SAFE,
    }
    return MadeBody(chunks, headers, threads)


def guess_type(name: str) -> str:
    """The media type a file name suggests."""
    guessed, encoding = mimetypes.guess_type(name)
    if encoding or not guessed:
        return "application/octet-stream"
    return f"{guessed}; charset=utf-8" if guessed.startswith("text/") else guessed


def _is_known(request: Request, found: _Sendable) -> bool:
    known = request.headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or found.etag in [
            one.strip().removeprefix("W/") for one in known.split(",")
        ]
    since = _date(request.headers.get("if-modified-since"))
    return since is not None and found.mtime_ns // 10**9 <= since.timestamp()


def _may_cut(request: Request, found: _Sendable) -> bool:
    condition = request.headers.get("if-range")
    if condition is None:
        return True
    if condition.startswith('"'):
        return condition == found.etag
    when = _date(condition)
    return when is not None and found.mtime_ns // 10**9 == int(when.timestamp())


def _date(text: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(text) if text else None
    except (ValueError, TypeError):
        return None
