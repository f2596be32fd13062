"""Names for what ASGI applications are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

Handler = Callable[[Request], Awaitable[Response]]
AsgiApp = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]],
    Awaitable[None],
]


def by_operation(api: object) -> Callable[[str], Handler]:
    """Resolve an ``operationId`` to the method of that name."""

    def resolve(operation_id: str) -> Handler:
        handler: Handler = getattr(api, operation_id)
        return handler

    return resolve
