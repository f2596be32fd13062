"""A node fetches no private address that its site did not name, and nothing that drips holds it up."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.node.conftest import ROOT, NodeProcess, Request, Starter, shell, texts
from tests.security.hostile_web import HostileWeb, bomb, drip, hostile_web, redirect, text

CANARY = b"the canary of an internal service"


@pytest.fixture(scope="module")
def web() -> Iterator[HostileWeb]:
    head = b"HTTP/1.1 200 OK\r\n"
    ways = {
        "/secret": text(CANARY),
        "/data/map": text(b"a map"),
        "/data/away": redirect("http://127.0.0.3:1/secret"),
        "/data/name": redirect("http://localhost:1/secret"),
        "/data/drip": drip(head + b"Content-Length: 100000\r\n\r\n", b"z"),
        "/data/bomb": bomb(20),
    }
    with hostile_web(ways) as site:
        yield site


@pytest.fixture(scope="module")
def careful(start_node: Starter) -> NodeProcess:
    """A node as it comes."""
    return start_node(fetch=None)


@pytest.fixture(scope="module")
def named(start_node: Starter, web: HostileWeb) -> NodeProcess:
    """A node whose site names one private web server as a place of data, and is impatient."""
    fetch = {"timeout": 0.4, "least_rate": 1000, "max_bytes": 10**6}
    return start_node(data=["data:", "http://", f"{web.url}/data/"], fetch=fetch)


def cat(url: str) -> Request:
    return Request(shell(f"cat {ROOT}/in/x")).data(f"{ROOT}/in/x", url)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:{}",
        "[::ffff:127.0.0.1]:{}",
        "2130706433:{}",
        "127.1:{}",
        "127.0.0.1:{}\\@1.1.1.1",
        "[::1]:{}",
    ],
)
def test_a_request_for_a_private_address_is_no_offer(
    careful: NodeProcess, web: HostileWeb, host: str
) -> None:
    before = len(web.heads)
    messages = careful.refused(cat(f"http://{host.format(web.port)}/secret"))
    assert any(
        "private" in one["message"] or "URL" in one["message"] or "unusual" in one["message"]
        for one in messages
    )
    assert len(web.heads) == before


def test_a_name_of_a_private_address_fails_the_session(careful: NodeProcess, web: HostileWeb) -> None:
    before = len(web.heads)
    session = careful.run(cat(f"http://localhost:{web.port}/secret"))
    assert session["phase"] == "FAILED"
    assert "private address" in texts(session)
    assert "fetch.private_hosts" in texts(session)
    assert len(web.heads) == before


def test_outputs_are_not_sent_to_a_private_address(careful: NodeProcess, web: HostileWeb) -> None:
    before = len(web.heads)
    made = Request(shell(f"echo x > {ROOT}/out/x"))
    careful.refused(made.output(f"{web.url}/put"))
    session = careful.run(Request(shell("echo x > x")).output(f"http://localhost:{web.port}/put"))
    assert session["phase"] == "FAILED"
    assert len(web.heads) == before


def test_a_private_host_that_data_names_is_fetched(named: NodeProcess, web: HostileWeb) -> None:
    assert named.stream(named.completed(cat(f"{web.url}/data/map"))) == "a map"


@pytest.mark.parametrize("name", ["away", "name"])
def test_it_cannot_send_the_node_elsewhere(named: NodeProcess, web: HostileWeb, name: str) -> None:
    session = named.run(cat(f"{web.url}/data/{name}"))
    assert session["phase"] == "FAILED"
    assert "private address" in texts(session)


def test_what_drips_or_grows_ends(named: NodeProcess, web: HostileWeb) -> None:
    started = time.monotonic()
    session = named.run(cat(f"{web.url}/data/drip"))
    assert session["phase"] == "FAILED"
    assert "fetch.least_rate" in texts(session)
    assert time.monotonic() - started < 20
    session = named.run(cat(f"{web.url}/data/bomb"))
    assert "fetch.max_bytes" in texts(session)
