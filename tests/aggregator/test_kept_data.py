"""Outputs that nodes keep, through an aggregator: read, leased, released, and used as inputs anywhere."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.aggregator.conftest import AggregatorProcess, AggregatorStarter
from tests.node.conftest import ROOT, NodeProcess, Request, shell
from tests.node.test_data_api import keeping, listed, output


@pytest.fixture(scope="module")
def aggregator(start_aggregator: AggregatorStarter, nodes: list[NodeProcess]) -> AggregatorProcess:
    return start_aggregator(*nodes)


@pytest.fixture(scope="module")
def made(aggregator: AggregatorProcess) -> dict[str, Any]:
    return aggregator.completed(keeping("mkdir d; printf content > d/a; printf x > 'sp ace#%'"))


def _moved(nodes: list[NodeProcess], what: str) -> int:
    return sum(node.http.get(f"{node.url}/status").json()["kept"][what] for node in nodes)


def _run_at(aggregator: AggregatorProcess, name: str, request: Request) -> dict[str, Any]:
    """Run a request at the node of a name."""
    offers = aggregator.ask(request)
    assert offers["result"] == "YES", offers["meta"].get("messages")
    offer = next(offer for offer in offers["offers"] if offer["meta"]["broker"] == name)
    session = aggregator.end(aggregator.update(offer, "ACCEPTED"))
    assert session["phase"] == "COMPLETED", session["meta"].get("messages")
    return session


def test_all_addresses_are_the_aggregator_s(aggregator: AggregatorProcess, made: dict[str, Any]) -> None:
    data = output(made)
    base = f"{aggregator.url}/data/{made['meta']['uuid']}/out"
    assert (data["location"], data["kept"]["manifest"]) == (f"{base}/", base)
    assert list(listed(aggregator, base)) == ["d", "d/a", "sp ace#%"]
    assert list(listed(aggregator, f"{base}/d/")) == ["a"]


def test_files_are_passed_on_with_ranges_and_versions(
    aggregator: AggregatorProcess, made: dict[str, Any]
) -> None:
    base = output(made)["location"]
    whole = aggregator.http.get(f"{base}d/a")
    assert (whole.status_code, whole.content) == (200, b"content")
    assert whole.headers["content-disposition"] == "attachment"
    part = aggregator.http.get(f"{base}d/a", headers={"Range": "bytes=2-3"})
    assert (part.status_code, part.content) == (206, b"nt")
    seen = {"If-None-Match": whole.headers["etag"]}
    assert aggregator.http.get(f"{base}d/a", headers=seen).status_code == 304
    assert aggregator.http.head(f"{base}d/a").headers["content-length"] == "7"
    assert aggregator.http.get(f"{base}sp%20ace%23%25").content == b"x"
    for path in ("nothing", "d%2fa", "%2e%2e/x", "d/a/"):
        assert aggregator.http.get(base + path).status_code == 404


def test_a_signed_url_is_the_node_s_own(
    aggregator: AggregatorProcess, made: dict[str, Any], nodes: list[NodeProcess]
) -> None:
    answer = aggregator.http.post(f"{aggregator.url}/urls/{made['meta']['uuid']}/out", json={"path": "d/a"})
    url = answer.json()["url"]
    assert urlsplit(url).netloc in {urlsplit(node.url).netloc for node in nodes}
    assert httpx.get(url).content == b"content"


def test_leases_are_passed_on(aggregator: AggregatorProcess) -> None:
    made = aggregator.completed(keeping("echo x > a"))
    uuid = made["meta"]["uuid"]
    lease = f"{aggregator.url}/leases/{uuid}/out"
    before = aggregator.http.get(lease).json()
    assert before["session"] == uuid
    later = aggregator.http.post(lease, json={"lease": "PT5H"}).json()
    assert later["expires"] > before["expires"]
    assert aggregator.http.post(lease, json={"lease": "never"}).status_code == 400
    assert aggregator.http.delete(f"{aggregator.url}/data/{uuid}/out").status_code == 204
    assert aggregator.http.get(lease).status_code == 404
    assert aggregator.http.get(output(made)["location"]).status_code == 404


def test_the_next_step_links_at_the_same_node_and_fetches_at_the_other(
    aggregator: AggregatorProcess, made: dict[str, Any], nodes: list[NodeProcess]
) -> None:
    """The client names the output as the aggregator has told it, wherever the step will run."""
    here = made["meta"]["broker"]
    other = next(node.config["name"] for node in nodes if node.config["name"] != here)
    before = {what: _moved(nodes, what) for what in ("linked", "fetched", "served")}
    for name in (here, other):
        request = Request(shell(f"cat {ROOT}/in/d/a")).data(f"{ROOT}/in", output(made)["location"])
        assert aggregator.stream(_run_at(aggregator, name, request)) == "content"
    after = {what: _moved(nodes, what) - before[what] for what in before}
    assert after == {"linked": 8, "fetched": 8, "served": 8}
