"""The node as an ASGI application: connexion routes by our OpenAPI document, ``api`` answers."""

from __future__ import annotations

import contextlib
import logging
import re
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

    The operations of the document are dispatched here, by a table made from it: connexion would route,
    check and work out arguments anew for every request, which costs more than what our handlers do (they
    check their input themselves, with pydantic, and read bodies only as far as they may be long). What is no
    operation, and the life cycle, is connexion's.

    Attributes:
        node: the node.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        api = Api(node)
        document = load_document("execution-broker.yaml")
        self._routes = _routes(document, api)
        self._app = _connexion_app(node, document, api)

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """ASGI."""
        handler = self._handler(scope) if scope["type"] == "http" else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await handler(request)
        except BadRequestError as error:
            response = _error(request, error)
        except Exception as error:
            log.error("%r", error, exc_info=error)
            response = http.answer(request, http.error_body(FAILED), 500)
        await response(scope, receive, send)

    def _handler(self, scope: MutableMapping[str, Any]) -> Handler | None:
        for method, path, handler in self._routes:
            if method == scope["method"] and (found := path.fullmatch(scope["path"])):
                scope["path_params"] = found.groupdict()
                return handler
        return None


FAILED = "the node failed; its log says more"


def _routes(document: dict[str, Any], api: Api) -> list[tuple[str, re.Pattern[str], Handler]]:
    """Method, pattern of the path, and handler of each operation of the document."""
    return [
        (method.upper(), re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path)), _by_operation(api)(name))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if isinstance(operation, dict) and (name := operation.get("operationId"))
    ]


def _connexion_app(node: Node, document: dict[str, Any], api: Api) -> AsgiApp:
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
        middlewares=[ServerErrorMiddleware, ExceptionMiddleware, RoutingMiddleware, LifespanMiddleware],
    )
    for kind in (ProblemException, HTTPException, BadRequestError, Exception):
        app.add_error_handler(kind, _on_error)
    app.add_api(document, resolver=Resolver(_by_operation(api)))
    result: AsgiApp = app
    return result


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
    text = FAILED
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
