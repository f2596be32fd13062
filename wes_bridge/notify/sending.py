"""One POST to a receiver that nobody vouches for: bounded in time, no redirects, no private addresses.

The addresses that are checked are those that are connected to: a name cannot lead elsewhere in between.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver

from wes_bridge.data.hosts import PrivateHosts, literal
from wes_bridge.data.resolving import OwnThreads

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


class _RefusedError(OSError):
    """The host leads to a private address."""


class _Guarded(AbstractResolver):
    """Finds addresses as the system does, and refuses those that nothing is sent to."""

    def __init__(self, hosts: PrivateHosts) -> None:
        self._hosts = hosts
        self._found = OwnThreads()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[Any]:
        """See the base class."""
        addresses = await self._found.resolve(host, port, family)
        if not self._hosts.names(host):
            for one in addresses:
                address = literal(one["host"])
                if address is None or not self._hosts.allows(address):
                    raise _RefusedError(_refusal(host))
        return list(addresses)

    async def close(self) -> None:
        """See the base class."""
        await self._found.close()


class Sender:
    """Sends messages; make it inside a running loop.

    Args:
        hosts: private hosts that may be contacted.
        timeout: seconds for one message, all in all.
    """

    def __init__(self, hosts: PrivateHosts, timeout: float) -> None:
        self._hosts = hosts
        connector = aiohttp.TCPConnector(
            resolver=_Guarded(hosts),
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
        host = urlsplit(url).hostname or ""
        address = literal(host)
        if address is not None and not self._hosts.names(host) and not self._hosts.allows(address):
            raise DeliveryError(_refusal(host), is_lasting=True)
        try:
            async with self._session.post(
                url, data=content, headers=dict(headers), allow_redirects=False
            ) as answer:
                status = answer.status
        except TimeoutError as error:
            raise DeliveryError(f"{host} did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cause = getattr(error, "os_error", error)
            if isinstance(cause, _RefusedError):
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


def _refusal(host: str) -> str:
    return f"{host} is a private address of this site; the site can allow it in fetch.private_hosts"
