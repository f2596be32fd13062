"""The caller of a request: put there by what checks credentials, read by all handlers from here."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from starlette.requests import Request

from wes_bridge.auth.principal import LOCAL, Principal

_KEY = "wes_bridge.principal"
"""Where it is in the scope of ASGI."""


def identify(scope: MutableMapping[str, Any], principal: Principal) -> None:
    """Say who calls. Only what has checked their credentials does that."""
    scope[_KEY] = principal


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
