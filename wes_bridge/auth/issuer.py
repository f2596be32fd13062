"""What an issuer of OpenID Connect publishes: where its parts are, and its public keys, kept for a while.

Keys that are known go on while the issuer is away. A key that is not known is asked for, but not more often
than every few seconds, since anybody can name one. It must not know what is in a token beside the key's name.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from wes_bridge.auth.authenticator import UnavailableError
from wes_bridge.lasting import LastingOfEach
from wes_bridge.model.access import SafeUrl

FRESH = 300.0
"""Seconds after which keys are fetched again."""
AGAIN = 10.0
"""Seconds between two fetches at least."""
STALE = 24 * 3600.0
"""Seconds for which keys go on without the issuer."""
_TIMEOUT = httpx.Timeout(5.0, connect=3.0)
_MOST_BYTES = 512 * 1024
_MOST_KEYS = 100
_SMALLEST_RSA = 2048
_FAILED = LastingOfEach(logging.getLogger(__name__), "{}")
PublicKey = RSAKey | ECKey | OKPKey


@cache
def _trust() -> ssl.SSLContext:
    """Authorities of certificates; reading them takes a while, and all issuers may share them."""
    return httpx.create_ssl_context()


def discovery_url(issuer: str) -> str:
    """Where an issuer describes itself."""
    return f"{issuer.removesuffix('/')}/.well-known/openid-configuration"


class Metadata(BaseModel):
    """The part of an issuer's description that matters here."""

    model_config = ConfigDict(extra="ignore")

    issuer: str
    jwks_uri: SafeUrl
    introspection_endpoint: SafeUrl | None = None


class _KeySet(BaseModel):
    model_config = ConfigDict(extra="ignore")

    keys: list[dict[str, Any]]


_KEYS = TypeAdapter(_KeySet)


class Issuer:
    """One issuer.

    Args:
        url: its name.
        on_change: called when its keys are others than before.
        http: client for it.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        url: str,
        on_change: Callable[[], None],
        http: httpx.AsyncClient | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url
        self._on_change = on_change
        self._http = http or httpx.AsyncClient(timeout=_TIMEOUT, follow_redirects=False, verify=_trust())
        self._clock = clock
        self._metadata: Metadata | None = None
        self._keys: dict[str | None, list[PublicKey]] = {}
        self._spelled: object = None
        self._fetched = self._tried = float("-inf")
        self._problem = ""
        self._fetching: asyncio.Task[None] | None = None

    async def keys(self, name: str | None) -> list[PublicKey]:
        """Its keys of a name; all of them for None.

        Raises:
            UnavailableError: there are none, and the issuer does not answer.
        """
        age = self._clock() - self._fetched
        if age > STALE:
            await self._fetch()
            if self._clock() - self._fetched > STALE:
                raise UnavailableError(
                    f"the issuer {self.url} does not answer ({self._problem}), so its tokens cannot be"
                    " checked; try again in a moment"
                )
        elif age > FRESH:
            self._fetch_soon()
        if name is not None and name not in self._keys:
            await self._fetch()
        if name is None:
            return [key for keys in self._keys.values() for key in keys]
        found = self._keys.get(name, [])
        if not found and self._problem:
            raise UnavailableError(
                f"the token's key is not known, and the issuer {self.url} does not answer ({self._problem});"
                " try again in a moment"
            )
        return found

    async def metadata(self) -> Metadata:
        """Where its parts are.

        Raises:
            UnavailableError: the issuer does not answer.
        """
        if self._metadata is None:
            await self._fetch()
        if self._metadata is None:
            raise UnavailableError(f"the issuer {self.url} does not answer ({self._problem})")
        return self._metadata

    async def post(self, url: str, form: dict[str, str], client: tuple[str, str]) -> Any:
        """Ask something of it; returns JSON.

        Raises:
            UnavailableError: it does not answer, or not as it should.
        """
        try:
            answer = await self._http.post(url, data=form, auth=client)
            if answer.status_code != 200:
                raise UnavailableError(f"the issuer {self.url} answered {answer.status_code}")
            return answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise UnavailableError(f"the issuer {self.url} does not answer as it should") from error

    async def close(self) -> None:
        """Let go of its connections."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        await self._http.aclose()

    async def _fetch(self) -> None:
        """Fetch its keys, unless that was tried just now; many may wait for one fetch."""
        self._fetch_soon()
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _fetch_soon(self) -> None:
        if self._fetching is not None and not self._fetching.done():
            return
        self._fetching = None
        if self._clock() - self._tried >= AGAIN:
            self._tried = self._clock()
            self._fetching = asyncio.create_task(self._fetch_now(), name=f"keys of {self.url}")

    async def _fetch_now(self) -> None:
        fault = f"keys of {self.url} cannot be fetched"
        try:
            metadata = Metadata.model_validate(await self._json(discovery_url(self.url)))
            if metadata.issuer != self.url:
                raise ValueError(f"it calls itself {metadata.issuer[:200]!r}")
            spelled = await self._json(metadata.jwks_uri)
            keys = _public_keys(_KEYS.validate_python(spelled))
        except (httpx.HTTPError, ValueError, ValidationError) as error:
            self._problem = _why(error)
            _FAILED.seen(fault, self._problem, logging.WARNING)
            return
        self._problem = ""
        _FAILED.over(fault)
        self._fetched, self._metadata = self._clock(), metadata
        if spelled != self._spelled:
            self._spelled, self._keys = spelled, keys
            self._on_change()

    async def _json(self, url: str) -> Any:
        async with self._http.stream("GET", url, headers={"Accept": "application/json"}) as answer:
            if answer.status_code != 200:
                raise ValueError(f"{url} answered {answer.status_code}")
            content = b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise ValueError(f"{url} sent more than {_MOST_BYTES} bytes")
        return TypeAdapter(dict[str, Any]).validate_json(content)


def _public_keys(found: _KeySet) -> dict[str | None, list[PublicKey]]:
    """The keys that can check signatures, by name; others are left out."""
    keys: dict[str | None, list[PublicKey]] = {}
    for data in found.keys[:_MOST_KEYS]:
        if data.get("kty") not in ("RSA", "EC", "OKP") or data.get("use", "sig") != "sig":
            continue
        public = {name: value for name, value in data.items() if name not in _PRIVATE}
        try:
            key = JWKRegistry.import_key(public)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if not isinstance(key, RSAKey | ECKey | OKPKey):
            continue
        if isinstance(key, RSAKey) and key.raw_value.key_size < _SMALLEST_RSA:
            continue
        name = data.get("kid")
        keys.setdefault(name if isinstance(name, str) else None, []).append(key)
    return keys


_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error) or type(error).__name__
