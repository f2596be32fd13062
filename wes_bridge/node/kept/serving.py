"""Answers with what is in a kept output: files with ranges and versions, and manifests of its folders."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wes_bridge.model.headers import EXECUTABLE
from wes_bridge.model.manifest import (
    MEDIA_TYPE,
    ManifestEntry,
    parse_entry,
    write_entry,
)
from wes_bridge.node.kept.index import Index
from wes_bridge.surface.http import byte_range

_BYTES = "application/octet-stream"
_CHUNK = 1 << 20
_LINES = 1000
Count = Callable[[int], None]


def version_of(entry: ManifestEntry) -> str:
    """The ETag of a file: its checksum."""
    return f'"{entry.checksum}"'


@dataclass
class _Sent:
    """What is sent: an open file, its bytes, how it is described, and who is told how much went."""

    file: int
    size: int
    headers: dict[str, str]
    media_type: str
    count: Count


async def send_file(request: Request, file: int, entry: ManifestEntry, count: Count) -> Response:
    """A file, or the part of it that is asked for.

    Args:
        request: to answer.
        file: descriptor of the file; it is closed.
        entry: what the manifest says of it.
        count: is told how many bytes were sent.
    """
    headers = {"Content-Disposition": "attachment", **_common(version_of(entry))}
    if entry.mode is not None and entry.mode & 0o100:
        headers[EXECUTABLE] = "true"
    return await _send(request, _Sent(file, entry.size or 0, headers, _BYTES, count))


async def send_manifest(request: Request, file: int, sealed: int) -> Response:
    """The whole manifest of an output; ``file`` is its descriptor, which is closed."""
    headers = _common(f'"manifest-{sealed:x}"')
    return await _send(request, _Sent(file, os.fstat(file).st_size, headers, MEDIA_TYPE, lambda _size: None))


async def send_folder(request: Request, file: int, path: str) -> Response:
    """The manifest of a folder of an output, paths relative to the folder.

    Args:
        request: to answer.
        file: descriptor of the output's manifest; it is closed.
        path: of the folder.
    """
    headers = {"X-Content-Type-Options": "nosniff"}
    if request.method == "HEAD":
        os.close(file)
        return Response(b"", 200, headers, MEDIA_TYPE)
    return StreamingResponse(_folder(file, path), 200, headers, MEDIA_TYPE)


def _common(etag: str) -> dict[str, str]:
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "X-Content-Type-Options": "nosniff",
    }


async def _send(request: Request, sent: _Sent) -> Response:
    try:
        response = await _response(request, sent)
    except BaseException:
        os.close(sent.file)
        raise
    if not isinstance(response, StreamingResponse):
        os.close(sent.file)
    return response


async def _response(request: Request, sent: _Sent) -> Response:
    headers, etag = sent.headers, sent.headers["ETag"]
    if _names(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    asked = request.headers.get("range")
    if request.headers.get("if-range", etag).strip() != etag:
        asked = None
    wanted = byte_range(asked, sent.size)
    start, end, status = 0, sent.size, 200
    if wanted is not None:
        start, end = wanted
        if start >= end:
            headers["Content-Range"] = f"bytes */{sent.size}"
            return Response(b"", 416, headers, sent.media_type)
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{sent.size}"
    if request.method == "HEAD":
        headers["Content-Length"] = str(end - start)
        return Response(b"", status, headers, sent.media_type)
    if end - start <= _CHUNK:
        content = await run_in_threadpool(os.pread, sent.file, end - start, start)
        sent.count(len(content))
        return Response(content, status, headers, sent.media_type)
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(_chunks(sent, start, end), status, headers, sent.media_type)


def _names(header: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` names a version."""
    if header is None:
        return False
    return any(part.strip().removeprefix("W/") in ("*", etag) for part in header.split(","))


async def _chunks(sent: _Sent, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        while start < end:
            chunk = await run_in_threadpool(os.pread, sent.file, min(_CHUNK, end - start), start)
            if not chunk:
                raise OSError(f"a kept file was cut short at {start} of {end} bytes")
            start += len(chunk)
            sent.count(len(chunk))
            yield chunk
    finally:
        os.close(sent.file)


async def _folder(file: int, path: str) -> AsyncIterator[bytes]:
    try:
        lines = await run_in_threadpool(_lines_below, Index(file), path)
        while chunk := await run_in_threadpool(_gathered, lines):
            yield chunk
    finally:
        os.close(file)


def _lines_below(index: Index, path: str) -> Iterator[bytes]:
    cut = len(path) + 1
    return (write_entry(_moved(parse_entry(line), cut)) for line in index.lines(*index.below(path)))


def _gathered(lines: Iterator[bytes]) -> bytes:
    return b"".join(islice(lines, _LINES))


def _moved(entry: ManifestEntry, cut: int) -> ManifestEntry:
    return ManifestEntry(
        entry.path[cut:],
        entry.kind,
        entry.size,
        entry.mode,
        entry.target,
        entry.checksum,
        entry.checksums,
        entry.note,
    )
