"""A database that is gone for a while: what can wait waits, the others are told what it is."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from tests.postgresql import Cluster
from wes_bridge.model.states import State
from wes_bridge.store.database import Database
from wes_bridge.store.lookup import StateLookup
from wes_bridge.store.outage import is_passing
from wes_bridge.store.runs import NewRun, create_run, get_state
from wes_bridge.store.sharing import Viewer
from wes_bridge.store.tables import SERVICE
from wes_bridge.store.writer import DoubtfulError, NotWrittenError, Writer

LOCAL = Viewer("local")


def run(number: int) -> NewRun:
    return NewRun(f"run{number}", "local", {}, {}, "w")


async def write(writer: Writer, number: int) -> None:
    await writer(lambda connection: create_run(connection, run(number)))


def test_writes_wait_for_the_server(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database(), SERVICE)
    look = StateLookup(database)

    async def go() -> None:
        patient, other = Writer(database, patience=math.inf), Writer(database)
        await patient(lambda connection: create_run(connection, run(0)))
        await asyncio.to_thread(postgresql.stop)
        try:
            waiting = [asyncio.create_task(write(patient, number)) for number in range(1, 20)]
            with pytest.raises(OperationalError) as told:
                await write(other, 99)
            assert is_passing(told.value)
            for read in (lambda: get_state(database, "run0"), lambda: look("run0", LOCAL)):
                with pytest.raises(Exception) as told_too:
                    await asyncio.to_thread(read)
                assert is_passing(told_too.value)
            assert not any(task.done() for task in waiting)
        finally:  # the server is other tests', too
            await asyncio.to_thread(postgresql.start)
        await asyncio.gather(*waiting)
        await write(other, 100)
        patient.close()
        other.close()

    asyncio.run(go())
    assert [get_state(database, f"run{number}") for number in range(20)] == [State.QUEUED] * 20
    assert get_state(database, "run99") is None
    assert look("run100", LOCAL) == (State.QUEUED, "local")
    database.close()


def test_a_patient_writer_can_be_closed(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database(), SERVICE)

    async def go() -> None:
        writer = Writer(database, patience=math.inf)
        await asyncio.to_thread(postgresql.stop)
        try:
            waiting = asyncio.ensure_future(writer(lambda connection: create_run(connection, run(0))))
            await asyncio.sleep(0)
            await asyncio.to_thread(writer.close)
            with pytest.raises(OperationalError):
                await waiting
        finally:
            await asyncio.to_thread(postgresql.start)

    asyncio.run(go())
    database.close()


def test_a_write_that_takes_too_long_is_taken_back(postgresql: Cluster) -> None:
    """Who was told that it failed must not find it done later."""
    database = Database(postgresql.new_database(), SERVICE)

    async def go() -> None:
        writer = Writer(database, limit=1.0)
        await write(writer, 0)
        with postgresql.hanging():
            told = await asyncio.gather(*(write(writer, n) for n in (1, 2, 3)), return_exceptions=True)
        assert [type(error) for error in told] == [NotWrittenError] * 3
        await write(writer, 4)
        writer.close()

    asyncio.run(go())
    states = [get_state(database, f"run{number}") for number in range(5)]
    assert states == [State.QUEUED, None, None, None, State.QUEUED]
    database.close()


def test_a_cancelled_write_is_taken_back(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database(), SERVICE)

    async def go() -> None:
        writer = Writer(database, limit=30.0)
        await write(writer, 0)
        with postgresql.hanging():
            waiting = asyncio.create_task(write(writer, 1))
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            assert not done
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await write(writer, 2)
        writer.close()

    asyncio.run(go())
    assert [get_state(database, f"run{n}") for n in range(3)] == [State.QUEUED, None, State.QUEUED]
    database.close()


def test_a_connection_that_breaks_during_the_commit_leaves_a_doubt(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database(), SERVICE)
    own = text("SELECT pg_backend_pid()")

    def cut_off(connection: Connection) -> None:
        pid = connection.execute(own).scalar_one()
        with database.write() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})

    async def go() -> None:
        writer = Writer(database, limit=30.0)
        both = asyncio.gather(write(writer, 0), writer(cut_off), return_exceptions=True)
        assert [type(error) for error in await both] == [DoubtfulError, DoubtfulError]
        await write(writer, 1)
        writer.close()

    asyncio.run(go())
    assert get_state(database, "run1") is State.QUEUED
    database.close()


def test_a_commit_that_hangs_leaves_a_doubt(postgresql: Cluster) -> None:
    """It is made, or not, once the server goes on; here it is made."""
    database = Database(postgresql.new_database(), SERVICE)
    slow = text("SELECT pg_sleep(2)")

    async def go() -> None:
        writer = Writer(database, limit=1.0)
        await write(writer, 0)
        event.listen(database.engine, "commit", lambda connection: connection.execute(slow))
        with pytest.raises(DoubtfulError):
            await write(writer, 1)
        writer.close()

    asyncio.run(go())
    assert get_state(database, "run1") is State.QUEUED
    database.close()


def test_an_error_of_the_work_itself_is_told_as_it_is(url: str) -> None:
    database = Database(url, SERVICE)

    def wrong(_: Connection) -> None:
        raise TimeoutError("of the work")

    async def go() -> None:
        writer = Writer(database, limit=30.0)
        told = await asyncio.gather(write(writer, 0), writer(wrong), write(writer, 1), return_exceptions=True)
        assert [str(error) for error in told] == ["None", "of the work", "None"]
        writer.close()

    asyncio.run(go())
    assert [get_state(database, f"run{n}") for n in range(2)] == [State.QUEUED] * 2
    database.close()


def test_mistakes_do_not_pass(url: str, tmp_path: Path) -> None:
    database = Database(url, SERVICE)

    async def go() -> None:
        writer = Writer(database, patience=math.inf)
        with pytest.raises((OperationalError, ProgrammingError)) as told:
            await writer(lambda connection: connection.execute(text("SELECT * FROM no_such_table")))
        assert not is_passing(told.value)
        writer.close()

    asyncio.run(go())
    assert not is_passing(ValueError("locked"))
    assert is_passing(sqlite3.OperationalError("database is locked"))
    database.close()


def test_whoever_leaves_a_transaction_lying_about_stops_nobody(postgresql: Cluster) -> None:
    """A worker that is stopped inside a transaction (a laptop that is shut) keeps its locks; not for long."""
    database = Database(postgresql.new_database(), SERVICE)
    with database.read() as connection:
        timeouts = [
            connection.execute(text(f"SHOW {name}")).scalar()
            for name in ("lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert timeouts == ["20s", "30s"]
    database.close()
