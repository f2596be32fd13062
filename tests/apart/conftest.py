"""A service and nodes that share nothing but HTTP: no node may read or write a file of the service."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.node.conftest import NodeProcess, start_node
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter, start_service

__all__ = ["start_node", "start_service"]
ONLY_WEB = {"data": ["http://", "data:"]}
"""What such a node takes: no ``file:`` URL at all, so a path of the service's that gets there is a NO."""


@dataclass(frozen=True)
class Sites:
    """A service and its two nodes."""

    service: Service
    nodes: tuple[NodeProcess, NodeProcess]


@pytest.fixture(scope="module")
def sites(start_service: Starter, start_node: NodeStarter) -> Sites:
    nodes = start_node(name="one", **ONLY_WEB), start_node(name="two", **ONLY_WEB)
    brokers = [
        {"name": name, "url": node.url, "shares_files": False}
        for name, node in zip(("one", "two"), nodes, strict=True)
    ]
    return Sites(start_service(nodes=[], brokers=brokers), nodes)
