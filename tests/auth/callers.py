"""Callers as a guard would have made them out: told by a header, for servers under test without one."""

from __future__ import annotations

from urllib.parse import unquote

from pydantic import SecretStr
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from wes_bridge.auth.acting import HEADER
from wes_bridge.auth.exchange import claims
from wes_bridge.auth.identity import identify
from wes_bridge.auth.principal import Principal

WHO = "X-Test-Caller"
PEOPLE = {
    principal.name: principal
    for principal in (
        Principal(name="alice", groups=frozenset({"lofar", "staff"})),
        Principal(name="bob", groups=frozenset({"lofar"})),
        Principal(name="mallory"),
        Principal(name="root", roles=frozenset({"admin"})),
    )
} | {"bob who left": Principal(name="bob")}
"""By what the header says. Bob has left his groups in the last one."""


def header(name: str) -> dict[str, str]:
    """The header that says who calls."""
    return {WHO: name}


def believing(app: ASGIApp) -> ASGIApp:
    """``app`` with callers that the header names; a service that names a user is the service ``wes``."""

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Request(scope).headers
            behalf = headers.get(HEADER)
            if behalf is not None:
                identify(scope, acting("wes", unquote(behalf)))
            elif name := headers.get(WHO):
                identify(scope, PEOPLE[name])
        await app(scope, receive, send)

    return ask


def acting(service: str, behalf: str) -> Principal:
    """A service that acts for somebody."""
    return Principal(name=service, roles=frozenset({"service"}), on_behalf_of=behalf)


def by_token(app: ASGIApp) -> ASGIApp:
    """``app`` with callers as their tokens say, unchecked: the guard's tests see to that."""

    async def ask(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = Request(scope).headers.get("Authorization", "").removeprefix("Bearer ")
            told = claims(token)
            name = f"{told['iss']}#{told['sub']}" if told else "nobody"
            identify(scope, Principal(name=name, token=SecretStr(token) if told else None))
        await app(scope, receive, send)

    return ask
