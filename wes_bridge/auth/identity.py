"""Who is calling. One function, so that authentication has one place to come to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.requests import Request

from wes_bridge.auth.principal import LOCAL, Principal

_KEY = "wes_bridge.principal"
"""Where it is in the scope of ASGI."""
_AGAIN = "wes_bridge.known_again"


def identify(scope: MutableMapping[str, Any], principal: Principal) -> None:
    """Say who calls. Only what has checked their credentials does that."""
    scope[_KEY] = principal


def allow_second_look(scope: MutableMapping[str, Any], look: Callable[[], Awaitable[bool]]) -> None:
    """Say how it is found out, while a request is answered, whether its credentials are still good."""
    scope[_AGAIN] = look


async def is_still_known(scope: MutableMapping[str, Any]) -> bool:
    """Whether the caller would still be let in as they were: for answers that go on for long."""
    look = scope.get(_AGAIN)
    return look is None or bool(await look())


def principal_of(request: Request) -> Principal:
    """The caller."""
    return principal_in(request.scope)


def principal_in(scope: MutableMapping[str, Any]) -> Principal:
    """The caller, where there is no request yet."""
    found = scope.get(_KEY, LOCAL)
    assert isinstance(found, Principal)
    return found


def caller(request: Request) -> str:
    """The name that owns what this request makes, and whose runs it may see."""
    return principal_of(request).name


def found_principal(scope: MutableMapping[str, Any]) -> Principal | None:
    """The caller; None where nobody's credentials were checked, or none were good."""
    found = scope.get(_KEY)
    return found if isinstance(found, Principal) else None
