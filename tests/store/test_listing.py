"""Lists of runs with all filters are what one would pick by hand; pages and counts stay cheap."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.listing import RunFilter, Totals, count_runs, list_runs, newest_seq, page_query
from wes_bridge.store.runs import NewRun, create_run, delete_run, set_run_state
from wes_bridge.store.tables import SERVICE

STATES = (State.QUEUED, State.RUNNING, State.COMPLETE)
LONG = "x" * 70
TAGS = (
    {},
    {"a": "1"},
    {"a": "2", "b": ""},
    {"a": "1", "b": LONG},
    {"b": LONG + "y"},
    {"a": "1", "c": "\N{BLACK STAR}" * 3000},
)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, SERVICE)
    yield opened
    opened.close()


def submit(database: Database, number: int, owner: str = "me", name: str = "", **tags: str) -> str:
    run_id = f"run-{number}"
    with database.write() as connection:
        create_run(connection, NewRun(run_id, owner, {}, tags, name))
    return run_id


def pages(database: Database, which: RunFilter, size: int) -> list[str]:
    """All runs that match, page by page."""
    newest, before, found = newest_seq(database), None, []
    while rows := list_runs(database, which, newest, before, size):
        found += [row.run_id for row in rows]
        before = rows[-1].seq
    return found


def test_every_filter_finds_what_matches_newest_first(database: Database) -> None:
    chance = random.Random(5)
    made = []
    for number in range(80):
        owner, name = chance.choice(("me", "me", "you")), chance.choice(("", "one", "two"))
        tags, state = chance.choice(TAGS), chance.choice(STATES)
        run_id = submit(database, number, owner, name, **tags)
        with database.write() as connection:
            set_run_state(connection, run_id, 0, state)
        made.append((run_id, owner, name, tags, state))
    asked_tags: list[tuple[tuple[str, str], ...]] = [
        (),
        (("a", "1"),),
        (("b", ""),),
        (("b", LONG),),
        (("a", ""), ("b", LONG)),
        (("a", "1"), ("b", "")),
        (("a", "nothing"),),
        (("c", "\N{BLACK STAR}" * 3000),),
    ]
    asked_states = [(), (State.COMPLETE,), (State.COMPLETE, State.QUEUED, State.COMPLETE), STATES]
    for tags_asked, states, name_asked in itertools.product(asked_tags, asked_states, (None, "one")):
        which = RunFilter("me", states, tags_asked, name_asked)
        expected = [
            run_id
            for run_id, owner, name, tags, state in reversed(made)
            if owner == "me"
            and (not states or state in states)
            and (name_asked is None or name == name_asked)
            and all(key in tags and value in ("", tags[key]) for key, value in tags_asked)
        ]
        assert pages(database, which, 7) == expected, which
        assert count_runs(database, which, newest_seq(database)) == len(expected), which


@pytest.mark.parametrize(
    "which",
    [
        RunFilter("me"),
        RunFilter("me", (State.COMPLETE,)),
        RunFilter("me", tags=(("a", "1"),)),
        RunFilter("me", tags=(("a", ""),)),
        RunFilter("me", (State.COMPLETE,), (("a", "1"), ("b", "2")), "one"),
        RunFilter("me", workflow_name="one"),
    ],
)
def test_a_page_sorts_nothing_and_searches_in_indexes(database: Database, which: RunFilter) -> None:
    """What makes it cost the same anywhere. PostgreSQL plans by what is in the tables."""
    if not database.is_sqlite:
        pytest.skip("SQLite's plans are the same for empty tables")
    query = page_query(which, 10, 10).compile(
        dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}
    )
    with database.read() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")]
    assert not [step for step in plan if "SCAN" in step or "TEMP B-TREE" in step], plan


class Clock:
    """Seconds that pass with each look, so that counting takes time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now


def test_totals_of_many_runs(database: Database) -> None:
    """They are remembered, but what is submitted counts at once; after a while all of it shows."""
    clock = Clock()
    totals, which = Totals(database, clock, many=3), RunFilter("me")
    for number in range(5):
        submit(database, number)
    first = newest_seq(database)
    assert totals.count(which, first) == 5
    submit(database, 5)
    submit(database, 6, owner="you")
    assert totals.count(which, newest_seq(database)) == 6
    assert totals.count(which, first) == 5
    with database.write() as connection:
        delete_run(connection, "run-0")
    assert totals.count(which, first) == 5  # not yet: counting took 0.01, times twenty
    clock.now += 1.0
    assert totals.count(which, first) == 4
    assert totals.count(which, newest_seq(database)) == 5


def test_totals_of_few_runs_are_always_exact(database: Database) -> None:
    totals = Totals(database, Clock())
    submit(database, 1)
    queued = RunFilter("me", (State.QUEUED,))
    assert totals.count(queued, newest_seq(database)) == 1
    assert totals.by_state() == {State.QUEUED: 1}
    with database.write() as connection:
        set_run_state(connection, "run-1", 0, State.RUNNING)
    assert totals.count(queued, newest_seq(database)) == 0
    assert totals.by_state() == {State.RUNNING: 1}
