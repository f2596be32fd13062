"""Secret inputs of runs as they are stored: encrypted, and gone with the run."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from wes_bridge.store.database import Database
from wes_bridge.store.tables import run_secrets, runs


def put_secrets(connection: Connection, run_id: str, sealed: str, request: dict[str, Any] | None) -> None:
    """Store a run's secret inputs; ``request`` is its request with placeholders in their places."""
    connection.execute(delete(run_secrets).where(run_secrets.c.run_id == run_id))
    connection.execute(insert(run_secrets).values(run_id=run_id, sealed=sealed))
    if request is not None:
        connection.execute(update(runs).where(runs.c.run_id == run_id).values(request=request))


def get_secrets(database: Database, run_id: str) -> str | None:
    """What was stored; None when nothing was."""
    with database.read() as connection:
        found: str | None = connection.execute(
            select(run_secrets.c.sealed).where(run_secrets.c.run_id == run_id)
        ).scalar()
    return found
