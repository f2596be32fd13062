"""Finding the addresses of host names without holding up anybody else.

A name server that does not answer keeps a thread for as long as the system's resolver waits, often half a
minute. The event loop's own threads are few and others need them (with uvloop there are four), so names that
lead nowhere would hold up all others. Knows nothing of what the addresses are for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

MOST = 256
"""Names looked for at a time; beyond that something is wrong with more than a few of them."""
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


class OwnThreads(AbstractResolver):
    """Finds addresses as the system does, each in a thread of its own that nobody waits for at the end."""

    def __init__(self) -> None:
        self._looking = 0

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
        future: asyncio.Future[list[Any]] = loop.create_future()

        def done(found: list[Any], error: OSError | None) -> None:
            self._looking -= 1
            if future.done():  # who asked has given up
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(found)

        def look() -> None:
            found, problem = [], None
            try:
                found = socket.getaddrinfo(
                    host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
                )
            except UnicodeError as error:
                problem = OSError(f"{host} is no host name: {error}")
            except OSError as error:
                problem = error
            with contextlib.suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(done, found, problem)

        self._looking += 1
        threading.Thread(target=look, name=f"resolver {host}", daemon=True).start()
        return [_result(host, one) for one in await future]

    async def close(self) -> None:
        """See the base class."""


def _result(host: str, found: Any) -> ResolveResult:
    family, _, protocol, _, address = found
    shown = address[0]
    if family == socket.AF_INET6 and address[3] and "%" not in shown:  # link-local: of one interface only
        shown = f"{shown}%{address[3]}"
    return ResolveResult(
        hostname=host, host=shown, port=address[1], family=family, proto=protocol, flags=_NUMERIC
    )
