"""Queries on runs and tasks, for both sides: the WES server (submit, read, cancel) and the engine
(claim, advance, record tasks).

State changes go through :func:`set_run_state` and :func:`put_tasks`, which refuse to move a run or task
backwards and refuse a worker whose lease was taken over (the fence).
"""

from __future__ import annotations

import functools
import heapq
import importlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    RowMapping,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from wes_bridge.model.run_urls import stored_url, to_store
from wes_bridge.model.states import FINAL_STATES, State, may_follow
from wes_bridge.store.database import Database, one_at_a_time
from wes_bridge.store.delegations import drop_delegation
from wes_bridge.store.sharing import share_run
from wes_bridge.store.tables import HEAD, delegations, run_groups, run_secrets, run_tags, runs, tasks
from wes_bridge.store.webhooks import carry_webhook, queue_delivery

_FINAL = [state.value for state in FINAL_STATES]
_GOING_ON = [state.value for state in State if not state.is_final]
_SHOWN = [column for column in tasks.columns if column.name not in ("inputs_hash", "outcome")]


class LeaseLostError(Exception):
    """Another worker has taken the run over: this one must not write about it any more."""


@dataclass(frozen=True)
class NewRun:
    """A run to be stored. ``request`` is the RunRequest as plain JSON; ``groups`` may look at it."""

    run_id: str
    owner: str
    request: dict[str, Any]
    tags: dict[str, str]
    workflow_name: str
    groups: tuple[str, ...] = ()


@dataclass
class TaskRow:
    """One task; times are seconds since the epoch. ``stdout``/``stderr`` are file URLs, and so are locations
    in ``outcome``; what is read from the database has them as stored (:mod:`wes_bridge.model.run_urls`).

    ``fence`` is not stored: it is what the writer shows to prove that it still holds the run; None proves
    nothing and is not asked to. ``changed`` is given by the store whenever the row is written.
    """

    run_id: str
    task_id: str
    seq: int
    key: str
    name: str
    state: State = State.QUEUED
    cmd: list[str] = field(default_factory=list)
    node: str | None = None
    session_url: str | None = None
    placement: dict[str, Any] | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None
    system_logs: list[str] = field(default_factory=list)
    created: float = field(default_factory=time.time)
    start_time: float | None = None
    end_time: float | None = None
    inputs_hash: str | None = None
    outcome: dict[str, Any] | None = None
    changed: int = 0
    fence: int | None = None


# ---- the WES server's side -------------------------------------------------------------------------


def create_run(connection: Connection, run: NewRun) -> None:
    """Store a new run in state QUEUED, with its tags."""
    done = connection.execute(
        insert(runs).values(
            run_id=run.run_id,
            owner=run.owner,
            state=State.QUEUED.value,
            workflow_name=run.workflow_name,
            request=run.request,
            tags=run.tags,
            created=time.time(),
        )
    )
    if run.tags:
        (seq,) = done.inserted_primary_key or (0,)
        connection.execute(insert(run_tags), tag_rows(run.run_id, run.owner, seq, run.tags))
    share_run(connection, run.run_id, run.groups)


def tag_rows(run_id: str, owner: str, seq: int, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows of ``run_tags`` for a run."""
    same = {"run_id": run_id, "owner": owner, "seq": seq}
    return [same | {"key": key, "value": value, "head": value[:HEAD]} for key, value in tags.items()]


def create_rerun(connection: Connection, run: NewRun, of: str, base: str) -> bool:
    """Store a run made of an earlier one, which is told of where that was.

    Args:
        connection: in a transaction.
        run: the new one.
        of: the earlier one.
        base: the API's URL as the caller has it, for links in messages to the webhook.

    Returns:
        False, with nothing stored, when the earlier run is gone by now.
    """
    if state_for_update(connection, of) is None:
        return False
    create_run(connection, run)
    carry_webhook(connection, of, run.run_id, base)
    return True


def count_going_on(connection: Connection, owner: str) -> int:
    """How many runs of an owner have not ended."""
    query = select(func.count()).where(runs.c.owner == owner, runs.c.state.in_(_GOING_ON))
    return int(connection.execute(query).scalar_one())


def ids_of(database: Database, owner: str) -> list[str]:
    """All runs of an owner."""
    with database.read() as connection:
        return list(connection.execute(select(runs.c.run_id).where(runs.c.owner == owner)).scalars())


def get_run(database: Database, run_id: str, owner: str | None = None) -> Row[Any] | None:
    """The whole row of one run; None when unknown, or not ``owner``'s (None: anyone's)."""
    return _one(database, select(runs), run_id, owner)


def get_state(database: Database, run_id: str, owner: str | None = None) -> State | None:
    """The state of one run; None as in :func:`get_run`."""
    row = _one(database, select(runs.c.state), run_id, owner)
    return State(row.state) if row else None


def _one(database: Database, query: Select[Any], run_id: str, owner: str | None) -> Row[Any] | None:
    query = query.where(runs.c.run_id == run_id)
    if owner is not None:
        query = query.where(runs.c.owner == owner)
    with database.read() as connection:
        return connection.execute(query).first()


def request_cancel(connection: Connection, run_id: str) -> None:
    """Mark a run to be cancelled and show CANCELING; one that has ended stays as it is.

    A run that no worker ever held is CANCELED at once: nothing of it runs anywhere.
    """
    before = state_for_update(connection, run_id)
    alive = and_(runs.c.run_id == run_id, runs.c.state.not_in(_FINAL))
    connection.execute(
        update(runs)
        .where(alive)
        .values(cancel_requested=True, state=State.CANCELING.value, changed=runs.c.changed + 1)
    )
    connection.execute(
        update(runs).where(alive, runs.c.fence == 0).values(state=State.CANCELED.value, end_time=time.time())
    )
    after = state_for_update(connection, run_id)
    if after is not None and after.is_final:
        drop_delegation(connection, run_id)
    if after is not None and after != before:
        queue_delivery(connection, run_id, after)


def state_for_update(connection: Connection, run_id: str) -> State | None:
    """The state of a run inside a transaction that is about to change it; None when unknown."""
    query = select(runs.c.state).where(runs.c.run_id == run_id)
    row = connection.execute(query.with_for_update()).first()
    return State(row.state) if row else None


def delete_run(connection: Connection, run_id: str) -> None:
    """Forget a run and all that belongs to it."""
    for table in (tasks, run_tags, run_groups, delegations, run_secrets, runs):
        connection.execute(delete(table).where(table.c.run_id == run_id))


def list_tasks(database: Database, run_id: str, after: int, limit: int) -> Sequence[Row[Any]]:
    """Up to ``limit`` tasks of a run, in the order they came to be, with a ``seq`` above ``after``."""
    query = select(*_SHOWN).where(tasks.c.run_id == run_id, tasks.c.seq > after)
    with database.read() as connection:
        return connection.execute(query.order_by(tasks.c.seq).limit(limit)).all()


def get_task(database: Database, run_id: str, task_id: str) -> Row[Any] | None:
    """One task, or None."""
    query = select(tasks).where(tasks.c.run_id == run_id, tasks.c.task_id == task_id)
    with database.read() as connection:
        return connection.execute(query).first()


def count_tasks(database: Database, run_id: str) -> dict[State, int]:
    """How many tasks of a run are in each state."""
    query = select(tasks.c.state, func.count()).where(tasks.c.run_id == run_id).group_by(tasks.c.state)
    with database.read() as connection:
        return {State(state): count for state, count in connection.execute(query)}


# ---- the engine's side -----------------------------------------------------------------------------


def claim_runs(  # noqa: PLR0917
    connection: Connection,
    worker: str,
    lease: float,
    limit: int,
    now: float,
    most: int | None = None,
    newcomers: int = 0,
) -> Sequence[Row[Any]]:
    """Take up to ``limit`` runs that nobody holds, for ``lease`` seconds.

    Owners take turns: whoever has fewer runs under way comes first, and each owner's runs come in the order
    of their submission. ``most`` is how many runs all workers together may hold. Where ``limit`` is 0, up to
    ``newcomers`` runs are taken nonetheless, each of another owner who has none under way.

    Returns:
        Whole rows, as they are after the claim (``fence`` is the number this worker must show).
    """
    one_at_a_time(connection, "claim")
    if not connection.execute(select(runs.c.seq).where(_free(now)).limit(1)).first():
        return []
    held = _held(connection, now)
    if most is not None:
        room = most - sum(held.values())
        limit, newcomers = min(limit, room), min(newcomers, room)
    found = _next(connection, held, limit, now, newcomers)
    if not found:
        return []
    connection.execute(
        update(runs)
        .where(runs.c.seq.in_(found))
        .values(worker=worker, lease_until=now + lease, fence=runs.c.fence + 1)
    )
    return connection.execute(select(runs).where(runs.c.seq.in_(found)).order_by(runs.c.seq)).all()


def _free(now: float) -> ColumnElement[bool]:
    return and_(runs.c.state.in_(_GOING_ON), or_(runs.c.worker.is_(None), runs.c.lease_until < now))


def _held(connection: Connection, now: float) -> dict[str, int]:
    """How many runs of each owner are held."""
    query = (
        select(runs.c.owner, func.count())
        .where(runs.c.state.in_(_GOING_ON), runs.c.worker.is_not(None), runs.c.lease_until >= now)
        .group_by(runs.c.owner)
    )
    return {owner: count for owner, count in connection.execute(query)}


def _next(
    connection: Connection, held: Mapping[str, int], limit: int, now: float, newcomers: int
) -> list[int]:
    """Which free runs are next."""
    if limit <= 0 and newcomers <= 0:
        return []
    query = select(runs.c.owner, func.count()).where(_free(now)).group_by(runs.c.owner)
    waiting = {owner: count for owner, count in connection.execute(query)}
    found: list[int] = []
    shares = _shares(waiting, held, limit) if limit > 0 else _first_of(waiting, held, newcomers)
    for owner, share in shares.items():
        query = select(runs.c.seq).where(_free(now), runs.c.owner == owner).order_by(runs.c.seq).limit(share)
        query = query.with_for_update(skip_locked=True)  # SQLite ignores it: its writers are alone anyway
        found += connection.execute(query).scalars()
    return found


def _first_of(waiting: Mapping[str, int], held: Mapping[str, int], newcomers: int) -> dict[str, int]:
    """One run each for owners who have none under way."""
    new = [owner for owner in waiting if owner not in held]
    return dict.fromkeys(new[:newcomers], 1)


def _shares(waiting: Mapping[str, int], held: Mapping[str, int], limit: int) -> dict[str, int]:
    """How many runs of each owner are next: one after the other goes to who then has the fewest under way."""
    shares: dict[str, int] = {}
    queue = [(held.get(owner, 0), owner) for owner in waiting]
    heapq.heapify(queue)
    while queue and limit > 0:
        under_way, owner = queue[0]
        shares[owner] = shares.get(owner, 0) + 1
        limit -= 1
        if shares[owner] < waiting[owner]:
            heapq.heapreplace(queue, (under_way + 1, owner))
        else:
            heapq.heappop(queue)
    return shares


def renew_leases(connection: Connection, worker: str, lease: float, now: float, held: Sequence[str]) -> None:
    """Hold for another ``lease`` seconds those of the runs ``held`` that are still ``worker``'s.

    The worker says what it works on: one it has given up, for whatever reason, must not stay with it.
    """
    connection.execute(
        update(runs)
        .where(runs.c.run_id.in_(held), runs.c.worker == worker, runs.c.state.not_in(_FINAL))
        .values(lease_until=now + lease)
    )


def holders(connection: Connection) -> list[str]:
    """Workers that hold runs."""
    query = select(runs.c.worker).where(runs.c.worker.is_not(None), runs.c.state.not_in(_FINAL)).distinct()
    return [str(worker) for worker in connection.execute(query).scalars()]


def release_runs(connection: Connection, worker: str) -> None:
    """Give back all leases of a worker that stops, so that another can claim its runs at once."""
    held = and_(runs.c.worker == worker, runs.c.state.not_in(_FINAL))
    connection.execute(update(runs).where(held).values(worker=None, lease_until=None))


def cancel_requests(database: Database, worker: str) -> list[str]:
    """Runs held by ``worker`` whose cancellation was asked for."""
    query = select(runs.c.run_id).where(
        runs.c.worker == worker, runs.c.cancel_requested, runs.c.state.not_in(_FINAL)
    )
    with database.read() as connection:
        return [row.run_id for row in connection.execute(query)]


def set_run_state(connection: Connection, run_id: str, fence: int, state: State, **values: Any) -> State:
    """Move a run to ``state`` and set ``values`` (columns of ``runs``) if the move is allowed.

    A cancellation asked for meanwhile wins over any state that is not final.

    Returns:
        The state the run is in afterwards.

    Raises:
        LeaseLostError: the run is gone, or ``fence`` is not the newest.
    """
    query = select(runs.c.state, runs.c.fence).where(runs.c.run_id == run_id)
    row = connection.execute(query.with_for_update()).first()
    if row is None or row.fence != fence:
        raise LeaseLostError(run_id)
    old = State(row.state)
    if not may_follow(old, state):
        return old
    if state.is_final:
        values |= {"worker": None, "lease_until": None}
        drop_delegation(connection, run_id)
    if "outputs" in values:
        values["outputs"] = to_store(values["outputs"], run_id)
    values["changed"] = runs.c.changed + 1
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(state=state.value, **values))
    if state != old:
        queue_delivery(connection, run_id, state)
    return state


def put_tasks(connection: Connection, rows: Sequence[TaskRow]) -> frozenset[str]:
    """Insert or update tasks (by run_id and task_id); one that has ended keeps its final state.

    Returns:
        Runs that another worker has taken over, or that are gone: their tasks were not written.
    """
    fences: dict[str, int | None] = {}
    for row in rows:
        fences[row.run_id] = fences.get(row.run_id) if row.fence is None else row.fence
    numbers = _next_changes(connection, fences)
    lost = frozenset(run_id for run_id in fences if run_id not in numbers)
    values = [_task_values(row) | {"changed": numbers[row.run_id]} for row in rows if row.run_id in numbers]
    if values:
        connection.execute(_upsert(connection.dialect.name), values)
    return lost


_SHOWN_FENCE = bindparam("shown", type_=runs.c.fence.type)
_NEXT_CHANGE = (  # made once: building a statement costs more than running it
    update(runs)
    .where(runs.c.run_id == bindparam("run"), runs.c.fence == func.coalesce(_SHOWN_FENCE, runs.c.fence))
    .values(changed=runs.c.changed + 1)
    .returning(runs.c.changed)
)


def _next_changes(connection: Connection, fences: Mapping[str, int | None]) -> dict[str, int]:
    """The next number of each run's changes; runs that are gone, or not at the fence shown, are left out."""
    found: dict[str, int] = {}
    for run_id in sorted(fences):  # in order: two who write of the same runs must not wait for each other
        number = connection.execute(_NEXT_CHANGE, {"run": run_id, "shown": fences[run_id]}).scalar()
        if number is not None:
            found[run_id] = number
    return found


def _insert(dialect: str) -> Any:
    """The dialect's own insert; imported late, since that of the other one takes a while for nothing."""
    return importlib.import_module(f"sqlalchemy.dialects.{dialect}").insert


@functools.cache
def _upsert(dialect: str) -> Any:
    """The statement, made once: building it costs more than running it."""
    statement = _insert(dialect)(tasks)
    changed = {
        column.name: statement.excluded[column.name] for column in tasks.columns if not column.primary_key
    }
    # Constants, not parameters: a list parameter cannot be used for many rows at once.
    going_on = [tasks.c.state != literal_column(f"'{state}'") for state in _FINAL]
    return statement.on_conflict_do_update(
        index_elements=[tasks.c.run_id, tasks.c.task_id], set_=changed, where=and_(*going_on)
    )


def _task_values(row: TaskRow) -> dict[str, Any]:
    values: dict[str, Any] = dict(vars(row))
    values["state"] = row.state.value
    values["outcome"] = to_store(row.outcome, row.run_id)
    for name in ("stdout", "stderr"):
        values[name] = values[name] and stored_url(values[name], row.run_id)
    del values["fence"]
    return values


def delete_task(connection: Connection, run_id: str, task_id: str) -> None:
    """Forget a task that is to be run again with other inputs."""
    connection.execute(delete(tasks).where(tasks.c.run_id == run_id, tasks.c.task_id == task_id))


def journal(database: Database, run_id: str) -> list[TaskRow]:
    """All tasks of a run, in the order they came to be."""
    query = select(tasks).where(tasks.c.run_id == run_id).order_by(tasks.c.seq)
    with database.read() as connection:
        return task_rows(connection.execute(query).mappings().all())


def task_rows(rows: Iterable[RowMapping]) -> list[TaskRow]:
    """Database rows as :class:`TaskRow`."""
    return [TaskRow(**{**row, "state": State(row["state"])}) for row in rows]
