"""Clocks that are set: nothing that runs is ended, nothing is run twice, nothing is kept waiting."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import NodeProcess, Request, process, session_kinds
from tests.postgresql import Cluster
from tests.service.conftest import LoneWorker, Starter
from tests.service.test_taking_up import SETTINGS, Case, await_true
from tests.service.test_workers import ECHO, Site

pytestmark = pytest.mark.slow
HOUR = 3600


class Clock:
    """The wall clock of processes started with ``env``; other clocks are left alone."""

    def __init__(self, folder: Path, offset: int = 0) -> None:
        libraries = [Path(os.environ["LIBFAKETIME"])] if "LIBFAKETIME" in os.environ else []
        libraries += sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        if not libraries:
            pytest.skip("no libfaketime here (Debian: apt-get install libfaketime)")
        self._file = folder / "clock"
        self.set(offset)
        self.env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: int) -> None:
        """Seconds from the true time; seen within a second or two."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+d}\n")
        new.rename(self._file)


def test_a_clock_that_is_set_forward_and_back(start_service: Starter, tmp_path: Path) -> None:
    clock = Clock(tmp_path)
    nodes = [SETTINGS["nodes"][0] | {"cores": 8, "max_running": 8}]
    case = Case(lambda **given: start_service(env=clock.env, **given | {"nodes": nodes}), tmp_path)
    await_true(lambda: len(case.lines()) == 6)
    commands = set(case.commands())
    children = {process.pid for process in case.service.children("wes_bridge.")}
    tool = tmp_path / "echo.cwl"
    tool.write_text(json.dumps(ECHO))
    for offset in (HOUR, -HOUR):
        clock.set(offset)
        time.sleep(2.5 * SETTINGS["engine"]["lease"])
        assert set(case.commands()) == commands
        run = case.service.run(tool, {"word": "now"})
        assert run["state"] == "COMPLETE"
        assert abs(_seconds(run) - time.time() - offset) < HOUR / 2, "the clock was not set"
    case.gate.touch()
    case.check(case.service)
    assert {process.pid for process in case.service.children("wes_bridge.")} == children


def test_offers_do_not_live_longer_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(tmp_path)
    with monkeypatch.context() as patch:
        for name, text in clock.env.items():
            patch.setenv(name, text)
        config = {"name": "n", "platforms": ["process"], "sandbox": "none", "offer_lifetime": 5}
        node = NodeProcess(tmp_path / "node", config).start()
    try:
        offer = node.offer(Request(process("true")))
        clock.set(-HOUR)
        assert node.end(offer, 60)["phase"] == "EXPIRED"
    finally:
        node.stop()


@pytest.mark.parametrize("offset", [HOUR, -HOUR], ids=["forward", "back"])
def test_time_limits_are_counted_when_the_clock_is_set_while_the_node_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    clock = Clock(tmp_path)
    with monkeypatch.context() as patch:
        for name, text in clock.env.items():
            patch.setenv(name, text)
        config = {"name": "n", "platforms": ["process"], "sandbox": "none", "cores": 2, "max_running": 2}
        node = NodeProcess(tmp_path / "node", config, ("--log-level=warning",)).start()
        try:
            gate = tmp_path / "gate"
            waits = f"until [ -e {gate} ]; do sleep 0.1; done"
            short = node.begin(Request(process("sh", "-c", waits, timeLimit=12)))
            long = node.begin(Request(process("sh", "-c", waits, timeLimit=600)))
            for session in (short, long):
                node.until(session, lambda now: now["phase"] == "RUNNING")
            node.kill()
            clock.set(offset)
            node.start()
            ended = node.end(short, 60)
            assert "urn:wes-bridge:time-limit" in session_kinds(ended)
            assert node.get(long)["phase"] == "RUNNING"
            gate.touch()
            assert node.end(long, 60)["phase"] == "COMPLETED"
        finally:
            node.stop()


def _seconds(run: dict[str, Any]) -> float:
    """When it ended."""
    stamp = run["run_log"]["end_time"].removesuffix("Z")
    return time.mktime(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


def test_workers_whose_clocks_differ_do_not_take_runs_from_each_other(
    start_service: Starter, postgresql: Cluster, tmp_path: Path
) -> None:
    site = Site(start_service, postgresql, tmp_path, max_runs=4)
    try:
        site.worker()
        case = Case(lambda **_: site.service, tmp_path)
        holder = site.holders()
        clock = Clock(tmp_path, HOUR)
        site.workers.append(LoneWorker(tmp_path / "ahead", site.settings, clock.env))
        until = time.monotonic() + 2.5 * SETTINGS["engine"]["lease"]
        while time.monotonic() < until:
            assert site.holders() == holder
            time.sleep(0.2)
        case.gate.touch()
        case.check(site.service)
    finally:
        for worker in site.workers:
            worker.stop()
        site.service.stop()
