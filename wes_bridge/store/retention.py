"""Which runs are old enough to go, wholly or in part, and taking their rows away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Text, cast, or_, select, update

from wes_bridge.model.run_urls import stored_url
from wes_bridge.model.states import FINAL_STATES, State
from wes_bridge.store.database import Database
from wes_bridge.store.runs import delete_run, state_for_update
from wes_bridge.store.tables import run_groups, runs, tasks

INTERMEDIATES, LOGS, STORED, LOCAL = 1, 2, 4, 8
"""Bits of ``runs.cleaned``: what was removed; that all is in the store; that nothing is on our disk."""
_FINAL = [state.value for state in FINAL_STATES]


class InUseError(Exception):
    """A run cannot be deleted: it is in ``state``, or the run ``user`` still reads its files."""

    def __init__(
        self, run_id: str, state: State | None = None, user: str | None = None, *, is_same_owner: bool = True
    ) -> None:
        super().__init__(run_id)
        self.run_id, self.state, self.user, self.is_same_owner = run_id, state, user, is_same_owner


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
        raise InUseError(run_id, user=user.run_id, is_same_owner=user.is_same_owner)
    delete_run(connection, run_id)


@dataclass(frozen=True)
class User:
    """A run that reads another's files, and whether both have the same owner."""

    run_id: str
    is_same_owner: bool


def user_of(connection: Connection, run_id: str) -> User | None:
    """A run that has not ended and whose inputs are files of this run, by URL; None when there is none.

    Whoever may not read the files cannot hold them by naming them: only runs of the same owner count, and
    where the run is shared those of others.
    """
    owner = select(runs.c.owner).where(runs.c.run_id == run_id).scalar_subquery()
    shared = select(run_groups.c.run_id).where(run_groups.c.run_id == run_id).exists()
    query = select(runs.c.run_id, (runs.c.owner == owner).label("is_same_owner"), runs.c.request).where(
        runs.c.state.not_in(_FINAL),
        runs.c.run_id != run_id,
        or_(runs.c.owner == owner, shared),
        cast(runs.c.request, Text).contains(run_id),
    )
    for row in connection.execute(query):
        named = json.dumps([row.request.get("workflow_params"), row.request.get("workflow_url")])
        if run_id in named:
            return User(str(row.run_id), bool(row.is_same_owner))
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
