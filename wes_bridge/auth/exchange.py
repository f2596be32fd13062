"""Getting tokens for other services: from the user's issuer (RFC 8693 and refresh tokens), or SRCNet's Authn.

Tokens are never in an error's text nor in the log. Authn takes them in the URL, so no URL is told either.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import aiohttp
from pydantic import SecretStr

from wes_bridge.auth.safe import Held
from wes_bridge.model.delegation import DelegatedTo, DelegationConfig, IssuerClient, SecretPlace

_TIMEOUT = 15.0
_MOST = 256 * 1024
_UNKNOWN_LIFE = 300.0
"""Seconds a token is used that does not say when it ends."""
_DENIED = range(400, 500)
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  # a name


class DeniedError(Exception):
    """No token, and no waiting helps: the user has to do something; the text says why."""


class IssuerUnavailableError(Exception):
    """No token now: whoever makes them does not answer."""


@dataclass(frozen=True)
class Token:
    """A token for another service; ``until`` is when it ends, in seconds since the epoch."""

    value: SecretStr
    until: float


class Exchanger(Protocol):
    """Makes tokens of tokens."""

    async def exchange(self, held: Held, wanted: DelegatedTo) -> Token:
        """A token for a service.

        Raises:
            DeniedError: it is not given.
            IssuerUnavailableError: that cannot be told now.
        """

    async def refresh(self, held: Held) -> Held:
        """New tokens for the refresh token, which is of no use afterwards; errors as of :meth:`exchange`."""


class Issuer:
    """An OpenID Connect issuer.

    Args:
        client: as whom we ask.
        http: the connections.
    """

    def __init__(self, client: IssuerClient, http: aiohttp.ClientSession) -> None:
        self._client = client
        self._http = http
        self._endpoint: str | None = None

    async def exchange(self, held: Held, wanted: DelegatedTo) -> Token:
        """RFC 8693."""
        form = {
            "grant_type": EXCHANGE,
            "subject_token": held.access.get_secret_value(),
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": ACCESS_TOKEN,
            "audience": wanted.audience,
        }
        if wanted.scope:
            form["scope"] = wanted.scope
        authorization = _basic(self._client.client_id, self._client.secret)
        if authorization is None:
            form["client_id"] = self._client.client_id
        answer = await self._post(form, authorization, held, f"for the audience {wanted.audience!r}")
        return _token(answer)

    async def refresh(self, held: Held) -> Held:
        """RFC 6749, section 6: by the client that the refresh token was given to."""
        login = self._client.login_client_id
        form = {"grant_type": "refresh_token", "refresh_token": held.refresh.get_secret_value()}
        form["client_id"] = login or self._client.client_id
        authorization = None if login else _basic(self._client.client_id, self._client.secret)
        return _renewed(held, await self._post(form, authorization, held, "for the refresh token"))

    async def _post(
        self, form: Mapping[str, str], authorization: str | None, held: Held, what: str
    ) -> Mapping[str, Any]:
        headers = {"Accept": "application/json"} | ({"Authorization": authorization} if authorization else {})
        endpoint = await self._token_endpoint()
        status, answer = await _asked(
            self._http, "POST", endpoint, self._client.issuer, data=dict(form), headers=headers
        )
        if status != 200:
            raise _refusal(self._client.issuer, status, answer, what, held)
        return answer

    async def _token_endpoint(self) -> str:
        if self._endpoint is None:
            url = self._client.issuer.rstrip("/") + "/.well-known/openid-configuration"
            status, answer = await _asked(self._http, "GET", url, self._client.issuer)
            endpoint = answer.get("token_endpoint")
            if status != 200 or not isinstance(endpoint, str):
                raise IssuerUnavailableError(f"{self._client.issuer} does not say where its tokens are made")
            self._endpoint = endpoint
        return self._endpoint


class Authn:
    """SRCNet's Authn.

    Args:
        url: of it, up to and with ``/api/v1``.
        http: the connections.
    """

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._http = http

    async def exchange(self, held: Held, wanted: DelegatedTo) -> Token:
        """``GET /token/exchange/{service}``, with the access token alone: the refresh token stays good."""
        query = {
            "version": "latest",
            "try_use_cache": "true",
            "access_token": held.access.get_secret_value(),
        }
        answer = await self._get(
            f"/token/exchange/{wanted.audience}", query, held, f"for {wanted.audience!r}"
        )
        return _token(answer)

    async def refresh(self, held: Held) -> Held:
        """``GET /refresh``."""
        query = {"refresh_token": held.refresh.get_secret_value()}
        return _renewed(held, await self._get("/refresh", query, held, "for the refresh token"))

    async def _get(self, path: str, query: Mapping[str, str], held: Held, what: str) -> Mapping[str, Any]:
        status, answer = await _asked(self._http, "GET", self._url + path, "Authn", params=dict(query))
        if status != 200:
            raise _refusal("Authn", status, answer, what, held)
        nested = answer.get("token")
        return nested if isinstance(nested, dict) else answer


class Exchangers:
    """All that are configured.

    Args:
        config: of delegation.
        http: the connections.
    """

    def __init__(self, config: DelegationConfig, http: aiohttp.ClientSession) -> None:
        self._issuers = {client.issuer: Issuer(client, http) for client in config.issuers}
        self._authn = Authn(str(config.authn), http) if config.authn else None

    def of(self, held: Held, wanted: DelegatedTo) -> Exchanger:
        """Who makes a token.

        Raises:
            DeniedError: nobody does.
        """
        if wanted.exchanger == "authn":
            if self._authn is None:
                raise DeniedError("the service's configuration names no Authn (delegation.authn)")
            return self._authn
        issuer = self._issuers.get(held.issuer)
        if issuer is None:
            raise DeniedError(
                f"the token is of {held.issuer or 'an unknown issuer'}, at which the service may not ask for"
                f" others: its configuration knows {', '.join(self._issuers) or 'none'} (delegation.issuers)"
            )
        return issuer


def claims(token: str) -> Mapping[str, Any]:
    """What a JWT says, unchecked; empty for what is none. For tokens that come straight from their issuer, or
    that were checked when they came."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def handed_over(access: str, refresh: str) -> Held:
    """Tokens as a user gave them to us."""
    told = claims(access)
    issuer, until = told.get("iss"), told.get("exp")
    return Held(
        issuer=issuer if isinstance(issuer, str) else "",
        access=SecretStr(access),
        refresh=SecretStr(refresh),
        until=float(until) if isinstance(until, int | float) else 0.0,
    )


def _renewed(held: Held, answer: Mapping[str, Any]) -> Held:
    token = _token(answer)
    refresh = answer.get("refresh_token")
    kept = SecretStr(refresh) if isinstance(refresh, str) and refresh else held.refresh
    return Held(issuer=held.issuer, access=token.value, refresh=kept, until=token.until)


def _token(answer: Mapping[str, Any]) -> Token:
    value = answer.get("access_token")
    if not isinstance(value, str) or not value or not value.isprintable() or " " in value:
        raise DeniedError("the answer holds no token")
    lasts, until = answer.get("expires_in"), claims(value).get("exp")
    if isinstance(until, int | float):
        return Token(SecretStr(value), float(until))
    seconds = float(lasts) if isinstance(lasts, int | float) and lasts > 0 else _UNKNOWN_LIFE
    return Token(SecretStr(value), time.time() + seconds)


async def _asked(
    http: aiohttp.ClientSession, method: str, url: str, who: str, **more: Any
) -> tuple[int, Mapping[str, Any]]:
    """Status and JSON of an answer."""
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            http.request(method, url, allow_redirects=False, **more) as answer,
        ):
            content = await answer.content.read(_MOST)
            status = answer.status
    except (aiohttp.ClientError, OSError, ValueError) as error:  # their texts may hold the URL
        raise IssuerUnavailableError(f"{who} does not answer ({type(error).__name__})") from None
    if status not in _DENIED and status != 200:
        raise IssuerUnavailableError(f"{who} answered {status}")
    try:
        found = json.loads(content)
    except ValueError:
        found = {}
    return status, found if isinstance(found, dict) else {}


def _refusal(
    who: str, status: int, answer: Mapping[str, Any], what: str, held: Held
) -> DeniedError | IssuerUnavailableError:
    if status == 429:
        return IssuerUnavailableError(f"{who} is asked too often")
    said = [answer.get(name) for name in ("error", "error_description", "detail")]
    words = ": ".join(text[:300] for text in said if isinstance(text, str)) or f"it answered {status}"
    return DeniedError(without(f"{who} gives no token {what}: {words}", [held]))


def without(text: str, holders: Sequence[Held]) -> str:
    """A text without the tokens."""
    for held in holders:
        for secret in (held.access.get_secret_value(), held.refresh.get_secret_value()):
            if secret:
                text = text.replace(secret, "***")
    return text


def _basic(client_id: str, place: SecretPlace | None) -> str | None:
    if place is None:
        return None
    secret = os.environ.get(place.env, "") if place.env else (place.file or Path()).read_text("utf-8")
    pair = f"{client_id}:{secret.strip()}".encode()
    return "Basic " + base64.b64encode(pair).decode()
