"""Workflows through a whole service and one broker: our own node, a fake of the Java one, any that is named.

| variable | meaning |
|---|---|
| WES_BRIDGE_TEST_BROKER | its URL; without it only the first two are tried |
| WES_BRIDGE_TEST_DIALECT | ``native`` (default) or ``reference`` |
| WES_BRIDGE_TEST_SHARED | reference: a folder here that its container engine sees by the same name |
| WES_BRIDGE_TEST_USER, WES_BRIDGE_TEST_PASSWORD | for HTTP Basic, if it asks for it |
| WES_BRIDGE_TEST_HTTP | what this machine is called by what fetches inputs there (default 127.0.0.1) |

It needs an image called docker.io/library/alpine:latest, or to run plain processes.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.federation.fake_calycopis import FakeCalycopis
from tests.node.conftest import NodeProcess
from tests.service.conftest import Service

IMAGE = "docker.io/library/alpine:latest"
HERE = Path(__file__).parent
PATIENCE = 400
"""Seconds for a run: some brokers start a container once a minute."""
OTHER = os.environ.get("WES_BRIDGE_TEST_BROKER")
WEB = os.environ.get("WES_BRIDGE_TEST_HTTP", "127.0.0.1")


def other_broker(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """The named broker's configuration, and the workspace it needs."""
    if not OTHER:
        pytest.skip("no other broker: WES_BRIDGE_TEST_BROKER names none")
    dialect = os.environ.get("WES_BRIDGE_TEST_DIALECT", "native")
    broker: dict[str, Any] = {"name": "other", "url": OTHER, "dialect": dialect}
    user = os.environ.get("WES_BRIDGE_TEST_USER")
    if user:
        (folder / "password").write_text(os.environ.get("WES_BRIDGE_TEST_PASSWORD", ""))
        broker["credentials"] = {"file": str(folder / "password"), "username": user}
    shared = os.environ.get("WES_BRIDGE_TEST_SHARED")
    if not shared:
        assert dialect == "native", "WES_BRIDGE_TEST_SHARED must name a folder that the broker sees too"
        return broker, None
    broker["shared"] = {shared: shared}
    return broker, Path(shared) / f"workspace-{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module", params=["own node", "fake of the Java broker", "other broker"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose only broker is the one to try."""
    folder = tmp_path_factory.mktemp("interop")
    settings: dict[str, Any] = {
        "nodes": [],
        "engine": {"default_image": IMAGE, "offer_deadline": 30},
        "fetch": {"private_hosts": ["127.0.0.0/8", WEB]},
    }
    node, fake = None, None
    if request.param == "own node":
        config = {
            "name": "own",
            "platforms": ["process"],
            "cores": 4,
            "memory_gib": 8,
            "fetch": settings["fetch"],
        }
        node = NodeProcess(folder / "node", config, ("--end-sessions-on-exit",)).start()
        settings["brokers"] = [{"name": "own", "url": node.url}]
    elif request.param == "other broker":
        broker, workspace = other_broker(folder)
        settings["brokers"] = [broker]
        if workspace:
            settings["workspace"] = str(workspace)
    else:
        fake = FakeCalycopis(folder / "volumes", tick=0.5)
        shared = {str(folder): str(folder)}
        settings["brokers"] = [{"name": "fake", "url": fake.url, "dialect": "reference", "shared": shared}]
    started = Service(folder / "state", settings)
    yield started
    started.stop()
    if node:
        node.stop()
    if fake:
        fake.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A web site with ``table.csv``, that what stages inputs can reach."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return

    folder = tmp_path_factory.mktemp("site")
    (folder / "table.csv").write_text("1\n2\n3\n")
    address = "127.0.0.1" if WEB == "127.0.0.1" else "0.0.0.0"
    server = ThreadingHTTPServer((address, 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{WEB}:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(service: Service, workflow: str | Path, params: Any = None, **options: Any) -> dict[str, Any]:
    """Submit and wait; the run's log, with its tasks by name in ``tasks``."""
    run_id = service.client.submit(workflow, params, **options)
    service.client.wait(run_id, timeout=PATIENCE)
    log = service.client.run(run_id)
    log["tasks"] = tasks(log)
    return log


def tasks(log: dict[str, Any]) -> dict[str, dict[str, Any]]:
    answer = requests.get(log["task_logs_url"], timeout=60).json()
    return {task["name"]: task for task in answer["task_logs"]}


def text(url: str) -> str:
    answer = requests.get(url, timeout=60)
    answer.raise_for_status()
    return answer.text


def tool(folder: Path, script: str, more: str = "") -> Path:
    """A tool that runs a script, in a container where there are any."""
    path = folder / "tool.cwl"
    path.write_text(
        f"cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: [sh, -c, '{script}']\n"
        f"hints: {{DockerRequirement: {{dockerPull: '{IMAGE}'}}}}\ninputs: {{}}\n"
        "outputs: {o: {type: 'File?', outputBinding: {glob: out.txt}}}\n" + more
    )
    return path


def test_three_kinds_of_step_give_outputs_exit_codes_and_streams(
    service: Service, site: str, tmp_path: Path
) -> None:
    words = []
    for name, word in (("a.txt", "it's"), ("b c.txt", "two  words")):
        (tmp_path / name).write_text(word + "\n")
        words.append({"class": "File", "path": str(tmp_path / name)})
    remote = {"class": "File", "location": f"{site}/table.csv"}
    log = run(service, HERE / "three.cwl", {"remote": remote, "words": words})
    assert log["state"] == "COMPLETE", log["run_log"]["system_logs"]
    report = text(log["outputs"]["report"]["location"]).split("\n")
    assert [line.strip() for line in report] == ["3", "IT'S", "TWO  WORDS", ""]
    assert text(log["outputs"]["said"]["location"]) == "table.csv\n"
    assert {name: task["exit_code"] for name, task in log["tasks"].items()} == {
        "count": 0,
        "shout[0]": 0,
        "shout[1]": 0,
        "join": 0,
    }
    assert text(log["tasks"]["shout[1]"]["stdout"]).startswith("done with /")
    assert text(log["tasks"]["shout[1]"]["stderr"]) == "no trouble\n"


def test_a_failing_command_is_told_as_such(service: Service, tmp_path: Path) -> None:
    path = tool(tmp_path, "echo half > out.txt; echo went wrong >&2; exit 3")
    log = run(service, path)
    assert log["state"] == "EXECUTOR_ERROR"
    assert "exit code 3: went wrong" in " ".join(log["run_log"]["system_logs"])
    (task,) = log["tasks"].values()
    assert task["exit_code"] == 3
    assert text(task["stderr"]) == "went wrong\n"
    assert text(log["outputs"]["o"]["location"]) == "half\n"


def test_a_time_limit_is_kept(service: Service, tmp_path: Path) -> None:
    path = tool(tmp_path, "sleep 300", "requirements: {ToolTimeLimit: {timelimit: 2}}\n")
    log = run(service, path)
    assert log["state"] == "EXECUTOR_ERROR"
    assert "time limit" in " ".join(log["run_log"]["system_logs"]).replace("-", " ")


def test_a_cancelled_run_is_cancelled(service: Service, tmp_path: Path) -> None:
    run_id = service.client.submit(tool(tmp_path, "sleep 300"), None)
    until = time.monotonic() + PATIENCE
    while not any(task["state"] == "RUNNING" for task in tasks(service.client.run(run_id)).values()):
        assert time.monotonic() < until
        time.sleep(0.3)
    service.client.cancel(run_id)
    service.client.wait(run_id, timeout=PATIENCE)
    assert service.client.run(run_id)["state"] == "CANCELED"
