"""One POST to a receiver that nobody vouches for: bounded in time, no redirects, no private addresses.

The addresses that are checked are those that are connected to: a name cannot lead elsewhere in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from wes_bridge.fetching.errors import RefusedError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.loops import GuardedThreads, yarl_url
from wes_bridge.fetching.tls import tls_context

_AT_ONCE, _AT_ONCE_TO_ONE = 32, 8
"""Connections, and those to one receiver: one that hangs must not take all."""


class DeliveryError(Exception):
    """A receiver did not take a message; the text says why, and holds nothing of the URL but its host.

    Attributes:
        is_lasting: trying again makes no sense.
    """

    def __init__(self, text: str, *, is_lasting: bool = False) -> None:
        super().__init__(text)
        self.is_lasting = is_lasting


class Sender:
    """Sends messages; make it inside a running loop.

    Args:
        guard: says where messages may be sent.
        timeout: seconds for one message, all in all.
        ca_file: authorities that are believed beside the public ones.
    """

    def __init__(self, guard: Guard, timeout: float, ca_file: Path | None = None) -> None:
        self._guard = guard
        connector = aiohttp.TCPConnector(
            resolver=GuardedThreads(guard),
            ssl=tls_context(ca_file),
            limit=_AT_ONCE,
            limit_per_host=_AT_ONCE_TO_ONE,
            use_dns_cache=False,
            keepalive_timeout=5,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=timeout),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def send(self, url: str, content: bytes, headers: Mapping[str, str]) -> None:
        """POST a message.

        Raises:
            DeliveryError: it was not answered with 2xx.
        """
        try:
            place = self._guard.check_url(url)
        except RefusedError as error:
            raise DeliveryError(str(error), is_lasting=True) from error
        host = place.host
        try:
            async with self._session.post(
                yarl_url(place), data=content, headers=dict(headers), allow_redirects=False
            ) as answer:
                status = answer.status
        except TimeoutError as error:
            raise DeliveryError(f"{host} did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", error)
            if isinstance(cause, RefusedError):
                raise DeliveryError(str(cause), is_lasting=True) from error
            raise DeliveryError(f"{host} cannot be reached ({type(error).__name__})") from error
        if 300 <= status < 400:
            raise DeliveryError(f"{host} answered {status}: redirects are not followed")
        if not 200 <= status < 300:
            raise DeliveryError(f"{host} answered {status}", is_lasting=status == 410)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        await asyncio.sleep(0)
