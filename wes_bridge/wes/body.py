"""Reading the body of POST /runs, whatever its type, without holding attachments in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

from wes_bridge.data.attachments import BadAttachmentError, Incoming, TooManyAttachmentsError
from wes_bridge.digits import too_many_digits
from wes_bridge.surface import errors as broker
from wes_bridge.surface.reading import check_values
from wes_bridge.wes.errors import BadRequestError, BusyError, TooLargeError
from wes_bridge.wes.multipart import MAX_FIELDS, FormParser, disposition
from wes_bridge.wes.threads import Threads

_TYPES = "multipart/form-data, application/json or application/x-www-form-urlencoded"
_GATHER = 512 * 1024
QUICK = 64 * 1024
"""Bytes that are read at once; more are read in a thread."""


async def read_fields(
    request: Request, incoming: Incoming, max_body: int, threads: Threads
) -> Mapping[str, Any]:
    """The fields of a submission; attachments have gone to ``incoming``.

    Args:
        request: the request.
        incoming: where attachments go.
        max_body: bytes the whole body may have.
        threads: what writes to disk runs there.

    Raises:
        BadRequestError: no body, a type that is none of ours, or a malformed body.
        TooLargeError: too much of anything.
        OSError: an attachment cannot be stored.
    """
    _refuse_early(request, max_body)
    header = request.headers.get("content-type", "")
    kind = header.partition(";")[0].strip().lower()
    try:
        if kind == "multipart/form-data":
            fields = await _multipart(request, header, incoming, max_body, threads)
            for name, text in fields.items():
                await _check_values(name, text.encode())
            return fields
        document = await _whole(request, min(max_body, _LONGEST.get(kind, 0))) if kind in _WHOLE else b""
    except BadAttachmentError as error:
        raise BadRequestError(str(error)) from error
    except TooManyAttachmentsError as error:
        raise TooLargeError(str(error)) from error
    if kind not in _WHOLE:
        raise BadRequestError(f"Content-Type is {kind or 'not given'!r}; send {_TYPES}")
    if not document:
        raise BadRequestError(f"the request has no body; send the run as {_TYPES}")
    if kind == "application/json":
        await _check_values("the body", document)
    if len(document) <= QUICK:
        return _WHOLE[kind](document)
    return await threads.files(_WHOLE[kind], document)


async def read_object(request: Request) -> Mapping[str, Any]:
    """A small JSON object; no body is an empty one.

    Raises:
        BadRequestError: it is something else.
        TooLargeError: it is not small.
    """
    document = await _whole(request, MAX_FIELDS)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not document.strip():
        return {}
    if kind != "application/json":
        raise BadRequestError(f"Content-Type is {kind or 'not given'!r}; send application/json")
    await _check_values("the body", document)
    value = parse_json("the body", document)
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object")
    return value


async def _check_values(what: str, document: bytes) -> None:
    """Check that not too many objects would be made of a JSON text.

    Raises:
        TooLargeError: they would.
        BusyError: others' are looked at already.
    """
    try:
        await check_values(what, document)
    except broker.BadRequestError as error:
        kind = BusyError if error.status == BusyError.status else TooLargeError
        raise kind(str(error)) from error


def _refuse_early(request: Request, max_body: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_body:
        raise _too_large(max_body)


def _too_large(max_body: int) -> TooLargeError:
    return TooLargeError(
        f"the submission has more than the {max_body} bytes this service takes;"
        " refer to large inputs by URL instead of attaching them"
    )


async def _chunks(request: Request, max_body: int) -> AsyncIterator[bytes]:
    """The body in pieces of about :data:`_GATHER` bytes."""
    gathered = bytearray()
    total = 0
    async for piece in request.stream():
        total += len(piece)
        if total > max_body:
            raise _too_large(max_body)
        gathered += piece
        if len(gathered) >= _GATHER:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def _whole(request: Request, max_body: int) -> bytes:
    return b"".join([chunk async for chunk in _chunks(request, max_body)])


async def _multipart(
    request: Request, header: str, incoming: Incoming, max_body: int, threads: Threads
) -> Mapping[str, Any]:
    boundary = disposition(header).get("boundary", "")
    if not boundary:
        raise BadRequestError("multipart/form-data: the Content-Type has no boundary")
    parser = FormParser(boundary, incoming)
    async for chunk in _chunks(request, max_body):
        await threads.files(parser.feed, chunk)
    parser.finish()
    return parser.fields


def _json(document: bytes) -> Mapping[str, Any]:
    value = parse_json("the body", document)
    if not isinstance(value, dict):
        raise BadRequestError("the body must be a JSON object, a RunRequest")
    return value


def _urlencoded(document: bytes) -> Mapping[str, Any]:
    try:
        pairs = parse_qsl(document.decode(), keep_blank_values=True, errors="strict", max_num_fields=100)
    except ValueError as error:
        raise BadRequestError(f"the URL-encoded form cannot be read: {error}") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise BadRequestError("the URL-encoded form has a field twice")
    return fields


_LONGEST = {"application/json": MAX_FIELDS, "application/x-www-form-urlencoded": 2 * 1024**2}
"""Bytes; of a form, each may be written as three, and is looked at in Python."""
_WHOLE = {"application/json": _json, "application/x-www-form-urlencoded": _urlencoded}


def parse_json(what: str, text: str | bytes) -> Any:
    """Read strict JSON: no NaN, no numbers beyond a double, no half characters.

    Args:
        what: names the text in the error message.
        text: the JSON.

    Raises:
        BadRequestError: says what is wrong and where.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise BadRequestError(f"{what}: not valid Unicode text") from error
    except ValueError as error:
        if (digits := too_many_digits(error)) is not None:
            raise BadRequestError(f"{what}: {digits}") from error
        raise BadRequestError(f"{what}: not valid JSON: {error}") from error
    except RecursionError as error:
        raise BadRequestError(f"{what}: nested too deeply") from error
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
