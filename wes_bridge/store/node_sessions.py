"""A node's tables and queries: offer sets, and the sessions offered in them.

Bodies are the wire form of ``OfferSet`` and ``Session`` as JSON text, without URLs. The ``phase`` column is
newer than the phase in the body where they differ. Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from wes_bridge.model.states import LIVE_PHASES, Phase
from wes_bridge.store.database import Database, Schema

metadata = MetaData()

offersets = Table(
    "offersets",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("created", Float, nullable=False),
    Column("body", Text, nullable=False),
    Column("owner", Text, nullable=False, default="", server_default=""),
    Index("offersets_by_age", "created"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("offerset", String(36), nullable=False),
    Column("phase", String(20), nullable=False),
    Column("created", Float, nullable=False),
    Column("expires", Float),
    Column("ended", Float),
    Column("stop", String(20)),
    Column("body", Text, nullable=False),
    Column("owner", Text, nullable=False, default="", server_default=""),
    Index("sessions_by_offerset", "offerset"),
    Index("sessions_by_phase", "phase", "created"),
    Index("sessions_by_end", "ended"),
)

notes = Table(
    "notes",
    metadata,
    Column("key", String(100), primary_key=True),
    Column("value", Text, nullable=False),
)
"""What the node must remember about itself: that it is being drained."""

NODE = Schema(metadata=metadata, migrations="node", head="0003")
"""A node's schema."""


@dataclass(frozen=True)
class SessionRow:
    """One stored session. ``stop`` is the final phase a client asked for, once it has; ``owner`` is whose
    it is (see :func:`wes_bridge.auth.acting.owner_key`)."""

    uuid: str
    offerset: str
    phase: str
    created: float
    expires: float | None
    body: str
    ended: float | None = None
    stop: str | None = None
    owner: str = ""


@dataclass(frozen=True)
class OfferSetRow:
    """One stored offer set; its sessions are rows of their own."""

    uuid: str
    created: float
    body: str
    owner: str = ""


_INSERT_SET = insert(offersets)
_INSERT_SESSION = insert(sessions)
_SAVE = (
    update(sessions)
    .where(sessions.c.uuid == bindparam("key"))
    .values(phase=bindparam("phase"), body=bindparam("body"), ended=bindparam("ended"))
)
_PHASE = (
    update(sessions)
    .where(sessions.c.uuid == bindparam("key"), sessions.c.ended.is_(None))
    .values(phase=bindparam("phase"), ended=bindparam("ended"))
)
_STOP = update(sessions).where(sessions.c.uuid == bindparam("key")).values(stop=bindparam("stop"))


# ---- writes ----------------------------------------------------------------------------------------


_AT_ONCE = 500
"""UUIDs in one statement: SQLite takes some thousand values."""


def add_offerset(connection: Connection, row: OfferSetRow, offers: Sequence[SessionRow]) -> None:
    """Store an offer set and its offers."""
    connection.execute(_INSERT_SET, vars(row))
    if offers:
        connection.execute(_INSERT_SESSION, [vars(offer) for offer in offers])


def save_session(connection: Connection, uuid: str, phase: Phase, body: str, ended: float | None) -> None:
    """Store a session's phase and whole body; ``ended`` when the phase is final."""
    connection.execute(_SAVE, {"key": uuid, "phase": phase.value, "body": body, "ended": ended})


def set_phase(connection: Connection, uuids: Iterable[str], phase: Phase, ended: float | None) -> None:
    """Store only the phase of sessions that have not ended."""
    rows = [{"key": uuid, "phase": phase.value, "ended": ended} for uuid in uuids]
    if rows:
        connection.execute(_PHASE, rows)


def set_stop(connection: Connection, uuid: str, phase: Phase) -> None:
    """Remember that a client asked for the session to end as ``phase``."""
    connection.execute(_STOP, {"key": uuid, "stop": phase.value})


def set_note(connection: Connection, key: str, value: str | None) -> None:
    """Remember something about the node; None forgets it."""
    connection.execute(delete(notes).where(notes.c.key == key))
    if value is not None:
        connection.execute(insert(notes), {"key": key, "value": value})


def expire_offers(connection: Connection, now: float) -> None:
    """Mark offers whose time is over as EXPIRED."""
    connection.execute(
        update(sessions)
        .where(sessions.c.phase == Phase.OFFERED.value, sessions.c.expires <= now)
        .values(phase=Phase.EXPIRED.value, ended=now)
    )


def purge(connection: Connection, before: float, limit: int = 500) -> list[str]:
    """Forget sessions that ended before a moment, and offer sets of which nothing is left.

    Returns:
        The UUIDs of the sessions forgotten, at most ``limit``.
    """
    query = select(sessions.c.uuid).where(sessions.c.ended < before).limit(limit)
    gone = list(connection.execute(query).scalars())
    if gone:
        connection.execute(delete(sessions).where(sessions.c.uuid.in_(gone)))
    kept = select(sessions.c.offerset).where(sessions.c.offerset == offersets.c.uuid).exists()
    old = select(offersets.c.uuid).where(offersets.c.created < before, ~kept).limit(limit)
    empty = list(connection.execute(old).scalars())
    if empty:
        connection.execute(delete(offersets).where(offersets.c.uuid.in_(empty)))
    return gone


def purge_untaken(connection: Connection, before: float, most: int, limit: int = 5000) -> int:
    """Forget offers that nobody took, and sets without any, older than a moment or more than so many.

    Returns:
        How many were forgotten, at most ``limit`` of each.
    """
    untaken = sessions.c.phase.in_([Phase.EXPIRED.value, Phase.REJECTED.value])
    gone = _purge_oldest(connection, sessions, untaken, sessions.c.ended < before, most, limit)
    empty = ~select(sessions.c.offerset).where(sessions.c.offerset == offersets.c.uuid).exists()
    return gone + _purge_oldest(connection, offersets, empty, offersets.c.created < before, most, limit)


def _purge_oldest(  # noqa: PLR0917
    connection: Connection,
    table: Table,
    which: ColumnElement[bool],
    old: ColumnElement[bool],
    most: int,
    limit: int,
) -> int:
    """Delete rows that are old, or the oldest of more than ``most``; how many."""
    number = connection.execute(select(func.count()).select_from(table).where(which)).scalar_one()
    query = select(table.c.uuid).where(which).order_by(table.c.created)
    query = query.limit(min(limit, number - most)) if number > most else query.where(old).limit(limit)
    gone = list(connection.execute(query).scalars())
    for start in range(0, len(gone), _AT_ONCE):
        connection.execute(delete(table).where(table.c.uuid.in_(gone[start : start + _AT_ONCE])))
    return len(gone)


# ---- reads -----------------------------------------------------------------------------------------


def get_session(database: Database, uuid: str) -> SessionRow | None:
    """One session; None when unknown."""
    with database.read() as connection:
        row = connection.execute(select(sessions).where(sessions.c.uuid == uuid)).mappings().first()
    return _session(row) if row else None


def get_offerset(database: Database, uuid: str) -> tuple[OfferSetRow, list[SessionRow]] | None:
    """One offer set with its sessions in the order offered; None when unknown."""
    with database.read() as connection:
        row = connection.execute(select(offersets).where(offersets.c.uuid == uuid)).mappings().first()
        if row is None:
            return None
        query = select(sessions).where(sessions.c.offerset == uuid).order_by(sessions.c.created)
        offers = [_session(offer) for offer in connection.execute(query).mappings()]
    return OfferSetRow(**row), offers


def get_note(database: Database, key: str) -> str | None:
    """What was remembered with :func:`set_note`; None when nothing was."""
    with database.read() as connection:
        return connection.execute(select(notes.c.value).where(notes.c.key == key)).scalar()


def live_sessions(database: Database) -> list[SessionRow]:
    """Sessions that were accepted and have not ended, oldest first."""
    query = (
        select(sessions)
        .where(sessions.c.phase.in_([phase.value for phase in LIVE_PHASES]))
        .order_by(sessions.c.created)
    )
    with database.read() as connection:
        return [_session(row) for row in connection.execute(query).mappings()]


def known_sessions(database: Database) -> set[str]:
    """The UUIDs of all sessions that are remembered."""
    with database.read() as connection:
        return set(connection.execute(select(sessions.c.uuid)).scalars())


def open_offers(database: Database) -> list[SessionRow]:
    """Sessions in phase OFFERED, oldest first."""
    query = select(sessions).where(sessions.c.phase == Phase.OFFERED.value).order_by(sessions.c.created)
    with database.read() as connection:
        return [_session(row) for row in connection.execute(query).mappings()]


def count_by_phase(database: Database) -> dict[str, int]:
    """How many sessions are stored in each phase."""
    query = select(sessions.c.phase, func.count()).group_by(sessions.c.phase)
    with database.read() as connection:
        return {phase: count for phase, count in connection.execute(query)}


def _session(row: Any) -> SessionRow:
    return SessionRow(**row)
