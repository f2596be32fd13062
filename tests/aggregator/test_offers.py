"""Asking: merged offers, their URLs, what was filled in, and reasons that say whose they are."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from tests.aggregator.conftest import AggregatorProcess, AggregatorStarter, check_urls
from tests.federation.fake_broker import FakeBroker
from tests.node.conftest import NodeProcess, Request, kinds, process, shell, texts
from wes_bridge.model import execution_broker as eb

ANY = Request(shell("true"))


def makers(offers: dict[str, Any]) -> list[str]:
    return [offer["meta"]["broker"] for offer in offers["offers"]]


def test_offers_of_all_brokers_in_one_set(site: AggregatorProcess, nodes: list[NodeProcess]) -> None:
    answer = site.http.post(f"{site.url}/requests", json=ANY.body)
    offers = answer.json()
    assert answer.status_code == 303
    assert (
        answer.headers["location"]
        == offers["meta"]["url"]
        == f"{site.url}/offersets/{offers['meta']['uuid']}"
    )
    assert offers["result"] == "YES"
    assert sorted(makers(offers)) == ["n1", "n2"]
    assert {offer["phase"] for offer in offers["offers"]} == {"OFFERED"}
    assert check_urls(site, offers, [*nodes]) >= 3
    eb.OfferSet.model_validate(offers)
    again = site.http.get(offers["meta"]["url"]).json()
    assert again == offers
    assert check_urls(site, again, [*nodes]) >= 3


def test_yaml_both_ways(site: AggregatorProcess) -> None:
    headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
    answer = site.http.post(f"{site.url}/requests", content=yaml.safe_dump(ANY.body), headers=headers)
    assert answer.headers["content-type"].startswith("application/yaml")
    offers = yaml.safe_load(answer.text)
    assert len(offers["offers"]) == 2
    update = "kind: uri:enum-value-update\npath: /phase\nvalue: REJECTED\n"
    answer = site.http.post(offers["offers"][0]["meta"]["url"], content=update, headers=headers)
    assert yaml.safe_load(answer.text)["phase"] == "REJECTED"


def test_a_no_has_the_reasons_of_each_broker(site: AggregatorProcess, nodes: list[NodeProcess]) -> None:
    offers = site.ask(Request(process("true"), cores={"min": 999}))
    assert offers["result"] == "NO"
    assert "offers" not in offers
    assert kinds(offers["meta"]["messages"]) == {"urn:resource-limit"}
    assert sorted(message["message"].split(":")[0] for message in offers["meta"]["messages"]) == ["n1", "n2"]
    assert site.http.get(offers["meta"]["url"]).json() == offers
    check_urls(site, offers, [*nodes])


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"executable": 3}', "application/json", 400),
        (b'{"x": NaN}', "application/json", 400),
        (b'{"x": "\\ud800"}', "application/json", 400),
        (b"[" * 50_000, "application/json", 400),
        (b"x: !!binary aGFsbG8=", "application/yaml", 400),
        (b"x: .inf", "application/yaml", 400),
        (b"a: &a [x]\nb: *a", "application/yaml", 400),
        (b"<x/>", "application/xml", 415),
    ],
)
def test_bad_bodies(site: AggregatorProcess, content: bytes, kind: str, status: int) -> None:
    for path in ("requests", "direct"):
        answer = site.http.post(f"{site.url}/{path}", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status, answer.text
        assert answer.json()["message"]


def test_what_is_not_there(site: AggregatorProcess) -> None:
    for path in (
        f"offersets/{uuid4()}",
        f"sessions/{uuid4()}",
        f"streams/{uuid4()}/stdout",
        f"links/{uuid4()}",
    ):
        assert site.http.get(f"{site.url}/{path}").status_code == 404
    for path in ("offersets/x", "sessions/x", "streams/x/stdout", "links/x"):
        assert site.http.get(f"{site.url}/{path}").status_code == 400
    assert site.http.post(f"{site.url}/sessions/{uuid4()}", json={}).status_code == 404
    assert site.http.delete(f"{site.url}/requests").status_code == 405
    assert site.http.get(f"{site.url}/health").json() == {
        "status": "ok",
        "name": "site",
        "brokers": ["n1", "n2"],
    }


def test_brokers_that_are_away_lie_or_are_slow(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], fake: FakeBroker
) -> None:
    away = "http://127.0.0.1:9"
    slow = FakeBroker()
    slow.delay = 20
    site = start_aggregator(nodes[0], fake, away, slow, deadline=2)
    for raw, words in [
        ((200, b"<html>"), "b1 sent something that is not JSON"),
        ((200, b"[" * 10_000), "b1 sent something that is not JSON"),
        ((200, b"[]"), "b1 sent something that is not a valid OfferSet"),
        ((303, b""), "b1 answered with a redirect that does not lead to an offer set of its own"),
        ((307, b""), "b1 answered 307, a redirect to somewhere else"),
        ((500, f"oops at {fake.url}/x".encode()), "b1 answered 500: oops at b1/x"),
        ((401, b'{"message": "who are you?"}'), "b1 answered 401: who are you?"),
        ((303, b'{"result": "YES"}'), "b1 said YES, but made no offer"),
        ((303, b'{"result": "YES", "offers": [{"phase": "OFFERED"}]}'), "b1 said YES, but made no offer"),
        ((303, b'{"result": "NO"}'), "b1: no, and no reason given"),
    ]:
        fake.raw = raw
        started = time.monotonic()
        offers = site.ask(ANY)
        assert time.monotonic() - started < 18
        assert makers(offers) == ["n1"]
        assert words in texts(offers), texts(offers)
        assert "b2 cannot be reached (connection refused)" in texts(offers)
        assert "b3 did not answer within 2 s" in texts(offers)
        check_urls(site, offers, [nodes[0], fake, slow])
    deadline = time.monotonic() + 60
    while "REJECTED" not in slow.updates:  # its offers came too late, and hold a place there
        assert time.monotonic() < deadline
        time.sleep(0.1)
    slow.close()


def test_only_the_best_are_passed_on(start_aggregator: AggregatorStarter) -> None:
    fakes = [FakeBroker() for _ in range(3)]
    for fake, start in zip(
        fakes, ("2031-01-01T00:00:00Z", "2029-01-01T00:00:00Z", "2030-01-01T00:00:00Z"), strict=True
    ):
        fake.start = start
    site = start_aggregator(*fakes, offers=2)
    offers = site.ask(ANY)
    assert makers(offers) == ["b1", "b2"]
    deadline = time.monotonic() + 60
    while fakes[0].updates != ["REJECTED"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert fakes[1].updates == []
    for fake in fakes:
        fake.close()


def test_unknown_fields_and_links_are_passed_on(
    start_aggregator: AggregatorStarter, fake: FakeBroker
) -> None:
    offer = fake.session("OFFERED")
    offer["meta"]["messages"] = [
        {
            "message": f"see {fake.url}/sessions/1 and {fake.url}/help.",
            "values": {"where": f"{fake.url}/help"},
        }
    ]
    offer["executable"] |= {
        "meta": {"url": f"{fake.url}/sessions/1/executable"},
        "command": ["curl", f"{fake.url}/mine"],
        "novel": {"deep": [f"{fake.url}/novel?x=1", 3.5, None]},
    }
    offer["data"] = [{"kind": eb.SIMPLE_DATA, "location": f"{fake.url}/client's own"}]
    body = {
        "kind": eb.OFFERSET,
        "meta": {"url": f"{fake.url}/offersets/7"},
        "result": "YES",
        "offers": [offer],
    }
    fake.raw = (303, json.dumps(body).encode())
    site = start_aggregator(fake)
    told = site.offer({"executable": {"kind": eb.PROCESS}, "something": {"new": [1]}})
    assert fake.requests[0]["something"] == {"new": [1]}
    assert told["executable"]["command"] == ["curl", f"{fake.url}/mine"]  # the client's, as it was
    assert told["data"][0]["location"] == f"{fake.url}/client's own"
    novel = told["executable"]["novel"]["deep"]
    assert novel[1:] == [3.5, None]
    del told["executable"]["command"], told["data"]
    assert check_urls(site, told, [fake]) == 6
    site.kill()
    site.start()
    answer = site.http.get(novel[0]).json()  # the fake answers any GET with a session
    assert check_urls(site, answer, [fake]) >= 1


def test_what_the_request_leaves_open_is_filled_in(
    start_aggregator: AggregatorStarter, fake: FakeBroker, tmp_path: Path
) -> None:
    (tmp_path / "words.txt").write_text("a copy")
    site = start_aggregator(
        fake,
        images={"python:3": {"digest": "sha256:12", "locations": ["quay.example.org/python:3"]}},
        data=[{"prefix": "skao:", "replicas": [{"url": f"{tmp_path.as_uri()}/"}]}],
        defaults={"cores": 2, "memory_gib": 3, "duration": "PT7M"},
    )
    request = {
        "executable": {"kind": eb.DOCKER_CONTAINER, "image": {"locations": ["python:3"]}},
        "data": [{"kind": eb.SIMPLE_DATA, "location": "skao:words.txt"}],
    }
    offer = site.offer(request)
    sent = fake.requests[0]
    assert sent["executable"]["image"] == {"locations": ["quay.example.org/python:3"], "digest": "sha256:12"}
    assert sent["data"][0]["location"] == f"{tmp_path.as_uri()}/words.txt"
    assert sent["compute"] == {"kind": eb.SIMPLE_COMPUTE, "cores": {"min": 2}, "memory": {"min": 3}}
    assert sent["schedule"]["requested"] == {"duration": "PT7M"}
    told = [message["message"] for message in offer["meta"]["messages"]]
    assert len(told) == 6
    assert {message["level"] for message in offer["meta"]["messages"]} == {"INFO"}
    assert any("skao:words.txt" in text for text in told)
    assert site.get(offer)["meta"]["messages"] == offer["meta"]["messages"]  # still said when it runs


def test_an_aggregator_behind_an_aggregator(
    start_aggregator: AggregatorStarter, site: AggregatorProcess, nodes: list[NodeProcess], start_node: Any
) -> None:
    third = start_node(name="n3", sandbox="none")
    outer = start_aggregator(site, third, "http://127.0.0.1:9", name="federation")
    offers = outer.ask(ANY)
    assert sorted(makers(offers)) == ["n3", "site/n1", "site/n2"]
    assert check_urls(outer, offers, [site, third, *nodes]) >= 4
    (offer,) = [offer for offer in offers["offers"] if offer["meta"]["broker"] == "site/n2"]
    session = outer.end(outer.update(offer, "ACCEPTED"))
    assert session["phase"] == "COMPLETED"
    assert session["meta"]["broker"] == "site/n2"
    assert check_urls(outer, session, [site, third, *nodes]) >= 3
    now = {
        offer["meta"]["broker"]: offer["phase"]
        for offer in outer.http.get(offers["meta"]["url"]).json()["offers"]
    }
    deadline = time.monotonic() + 60
    while now != {"n3": "REJECTED", "site/n1": "REJECTED", "site/n2": "COMPLETED"}:
        assert time.monotonic() < deadline, now
        told = outer.http.get(offers["meta"]["url"]).json()
        now = {offer["meta"]["broker"]: offer["phase"] for offer in told["offers"]}
    refused = outer.refused(Request(process("true"), cores={"min": 999}))
    assert {
        ": ".join(message["message"].split(": ")[:2]) for message in refused if "site" in message["message"]
    } == {
        "site: n1",
        "site: n2",
    }


def test_a_slow_broker_behind_the_inner_one_does_not_cost_the_others(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], fake: FakeBroker
) -> None:
    fake.delay = 60
    inner = start_aggregator(nodes[0], fake, name="inner", deadline=60)
    outer = start_aggregator(inner, name="outer", deadline=20)
    offers = outer.ask(ANY)
    assert makers(offers) == ["inner/n1"]


def test_a_circle_is_refused(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], unused_port: int
) -> None:
    first = start_aggregator(nodes[0], f"http://127.0.0.1:{unused_port}", name="first", deadline=30)
    second = start_aggregator(nodes[1], first, name="second", port=unused_port, deadline=30)
    offers = second.ask(ANY)
    assert sorted(makers(offers)) == ["first/n1", "n2"]
    refused = second.refused(Request(process("true"), cores={"min": 999}))
    (circle,) = [message for message in refused if message["kind"] == "urn:wes-bridge:loop"]
    assert circle["message"].startswith("first: b1: this request has been here before (second -> first)")
    via = ", ".join(f"1.1 wes-bridge-{number:012x} (a{number})" for number in range(8))
    answer = second.http.post(f"{second.url}/requests", json=ANY.body, headers={"Via": via}).json()
    assert answer["result"] == "NO"
    assert "has come through 8 aggregators" in texts(answer)


@pytest.fixture
def unused_port() -> int:
    from wes_bridge.cli.ports import free_port  # noqa: PLC0415

    return free_port("127.0.0.1")
