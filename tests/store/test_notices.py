"""Hints through a real PostgreSQL: they come, and a lost connection is noticed and made anew."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.postgresql import Cluster
from wes_bridge.store import notices
from wes_bridge.store.changes import Changes
from wes_bridge.store.database import Database
from wes_bridge.store.notices import Channel, Listener, Looks, Teller
from wes_bridge.store.tables import SERVICE
from wes_bridge.store.writer import Writer


@pytest.fixture
def databases(postgresql: Cluster) -> Iterator[list[Database]]:
    """The same one, opened by two processes."""
    url = postgresql.new_database()
    opened = [Database(url, SERVICE), Database(url, SERVICE)]
    yield opened
    for database in opened:
        database.close()


class Ear:
    """A listener, and what it heard."""

    def __init__(self, database: Database) -> None:
        self.hints: queue.Queue[bool] = queue.Queue()
        self.listener = Listener(database, [Channel.WORK], self._on_hint)

    def _on_hint(self) -> None:
        self.hints.put(self.listener.is_up)

    def next(self) -> bool:
        """Whether hints come, at the next hint."""
        return self.hints.get(timeout=60)


@pytest.fixture
def new_ear() -> Iterator[Callable[[Database], Ear]]:
    made: list[Ear] = []

    def make(database: Database) -> Ear:
        made.append(Ear(database))
        return made[-1]

    yield make
    for ear in made:
        ear.listener.close()


def test_a_hint_is_heard_by_another_process(
    databases: list[Database], new_ear: Callable[[Database], Ear]
) -> None:
    ear = new_ear(databases[0])
    assert ear.next()  # it is up
    teller = Teller(databases[1])
    teller.tell(Channel.CHANGES)  # not its business
    teller.tell(Channel.WORK)
    assert ear.next()
    teller.tell(Channel.WORK)
    teller.close()  # sends what is to be sent
    assert ear.next()
    time.sleep(0)
    assert ear.hints.empty()


def test_a_lost_connection_is_noticed_and_made_anew(
    databases: list[Database], new_ear: Callable[[Database], Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "AGAIN", 0.05)
    ear = new_ear(databases[0])
    assert ear.next()
    with databases[1].write() as connection:
        query = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
            " AND pid <> pg_backend_pid()"
        )
        connection.execute(text(query))
    assert not ear.next()  # look, and look more often
    assert ear.next()
    Teller(databases[1]).tell(Channel.WORK)
    assert ear.next()


def test_hints_that_do_not_come_back_are_not_relied_on(
    databases: list[Database], new_ear: Callable[[Database], Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As behind a pooler that gives each transaction another connection."""
    tried = threading.Event()
    monkeypatch.setattr(notices, "ECHO", 0.0)
    monkeypatch.setattr(notices, "_notify", lambda *_: tried.set())
    ear = new_ear(databases[0])
    assert tried.wait(60)
    assert not ear.listener.is_up
    assert ear.hints.empty()


def test_watching_reads_only_after_a_hint(databases: list[Database]) -> None:
    teller = Teller(databases[1])
    writer = Writer(databases[1], after=lambda: teller.tell(Channel.CHANGES))
    changes = Changes(databases[0])
    assert changes.any_at_all()  # hints cannot be relied on yet
    deadline = time.monotonic() + 60
    while changes.any_at_all():  # until they come
        assert time.monotonic() < deadline
        time.sleep(0.01)

    async def write() -> None:
        await writer(lambda connection: connection.execute(text("SELECT 1")))

    asyncio.run(write())
    while not changes.any_at_all():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    changes.close()
    writer.close()
    teller.close()


def test_it_is_looked_now_and_then_without_a_hint(
    databases: list[Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "RARELY", 0.2)
    looks = Looks(databases[0], Channel.CHANGES)
    deadline = time.monotonic() + 60
    while looks.is_due:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    while not looks.is_due:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    looks.close()


def test_sqlite_has_no_hints(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db", SERVICE)
    listener = Listener(database, [Channel.WORK], lambda: None)
    teller = Teller(database)
    teller.tell(Channel.WORK)
    teller.close()
    listener.close()
    assert not listener.is_up
    database.close()
