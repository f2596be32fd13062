"""Kills at random moments, many: of the service, its worker, its node; every run ends as if nothing had been.

So it is where service and node share a disk, and where two nodes share nothing with it but HTTP.

``WES_BRIDGE_CRASH_SEED`` repeats a seed that a failure has shown, ``WES_BRIDGE_CRASH_KILLS`` sets the number.
The seed decides what is killed and how long is waited before; what the processes do meanwhile is theirs.

A command notes that it ran before it does anything else, so one that ran twice shows however it ended. That
holds for a killed node too: what it runs is looked after by its keeper, which survives it.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.node.conftest import NodeProcess, start_node
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter

__all__ = ["start_node"]

pytestmark = pytest.mark.slow

SEED = int(os.environ.get("WES_BRIDGE_CRASH_SEED") or 1)
KILLS = int(os.environ.get("WES_BRIDGE_CRASH_KILLS") or 50)
WIDTH = 10
STEPS = 3 * WIDTH + 2
MODULES = {"worker": "wes_bridge.engine.worker", "node": "wes_bridge.node.main"}
VICTIMS = ["worker", "worker", "node", "node", "service", "both"]
NODE: dict[str, Any] = {"platforms": ["process"], "sandbox": "none", "cores": 8, "max_running": 6}
SETTINGS: dict[str, Any] = {
    "nodes": [{"name": "here", **NODE}],
    "engine": {"lease": 3.0, "patience": 120.0, "lost_after": 120.0, "offer_deadline": 10.0},
    "log_level": "warning",
}


def workflow(count: Path) -> dict[str, Any]:
    """Three stages of a scatter between two single steps; each command notes that it ran."""

    def tool(name: str, script: str, inputs: dict[str, Any]) -> dict[str, Any]:
        words = f'echo "{name} $0" >> {count}; {script}'
        return {
            "class": "CommandLineTool",
            "baseCommand": ["sh", "-c", words],
            "inputs": inputs,
            "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made.txt"}}},
        }

    def file(position: int) -> dict[str, Any]:
        return {"type": "File", "inputBinding": {"position": position}}

    word = {"type": "string", "inputBinding": {"position": 1}}
    each = {"scatter": ["word", "file"], "scatterMethod": "dotproduct", "out": ["made"]}
    add = 'sleep 0.$(( $$ % 7 )); { cat "$1"; echo "NAME $0"; } > made.txt'
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}, "MultipleInputFeatureRequirement": {}},
        "inputs": {"words": "string[]", "start": {"type": "string", "default": "start"}},
        "outputs": {
            "all": {"type": "File", "outputSource": "last/made"},
            "each": {"type": "File[]", "outputSource": "third/made"},
        },
        "steps": {
            "begin": {
                "run": tool("begin", "echo begun > made.txt", {"word": word}),
                "in": {"word": "start"},
                "out": ["made"],
            },
            "first": {
                "run": tool("first", add.replace("NAME", "first"), {"word": word, "file": file(2)}),
                "scatter": "word",
                "in": {"word": "words", "file": "begin/made"},
                "out": ["made"],
            },
            "second": {
                "run": tool("second", add.replace("NAME", "second"), {"word": word, "file": file(2)}),
                "in": {"word": "words", "file": "first/made"},
                **each,
            },
            "third": {
                "run": tool("third", add.replace("NAME", "third"), {"word": word, "file": file(2)}),
                "in": {"word": "words", "file": "second/made"},
                **each,
            },
            "last": {
                "run": tool(
                    "last",
                    'cat "$@" > made.txt',
                    {"word": word, "files": {"type": "File[]", "inputBinding": {"position": 2}}},
                ),
                "in": {"word": "start", "files": "third/made"},
                "out": ["made"],
            },
        },
    }


def expected(name: str) -> str:
    """What the last step of run ``name`` puts together."""
    return "".join(f"begun\nfirst {word}\nsecond {word}\nthird {word}\n" for word in words(name))


def words(name: str) -> list[str]:
    return [f"{name}-{number}" for number in range(WIDTH)]


def commands(name: str) -> Counter[str]:
    """How often each command should run."""
    each = [f"{stage} {word}" for stage in ("first", "second", "third") for word in words(name)]
    return Counter([f"begin {name}", f"last {name}", *each])


@dataclass
class Killer:
    """Kills, and starts again what does not come back by itself: the service, and nodes that are not its own.

    Args:
        service: with its worker.
        settings: of the service.
        nodes: by themselves, elsewhere; empty: the service has its own.
    """

    service: Service
    settings: dict[str, Any]
    nodes: list[NodeProcess]
    rng: random.Random
    count: Path
    done: Counter[str] = field(default_factory=Counter)

    @property
    def kills(self) -> int:
        return sum(self.done.values())

    def strike(self, run_id: str) -> None:
        """Kill something that is there: mostly when work goes on again and a moment later, else at once."""
        victim, wait = self.rng.choice(VICTIMS), self.rng.random() < 0.75
        pause = self.rng.uniform(0.0, 1.0)
        if wait:
            self._progress(run_id)
        time.sleep(pause)
        if victim == "service":
            self._restart()
            self.done[victim] += 1
            return
        for name in MODULES if victim == "both" else [victim]:
            if name == "node" and self.nodes:
                self._kill_node(self.rng.choice(self.nodes))
                continue
            for process in self.service.children(MODULES[name]):
                process.kill()
                psutil.wait_procs([process], timeout=60)
                self.done[name] += 1

    def _kill_node(self, node: NodeProcess) -> None:
        """Its keeper lives on, with what it runs; the node comes back where it was."""
        node.kill()
        self.done["node"] += 1
        node.start()

    def _progress(self, run_id: str) -> None:
        """Return when a further command has begun, or the run has ended."""
        before, deadline = lines(self.count), time.monotonic() + 180
        while lines(self.count) == before and not ended(self.service, run_id):
            assert time.monotonic() < deadline, f"seed {SEED}: the run does not go on"
            time.sleep(0.05)

    def _restart(self) -> None:
        self.service.die()
        self.service.client.close()
        self.service = Service(self.service.state, self.settings)


Place = tuple[dict[str, Any], list[NodeProcess]]


@pytest.fixture(params=["shared disk", "nothing shared"])
def place(request: pytest.FixtureRequest, start_node: NodeStarter) -> Place:
    """Settings of a service, and its nodes where they are not its own."""
    if request.param == "shared disk":
        return SETTINGS, []
    nodes = [start_node(name=name, data=["http://", "data:"], **NODE) for name in ("one", "two")]
    for node in nodes:
        node.config["port"] = int(node.url.rpartition(":")[2])
    brokers = [{"name": node.config["name"], "url": node.url, "shares_files": False} for node in nodes]
    with socket.create_server(("127.0.0.1", 0)) as probe:  # whoever is restarted is found where it was
        port = probe.getsockname()[1]
    return {**SETTINGS, "nodes": [], "brokers": brokers, "port": port}, nodes


def test_runs_survive_kills_at_random_moments(place: Place, start_service: Starter, tmp_path: Path) -> None:
    print(f"seed {SEED}: repeat with WES_BRIDGE_CRASH_SEED={SEED}")
    count = tmp_path / "count"
    document = tmp_path / "workflow.cwl"
    document.write_text(json.dumps(workflow(count)))
    killer = Killer(start_service(**place[0]), *place, random.Random(SEED), count)
    runs: dict[str, str] = {}
    try:
        while killer.kills < KILLS:
            name = f"run{len(runs)}"
            params = {"words": words(name), "start": name}
            runs[name] = killer.service.client.submit(document, params)
            while killer.kills < KILLS and not ended(killer.service, runs[name]):
                killer.strike(runs[name])
        for name, run_id in runs.items():
            check(killer.service, name, run_id, tmp_path / name)
        happened = Counter(count.read_text().splitlines())
        assert happened == sum((commands(name) for name in runs), Counter()), f"seed {SEED}"
        print(f"{len(runs)} runs of {STEPS} steps, {killer.kills} kills: {dict(killer.done)}")
    finally:
        if killer.service.process.poll() is None:
            killer.service.stop()


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


def ended(service: Service, run_id: str) -> bool:
    return service.client.status(run_id) not in ("QUEUED", "INITIALIZING", "RUNNING")


def check(service: Service, name: str, run_id: str, folder: Path) -> None:
    """The run is COMPLETE with the right outputs, and each step is there once."""
    state = service.client.wait(run_id, timeout=180)
    run = service.client.run(run_id)
    assert state == "COMPLETE", f"seed {SEED}: {name}: {run['run_log']}"
    outputs = service.client.download(run_id, folder)
    assert Path(outputs["all"]["path"]).read_text() == expected(name), f"seed {SEED}"
    assert len(outputs["each"]) == WIDTH
    tasks = list(service.client.tasks(run_id))
    assert len({task["name"] for task in tasks}) == len(tasks) == STEPS, f"seed {SEED}"
    assert {task["state"] for task in tasks} == {"COMPLETE"}, f"seed {SEED}"
