"""Processes that import before they are told what to do, and never outlive who was to tell them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from wes_bridge.cli.early import WORKER, Early
from wes_bridge.start import command

MARK = "WES_TEST_EARLY"


def test_it_does_what_it_is_told_and_takes_only_that_from_its_input() -> None:
    with closing(Early("json.tool")) as early:
        early.tell(["--compact"])
        out, _ = early.process.communicate(b'{"a": [1, 2]}\n', timeout=60)
        assert (out, early.process.returncode) == (b'{"a":[1,2]}\n', 0)


def test_nobody_tells_it() -> None:
    with closing(Early("json.tool")) as early:
        out, _ = early.process.communicate(timeout=60)
        assert (out, early.process.returncode) == (b"", 0)


def test_nobody_needs_it() -> None:
    with closing(Early("json.tool")) as early:
        assert early.process.poll() is None
    assert early.process.poll() is not None


def test_it_has_crashed_before_it_is_told() -> None:
    with closing(Early("wes_bridge.no_such_module")) as early:
        assert early.process.wait(60) != 0
        with pytest.raises(BrokenPipeError):
            early.tell([])


def test_a_worker_says_in_a_line_that_its_database_is_away(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """It may find out before the service does, whose words would come after a page of its own."""
    config = tmp_path / "worker.json"
    config.write_text(json.dumps({"database": "postgresql+psycopg://wes:secret@127.0.0.1:9/wes"}))
    done = subprocess.run(
        [sys.executable, *command(WORKER, "--config-json", f"@{config}")],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("worker: cannot open the database: connection failed")
    assert done.stderr.count("\n") == 1


def marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_wrong_settings_leave_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wes_bridge.cli.main", "serve", "--port", "99999"],
        env=environment | {MARK: str(tmp_path)},
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert marked(str(tmp_path)) == []


def test_a_service_that_is_killed_at_once_leaves_nothing_behind(
    environment: dict[str, str], tmp_path: Path
) -> None:
    service = subprocess.Popen(
        [sys.executable, "-m", "wes_bridge.cli.main", "serve", "--port", "0"],
        env=environment | {MARK: str(tmp_path)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while len(marked(str(tmp_path))) < 2:
        assert time.monotonic() < until, "no process was begun"
        time.sleep(0.01)
    os.kill(service.pid, 9)
    service.wait(60)
    while marked(str(tmp_path)):
        assert time.monotonic() < until, marked(str(tmp_path))
        time.sleep(0.05)
