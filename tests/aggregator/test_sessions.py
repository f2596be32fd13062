"""Sessions through an aggregator: run, followed, cancelled, and found again after it was killed."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from pathlib import Path
from typing import Any

from tests.aggregator.conftest import AggregatorProcess, AggregatorStarter, check_urls
from tests.federation.fake_broker import FakeBroker
from tests.node.conftest import NodeProcess, Request, Starter, process, shell, texts
from tests.waiting import until


def phases(site: AggregatorProcess, offers: dict[str, Any]) -> list[str]:
    answer = site.http.get(offers["meta"]["url"])
    assert answer.status_code == 200, answer.text
    return [offer["phase"] for offer in answer.json()["offers"]]


def test_a_session_from_offer_to_outputs(
    site: AggregatorProcess, nodes: list[NodeProcess], tmp_path: Path
) -> None:
    (tmp_path / "in.txt").write_text("hello")
    script = "cat in/f in/f > result; echo told; echo wrong >&2"
    request = Request(shell(script, workdir="/wb-3f9a/out")).data(
        "/wb-3f9a/out/in/f", (tmp_path / "in.txt").as_uri()
    )
    request.output(tmp_path / "out")
    session = site.completed(request)
    assert (tmp_path / "out" / "result").read_text() == "hellohello"
    assert session["executable"]["exitCode"] == 0
    assert check_urls(site, session, [*nodes]) >= 3
    for name, text in (("stdout", "told\n"), ("stderr", "wrong\n")):
        (location,) = session["executable"]["streams"][name]["locations"]
        assert location == f"{site.url}/streams/{session['meta']['uuid']}/{name}"
        assert site.http.get(location).text == text
    assert session["meta"]["broker"] in ("n1", "n2")


def test_parts_of_a_stream(site: AggregatorProcess) -> None:
    session = site.completed(Request(shell("seq 100000")))
    url = f"{site.url}/streams/{session['meta']['uuid']}/stdout"
    whole = site.http.get(url)
    assert len(whole.content) == 588895
    assert whole.headers["content-length"] == "588895"
    assert whole.headers["content-type"] == "application/octet-stream"
    part = site.http.get(url, headers={"Range": "bytes=2-9"})
    assert (part.status_code, part.content) == (206, whole.content[2:10])
    assert part.headers["content-range"] == "bytes 2-9/588895"
    tail = site.http.get(url, headers={"Range": "bytes=-7"})
    assert (tail.status_code, tail.content) == (206, b"100000\n")
    beyond = site.http.get(url, headers={"Range": "bytes=600000-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */588895")
    head = site.http.head(url)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "588895", b"")
    assert site.http.get(f"{site.url}/streams/{session['meta']['uuid']}/other").status_code == 404


def test_following_costs_no_polling(site: AggregatorProcess, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo begun; while ! test -e {gate}; do sleep 0.05; done"
    session = site.begin(Request(shell(script)))
    session = site.until(session, lambda now: now["phase"] == "RUNNING")
    url = site.at(session)
    until(lambda: site.stream(session) == "begun\n")
    first = site.http.get(url)
    etag = first.headers["etag"]
    assert site.http.get(url, headers={"If-None-Match": etag}).status_code == 304
    started = time.monotonic()
    held = site.http.get(url, headers={"If-None-Match": etag, "Prefer": "wait=1"})
    assert (held.status_code, held.headers["etag"]) == (304, etag)
    assert time.monotonic() - started >= 0.9
    threading.Timer(0.5, gate.touch).start()
    news = site.http.get(url, headers={"If-None-Match": etag, "Prefer": "wait=50"})
    assert news.status_code == 200
    assert news.headers["etag"] != etag
    assert news.headers["preference-applied"] == "wait=50"
    assert site.end(session)["phase"] == "COMPLETED"


def test_accepting_holds_its_answer_and_frees_the_other_brokers_meanwhile(
    site: AggregatorProcess, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    offers = site.ask(Request(shell(f"while ! test -e {gate}; do sleep 0.05; done")))
    mine, other = offers["offers"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        update = {"kind": "uri:enum-value-update", "path": "/phase", "value": "ACCEPTED"}
        accepting = pool.submit(site.http.post, site.at(mine), json=update, headers={"Prefer": "wait=60"})
        until(lambda: site.get(other)["phase"] == "REJECTED")
        gate.touch()
        answer = accepting.result(60)
    assert answer.status_code == 200
    assert answer.headers["etag"]
    assert answer.json()["phase"] in ("PREPARING", "RUNNING", "RELEASING", "COMPLETED")
    assert site.end(mine)["phase"] == "COMPLETED"


def test_only_the_siblings_are_rejected(site: AggregatorProcess) -> None:
    bystanders = site.ask(Request(shell("true")))
    offers = site.ask(Request(shell("true")))
    site.update(offers["offers"][1], "ACCEPTED")
    until(lambda: phases(site, offers)[0] == "REJECTED")
    assert phases(site, bystanders) == ["OFFERED", "OFFERED"]


def test_two_offers_of_a_set_cannot_both_be_accepted(site: AggregatorProcess) -> None:
    for _ in range(5):
        offers = site.ask(Request(shell("sleep 0.2")))
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda offer: site.update(offer, "ACCEPTED"), offers["offers"]))
        refused = [answer for answer in answers if answer["phase"] == "REJECTED"]
        assert len(refused) == 1
        assert "of the same set was" in texts(refused[0])
        until(lambda offers=offers: sorted(phases(site, offers)) == ["COMPLETED", "REJECTED"])


def test_an_offer_that_is_not_accepted_leaves_the_others_open(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], fake: FakeBroker
) -> None:
    fake.accept_as = "EXPIRED"
    site = start_aggregator(fake, nodes[0])
    offers = {offer["meta"]["broker"]: offer for offer in site.ask(Request(shell("true")))["offers"]}
    assert site.update(offers["b0"], "ACCEPTED")["phase"] == "EXPIRED"
    assert site.get(offers["n1"])["phase"] == "OFFERED"
    assert site.end(site.update(offers["n1"], "ACCEPTED"))["phase"] == "COMPLETED"
    until(lambda: fake.updates == ["ACCEPTED", "REJECTED"])


def test_cancelling(site: AggregatorProcess) -> None:
    session = site.begin(Request(shell("sleep 600")))
    site.until(session, lambda now: now["phase"] == "RUNNING")
    site.update(session, "CANCELLED")
    assert site.end(session)["phase"] == "CANCELLED"
    after = site.update(session, "ACCEPTED")
    assert after["phase"] == "CANCELLED"
    answer = site.http.post(site.at(session), json={"kind": "uri:nothing", "path": "/phase"})
    assert answer.status_code == 400


def test_running_directly(site: AggregatorProcess, nodes: list[NodeProcess]) -> None:
    answer = site.http.post(f"{site.url}/direct", json=Request(shell("echo direct")).body)
    assert answer.status_code == 303
    session = answer.json()
    assert answer.headers["location"] == session["meta"]["url"] == site.at(session)
    assert site.end(session)["phase"] == "COMPLETED"
    assert site.stream(session) == "direct\n"
    refused = site.http.post(f"{site.url}/direct", json=Request(process("x"), cores={"min": 999}).body)
    assert refused.status_code == 400
    assert refused.json()["phase"] == "FAILED"
    assert {text.split(":")[0] for text in texts(refused.json()).split(" | ")} == {"n1", "n2"}


def test_killed_and_started_again(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], tmp_path: Path
) -> None:
    site = start_aggregator(*nodes)
    gate = tmp_path / "gate"
    offered = site.ask(Request(shell("echo later")))
    chosen = site.ask(Request(shell(f"echo begun; while ! test -e {gate}; do sleep 0.05; done")))
    session = site.update(chosen["offers"][0], "ACCEPTED")
    refused = site.ask(Request(process("true"), cores={"min": 999}))
    site.kill()
    site.start()
    assert site.http.get(chosen["meta"]["url"]).json()["meta"] == chosen["meta"]
    assert site.http.get(refused["meta"]["url"]).json() == refused
    until(lambda: phases(site, chosen)[1] == "REJECTED")
    until(lambda: site.stream(session) == "begun\n")
    gate.touch()
    assert site.end(session)["phase"] == "COMPLETED"
    assert site.end(site.update(offered["offers"][1], "ACCEPTED"))["phase"] == "COMPLETED"
    until(lambda: phases(site, offered) == ["REJECTED", "COMPLETED"])


def test_a_node_that_died(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess], start_node: Starter
) -> None:
    doomed = start_node(name="doomed", sandbox="none")
    site = start_aggregator(doomed, nodes[0])
    offers = site.ask(Request(shell("true")))
    by_maker = {offer["meta"]["broker"]: offer for offer in offers["offers"]}
    doomed.kill()
    answer = site.http.get(site.at(by_maker["doomed"]))
    assert answer.status_code == 502
    assert answer.json()["message"] == "doomed cannot be reached (connection refused)"
    assert site.http.get(site.at(by_maker["doomed"]), headers={"Prefer": "wait=30"}).status_code == 502
    assert site.http.get(f"{site.url}/streams/{by_maker['doomed']['meta']['uuid']}/stdout").status_code == 502
    now = site.http.get(offers["meta"]["url"]).json()
    shown = {offer["meta"]["broker"]: offer for offer in now["offers"]}
    assert "this is what doomed said earlier: doomed cannot be reached" in texts(shown["doomed"])
    check_urls_of_messages(now, doomed)
    assert site.end(site.update(by_maker["n1"], "ACCEPTED"))["phase"] == "COMPLETED"
    later = site.ask(Request(shell("true")))
    assert "doomed cannot be reached (connection refused)" in texts(later)
    assert [offer["meta"]["broker"] for offer in later["offers"]] == ["n1"]


def check_urls_of_messages(answer: Any, gone: NodeProcess) -> None:
    assert gone.url.rpartition(":")[2] not in str(answer)


def test_a_broker_that_tells_nonsense_of_a_session(
    start_aggregator: AggregatorStarter, fake: FakeBroker
) -> None:
    site = start_aggregator(fake)
    offer = site.offer(Request(shell("true")))
    for raw, status, words in [
        ((200, b"<html>"), 502, "b0 sent something that is not JSON where a Session belongs"),
        ((200, b'{"phase": "DREAMING"}'), 502, "b0 sent something that is not a valid Session: phase"),
        ((500, b"oops"), 502, "b0 answered 500: oops"),
        ((302, b""), 502, "b0 answered 302"),
        ((404, b""), 404, "b0 does not know this session (any more)"),
    ]:
        fake.raw_session = raw
        answer = site.http.get(site.at(offer))
        assert answer.status_code == status
        assert words in answer.json()["message"]


def test_long_polls_end_when_it_is_told_to_stop(
    start_aggregator: AggregatorStarter, nodes: list[NodeProcess]
) -> None:
    site = start_aggregator(*nodes)
    session = site.begin(Request(shell("sleep 600")))
    session = site.until(session, lambda now: now["phase"] == "RUNNING")
    etag = site.http.get(site.at(session)).headers["etag"]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        headers = {"If-None-Match": etag, "Prefer": "wait=200"}
        polls = [pool.submit(site.http.get, site.at(session), headers=headers) for _ in range(3)]
        time.sleep(0.5)  # they may also come too late, and are then answered at once
        assert site.process is not None
        site.process.terminate()
        assert site.process.wait(120) == 0  # long before their 200 s
        for poll in polls:
            if poll.exception() is None:
                assert poll.result().status_code == 304
    site.start()
    site.update(session, "CANCELLED")
    assert site.end(session)["phase"] == "CANCELLED"


def test_the_answer_to_a_cancellation_is_the_end(site: AggregatorProcess) -> None:
    session = site.begin(Request(shell("sleep 60")))
    site.until(session, lambda session: session["phase"] == "RUNNING")
    assert site.update(session, "CANCELLED")["phase"] == "CANCELLED"


def test_what_the_client_says_of_waiting_is_passed_on(
    start_aggregator: AggregatorStarter, fake: FakeBroker
) -> None:
    site = start_aggregator(fake)
    session = site.begin(Request(process("true")))
    update = {"kind": "uri:enum-value-update", "path": "/phase", "value": "CANCELLED"}
    for headers in ({}, {"Prefer": "wait=0"}, {"Prefer": "wait=7"}):
        site.http.post(site.at(session), json=update, headers=headers)
    assert fake.waits[-3:] == [None, "wait=0", "wait=7"]
