"""Where blocking work goes, so that the event loop never waits: few threads for SQL, others for files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from wes_bridge.one_cpu import give_way
from wes_bridge.wes.errors import NO_DATABASE, BusyError

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds a read or a write of the database may take, waiting for its turn included."""


class Threads:
    """Two small pools: a slow disk must not hold up a status request.

    Args:
        sql: threads for database reads.
        files: threads for reading and writing files.
    """

    def __init__(self, sql: int = 4, files: int = 8) -> None:
        self._sql = ThreadPoolExecutor(sql, "wes-sql", give_way)
        self._files = ThreadPoolExecutor(files, "wes-files", give_way)

    async def sql(self, work: Callable[..., T], *arguments: object) -> T:
        """Run a database read.

        Raises:
            BusyError: the database has taken too long: it hangs, or is far too busy.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                return await asyncio.get_running_loop().run_in_executor(self._sql, work, *arguments)
        except TimeoutError as error:
            raise BusyError(NO_DATABASE, {"Retry-After": "5"}) from error

    async def files(self, work: Callable[..., T], *arguments: object) -> T:
        """Run something that reads or writes files."""
        return await asyncio.get_running_loop().run_in_executor(self._files, work, *arguments)

    def close(self) -> None:
        """Let what is running end; take nothing new."""
        self._sql.shutdown(wait=False, cancel_futures=True)
        self._files.shutdown(wait=False, cancel_futures=True)
