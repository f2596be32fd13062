"""httpcore's connections, made by the guard: the address that was checked is the one that is connected to.

httpcore lets a pool have a network backend of its own; all reading, writing and TLS stays with httpcore's.
The time of a fetch is looked at here, with every piece that comes or goes, so that headers are timed as
bodies are.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any

import httpcore

from wes_bridge.fetching.errors import TooSlowError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Budget, Limits

_PIECE = 16 * 1024
_budget: ContextVar[Budget] = ContextVar("budget of the fetch under way")


@contextlib.contextmanager
def within(limits: Limits) -> Iterator[None]:
    """All reading and writing of this thread is one fetch."""
    token = _budget.set(Budget(limits))
    try:
        yield
    finally:
        _budget.reset(token)


class GuardedBackend(httpcore.NetworkBackend):
    """Connects where a guard lets it.

    Args:
        guard: None: the host is the site's own choice, a proxy.
    """

    def __init__(self, guard: Guard | None) -> None:
        self._guard = guard
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """See the base class."""
        budget = _budget.get()
        addresses = [host] if self._guard is None else self._guard.resolve(host, port, budget.left())
        for index, address in enumerate(addresses):
            try:
                stream = self._plain.connect_tcp(
                    address, port, budget.left(), local_address, socket_options or ()
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if index == len(addresses) - 1:
                    raise
            else:
                return TimedStream(stream)
        raise httpcore.ConnectError(f"{host} has no address")


class TimedStream(httpcore.NetworkStream):
    """A connection whose every piece is on some fetch's budget."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """See the base class."""
        budget = _budget.get()
        while True:
            with contextlib.suppress(httpcore.ReadTimeout):  # then there is no time left, or there is again
                data = self._stream.read(max_bytes, budget.left())
                budget.moved(len(data))
                return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """See the base class."""
        budget = _budget.get()
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            try:
                self._stream.write(piece, budget.left())
            except httpcore.WriteTimeout as error:
                raise TooSlowError("the server does not take what is sent") from error
            budget.moved(len(piece))

    def close(self) -> None:
        """See the base class."""
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """See the base class."""
        return TimedStream(self._stream.start_tls(ssl_context, server_hostname, _budget.get().left()))

    def get_extra_info(self, info: str) -> Any:
        """See the base class."""
        return self._stream.get_extra_info(info)
