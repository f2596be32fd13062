"""The door of every server of ours: an ASGI application in front of it, past which only known callers get.

It looks at the name by which the server is called, at the page that a browser's request comes from, and at
credentials; then handlers find the caller by :mod:`wes_bridge.auth.identity`. It must not know what is
served.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from wes_bridge.auth.acting import HEADER as ON_BEHALF_OF
from wes_bridge.auth.authenticator import Authenticator, Call, RefusedError, UnavailableError
from wes_bridge.auth.identity import identify
from wes_bridge.auth.origins import Names
from wes_bridge.auth.peers import Connection
from wes_bridge.auth.principal import NOBODY, Principal
from wes_bridge.lasting import LastingOfEach, place_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONNECTION = "wes_bridge.connection"
"""Where our HTTP protocol leaves the connection in the scope of ASGI."""
_HEALTH = "/health"
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
_ONCE = frozenset({b"host", b"origin", b"authorization", b"on-behalf-of"})
_FETCH = frozenset({b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
_MANY = 1000
_FAILED = LastingOfEach(logging.getLogger(__name__), "credentials cannot be checked: {}")


class _Refusal(Exception):
    """The answer to who does not get in."""

    def __init__(self, status: int, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


class Guard:
    """Lets known callers through, and answers all others.

    Args:
        app: what is behind the door.
        names: of the server, and pages that may use it.
        authenticators: asked in this order.
        hint: what to do for those who are not known.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Names,
        authenticators: Sequence[Authenticator],
        hint: str,
    ) -> None:
        self._app = app
        self._names = names
        self._authenticators = list(authenticators)
        self._hint = hint
        self._acting: dict[tuple[Principal, str], Principal] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, self._until_stopped(send))

    def _until_stopped(self, send: Send) -> Send:
        async def told(message: Message) -> None:
            if message["type"].startswith("lifespan.shutdown."):
                for authenticator in self._authenticators:
                    await authenticator.close()
            await send(message)

        return told

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            told = _told(scope["headers"])
            self._check_way(scope, told)
            principal = await self._known(scope, told)
            if principal is None:
                if scope["path"] != _HEALTH or scope["method"] not in ("GET", "HEAD"):
                    raise self._stranger(b"authorization" in told)
                principal, send = NOBODY, _shortly(send)
        except _Refusal as refusal:
            await _refuse(refusal, send)
            return
        identify(scope, principal)
        await self._app(scope, receive, send)

    def _check_way(self, scope: Scope, told: dict[bytes, str]) -> None:
        """See that the server is called by its name, and by no page of another site.

        Raises:
            _Refusal: 421 or 403.
        """
        bound = (scope.get("server") or ("", None))[0]
        host = told.get(b"host")
        if host is None:
            if scope["http_version"] != "1.0":
                raise _Refusal(400, "the request has no Host header")
        elif not self._names.is_ours(host, bound):
            raise _Refusal(
                421,
                f"this server is not called {host[:100]!r}; where it is, its administrator adds the name to"
                " 'hosts' in the section 'authentication' of its configuration, or sets 'public_url'",
            )
        if self._names.is_foreign(scope["method"], host or "", told):
            origin = told.get(b"origin", "another site")
            raise _Refusal(
                403,
                f"a page of {origin[:100]} may not use this server; where it may, its administrator adds the"
                " page's origin to 'cors_origins' in the section 'authentication' of its configuration",
            )

    async def _known(self, scope: Scope, told: dict[bytes, str]) -> Principal | None:
        scheme, _, secret = told.get(b"authorization", "").strip().partition(" ")
        call = Call(
            scope["method"],
            scope["path"],
            scheme.lower(),
            secret.strip(),
            _connection(scope),
            not _FORWARDED.isdisjoint(told),
        )
        principal = await self._authenticated(call)
        named = told.get(b"on-behalf-of")
        if principal is None or named is None or "service" not in principal.roles:
            return principal
        return self._acts_for(principal, named)

    async def _authenticated(self, call: Call) -> Principal | None:
        refused: RefusedError | None = None
        for authenticator in self._authenticators:
            try:
                principal = await authenticator.authenticate(call)
            except RefusedError as error:
                refused = refused or error
            except UnavailableError as error:
                raise _Refusal(503, str(error), [(b"retry-after", b"5")]) from error
            except Exception as error:
                _FAILED.seen(place_of(error), error, logging.ERROR)
                raise _Refusal(503, "who calls cannot be checked now; the server's log says more") from error
            else:
                if principal is not None:
                    return principal
        if refused is not None:
            raise _Refusal(refused.status, str(refused), self._challenges(refused.error, str(refused)))
        return None

    def _acts_for(self, principal: Principal, named: str) -> Principal:
        """A service that calls for one of its users."""
        key = principal, named
        acting = self._acting.get(key)
        if acting is None:
            user = unquote(named)
            if not user or len(user) > 255 or not user.isprintable():
                raise _Refusal(400, f"{ON_BEHALF_OF} names no user")
            if len(self._acting) >= _MANY:
                self._acting.clear()
            acting = self._acting[key] = principal.model_copy(update={"on_behalf_of": user})
        return acting

    def _stranger(self, has_tried: bool) -> _Refusal:
        if has_tried:
            text = f"nobody is known here by these credentials; {self._hint}"
            return _Refusal(401, text, self._challenges("invalid_token", "unknown credentials"))
        return _Refusal(401, self._hint, self._challenges())

    def _challenges(self, error: str = "", text: str = "") -> list[tuple[bytes, bytes]]:
        offered = [challenge for each in self._authenticators for challenge in each.challenges()]
        found = list(dict.fromkeys(offered)) or ["Bearer"]
        if error:
            words = f'error="{error}", error_description="{_quotable(text)}"'
            found = [f"{one}, {words}" if one.startswith("Bearer ") else one for one in found]
        return [(b"www-authenticate", challenge.encode("latin-1", "replace")) for challenge in found]


def _told(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, str]:
    """The headers that count here.

    Raises:
        _Refusal: one that counts is there twice: two programs might each believe another of them.
    """
    told: dict[bytes, str] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in told:
                raise _Refusal(400, f"the header {name.decode()} is there more than once")
            told[name] = value.decode("latin-1")
        elif name in _FETCH or name in _FORWARDED:
            told[name] = value.decode("latin-1").strip().lower()
    return told


def _connection(scope: Scope) -> Connection | None:
    found = scope.get(CONNECTION)
    if isinstance(found, Connection):
        return found
    local, remote = scope.get("server"), scope.get("client")
    if not local or not remote or local[1] is None:
        return None
    return Connection(tuple(local), tuple(remote))


def _quotable(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~" and char not in '"\\')


async def _refuse(refusal: _Refusal, send: Send) -> None:
    text = str(refusal)
    body = json.dumps({"msg": text, "message": text, "status_code": refusal.status}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *refusal.headers,
    ]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _shortly(send: Send) -> Send:
    """Says to strangers whether the server is well, and nothing else of it."""
    told: dict[str, Any] = {}

    async def shortened(message: Message) -> None:
        if message["type"] == "http.response.start":
            told["start"] = message
            return
        if message["type"] != "http.response.body" or message.get("more_body"):
            return
        start = told["start"]
        is_well = start["status"] < 400
        body = json.dumps({"status": "ok" if is_well else "failing"}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": start["status"], "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return shortened
