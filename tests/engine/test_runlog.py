"""A run's log is for people; what becomes of the run does not hang on it."""

from __future__ import annotations

from pathlib import Path

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
