"""Offers: what is answered, how long they stand, what becomes of siblings."""

from __future__ import annotations

import socket
import time
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import yaml

from tests.node.conftest import (
    ROOT,
    NodeProcess,
    Request,
    Starter,
    kinds,
    process,
    session_kinds,
    shell,
    texts,
)
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.units import utcnow


def test_offer_has_everything_a_client_needs(node: NodeProcess) -> None:
    request = Request(process("true"), cores={"min": 1, "max": 4}, memory={"min": 1, "max": 2})
    answer = node.http.post(f"{node.url}/requests", json=request.body)
    assert answer.status_code == 303
    offers = answer.json()
    assert answer.headers["location"] == f"{node.url}/offersets/{offers['meta']['uuid']}"
    assert offers["kind"] == eb.OFFERSET
    [offer] = offers["offers"]
    assert offer["kind"] == eb.SCHEDULED_SESSION
    assert offer["phase"] == "OFFERED"
    assert UUID(offer["meta"]["uuid"])
    assert offer["meta"]["url"] == node.at(offer)
    assert offer["meta"]["name"]
    assert datetime.fromisoformat(offer["expires"]) > utcnow() + timedelta(seconds=200)
    assert offer["compute"]["cores"] == {"min": 1, "max": 4}
    assert offer["compute"]["memory"]["max"] <= 2
    schedule = offer["compute"]["schedule"]
    start, slash, zero = schedule["available"]["start"].partition("/")
    assert (slash, zero) == ("/", "PT0S")
    assert datetime.fromisoformat(start) < utcnow() + timedelta(seconds=2)
    assert schedule["available"]["duration"] == "PT2H"
    assert schedule["preparing"]["start"] and schedule["releasing"]["start"]


def test_offers_can_be_read_again(node: NodeProcess) -> None:
    offers = node.ask(Request(process("true")))
    again = node.http.get(offers["meta"]["url"])
    assert again.status_code == 200
    assert again.json()["offers"][0]["meta"]["uuid"] == offers["offers"][0]["meta"]["uuid"]
    assert node.get(offers["offers"][0])["phase"] == "OFFERED"


def test_redirect_is_followed_by_clients_that_do(node: NodeProcess) -> None:
    answer = node.http.post(f"{node.url}/requests", json=Request(process("true")).body, follow_redirects=True)
    assert answer.status_code == 200
    assert answer.json()["result"] == "YES"


def test_urls_follow_the_host_header(start_node: Starter) -> None:
    node = start_node(authentication={"hosts": ["broker.example"]})
    answer = node.http.post(
        f"{node.url}/requests", json=Request(process("true")).body, headers={"Host": "broker.example:81"}
    )
    assert answer.headers["location"].startswith("http://broker.example:81/offersets/")
    assert answer.json()["offers"][0]["meta"]["url"].startswith("http://broker.example:81/sessions/")


def test_public_url_and_quotes(start_node: Starter) -> None:
    quotes = {
        "monetary": {"min": 1, "max": 2},
        "energy": {"min": 0.1, "max": 0.2},
        "carbon": {"min": 10, "max": 20},
        "compute_performance": {"min": 100, "max": 120},
        "io_throughput": {"min": 5, "max": 6},
    }
    node = start_node(public_url="https://node.example/broker/", quotes=quotes)
    request = Request(process("true"))
    request.body["schedule"] = {"requested": {"duration": "PT30M"}}
    offer = node.offer(request)
    assert offer["meta"]["url"].startswith("https://node.example/broker/sessions/")
    costs = {cost["type"]: (cost["min"], cost["max"]) for cost in offer["costs"]}
    assert costs == {
        eb.COST_MONETARY: (0.5, 1.0),
        eb.COST_ENERGY: (0.05, 0.1),
        eb.COST_CARBON: (5.0, 10.0),
    }
    assert {metric["type"] for metric in offer["metrics"]} == {eb.METRIC_COMPUTE, eb.METRIC_IO}
    [hourly] = offer["compute"]["costs"]
    assert (hourly["type"], hourly["min"], hourly["max"]) == (eb.COST_MONETARY, 1, 2)
    assert offer["compute"]["schedule"]["available"]["duration"] == "PT30M"


def test_unknown_fields_come_back(node: NodeProcess) -> None:
    request = Request(process("true", colour="blue"))
    request.body["compute"]["gpu"] = {"min": 0}
    offer = node.offer(request)
    assert offer["executable"]["colour"] == "blue"
    assert offer["compute"]["gpu"] == {"min": 0}


def test_yaml_both_ways(node: NodeProcess) -> None:
    body = yaml.safe_dump(Request(shell("echo from yaml")).body)
    headers = {"Content-Type": "application/yaml", "Accept": "application/yaml"}
    answer = node.http.post(f"{node.url}/requests", content=body, headers=headers)
    assert answer.status_code == 303
    assert answer.headers["content-type"].startswith("application/yaml")
    offers = yaml.safe_load(answer.text)
    assert offers["result"] in ("YES", True)
    update = "kind: uri:enum-value-update\npath: phase\nvalue: ACCEPTED\n"
    answer = node.http.post(offers["offers"][0]["meta"]["url"], content=update, headers=headers)
    assert yaml.safe_load(answer.text)["phase"] in ("ACCEPTED", "PREPARING", "RUNNING")
    session = node.end(offers["offers"][0])
    assert node.stream(session) == "from yaml\n"


@pytest.mark.parametrize(
    ("content", "kind", "status", "says"),
    [
        (b"", "application/json", 400, "no body"),
        (b"{", "application/json", 400, "JSON"),
        (b"[]", "application/json", 400, "object"),
        (b"null", "application/json", 400, ""),
        (b"a: [", "application/yaml", 400, "YAML"),
        (b"a: &x [1]\nb: *x\n", "application/yaml", 400, "aliases"),
        (b"[" * 3000, "application/yaml", 400, ""),
        (b"[" * 100_000, "application/json", 400, ""),
        (b"<x/>", "application/xml", 415, "application/xml"),
        (b"\xff\xfe", "application/yaml", 400, ""),
        (b'{"executable": 3}', "application/json", 400, "executable"),
        (b'{"executable": {"command": ["x"]}}', "application/json", 400, "executable.kind"),
        (b'{"executable": {"kind": "urn:nonsense"}}', "application/json", 400, "urn:nonsense"),
        (b'{"compute": {"cores": {"min": 1}}}', "application/json", 400, "compute.kind"),
        (b'{"data": [{"location": "data:,x"}]}', "application/json", 400, "data[0].kind"),
        (b'{"schedule": {"requested": {"duration": "P1Y"}}}', "application/json", 400, "P1Y"),
        (b'{"schedule": {"requested": {"start": "yesterday"}}}', "application/json", 400, "yesterday"),
        (
            b'{"schedule": {"requested": {"duration": "P99999999999D"}}}',
            "application/json",
            400,
            "schedule.requested: the duration is too long: 'P99999999999D'",
        ),
        (
            b'{"schedule": {"requested": {"start": "9999-12-31T23:59:59Z/PT1H"}}}',
            "application/json",
            400,
            "schedule.requested: the interval ends after the year 9999: '9999-12-31T23:59:59Z/PT1H'",
        ),
        (
            b'{"schedule": {"requested": {"start": "P9D/0001-01-01T00:00:00Z"}}}',
            "application/json",
            400,
            "schedule.requested: the interval begins before the year 1: 'P9D/0001-01-01T00:00:00Z'",
        ),
        (
            b'{"schedule": {"requested": {"start": "now/PT1H"}}}',
            "application/json",
            400,
            "schedule.requested: not an ISO 8601 instant: 'now'",
        ),
    ],
)
def test_bad_bodies(node: NodeProcess, content: bytes, kind: str, status: int, says: str) -> None:
    for path in ("requests", "direct"):
        answer = node.http.post(f"{node.url}/{path}", content=content, headers={"Content-Type": kind})
        assert answer.status_code == status, answer.text
        assert says in answer.json()["message"]


def test_bad_paths_are_bad_requests(node: NodeProcess) -> None:
    for path in ("relative", f"{ROOT}/../etc", ""):
        executable = process("true", workdir=path) if path else process("true", rewrite=["../x"])
        answer = node.http.post(f"{node.url}/requests", json=Request(executable).body)
        assert answer.status_code == 400, answer.text
        assert "executable." in answer.json()["message"]


def test_missing_and_unknown(node: NodeProcess) -> None:
    for path in (f"sessions/{uuid4()}", f"offersets/{uuid4()}", f"streams/{uuid4()}/stdout", "nowhere"):
        answer = node.http.get(f"{node.url}/{path}")
        assert answer.status_code == 404, path
        assert answer.json()["message"]
    assert node.http.get(f"{node.url}/sessions/not-a-uuid").status_code == 400
    assert node.http.get(f"{node.url}/streams/{uuid4()}/stdin").status_code == 404
    assert node.http.get(f"{node.url}/health").json()["status"] == "ok"


@pytest.mark.parametrize("method", ["DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize(
    ("path", "takes"),
    [("requests", "POST"), ("sessions/00000000-0000-4000-8000-000000000000", "GET, HEAD, POST")],
)
def test_a_method_that_an_address_does_not_take(
    node: NodeProcess, method: str, path: str, takes: str
) -> None:
    answer = node.http.request(method, f"{node.url}/{path}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == takes
    assert takes in answer.json()["message"]


def test_body_over_the_limit_is_refused_unread(start_node: Starter) -> None:
    node = start_node(max_body=10_000)
    answer = node.http.post(f"{node.url}/requests", content=b"x" * 20_000)
    assert answer.status_code == 413
    assert "10000" in answer.json()["message"]

    def endless():
        for _ in range(100):
            yield b" " * 1000

    answer = node.http.post(
        f"{node.url}/requests", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 413
    split = urlsplit(node.url)
    with socket.create_connection((split.hostname, split.port)) as raw:
        raw.sendall(
            b"POST /requests HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n{"
        )
        raw.settimeout(5)
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0] + b" "


def test_accepting_one_rejects_its_siblings(node: NodeProcess) -> None:
    """There is one offer a set now, so siblings are made by hand: see the unit test of the node."""
    session = node.begin(Request(process("true")))
    again = node.update(node.end(session), "ACCEPTED")
    assert again["phase"] == "COMPLETED"
    assert "urn:wes-bridge:illegal-update" in session_kinds(again)


def test_reject(node: NodeProcess) -> None:
    offer = node.offer(Request(process("true")))
    assert node.update(offer, "REJECTED")["phase"] == "REJECTED"
    refused = node.update(offer, "ACCEPTED")
    assert refused["phase"] == "REJECTED"
    assert "REJECTED" in texts(refused)


def test_offers_expire_and_cannot_be_accepted_late(start_node: Starter) -> None:
    node = start_node(offer_lifetime=0.3)
    offer = node.offer(Request(process("true")))
    second = node.offer(Request(process("true")))
    assert node.end(offer, 3)["phase"] == "EXPIRED"
    time.sleep(0.35)
    late = node.update(second, "ACCEPTED")
    assert late["phase"] == "EXPIRED"
    assert "EXPIRED" in texts(late)
    assert node.http.get(f"{node.url}/offersets/{uuid4()}").status_code == 404


@pytest.mark.parametrize(
    ("update", "says"),
    [
        ({"kind": "uri:enum-value-update", "path": "/phase", "value": "COMPLETED"}, "COMPLETED"),
        ({"kind": "uri:enum-value-update", "path": "/phase", "value": "DANCING"}, "DANCING"),
        ({"kind": "uri:enum-value-update", "path": "/compute", "value": "ACCEPTED"}, "/compute"),
        ({"kind": "uri:string-value-update", "path": "/phase", "value": "ACCEPTED"}, "string"),
        ({"kind": "uri:integer-delta-update", "path": "/x", "delta": 1}, "delta"),
    ],
)
def test_illegal_updates_change_nothing_but_messages(node: NodeProcess, update: dict, says: str) -> None:
    offer = node.offer(Request(process("true")))
    answer = node.http.post(node.at(offer), json=update)
    assert answer.status_code == 200
    session = answer.json()
    assert session["phase"] == "OFFERED"
    [warning] = session["meta"]["messages"]
    assert warning["level"] == "WARN"
    assert says in warning["message"]


def test_update_of_unknown_kind_is_a_bad_request(node: NodeProcess) -> None:
    offer = node.offer(Request(process("true")))
    answer = node.http.post(node.at(offer), json={"kind": "uri:nothing", "path": "/phase"})
    assert answer.status_code == 400
    assert "kind" in answer.json()["message"]


def test_reasons_for_no(node: NodeProcess, tmp_path: Path) -> None:
    def reasons(executable, **compute):
        return node.refused(Request(executable, **compute))

    assert kinds(reasons(None)) == {"urn:executable-required"}
    for kind in (eb.DOCKER_CONTAINER, eb.SINGULARITY_CONTAINER, eb.JUPYTER_NOTEBOOK):
        [message] = reasons({"kind": kind, "image": {"locations": ["x"]}})
        assert message["kind"] == "uri:unknown-type"
        assert message["values"]["kind"] == kind
        assert message["message"].startswith("this node runs no "), "in words, not as a kind's URL"
        assert "http" not in message["message"]
    assert "urn:not-supported" in kinds(reasons(process("true", privileged=True)))
    [message] = reasons(process("true"), cores={"min": 99})
    assert message["kind"] == "urn:resource-limit"
    assert "99" in message["message"] and "8" in message["message"]
    [message] = reasons(process("true"), memory={"min": 1000})
    assert "1000" in message["message"]
    assert kinds(reasons(process())) == {"urn:missing-value"}
    [message] = node.refused(Request(process("true")).data("/elsewhere/x", "data:,x"))
    assert message["kind"] == "urn:not-supported"
    assert "/elsewhere/x" in message["message"]
    [message] = node.refused(Request(process("true")).data(f"{ROOT}/x", "ftp://host/x"))
    assert message["kind"] == "uri:unknown-url"
    [message] = node.refused(Request(process("true")).data(f"{ROOT}/x", None))
    assert message["kind"] == "urn:missing-value"
    [message] = node.refused(Request(process("true")).output("data:,x"))
    assert "cannot write" in message["message"]
    request = Request(process("true"))
    request.body["compute"]["volumes"] = [{"kind": eb.SIMPLE_VOLUME, "path": f"{ROOT}/x", "resource": "none"}]
    assert kinds(node.refused(request)) == {"uri:resource-not-found"}
    request = Request(process("true"))
    request.body["data"] = [{"kind": eb.RUCIO_DATA, "meta": {"name": "r"}}]
    assert "uri:unknown-type" in kinds(node.refused(request))
    past = {"requested": {"start": "2001-01-01T00:00:00Z/PT1H"}}
    request = Request(process("true"))
    request.body["schedule"] = past
    assert kinds(node.refused(request)) == {"urn:wes-bridge:no-slot"}


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_time_limit_is_positive(node: NodeProcess, limit: int) -> None:
    (reason,) = node.refused(Request(process("true", timeLimit=limit)))
    assert reason["kind"] == "urn:invalid-value"
    assert (
        reason["message"]
        == f"executable.timeLimit: it must be 1 s or more, not {limit}; leave it out for none"
    )


@pytest.mark.parametrize("most", [{"max": 0}, {"maxBytes": 0}, {"max": -1}])
def test_nothing_runs_in_no_memory(node: NodeProcess, most: dict[str, int]) -> None:
    (reason,) = node.refused(Request(process("true"), memory=most))
    assert reason["kind"] == "urn:invalid-value"
    assert "compute.memory: the maximum must be 1 or more" in reason["message"]


def test_no_is_kept(node: NodeProcess) -> None:
    answer = node.ask(Request(None))
    again = node.http.get(answer["meta"]["url"]).json()
    assert again["result"] == "NO"
    assert again["meta"]["messages"] == answer["meta"]["messages"]


def test_data_prefixes(start_node: Starter, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "a").write_text("a")
    (tmp_path / "openly").write_text("b")
    node = start_node(data=[(tmp_path / "open").as_uri() + "/", "data:"])
    node.completed(Request(process("true")).data(f"{ROOT}/a", (tmp_path / "open/a").as_uri()))
    for url in (
        (tmp_path / "openly").as_uri(),
        f"file://{tmp_path}/open/../openly",
        f"file://{tmp_path}/open/%2e%2e/openly",
        "http://localhost/x",
    ):
        [message] = node.refused(Request(process("true")).data(f"{ROOT}/a", url))
        assert message["kind"] == "uri:unknown-url"


def test_stream_destinations_are_data_too(start_node: Starter, tmp_path: Path) -> None:
    node = start_node(data=[(tmp_path / "open").as_uri() + "/"])
    streams = {"stdout": {"destination": (tmp_path / "closed").as_uri()}}
    [message] = node.refused(Request(process("true", streams=streams)))
    assert message["kind"] == "uri:unknown-url"
    assert "closed" in message["message"]


def test_maximum_is_capped_with_a_warning(node: NodeProcess) -> None:
    offer = node.offer(Request(process("true"), cores={"min": 1, "max": 64}))
    assert offer["compute"]["cores"] == {"min": 1, "max": 8}
    assert offer["meta"]["messages"][0]["level"] == "WARN"


def test_direct(node: NodeProcess) -> None:
    answer = node.http.post(f"{node.url}/direct", json=Request(shell("echo direct")).body)
    assert answer.status_code == 303
    session = answer.json()
    assert answer.headers["location"] == node.at(session)
    session = node.end(session)
    assert session["phase"] == "COMPLETED"
    assert node.stream(session) == "direct\n"
    answer = node.http.post(f"{node.url}/direct", json=Request(process("x"), cores={"min": 99}).body)
    assert answer.status_code == 400
    assert answer.json()["phase"] == "FAILED"
    assert "99" in answer.json()["message"]


def test_busy_node_quotes_a_later_start_and_runs_in_order(start_node: Starter, tmp_path: Path) -> None:
    node = start_node(cores=2, sandbox="none")
    wait = tmp_path / "go"
    log = tmp_path / "log"
    script = f"while [ ! -e {wait} ]; do sleep 0.02; done"
    first = node.begin(Request(shell(script), cores={"min": 2}))
    node.until(first, lambda s: s["phase"] == "RUNNING")
    request = Request(shell("true"), cores={"min": 1})
    request.body["schedule"] = {"requested": {"duration": "PT1H"}}
    offer = node.offer(request)
    start = datetime.fromisoformat(offer["compute"]["schedule"]["available"]["start"].split("/")[0])
    assert start > utcnow() + timedelta(minutes=10)
    narrow = Request(shell("true"))
    now = utcnow().isoformat()
    narrow.body["schedule"] = {"requested": {"start": f"{now}/PT1M"}}
    assert kinds(node.refused(narrow)) == {"urn:wes-bridge:no-slot"}
    others = []
    for number in range(4):
        name = f"{number}"
        request = Request(shell(f"echo {number} >> {name}; echo {number}"), cores={"min": 2})
        others.append(node.begin(request))
    assert all(node.get(other)["phase"] == "WAITING" for other in others)
    assert node.http.get(f"{node.url}/health").json()["sessions"] == {"running": 1, "waiting": 4}
    assert node.update(others[1], "CANCELLED")["phase"] in ("WAITING", "CANCELLED")
    assert node.end(others[1])["phase"] == "CANCELLED"
    wait.touch()
    ended = [node.end(other) for other in others]
    assert [session["phase"] for session in ended] == ["COMPLETED", "CANCELLED", "COMPLETED", "COMPLETED"]
    starts = [session["executable"]["started"] for session in ended if session["phase"] == "COMPLETED"]
    assert starts == sorted(starts)
    assert not log.exists()


def test_start_is_not_before_what_was_asked_for(node: NodeProcess) -> None:
    request = Request(shell("true"))
    begin = utcnow() + timedelta(seconds=1)
    request.body["schedule"] = {"requested": {"start": f"{begin.isoformat()}/PT5M"}}
    before = time.time()
    session = node.begin(request)
    assert node.get(session)["phase"] in ("ACCEPTED", "WAITING")
    session = node.end(session)
    assert session["phase"] == "COMPLETED"
    assert time.time() - before > 0.7
