"""The node as an ASGI application: connexion routes by our OpenAPI document, ``api`` answers."""

from __future__ import annotations

import contextlib
import functools
import logging
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # connexion imports starlette's test client, which warns
    import connexion
import yaml
from connexion.exceptions import ProblemException
from connexion.lifecycle import ConnexionResponse
from connexion.middleware.abstract import ROUTING_CONTEXT
from connexion.middleware.exceptions import ExceptionMiddleware
from connexion.middleware.lifespan import LifespanMiddleware
from connexion.middleware.routing import RoutingMiddleware
from connexion.middleware.server_error import ServerErrorMiddleware
from connexion.resolver import Resolver
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.config import NodeConfig
from wes_bridge.node import http
from wes_bridge.node.api import Api
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.node import Node

log = logging.getLogger(__name__)
logging.getLogger("connexion.operations.openapi3").setLevel(logging.ERROR)  # warns of each YAML body

Handler = Callable[[Request], Awaitable[Response]]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]],
    Awaitable[None],
]


def create_app(config: NodeConfig, state_dir: Path, end_sessions: bool = False) -> NodeApp:
    """The ASGI application of one node; its lifespan starts and stops the node.

    Args:
        config: of the node.
        state_dir: directory for its database and sessions.
        end_sessions: whether sessions end with it.
    """
    return NodeApp(Node(config, state_dir, end_sessions))


class NodeApp:
    """An ASGI application around a :class:`Node`.

    Attributes:
        node: the node.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self._app = _connexion_app(node)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        await self._app(scope, receive, send)


def _connexion_app(node: Node) -> AsgiApp:
    api = Api(node)

    @contextlib.asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        await node.start()
        try:
            yield
        finally:
            await node.stop()

    app = connexion.AsyncApp(
        __name__,
        lifespan=lifespan,
        middlewares=[
            ServerErrorMiddleware,
            ExceptionMiddleware,
            RoutingMiddleware,
            LifespanMiddleware,
            functools.partial(_Dispatch, api=api),
        ],
    )
    for kind in (ProblemException, HTTPException, BadRequestError, Exception):
        app.add_error_handler(kind, _on_error)
    app.add_api(load_document("execution-broker.yaml"), resolver=Resolver(_by_operation(api)))
    result: AsgiApp = app
    return result


class _Dispatch:
    """Calls the method of :class:`Api` that connexion's router has found.

    It stands where connexion would check parameters and body against the document and work out arguments,
    anew for every request: that costs more than what our handlers do. They check their input themselves,
    with pydantic, and read bodies only as far as they are allowed to be long.
    """

    def __init__(self, next_app: AsgiApp, *, api: Api) -> None:
        self._next = next_app
        self._api = api

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        routing = scope.get("extensions", {}).get(ROUTING_CONTEXT, {})
        name = routing.get("operation_id")
        if name is None:
            await self._next(scope, receive, send)
            return
        request = Request(scope, receive)
        handler: Handler = getattr(self._api, name)
        try:
            response = await handler(request)
        except BadRequestError as error:
            response = _error(request, error)
        await response(scope, receive, send)


def _by_operation(api: Api) -> Callable[[str], Handler]:
    """Resolve an ``operationId`` to the method of that name."""

    def resolve(operation_id: str) -> Handler:
        handler: Handler = getattr(api, operation_id)
        return handler

    return resolve


def _error(request: Request, error: BadRequestError) -> Response:
    headers = {"Connection": "close"} if error.status == 413 else None
    return http.answer(request, http.error_body(str(error)), error.status, headers)


def _on_error(_request: object, error: Exception) -> ConnexionResponse:
    status, headers = 500, {}
    text = "the node failed; its log says more"
    if isinstance(error, ProblemException):
        status, text = error.status, error.detail or error.title or str(error)
    elif isinstance(error, HTTPException):
        status, text, headers = error.status_code, error.detail, dict(error.headers or {})
    if status >= 500:
        log.error("%r", error, exc_info=error)
    return ConnexionResponse(
        status_code=status, mimetype=http.JSON, body=http.error_body(text), headers=headers
    )


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
