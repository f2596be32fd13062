"""Whatever goes wrong, the client gets ``{"msg": ..., "status_code": ...}``: the one place that sees to it.

Source: WES 1.1.0 ``ErrorResponse``. Handlers raise an :class:`ApiError`; connexion and Starlette raise their
own; anything else is our fault and a 500 that tells no secrets.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from connexion.exceptions import ProblemException
from connexion.lifecycle import ConnexionRequest, ConnexionResponse
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from wes_bridge.lasting import LastingOfEach, place_of
from wes_bridge.redaction import redacted
from wes_bridge.store.outage import OUTAGE, is_passing
from wes_bridge.store.writer import DoubtfulError, NotWrittenError

_LOG = logging.getLogger(__name__)
_FAILED = LastingOfEach(_LOG, "requests fail: {}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_POSTGRESQL_FULL = "53100"
NO_DATABASE = "the service's database does not answer; try again in a moment"
IN_DOUBT = "the service's database stopped answering at the end: this may have been done or not; look first"


class ApiError(Exception):
    """An answer other than success. The text is for the person who called.

    Attributes:
        status: HTTP status code.
        headers: to be sent along.
    """

    status = 500

    def __init__(self, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.headers = headers or {}


class BadRequestError(ApiError):
    """400: the request is wrong; the text says where and what would be right."""

    status = 400


class ForbiddenError(ApiError):
    """403: the caller may see it, but may not do this."""

    status = 403


class NotFoundError(ApiError):
    """404: no such run, task or file, or not the caller's."""

    status = 404


class NotAcceptableError(ApiError):
    """406: the client takes nothing that can be sent."""

    status = 406


class BusyError(ApiError):
    """503: as many as can be served at once are being served."""

    status = 503


class ConflictError(ApiError):
    """409: not in this state."""

    status = 409


class TooLargeError(ApiError):
    """413: more than the service takes."""

    status = 413


class TooManyError(ApiError):
    """429: more than one user may have; says when to try again."""

    status = 429

    def __init__(self, message: str, wait: float) -> None:
        super().__init__(message, {"Retry-After": str(math.ceil(wait))})


class NoSuchRangeError(ApiError):
    """416: nothing (yet) where the range begins."""

    status = 416


class UpstreamError(ApiError):
    """502: the node that holds what was asked for does not give it."""

    status = 502


def in_doubt(run_id: str) -> BusyError:
    """What to tell who asked for a run of which nobody knows whether it was stored."""
    return BusyError(f"{IN_DOUBT} for run {run_id}")


def describe(error: Exception) -> tuple[int, str, dict[str, str]]:
    """Status code, message and headers for any exception."""
    if isinstance(error, ApiError):
        return error.status, str(error), error.headers
    if isinstance(error, ProblemException):
        # WES lists no 415: a body of the wrong type is a bad request
        status = 400 if error.status in (406, 415) else error.status
        return status, str(error.detail or error.title), {}
    if isinstance(error, HTTPException):
        return error.status_code, _http_text(error), dict(error.headers or {})
    if isinstance(error, ClientDisconnect):
        return 400, "the client went away before its request was complete", {}
    return _own_fault(error)


def _own_fault(error: Exception) -> tuple[int, str, dict[str, str]]:
    if is_disk_full(error):
        return 500, "no space left on the service's disk; try again later or tell its operator", {}
    if isinstance(error, DoubtfulError):
        return 503, IN_DOUBT, {}  # not Retry-After: nobody should do it again without a look
    if isinstance(error, NotWrittenError) or is_passing(error):
        return 503, NO_DATABASE, {"Retry-After": "5"}
    return 500, "something went wrong in the service; its log tells more", {}


def _http_text(error: HTTPException) -> str:
    if error.status_code == 404:
        return "there is nothing at this address; see /ga4gh/wes/v1/ui/ for what there is"
    return error.detail or HTTPStatus(error.status_code).phrase


def is_disk_full(error: BaseException) -> bool:
    """Whether storing failed for want of space, in a file or in the database."""
    if isinstance(error, OSError):
        return error.errno in _FULL
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.OperationalError):
        return "disk is full" in str(error.orig)
    return getattr(error.orig, "sqlstate", None) == _POSTGRESQL_FULL


def error_answers(
    document: Mapping[str, Any], base_path: str
) -> Callable[[ConnexionRequest, Exception], Awaitable[ConnexionResponse]]:
    """What turns exceptions into answers.

    Args:
        document: the OpenAPI document: it knows which methods a path takes (connexion makes one route a
            method, and so names only one of them in a 405).
        base_path: where its paths begin.
    """
    methods = [(_pattern(base_path + path), _methods(item)) for path, item in document["paths"].items()]

    async def on_error(request: ConnexionRequest, error: Exception) -> ConnexionResponse:
        status, message, headers = describe(error)
        message = redacted(message)
        if status == 405:
            path = request.scope["path"]
            allow = next((names for pattern, names in methods if pattern.match(path)), "GET, HEAD")
            message, headers = f"this address takes only {allow}", {"Allow": allow}
        return _answer(request, error, status, message, headers)

    return on_error


_VARIABLE = re.compile(r"\\\{(\w+)\\\}")


def _pattern(path: str) -> re.Pattern[str]:
    """What addresses look like that the document writes as ``path``."""
    return re.compile(
        _VARIABLE.sub(lambda found: ".+" if found[1] == "path" else "[^/]+", re.escape(path)) + "$"
    )


def _methods(path_item: Mapping[str, Any]) -> str:
    names = [name.upper() for name in path_item if name in ("get", "head", "post", "delete")]
    if "GET" in names and "HEAD" not in names:
        names.append("HEAD")
    return ", ".join(names)


def _answer(
    request: ConnexionRequest, error: Exception, status: int, message: str, headers: dict[str, str]
) -> ConnexionResponse:
    """The answer; what is our fault is logged."""
    if status == 500:
        _FAILED.seen("no space is left" if is_disk_full(error) else place_of(error), error, logging.ERROR)
    elif isinstance(error, NotWrittenError) or is_passing(error):
        OUTAGE.seen(error)
    else:
        _LOG.debug("%s %s: %d %s", request.method, request.url.path, status, message)
    return ConnexionResponse(
        status_code=status,
        mimetype="application/json",
        body=json.dumps({"msg": message, "status_code": status}),
        headers=headers,
    )


HANDLED: tuple[type[Exception], ...] = (ProblemException, HTTPException, Exception)
"""Exception classes the answers are registered for."""
