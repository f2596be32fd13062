"""Gathering writes: many at a time become few transactions, and one after the other is not held up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE
from wes_bridge.store.writer import SPACING, Writer


class Counted:
    """A writer of its own database, and how many commits it made."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder}/a.db", SERVICE)
        with self.database.write() as connection:
            connection.execute(text("CREATE TABLE note (number INTEGER)"))
        self.commits = 0
        self.writer = Writer(self.database, after=self._count)

    def _count(self) -> None:
        self.commits += 1

    async def in_turn(self, count: int) -> None:
        for number in range(count):
            await self.writer(lambda connection, number=number: _insert(connection, number))

    def rows(self) -> int:
        with self.database.read() as connection:
            return int(connection.execute(text("SELECT count(*) FROM note")).scalar_one())


def _insert(connection: Connection, number: int) -> None:
    connection.execute(text("INSERT INTO note VALUES (:number)"), {"number": number})


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    counted = Counted(tmp_path)
    yield counted
    counted.writer.close()
    counted.database.close()


def test_one_after_the_other_is_not_held_up(counted: Counted) -> None:
    """A chain of quick steps waited 40 ms in each for writes that nobody else had to make."""
    start = time.monotonic()
    asyncio.run(counted.in_turn(400))
    assert time.monotonic() - start < 400 * SPACING / 2
    assert counted.rows() == 400


def test_many_at_a_time_share_commits_also_after_a_lonely_one(counted: Counted) -> None:
    async def all_of_them() -> None:
        await counted.in_turn(200)
        counted.commits = 0
        await asyncio.gather(*(counted.in_turn(100) for _ in range(20)))

    asyncio.run(all_of_them())
    assert counted.rows() == 2200
    assert counted.commits < 2000 / 5
