"""Processes that hang or are gone for a while: what they did goes on, and nothing is run twice."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest
import requests

from tests.node.conftest import NodeProcess
from tests.service.conftest import Service, Starter
from tests.service.test_taking_up import SETTINGS, Case
from tests.service.test_workers import ECHO
from tests.wes.wes_server import free_port

pytestmark = pytest.mark.slow
HANG = 2.5 * SETTINGS["engine"]["lease"]
"""Seconds: longer than two leases."""


@pytest.mark.parametrize(
    "modules",
    [
        ["wes_bridge.engine.worker"],
        ["wes_bridge.node.main"],
        ["wes_bridge.engine.worker", "wes_bridge.node.main"],
    ],
    ids=["worker", "node", "both"],
)
def test_processes_that_hang(start_service: Starter, tmp_path: Path, modules: list[str]) -> None:
    """A worker that wakes up finds its lease run out, and claims its run anew."""
    case = Case(start_service, tmp_path)
    stopped = [process for module in modules for process in case.service.children(module)]
    assert len(stopped) == len(modules)
    hang(case.service, stopped)
    case.gate.touch()
    case.check(case.service)
    assert {process.pid for process in stopped} == {
        process.pid for module in modules for process in case.service.children(module)
    }
    case.service.stop()


def test_a_node_that_is_gone_for_a_while(start_service: Starter, tmp_path: Path) -> None:
    """What it runs is waited for, what it would be asked is asked elsewhere."""
    config = {**SETTINGS["nodes"][0], "port": free_port()}
    alpha = NodeProcess(tmp_path / "alpha", {**config, "name": "alpha"}).start()
    beta = NodeProcess(tmp_path / "beta", {**config, "name": "beta", "port": free_port()})
    brokers = [
        {"name": node.config["name"], "url": f"http://127.0.0.1:{node.config['port']}", "holds": ["file:///"]}
        for node in (alpha, beta)
    ]
    engine = {"lease": 3.0, "lost_after": 120.0}
    service = start_service(nodes=[], brokers=brokers, engine=engine)
    try:
        case = Case(lambda **_: service, tmp_path)
        beta.start()
        alpha.kill()
        case.gate.touch()
        tool = tmp_path / "echo.cwl"
        tool.write_text(json.dumps(ECHO))
        other = service.client.submit(tool, {"word": "elsewhere"})
        assert service.client.wait(other, timeout=120) == "COMPLETE"
        (task,) = service.client.tasks(other)
        assert task["placement"]["node"] == "beta"
        assert service.client.status(case.run_id) == "RUNNING"
        time.sleep(HANG)
        alpha.start()
        case.check(service)
        attempts = {task["placement"]["attempt"] for task in service.client.tasks(case.run_id)}
        assert attempts == {1}
    finally:
        service.stop()
        alpha.stop()
        beta.stop()


def hang(service: Service, processes: list[psutil.Process]) -> None:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        until = time.monotonic() + HANG
        while time.monotonic() < until:  # the API answers meanwhile
            requests.get(f"{service.url}/ga4gh/wes/v1/service-info", timeout=60).raise_for_status()
            time.sleep(0.5)
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
