"""Session ids are no capability: at a node and at an aggregator, what somebody made is theirs only."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from tests.auth.callers import PEOPLE, acting, believing, header
from tests.auth.serving import served
from tests.node.conftest import Request, shell
from tests.waiting import until
from wes_bridge.aggregator.server import create_app as create_aggregator
from wes_bridge.auth.acting import HEADER, may_see, on_behalf_of, owner_key, person_of
from wes_bridge.auth.principal import LOCAL, Principal
from wes_bridge.config import AggregatorConfig, NodeConfig
from wes_bridge.federation.client import Broker, SessionGoneError, http_session
from wes_bridge.model.execution_broker import ExecutionRequest
from wes_bridge.node.server import create_app as create_node
from wes_bridge.store.database import Database, migrate
from wes_bridge.store.node_sessions import NODE, get_session

CANARY = "the-canary-of-alice"
SLEEPS = Request(shell(f"echo {CANARY}; sleep 300")).body
QUICK = Request(shell(f"echo {CANARY}")).body


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A node that several people use."""
    config = NodeConfig.model_validate({"name": "n1", "sandbox": "none", "cores": 8})
    state = tmp_path_factory.mktemp("node")
    with served(believing(create_node(config, state, end_sessions=True))) as url:
        yield url


@pytest.fixture(scope="module")
def site(node: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An aggregator before it that several people use."""
    config = AggregatorConfig.model_validate({"name": "site", "brokers": [{"name": "n1", "url": node}]})
    with served(believing(create_aggregator(config, tmp_path_factory.mktemp("site")))) as url:
        yield url


@pytest.fixture(params=["node", "site"])
def server(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def ask(server: str, who: str, method: str, path: str, **options: Any) -> httpx.Response:
    headers = header(who) | options.pop("headers", {})
    return httpx.request(method, server + path, headers=headers, timeout=60, **options)


def direct(server: str, who: str, body: dict[str, Any] = SLEEPS) -> str:
    answer = ask(server, who, "POST", "/direct", json=body)
    assert answer.status_code == 303, answer.text
    session: str = answer.json()["meta"]["uuid"]
    return session


def phase(value: str) -> dict[str, str]:
    return {"kind": "uri:enum-value-update", "path": "/phase", "value": value}


def places(offerset: str, session: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        ("GET", f"/sessions/{session}", {}),
        ("GET", f"/sessions/{session}", {"headers": {"Prefer": "wait=1"}}),
        ("POST", f"/sessions/{session}", {"json": phase("CANCELLED")}),
        ("POST", f"/sessions/{session}", {"json": phase("ACCEPTED")}),
        ("GET", f"/streams/{session}/stdout", {}),
        ("GET", f"/streams/{session}/nothing", {}),
        ("GET", f"/offersets/{offerset}", {}),
    ]


def test_others_are_answered_as_if_it_were_not_there(server: str) -> None:
    offers = ask(server, "alice", "POST", "/requests", json=SLEEPS).json()
    offerset, session = offers["meta"]["uuid"], offers["offers"][0]["meta"]["uuid"]
    assert ask(server, "alice", "POST", f"/sessions/{session}", json=phase("ACCEPTED")).status_code == 200
    until(lambda: CANARY in ask(server, "alice", "GET", f"/streams/{session}/stdout").text)
    unknown = str(uuid.uuid4())
    nowhere = places(unknown, unknown)
    for (method, path, options), (_, other, _) in zip(places(offerset, session), nowhere, strict=True):
        for who in ("bob", "mallory"):
            theirs = ask(server, who, method, path, **options)
            nobodys = ask(server, who, method, other, **options)
            assert theirs.status_code == nobodys.status_code == 404, (path, theirs.text)
            assert theirs.text == nobodys.text.replace(unknown, path.split("/")[2])
            assert CANARY not in theirs.text
    assert ask(server, "alice", "GET", f"/sessions/{session}").json()["phase"] in ("AVAILABLE", "RUNNING")
    assert ask(server, "root", "GET", f"/sessions/{session}").status_code == 200
    ended = ask(server, "alice", "POST", f"/sessions/{session}", json=phase("CANCELLED"))
    assert ended.status_code == 200
    until(lambda: ask(server, "alice", "GET", f"/sessions/{session}").json()["phase"] == "CANCELLED")


def test_offers_are_for_whoever_asked(server: str) -> None:
    offers = ask(server, "alice", "POST", "/requests", json=QUICK).json()
    session = offers["offers"][0]["meta"]["uuid"]
    assert ask(server, "mallory", "POST", f"/sessions/{session}", json=phase("ACCEPTED")).status_code == 404
    assert ask(server, "alice", "GET", f"/sessions/{session}").json()["phase"] == "OFFERED"


def test_bookings_of_others_are_busy_time(node: str) -> None:
    session = direct(node, "alice")
    try:
        own = ask(node, "alice", "GET", "/bookings").json()
        assert session in [booking.get("session") for booking in own]
        seen = ask(node, "mallory", "GET", "/bookings")
        assert len(seen.json()) == len(own)
        assert session not in seen.text
        assert all({"session", "name"}.isdisjoint(booking) and booking["cores"] for booking in seen.json())
        assert session in ask(node, "root", "GET", "/bookings").text
    finally:
        ask(node, "alice", "POST", f"/sessions/{session}", json=phase("CANCELLED"))


def test_a_service_acts_for_one_user_at_a_time(server: str) -> None:
    """Its sessions for alice are not there when it asks for bob, nor when alice asks without it."""

    async def work() -> None:
        async with http_session() as http:
            broker = Broker("b", server, http)
            request = ExecutionRequest.model_validate(QUICK)
            with on_behalf_of("https://issuer/#Ålice \n%"):
                offers = await broker.request_offers(request, 20)
                url = str((offers.offers or [])[0].meta.url)
                await broker.accept(url, 20)
            with on_behalf_of("bob"), pytest.raises(SessionGoneError):
                await broker.poll(url, None, wait=0)
            path = url.removeprefix(server)
            assert ask(server, "alice", "GET", path).status_code == 404
            assert ask(server, "root", "GET", path).status_code == 200
            with on_behalf_of("https://issuer/#Ålice \n%"):
                session, _ = await broker.poll(url, None, wait=0)
            assert session is not None

    asyncio.run(work())


def test_an_aggregator_says_for_whom_it_asks(site: str, node: str) -> None:
    session = direct(site, "bob")
    try:
        own = httpx.get(f"{node}/bookings", headers={HEADER: "bob"}).json()
        assert [booking for booking in own if "session" in booking]
        others = httpx.get(f"{node}/bookings", headers={HEADER: "alice"}).json()
        assert not [booking for booking in others if "session" in booking]
    finally:
        ask(site, "bob", "POST", f"/sessions/{session}", json=phase("CANCELLED"))


def test_what_ended_long_ago_is_still_its_owners(tmp_path: Path) -> None:
    config = NodeConfig.model_validate({"name": "n1", "sandbox": "none"})
    with served(believing(create_node(config, tmp_path, end_sessions=True))) as url:
        session = direct(url, "alice", QUICK)
        until(lambda: ask(url, "alice", "GET", f"/sessions/{session}").json()["phase"] == "COMPLETED")
    with served(believing(create_node(config, tmp_path))) as url:
        assert ask(url, "mallory", "GET", f"/sessions/{session}").status_code == 404
        assert ask(url, "mallory", "GET", f"/streams/{session}/stdout").status_code == 404
        assert CANARY in ask(url, "alice", "GET", f"/streams/{session}/stdout").text


NAMES = ["alice", "a for b", "a%20for%20b", "https://i.example/#x", "a\nb", "%", "Å", " for "]


@pytest.mark.parametrize("service", NAMES)
def test_no_two_callers_have_one_key(service: str) -> None:
    principals = [Principal(name=name) for name in NAMES] + [acting(service, name) for name in NAMES]
    keys = [owner_key(one) for one in principals]
    assert len(set(keys)) == len(principals)
    assert [person_of(key) for key in keys] == NAMES * 2
    assert [key for key in keys if may_see(principals[0], key)] == [owner_key(principals[0])]


def test_only_a_service_acts_for_others() -> None:
    pretender = Principal(name="mallory", on_behalf_of="alice")
    assert owner_key(pretender) == "mallory"
    assert not may_see(pretender, owner_key(PEOPLE["alice"]))


def test_sessions_of_before_go_on(tmp_path: Path) -> None:
    """A node's database of before sessions had owners: the service goes on with what it began."""
    path = tmp_path / "node.db"
    engine = create_engine(f"sqlite:///{path}")
    migrate(engine, "node", "0002")
    row = {"u": str(uuid.uuid4()), "n": datetime.now(UTC).timestamp()}
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO offersets VALUES (:u, :n, '{}')"), row)
        connection.execute(
            text("INSERT INTO sessions VALUES (:u, :u, 'RUNNING', :n, NULL, NULL, NULL, '{}')"), row
        )
    engine.dispose()
    database = Database(f"sqlite:///{path}", NODE)
    found = get_session(database, str(row["u"]))
    database.close()
    assert found is not None
    assert may_see(acting("wes", "alice"), found.owner)
    assert may_see(LOCAL, found.owner)
    assert not may_see(PEOPLE["mallory"], found.owner)
