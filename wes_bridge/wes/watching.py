"""Noticing that runs change: one look at the database for all listeners; what is new is made once for all.

Workers are other processes, perhaps on other machines, so the database is what is watched. Nothing is queued
for a listener: it knows its position, takes what was just published if that follows it, and reads for itself
if it was too slow. While nobody listens nothing is read.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from wes_bridge.model.finite import finite_json
from wes_bridge.model.states import State
from wes_bridge.model.units import format_second
from wes_bridge.store.changes import Changes, Delta, Position
from wes_bridge.store.outage import Trouble

_LOG = logging.getLogger(__name__)
FIRST_LOOK, LAST_LOOK, SLOWER = 0.05, 0.25, 1.2
"""Seconds between looks while things change, at most, and how much longer it becomes while nothing does."""
PART = 0.1
"""Of the time that goes to looking, at most: where a look takes long, the next one comes later."""
AFTER_ERROR = 2.0
_TASKS = 1000
"""Tasks read at once."""
END = "end"
"""The id of a run's last event."""
InThread = Callable[..., Awaitable[Any]]


@dataclass(frozen=True)
class Batch:
    """What changed of a run between two positions, ready to be sent.

    Attributes:
        since, until: the positions.
        state: of the run; None: the run is gone.
        run: the event with the run as it is.
        tasks: events of tasks; None: nobody wanted them when it was made.
        is_whole: nothing more to be read.
    """

    since: Position
    until: Position
    state: State | None
    run: bytes = b""
    tasks: bytes | None = b""
    is_whole: bool = True

    @property
    def is_last(self) -> bool:
        """Whether nothing will follow."""
        return self.state is None or (self.is_whole and self.state.is_final)


@dataclass
class Topic:
    """A run that is listened to.

    Attributes:
        latest: what was published last.
        listeners: each is woken when there is something new; with whether it wants to be told of tasks.
    """

    latest: Batch
    listeners: dict[asyncio.Event, bool] = field(default_factory=dict)

    def publish(self, batch: Batch) -> None:
        """Show a batch to all listeners."""
        self.latest = batch
        for listener in self.listeners:
            listener.set()


class Watcher:
    """Watches the runs that somebody listens to.

    Args:
        changes: reads them.
        in_thread: runs a blocking call elsewhere.
    """

    def __init__(self, changes: Changes, in_thread: InThread) -> None:
        self._changes = changes
        self._in_thread = in_thread
        self._topics: dict[str, Topic] = {}
        self._needed = asyncio.Event()
        self._must_look = False
        self._task: asyncio.Task[None] | None = None
        self.is_closing = False

    @property
    def listeners(self) -> int:
        """How many there are."""
        return sum(len(topic.listeners) for topic in self._topics.values())

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._work(), name="watcher")

    def end_streams(self) -> None:
        """Tell all listeners to leave: the server stops. Clients come back to the next one."""
        self.is_closing = True
        for topic in self._topics.values():
            for listener in topic.listeners:
                listener.set()

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        self._changes.close()

    async def read(self, run_id: str, position: Position) -> Batch:
        """What changed of a run after ``position``: for a listener that comes, or was too slow."""
        batch: Batch = await self._in_thread(self._read, run_id, position)
        return batch

    def join(self, run_id: str, batch: Batch, news: asyncio.Event, with_tasks: bool) -> Topic:
        """Listen to a run; ``batch`` is what was read of it last, ``news`` is set when there is more.

        Tasks are left out of what is published as long as no listener wants them.
        """
        topic = self._topics.get(run_id)
        if topic is None:
            topic = self._topics[run_id] = Topic(replace(batch, since=batch.until, tasks=b""))
        topic.listeners[news] = with_tasks
        if self.is_closing or topic.latest.until > batch.until:
            news.set()
        # What changed since it was read may have been looked at already, when nobody was listening to it.
        self._must_look = True
        self._needed.set()
        return topic

    def leave(self, run_id: str, news: asyncio.Event) -> None:
        """Listen no more."""
        topic = self._topics[run_id]
        topic.listeners.pop(news, None)
        if not topic.listeners:
            del self._topics[run_id]
        if not self._topics:
            self._needed.clear()

    async def _work(self) -> None:
        pause = FIRST_LOOK
        trouble = Trouble(_LOG, "cannot look for changes of runs; trying again")
        clock = asyncio.get_running_loop().time
        while True:
            await self._needed.wait()
            await asyncio.sleep(pause)
            begun = clock()
            try:
                found = await self._look()
            except Exception as error:
                trouble.seen(error, logging.ERROR)
                self._must_look, pause = True, AFTER_ERROR
                continue
            trouble.over()
            pause = FIRST_LOOK if found else min(LAST_LOOK, pause * SLOWER)
            pause = max(pause, min(LAST_LOOK, (clock() - begun) / PART))

    async def _look(self) -> bool:
        """Publish what is new; false when nothing is."""
        seen = {run_id: topic.latest for run_id, topic in self._topics.items()}
        must_look, self._must_look = self._must_look, False
        try:
            told = {run_id for run_id, topic in self._topics.items() if any(topic.listeners.values())}
            found: dict[str, Batch] = await self._in_thread(self._changed, seen, told, must_look)
        except BaseException:
            self._must_look = True
            raise
        for run_id, batch in found.items():
            topic = self._topics.get(run_id)
            if topic is not None and topic.latest is seen[run_id]:
                topic.publish(batch)
            if not batch.is_whole:
                self._must_look = True
        return bool(found)

    def _changed(self, seen: dict[str, Batch], told: set[str], must_look: bool) -> dict[str, Batch]:
        """Blocking; ``told`` are the runs of whose tasks somebody wants to be told."""
        if not self._changes.any_at_all() and not must_look:
            return {}
        numbers = self._changes.numbers(seen)
        behind = {
            run_id: last.until
            for run_id, last in seen.items()
            if last.state is not None and (not last.is_whole or numbers.get(run_id, -1) != last.until.changed)
        }
        return {run_id: self._read(run_id, position, run_id in told) for run_id, position in behind.items()}

    def _read(self, run_id: str, position: Position, with_tasks: bool = True) -> Batch:
        changes = self._changes
        delta = changes.since(run_id, position, _TASKS) if with_tasks else changes.run(run_id)
        return Batch(position, position, None) if delta is None else batch_of(delta, position)


def batch_of(delta: Delta, since: Position) -> Batch:
    """A delta as events."""
    state = State(delta.run.state)
    is_end = state.is_final and delta.is_whole
    return Batch(
        since,
        delta.until,
        state,
        run_event(delta.run, END if is_end else None),
        None if delta.tasks is None else b"".join(task_event(row) for row in delta.tasks),
        delta.is_whole,
    )


def run_event(row: Any, event_id: str | None) -> bytes:
    """A run as it is."""
    return _event(
        "run",
        event_id,
        {
            "run_id": row.run_id,
            "state": row.state,
            "start_time": _instant(row.start_time),
            "end_time": _instant(row.end_time),
            "exit_code": row.exit_code,
        },
    )


def task_event(row: Any) -> bytes:
    """A task as it is."""
    return _event(
        "task",
        f"{row.changed}.{row.seq}",
        {
            "id": row.task_id,
            "name": row.name,
            "state": row.state,
            "node": row.node,
            "start_time": _instant(row.start_time),
            "end_time": _instant(row.end_time),
            "exit_code": row.exit_code,
        },
    )


def position_of(event_id: str | None) -> Position:
    """Where a client is that has this event; the beginning when it is none of ours."""
    changed, dot, seq = (event_id or "").partition(".")
    with contextlib.suppress(ValueError):
        if dot and changed.isascii() and changed.isdigit() and seq.isascii() and seq.isdigit():
            position = Position(int(changed), int(seq))
            if max(position) < 2**31:
                return position
    return Position()


def _event(kind: str, event_id: str | None, data: dict[str, Any]) -> bytes:
    known = {name: value for name, value in data.items() if value is not None}
    text = finite_json(known, separators=(",", ":"))  # ASCII, one line
    number = f"id: {event_id}\n" if event_id else ""
    return f"event: {kind}\n{number}data: {text}\n\n".encode()


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else format_second(datetime.fromtimestamp(seconds, UTC))
