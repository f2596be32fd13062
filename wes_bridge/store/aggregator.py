"""An aggregator's tables and queries: what it called what, and whose each thing is.

``sessions`` maps a UUID the aggregator made up to the broker and the URL of the real session; ``links`` does
so for other URLs that brokers put into their answers. Times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from wes_bridge.store.database import Database, Schema

metadata = MetaData()

offersets = Table(
    "offersets",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("created", Float, nullable=False),
    Column("seen", Float, nullable=False),
    Column("state", String(10), nullable=False),
    Column("accepted", String(36)),
    Column("body", Text, nullable=False),
    Column("owner", Text, nullable=False, default="", server_default=""),
    Index("offersets_by_seen", "seen"),
    Index("offersets_by_state", "state"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("offerset", String(36), nullable=False),
    Column("place", Integer, nullable=False),
    Column("broker", String(63), nullable=False),
    Column("url", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("body", Text, nullable=False),
    Index("sessions_by_offerset", "offerset"),
)

links = Table(
    "links",
    metadata,
    Column("uuid", String(36), primary_key=True),
    Column("session", String(36), nullable=False),
    Column("url", Text, nullable=False),
    Index("links_by_session", "session"),
)

AGGREGATOR = Schema(metadata=metadata, migrations="aggregator", head="0002")
"""An aggregator's schema."""


@dataclass(frozen=True)
class OfferSetRow:
    """One merged offer set.

    Attributes:
        state: ``open``; ``trying``: an acceptance of ``accepted`` is on its way; ``taken``: it was accepted,
            the others are still to be rejected; ``settled``: they have been.
        body: the offer set without offers, as JSON.
        seen: when it, or a session of it, was last asked for, to the hour.
        owner: whose it is, and its sessions are (see :func:`wes_bridge.auth.acting.owner_key`).
    """

    uuid: str
    created: float
    seen: float
    state: str
    accepted: str | None
    body: str
    owner: str = ""


@dataclass(frozen=True)
class SessionRow:
    """One offer passed on.

    Attributes:
        uuid: what the aggregator calls it.
        place: its place in the offer set.
        url: where the broker has it.
        notes: messages of the aggregator about it, as JSON.
        body: the offer as the broker made it, as JSON.
    """

    uuid: str
    offerset: str
    place: int
    broker: str
    url: str
    notes: str
    body: str


def add_offerset(connection: Connection, row: OfferSetRow, offers: Sequence[SessionRow]) -> None:
    """Store an offer set and its offers."""
    connection.execute(insert(offersets), asdict(row))
    if offers:
        connection.execute(insert(sessions), [asdict(offer) for offer in offers])


def set_state(connection: Connection, uuid: str, state: str, accepted: str | None) -> None:
    """Store how far the choice among an offer set's offers is."""
    connection.execute(
        update(offersets).where(offersets.c.uuid == uuid).values(state=state, accepted=accepted)
    )


def touch(connection: Connection, uuid: str, now: float) -> None:
    """Remember that an offer set, or a session of it, was asked for."""
    connection.execute(update(offersets).where(offersets.c.uuid == uuid).values(seen=now))


def add_links(connection: Connection, session: str, urls: dict[str, str]) -> None:
    """Store links (UUID to URL) of one session; those that are there stay."""
    known = set(connection.execute(select(links.c.uuid).where(links.c.uuid.in_(list(urls)))).scalars())
    new = [{"uuid": uuid, "session": session, "url": url} for uuid, url in urls.items() if uuid not in known]
    if new:
        connection.execute(insert(links), new)


def purge(connection: Connection, before: float, limit: int = 500) -> list[str]:
    """Forget offer sets nobody asked for since a moment, with all that belongs to them.

    Returns:
        Their UUIDs, at most ``limit``.
    """
    gone = list(
        connection.execute(select(offersets.c.uuid).where(offersets.c.seen < before).limit(limit)).scalars()
    )
    if gone:
        inner = select(sessions.c.uuid).where(sessions.c.offerset.in_(gone))
        connection.execute(delete(links).where(links.c.session.in_(inner)))
        connection.execute(delete(sessions).where(sessions.c.offerset.in_(gone)))
        connection.execute(delete(offersets).where(offersets.c.uuid.in_(gone)))
    return gone


def get_offerset(database: Database, uuid: str) -> tuple[OfferSetRow, list[SessionRow]] | None:
    """One offer set with its offers in order; None when unknown."""
    with database.read() as connection:
        row = connection.execute(select(offersets).where(offersets.c.uuid == uuid)).mappings().first()
        if row is None:
            return None
        query = select(sessions).where(sessions.c.offerset == uuid).order_by(sessions.c.place)
        offers = [SessionRow(**offer) for offer in connection.execute(query).mappings()]
    return OfferSetRow(**row), offers


def offerset_of(database: Database, session: str) -> str | None:
    """The UUID of the offer set a session belongs to."""
    with database.read() as connection:
        found: str | None = connection.execute(
            select(sessions.c.offerset).where(sessions.c.uuid == session)
        ).scalar()
    return found


def get_link(database: Database, uuid: str) -> tuple[str, str] | None:
    """The session a link belongs to, and its URL; None when unknown."""
    with database.read() as connection:
        row = connection.execute(select(links.c.session, links.c.url).where(links.c.uuid == uuid)).first()
    return (row[0], row[1]) if row else None


def in_states(database: Database, states: Iterable[str]) -> list[str]:
    """UUIDs of the offer sets in one of some states, newest first."""
    query = (
        select(offersets.c.uuid)
        .where(offersets.c.state.in_(list(states)))
        .order_by(offersets.c.created.desc())
    )
    with database.read() as connection:
        rows: list[Any] = list(connection.execute(query).scalars())
    return rows
