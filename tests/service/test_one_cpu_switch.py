"""Busy processes keep their threads on one CPU, and do not where that is switched off."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests

from tests.service.conftest import Service, Starter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
        reason="this machine lets us use one CPU only",
    ),
]
WIDE = {
    "cwlVersion": "v1.2",
    "class": "Workflow",
    "requirements": {"ScatterFeatureRequirement": {}, "InlineJavascriptRequirement": {}},
    "inputs": {"xs": "int[]"},
    "outputs": {"ys": {"type": "int[]", "outputSource": "wide/y"}},
    "steps": {
        "wide": {
            "scatter": "x",
            "in": {"x": "xs"},
            "out": ["y"],
            "run": {
                "class": "ExpressionTool",
                "inputs": {"x": "int"},
                "outputs": {"y": "int"},
                "expression": "${ return {y: inputs.x}; }",
            },
        }
    },
}


def affinities(
    process: psutil.Process, busy: Callable[[], object], enough: float, until: int = 0
) -> set[int]:
    """On how many CPUs a process was seen allowed while it was busy for so many seconds of processor time."""
    seen: set[int] = set()
    begun = _used(process)
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            busy()

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    try:
        end = time.monotonic() + 60
        while _used(process) - begun < enough and until not in seen:
            assert time.monotonic() < end, "it did not get to do anything"
            seen.add(len(process.cpu_affinity()))
            time.sleep(0.01)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    return seen


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def node_and_worker(service: Service, folder: Path) -> list[tuple[psutil.Process, Callable[[], object]]]:
    """The two, and what makes each busy."""
    (node,) = service.children("wes_bridge.node.main")
    (worker,) = service.children("wes_bridge.engine.worker")
    (port,) = {c.laddr.port for c in node.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    (folder / "wide.cwl").write_text(json.dumps(WIDE))
    return [
        (node, lambda: requests.get(f"http://127.0.0.1:{port}/health", timeout=60)),
        (worker, lambda: service.run(folder / "wide.cwl", {"xs": list(range(200))})),
    ]


def test_switched_off_for_a_service(start_service: Starter, tmp_path: Path) -> None:
    service = start_service(env={"WES_BRIDGE_ONE_CPU": "false"})
    for process, busy in node_and_worker(service, tmp_path):
        assert affinities(process, busy, 1.2) == {len(os.sched_getaffinity(0))}


def test_switched_off_for_one_node(start_service: Starter, tmp_path: Path) -> None:
    service = start_service(nodes=[{"name": "here", "platforms": ["process"], "one_cpu": False}])
    (node, ask), (worker, run) = node_and_worker(service, tmp_path)
    assert affinities(node, ask, 1.2) == {len(os.sched_getaffinity(0))}
    assert 1 in affinities(worker, run, 30, until=1)
