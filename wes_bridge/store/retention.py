"""Which runs are old enough to go, wholly or in part, and taking their rows away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, select, update

from wes_bridge.model.run_urls import stored_url
from wes_bridge.model.states import FINAL_STATES, State
from wes_bridge.store.database import Database
from wes_bridge.store.runs import delete_run, state_for_update
from wes_bridge.store.tables import runs, tasks

INTERMEDIATES, LOGS = 1, 2
"""Bits of ``runs.cleaned``."""
_FINAL = [state.value for state in FINAL_STATES]


class InUseError(Exception):
    """A run cannot be deleted: it is in ``state``, or the run ``user`` still reads its files."""

    def __init__(self, run_id: str, state: State | None = None, user: str | None = None) -> None:
        super().__init__(run_id)
        self.run_id, self.state, self.user = run_id, state, user


def delete_ended(connection: Connection, run_id: str) -> None:
    """Forget a run that has ended, and all about it; one that is gone already is fine.

    Raises:
        InUseError: it has not ended, or a run that has not reads its files.
    """
    state = state_for_update(connection, run_id)
    if state is not None and not state.is_final:
        raise InUseError(run_id, state=state)
    user = user_of(connection, run_id)
    if user is not None:
        raise InUseError(run_id, user=user)
    delete_run(connection, run_id)


def user_of(connection: Connection, run_id: str) -> str | None:
    """A run that has not ended and whose inputs are files of this run, by URL; None when there is none."""
    query = select(runs.c.run_id, runs.c.request).where(
        runs.c.state.not_in(_FINAL), runs.c.run_id != run_id, cast(runs.c.request, Text).contains(run_id)
    )
    for row in connection.execute(query):
        named = json.dumps([row.request.get("workflow_params"), row.request.get("workflow_url")])
        if run_id in named:
            return str(row.run_id)
    return None


def ended_before(
    database: Database,
    moment: float,
    states: Iterable[State],
    lacking: int | None,
    *,
    after: int,
    limit: int,
) -> list[Row[Any]]:
    """Runs that ended before a moment, oldest first.

    Args:
        database: where.
        moment: seconds since the epoch.
        states: final states of interest.
        lacking: only those where this bit of ``cleaned`` is not set; None: all.
        after: only those with a larger sequence number.
        limit: at most this many.

    Returns:
        Rows of seq and run_id.
    """
    query = select(runs.c.seq, runs.c.run_id).where(
        runs.c.state.in_([state.value for state in states if state.is_final]),
        runs.c.end_time < moment,
        runs.c.seq > after,
    )
    if lacking is not None:
        query = query.where(runs.c.cleaned.bitwise_and(lacking) == 0)
    with database.read() as connection:
        return list(connection.execute(query.order_by(runs.c.seq).limit(limit)))


def set_cleaned(connection: Connection, run_id: str, bit: int) -> None:
    """Remember what of a run was removed."""
    cleaned = runs.c.cleaned.bitwise_or(bit)
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(cleaned=cleaned))


def set_stream(connection: Connection, run_id: str, task_id: str, name: str, url: str) -> None:
    """Remember that a task's stream was moved; ``name`` is ``stdout`` or ``stderr``."""
    connection.execute(
        update(tasks)
        .where(tasks.c.run_id == run_id, tasks.c.task_id == task_id)
        .values({name: stored_url(url, run_id)})
    )


def known_runs(database: Database, run_ids: Iterable[str]) -> set[str]:
    """Which of these runs there are."""
    wanted = list(run_ids)
    with database.read() as connection:
        return {
            row.run_id
            for start in range(0, len(wanted), 500)
            for row in connection.execute(
                select(runs.c.run_id).where(runs.c.run_id.in_(wanted[start : start + 500]))
            )
        }
