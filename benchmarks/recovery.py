"""How long after a crash work goes on: a wide scatter half done, all or the worker killed, started again.

    python benchmarks/recovery.py [--width 1000] [--rounds 3] [--kill service|worker|both]

A real service with one node (plain processes, no sandbox) and SQLite, in a temporary folder. When half of
the steps are COMPLETE, SIGKILL:
  service  to the service with its API, worker and node, all at once; `wes-bridge serve` is started again
  worker   to the worker alone; the service starts it again by itself
Measured from the start (for the worker: from the kill) to the creation of the first session at the node that
is not one of before, read from the node's database, by the same clock. Said beside it: when the service said
that it is ready, and when the worker had claimed the run and read its journal ("taken up again" in the run's
log). Then the run must end COMPLETE with as many tasks as it is wide, none of them run twice.
What the schemas' cache saves is shown by --cold: then there is none.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.service.conftest import Service

TARGET = 3.0
"""Seconds."""
PATIENCE = 300.0
SETTINGS = {"nodes": [{"name": "here", "platforms": ["process"], "sandbox": "none"}]}
TOOL = {
    "class": "CommandLineTool",
    "baseCommand": "echo",
    "inputs": {"message": {"type": "string", "inputBinding": {}}},
    "outputs": {"said": "stdout"},
    "stdout": "$(inputs.message).txt",
}
SCATTER = {
    "cwlVersion": "v1.2",
    "class": "Workflow",
    "requirements": {"ScatterFeatureRequirement": {}},
    "inputs": {"messages": "string[]"},
    "outputs": {"all": {"type": "File[]", "outputSource": "say/said"}},
    "steps": {"say": {"run": TOOL, "scatter": "message", "in": {"message": "messages"}, "out": ["said"]}},
}


class Crash:
    """One service that is killed half way.

    Args:
        folder: for all its files.
        width: of the scatter.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self._state = folder / "state"
        self._width = width
        self._service = Service(self._state, SETTINGS)
        workflow = folder / "scatter.cwl"
        workflow.write_text(json.dumps(SCATTER))
        words = [f"word{number}" for number in range(width)]
        self._run = self._service.client.submit(workflow, {"messages": words})
        self._log = self._state / "workspace" / self._run / "logs" / "stderr"
        half = "SELECT count(*) FROM tasks WHERE state = 'COMPLETE'"
        until(lambda: self._ask("wes-bridge.db", half) >= width / 2)

    def _ask(self, database: str, question: str) -> float:
        with contextlib.closing(sqlite3.connect(f"file:{self._state / database}?mode=ro", uri=True)) as found:
            return float(found.execute(question).fetchone()[0] or 0)

    def _kill(self, what: str) -> None:
        processes = self._service.children("wes_bridge.engine.worker")
        if what == "service":
            service = psutil.Process(self._service.process.pid)
            processes = [service, *service.children()]
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs(processes, 30)
        if what == "service":
            self._service.process.wait(30)

    def recover(self, what: str) -> dict[str, float]:
        """Kill, start again; seconds until the moments of interest, and until the run's end."""
        self._kill(what)
        newest = self._ask("nodes/here/node.db", "SELECT max(created) FROM sessions WHERE phase <> 'OFFERED'")
        begun, clock = time.monotonic(), time.time()
        seconds: dict[str, float] = {"steps begun": self._ask("wes-bridge.db", "SELECT count(*) FROM tasks")}
        if what == "service":
            self._service.client.close()
            self._service = Service(self._state, SETTINGS)
            seconds["ready"] = time.monotonic() - begun
        since = max(newest, clock)
        until(lambda: "taken up again" in self._log.read_text())
        seconds["taken up"] = time.monotonic() - begun
        question = f"SELECT min(created) FROM sessions WHERE created > {since} AND phase <> 'REJECTED'"
        until(lambda: self._ask("nodes/here/node.db", question) > 0)
        seconds["first new session"] = self._ask("nodes/here/node.db", question) - clock
        self._check()
        seconds["end of the run"] = time.monotonic() - begun
        self._service.stop()
        return seconds

    def _check(self) -> None:
        state = self._service.client.wait(self._run, timeout=PATIENCE)
        tasks = self._ask("wes-bridge.db", "SELECT count(*) FROM tasks")
        question = "SELECT count(*) FROM sessions WHERE phase = 'COMPLETED'"
        sessions = self._ask("nodes/here/node.db", question)
        assert state == "COMPLETE", state
        assert tasks == self._width, tasks
        assert sessions == self._width, f"{sessions} sessions ended well for {self._width} steps"


def until(is_so: Callable[[], bool]) -> None:
    """Look again and again, without taking much of the processor that is measured."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(sqlite3.OperationalError, FileNotFoundError):
            if is_so():
                return
        assert time.monotonic() < end, "nothing happened for five minutes"
        time.sleep(0.02)


def measure(what: str, width: int, rounds: int) -> None:
    """Print the rounds' medians."""
    found: list[dict[str, float]] = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="wes-bridge-bench-") as folder:
            found.append(Crash(Path(folder), width).recover(what))
    print(f"{width}-wide scatter half done, kill -9 {what}; medians (lowest to highest) of {rounds}")
    for name in found[0]:
        values = [seconds[name] for seconds in found]
        unit, target = ("  ", "") if name == "steps begun" else (" s", "")
        if name == "first new session":
            target = f"   target < {TARGET:g} s"
        spread = f"({min(values):.2f} to {max(values):.2f})"
        print(f"  {name:20} {statistics.median(values):8.2f}{unit} {spread}{target}", flush=True)


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill", choices=["service", "worker", "both"], default="both")
    parser.add_argument("--cold", action="store_true", help="no schemas' cache")
    options = parser.parse_args()
    if options.cold:
        os.environ["XDG_CACHE_HOME"] = os.devnull  # no folder can be made below it
    for what in ("service", "worker") if options.kill == "both" else (options.kill,):
        measure(what, options.width, options.rounds)


if __name__ == "__main__":
    main()
