"""A machine that goes down under a run: what ran is run again, through no fault of its own."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.service.conftest import Service, Starter
from tests.waiting import until

pytestmark = pytest.mark.slow
SETTINGS: dict[str, Any] = {
    "nodes": [{"name": "here", "platforms": ["process"]}],
    "engine": {"lease": 2.0, "offer_deadline": 10.0},
}


TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, echo ran; sleep 8]
inputs: []
stdout: said
outputs: {said: stdout}
"""


def all_of(service: Service) -> list[psutil.Process]:
    """Every process of a service, with what its keepers watch."""
    own = psutil.Process(service.process.pid)
    found = [own, *own.children(recursive=True)]
    folder = str(service.state.resolve())
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if words and words[-1].startswith(folder) and "keeper.py" in " ".join(words):
            found += [process, *process.children(recursive=True)]
    return found


def test_a_step_that_ran_is_run_again(start_service: Starter, tmp_path: Path) -> None:
    """Serve, worker, node, keeper and command end at once, as when the power fails."""
    service = start_service(**SETTINGS)
    (tmp_path / "tool.cwl").write_text(TOOL)
    run_id = service.client.submit(tmp_path / "tool.cwl")
    until(lambda: [task["state"] for task in service.client.tasks(run_id)] == ["RUNNING"], 120)
    (before,) = service.client.tasks(run_id)
    service.client.close()
    for process in {one.pid: one for one in all_of(service)}.values():
        with contextlib.suppress(ProcessLookupError):  # a sandbox ends with its keeper
            os.kill(process.pid, signal.SIGKILL)
    service.process.wait(60)
    again = Service(service.state, SETTINGS)
    try:
        again.client.wait(run_id, timeout=120)
        is_done(again, run_id, before["id"], tmp_path / "out")
    finally:
        again.stop()


def is_done(service: Service, run_id: str, task_id: str, folder: Path) -> None:
    """The run has its output, and tells of the attempt that came to nothing."""
    log = service.client.run(run_id)
    assert log["state"] == "COMPLETE", log
    service.client.download(run_id, folder)
    assert (folder / "said").read_text() == "ran\n"
    (task,) = service.client.tasks(run_id)
    assert task["id"] == task_id
