"""A bag of runs by one worker process and by two, with PostgreSQL between them and the API.

    python benchmarks/workers.py [--runs 200] [--waiting 100] [--most 10] [--rounds 3]

Real processes: PostgreSQL in a temporary folder (fsync off), an API with one node (plain processes, no
sandbox, 64 cores said to be there), and `wes-bridge worker` once or twice, each with a folder of its own as
on another machine. Each worker has done one run before; then the workers are stopped (SIGSTOP), all runs are
submitted, and time counts from when the workers go on (SIGCONT) until the last run has ended.
  busy     runs of one `true`, all of them work for the worker: on two cores, which PostgreSQL, API and node
           need too, two workers cannot be twice as fast
  waiting  runs of one `sleep 1`, of which a worker holds --most at a time: that limit, not the processor,
           is what bounds it, so two workers should take half as long
Beside the times: processor time by process, and what the database's sessions were seen waiting for
(pg_stat_activity, looked at 20 times a second), as a share of the looks at sessions that were at work. "Lock"
are waits for rows, tables and advisory locks: what would make workers queue up.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.postgresql import Cluster
from tests.service.conftest import LoneWorker, Service

LOOK = 0.05
PATIENCE = 600.0
TOOL: dict[str, Any] = {"cwlVersion": "v1.2", "class": "CommandLineTool", "inputs": {}, "outputs": {}}
COMMANDS = {"busy": ["true"], "waiting": ["sleep", "1"]}
FINAL = "('COMPLETE', 'EXECUTOR_ERROR', 'SYSTEM_ERROR', 'CANCELED')"


@dataclass
class Waits:
    """What the database's sessions were seen doing.

    Attributes:
        kinds: looks at sessions at work by what they waited for; "" for nothing.
        locks: of those that waited for a lock, what kind of lock.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    locks: Counter[str] = field(default_factory=Counter)

    def words(self) -> str:
        """For people."""
        seen = sum(self.kinds.values()) or 1
        shares = ", ".join(
            f"{kind or 'working'} {100 * n / seen:.1f} %" for kind, n in self.kinds.most_common()
        )
        locks = ", ".join(f"{name} {n}" for name, n in self.locks.most_common()) or "none"
        return f"{shares}; waits for locks: {locks}"


class Watch:
    """Looks at pg_stat_activity until the end of the block."""

    def __init__(self, address: str) -> None:
        self.waits = Waits()
        self._address = address
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        query = (
            "SELECT coalesce(wait_event_type, ''), coalesce(wait_event, '') FROM pg_stat_activity"
            " WHERE state <> 'idle' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        with psycopg.connect(self._address, autocommit=True) as connection:
            while not self._end.wait(LOOK):
                for kind, event in connection.execute(query).fetchall():
                    self.waits.kinds["" if kind == "Client" else kind] += 1
                    if kind == "Lock":
                        self.waits.locks[event] += 1


class Site:
    """PostgreSQL, an API with a node, and workers.

    Args:
        folder: for all their files.
        workers: how many.
        most: runs that each holds at a time.
    """

    def __init__(self, folder: Path, workers: int, most: int) -> None:
        self._stack = contextlib.ExitStack()
        with contextlib.ExitStack() as starting:
            self._cluster = Cluster()
            starting.callback(self._cluster.close)
            database = self._cluster.new_database()
            self.address = database.replace("+psycopg", "")
            node = {"name": "here", "platforms": ["process"], "sandbox": "none", "cores": 64}
            shared = {"database": database, "workspace": str(folder / "workspace")}
            service = shared | {"nodes": [node | {"memory_gib": 256}], "engine": {"workers": 0}}
            self.service = Service(folder / "state", service)
            starting.callback(self.service.stop)
            port = json.loads((folder / "state" / "node-ports.json").read_text())["here"]
            broker = {"name": "here", "url": f"http://127.0.0.1:{port}", "holds": ["file:///"]}
            engine = {"max_runs": most}
            settings = shared | {"nodes": [], "brokers": [broker], "engine": engine}
            self.workers = []
            for number in range(workers):
                self.workers.append(LoneWorker(folder / f"worker{number}", settings))
                starting.callback(self.workers[-1].stop)
            self._stack = starting.pop_all()

    def close(self) -> None:
        """End all."""
        self._stack.close()

    def signal(self, number: signal.Signals) -> None:
        """To all workers."""
        for worker in self.workers:
            worker.process.send_signal(number)

    def processor(self) -> dict[str, float]:
        """Seconds of processor time by process."""
        (node,) = self.service.children("wes_bridge.node.main")
        postgres = psutil.Process(self._cluster.pid)
        found = {"API": _spent(psutil.Process(self.service.process.pid)), "node": _spent(node)}
        found |= {
            f"worker {n + 1}": _spent(psutil.Process(w.process.pid)) for n, w in enumerate(self.workers)
        }
        return found | {"PostgreSQL": sum(map(_spent, [postgres, *postgres.children()]))}

    def ended(self, connection: psycopg.Connection[Any]) -> tuple[int, int]:
        """How many runs have ended, and how many of them well."""
        query = (
            f"SELECT count(*), count(*) FILTER (WHERE state = 'COMPLETE') FROM runs WHERE state IN {FINAL}"
        )
        row = connection.execute(query).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])


def _spent(process: psutil.Process) -> float:
    try:
        return float(sum(process.cpu_times()[:2]))
    except psutil.NoSuchProcess:
        return 0.0


@dataclass(frozen=True)
class Round:
    """What one bag took."""

    seconds: float
    processor: dict[str, float]
    waits: Waits


def bag(kind: str, runs: int, workers: int, most: int) -> Round:
    """One bag of runs."""
    with tempfile.TemporaryDirectory(prefix="wes-bridge-bench-") as name:
        folder = Path(name)
        tool = folder / "tool.cwl"
        tool.write_text(json.dumps(TOOL | {"baseCommand": COMMANDS[kind]}))
        site = Site(folder, workers, most)
        try:
            client = site.service.client
            for _ in range(workers):
                client.wait(client.submit(tool, {}), timeout=PATIENCE)
            site.signal(signal.SIGSTOP)
            for _ in range(runs):
                client.submit(tool, {})
            before = site.processor()
            with psycopg.connect(site.address, autocommit=True) as connection, Watch(site.address) as watch:
                begun = time.monotonic()
                site.signal(signal.SIGCONT)
                while (done := site.ended(connection))[0] < runs + workers:
                    assert time.monotonic() < begun + PATIENCE, f"{done[0]} of {runs} runs have ended"
                    time.sleep(LOOK)
                seconds = time.monotonic() - begun
            assert done[1] == done[0], "some runs failed"
            after = site.processor()
            return Round(seconds, {name: after[name] - before[name] for name in after}, watch.waits)
        finally:
            site.signal(signal.SIGCONT)
            site.close()


def measure(kind: str, runs: int, most: int, rounds: int) -> None:
    """By one and by two, in turns; print the medians."""
    found: dict[int, list[Round]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers, some in found.items():
            some.append(bag(kind, runs, workers, most))
    times = {workers: statistics.median(r.seconds for r in some) for workers, some in found.items()}
    print(f"{kind}: {runs} runs, {most} at a time a worker; medians of {rounds}")
    for workers, some in found.items():
        spread = f"({min(r.seconds for r in some):.2f} to {max(r.seconds for r in some):.2f})"
        print(f"  by {workers}: {times[workers]:7.2f} s {spread}")
        names = some[0].processor
        cpu = {name: statistics.median(r.processor[name] for r in some) for name in names}
        print("    processor: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in cpu.items()))
        print(f"    database:  {some[-1].waits.words()}")
    print(f"  two take {times[2] / times[1]:.2f} of what one takes", flush=True)


def main() -> None:
    """Both kinds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200, help="busy ones")
    parser.add_argument("--waiting", type=int, default=100, help="waiting ones")
    parser.add_argument("--most", type=int, default=10, help="waiting runs a worker holds at a time")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.runs:
        measure("busy", options.runs, 1000, options.rounds)
    if options.waiting:
        measure("waiting", options.waiting, options.most, options.rounds)


if __name__ == "__main__":
    main()
