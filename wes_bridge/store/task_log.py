"""Writing many tasks' changes cheaply: the newest state of each goes into the next transaction, once."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from wes_bridge.store.runs import TaskRow, put_tasks
from wes_bridge.store.writer import Writer


class TaskLog:
    """Tasks of all runs of one process.

    Args:
        writer: gathers transactions.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._changed: dict[tuple[str, str], TaskRow] = {}
        self._flushing: asyncio.Task[None] | None = None

    def note(self, row: TaskRow) -> None:
        """Show a change soon; it may be lost in a crash, and be overtaken by a later one."""
        self._changed[row.run_id, row.task_id] = replace(row)
        self._flush()

    async def put(self, row: TaskRow) -> None:
        """Return when the row is durable.

        Raises:
            Exception: what the database raised.
        """
        self._changed[row.run_id, row.task_id] = replace(row)
        await asyncio.shield(self._flush())

    def _flush(self) -> asyncio.Task[None]:
        """The flush that will take all changes noted so far."""
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._write())
            self._flushing.add_done_callback(_seen)
        return self._flushing

    async def _write(self) -> None:
        await asyncio.sleep(0)  # whoever is ready now comes along
        rows, self._changed, self._flushing = list(self._changed.values()), {}, None
        await self._writer(lambda connection: put_tasks(connection, rows))


def _seen(task: asyncio.Task[None]) -> None:
    """Nobody may be waiting for a flush of notes: its failure is told by the next durable write."""
    with contextlib.suppress(asyncio.CancelledError):
        task.exception()
