"""The tokens that runs act with, as they are stored: encrypted, and gone when the run has ended.

Runs of one login share its tokens (their ``family``): a refresh makes the earlier pair useless, so it is done
by one process at a time and told to all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from wes_bridge.store.database import Database
from wes_bridge.store.tables import delegations


@dataclass(frozen=True)
class DelegationRow:
    """What is stored for a run; ``version`` is another one with each change."""

    run_id: str
    version: int
    family: str
    sealed: str


def put_delegation(connection: Connection, run_id: str, family: str, sealed: str) -> None:
    """Store what was handed over for a run, in place of what was there."""
    old = connection.execute(select(delegations.c.version).where(delegations.c.run_id == run_id)).scalar()
    values = {"family": family, "sealed": sealed, "changed": time.time(), "busy_until": 0.0}
    if old is None:
        connection.execute(insert(delegations).values(run_id=run_id, version=1, **values))
    else:
        connection.execute(
            update(delegations).where(delegations.c.run_id == run_id).values(version=old + 1, **values)
        )


def latest_of(connection: Connection, family: str, but: str) -> DelegationRow | None:
    """What another run of a family was last given; None when no other run has its tokens."""
    columns = (delegations.c[name] for name in ("run_id", "version", "family", "sealed"))
    query = (
        select(*columns)
        .where(delegations.c.family == family, delegations.c.run_id != but)
        .order_by(delegations.c.changed.desc())
        .limit(1)
    )
    row = connection.execute(query).first()
    return DelegationRow(*row) if row is not None else None


def get_delegation(database: Database, run_id: str) -> DelegationRow | None:
    """What is stored for a run; None when nothing is."""
    columns = (delegations.c[name] for name in ("run_id", "version", "family", "sealed"))
    with database.read() as connection:
        row = connection.execute(select(*columns).where(delegations.c.run_id == run_id)).first()
    return DelegationRow(*row) if row is not None else None


def begin_refresh(connection: Connection, family: str, seconds: float) -> bool:
    """Whether the caller may refresh the tokens of a family now: nobody else is at it."""
    now = time.time()
    busy = select(delegations.c.run_id).where(delegations.c.family == family, delegations.c.busy_until >= now)
    if (
        connection.execute(busy.limit(1)).first() is not None
    ):  # a run that has joined since knows nothing of it
        return False
    done = connection.execute(
        update(delegations)
        .where(delegations.c.family == family, delegations.c.busy_until < now)
        .values(busy_until=now + seconds)
    )
    return done.rowcount > 0


def end_refresh(connection: Connection, family: str, seal: Callable[[str], str] | None) -> None:
    """Store renewed tokens for all runs of a family; ``seal`` encrypts them for one. None: there are none."""
    query = select(delegations.c.run_id, delegations.c.version).where(delegations.c.family == family)
    for run_id, version in connection.execute(query).all():
        values: dict[str, Any] = {"busy_until": 0.0}
        if seal is not None:
            values |= {"sealed": seal(run_id), "version": version + 1, "changed": time.time()}
        connection.execute(update(delegations).where(delegations.c.run_id == run_id).values(**values))


def drop_delegation(connection: Connection, run_id: str) -> None:
    """Forget the tokens of a run that has ended."""
    connection.execute(delete(delegations).where(delegations.c.run_id == run_id))
