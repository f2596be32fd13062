"""Processes that hang for a while, as when a laptop is shut: they go on, and nothing is run twice."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.service.test_taking_up import SETTINGS, Case

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


def hang(service: Service, processes: list[psutil.Process]) -> None:
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        until = time.monotonic() + HANG
        while time.monotonic() < until:  # the API answers meanwhile
            requests.get(f"{service.url}/ga4gh/wes/v1/service-info", timeout=30).raise_for_status()
            time.sleep(0.5)
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
