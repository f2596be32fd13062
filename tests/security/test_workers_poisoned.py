"""A run that its workers die of: it is given up after a few, and no other run is blamed for it."""

from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import Service, Starter, start_service  # noqa: F401
from tests.service.test_expressions import burning, hostile
from tests.service.test_runs import ECHO, shell
from tests.waiting import until
from wes_bridge.engine.deaths import AtWork

DEATHS = 3


@pytest.fixture
def service(start_service: Starter) -> Service:  # noqa: F811
    return start_service(engine={"expression_timeout": 600, "give_up_after": DEATHS})


def test_a_run_that_kills_its_workers_is_given_up(service: Service, tmp_path: Path) -> None:
    (tmp_path / "waits.cwl").write_text(shell("sleep 15"))
    innocent = service.client.submit(tmp_path / "waits.cwl")
    until(lambda: service.client.status(innocent) == "RUNNING")
    poison = service.client.submit(
        hostile(tmp_path, "poison", "$('a'.repeat(1 << 26).indexOf('a'.repeat(1 << 20) + 'b'))")
    )
    for _ in range(DEATHS):
        until(lambda: is_at_work(service))
        (worker,) = service.children("wes_bridge.engine.worker")
        worker.kill()
        psutil.wait_procs([worker], timeout=30)
    assert service.client.wait(poison, timeout=60) == "SYSTEM_ERROR"
    assert f"{DEATHS} workers died" in json.dumps(service.client.run(poison)["run_log"]["system_logs"])
    (tmp_path / "echo.cwl").write_text(ECHO)
    assert service.run(tmp_path / "echo.cwl", {"word": "on"})["state"] == "COMPLETE"
    assert service.client.wait(innocent, timeout=60) == "COMPLETE"
    assert len(list((service.state / "at-work").iterdir())) == 1  # of the worker that lives


def is_at_work(service: Service) -> bool:
    return bool(service.children("wes_bridge.engine.worker")) and bool(burning(service))


def test_notes_of_a_worker_that_ends_in_order_go(tmp_path: Path) -> None:
    folder = tmp_path / "at-work"
    notes = AtWork(folder, "machine-1-2")
    with notes.on("run1"), notes.on("run2"):
        noted = (folder / "machine-1-2").read_text().replace("\0", " ")
        assert sorted(noted.split()) == ["run1", "run2"]
    assert not (folder / "machine-1-2").read_text().replace("\0", "").strip()
    notes.close()
    assert not list(folder.iterdir())
