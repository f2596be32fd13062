"""Bearer tokens of an issuer of OpenID Connect: signed ones (JWT), and those that it is asked about."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictFloat, StrictInt, ValidationError

from wes_bridge.auth.authenticator import Call, Method, RefusedError, UnavailableError
from wes_bridge.auth.issuer import Issuer, PublicKey, discovery_url
from wes_bridge.auth.principal import Principal
from wes_bridge.auth.tokens import secret_of
from wes_bridge.model.access import IntrospectionConfig, OidcConfig

_LONGEST = 16 * 1024
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_REMEMBERED = 10_000
_AT_MOST = 300.0
"""Seconds for which a token that was found good is not looked at again."""
_TRIED = 5
"""Keys that are tried for a token that names none."""
_KINDS = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "EdDSA": "Ed25519", "Ed25519": "Ed25519"}


class Claims(BaseModel):
    """What a token says, as far as it matters here."""

    model_config = ConfigDict(extra="allow")

    iss: str
    sub: str = Field(min_length=1, max_length=200)
    aud: str | list[str]
    exp: StrictInt | StrictFloat
    nbf: StrictInt | StrictFloat | None = None
    iat: StrictInt | StrictFloat | None = None
    scope: str | list[str] = ""
    scp: str | list[str] = ""
    cnf: Any = None


class _Introspected(BaseModel):
    model_config = ConfigDict(extra="allow")

    active: bool


@dataclass(frozen=True, slots=True)
class _Known:
    principal: Principal
    until: float


class Oidc:
    """Knows the tokens of one issuer.

    Args:
        config: which, and which of its tokens are taken.
        now: seconds since the epoch.
    """

    def __init__(self, config: OidcConfig, now: Callable[[], float] = time.time) -> None:
        self._config = config
        self._now = now
        self._known: dict[bytes, _Known] = {}
        self._issuer = Issuer(config.issuer, self._known.clear)

    async def authenticate(self, call: Call) -> Principal | None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        if call.scheme != "bearer" or not call.secret:
            return None
        if len(call.secret) > _LONGEST or not call.secret.isascii():
            raise RefusedError("the token is too long, or has letters that no token has")
        digest = hashlib.sha256(call.secret.encode()).digest()
        known = self._known.get(digest)
        now = self._now()
        if known is not None and now < known.until:
            return known.principal
        if call.secret.count(".") == 2:
            claims, seconds = await self._signed(call.secret), _AT_MOST
        else:
            claims, seconds = await self._introspected(call.secret)
        if claims is None:
            return None
        _check(claims, self._config, now)
        principal = _principal(claims, self._config, call.secret)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[digest] = _Known(principal, min(now + seconds, claims.exp + self._config.leeway))
        return principal

    def challenges(self) -> Sequence[str]:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        scopes, issuer = self._config.scopes, self._config.issuer
        return (
            'Bearer realm="wes-bridge"' + (f', scope="{" ".join(scopes)}"' if scopes else ""),
            f'ivoa_bearer standard_id="ivo://ivoa.net/sso#OpenID", access_url="{issuer}",'
            f' discovery_url="{discovery_url(issuer)}"',
        )

    async def close(self) -> None:
        """See :class:`wes_bridge.auth.authenticator.Authenticator`."""
        await self._issuer.close()

    async def _signed(self, token: str) -> Claims | None:
        first, second, _ = token.split(".")
        head, body = _json(first), _json(second)
        if body.get("iss") != self._config.issuer:
            return None
        algorithm, name = head.get("alg"), head.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._config.algorithms:
            raise RefusedError("the token is signed in a way that is not taken here")
        kind = head.get("typ", "JWT")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise RefusedError("this is no access token")
        if "crit" in head or "b64" in head:
            raise RefusedError("the token demands something that is not understood here")
        if name is not None and (not isinstance(name, str) or len(name) > 256):
            raise RefusedError("the token's key has a name that is none")
        keys = [key for key in await self._issuer.keys(name) if _fits(key, algorithm)]
        for key in keys[:_TRIED]:
            try:
                signed = jws.deserialize_compact(token, key, [algorithm], _Registry(algorithms=[algorithm]))
                return Claims.model_validate_json(signed.payload or b"")
            except (JoseError, ValueError) as error:
                if isinstance(error, ValidationError):
                    field = ".".join(str(part) for part in error.errors()[0]["loc"]) or "content"
                    raise RefusedError(f"the token's {field} is missing or malformed") from error
        raise RefusedError("the token is signed with a key that is not its issuer's")

    async def _introspected(self, token: str) -> tuple[Claims | None, float]:
        """An opaque token, by the issuer's word."""
        config = self._config.introspection
        answer = await _introspect(self._issuer, config, token) if config is not None else None
        if config is None or answer is None:
            return None, 0
        if "client_id" in answer and "sub" not in answer:  # nobody but a program; it is no user of that name
            answer["sub"] = f"client:{answer['client_id']}"
        try:
            return Claims.model_validate({"iss": self._config.issuer, **answer}), config.cache
        except ValidationError as error:
            raise RefusedError("the issuer does not say for whom the token is, or how long") from error


class _Registry(jws.JWSRegistry):
    """Headers that are not understood are ignored; nothing is ever fetched because of one."""

    max_header_length = _LONGEST
    max_payload_length = _LONGEST

    def __init__(self, algorithms: Sequence[str]) -> None:
        super().__init__(algorithms=list(algorithms), strict_check_header=False)


def _fits(key: PublicKey, algorithm: str) -> bool:
    """Whether a key is one for an algorithm: by its kind, its curve and its own word."""
    said = key.alg
    if key.key_type != _KINDS[algorithm[:2]] or said not in (None, algorithm):
        return False
    curve = _CURVES.get(algorithm)
    return curve is None or key.as_dict().get("crv") in (curve, "Ed448" if algorithm == "EdDSA" else curve)


def _json(part: str) -> dict[str, Any]:
    """A part of a token, not yet believed."""
    try:
        found = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError) as error:
        raise RefusedError("this is no token") from error
    if not isinstance(found, dict):
        raise RefusedError("this is no token")
    return found


def _check(claims: Claims, config: OidcConfig, now: float) -> None:
    """See that a token is for us, for now, and allows enough.

    Raises:
        RefusedError: it is not.
    """
    if claims.iss != config.issuer:
        raise RefusedError("the token is of another issuer")
    if now >= claims.exp + config.leeway:
        raise RefusedError("the token has expired; get a new one")
    if claims.nbf is not None and now + config.leeway < claims.nbf:
        raise RefusedError("the token is not valid yet")
    if claims.iat is not None and now + config.leeway < claims.iat:
        raise RefusedError("the token was issued in the future")
    if claims.cnf is not None:
        raise RefusedError("the token is bound to a key of its owner (DPoP, mTLS), which is not taken here")
    audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if not set(audience) & set(config.audience):
        raise RefusedError(f"the token is not for this server; its audience must be {config.audience[0]}")
    missing = set(config.scopes) - _words(claims.scope) - _words(claims.scp)
    if missing:
        text = f"the token does not have the scope {' '.join(sorted(missing))}"
        raise RefusedError(text, "insufficient_scope", 403)
    if config.groups and not _groups(claims, config) & set(config.groups):
        text = f"users of this server must be in a group: {', '.join(config.groups)}"
        raise RefusedError(text, "insufficient_scope", 403)


def _words(value: object) -> set[str]:
    if isinstance(value, str):
        return set(value.split())
    return {item for item in value if isinstance(item, str)} if isinstance(value, list) else set()


def _groups(claims: Claims, config: OidcConfig) -> set[str]:
    return _words((claims.model_extra or {}).get(config.groups_claim, []))


def _principal(claims: Claims, config: OidcConfig, token: str) -> Principal:
    name = f"{claims.iss}#{claims.sub}"
    if len(name) > 255 or not name.isprintable():
        raise RefusedError("the token's subject has a name that is too long or cannot be printed")
    shown = (claims.model_extra or {}).get(config.name_claim)
    return Principal(
        name=name,
        display=shown[:200] if isinstance(shown, str) and shown.isprintable() else claims.sub,
        groups=frozenset(_groups(claims, config)),
        token=SecretStr(token),
    )


async def _introspect(issuer: Issuer, config: IntrospectionConfig, token: str) -> dict[str, Any] | None:
    metadata = await issuer.metadata()
    if metadata.introspection_endpoint is None:
        raise UnavailableError(f"the issuer {issuer.url} cannot be asked about tokens")
    try:
        secret = secret_of(config.secret)
    except OSError as error:
        raise UnavailableError("the secret with which issuers are asked cannot be read") from error
    answer = await issuer.post(
        metadata.introspection_endpoint,
        {"token": token, "token_type_hint": "access_token"},
        (config.client_id, secret),
    )
    try:
        told = _Introspected.model_validate(answer)
    except ValidationError as error:
        raise UnavailableError(f"the issuer {issuer.url} does not answer as it should") from error
    return dict(told.model_extra or {}) if told.active else None


def _check_files(config: OidcConfig) -> None:
    if config.introspection is not None:
        secret_of(config.introspection.secret)


METHOD = Method(OidcConfig, lambda config, _state: Oidc(config), _check_files)
