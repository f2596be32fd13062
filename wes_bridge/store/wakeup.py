"""Telling engine workers that there is something new, without making them ask the database all the time.

On one machine: a datagram to each worker's Unix socket in a folder. Elsewhere: see
:mod:`wes_bridge.store.notices`. A lost wake-up costs one polling
interval, never a run: the database is the only queue. A datagram says nothing, so that all that a
stranger's could do is to make a worker look; the folder and the sockets are our user's alone, and a flood
makes it look no more than fifty times a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

from wes_bridge.private_files import private_folder

_GAP = 0.02
"""Seconds between two looks that datagrams cause."""
_AT_ONCE = 64
"""Datagrams that are read before other work has its turn."""


class Waker:
    """Wakes all workers that listen in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def wake(self) -> None:
        """Send the datagrams; workers that are gone or busy are passed over."""
        if not _is_ours(self._folder):
            return
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

    Raises:
        NotOursError: the folder is another user's.
    """

    def __init__(self, folder: Path, name: str) -> None:
        private_folder(folder, public_place=True)
        self._path = folder / f"{name}.sock"
        self._event = asyncio.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(os.fspath(self._path))
        self._path.chmod(0o600)
        self._woken = float("-inf")
        self._later: asyncio.TimerHandle | None = None
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._on_readable)

    def _on_readable(self) -> None:
        with contextlib.suppress(OSError):
            for _ in range(_AT_ONCE):
                self._socket.recv(16)
        if self._later is not None:
            return
        pause = self._woken + _GAP - self._loop.time()
        if pause <= 0:
            self._look()
        else:
            self._later = self._loop.call_later(pause, self._look)

    def _look(self) -> None:
        self._later, self._woken = None, self._loop.time()
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
        if self._later is not None:
            self._later.cancel()
        self._socket.close()
        self._path.unlink(missing_ok=True)


def _is_ours(folder: Path) -> bool:
    """In a temporary folder somebody else could have made it."""
    try:
        return folder.lstat().st_uid == os.geteuid()
    except OSError:
        return False
