"""The door of every server of ours: an ASGI application in front of it, past which only known callers get.

It looks at the name by which the server is called, at the page that a browser's request comes from, and at
credentials; then handlers find the caller by :mod:`wes_bridge.auth.identity`. It must not know what is
served.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

from wes_bridge.auth.acting import HEADER as ON_BEHALF_OF
from wes_bridge.auth.authenticator import Authenticator, Call, RefusedError, UnavailableError
from wes_bridge.auth.identity import allow_second_look, identify
from wes_bridge.auth.origins import Names
from wes_bridge.auth.peers import Connection
from wes_bridge.auth.principal import LOCAL, NOBODY, Principal
from wes_bridge.auth.rules import Rules
from wes_bridge.auth.signed_urls import SignatureError, SignedUrls
from wes_bridge.lasting import LastingOfEach, place_of

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONNECTION = "wes_bridge.connection"
"""Where our HTTP protocol leaves the connection in the scope of ASGI."""
HEALTH = "/health"
_FORWARDED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"})
_ONCE = frozenset({b"host", b"origin", b"authorization", b"on-behalf-of"})
_FETCH = frozenset({b"sec-fetch-site", b"sec-fetch-mode", b"sec-fetch-dest"})
_MANY = 1000
_FAULT = 500
Network = IPv4Network | IPv6Network
_PAGE = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)
_FAILED = LastingOfEach(logging.getLogger(__name__), "credentials cannot be checked: {}")


class _Refusal(Exception):
    """The answer to who does not get in."""

    def __init__(self, status: int, message: str, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)


class DecisionPoint(Protocol):
    """Decides route by route, beside what the server itself looks at."""

    async def allows(self, principal: Principal, method: str, path: str) -> bool:
        """Whether they may do this."""

    async def close(self) -> None:
        """Let go of connections."""


@dataclass(frozen=True)
class Limits:
    """What a guard does beside looking at credentials.

    Attributes:
        hint: what to do for those who are not known.
        public: paths that strangers may read; of how the server is they learn only whether it is well.
        pages: for everybody, by path: HTML.
        rules: what the site says of its users.
        permissions: what else decides.
        proxies: where clients come through one: those that are believed.
        signed: looks at signed URLs, where the server has some.
    """

    hint: str
    public: frozenset[str] = frozenset({HEALTH})
    pages: Mapping[str, bytes] = field(default_factory=dict)
    rules: Rules = field(default_factory=lambda: Rules((), {}))
    permissions: DecisionPoint | None = None
    proxies: tuple[Network, ...] | None = None
    signed: SignedUrls | None = None


class Guard:
    """Lets known callers through, and answers all others.

    Args:
        app: what is behind the door.
        names: of the server, and pages that may use it.
        authenticators: asked in this order.
        limits: see :class:`Limits`.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Names,
        authenticators: Sequence[Authenticator],
        limits: Limits,
    ) -> None:
        self._app = app
        self._names = names
        self._authenticators = list(authenticators)
        self._limits = limits
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
                for part in (*self._authenticators, self._limits.permissions):
                    if part is not None:
                        await part.close()
            await send(message)

        return told

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            told = _told(scope["headers"])
            connection = _connection(scope)
            self._check_way(scope, told, connection)
            reads = scope["method"] in ("GET", "HEAD")
            if reads and (page := self._limits.pages.get(scope["path"])) is not None:
                await _answer(send, 200, page, b"text/html; charset=utf-8", _PAGE)
                return
            if self._limits.signed is not None and self._limits.signed.claims(scope):
                identify(scope, self._bearer(self._limits.signed, scope, told))
                await self._app(scope, receive, send)
                return
            principal = await self._known(scope, told, connection)
            if principal is None:
                if not reads or scope["path"] not in self._limits.public:
                    raise self._stranger(b"authorization" in told)
                principal = NOBODY
                send = _shortly(send) if scope["path"] == HEALTH else send
            elif self._limits.permissions is not None:
                await self._check_permission(self._limits.permissions, principal, scope)
        except _Refusal as refusal:
            await _refuse(refusal, send)
            return
        identify(scope, principal)
        if principal not in (NOBODY, LOCAL):  # of these, nothing can be taken away while the server runs

            async def again() -> bool:
                return await self._is_known_as(principal, scope, told, connection)

            allow_second_look(scope, again)
        await self._app(scope, receive, send)

    @staticmethod
    def _bearer(signed: SignedUrls, scope: Scope, told: dict[bytes, str]) -> Principal:
        """Whom a request with a signed URL comes from: who may do what the URL says, and nothing else.

        Raises:
            _Refusal: 403.
        """
        try:
            return signed.check(scope, told.get(b"host", "localhost"))
        except SignatureError as error:
            raise _Refusal(403, str(error)) from error

    async def _is_known_as(
        self, principal: Principal, scope: Scope, told: dict[bytes, str], connection: Connection | None
    ) -> bool:
        """Whether the credentials of a request that is being answered are still good for the same."""
        try:
            now = await self._known(scope, told, connection)
            if now is not None and self._limits.permissions is not None:
                await self._check_permission(self._limits.permissions, now, scope)
        except _Refusal as refusal:
            return refusal.status >= _FAULT  # it cannot be told now: that takes nothing away
        return (
            now is not None
            and now.name == principal.name
            and now.roles >= principal.roles
            and now.groups >= principal.groups  # one of them may be why the caller may see this at all
        )

    async def _check_permission(self, permissions: DecisionPoint, principal: Principal, scope: Scope) -> None:
        if not await permissions.allows(principal, scope["method"], scope["path"]):
            text = f"{principal.display or principal.name} may not do this here, says the Permissions API"
            raise _Refusal(403, text, self._challenges("insufficient_scope", "not permitted"))

    def _check_way(self, scope: Scope, told: dict[bytes, str], connection: Connection | None) -> None:
        """See that the server is called by its name, by its proxy, and by no page of another site.

        Raises:
            _Refusal: 421 or 403.
        """
        proxies = self._limits.proxies
        if proxies is not None and connection is not None and not _comes_from(connection, proxies):
            raise _Refusal(403, "clients of this server come through its proxy")
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

    async def _known(
        self, scope: Scope, told: dict[bytes, str], connection: Connection | None
    ) -> Principal | None:
        scheme, _, secret = told.get(b"authorization", "").strip().partition(" ")
        call = Call(
            scope["method"],
            scope["path"],
            scheme.lower(),
            secret.strip(),
            connection,
            not _FORWARDED.isdisjoint(told),
        )
        principal = await self._authenticated(call)
        if principal is not None:
            principal = self._limits.rules.applied(principal)
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
            if refused.status == 429:
                raise _Refusal(429, str(refused), [(b"retry-after", b"60")])
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
            text = f"nobody is known here by these credentials; {self._limits.hint}"
            return _Refusal(401, text, self._challenges("invalid_token", "unknown credentials"))
        return _Refusal(401, self._limits.hint, self._challenges())

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


def _comes_from(connection: Connection, proxies: Sequence[Network]) -> bool:
    """Whether a proxy of ours is at the other end, or a program of this machine."""
    try:
        address = ip_address(connection.remote[0].partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    is_here = connection.is_loopback or connection.remote[0] == connection.local[0]
    return is_here or any(address in network for network in proxies)


def _quotable(text: str) -> str:
    return "".join(char for char in text if " " <= char <= "~" and char not in '"\\')


async def _refuse(refusal: _Refusal, send: Send) -> None:
    text = str(refusal)
    body = json.dumps({"msg": text, "message": text, "status_code": refusal.status}).encode()
    headers = [(b"cache-control", b"no-store"), *refusal.headers]
    await _answer(send, refusal.status, body, b"application/json", headers)


async def _answer(
    send: Send, status: int, body: bytes, kind: bytes, more: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *more]
    await send({"type": "http.response.start", "status": status, "headers": headers})
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
        await _answer(send, start["status"], body, b"application/json")

    return shortened
