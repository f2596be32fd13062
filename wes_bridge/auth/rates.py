"""How many requests a second a known caller may make, and how many wrong credentials an address may show.

What is refused here has cost next to nothing: no body was read. It must not know what is served.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, MutableMapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from wes_bridge.auth.buckets import Buckets
from wes_bridge.auth.identity import principal_in
from wes_bridge.auth.principal import Principal
from wes_bridge.model.limits import Limit, LimitsConfig

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_BURST = 10.0
"""Seconds' worth of requests that may come at once where the configuration does not say."""


class Rates:
    """Counts the requests of callers.

    Args:
        config: how many.
        clock: seconds.
    """

    def __init__(self, config: LimitsConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._buckets = Buckets(clock=clock)
        self._limit = lru_cache(maxsize=4096)(self._found)

    def refusal(self, scope: MutableMapping[str, Any]) -> tuple[float, str] | None:
        """Seconds to wait and why, for a request that is one too many; None for any other."""
        principal = principal_in(scope)
        limit, burst = self._limit(principal.name, principal.groups, is_service="service" in principal.roles)
        if limit is None:
            return None
        wait = self._buckets.take(principal.name, limit.value, burst)
        if not wait:
            return None
        text = f"more than {limit.value:g} requests a second ({limit.setting}); wait {math.ceil(wait)} s"
        return wait, text

    def _found(self, name: str, groups: frozenset[str], *, is_service: bool) -> tuple[Limit | None, float]:
        """A service asks for many users, and is limited only by its own name."""
        if is_service and name not in self._config.users:
            return None, 0.0
        limit = self._config.limit("requests", name, groups)
        if limit is None:
            return None, 0.0
        burst = self._config.limit("burst", name, groups)
        return limit, max(1.0, burst.value if burst is not None else limit.value * _BURST)


def limited(
    app: ASGIApp,
    config: LimitsConfig,
    refuse: Callable[[str], bytes],
    clock: Callable[[], float] | None = None,
) -> ASGIApp:
    """``app``, answering 429 to callers that ask too often; it stands behind what knows who calls.

    Args:
        app: a server.
        config: how often callers may ask; where it does not say, ``app`` is given back as it is.
        refuse: makes the JSON of an error.
        clock: seconds.
    """
    if config.is_empty:
        return app
    rates = Rates(config, clock or time.monotonic)

    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        refused = rates.refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            await app(scope, receive, send)
            return
        body = refuse(refused[1])
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"retry-after", str(math.ceil(refused[0])).encode()),
        ]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return counted


def sessions_limit(config: LimitsConfig, owner: str) -> Limit | None:
    """How many sessions an owner may have at a node; groups are not known where a service asks for them."""
    return config.limit("sessions", owner, frozenset())


def of(config: LimitsConfig, what: str, principal: Principal) -> Limit | None:
    """A limit of a caller."""
    return config.limit(what, principal.name, principal.groups)
