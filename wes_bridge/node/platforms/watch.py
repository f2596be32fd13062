"""Limits of running commands that nobody else enforces: memory and number of the processes of a tree, room on
the disk, all sampled.

What is over a limit within one sample is seen in the next; with many sessions samples come less often, so
that looking costs little.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from wes_bridge.node.platforms.processes import Roots, usage_of

SHORTEST = 0.2
"""Seconds between samples when there is little to look at."""
SHARE = 0.01
"""Part of one processor that sampling may cost; with many sessions samples come less often."""
_SHORTEST_DISK = 1.0
_SHARE_DISK = 0.05
_BLOCK = 512
"""Bytes of a block in what the system says of files."""

What = Literal["memory", "processes", "disk"]
Refused = Callable[[], What | None]
Exceeded = Callable[[What, int, int], None]
"""Called once with what is over its limit, how much there is, and the limit."""


@dataclass(frozen=True)
class Bounds:
    """What a command may use; None is not limited.

    Attributes:
        memory: bytes of all its processes, and of its ``/tmp`` and ``/dev/shm`` where they are in memory.
        processes: how many.
        disk: bytes of its session's folder.
    """

    memory: int | None = None
    processes: int | None = None
    disk: int | None = None


class TreeWatch:
    """Watches process trees, and calls back when one uses more than it may."""

    def __init__(self) -> None:
        self._watched: dict[Roots, tuple[Bounds, Exceeded, Refused]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(
        self,
        roots: Roots,
        bounds: Bounds,
        exceeded: Exceeded,
        refused: Refused = lambda: None,
    ) -> None:
        """Watch a command's processes.

        Args:
            roots: where they are found.
            bounds: what they may use.
            exceeded: called when they use more.
            refused: of what the system did not let them have more, where it holds some of it.
        """
        self._watched[roots] = (bounds, exceeded, refused)
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
            for roots, (bounds, exceeded, refused) in list(self._watched.items()):
                most, refusal = bounds.processes, refused()
                used = usage_of(roots, None if most is None else most + 1)
                if most is not None and (used.processes > most or refusal == "processes"):
                    self._watched.pop(roots, None)
                    exceeded("processes", used.processes, most)
                elif bounds.memory is not None and (used.memory > bounds.memory or refusal == "memory"):
                    self._watched.pop(roots, None)
                    exceeded("memory", max(used.memory, bounds.memory), bounds.memory)
            pause = max(SHORTEST, (time.thread_time() - before) / SHARE)


class DiskWatch:
    """Watches the folders of sessions, and calls back when one has more than it may."""

    def __init__(self) -> None:
        self._watched: dict[Path, tuple[int, Exceeded]] = {}
        self._task: asyncio.Task[None] | None = None

    def add(self, folder: Path, limit: int, exceeded: Exceeded) -> None:
        """Watch a folder."""
        self._watched[folder] = (limit, exceeded)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def remove(self, folder: Path) -> None:
        """Stop watching it."""
        self._watched.pop(folder, None)

    def close(self) -> None:
        """Stop watching everything."""
        self._watched.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        pause = _SHORTEST_DISK
        loop = asyncio.get_running_loop()
        while self._watched:
            await asyncio.sleep(pause)
            before = time.monotonic()
            for folder, (limit, exceeded) in list(self._watched.items()):
                used = await loop.run_in_executor(None, room_of, folder, limit)
                if used > limit and self._watched.pop(folder, None) is not None:
                    exceeded("disk", used, limit)
            pause = max(_SHORTEST_DISK, (time.monotonic() - before) / _SHARE_DISK)


def room_of(folder: Path, enough: int) -> int:
    """Bytes that the files below a folder take on the disk, links not followed; blocking.

    Args:
        folder: where to look; it belongs to a command that may change it meanwhile.
        enough: above this nothing more is counted.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    for _, folders, names, descriptor in os.fwalk(folder, follow_symlinks=False, onerror=None):
        for name in (*names, *folders):
            with contextlib.suppress(OSError):  # it has gone meanwhile
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if status.st_nlink > 1 and name in names:
                    if (status.st_dev, status.st_ino) in seen:
                        continue
                    seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * _BLOCK
        if total > enough:
            return total
    return total
