"""A service and nodes that share nothing but HTTP: no node may read or write a file of the service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import NewDatabase
from tests.node.conftest import NodeProcess, start_node, starting_nodes
from tests.service.conftest import Service, start_service, starting

__all__ = ["start_node", "start_service"]
ONLY_WEB = {"data": ["http://", "data:"]}
"""What such a node takes: no ``file:`` URL at all, so a path of the service's that gets there is a NO."""


@dataclass(frozen=True)
class Sites:
    """A service and its two nodes."""

    service: Service
    nodes: tuple[NodeProcess, NodeProcess]


@pytest.fixture(scope="session")
def sites(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Sites]:
    """For all tests that do no harm to them."""
    with (
        starting_nodes(tmp_path_factory) as start_node,
        starting(tmp_path_factory, new_database) as start_service,
    ):
        nodes = start_node(name="one", **ONLY_WEB), start_node(name="two", **ONLY_WEB)
        brokers = [
            {"name": name, "url": node.url, "shares_files": False}
            for name, node in zip(("one", "two"), nodes, strict=True)
        ]
        yield Sites(start_service(nodes=[], brokers=brokers), nodes)
