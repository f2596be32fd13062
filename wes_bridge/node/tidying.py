"""Removing what ended sessions have left, once nothing runs.

A file system (ext4) is slow to make what it has room for from things that were removed in the last seconds:
removing at once would cost each command that comes next. It must not know what is removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

QUIET = 1.0
"""Seconds between looks whether nothing runs."""
WITHIN = 20.0
"""Seconds after which it is done in any case."""


class Tidying:
    """What is to be removed, until it is.

    Args:
        is_busy: whether anything runs.
        threads: that remove.
    """

    def __init__(self, is_busy: Callable[[], bool], threads: Executor) -> None:
        self._is_busy = is_busy
        self._threads = threads
        self._work: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def later(self, work: Callable[[], None]) -> None:
        """Do ``work``, which blocks and does not raise, in a thread when nothing runs; soon in any case."""
        self._work.append(work)
        if self._timer is None:
            self._look_after_a_while(asyncio.get_running_loop().time() + WITHIN)

    async def close(self) -> None:
        """Do what is left now."""
        if self._timer is not None:
            self._timer.cancel()
        await self._begin()

    def _look_after_a_while(self, latest: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(QUIET, self._look, latest)

    def _look(self, latest: float) -> None:
        if self._is_busy() and asyncio.get_running_loop().time() < latest:
            self._look_after_a_while(latest)
            return
        self._timer = None
        self._begin()

    def _begin(self) -> asyncio.Future[None]:
        batch, self._work = self._work, []
        return asyncio.get_running_loop().run_in_executor(self._threads, _do, batch)


def _do(batch: list[Callable[[], None]]) -> None:
    for work in batch:
        work()
