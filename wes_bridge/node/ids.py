"""UUIDs by the hundred: one system call for many, rather than one for each."""

from __future__ import annotations

import os
from uuid import UUID

_POOL = 256


class _Pool:
    def __init__(self) -> None:
        self._bytes = b""

    def take(self) -> bytes:
        if not self._bytes:
            self._bytes = os.urandom(16 * _POOL)
        taken, self._bytes = self._bytes[:16], self._bytes[16:]
        return taken


_pool = _Pool()


def new_uuid() -> UUID:
    """A random UUID (version 4), from the system's source of randomness. For one thread only."""
    return UUID(bytes=_pool.take(), version=4)
