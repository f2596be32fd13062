"""The resolvers of event loops: names are looked for in threads of their own, and where wanted, guarded.

The event loop's own threads are few and others need them (with uvloop there are four), so names that lead
nowhere would hold up all others.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Collection

import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from wes_bridge.fetching.errors import RefusedError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.resolving import MOST, Found, Resolver, look_up, shown_address
from wes_bridge.fetching.urls import WebUrl

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class OwnThreads(AbstractResolver):
    """Finds addresses as the system does, each in a thread of its own that nobody waits for at the end.

    Args:
        resolver: finds them.
    """

    def __init__(self, resolver: Resolver = look_up) -> None:
        self._looking = 0
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See the base class.

        Raises:
            OSError: the name is not known, or too many are being looked for.
        """
        if self._looking >= MOST:
            raise OSError(f"the name servers do not answer: {MOST} host names are being looked for")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Found] = loop.create_future()

        def done(found: Found, error: OSError | None) -> None:
            self._looking -= 1
            if future.done():  # who asked has given up
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(found)

        def look() -> None:
            found: Found = []
            problem = None
            try:
                found = self._resolver(host, port, family)
            except OSError as error:
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(done, found, problem)

        self._looking += 1
        threading.Thread(target=look, name=f"resolver {host}", daemon=True).start()
        return [_result(host, one) for one in await future]

    async def close(self) -> None:
        """See the base class."""


class GuardedThreads(OwnThreads):
    """Finds addresses, and refuses those that a guard does not let through.

    aiohttp asks no resolver for a host that is written as an address: such URLs must be checked before.

    Args:
        guard: lets through.
        known: hosts that the site chose itself, wherever they lead; more can come later.
    """

    def __init__(self, guard: Guard, known: Collection[str] = ()) -> None:
        super().__init__(guard.resolver)
        self._guard = guard
        self._known = known

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """See the base class. Raises RefusedError, too."""
        found = await super().resolve(host, port, family)
        if host not in self._known:
            self._guard.check_addresses(host, port, [one["host"] for one in found])
        return found


def _result(host: str, found: tuple[object, ...]) -> ResolveResult:
    family, _, protocol, _, address = found
    return ResolveResult(
        hostname=host,
        host=shown_address(found),
        port=address[1],  # type: ignore[index]
        family=family,  # type: ignore[typeddict-item]
        proto=protocol,  # type: ignore[typeddict-item]
        flags=_NUMERIC,
    )


def yarl_url(url: WebUrl) -> yarl.URL:
    """A checked URL as aiohttp takes it.

    Raises:
        RefusedError: aiohttp would read another host or port.
    """
    read = yarl.URL(str(url), encoded=True)
    if (read.scheme, read.raw_host, read.port) != url.origin:
        raise RefusedError(f"the URL at {url.host} can be read in more than one way")
    return read
