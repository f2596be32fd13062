"""What has changed of some runs since one last looked: cheap to ask often.

Runs carry a number that each change of them or their tasks raises, so nothing is stored for who watches, and
whoever comes back after a while reads the newest state of all that changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select, tuple_

from wes_bridge.store.database import Database
from wes_bridge.store.notices import Channel, Looks
from wes_bridge.store.tables import runs, tasks

_LAST = 2**31 - 1
_BATCH = 1000
_RUN = select(
    *(runs.c.run_id, runs.c.state, runs.c.start_time, runs.c.end_time, runs.c.exit_code, runs.c.changed)
).where(runs.c.run_id == bindparam("run_id"))
_NUMBERS = select(runs.c.run_id, runs.c.changed).where(
    runs.c.run_id.in_(bindparam("run_ids", expanding=True))
)


class Position(NamedTuple):
    """How much of a run was seen: all changes below ``changed``, and of that one the tasks up to ``seq``."""

    changed: int = 0
    seq: int = 0


@dataclass(frozen=True)
class Delta:
    """A run as it is, and its tasks that changed.

    Attributes:
        run: run_id, state, start_time, end_time, exit_code, changed.
        tasks: task_id, seq, name, state, node, start_time, end_time, exit_code, changed; in the order they
            changed. None: they were not asked for.
        until: what has been seen with it.
        is_whole: no more tasks have changed (at the time of reading).
    """

    run: Any
    tasks: Sequence[Row[Any]] | None
    until: Position
    is_whole: bool


class Changes:
    """Reads changes; blocks: call it in a thread, one at a time for :meth:`any_at_all` and :meth:`close`.

    Args:
        database: where to read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = None
        self._version: int | None = None
        self._looks: Looks | None = None

    def any_at_all(self) -> bool:
        """Whether anything may have been written since the last call: SQLite tells without being searched,
        PostgreSQL by hints; they are listened to from the first call on."""
        if not self._database.is_sqlite:
            self._looks = self._looks or Looks(self._database, Channel.CHANGES)
            return self._looks.is_due
        if self._connection is None:  # the number is of use only within one connection
            self._connection = self._database.engine.raw_connection()
        cursor = self._connection.cursor()
        try:
            (version,) = cursor.execute("PRAGMA data_version").fetchone()
        finally:
            cursor.close()
        old, self._version = self._version, version
        return bool(old != version)

    def numbers(self, run_ids: Iterable[str]) -> dict[str, int]:
        """The number of the last change of each of these runs; those that are gone are left out."""
        wanted = list(run_ids)
        found: dict[str, int] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), _BATCH):
                some = wanted[start : start + _BATCH]
                found |= {row.run_id: row.changed for row in connection.execute(_NUMBERS, {"run_ids": some})}
        return found

    def since(self, run_id: str, position: Position, limit: int) -> Delta | None:
        """What has changed of a run after ``position``, at most ``limit`` tasks; None when the run is gone.

        A position that is ahead of the run (of another database, say) counts as none.
        """
        names = ("task_id", "seq", "name", "state", "node", "start_time", "end_time", "exit_code", "changed")
        query = select(*(tasks.c[name] for name in names)).where(tasks.c.run_id == run_id)
        with self._database.read() as connection:
            run = _run(connection, run_id)
            if run is None:
                return None
            if position.changed > run.changed:
                position = Position()
            query = query.where(
                tuple_(tasks.c.changed, tasks.c.seq) > tuple_(*position), tasks.c.changed <= run.changed
            )
            rows = connection.execute(query.order_by(tasks.c.changed, tasks.c.seq).limit(limit)).all()
        is_whole = len(rows) < limit
        until = Position(run.changed, _LAST) if is_whole else Position(rows[-1].changed, rows[-1].seq)
        return Delta(run, rows, until, is_whole)

    def run(self, run_id: str) -> Delta | None:
        """A run as it is, without its tasks; None when it is gone."""
        with self._database.read() as connection:
            run = _run(connection, run_id)
        return None if run is None else Delta(run, None, Position(run.changed, _LAST), True)

    def close(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._looks is not None:
            self._looks.close()
            self._looks = None


def _run(connection: Connection, run_id: str) -> Any:
    return connection.execute(_RUN, {"run_id": run_id}).first()
