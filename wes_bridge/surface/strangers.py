"""Addresses that showed wrong credentials again and again are told to wait, before anything is looked at.

This machine's own addresses are not counted: many users, or a proxy, are behind them. Behind another proxy
callers are told apart by the address that it added last.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from wes_bridge.auth.buckets import Buckets

_RATE = 1.0
"""Wrong credentials a second of one caller, in the long run."""
_BURST = 60.0
"""At once."""
_PROXY = 50.0
"""Times as many may come from one address, which may be a proxy's."""
_Scope = MutableMapping[str, Any]


class Strangers:
    """Counts refusals by address.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._callers = Buckets(clock=clock)
        self._addresses = Buckets(clock=clock)

    def wait(self, address: str, headers: list[tuple[bytes, bytes]]) -> float:
        """Seconds that a caller has to wait; mostly 0."""
        if not len(self._addresses):
            return 0.0
        place = network(address)
        return max(
            self._callers.take(place + _forwarded(headers), _RATE, _BURST, 0),
            self._addresses.take(place, _RATE * _PROXY, _BURST * _PROXY, 0),
        )

    def refused(self, address: str, headers: list[tuple[bytes, bytes]]) -> None:
        """Somebody was answered 401."""
        place = network(address)
        self._callers.take(place + _forwarded(headers), _RATE, _BURST)
        self._addresses.take(place, _RATE * _PROXY, _BURST * _PROXY)

    def counting(self, app: Any, address: str) -> Any:
        """``app``, with its refusals counted for an address."""

        async def counted(scope: _Scope, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
            async def told(message: Any) -> None:
                if message["type"] == "http.response.start" and message["status"] == 401:
                    self.refused(address, scope["headers"])
                await send(message)

            await app(scope, receive, told)

        return counted


def network(address: str) -> str:
    """An IPv4 address, or the /64 that one caller has of IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if found.version == 4 else str(ipaddress.ip_network((found, 64), strict=False))


def _forwarded(headers: list[tuple[bytes, bytes]]) -> str:
    last = next((value for name, value in reversed(headers) if name == b"x-forwarded-for"), b"")
    return last.rpartition(b",")[2].strip()[:64].decode("latin-1")
