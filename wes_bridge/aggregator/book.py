"""What an aggregator remembers: which of its names stands for which session of which broker.

All of it is in the database before a client is told; what was lately used is in memory too. It must not know
HTTP.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID, uuid4, uuid5

from wes_bridge.aggregator.asking import Answers, Offer
from wes_bridge.aggregator.messages import Json
from wes_bridge.model.units import format_instant, utcnow
from wes_bridge.private_files import private_folder
from wes_bridge.store import aggregator as store
from wes_bridge.store.database import Database
from wes_bridge.store.writer import Writer

IN_MEMORY = 5000
"""Offer sets held in memory."""
TOUCH_EVERY = 3600.0
"""Seconds between notes that an offer set is still asked for."""
State = Literal["open", "trying", "taken", "settled"]


@dataclass(eq=False)
class Item:
    """One offer that was passed on, perhaps a session by now.

    Attributes:
        uuid: what we call it.
        broker: whose it is.
        url: of it there.
        notes: our messages about it.
        body: the offer as it was made.
        links: names of links that are stored already.
    """

    uuid: str
    broker: str
    url: str
    notes: list[Json]
    body: str
    links: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Record:
    """One merged offer set.

    Attributes:
        body: without offers and URLs.
        items: its offers, by our name for them, the best first.
        state: see :class:`wes_bridge.store.aggregator.OfferSetRow`.
        accepted: our name of the offer that was, or is being, accepted.
        lost: offers whose acceptance was tried with no known end, then another was.
        choosing: held while one is being accepted.
        owner: whose it is.
    """

    uuid: str
    body: Json
    items: dict[str, Item]
    seen: float
    state: State = "open"
    accepted: str | None = None
    lost: set[str] = field(default_factory=set)
    choosing: asyncio.Lock = field(default_factory=asyncio.Lock)
    owner: str = ""


class Book:
    """Remembers.

    Args:
        folder: of the database; made if missing.
    """

    def __init__(self, folder: Path) -> None:
        private_folder(folder)
        self._database = Database(f"sqlite:///{folder.absolute() / 'aggregator.db'}", store.AGGREGATOR)
        self._writer = Writer(self._database, "aggregator-writer")
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._sets: dict[str, str] = {}

    def close(self) -> None:
        """Write what is to be written, then close the database."""
        self._writer.close()
        self._database.close()

    async def add(self, name: str, answers: Answers, owner: str) -> Record:
        """Store a merged offer set.

        Args:
            name: the aggregator's.
            answers: what is in it.
            owner: whose it is.
        """
        uuid, now = str(uuid4()), time.time()
        meta: Json = {"uuid": uuid, "name": name, "created": format_instant(utcnow())}
        if answers.reasons:
            meta["messages"] = answers.reasons
        body = {"meta": meta, "result": "YES" if answers.offers else "NO"}
        items = [_item(UUID(uuid), offer) for offer in answers.offers]
        row = store.OfferSetRow(uuid, now, now, "open", None, json.dumps(body), owner)
        rows = [
            store.SessionRow(item.uuid, uuid, place, item.broker, item.url, json.dumps(item.notes), item.body)
            for place, item in enumerate(items)
        ]
        await self._writer(lambda connection: store.add_offerset(connection, row, rows))
        record = Record(uuid, body, {item.uuid: item for item in items}, now, owner=owner)
        self._remember(record)
        return record

    async def record(self, uuid: str) -> Record | None:
        """An offer set; None when unknown."""
        record = self._records.get(uuid)
        if record is None:
            stored = await _in_thread(store.get_offerset, self._database, uuid)
            record = self._records.get(uuid)  # somebody else may have been quicker
            if record is None and stored is not None:
                record = _from_rows(*stored)
                self._remember(record)
        if record is not None:
            self._touch(record)
        return record

    async def item(self, uuid: str) -> tuple[Record, Item] | None:
        """A session and the offer set it is of; None when unknown."""
        offerset = self._sets.get(uuid) or await _in_thread(store.offerset_of, self._database, uuid)
        record = await self.record(offerset) if offerset else None
        item = record.items.get(uuid) if record else None
        return (record, item) if record and item else None

    async def set_state(self, record: Record, state: State, accepted: str | None) -> None:
        """Store how far the choice among the offers is."""
        record.state, record.accepted = state, accepted
        await self._writer(lambda connection: store.set_state(connection, record.uuid, state, accepted))

    async def keep_links(self, item: Item, urls: dict[str, str]) -> None:
        """Store names given to URLs of a session."""
        new = {uuid: url for uuid, url in urls.items() if uuid not in item.links}
        if new:
            await self._writer(lambda connection: store.add_links(connection, item.uuid, new))
            item.links |= set(new)

    async def link(self, uuid: str) -> tuple[Record, Item, str] | None:
        """Offer set, session and URL of a link; None when unknown."""
        found = await _in_thread(store.get_link, self._database, uuid)
        session = await self.item(found[0]) if found else None
        return (*session, found[1]) if found and session else None

    async def unsettled(self) -> list[str]:
        """Offer sets of which an offer was, or was being, accepted, the others not being rejected yet."""
        found: list[str] = await _in_thread(store.in_states, self._database, ("trying", "taken"))
        return found

    async def purge(self, before: float) -> int:
        """Forget offer sets nobody asked for since a moment; returns how many."""
        gone: list[str] = await self._writer(functools.partial(store.purge, before=before))
        for uuid in gone:
            self._forget(uuid)
        return len(gone)

    def _remember(self, record: Record) -> None:
        self._records[record.uuid] = record
        for uuid in record.items:
            self._sets[uuid] = record.uuid
        while len(self._records) > IN_MEMORY:
            oldest = next((uuid for uuid, old in self._records.items() if not old.choosing.locked()), None)
            if oldest is None:
                return
            self._forget(oldest)

    def _forget(self, uuid: str) -> None:
        record = self._records.pop(uuid, None)
        for item in record.items if record else ():
            self._sets.pop(item, None)

    def _touch(self, record: Record) -> None:
        self._records.move_to_end(record.uuid)
        now = time.time()
        if now - record.seen > TOUCH_EVERY:
            record.seen = now
            self._writer.soon(lambda connection: store.touch(connection, record.uuid, now))


def _item(offerset: UUID, offer: Offer) -> Item:
    """An offer with a name of ours: the same whenever it is worked out."""
    uuid = uuid5(offerset, f"{offer.broker} {offer.url}")
    return Item(str(uuid), offer.broker, offer.url, offer.notes, json.dumps(offer.body))


def _from_rows(row: store.OfferSetRow, rows: list[store.SessionRow]) -> Record:
    items = [Item(item.uuid, item.broker, item.url, json.loads(item.notes), item.body) for item in rows]
    state: Any = row.state
    body = json.loads(row.body)
    return Record(
        row.uuid, body, {item.uuid: item for item in items}, row.seen, state, row.accepted, owner=row.owner
    )


async def _in_thread(work: Any, *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)
