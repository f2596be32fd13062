"""The node as an ASGI application: connexion routes by our OpenAPI document, ``api`` answers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import connexion
from connexion.context import request as current_request
from connexion.exceptions import ProblemException
from connexion.lifecycle import ConnexionResponse
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
        middlewares=_middlewares(),
        validator_map={"body": {}, "parameter": _NoParameterCheck},
        swagger_ui_options=connexion.options.SwaggerUIOptions(swagger_ui=False),
    )
    for kind in (ProblemException, HTTPException, BadRequestError, Exception):
        app.add_error_handler(kind, _on_error)
    app.add_api(document("execution-broker.yaml"), resolver=Resolver(_by_operation(api)))
    result: AsgiApp = app
    return result


def _middlewares() -> list[Any]:
    """Connexion's own without those that do nothing here but cost time: security, response checks."""
    unused = ("SecurityMiddleware", "ResponseValidationMiddleware", "RequestValidationMiddleware")
    return [
        middleware
        for middleware in connexion.ConnexionMiddleware.default_middlewares
        if middleware.__name__ not in unused
    ]


class _NoParameterCheck:
    """Handlers check their own few parameters; the stock validator costs more than they do."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def validate(self, _scope: object) -> None:
        """Accept."""


def _by_operation(api: Api) -> Callable[[str], Callable[..., Awaitable[Response]]]:
    """Resolve an ``operationId`` to a function that calls the method of that name.

    The function names the path parameters, which connexion passes, and no body, which it then leaves unread.
    """

    def resolve(operation_id: str) -> Callable[..., Awaitable[Response]]:
        handler: Handler = getattr(api, operation_id)

        async def operation(uuid: str = "", stream: str = "") -> Response:
            request: Request = current_request._starlette_request
            try:
                return await handler(request)
            except BadRequestError as error:
                return _error(request, error)

        operation.__name__ = operation_id
        return operation

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


def document(name: str) -> Path:
    """The path of one of our OpenAPI documents: in the package when installed, else in the repository."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "openapi" / name
    return installed if installed.is_file() else package.parent / "openapi" / name
