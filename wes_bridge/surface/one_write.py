"""A transport that puts the head and the body of an answer into one packet.

uvicorn writes them one after the other, and each write is a system call here and may wake the reader there:
with answers of a few hundred bytes that is much of what an answer costs. It must not know what is answered.
"""

from __future__ import annotations

import asyncio
from typing import Any

_MUCH = 1 << 16
"""Bytes that are written without waiting for more."""


class Gathering:
    """A transport that sends at the end of a turn of the loop what was written in it."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._parts: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send this, soon."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)
        self._size += len(data)
        if self._size >= _MUCH:
            self._flush()

    def _flush(self) -> None:
        parts, self._parts, self._size = self._parts, [], 0
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """Send what is left, and close."""
        self._flush()
        self._transport.close()
