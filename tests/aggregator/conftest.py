"""A real aggregator in a process of its own, before real nodes in theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from tests.federation.fake_broker import FakeBroker
from tests.node.conftest import NodeProcess, Starter, start_node

__all__ = ["start_node"]


class AggregatorProcess(NodeProcess):
    """An aggregator and how to talk to it: as to a node."""

    kind = "aggregator"

    def start(self) -> Self:
        super().start()
        self.config["port"] = urlsplit(self.url).port  # the same when it is started again
        return self


AggregatorStarter = Callable[..., AggregatorProcess]


def brokers(*nodes: NodeProcess | FakeBroker | str) -> list[dict[str, str]]:
    """The configuration of brokers: nodes by their names, others as b0, b1, ..."""
    found = []
    for index, node in enumerate(nodes):
        name = node.config["name"] if isinstance(node, NodeProcess) else f"b{index}"
        found.append({"name": name, "url": node if isinstance(node, str) else node.url})
    return found


@pytest.fixture(scope="module")
def start_aggregator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AggregatorStarter]:
    """Starts aggregators before some brokers; they are stopped at the end of the module."""
    started: list[AggregatorProcess] = []

    def start(*nodes: NodeProcess | FakeBroker | str, **config: Any) -> AggregatorProcess:
        settings = {"name": "site", "brokers": brokers(*nodes), "deadline": 20, **config}
        aggregator = AggregatorProcess(tmp_path_factory.mktemp("aggregator"), settings)
        started.append(aggregator)
        return aggregator.start()

    yield start
    for aggregator in started:
        aggregator.stop()


@pytest.fixture(scope="module")
def nodes(start_node: Starter) -> list[NodeProcess]:
    """Two nodes."""
    return [start_node(name=name, sandbox="none") for name in ("n1", "n2")]


@pytest.fixture(scope="module")
def site(start_aggregator: AggregatorStarter, nodes: list[NodeProcess]) -> AggregatorProcess:
    """An aggregator before both."""
    return start_aggregator(*nodes)


@pytest.fixture
def fake() -> Iterator[FakeBroker]:
    """A broker that does as it is told, also nonsense."""
    broker = FakeBroker()
    yield broker
    broker.close()


def strings(value: Any) -> Iterator[str]:
    """Every string in some JSON, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def check_urls(at: NodeProcess, answer: Any, behind: list[NodeProcess | FakeBroker], base: str = "") -> int:
    """Check that an answer leads nowhere but to the aggregator; returns how many URLs it has.

    Args:
        at: the aggregator.
        answer: JSON.
        behind: none of their addresses may be in it.
        base: what the aggregator is called; default: its own URL.
    """
    base = base or at.url
    found = 0
    ports = [other.url.rpartition(":")[2] for other in behind]
    for text in strings(answer):
        for port in ports:
            assert not re.search(rf":{port}\b", text), text
        for url in re.findall(re.escape(base) + r"[^\s\"',]*", text):
            found += 1
            got = at.http.get(url.rstrip("."))
            assert got.status_code in (200, 416), (url, got.status_code, got.text)
    return found
