"""HTTP as an ExecutionBroker speaks it: bodies in JSON or YAML both ways, preferences, ranges, errors.

Bodies are read here and not by the framework, which would read all of one before refusing it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from wes_bridge.redaction import redacted
from wes_bridge.surface.errors import BadRequestError
from wes_bridge.surface.reading import check_values, yaml_as_json

JSON = "application/json"
YAML = "application/yaml"
_YAML_NAMES = frozenset({YAML, "application/x-yaml", "text/yaml", "text/x-yaml"})
LONGEST_WAIT = 300.0
"""Seconds a long poll is held at most."""
LONGEST_YAML = 4 * 1024**2
"""Bytes of a body in YAML: people write it."""
_LONGEST_YAML_ANSWER = 8 * 1024
"""Bytes of JSON that are written as people write YAML; what is longer goes as it is, since JSON is YAML."""
_WAIT = re.compile(rb"(?:^|[,;\s])wait\s*=\s*\"?(\d+(?:\.\d+)?)")
_CHUNK = 256 * 1024
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Model = TypeVar("_Model", bound=BaseModel)


def header(request: Request, name: bytes) -> str | None:
    """The first header called ``name`` (lower case); Starlette's look would decode and compare them all."""
    for key, value in request.scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


async def read_model(request: Request, model: type[_Model], limit: int) -> _Model:
    """Read a body and check it against a model.

    Args:
        request: the request.
        model: what it must be.
        limit: bytes it may have.

    Raises:
        BadRequestError: 413 too large, 415 another media type, 400 not understood; the text says where.
    """
    body = await _json_body(request, limit)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise BadRequestError(_explain(error)) from error


async def read_object(request: Request, model: type[BaseModel], limit: int) -> dict[str, Any]:
    """Read a body and check it against a model, but keep it as it was sent: plain JSON types.

    For who passes it on. Arguments and errors as of :func:`read_model`.
    """
    body = await _json_body(request, limit)
    try:
        data = from_json(body, allow_inf_nan=False)
        json.dumps(data, allow_nan=False)
    except (RecursionError, ValueError, TypeError) as error:
        text = str(error) or "it is nested too deeply"
        raise BadRequestError(f"the body is not valid JSON: {text}") from error
    try:
        model.model_validate(data)
    except ValidationError as error:
        raise BadRequestError(_explain(error)) from error
    checked: dict[str, Any] = data
    return checked


async def _json_body(request: Request, limit: int) -> bytes:
    """The body, which is not empty, and of one of our media types, as JSON of not too many values."""
    kind = (header(request, b"content-type") or JSON).partition(";")[0].strip().lower()
    if kind != JSON and not kind.endswith("+json") and kind not in _YAML_NAMES:
        raise BadRequestError(_not_read(kind), 415)
    body = await read_body(request, min(limit, LONGEST_YAML) if kind in _YAML_NAMES else limit)
    if not body.strip():
        raise BadRequestError("the request has no body")
    if kind in _YAML_NAMES:
        return await yaml_as_json(body)
    await check_values("the body", body)
    return body


def _not_read(kind: str) -> str:
    """Why a body cannot be read."""
    if kind.endswith(("/xml", "+xml")):
        return f"cannot read {kind}: XML is not spoken here, in neither direction; send {JSON} or {YAML}"
    return f"cannot read {kind}; send {JSON} or {YAML}"


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        BadRequestError: it has more than ``limit`` bytes; noticed before it is read when it says so.
    """
    declared = header(request, b"content-length") or "0"
    if declared.isdigit() and int(declared) > limit:
        raise BadRequestError(f"the body has {declared} bytes, {limit} are allowed", 413)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise BadRequestError(f"the body has more than the {limit} bytes that are allowed", 413)
        chunks.append(chunk)
    return b"".join(chunks)


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:5]:
        where = ".".join(str(part) for part in item["loc"])
        lines.append(f"{where}: {item['msg']}" if where else item["msg"])
    more = error.error_count() - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def answer(
    request: Request, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Send JSON text, as YAML when the client likes that better."""
    if _prefers_yaml(header(request, b"accept") or ""):
        if len(body) <= _LONGEST_YAML_ANSWER:
            text = yaml.dump(json.loads(body), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            return Response(text, status, headers, YAML)
        return Response(body, status, headers, YAML)
    return Response(body, status, headers, JSON)


def _prefers_yaml(accept: str) -> bool:
    if "yaml" not in accept:
        return False
    best: dict[bool, float] = {True: 0.0, False: 0.0}
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        try:
            weight = float(quality)
        except ValueError:
            weight = 0.0
        is_yaml = name in _YAML_NAMES
        best[is_yaml] = max(best[is_yaml], weight)
    return best[True] > best[False] or (best[True] == best[False] and _first_is_yaml(accept))


def _first_is_yaml(accept: str) -> bool:
    return accept.split(",", maxsplit=1)[0].split(";", maxsplit=1)[0].strip().lower() in _YAML_NAMES


def error_body(text: str) -> bytes:
    """The body of an error."""
    return json.dumps({"message": redacted(text)}).encode()


def wait_preference(request: Request) -> float:
    """Seconds of ``Prefer: wait=N`` (RFC 7240); 0 when absent or not a number."""
    return wait_asked(request) or 0.0


def wait_asked(request: Request) -> float | None:
    """As :func:`wait_preference`; None when the client says nothing of it."""
    for name, value in request.scope["headers"]:
        if name == b"prefer" and (match := _WAIT.search(value)):
            return min(float(match[1]), LONGEST_WAIT)
    return None


def etag_seen(request: Request) -> str | None:
    """The version in ``If-None-Match``, as it was sent; weak validators count as strong."""
    seen = header(request, b"if-none-match")
    return seen.strip().removeprefix("W/") if seen else None


def base_url(request: Request, public: str | None) -> str:
    """What the client calls this node: configured, else scheme and Host of the request; no final ``/``."""
    if public:
        return public.rstrip("/")
    return f"{request.scope['scheme']}://{header(request, b'host') or 'localhost'}"


async def file_answer(request: Request, file: int | None) -> Response:
    """Send a file, or the part of it a ``Range`` asks for, as long as it is now; it may be growing.

    Args:
        request: to answer.
        file: its descriptor, which is closed; None for an empty one.
    """
    try:
        response = await _file_answer(request, file)
    except BaseException:
        _close(file)
        raise
    if not isinstance(response, StreamingResponse):
        _close(file)
    return response


async def _file_answer(request: Request, file: int | None) -> Response:
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store"}
    size = os.fstat(file).st_size if file is not None else 0
    wanted = byte_range(request.headers.get("range"), size)
    if wanted is None:
        start, end, status = 0, size, 200
    elif wanted[0] >= wanted[1]:
        headers["Content-Range"] = f"bytes */{size}"
        return Response(b"", 416, headers, "application/octet-stream")
    else:
        start, end = wanted
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    if request.method == "HEAD":
        headers["Content-Length"] = str(end - start)
        return Response(b"", status, headers, "application/octet-stream")
    if file is None or end - start <= _CHUNK:
        content = b"" if file is None else await run_in_threadpool(os.pread, file, end - start, start)
        return Response(content, status, headers, "application/octet-stream")
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(_chunks(file, start, end), status, headers, "application/octet-stream")


def _close(file: int | None) -> None:
    if file is not None:
        os.close(file)


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes one ``Range`` asks for, as start and end; None when all are to be sent.

    An empty span (start not before end) means that there are none (416).
    """
    match = re.fullmatch(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", header.strip()) if header else None
    if match is None or match[1] == match[2] == "" or len(match[1]) > 18 or len(match[2]) > 18:
        return None
    if match[1] == "":
        last = int(match[2])
        return (max(0, size - last), size) if last else (size, size)
    start = int(match[1])
    if match[2] and int(match[2]) < start:
        return None
    return start, min(size, int(match[2]) + 1) if match[2] else size


async def _chunks(file: int, start: int, end: int) -> AsyncIterator[bytes]:
    try:
        while start < end:
            length = min(_CHUNK, end - start)
            chunk = await run_in_threadpool(os.pread, file, length, start)
            if not chunk:
                chunk = b"\0" * length  # the file was cut short meanwhile
            start += len(chunk)
            yield chunk
    finally:
        os.close(file)
