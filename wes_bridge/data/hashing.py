"""Checksums of files, all that are asked for in one read."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable
from threading import Event
from typing import Protocol

SHA1 = "sha1"
"""The one that a manifest always has; ``checksum`` there."""
_CHUNK = 1 << 20


class _Sum(Protocol):
    def update(self, content: memoryview, /) -> None:
        """Take more."""

    def hexdigest(self) -> str:
        """The sum so far."""


class _Adler32:
    """As Rucio and WebDAV servers of physics sites write it: eight hexadecimal digits."""

    def __init__(self) -> None:
        self._sum = 1

    def update(self, content: memoryview, /) -> None:
        self._sum = zlib.adler32(content, self._sum)

    def hexdigest(self) -> str:
        return f"{self._sum:08x}"


_MAKERS: dict[str, Callable[[], _Sum]] = {
    SHA1: lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "adler32": _Adler32,
}
ALGORITHMS = frozenset(_MAKERS)
"""Those that can be asked for."""


def _sum(name: str) -> _Sum:
    return _MAKERS[name]() if name in _MAKERS else hashlib.new(name, usedforsecurity=False)


class Sums:
    """Checksums of what passes.

    Args:
        algorithms: their names, beside SHA-1.
    """

    def __init__(self, algorithms: Iterable[str] = ()) -> None:
        self._sums = {name: _sum(name) for name in (SHA1, *algorithms)}

    def update(self, content: memoryview) -> None:
        """Take more of the content."""
        for each in self._sums.values():
            each.update(content)

    @property
    def checksum(self) -> str:
        """The SHA-1 as CWL writes it."""
        return f"sha1${self._sums[SHA1].hexdigest()}"

    def value(self, algorithm: str) -> str:
        """One of them, in hexadecimal digits."""
        return self._sums[algorithm].hexdigest()

    @property
    def others(self) -> dict[str, str] | None:
        """The further ones by name; None where none were asked for."""
        found = {name: each.hexdigest() for name, each in self._sums.items() if name != SHA1}
        return found or None


def hash_file(file: int, algorithms: Iterable[str] = (), stop: Event | None = None) -> tuple[int, Sums]:
    """Read a file once, from where its descriptor is.

    Args:
        file: the descriptor.
        algorithms: see :class:`Sums`.
        stop: set to give up.

    Returns:
        How many bytes it has, and its sums.

    Raises:
        OSError: it cannot be read.
        InterruptedError: ``stop`` was set.
    """
    sums = Sums(algorithms)
    size = os.fstat(file).st_size
    buffer = bytearray(min(_CHUNK, max(4096, size + 1)))
    view = memoryview(buffer)
    total = 0
    while count := os.readv(file, [buffer]):
        sums.update(view[:count])
        total += count
        if stop is not None and stop.is_set():
            raise InterruptedError("stopped")
    return total, sums
