"""A whole service and the web addresses of hostile runs: nothing of its own machine is fetched, drips end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security.hostile_web import HostileWeb, drip, hostile_web, text
from tests.service.conftest import Service, Starter

TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs: {x: {type: File, inputBinding: {}LOAD}}
outputs: {o: stdout}
"""
INNER = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: 'true'\ninputs: []\noutputs: []\n"
WORKFLOW = """\
cwlVersion: v1.2
class: Workflow
inputs: []
outputs: []
steps: {a: {run: "URL", in: [], out: []}}
"""


@pytest.fixture(scope="module")
def web() -> Iterator[HostileWeb]:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    ways = {"/tool.cwl": text(INNER.encode()), "/x": text(b"the canary"), "/drip": drip(head, b"#", 0.05)}
    with hostile_web(ways) as site:
        yield site


@pytest.fixture(scope="module")
def careful(start_service: Starter) -> Service:
    """A service as it comes."""
    return start_service()


def said(run: dict[str, Any], service: Service) -> str:
    return json.dumps([run, list(service.client.tasks(run["run_id"]))])


@pytest.mark.parametrize("load", ["", ", loadContents: true"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_inputs_of_this_machine_are_not_fetched(
    careful: Service, web: HostileWeb, tmp_path: Path, host: str, load: str
) -> None:
    before = len(web.heads)
    (tmp_path / "t.cwl").write_text(TOOL.replace("LOAD", load))
    where = {"class": "File", "location": f"http://{host}:{web.port}/x"}
    run = careful.run(tmp_path / "t.cwl", {"x": where})
    assert run["state"] in ("EXECUTOR_ERROR", "SYSTEM_ERROR")
    assert "private address" in said(run, careful)
    assert "fetch.private_hosts" in said(run, careful)
    assert len(web.heads) == before


def test_documents_of_this_machine_are_not_fetched(careful: Service, web: HostileWeb, tmp_path: Path) -> None:
    before = len(web.heads)
    (tmp_path / "w.cwl").write_text(WORKFLOW.replace("URL", f"{web.url}/tool.cwl"))
    for run in (careful.run(tmp_path / "w.cwl"), careful.run(f"{web.url}/tool.cwl")):
        assert run["state"] in ("EXECUTOR_ERROR", "SYSTEM_ERROR")
        assert "private address" in said(run, careful), said(run, careful)
    assert len(web.heads) == before


def test_eight_dripping_documents_hold_nobody_up(
    start_service: Starter, web: HostileWeb, tmp_path: Path
) -> None:
    fetch = {"private_hosts": ["127.0.0.0/8"], "timeout": 2, "least_rate": 1000}
    service = start_service(fetch=fetch)
    (tmp_path / "t.cwl").write_text(INNER)
    service.run(tmp_path / "t.cwl")
    started = time.monotonic()
    dripping = [service.client.submit(f"{web.url}/drip?{number}") for number in range(8)]
    assert service.run(tmp_path / "t.cwl")["state"] == "COMPLETE"
    for run_id in dripping:
        service.client.wait(run_id, timeout=60)
        assert "fetch.least_rate" in json.dumps(service.client.run(run_id))
    assert time.monotonic() - started < 40


def test_inputs_at_an_allowed_host_are_fetched_by_engine_and_node(
    service: Service, web: HostileWeb, tmp_path: Path
) -> None:
    (tmp_path / "t.cwl").write_text(TOOL.replace("LOAD", ", loadContents: true"))
    run = service.run(tmp_path / "t.cwl", {"x": {"class": "File", "location": f"{web.url}/x"}})
    assert run["state"] == "COMPLETE", said(run, service)
