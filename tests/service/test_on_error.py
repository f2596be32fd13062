"""What becomes of the other steps when one has failed for good."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service, Starter
from wes_bridge.client import WESError

pytestmark = pytest.mark.database

NODE = {"name": "here", "platforms": ["process"], "sandbox": "none", "cores": 4, "max_running": 4}


@pytest.fixture(scope="module")
def roomy(start_service: Starter) -> Service:
    return start_service(nodes=[NODE])


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "gate"
    yield path
    path.touch()  # nothing waits for ever


def step(script: str, after: str | None = None) -> dict[str, Any]:
    inputs = {"before": {"type": "Any?"}} if after else {}
    tool = {
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", script],
        "inputs": inputs,
        "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made.txt"}}},
    }
    return {"run": tool, "in": {"before": after} if after else {}, "out": ["made"]}


def workflow(tmp_path: Path, gate: Path) -> Path:
    """``bad`` fails once ``slow`` runs, which ends when the gate opens; ``next`` needs ``slow``."""
    begun = tmp_path / "begun"
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"SubworkflowFeatureRequirement": {}},
        "inputs": {},
        "outputs": {"kept": {"type": "File?", "outputSource": "next/made"}},
        "steps": {
            "slow": step(
                f"touch {begun}; until test -e {gate}; do sleep 0.05; done; echo slow > made.txt",
            ),
            "bad": step(f"until test -e {begun}; do sleep 0.05; done; exit 7"),
            "next": step("echo next > made.txt", "slow/made"),
        },
    }
    path = tmp_path / "three.cwl"
    path.write_text(json.dumps(document))
    return path


def tasks(service: Service, run_id: str) -> dict[str, dict[str, Any]]:
    return {task["name"]: task for task in service.client.tasks(run_id)}


def await_state(service: Service, run_id: str, name: str, state: str) -> None:
    deadline = time.monotonic() + 60
    while tasks(service, run_id).get(name, {}).get("state") != state:
        assert time.monotonic() < deadline, tasks(service, run_id)
        time.sleep(0.05)


@pytest.mark.parametrize("on_error", [None, "stop"])
def test_stop_lets_siblings_finish_and_begins_nothing(
    roomy: Service, tmp_path: Path, gate: Path, on_error: str | None
) -> None:
    parameters = {"on_error": on_error} if on_error else None
    run_id = roomy.client.submit(workflow(tmp_path, gate), engine_parameters=parameters)
    await_state(roomy, run_id, "bad", "EXECUTOR_ERROR")
    assert roomy.client.status(run_id) == "RUNNING"
    gate.touch()
    assert roomy.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    found = {name: task["state"] for name, task in tasks(roomy, run_id).items()}
    assert found == {"slow": "COMPLETE", "bad": "EXECUTOR_ERROR"}


def test_continue_begins_what_can_be_done(roomy: Service, tmp_path: Path, gate: Path) -> None:
    run_id = roomy.client.submit(workflow(tmp_path, gate), engine_parameters={"on_error": "continue"})
    await_state(roomy, run_id, "bad", "EXECUTOR_ERROR")
    gate.touch()
    assert roomy.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    found = {name: task["state"] for name, task in tasks(roomy, run_id).items()}
    assert found == {"slow": "COMPLETE", "bad": "EXECUTOR_ERROR", "next": "COMPLETE"}
    run = roomy.client.run(run_id)
    assert "exit code 7" in run["run_log"]["system_logs"][0]
    assert run["outputs"]["kept"]["basename"] == "made.txt"


def test_cancel_ends_siblings_at_once(roomy: Service, tmp_path: Path, gate: Path) -> None:
    run_id = roomy.client.submit(workflow(tmp_path, gate), engine_parameters={"on_error": "cancel"})
    assert roomy.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    assert not gate.exists()
    found = tasks(roomy, run_id)
    assert {name: task["state"] for name, task in found.items()} == {
        "slow": "CANCELED",
        "bad": "EXECUTOR_ERROR",
    }
    assert found["slow"]["system_logs"] == ["cancelled because bad failed (on_error: cancel)"]
    assert "bad: the command ended with exit code 7" in roomy.client.run(run_id)["run_log"]["system_logs"][0]


def test_a_scatter_is_cancelled_too(roomy: Service, tmp_path: Path, gate: Path) -> None:
    # whichever begins first fails: the node chooses which four of them run
    script = f"mkdir {tmp_path}/first && exit 3; until test -e {gate}; do sleep 0.05; done"
    tool = {
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", script],
        "inputs": {"number": {"type": "int", "inputBinding": {}}},
        "outputs": {},
    }
    document = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"numbers": "int[]"},
        "outputs": {},
        "steps": {"each": {"run": tool, "scatter": "number", "in": {"number": "numbers"}, "out": []}},
    }
    path = tmp_path / "scatter.cwl"
    path.write_text(json.dumps(document))
    run_id = roomy.client.submit(path, {"numbers": list(range(12))}, engine_parameters={"on_error": "cancel"})
    assert roomy.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    states = [task["state"] for task in roomy.client.tasks(run_id)]
    assert states.count("EXECUTOR_ERROR") == 1
    assert set(states) <= {"EXECUTOR_ERROR", "CANCELED"}


def test_another_word_is_refused(roomy: Service, tmp_path: Path, gate: Path) -> None:
    with pytest.raises(WESError, match="on_error: 'halt' is none of stop, continue, cancel"):
        roomy.client.submit(workflow(tmp_path, gate), engine_parameters={"on_error": "halt"})
