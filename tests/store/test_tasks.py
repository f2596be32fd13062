"""Tasks written together, and what the store refuses."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.runs import (
    LeaseLostError,
    NewRun,
    TaskRow,
    claim_runs,
    create_run,
    get_run,
    list_tasks,
    put_tasks,
    request_cancel,
    set_run_state,
)
from wes_bridge.store.tables import SERVICE
from wes_bridge.store.task_log import DISTANCE, MANY, TaskLog
from wes_bridge.store.writer import Work, Writer


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database(url, SERVICE)
    with opened.write() as connection:
        create_run(connection, NewRun("run", "local", {}, {}, "w"))
    yield opened
    opened.close()


def task(number: int, state: State = State.QUEUED) -> TaskRow:
    return TaskRow("run", f"t{number}", number, f"t{number}", f"t{number}", state=state)


def states(database: Database) -> list[str]:
    return [row.state for row in list_tasks(database, "run", 0, 1000)]


def test_many_tasks_at_once(database: Database) -> None:
    with database.write() as connection:
        put_tasks(connection, [task(n) for n in range(1, 101)])
        put_tasks(connection, [task(n, State.RUNNING) for n in range(1, 51)])
        put_tasks(connection, [])
    assert states(database) == ["RUNNING"] * 50 + ["QUEUED"] * 50


def test_a_task_that_has_ended_stays_so(database: Database) -> None:
    with database.write() as connection:
        put_tasks(connection, [task(1, State.COMPLETE), task(2, State.CANCELED)])
        put_tasks(connection, [task(1, State.RUNNING), task(2, State.RUNNING)])
    assert states(database) == ["COMPLETE", "CANCELED"]


def test_notes_and_durable_writes_end_in_the_newest_state(database: Database) -> None:
    async def go() -> None:
        writer = Writer(database)
        log = TaskLog(writer)
        rows = [task(n) for n in range(1, 201)]
        for row in rows:
            log.note(row)
        for row in rows:
            row.state = State.RUNNING
            log.note(row)
        await asyncio.gather(*(log.put(TaskRow(**{**vars(row), "state": State.COMPLETE})) for row in rows))
        writer.close()

    asyncio.run(go())
    assert states(database) == ["COMPLETE"] * 200


def test_many_tasks_are_written_at_a_distance(database: Database) -> None:
    written: list[float] = []

    class Counting(Writer):
        async def __call__(self, work: Work) -> Any:
            written.append(asyncio.get_running_loop().time())
            return await super().__call__(work)

    async def go() -> None:
        writer = Counting(database)
        log = TaskLog(writer)
        await asyncio.gather(*(log.put(task(n)) for n in range(1, MANY + 1)))
        await asyncio.gather(log.put(task(1, State.RUNNING)), log.put(task(MANY + 1)))
        writer.close()

    asyncio.run(go())
    first, second = written
    assert second - first >= DISTANCE - 0.001
    assert states(database) == ["RUNNING"] + ["QUEUED"] * MANY


def test_a_durable_write_that_fails_says_so(database: Database) -> None:
    async def go() -> None:
        writer = Writer(database)
        row = task(1)
        row.run_id = "no such run"
        with pytest.raises(LeaseLostError, match="no such run"):
            await TaskLog(writer).put(row)
        await TaskLog(writer).put(task(2))
        writer.close()

    asyncio.run(go())
    assert states(database) == ["QUEUED"]


def test_a_worker_whose_lease_was_taken_over_cannot_write(database: Database) -> None:
    with database.write() as connection:
        (old,) = claim_runs(connection, "one", 10, 5, now=100.0)
        assert claim_runs(connection, "two", 10, 5, now=105.0) == []
        (new,) = claim_runs(connection, "two", 10, 5, now=111.0)
        with pytest.raises(LeaseLostError):
            set_run_state(connection, "run", old.fence, State.RUNNING)
        assert set_run_state(connection, "run", new.fence, State.RUNNING) is State.RUNNING


def test_states_do_not_go_back(database: Database) -> None:
    with database.write() as connection:
        (row,) = claim_runs(connection, "one", 10, 5, now=100.0)
        request_cancel(connection, "run")
        assert set_run_state(connection, "run", row.fence, State.RUNNING) is State.CANCELING
        assert set_run_state(connection, "run", row.fence, State.CANCELED) is State.CANCELED
        assert set_run_state(connection, "run", row.fence, State.COMPLETE) is State.CANCELED


def test_a_run_nobody_holds_is_canceled_at_once(database: Database) -> None:
    with database.write() as connection:
        request_cancel(connection, "run")
    row = get_run(database, "run")
    assert row is not None
    assert row.state == "CANCELED"


def test_many_open_a_new_database_at_once(url: str) -> None:
    script = (
        "import sys; from wes_bridge.store.database import Database;"
        "from wes_bridge.store.tables import SERVICE; Database(sys.argv[1], SERVICE).close()"
    )
    words = [sys.executable, "-c", script, url]
    openers = [subprocess.Popen(words, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    assert [opener.communicate(timeout=60)[1] for opener in openers] == [""] * 6
    assert [opener.returncode for opener in openers] == [0] * 6
