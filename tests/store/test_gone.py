"""A database that is gone for a while: what can wait waits, the others are told what it is."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from tests.postgresql import Cluster
from wes_bridge.model.states import State
from wes_bridge.store.database import Database, is_passing
from wes_bridge.store.lookup import StateLookup
from wes_bridge.store.runs import NewRun, create_run, get_state
from wes_bridge.store.tables import SERVICE
from wes_bridge.store.writer import Writer


def run(number: int) -> NewRun:
    return NewRun(f"run{number}", "local", {}, {}, "w")


def test_writes_wait_for_the_server(postgresql: Cluster) -> None:
    database = Database(postgresql.new_database(), SERVICE)
    look = StateLookup(database)

    async def go() -> None:
        patient, other = Writer(database, patience=math.inf), Writer(database)
        await patient(lambda connection: create_run(connection, run(0)))
        await asyncio.to_thread(postgresql.stop)
        waiting = [asyncio.create_task(write(patient, number)) for number in range(1, 20)]
        with pytest.raises(OperationalError) as told:
            await write(other, 99)
        assert is_passing(told.value)
        for read in (lambda: get_state(database, "run0"), lambda: look("run0", "local")):
            with pytest.raises(Exception) as told_too:
                await asyncio.to_thread(read)
            assert is_passing(told_too.value)
        assert not any(task.done() for task in waiting)
        await asyncio.to_thread(postgresql.start)
        await asyncio.gather(*waiting)
        await write(other, 100)
        patient.close()
        other.close()

    async def write(writer: Writer, number: int) -> None:
        await writer(lambda connection: create_run(connection, run(number)))

    asyncio.run(go())
    assert [get_state(database, f"run{number}") for number in range(20)] == [State.QUEUED] * 20
    assert get_state(database, "run99") is None
    assert look("run100", "local") is State.QUEUED
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
