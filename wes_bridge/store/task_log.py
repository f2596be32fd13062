"""Writing many tasks' changes cheaply: the newest state of each goes into the next transaction, once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from wes_bridge.store.runs import LeaseLostError, TaskRow, put_tasks
from wes_bridge.store.writer import Writer

MANY = 4
"""Tasks in one transaction from which on there are many."""
DISTANCE = 0.05
"""Seconds from the beginning of such a transaction to the next one, so that it has more in it."""


class TaskLog:
    """Tasks of all runs of one process.

    Args:
        writer: gathers transactions.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._changed: dict[tuple[str, str], TaskRow] = {}
        self._flushing: asyncio.Task[frozenset[str]] | None = None
        self._due = 0.0

    def note(self, row: TaskRow) -> None:
        """Show a change soon; it may be lost in a crash, and be overtaken by a later one."""
        self._changed[row.run_id, row.task_id] = replace(row)
        self._flush()

    async def put(self, row: TaskRow) -> None:
        """Return when the row is durable.

        Raises:
            LeaseLostError: another worker has the run now; nothing was written.
            Exception: what the database raised.
        """
        self._changed[row.run_id, row.task_id] = replace(row)
        lost = await asyncio.shield(self._flush())
        if row.run_id in lost:
            raise LeaseLostError(row.run_id)

    def _flush(self) -> asyncio.Task[frozenset[str]]:
        """The flush that will take all changes noted so far."""
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._write())
            self._flushing.add_done_callback(_seen)
        return self._flushing

    async def _write(self) -> frozenset[str]:
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._due - clock()))  # at least once: whoever is ready now comes along
        rows, self._changed, self._flushing = list(self._changed.values()), {}, None
        if len(rows) >= MANY:
            self._due = clock() + DISTANCE
        lost: frozenset[str] = await self._writer(lambda connection: put_tasks(connection, rows))
        return lost


def _seen(task: asyncio.Task[frozenset[str]]) -> None:
    """Nobody may be waiting for a flush of notes: its failure is told by the next durable write."""
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
