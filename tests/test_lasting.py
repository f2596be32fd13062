"""A fault that lasts is told when it begins, once a minute, and when it ends; whoever finds out about it."""

from __future__ import annotations

import logging
import sqlite3
import threading

import pytest
from sqlalchemy.exc import OperationalError

from wes_bridge.lasting import FORGOTTEN, Lasting, LastingOfEach
from wes_bridge.store import outage
from wes_bridge.store.outage import Trouble, tell_once

GONE = OperationalError("SELECT 1", {}, sqlite3.OperationalError("database is locked"))
logger = logging.getLogger("tests.lasting")


class Clock:
    """Moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    said = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return said


def test_an_outage_of_a_minute_and_a_half(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fault = Lasting(logger, "cannot look; trying again", "looking again", clock)
    fault.over()
    fault.seen(OSError("gone"))
    assert lines(caplog) == ["cannot look; trying again: gone"]
    for _ in range(119):
        clock.now += 0.5
        fault.seen(OSError("gone"))
    assert lines(caplog) == []
    for _ in range(61):
        clock.now += 0.5
        fault.seen(OSError("refused"))
    assert lines(caplog) == ["cannot look; trying again, for 1 min now; 120 more times, at last: refused"]
    fault.over()
    fault.over()
    assert lines(caplog) == ["looking again; it took 1 min 30 s and went wrong 181 times"]


def test_it_begins_anew(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fault = Lasting(logger, "cannot look", "looking again", clock)
    fault.seen("x")
    clock.now += 3
    fault.over()
    clock.now += 1
    fault.seen("y")
    assert lines(caplog) == [
        "cannot look: x",
        "looking again; it took 3.0 s and went wrong 1 time",
        "cannot look: y",
    ]


def test_attempts_that_began_before_the_end_do_not_begin_it_anew(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Several loops use one database: one finds that it is back while another's attempt is still failing."""
    fault = Lasting(logger, "cannot look", "looking again", clock, settling=2.0)
    fault.seen("x")
    fault.over()
    lines(caplog)
    clock.now += 1
    fault.seen("x")
    assert lines(caplog) == []
    assert not fault.is_there
    clock.now += 2
    fault.seen("x")
    assert lines(caplog) == ["cannot look: x"]


def test_a_fault_nobody_speaks_of_is_forgotten(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    fault = Lasting(logger, "requests fail", clock=clock)
    fault.seen("x")
    clock.now += FORGOTTEN + 1
    fault.seen("x")
    assert lines(caplog) == ["requests fail: x"] * 2


def test_a_mistake_of_the_program_is_told_with_its_place_once(caplog: pytest.LogCaptureFixture) -> None:
    fault = Lasting(logger, "cannot look")
    for _ in range(3):
        fault.seen(KeyError("name"))
    assert [record.exc_info is not None for record in caplog.records] == [True]


def test_an_error_of_many_lines_is_one(caplog: pytest.LogCaptureFixture) -> None:
    Lasting(logger, "cannot look").seen(OSError("gone:\n  - here\n  - there\n"))
    assert lines(caplog) == ["cannot look: gone: - here - there"]


def test_each_of_a_kind(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    faults = LastingOfEach(logger, "{} does not answer", clock)
    for name in ("alpha", "beta", "alpha"):
        faults.seen(name, "refused")
    clock.now += 5
    faults.over("alpha")
    faults.over("gamma")
    assert lines(caplog) == [
        "alpha does not answer: refused",
        "beta does not answer: refused",
        "no longer: alpha does not answer; it took 5.0 s and went wrong 2 times",
    ]


@pytest.fixture
def told(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Lasting:
    """The process's outage, on the test's clock."""
    made = Lasting(logger, "no database", "it is back", clock, traceback_once=False)
    monkeypatch.setattr(outage, "OUTAGE", made)
    return made


def test_all_loops_tell_of_one_outage(told: Lasting, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    claiming, looking = Trouble(logger, "cannot claim"), Trouble(logger, "cannot look")
    for _ in range(10):
        claiming.seen(GONE)
        looking.seen(GONE)
    assert lines(caplog) == ["no database: database is locked"]
    clock.now += 1
    claiming.over()
    looking.over()
    assert lines(caplog) == ["it is back; it took 1.0 s and went wrong 20 times"]
    looking.seen(OSError("no room"))
    looking.over()
    assert [line.partition(";")[0] for line in lines(caplog)] == [
        "cannot look: no room",
        "no longer: cannot look",
    ]


def test_what_libraries_log_of_it_is_counted_too(told: Lasting, caplog: pytest.LogCaptureFixture) -> None:
    """asyncio's and SQLAlchemy's errors come with tracebacks of a hundred lines each."""
    shown: list[str] = []

    class Shown(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(record.getMessage())

    handler = Shown()
    logging.getLogger().addHandler(handler)
    try:
        tell_once()
        tell_once()
        assert len(handler.filters) == 1
        library = logging.getLogger("asyncio")
        library.error("Task exception was never retrieved", exc_info=GONE)
        library.error("Task exception was never retrieved", exc_info=KeyError("name"))
        library.error("something else")
    finally:
        logging.getLogger().removeHandler(handler)
    assert shown == [
        "no database: database is locked",
        "Task exception was never retrieved",
        "something else",
    ]
    assert told.is_there


def test_a_drivers_own_error_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    """The line about it passes the filter that takes such errors of libraries, in the same thread."""
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    done: list[bool] = []

    def tell() -> None:
        outage.OUTAGE.seen(sqlite3.OperationalError("database is locked"))
        outage.OUTAGE.over()
        done.append(True)

    try:
        tell_once()
        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        thread.join(10)
    finally:
        logging.getLogger().removeHandler(handler)
    assert done
    assert ["does not answer" in line for line in lines(caplog)] == [True, False]
