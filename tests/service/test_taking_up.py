"""Runs that outlive the processes that work on them: nothing is lost, and nothing is run twice."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.conftest import Service, Starter

pytestmark = pytest.mark.database

WIDTH = 6
SETTINGS: dict[str, Any] = {
    "nodes": [{"name": "here", "platforms": ["process"], "sandbox": "none", "cores": 4, "max_running": 4}],
    "engine": {"lease": 3.0},
}


def counted(count: Path, gate: Path) -> dict[str, Any]:
    """A scatter of steps of two commands each; each command notes that it ran, the first waits for a gate."""

    def tool(name: str, wait: str) -> dict[str, Any]:
        script = f'echo "{name} $0" >> {count}; {wait} echo "$0" > {name}.txt'
        return {
            "class": "CommandLineTool",
            "baseCommand": ["sh", "-c", script],
            "inputs": {
                "word": {"type": "string", "inputBinding": {"position": 1}},
                "after": {"type": "File?"},
            },
            "outputs": {"made": {"type": "File", "outputBinding": {"glob": f"{name}.txt"}}},
        }

    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"words": "string[]"},
        "outputs": {"all": {"type": "File[]", "outputSource": "second/made"}},
        "steps": {
            "first": {
                "run": tool("first", f"while [ ! -e {gate} ]; do sleep 0.05; done;"),
                "scatter": "word",
                "in": {"word": "words"},
                "out": ["made"],
            },
            "second": {
                "run": tool("second", ""),
                "scatter": ["word", "after"],
                "scatterMethod": "dotproduct",
                "in": {"word": "words", "after": "first/made"},
                "out": ["made"],
            },
        },
    }


class Case:
    """A run under way: four of its commands run and wait at the gate."""

    def __init__(self, start: Starter, folder: Path) -> None:
        self.count, self.gate = folder / "count", folder / "gate"
        self.service = start(**SETTINGS)
        workflow = folder / "counted.cwl"
        workflow.write_text(json.dumps(counted(self.count, self.gate)))
        self.words = [f"word{number}" for number in range(WIDTH)]
        self.run_id = self.service.client.submit(workflow, {"words": self.words})
        await_true(lambda: len(self.lines()) >= 4)

    def lines(self) -> list[str]:
        return self.count.read_text().splitlines() if self.count.exists() else []

    def commands(self) -> list[int]:
        """Processes that wait at the gate."""
        found = psutil.process_iter(["cmdline"])
        return [process.pid for process in found if str(self.gate) in " ".join(process.info["cmdline"] or ())]

    def check(self, service: Service) -> None:
        """The run ends well, and each command ran once."""
        state = service.client.wait(self.run_id, timeout=120)
        run = service.client.run(self.run_id)
        assert state == "COMPLETE", run
        assert Counter(self.lines()) == Counter(
            f"{name} {word}" for name in ("first", "second") for word in self.words
        )
        tasks = list(service.client.tasks(self.run_id))
        assert len(tasks) == len({task["name"] for task in tasks}) == 2 * WIDTH
        assert {task["state"] for task in tasks} == {"COMPLETE"}
        assert len(run["outputs"]["all"]) == WIDTH


def await_true(check: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def case(start_service: Starter, tmp_path: Path) -> Iterator[Case]:
    made = Case(start_service, tmp_path)
    yield made
    made.gate.touch()  # nothing waits for ever


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies(case: Case, how: signal.Signals) -> None:
    (worker,) = case.service.children("wes_bridge.engine.worker")
    worker.send_signal(how)
    psutil.wait_procs([worker], timeout=60)
    case.gate.touch()
    case.check(case.service)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_service_that_dies(case: Case, how: signal.Signals) -> None:
    case.service.die(how)
    case.gate.touch()
    again = Service(case.service.state, SETTINGS)
    try:
        case.check(again)
    finally:
        again.stop()


def test_a_worker_and_the_node_that_die_together(case: Case) -> None:
    for child in psutil.Process(case.service.process.pid).children():
        child.kill()
    case.gate.touch()
    case.check(case.service)


def test_a_cancellation_while_nobody_works(case: Case) -> None:
    """It reaches the sessions, once there is a worker again."""
    case.service.die()
    again = Service(case.service.state, SETTINGS | {"engine": {"lease": 3.0, "workers": 0}})
    again.client.cancel(case.run_id)
    assert again.client.status(case.run_id) == "CANCELING"
    again.stop()
    third = Service(case.service.state, SETTINGS)
    try:
        assert third.client.wait(case.run_id, timeout=60) == "CANCELED"
        tasks = list(third.client.tasks(case.run_id))
        assert {task["state"] for task in tasks} == {"CANCELED"}
        await_true(lambda: not case.commands())
    finally:
        third.stop()
    # A session in line may have begun in the moment between the end of one before it and its own.
    assert not [line for line in case.lines() if line.startswith("second")]
