"""Group commit: many small writes of one event loop become few transactions.

A thread owns one connection; whatever has been asked for since its last commit goes into the next
transaction, and each caller is told when its own write is durable. Under load commits keep a distance, so
that more fits into each; a few at a time are made at once. While the database is gone, what was asked for
waits, in order, for as long as the writer is patient. It must not know any table.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from wes_bridge.store.database import Database, is_passing

_logger = logging.getLogger("wes_bridge.store")
Work = Callable[[Connection], Any]
_BATCH = 500
SPACING = 0.02
"""Seconds between commits, on average, when there are many."""
BURST = 10
"""Commits that may follow one another at once before that."""
_PAUSE = 0.5
"""Seconds between attempts while the database is gone."""


class Writer:
    """Writes on behalf of coroutines, in order, in batches.

    Args:
        database: where to write.
        name: of the thread.
        patience: seconds writes wait for a database that is gone. What is written must then bear being
            tried again: whether a commit was made cannot be known when the connection broke during it.
        after: called in the thread after each commit; must not wait.
    """

    def __init__(
        self,
        database: Database,
        name: str = "store-writer",
        patience: float = 0.0,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._after = after
        self._patience = patience
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[tuple[Work, asyncio.Future[Any] | None] | None] = queue.SimpleQueue()
        self._due = 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def __call__(self, work: Work) -> Any:
        """Run ``work`` with a connection inside a transaction; return its result once committed.

        Raises:
            Exception: what ``work`` or the commit raised.
        """
        future = asyncio.get_running_loop().create_future()
        self._queue.put((work, future))
        return await future

    def soon(self, work: Work) -> None:
        """Run ``work`` in order with all others, telling nobody: for what may be lost in a crash."""
        self._queue.put((work, None))

    def close(self) -> None:
        """Finish what was asked for, then stop the thread; a database that is gone is not waited for."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            batch, more = self._next_batch()
            if batch:
                self._commit(batch)
            if not more:
                return

    def _next_batch(self) -> tuple[list[tuple[Work, asyncio.Future[Any] | None]], bool]:
        item = self._queue.get()
        self._keep_distance()
        batch = []
        while item is not None:
            batch.append(item)
            if len(batch) >= _BATCH or self._queue.empty():
                return batch, True
            item = self._queue.get()
        return batch, False

    def _keep_distance(self) -> None:
        """Let more writes gather when the commits of late were many."""
        now = time.monotonic()
        self._due = max(self._due, now - BURST * SPACING) + SPACING
        if self._due > now:
            time.sleep(self._due - now)

    def _commit(self, batch: list[tuple[Work, asyncio.Future[Any] | None]]) -> None:
        try:
            results = self._patiently([work for work, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                _tell(batch[0][1], None, error)
                return
            for item in batch:  # one bad write must not take the others with it
                self._commit([item])
            return
        for (_, future), result in zip(batch, results, strict=True):
            _tell(future, result, None)

    def _patiently(self, batch: list[Work]) -> list[Any]:
        """Do it in one transaction; again, as long as the database is gone and there is patience."""
        until = time.monotonic() + self._patience
        waited = False
        while True:
            try:
                with self._database.write() as connection:
                    results = [work(connection) for work in batch]
            except Exception as error:
                if not is_passing(error) or time.monotonic() >= until or self._closing.is_set():
                    raise
                if not waited:
                    _logger.warning("the database does not answer; writes wait for it: %s", error)
                    waited = True
                self._closing.wait(_PAUSE)
                continue
            if waited:
                _logger.warning("the database answers again")
            self._after()
            return results


def _tell(future: asyncio.Future[Any] | None, result: Any, error: Exception | None) -> None:
    if future is None:
        return

    def settle() -> None:
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    try:
        future.get_loop().call_soon_threadsafe(settle)
    except RuntimeError:  # the loop has closed: nobody waits any more
        return
