"""Times: a task's are its command's, with queue and staging beside; nothing ends when an outage does."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import NodeProcess
from tests.service.conftest import Service, Starter
from tests.service.test_choosing import TOOL, tasks_of
from tests.waiting import until


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def written(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "workflow.cwl"
    path.write_text(json.dumps(document))
    return path


def script(text: str) -> dict[str, Any]:
    return TOOL | {"baseCommand": ["sh", "-c", text]}


def two_steps(first: str, second: str) -> dict[str, Any]:
    """Two tools that need nothing of each other."""
    steps = {
        name: {"in": {}, "out": [], "run": {k: v for k, v in script(text).items() if k != "cwlVersion"}}
        for name, text in (("first", first), ("second", second))
    }
    return {"cwlVersion": "v1.2", "class": "Workflow", "inputs": {}, "outputs": {}, "steps": steps}


def times(task: dict[str, Any]) -> dict[str, float]:
    return {name: moment(text) for name, text in task["placement"]["times"].items()}


@pytest.fixture(scope="module")
def narrow(start_service: Starter) -> Service:
    """One core: what comes second waits."""
    return start_service(nodes=[{"name": "narrow", "platforms": ["process"], "sandbox": "none", "cores": 1}])


def test_a_step_that_waited_for_its_turn_took_as_long_as_its_command(narrow: Service, tmp_path: Path) -> None:
    run_id = narrow.client.submit(written(tmp_path, two_steps("sleep 3", "sleep 3")))
    narrow.client.wait(run_id, timeout=120)
    early, late = sorted(tasks_of(narrow, run_id), key=lambda task: task["start_time"])
    assert moment(late["start_time"]) >= moment(early["end_time"])
    for task in (early, late):
        assert 2 <= moment(task["end_time"]) - moment(task["start_time"]) <= 5
        told = times(task)
        assert list(told) == ["asked", "accepted", "preparing", "started", "finished", "ended"]
        assert sorted(told.values()) == list(told.values())
        assert told["finished"] - told["started"] == pytest.approx(3, abs=1)
    queued = times(late)
    assert queued["preparing"] - queued["accepted"] >= 2
    assert queued["started"] - queued["preparing"] < 2


def test_a_quick_command_that_was_never_seen_running_took_no_time(narrow: Service, tmp_path: Path) -> None:
    """It waits for its turn behind one that takes three seconds."""
    gate = tmp_path / "gate"
    slow = narrow.client.submit(written(tmp_path, script(f"touch {gate}; sleep 3")))
    until(gate.exists)
    run_id = narrow.client.submit(written(tmp_path, script("true")))
    narrow.client.wait(run_id, timeout=120)
    (task,) = tasks_of(narrow, run_id)
    assert moment(task["end_time"]) - moment(task["start_time"]) <= 1
    assert times(task)["started"] - times(task)["asked"] >= 2
    narrow.client.wait(slow, timeout=120)


@pytest.fixture
def here(start_service: Starter) -> Service:
    """A service with SQLite, so that its database can be locked."""
    return start_service(nodes=[{"name": "here", "platforms": ["process"], "sandbox": "none"}], database=None)


def submitted(service: Service, folder: Path, seconds: int) -> tuple[str, float]:
    """A run whose command runs now; and when it will end."""
    gate = folder / "gate"
    run_id = service.client.submit(written(folder, script(f"touch {gate}; sleep {seconds}")))
    until(gate.exists)
    until(lambda: tasks_of(service, run_id)[0]["state"] == "RUNNING")
    return run_id, time.time() + seconds


def check_end(service: Service, run_id: str, end: float) -> None:
    """The run and its task ended when the command did."""
    service.client.wait(run_id, timeout=120)
    run = service.client.run(run_id)
    assert run["state"] == "COMPLETE", run["run_log"]["system_logs"]
    (task,) = tasks_of(service, run_id)
    for told in (task["end_time"], run["run_log"]["end_time"]):
        assert moment(told) == pytest.approx(end, abs=2)


@pytest.mark.slow
def test_a_run_that_ends_while_its_database_is_away(here: Service, tmp_path: Path) -> None:
    run_id, end = submitted(here, tmp_path, 2)
    database = sqlite3.connect(here.state / "wes-bridge.db", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    time.sleep(8)
    database.execute("ROLLBACK")
    database.close()
    check_end(here, run_id, end)


@pytest.mark.slow
def test_a_run_that_ends_while_the_service_is_away(start_service: Starter, tmp_path: Path) -> None:
    """The node is another process and goes on."""
    node = NodeProcess(
        tmp_path / "node", {"name": "far", "platforms": ["process"], "sandbox": "none"}
    ).start()
    try:
        settings = {"nodes": [], "brokers": [{"name": "far", "url": node.url}], "engine": {"lease": 1}}
        service = start_service(**settings)
        run_id, end = submitted(service, tmp_path, 2)
        service.die()
        time.sleep(7)
        again = Service(service.state, settings)
        check_end(again, run_id, end)
        again.stop()
    finally:
        node.stop()
