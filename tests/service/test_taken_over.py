"""Workers killed in a run that takes over what others did, by a rerun or by reuse: nothing is run twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.service.test_taking_up import SETTINGS, await_true

pytestmark = pytest.mark.slow
WORDS = ["one", "two", "three", "four"]


class Case:
    """Four files are made and put together; the last command fails without ``ready``, and waits at a gate."""

    def __init__(self, service: Service, folder: Path) -> None:
        self.service, self.folder = service, folder
        self.count, self.ready, self.gate = folder / "count", folder / "ready", folder / "gate"
        make = f'echo "make $0" >> {self.count}; echo "$0" > made.txt'
        join = (
            f'echo join >> {self.count}; [ -e {self.ready} ] || exit 3; cat "$@" > made.txt;'
            f" while [ ! -e {self.gate} ]; do sleep 0.05; done"
        )
        self.workflow = folder / "joined.cwl"
        self.workflow.write_text(
            json.dumps(
                {
                    "cwlVersion": "v1.2",
                    "class": "Workflow",
                    "requirements": {"ScatterFeatureRequirement": {}},
                    "inputs": {"words": "string[]"},
                    "outputs": {"all": {"type": "File", "outputSource": "join/made"}},
                    "steps": {
                        "make": {
                            "run": tool(make, "string"),
                            "scatter": "given",
                            "in": {"given": "words"},
                            "out": ["made"],
                        },
                        "join": {
                            "run": tool(join, "File[]"),
                            "in": {"given": "make/made"},
                            "out": ["made"],
                        },
                    },
                }
            )
        )

    def submit(self) -> str:
        return self.service.client.submit(self.workflow, {"words": WORDS})

    def ran(self) -> Counter[str]:
        return Counter(self.count.read_text().splitlines()) if self.count.exists() else Counter()

    def kill_worker(self) -> None:
        (worker,) = self.service.children("wes_bridge.engine.worker")
        worker.kill()
        psutil.wait_procs([worker], timeout=60)

    def kill_in_the_middle(self, run_id: str, joins: int) -> None:
        """Kill the worker when it has just heard of the run, and its successor while the last step runs."""
        self.kill_worker()
        await_true(lambda: self.ran()["join"] == joins, seconds=120)
        self.kill_worker()
        self.gate.touch()
        state = self.service.client.wait(run_id, timeout=120)
        assert state == "COMPLETE", self.service.client.run(run_id)

    def check(self, run_id: str, joins: int) -> dict[str, Any]:
        """The output is right, each command ran once (the last as said); the tasks, by name."""
        assert self.ran() == Counter([f"make {word}" for word in WORDS] + ["join"] * joins)
        location = self.service.client.run(run_id)["outputs"]["all"]["location"]
        assert requests.get(location, timeout=60).text.split() == WORDS
        tasks = list(self.service.client.tasks(run_id))
        assert [task["state"] for task in tasks] == ["COMPLETE"] * (len(WORDS) + 1)
        return {task["name"]: task for task in tasks}


def tool(script: str, kind: str) -> dict[str, Any]:
    return {
        "class": "CommandLineTool",
        "baseCommand": ["bash", "-c", script] if kind == "string" else ["bash", "-c", script, "bash"],
        "inputs": {"given": {"type": kind, "inputBinding": {}}},
        "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made.txt"}}},
    }


@pytest.fixture
def case(start_service: Starter, tmp_path: Path) -> Iterator[Case]:
    service = start_service(**SETTINGS | {"engine": {"lease": 3.0, "reuse": "off"}})
    made = Case(service, tmp_path)
    yield made
    made.gate.touch()  # nothing waits for ever
    service.stop()


def test_a_rerun(case: Case) -> None:
    first = case.submit()
    assert case.service.client.wait(first, timeout=120) == "EXECUTOR_ERROR"
    case.ready.touch()
    second = case.service.client.rerun(first)
    case.kill_in_the_middle(second, joins=2)
    tasks = case.check(second, joins=2)
    for number in range(len(WORDS)):
        assert tasks[f"make[{number}]"]["placement"]["taken_from"]["run_id"] == first
    third = case.service.client.rerun(second, again="join")  # of a rerun that was killed
    assert case.service.client.wait(third, timeout=120) == "COMPLETE"
    case.check(third, joins=3)


def test_a_run_with_reuse(case: Case) -> None:
    case.ready.touch()
    first = case.service.client.submit(case.workflow, {"words": WORDS}, engine_parameters={"reuse": "on"})
    case.kill_in_the_middle(first, joins=1)
    case.check(first, joins=1)
    case.gate.unlink()
    joined = json.loads(case.workflow.read_text())
    joined["steps"]["join"]["run"]["arguments"] = ["--"]  # another command, so that it is run
    case.workflow.write_text(json.dumps(joined).replace('cat \\"$@\\"', 'shift; cat \\"$@\\"'))
    second = case.service.client.submit(case.workflow, {"words": WORDS}, engine_parameters={"reuse": "on"})
    case.kill_in_the_middle(second, joins=2)
    tasks = case.check(second, joins=2)
    for number in range(len(WORDS)):
        assert tasks[f"make[{number}]"]["placement"]["reused_from"]["run_id"] == first
