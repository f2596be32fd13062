"""An ExecutionBroker as an ASGI application: the operations of our OpenAPI document, by a table."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Protocol

import yaml
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from wes_bridge.auth.rates import limited
from wes_bridge.auth.signed_urls import SignedUrls
from wes_bridge.lasting import LastingOfEach, place_of
from wes_bridge.model.limits import LimitsConfig
from wes_bridge.store.database import NewerDatabaseError, cannot_open
from wes_bridge.surface import http
from wes_bridge.surface.asgi import AsgiApp, Handler, by_operation
from wes_bridge.surface.errors import BadRequestError
from wes_bridge.surface.refusing import error_body

_FAILED = LastingOfEach(logging.getLogger(__name__), "requests fail: {}")


class Served(Protocol):
    """What is behind the application, and has a life: a node, an aggregator."""

    async def start(self) -> None:
        """Take up work, before the first request."""

    async def stop(self) -> None:
        """Lay it down, after the last."""

    def release_waiters(self) -> None:
        """Let held answers be given at once."""


class BrokerApp:
    """The ASGI application of an ExecutionBroker.

    The operations of the document are dispatched here, by a table made from it: connexion would route,
    check and work out arguments anew for every request, which costs more than what our handlers do (they
    check their input themselves, with pydantic, and read bodies only as far as they may be long). What is no
    operation is connexion's, which is made when first asked for (:mod:`wes_bridge.surface.other_paths`).

    Args:
        kind: what it is: "node".
        served: is started and stopped with it.
        api: has a method for each ``operationId``.
        document: our OpenAPI document.
        limits: how often callers may ask.

    Attributes:
        kind: as given.
        signed: looks at signed URLs, where it has some.
        paths: templates of the operations' paths.
        release_waiters: call it on the loop when told to stop, so that held answers are given at once.
    """

    def __init__(
        self,
        kind: str,
        served: Served,
        api: object,
        document: dict[str, Any],
        limits: LimitsConfig,
    ) -> None:
        self.kind = kind
        self.signed: SignedUrls | None = None
        self.paths = list(document["paths"])
        self.release_waiters = served.release_waiters
        self._failed = f"the {kind} failed; its log says more"
        self._routes = _routes(document, api)
        self._others: asyncio.Future[AsgiApp] | None = None
        self._make_others = functools.partial(_make_others, document, api, self._failed)
        self._served = served
        self._answer = limited(self._answered, limits, functools.partial(error_body, 429))

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        await self._answer(scope, receive, send)

    async def _answered(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        offered = self._offered(scope["path"]) if scope["type"] == "http" else {}
        if not offered:
            await (await self._other_paths())(scope, receive, send)
            return
        request = Request(scope, receive)
        if scope["method"] not in offered:
            await _not_taken(request, list(offered))(scope, receive, send)
            return
        handler, scope["path_params"] = offered[scope["method"]]
        try:
            response = await handler(request)
        except BadRequestError as error:
            response = _error(request, error)
        except ClientDisconnect:
            return  # before its request was complete: there is nobody to answer
        except Exception as error:
            _FAILED.seen(place_of(error), error, logging.ERROR)
            response = http.answer(request, http.error_body(self._failed), 500)
        await response(scope, receive, send)

    async def _live(
        self, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        """ASGI's lifespan; what keeps it from starting is told in words, where they explain it."""
        await receive()
        try:
            await self._served.start()
        except (OSError, SQLAlchemyError, NewerDatabaseError) as error:
            is_file = isinstance(error, OSError)
            words = f"cannot start: {error}" if is_file else cannot_open(error)
            await send({"type": "lifespan.startup.failed", "message": f"the {self.kind}: {words}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._served.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _other_paths(self) -> AsgiApp:
        if self._others is None:
            self._others = asyncio.ensure_future(asyncio.to_thread(self._make_others))
        return await asyncio.shield(self._others)

    def _offered(self, path: str) -> dict[str, tuple[Handler, dict[str, str]]]:
        """What an address takes: for each method its handler and the values of the path's parameters."""
        return {
            method: (handler, found.groupdict())
            for method, pattern, handler in self._routes
            if (found := pattern.fullmatch(path))
        }


def _make_others(document: dict[str, Any], api: object, failed: str) -> AsgiApp:
    from wes_bridge.surface.other_paths import other_paths  # noqa: PLC0415 - half a second that few need

    return other_paths(document, api, failed)


def _routes(document: dict[str, Any], api: object) -> list[tuple[str, re.Pattern[str], Handler]]:
    """Method, path and handler of each operation of the document; what can be got has HEAD too."""
    found = [
        (method.upper(), re.compile(_pattern(path)), by_operation(api)(name))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if isinstance(operation, dict) and (name := operation.get("operationId"))
    ]
    return found + [("HEAD", path, handler) for method, path, handler in found if method == "GET"]


def _pattern(path: str) -> str:
    """The regular expression of a path; its parameter ``{path}`` is all the rest, ``/`` and all."""
    head, rest, _ = path.partition("{path}")
    return re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", head) + ("(?P<path>(?s:.*))" if rest else "")


def _not_taken(request: Request, methods: list[str]) -> Response:
    """A method that the address does not take; RFC 9110 section 15.5.6 asks for those that it does."""
    takes = ", ".join(sorted(methods))
    return http.answer(request, http.error_body(f"this address takes only {takes}"), 405, {"Allow": takes})


def _error(request: Request, error: BadRequestError) -> Response:
    headers = {"Connection": "close"} if error.status == 413 else None
    return http.answer(request, http.error_body(str(error)), error.status, headers)


def load_document(name: str) -> dict[str, Any]:
    """One of our OpenAPI documents; the C parser takes a tenth of the time connexion's own loading does."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded: dict[str, Any] = yaml.load(document(name).read_text(), Loader=loader)  # noqa: S506
    return loaded


def document(name: str) -> Path:
    """The path of one of our OpenAPI documents: in the package when installed, else in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "openapi" / name
    return installed if installed.is_file() else package.parent / "openapi" / name
