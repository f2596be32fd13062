"""Maintenance: drained nodes, and brokers away behind an aggregator. Runs wait for them; health says so."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.conftest import AggregatorProcess, AggregatorStarter
from tests.federation.fake_broker import FakeBroker
from tests.node.conftest import NodeProcess
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, start_service
from tests.waiting import until
from wes_bridge.cli.ports import free_port

__all__ = ["start_service"]

TOOL = {"cwlVersion": "v1.2", "class": "CommandLineTool", "baseCommand": "true", "inputs": {}, "outputs": {}}


def health(at: NodeProcess) -> tuple[int, dict[str, Any]]:
    answer = at.http.get(f"{at.url}/health")
    return answer.status_code, answer.json()


def test_health_names_the_brokers_that_are_away(
    start_aggregator: AggregatorStarter, start_node: NodeStarter
) -> None:
    node = start_node(name="n1", sandbox="none")
    site = start_aggregator(node, "http://127.0.0.1:9")
    assert health(site) == (
        200,
        {
            "status": "degraded",
            "name": "site",
            "brokers": ["n1", "b1"],
            "away": {"b1": "b1 cannot be reached (connection refused)"},
        },
    )
    node.http.post(f"{node.url}/admin/drain", json={})
    until(lambda: "n1" in health(site)[1]["away"])  # a look is kept for a second
    outer = start_aggregator(site, name="outer")
    status, told = health(outer)
    assert (status, told["status"]) == (503, "failing")
    assert told["away"] == {"site": "site is there, but none of its brokers: n1, b1"}
    _, told = health(site)
    assert told["away"]["n1"] == "n1 is being drained"
    node.http.post(f"{node.url}/admin/open")


def test_a_broker_without_a_health_page_is_there(
    start_aggregator: AggregatorStarter, fake: FakeBroker
) -> None:
    fake.forget = True  # every GET is answered 404
    assert health(start_aggregator(fake)) == (200, {"status": "ok", "name": "site", "brokers": ["b0"]})


def test_one_that_answers_503_is_not(start_aggregator: AggregatorStarter, fake: FakeBroker) -> None:
    fake.raw_session = (503, b"maintenance")
    status, told = health(start_aggregator(fake))
    assert (status, told["away"]) == (503, {"b0": "b0 answered 503: maintenance"})


def test_health_ends_in_a_circle(start_aggregator: AggregatorStarter, fake: FakeBroker) -> None:
    port = free_port("127.0.0.1")
    first = start_aggregator(f"http://127.0.0.1:{port}", name="first")
    second = start_aggregator(first, name="second", port=port)
    assert health(first)[0] == health(second)[0] == 200


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "tool.cwl"
    path.write_text(json.dumps(TOOL))
    return path


def run_while(service: Service, tool: Path, begin: Any) -> str:
    """Submit, do something a little later, and return the state at the end."""
    run_id = service.client.submit(tool)
    timer = threading.Timer(3.0, begin)
    timer.start()
    service.client.wait(run_id, timeout=120)
    timer.join()
    return str(service.client.run(run_id)["state"])


def test_a_run_waits_for_a_node_that_is_drained(
    start_node: NodeStarter, start_service: Any, tool: Path
) -> None:
    node = start_node(name="n1", sandbox="none")
    service = start_service(nodes=[], brokers=[{"name": "n1", "url": node.url}])
    node.http.post(f"{node.url}/admin/drain", json={})
    assert run_while(service, tool, lambda: node.http.post(f"{node.url}/admin/open")) == "COMPLETE"


def test_a_run_waits_for_the_brokers_behind_an_aggregator(
    start_aggregator: AggregatorStarter, start_node: NodeStarter, start_service: Any, tool: Path
) -> None:
    port = free_port("127.0.0.1")
    site: AggregatorProcess = start_aggregator(f"http://127.0.0.1:{port}")
    service = start_service(nodes=[], brokers=[{"name": "site", "url": site.url}])
    assert run_while(service, tool, lambda: start_node(name="n1", sandbox="none", port=port)) == "COMPLETE"
