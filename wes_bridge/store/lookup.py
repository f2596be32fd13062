"""Reading one row by its key, thousands of times a second.

The statement is compiled once and run on the driver's own connection: a tenth of what a query through
SQLAlchemy's execution costs. For anything but the hottest reads use :mod:`wes_bridge.store.runs`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, bindparam, select

from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.sharing import Viewer, find_run
from wes_bridge.store.tables import runs


class Lookup:
    """A SELECT of at most one row, compiled.

    Args:
        database: where to read.
        query: with one ``bindparam`` a parameter.
    """

    def __init__(self, database: Database, query: Select[Any]) -> None:
        compiled = query.compile(dialect=database.engine.dialect)
        self._database = database
        self._text = compiled.string
        self._order = list(compiled.positiontup or ()) if compiled.positional else None

    def __call__(self, **values: Any) -> tuple[Any, ...] | None:
        """The row for these parameters, or None. Blocks: call it in a thread."""
        parameters: Any = values if self._order is None else tuple(values[name] for name in self._order)
        connection = self._database.engine.raw_connection()
        try:
            cursor = connection.cursor()
            try:
                cursor.execute(self._text, parameters)
                return cursor.fetchone()
            finally:
                cursor.close()
        finally:
            connection.close()


def state_query() -> Select[Any]:
    """The state of the run ``run_id`` if it is ``owner``'s."""
    return select(runs.c.state).where(
        runs.c.run_id == bindparam("run_id"), runs.c.owner == bindparam("owner")
    )


class StateLookup:
    """The state of a run: what clients ask for all the time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lookup = Lookup(database, state_query())

    def __call__(self, run_id: str, viewer: Viewer) -> tuple[State, str] | None:
        """The state and the owner; None when unknown or not to be seen. Blocks: call it in a thread.

        Whoever may see more than their own is looked up again, the same way for a run that is not there.
        """
        row = self._lookup(run_id=run_id, owner=viewer.name)
        if row is not None:
            return State(row[0]), viewer.name
        if not (viewer.is_admin or viewer.groups):
            return None
        found = find_run(self._database, run_id, viewer)
        return (State(found.state), str(found.owner)) if found is not None else None
