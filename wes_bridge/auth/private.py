"""The secret of a private service: made for one run, known to its own processes and their one client.

A port of this machine is open to every user on it, and a private service reads its user's files. So each
request to its API and its nodes must carry a token, which travels in the environment: unlike a command line,
only its own user can read that. Where the variable is not set, everything is as it is.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

VARIABLE = "WES_BRIDGE_PRIVATE_TOKEN"
"""Environment variable that holds the token."""
_REFUSAL = "this service is private: only the command that started it may use it"


def private_token(environment: Mapping[str, str] | None = None) -> str | None:
    """The token of the private service that this process is part of; None in any other."""
    return (os.environ if environment is None else environment).get(VARIABLE) or None


def bearer(token: str) -> str:
    """The value of ``Authorization``."""
    return f"Bearer {token}"


def guard(app: ASGIApp, token: str | None) -> ASGIApp:
    """``app``, or where there is a token, one that answers 401 to requests without it."""
    return _Guarded(app, token) if token else app


class _Guarded:
    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = bearer(token).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan" or self._knows(scope.get("headers") or ()):
            await self._app(scope, receive, send)
            return
        body = json.dumps({"msg": _REFUSAL, "message": _REFUSAL, "status_code": 401}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"www-authenticate", b"Bearer"),
        ]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _knows(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        given = [value for name, value in headers if name == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(given[0], self._expected)
