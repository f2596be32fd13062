"""What its brokers speak, an aggregator finds out where its configuration says so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.aggregator.conftest import AggregatorProcess, AggregatorStarter
from tests.federation.fake_calycopis import FakeCalycopis
from tests.node.conftest import NodeProcess, Request, process


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCalycopis]:
    broker = FakeCalycopis(tmp_path_factory.mktemp("java"), tick=0.2)
    yield broker
    broker.close()


@pytest.fixture(scope="module")
def finding(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], java: FakeCalycopis
) -> AggregatorProcess:
    """It is told no dialect; one of its brokers is not there."""
    urls = {"n1": nodes[0].url, "java": java.url, "gone": "http://127.0.0.1:9"}
    return start_aggregator(brokers=[{"name": name, "url": urls[name], "dialect": "auto"} for name in urls])


def asked(site: AggregatorProcess, dialect: str | None) -> dict[str, Any]:
    headers = {} if dialect is None else {"WES-Bridge-Dialect": dialect}
    return site.ask(Request(process("true")), headers=headers)


def said(offers: dict[str, Any]) -> str:
    return " ".join(one["message"] for one in offers["meta"].get("messages") or ())


def test_a_native_request_goes_to_nodes_only(finding: AggregatorProcess, java: FakeCalycopis) -> None:
    java.requests.clear()
    offers = asked(finding, "native")
    assert [offer["meta"]["broker"] for offer in offers["offers"]] == ["n1"]
    assert java.requests == []
    assert "gone" in said(offers)  # it may be a native one: it is asked


def test_a_reference_request_goes_to_the_java_broker_only(
    finding: AggregatorProcess, java: FakeCalycopis
) -> None:
    java.requests.clear()
    offers = asked(finding, "reference")
    assert len(java.requests) == 1
    assert {offer["meta"]["broker"] for offer in offers.get("offers") or []} <= {"java"}
    assert "n1" not in said(offers)


def test_a_request_that_does_not_say_goes_to_all(finding: AggregatorProcess, java: FakeCalycopis) -> None:
    java.requests.clear()
    offers = asked(finding, None)
    assert "n1" in [offer["meta"]["broker"] for offer in offers["offers"]]
    assert len(java.requests) == 1


def test_an_aggregator_behind_it_speaks_both(
    finding: AggregatorProcess, start_aggregator: AggregatorStarter, java: FakeCalycopis
) -> None:
    outer = start_aggregator(name="outer", brokers=[{"name": "in", "url": finding.url, "dialect": "auto"}])
    java.requests.clear()
    assert [offer["meta"]["broker"] for offer in asked(outer, "native")["offers"]] == ["in/n1"]
    assert java.requests == []
    asked(outer, "reference")
    assert len(java.requests) == 1


def test_nobody_speaks_a_dialect_that_is_not_known(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess]
) -> None:
    site = start_aggregator(brokers=[{"name": "n1", "url": nodes[0].url, "dialect": "auto"}])
    offers = asked(site, "klingon")
    assert (offers["result"], said(offers)) == ("NO", "no broker here speaks the dialect klingon")
