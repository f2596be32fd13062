"""Nodes that share no disk, behind an aggregator: what they keep is found through it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.aggregator.conftest import AggregatorStarter, start_aggregator
from tests.apart.conftest import ONLY_WEB
from tests.apart.test_elsewhere import COPY, COUNT, MAKE, SIZE, Running, losing
from tests.apart.workflows import workflow
from tests.node.conftest import NodeProcess
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter
from wes_bridge.cli.flow import reasons

__all__ = ["start_aggregator"]


class Behind:
    """A service that knows one aggregator, and the aggregator's two nodes."""

    def __init__(self, service: Service, nodes: list[NodeProcess]) -> None:
        self.service = service
        self.nodes = nodes

    def moved(self, what: str) -> int:
        return sum(
            requests.get(f"{node.url}/status", timeout=30).json()["kept"][what]
            for node in self.nodes
            if node.process is not None
        )


@pytest.fixture(scope="module")
def behind(start_service: Starter, start_node: NodeStarter, start_aggregator: AggregatorStarter) -> Behind:
    nodes = [start_node(name=name, sandbox="none", **ONLY_WEB) for name in ("n1", "n2")]
    site = start_aggregator(*nodes)
    hosts = [node.url.partition("://")[2].rstrip("/") for node in nodes]
    brokers = [{"name": "site", "url": site.url, "shares_files": False, "hosts": hosts}]
    engine = {"bring_at_once": 1000, "lost_after": 1}
    return Behind(start_service(nodes=[], brokers=brokers, engine=engine), nodes)


def _chain(length: int) -> dict[str, Any]:
    steps: dict[str, Any] = {"s0": {"run": MAKE, "in": {}, "out": ["o"]}}
    for number in range(1, length):
        steps[f"s{number}"] = {"run": COPY, "in": {"f": f"s{number - 1}/o"}, "out": ["o"]}
    last = {"run": COUNT, "in": {"f": f"s{length - 1}/o"}, "out": ["o"]}
    return workflow({}, {"n": "File n/o"}, {**steps, "n": last})


def test_a_chain_never_passes_the_service(behind: Behind, tmp_path: Path) -> None:
    (tmp_path / "w.cwl").write_text(json.dumps(_chain(6)))
    run = behind.service.run(tmp_path / "w.cwl", {})
    assert run["state"] == "COMPLETE", list(reasons(behind.service.client, run))
    assert requests.get(run["outputs"]["n"]["location"], timeout=30).text.strip() == str(SIZE)
    # each of the six inputs was linked where it was, or went from node to node
    assert behind.moved("linked") + behind.moved("fetched") == 6 * SIZE
    assert behind.moved("served") - behind.moved("fetched") < 1000


def test_what_is_lost_with_one_of_its_nodes_is_made_again(  # the last: a node is gone then
    behind: Behind, tmp_path: Path
) -> None:
    running = Running(behind, tmp_path, losing(tmp_path))  # type: ignore[arg-type]
    running.until_done("copy")
    (lost,) = [node for node in behind.nodes if running.node("copy").endswith(node.config["name"])]
    lost.kill()
    run = running.ended()
    assert run["state"] == "COMPLETE", list(reasons(behind.service.client, run))
    assert requests.get(run["outputs"]["n"]["location"], timeout=30).text.strip() == str(SIZE)
