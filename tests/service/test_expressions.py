"""Expressions that do harm: to nobody but their own run, and only for as long as it lives."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil

from tests.service.conftest import Service
from tests.service.test_runs import ECHO, shell

THREADS = 4
"""Of a worker, for cwltool's work."""


def hostile(folder: Path, name: str, expression: str) -> Path:
    js = {"InlineJavascriptRequirement": {}, "ShellCommandRequirement": {}}
    path = folder / f"{name}.cwl"
    path.write_text(shell(expression, requirements=js))
    return path


def burning(service: Service) -> list[psutil.Process]:
    """The processes that evaluate something long."""
    (worker,) = service.children("wes_bridge.engine.worker")
    return [
        child
        for child in worker.children()
        if "javascript/evaluator.py" in " ".join(child.cmdline()) and sum(child.cpu_times()[:2]) > 0.2
    ]


def test_a_cancelled_run_ends_its_expressions(service: Service, tmp_path: Path) -> None:
    """Though the engine does not look at the clock while it searches a text, for hours."""
    hangs = hostile(tmp_path, "hangs", "$('a'.repeat(1 << 26).indexOf('a'.repeat(1 << 20) + 'b'))")
    runs = [service.client.submit(hangs) for _ in range(THREADS)]
    end = time.monotonic() + 60
    while len(burning(service)) < THREADS:
        assert time.monotonic() < end, "the expressions do not run side by side"
        time.sleep(0.05)
    for run_id in runs:
        service.client.cancel(run_id)
    assert {service.client.wait(run_id, timeout=20) for run_id in runs} == {"CANCELED"}
    (tmp_path / "echo.cwl").write_text(ECHO)
    begun = time.monotonic()
    assert service.run(tmp_path / "echo.cwl", {"word": "on"})["state"] == "COMPLETE"
    assert time.monotonic() - begun < 20  # not after 40 s, when their time is up
    assert burning(service) == []


def test_who_claims_to_be_interrupted_fails_at_once(service: Service, tmp_path: Path) -> None:
    """Four of them once kept all threads of a worker busy for several times their limit."""
    claims = hostile(tmp_path, "claims", '${ throw new Error("interrupted"); }')
    runs = [service.client.submit(claims) for _ in range(THREADS)]
    assert {service.client.wait(run_id, timeout=20) for run_id in runs} == {"EXECUTOR_ERROR"}
    assert "Error: interrupted" in json.dumps(service.client.run(runs[0]))
