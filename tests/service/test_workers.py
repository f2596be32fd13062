"""An API and workers as processes apart, with PostgreSQL and a workspace between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.postgresql import Cluster
from tests.service.conftest import ROOT, LoneWorker, Starter
from tests.service.test_taking_up import SETTINGS, Case, await_true
from wes_bridge.client import WESError

pytestmark = pytest.mark.slow
ECHO: dict[str, Any] = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": "echo",
    "inputs": {"word": {"type": "string", "inputBinding": {}}},
    "outputs": {"said": "stdout"},
    "stdout": "said.txt",
}


class Site:
    """An API with a node, and what its workers need to know."""

    def __init__(self, start: Starter, cluster: Cluster, folder: Path, **engine: Any) -> None:
        self.folder = folder
        self.settings: dict[str, Any] = {
            "database": cluster.new_database(),
            "workspace": str(folder / "workspace"),
            "engine": {"lease": 3.0, **engine},
        }
        self.service = start(
            **self.settings
            | {"nodes": SETTINGS["nodes"], "engine": {**self.settings["engine"], "workers": 0}}
        )
        ports = json.loads((self.service.state / "node-ports.json").read_text())
        node = {"name": "here", "url": f"http://127.0.0.1:{ports['here']}", "holds": ["file:///"]}
        self.settings |= {"nodes": [], "brokers": [node]}
        self.workers: list[LoneWorker] = []

    def worker(self) -> LoneWorker:
        """One more, as on another machine."""
        made = LoneWorker(self.folder / f"worker{len(self.workers)}", self.settings)
        self.workers.append(made)
        return made

    def holders(self) -> Counter[str]:
        """How many runs each worker holds."""
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self.settings["database"].replace("+psycopg", "")) as connection:
            rows = connection.execute("SELECT worker FROM runs WHERE worker IS NOT NULL").fetchall()
        return Counter(row[0] for row in rows)


@pytest.fixture
def site(start_service: Starter, postgresql: Cluster, tmp_path: Path) -> Iterator[Site]:
    made = Site(start_service, postgresql, tmp_path, max_runs=4)
    yield made
    for worker in made.workers:
        worker.stop()
    made.service.stop()


def gated(folder: Path) -> tuple[Path, Path]:
    """A tool that waits for a file, and the file."""
    gate, path = folder / "gate", folder / "gated.cwl"
    script = f'while [ ! -e {gate} ]; do sleep 0.1; done; echo "$0"'
    path.write_text(json.dumps(ECHO | {"baseCommand": ["sh", "-c", script]}))
    return path, gate


def test_runs_go_to_who_has_room_and_are_spread_again_when_a_worker_dies(site: Site, tmp_path: Path) -> None:
    tool, gate = gated(tmp_path)
    client = site.service.client
    runs = [client.submit(tool, {"word": f"w{number}"}) for number in range(6)]
    first = site.worker()  # was not there when the runs came, and hears no wake-up calls
    await_true(lambda: sorted(site.holders().values()) == [4])
    site.worker()
    await_true(lambda: sorted(site.holders().values()) == [2, 4])
    site.worker()
    first.process.kill()
    first.process.wait(timeout=60)
    await_true(lambda: len(site.holders()) == 2 and sum(site.holders().values()) == 6)
    gate.touch()
    for number, run_id in enumerate(runs):
        assert client.wait(run_id, timeout=120) == "COMPLETE"
        location = client.run(run_id)["outputs"]["said"]["location"]
        assert requests.get(location, timeout=60).text == f"w{number}\n"
        assert len(list(client.tasks(run_id))) == 1


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_dies_half_way(site: Site, tmp_path: Path, how: signal.Signals) -> None:
    workers = [site.worker(), site.worker()]
    case = Case(lambda **_: site.service, tmp_path)
    holder = next(iter(site.holders()))
    (dead,) = [worker for worker in workers if f"-{worker.process.pid}-" in holder]
    dead.process.send_signal(how)
    dead.process.wait(timeout=60)
    case.gate.touch()
    case.check(site.service)
    assert dead.process.returncode == (-signal.SIGKILL if how is signal.SIGKILL else 0)


def test_a_worker_that_sleeps_for_longer_than_its_lease(site: Site, tmp_path: Path) -> None:
    """A laptop that was shut; it wakes up, finds that its run has gone to another, and lets go."""
    sleeper = site.worker()
    case = Case(lambda **_: site.service, tmp_path)
    sleeper.process.send_signal(signal.SIGSTOP)
    other = site.worker()
    await_true(lambda: any(f"-{other.process.pid}-" in holder for holder in site.holders()))
    sleeper.process.send_signal(signal.SIGCONT)
    case.gate.touch()
    case.check(site.service)


def test_the_place_of_a_run_that_ended_is_taken_at_once(
    start_service: Starter, postgresql: Cluster, tmp_path: Path
) -> None:
    """Not at the next look at the database, which is ten seconds away: thirty runs would need minutes."""
    site = Site(start_service, postgresql, tmp_path, max_runs=1, lease=30.0)
    tool = tmp_path / "echo.cwl"
    tool.write_text(json.dumps(ECHO))
    runs = [site.service.client.submit(tool, {"word": "w"}) for _ in range(30)]
    site.worker()
    try:
        states = {site.service.client.wait(run_id, timeout=120) for run_id in runs}
    finally:
        for worker in site.workers:
            worker.stop()
        site.service.stop()
    assert states == {"COMPLETE"}


def test_a_cancellation_reaches_a_worker_elsewhere(site: Site, tmp_path: Path) -> None:
    site.worker()
    case = Case(lambda **_: site.service, tmp_path)
    site.service.client.cancel(case.run_id)
    assert site.service.client.wait(case.run_id, timeout=60) == "CANCELED"
    assert not case.commands()


def test_numbers_that_json_does_not_have(site: Site, tmp_path: Path) -> None:
    site.worker()
    tool = tmp_path / "nan.cwl"
    script = "echo '{\"flux\": NaN}' > cwl.output.json"
    tool.write_text(
        json.dumps(ECHO | {"baseCommand": ["sh", "-c", script], "inputs": {}, "outputs": {"flux": "float"}})
    )
    run_id = site.service.client.submit(tool, {})
    assert site.service.client.wait(run_id, timeout=60) == "EXECUTOR_ERROR"
    log = site.service.client.run(run_id)["run_log"]
    assert "output flux: a number in it is nan" in log["system_logs"][0]


@pytest.mark.parametrize("hangs", [False, True], ids=["stopped", "hangs"])
def test_the_database_gone_for_longer_than_the_lease(
    site: Site, postgresql: Cluster, tmp_path: Path, hangs: bool
) -> None:
    """What runs goes on, the API says what is wrong, and all is well when it is back."""
    worker = site.worker()
    case = Case(lambda **_: site.service, tmp_path)
    base = f"{site.service.url}/ga4gh/wes/v1"
    begun = time.monotonic()
    (postgresql.freeze if hangs else postgresql.stop)()
    try:
        for address in (f"{base}/runs/{case.run_id}/status", f"{base}/service-info"):
            answer = requests.get(address, timeout=60)
            assert answer.status_code == 503
            assert "database does not answer" in answer.json()["msg"]
            assert int(answer.headers["Retry-After"]) > 0
        health = requests.get(f"{site.service.url}/health", timeout=60)
        assert (health.status_code, health.json()["status"]) == (503, "failing")
        assert "database does not answer" in health.json()["database"]
        case.gate.touch()
        with pytest.raises(WESError, match="database does not answer") as refused:
            site.service.client.submit(tmp_path / "counted.cwl", {"words": []})
        assert refused.value.status_code == 503
        if not hangs:
            await_true(lambda: "writes wait for it" in worker.log.read_text())
        time.sleep(max(0.0, begun + 2.5 * SETTINGS["engine"]["lease"] - time.monotonic()))
    finally:
        (postgresql.thaw if hangs else postgresql.start)()
    await_true(lambda: requests.get(f"{site.service.url}/health", timeout=60).status_code == 200)
    case.check(site.service)
    assert worker.process.poll() is None
    assert len(list(site.service.client.runs())) == 1
    assert [path.name for path in (tmp_path / "workspace").iterdir() if path.name[0] != "."] == [case.run_id]


def test_a_worker_can_be_stopped_while_the_database_is_gone(site: Site, postgresql: Cluster) -> None:
    worker = site.worker()
    postgresql.stop()
    try:
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(timeout=60) == 0
    finally:
        postgresql.start()


# ---- what is said when it cannot work -------------------------------------------------------------------


def refused(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "wes_bridge.cli.main", "worker", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done
    return done.stderr


def test_a_worker_without_what_it_needs_says_so(tmp_path: Path) -> None:
    state = tmp_path / "state"
    said = refused("--state", str(state))
    assert f"the workspace {state}/workspace is not there" in said
    (state / "workspace").mkdir(parents=True)
    assert "there is no node to ask" in refused("--state", str(state))
    url = "postgresql+psycopg://wes:secret@127.0.0.1:9/wes"
    said = refused("--state", str(state), "--database", url)
    assert "cannot open the database" in said
    assert "secret" not in said
    assert "Traceback" not in said


def test_passwords_are_not_on_the_command_line(start_service: Starter) -> None:
    """The first worker is told its settings when it has begun, others when they begin."""
    service = start_service(engine={"workers": 2})
    path = service.state / "worker.json"
    ends = sorted(worker.cmdline()[-2:] for worker in service.children("wes_bridge.engine.worker"))
    assert ends == [["--told-later", "wes_bridge.engine.worker"], [f"@{path}", "--exit-with-parent"]]
    assert path.stat().st_mode & 0o777 == 0o600
