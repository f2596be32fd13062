"""Group commit: many small writes of one event loop become few transactions.

A thread owns one connection; whatever has been asked for since its last commit goes into the next
transaction, and each caller is told when its own write is durable. Under load commits keep a distance, so
that more fits into each; a few at a time are made at once. While the database is gone, what was asked for
waits, in order, for as long as the writer is patient. A caller who waits no longer takes its write back; once
the commit has begun that is too late, and nobody can know whether it was made. It must not know any table.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from wes_bridge.one_cpu import give_way
from wes_bridge.store.database import Database
from wes_bridge.store.outage import OUTAGE, is_passing

Work = Callable[[Connection], Any]
_BATCH = 500
SPACING = 0.02
"""Seconds between commits, on average, when there are many; more where a commit takes long."""
_LONGEST_SPACING = 0.1
_PART = 0.1
"""Of the time that goes to commits when there are many: each costs much the same, whatever is in it."""
BURST = 10
"""Commits that may follow one another at once before that."""
FEW = 2
"""Writes that are not worth waiting for: whoever does one thing after another is only held up."""
_LONGEST_BURST = 16 * BURST
"""Commits at once, at most, until it is tried again whether waiting gathers more."""
_PAUSE = 0.5
"""Seconds between attempts while the database is gone."""


class NotWrittenError(Exception):
    """The database took too long; the write was taken back and will not be made."""


class DoubtfulError(Exception):
    """The database hung, or went away, during the commit: whether the write was made cannot be known."""


class _Stage(enum.Enum):
    ASKED = enum.auto()
    COMMITTING = enum.auto()
    TAKEN_BACK = enum.auto()


@dataclass(eq=False, slots=True)
class _Write:
    work: Work
    future: asyncio.Future[Any] | None
    stage: _Stage = _Stage.ASKED


class _TakenBackError(Exception):
    """Within a transaction: one of its writes is not wanted any more."""


class Writer:
    """Writes on behalf of coroutines, in order, in batches.

    Args:
        database: where to write.
        name: of the thread.
        patience: seconds writes wait for a database that is gone. What is written must then bear being
            tried again: whether a commit was made cannot be known when the connection broke during it.
        limit: seconds a caller waits for its write; None for as long as it takes.
        after: called in the thread after each commit; must not wait.
    """

    def __init__(
        self,
        database: Database,
        name: str = "store-writer",
        patience: float = 0.0,
        limit: float | None = None,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._after = after
        self._patience = patience
        self._limit = limit
        self._closing = threading.Event()
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._staging = threading.Lock()
        self._due = 0.0
        self._burst = BURST
        self._spacing = SPACING
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def __call__(self, work: Work) -> Any:
        """Run ``work`` with a connection inside a transaction; return its result once committed.

        Raises:
            NotWrittenError: it took longer than ``limit``, and is taken back.
            DoubtfulError: it took longer, or the connection broke, when the commit had begun.
            Exception: what ``work`` or the commit raised.
        """
        future = asyncio.get_running_loop().create_future()
        write = _Write(work, future)
        self._queue.put(write)
        return await (future if self._limit is None else self._in_time(write, future, self._limit))

    async def _in_time(self, write: _Write, future: asyncio.Future[Any], limit: float) -> Any:
        """Wait for a write, or take it back; also when the caller is cancelled, who will say it failed."""
        try:
            async with asyncio.timeout(limit):
                return await future
        except (TimeoutError, asyncio.CancelledError) as error:
            if not future.cancelled():  # the work's own error
                raise
            if not self._take_back(write):
                raise DoubtfulError("the database did not answer while it committed") from error
            if isinstance(error, TimeoutError):
                raise NotWrittenError(f"the database did not answer for {limit:g} s") from error
            raise

    def _take_back(self, write: _Write) -> bool:
        with self._staging:
            if write.stage is _Stage.COMMITTING:
                return False
            write.stage = _Stage.TAKEN_BACK
            return True

    def soon(self, work: Work) -> None:
        """Run ``work`` in order with all others, telling nobody: for what may be lost in a crash."""
        self._queue.put(_Write(work, None))

    def close(self) -> None:
        """Finish what was asked for, then stop the thread; a database that is gone is not waited for."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout=30)

    def _run(self) -> None:
        give_way()
        while True:
            batch, more = self._next_batch()
            if batch:
                self._commit(batch)
            if not more:
                return

    def _next_batch(self) -> tuple[list[_Write], bool]:
        item = self._queue.get()
        waited = self._keep_distance()
        batch = []
        while item is not None:
            batch.append(item)
            if len(batch) >= _BATCH or self._queue.empty():
                break
            item = self._queue.get()
        if waited:
            self._learn(len(batch))
        return batch, item is not None

    def _keep_distance(self) -> bool:
        """Let more writes gather when the commits of late were many; whether that took any time."""
        now = time.monotonic()
        self._due = max(self._due, now - self._burst * self._spacing) + self._spacing
        if self._due <= now:
            return False
        time.sleep(self._due - now)
        return True

    def _learn(self, gathered: int) -> None:
        """From a wait: after one that gathered next to nothing, the next comes twice as late."""
        if gathered > FEW:
            self._burst = BURST
        else:
            self._burst = min(2 * self._burst, _LONGEST_BURST)
            self._due = time.monotonic() - self._burst * self._spacing

    def _know_cost(self, seconds: float) -> None:
        """What a commit took: on a slow or busy machine fewer are made, with more in each."""
        wanted = min(max(SPACING, seconds / _PART), _LONGEST_SPACING)
        self._spacing += (wanted - self._spacing) / 8

    def _commit(self, batch: list[_Write]) -> None:
        batch = [write for write in batch if write.stage is not _Stage.TAKEN_BACK]
        if not batch:
            return
        begun = time.monotonic()
        try:
            results = self._patiently(batch)
        except _TakenBackError:
            self._commit(batch)
            return
        except Exception as error:
            self._failed(batch, error)
            return
        self._know_cost(time.monotonic() - begun)
        _tell_all(batch, results)

    def _failed(self, batch: list[_Write], error: Exception) -> None:
        if _is_doubtful(batch, error):
            doubt = DoubtfulError("the database went away while it committed")
            doubt.__cause__ = error
            for write in batch:
                _tell(write.future, doubt)
        elif len(batch) == 1:
            _tell(batch[0].future, error)
        else:
            for write in batch:  # one bad write must not take the others with it
                self._ask_again(write)
                self._commit([write])

    def _ask_again(self, write: _Write) -> None:
        with self._staging:
            if write.stage is _Stage.COMMITTING:
                write.stage = _Stage.ASKED

    def _patiently(self, batch: list[_Write]) -> list[Any]:
        """Do it in one transaction; again, as long as the database is gone and there is patience."""
        until = time.monotonic() + self._patience
        while True:
            try:
                with self._database.write() as connection:
                    results = [write.work(connection) for write in batch]
                    self._begin_commit(batch)
            except Exception as error:
                if not is_passing(error) or time.monotonic() >= until or self._closing.is_set():
                    raise
                OUTAGE.seen(error)
                self._closing.wait(_PAUSE)
                continue
            OUTAGE.over()
            self._after()
            return results

    def _begin_commit(self, batch: list[_Write]) -> None:
        """From here on no write can be taken back.

        Raises:
            _TakenBackError: one was, while the database kept it waiting; the transaction must not be made.
        """
        with self._staging:
            if any(write.stage is _Stage.TAKEN_BACK for write in batch):
                raise _TakenBackError
            for write in batch:
                write.stage = _Stage.COMMITTING


def _is_doubtful(batch: list[_Write], error: Exception) -> bool:
    """Whether a commit had begun when the connection broke; SQLite's commits are made or not."""
    broke = isinstance(error, DBAPIError) and error.connection_invalidated
    return broke and any(write.stage is _Stage.COMMITTING for write in batch)


def _tell_all(batch: list[_Write], results: list[Any]) -> None:
    """Tell of a whole batch at once: a loop is woken for each time that it is told something."""
    told: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for write, result in zip(batch, results, strict=True):
        if write.future is not None:
            told.setdefault(write.future.get_loop(), []).append((write.future, result))
    for loop, pairs in told.items():
        with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
            loop.call_soon_threadsafe(_settle, pairs)


def _settle(pairs: list[tuple[asyncio.Future[Any], Any]]) -> None:
    for future, result in pairs:
        if not future.done():
            future.set_result(result)


def _tell(future: asyncio.Future[Any] | None, error: Exception) -> None:
    if future is None:
        return

    def settle() -> None:
        if not future.done():
            future.set_exception(error)

    with contextlib.suppress(RuntimeError):
        future.get_loop().call_soon_threadsafe(settle)
