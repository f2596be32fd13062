"""Who gets which run: owners take turns, nobody gets too much, nothing is given twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.runs import (
    NewRun,
    claim_runs,
    create_run,
    release_runs,
    renew_leases,
    request_cancel,
    set_run_state,
)
from wes_bridge.store.tables import SERVICE


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, SERVICE)
    yield opened
    opened.close()


def submit(database: Database, owner: str, count: int) -> None:
    with database.write() as connection:
        for number in range(count):
            create_run(connection, NewRun(f"{owner}{number:03}", owner, {}, {}, "w"))


def claim(
    database: Database, limit: int, worker: str = "one", now: float = 100.0, most: int | None = None
) -> list[str]:
    with database.write() as connection:
        return [row.run_id for row in claim_runs(connection, worker, 10, limit, now, most)]


def end(database: Database, rows: Sequence[Any]) -> None:
    with database.write() as connection:
        for run_id in rows:
            set_run_state(connection, run_id, 1, State.COMPLETE)


def test_owners_take_turns(database: Database) -> None:
    submit(database, "a", 20)
    submit(database, "b", 3)
    submit(database, "c", 1)
    assert sorted(claim(database, 6)) == ["a000", "a001", "a002", "b000", "b001", "c000"]
    assert claim(database, 2) == ["a003", "b002"]


def test_who_has_fewer_under_way_is_first(database: Database) -> None:
    submit(database, "a", 10)
    assert len(claim(database, 5)) == 5
    submit(database, "b", 10)
    assert claim(database, 5, "two") == [f"b{number:03}" for number in range(5)]
    end(database, ["a000", "a001"])
    assert Counter(run[0] for run in claim(database, 4)) == {"a": 3, "b": 1}


def test_a_full_worker_takes_one_run_of_who_has_none(database: Database) -> None:
    """A thousand runs of one owner do not keep another's one run waiting until they end."""
    submit(database, "a", 30)
    assert len(claim(database, 20)) == 20

    def more(newcomers: int, most: int | None = None) -> list[str]:
        with database.write() as connection:
            return [row.run_id for row in claim_runs(connection, "one", 10, 0, 100.0, most, newcomers)]

    assert more(5) == []
    submit(database, "b", 3)
    submit(database, "c", 1)
    assert more(5, most=20) == []
    assert sorted(more(5)) == ["b000", "c000"]
    assert more(5) == []


def test_a_limit_for_all_workers_together(database: Database) -> None:
    submit(database, "a", 10)
    assert len(claim(database, 4, "one", most=6)) == 4
    assert len(claim(database, 4, "two", most=6)) == 2
    assert claim(database, 4, "two", most=6) == []
    end(database, ["a000"])
    assert claim(database, 4, "two", most=6) == ["a006"]


def test_runs_of_a_silent_worker_are_spread_again(database: Database) -> None:
    submit(database, "a", 6)
    assert len(claim(database, 10, "dead")) == 6
    assert claim(database, 3, "two", now=105.0) == []
    assert claim(database, 3, "two", now=111.0) == ["a000", "a001", "a002"]
    assert claim(database, 9, "three", now=111.0) == ["a003", "a004", "a005"]
    with database.write() as connection:
        release_runs(connection, "two")
    assert claim(database, 9, "three", now=111.0) == ["a000", "a001", "a002"]


def test_only_what_is_worked_on_is_kept(database: Database) -> None:
    """A run that its worker has given up, whatever the reason, must not stay with it for ever."""
    submit(database, "a", 2)
    claim(database, 2)
    with database.write() as connection:
        renew_leases(connection, "one", 10, 109.0, ["a001"])
    assert claim(database, 2, now=111.0) == ["a000"]


def test_what_is_cancelled_in_the_queue_is_not_claimed(database: Database) -> None:
    submit(database, "a", 2)
    with database.write() as connection:
        request_cancel(connection, "a000")
    assert claim(database, 5) == ["a001"]


def test_many_workers_at_once(database: Database) -> None:
    owners = {"a": 60, "b": 30, "c": 10}
    for owner, count in owners.items():
        submit(database, owner, count)

    def work(worker: str) -> list[list[str]]:
        return [claim(database, 3, worker) for _ in range(10)]

    with ThreadPoolExecutor(4) as threads:
        batches = [batch for got in threads.map(work, "wxyz") for batch in got]
    taken = [run for batch in batches for run in batch]
    assert len(taken) == len(set(taken)) == 100
    everyone = [batch for batch in batches if len({run[0] for run in batch}) == 3]
    assert len(everyone) >= 9  # while all three wait, each claim of three has one of each
