"""A run's log is for people; what becomes of the run does not hang on it."""

from __future__ import annotations

import contextvars
import logging
import shutil
from pathlib import Path

import pytest
from cwltool.errors import WorkflowException
from schema_salad.exceptions import ValidationException

from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.cwl.log import ToCurrentLog
from wes_bridge.engine.runlog import RunLog


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """As on a disk that is full: one such run kept a worker from all it had claimed with it."""
    (tmp_path / "run").touch()
    log = RunLog(tmp_path / "run" / "logs" / "stderr", tmp_path)
    log.info("begun")
    log.error("no space left")
    assert log.errors == ["no space left"]


def test_the_folder_of_a_log_is_made(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run" / "logs" / "stderr", tmp_path)
    log.info("begun")
    assert (tmp_path / "run" / "logs" / "stderr").read_text().endswith(" INFO begun\n")


def test_a_log_that_was_closed_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run" / "logs" / "stderr"
    log = RunLog(path, tmp_path)
    log.info("begun")
    log.close()
    log.close()
    log.info("ended")
    assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == ["begun", "ended"]


def test_the_folder_of_a_run_that_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run" / "stderr", tmp_path)
    log.info("begun")
    log.close()
    shutil.rmtree(tmp_path / "run")
    log.info("a thread that nobody waits for has something to say")
    assert not (tmp_path / "run").exists()


def test_two_who_write_to_one_log_do_not_overwrite_each_other(tmp_path: Path) -> None:
    """The worker that lost a run and the one that took it over, or the one that tells of a webhook."""
    path = tmp_path / "stderr"
    first, second = RunLog(path, tmp_path), RunLog(path, tmp_path)
    for number in range(20):
        (first, second)[number % 2].info(f"line{number}")
    assert [line.rpartition(" ")[2] for line in path.read_text().splitlines()] == [
        f"line{number}" for number in range(20)
    ]


def test_what_cwltool_leaves_to_a_traceback_is_told_in_words(tmp_path: Path) -> None:
    """It says "Unhandled exception" and nothing more."""
    log = RunLog(tmp_path / "stderr", tmp_path)
    handled = logging.getLogger("tests.runlog")
    handled.handlers = [ToCurrentLog()]
    contextvars.copy_context().run(_fail, log, handled, KeyError("basename"))
    (line,) = log.errors
    assert line.startswith("internal error: KeyError (test_runlog.py, line ")
    assert "'basename'" in line


@pytest.mark.parametrize("kind", [ValidationException, WorkflowException, InvalidWorkflowError])
def test_a_refusal_is_told_in_its_own_words_and_is_no_internal_error(
    tmp_path: Path, kind: type[Exception]
) -> None:
    """cwltool says "Unexpected error from fs_access" of what our policy of files refuses."""
    log = RunLog(tmp_path / "stderr", tmp_path)
    handled = logging.getLogger("tests.runlog")
    handled.handlers = [ToCurrentLog()]
    refusal = kind("/etc/x is outside the folders this service lets workflows read")
    contextvars.copy_context().run(_fail, log, handled, refusal)
    assert log.errors == ["/etc/x is outside the folders this service lets workflows read"]


def _fail(log: RunLog, handled: logging.Logger, error: Exception) -> None:
    log.activate()
    handled.error("Exception on step '%s'", "a")
    try:
        raise error
    except Exception:
        handled.exception("Unhandled exception")
