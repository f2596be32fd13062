"""What is known of kept results of steps: how large they are and when they were last used.

The results themselves are folders in the workspace (``engine.reuse``); a row without a folder, or a folder
without a row, does no harm and is cleaned up.
"""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select, update

from wes_bridge.store.database import Database
from wes_bridge.store.tables import reuse


def note_kept(connection: Connection, key: str, size: int, now: float) -> None:
    """A result of ``size`` bytes is there."""
    connection.execute(delete(reuse).where(reuse.c.key == key))
    connection.execute(insert(reuse).values(key=key, size=size, used=now))


def note_used(connection: Connection, key: str, now: float) -> None:
    """A result was used."""
    connection.execute(update(reuse).where(reuse.c.key == key).values(used=now))


def forget(connection: Connection, keys: list[str]) -> None:
    """Results that are gone."""
    if keys:
        connection.execute(delete(reuse).where(reuse.c.key.in_(keys)))


def too_many(connection: Connection, limit: int, at_once: int = 500) -> list[str]:
    """The results not used for longest that must go so that at most ``limit`` bytes stay."""
    over = (connection.execute(select(func.sum(reuse.c.size))).scalar() or 0) - limit
    found: list[str] = []
    if over <= 0:
        return found
    query = select(reuse.c.key, reuse.c.size).order_by(reuse.c.used, reuse.c.key).limit(at_once)
    for key, size in connection.execute(query):
        if over <= 0:
            break
        found.append(key)
        over -= size
    return found


def known_keys(database: Database) -> set[str]:
    """All results that are noted."""
    with database.read() as connection:
        return set(connection.execute(select(reuse.c.key)).scalars())
