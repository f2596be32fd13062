"""What an ExecutionBroker answers at paths that are no operations: its document, Swagger UI, "not found".

connexion does it, from our OpenAPI document. To import it takes half as long as all else that a node is made
of, so this module is imported when somebody asks for such a path. It must not know what the operations do.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # connexion imports starlette's test client, which warns
    import connexion
from connexion.exceptions import ProblemException
from connexion.lifecycle import ConnexionResponse
from connexion.middleware.exceptions import ExceptionMiddleware
from connexion.middleware.routing import RoutingMiddleware
from connexion.middleware.server_error import ServerErrorMiddleware
from connexion.middleware.swagger_ui import SwaggerUIMiddleware
from connexion.resolver import Resolver
from starlette.exceptions import HTTPException

from wes_bridge.lasting import LastingOfEach, place_of
from wes_bridge.surface import http
from wes_bridge.surface.asgi import AsgiApp, by_operation

_FAILED = LastingOfEach(logging.getLogger(__name__), "requests fail: {}")
logging.getLogger("connexion.operations.openapi3").setLevel(logging.ERROR)  # warns of each YAML body


def other_paths(document: dict[str, Any], api: object, failed: str) -> AsgiApp:
    """The ASGI application of all paths that are not the document's.

    Args:
        document: our OpenAPI document.
        api: has a method for each ``operationId``.
        failed: what to tell when something unforeseen happened.
    """
    app = connexion.AsyncApp(
        __name__,
        middlewares=[ServerErrorMiddleware, ExceptionMiddleware, SwaggerUIMiddleware, RoutingMiddleware],
    )

    def on_error(_request: object, error: Exception) -> ConnexionResponse:
        return _on_error(error, failed)

    for kind in (ProblemException, HTTPException, Exception):
        app.add_error_handler(kind, on_error)
    app.add_api(document, resolver=Resolver(by_operation(api)))
    result: AsgiApp = app
    return result


def _on_error(error: Exception, failed: str) -> ConnexionResponse:
    status, headers = 500, {}
    text = failed
    if isinstance(error, ProblemException):
        status, text = error.status, error.detail or error.title or str(error)
    elif isinstance(error, HTTPException):
        status, text, headers = error.status_code, error.detail, dict(error.headers or {})
    if status >= 500:
        _FAILED.seen(place_of(error), error, logging.ERROR)
    return ConnexionResponse(
        status_code=status, mimetype=http.JSON, body=http.error_body(text), headers=headers
    )
