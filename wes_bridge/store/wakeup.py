"""Telling engine workers that there is something new, without making them ask the database all the time.

On one machine: a datagram to each worker's Unix socket in a folder. Elsewhere: see
:mod:`wes_bridge.store.notices`. A lost wake-up costs one polling
interval, never a run: the database is the only queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path


class Waker:
    """Wakes all workers that listen in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def wake(self) -> None:
        """Send the datagrams; workers that are gone or busy are passed over."""
        for path in self._folder.glob("*.sock"):
            with contextlib.suppress(OSError):
                self._socket.sendto(b"!", os.fspath(path))

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Sleeper:
    """Waits for a :class:`Waker`.

    Args:
        folder: made if missing; short enough for a socket path (about 100 bytes).
        name: of this worker, unique in the folder.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{name}.sock"
        self._event = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(self._path))
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._on_readable)

    def _on_readable(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(16):
                pass
        self._event.set()

    def wake(self) -> None:
        """End the sleep, or the next one; for any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody sleeps any more
            self._loop.call_soon_threadsafe(self._event.set)

    async def sleep(self, seconds: float) -> None:
        """Return when woken, or after ``seconds``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
        self._event.clear()

    def close(self) -> None:
        """Stop listening and remove the socket file."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)
