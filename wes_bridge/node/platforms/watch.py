"""Limits of running commands that nobody else enforces: memory of process trees, sampled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from wes_bridge.node.platforms.processes import Roots, memory_of

SHORTEST = 0.2
"""Seconds between samples when there is little to look at."""
SHARE = 0.01
"""Part of one processor that sampling may cost; with many sessions samples come less often."""


class MemoryWatch:
    """Watches process trees and calls back when one uses more memory than it may."""

    def __init__(self) -> None:
        self._watched: dict[Roots, tuple[int, Callable[[int], None]]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, roots: Roots, limit: int, exceeded: Callable[[int], None]) -> None:
        """Watch a command's processes.

        Args:
            roots: where they are found.
            limit: bytes.
            exceeded: called once with the bytes in use.
        """
        self._watched[roots] = (limit, exceeded)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, roots: Roots) -> None:
        """Stop watching them."""
        self._watched.pop(roots, None)

    def close(self) -> None:
        """Stop watching everything."""
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        pause = SHORTEST
        while self._watched:
            await asyncio.sleep(pause)
            before = time.thread_time()
            for roots, (limit, exceeded) in list(self._watched.items()):
                used = memory_of(roots)
                if used > limit:
                    self._watched.pop(roots, None)
                    exceeded(used)
            pause = max(SHORTEST, (time.thread_time() - before) / SHARE)
