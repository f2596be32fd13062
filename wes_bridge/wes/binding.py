"""How connexion calls us: it reads the document, routes and checks parameters; our methods answer.

connexion 3 reads a multipart body into memory before it calls a handler, and builds validators and
decorators anew for each request. Here a handler is an ``async def (Request) -> Response`` that reads its own
body, and what does not change from request to request is made once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from connexion import AsyncApp
from connexion.apps.asynchronous import AsyncApi
from connexion.lifecycle import ConnexionRequest
from connexion.middleware.request_validation import (
    RequestValidationAPI,
    RequestValidationMiddleware,
    RequestValidationOperation,
)
from connexion.resolver import Resolver
from connexion.validators import ParameterValidator
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from wes_bridge.wes.errors import BadRequestError

Handler = Callable[[Request], Awaitable[Response]]


class _AnyPath(PathConvertor):
    """The rest of an address, with line breaks: commands give files any name, and starlette's ends at one."""

    regex = "(?s:.*)"


register_url_convertor("path", _AnyPath())


def bound_resolver(handlers: Mapping[str, Handler]) -> Resolver:
    """A resolver that takes each ``operationId``'s handler from a table: no import by name, no globals.

    Raises:
        ValueError: (when resolving) the table lacks one the document has.
    """

    def find(operation_id: str) -> Handler:
        try:
            return handlers[operation_id]
        except KeyError as error:
            raise ValueError(f"no handler for operation {operation_id!r}") from error

    return Resolver(find)


class _DirectOperation:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._handler(Request(scope, receive, send))
        await response(scope, receive, send)


class _DirectApi(AsyncApi):  # type: ignore[misc]
    def make_operation(self, operation: Any) -> _DirectOperation:
        return _DirectOperation(operation.function)


class _CheckedOperation(RequestValidationOperation):  # type: ignore[misc]
    """Checks query parameters against the document; bodies are checked by who reads them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        checked = [one for one in self._operation.parameters if one["in"] == "query"]
        parser = self._operation.uri_parser_class(self._operation.parameters, {})
        self._parser = parser
        self._checked = checked
        self._validator = ParameterValidator(checked, uri_parser=parser)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._checked and scope["query_string"]:
            request = ConnexionRequest(scope, uri_parser=self._parser)
            for parameter in self._checked:
                self._check(parameter, request)
        await self.next_app(scope, receive, send)

    def _check(self, parameter: dict[str, Any], request: ConnexionRequest) -> None:
        try:
            problem = self._validator.validate_query_parameter(parameter, request)
        except (TypeError, ValueError) as error:
            problem = str(error)
        if problem:
            first_line = str(problem).splitlines()[0]
            raise BadRequestError(f"query parameter {parameter['name']!r}: {first_line}")


class _CheckedApi(RequestValidationAPI):  # type: ignore[misc]
    def make_operation(self, operation: Any) -> _CheckedOperation:
        return _CheckedOperation(self.next_app, operation=operation)


class CheckedMiddleware(RequestValidationMiddleware):  # type: ignore[misc]
    """connexion's request validation with validators that are made once."""

    api_cls = _CheckedApi


class DirectApp(AsyncApp):  # type: ignore[misc]
    """An ``AsyncApp`` that hands requests to handlers as they are."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._middleware_app.api_cls = _DirectApi
