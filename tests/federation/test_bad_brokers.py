"""Brokers that lie, drip, vanish and never stop talking: each ends in a clear reason, and no run hangs.

The server is real and misbehaves on a real socket.
"""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from tests.federation.conftest import place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.federation import client
from wes_bridge.federation.profile import Profile
from wes_bridge.model.quantities import COST_MONETARY, METRIC_COMPUTE

Misbehaviour = Callable[[FakeBroker], Callable[[BaseHTTPRequestHandler], None]]


def truncated(_broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"result": "YES", ')

    return answer


def endless(broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[")
        while not broker.closing.is_set():
            handler.wfile.write(b" " * 65536)

    return answer


def too_long_by_its_own_word(_broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            handler.wfile.write(b" " * 65536)

    return answer


def dripping(broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not broker.closing.wait(0.05):
            handler.wfile.write(b" ")

    return answer


def headers_that_drip(broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not broker.closing.wait(0.05):
            handler.wfile.write(b"z")

    return answer


def no_http(_broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"\x00\x01\x02 SSH-2.0-nothing here\r\n\r\n")

    return answer


def silence(broker: FakeBroker) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda _handler: broker.closing.wait(60) and None


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (truncated, "cannot be reached"),
        (endless, "sent more than"),
        (too_long_by_its_own_word, "sent more than"),
        (dripping, "did not answer within 0.8 s"),
        (headers_that_drip, "did not answer within 0.8 s"),
        (no_http, "cannot be reached"),
        (silence, "did not answer within 0.8 s"),
    ],
)
def test_an_answer_that_is_none(
    alpha: FakeBroker, how: Misbehaviour, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_BODY", 1_000_000)
    alpha.misbehave = how(alpha)
    outcome, seen = place(alpha, deadline=0.8 if "0.8" in said else 20.0)
    assert "node0" in str(outcome.problem)
    assert said in str(outcome.problem)
    assert said in seen[-1].placement.asked[0]["reason"]


def test_a_compressed_bomb_is_not_blown_up(alpha: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    import gzip  # noqa: PLC0415

    monkeypatch.setattr(client, "MAX_BODY", 1_000_000)
    bomb = gzip.compress(b" " * 50_000_000)

    def answer(handler: BaseHTTPRequestHandler) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
        handler.wfile.write(head.encode() + bomb)

    alpha.misbehave = answer
    outcome, _ = place(alpha, deadline=20.0)
    assert "sent more than" in str(outcome.problem)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ((500, b"<html><h1>Oops</h1></html>"), "answered 500: <html>"),
        ((502, b"[" * 100_000), "answered 502"),
        ((200, b"<!doctype html><title>Log in</title>"), "not a OfferSet"),
        ((200, b"[" * 100_000), "not a OfferSet"),
        ((200, b""), "not a OfferSet"),
        ((200, b"\xff\xfe\x00"), "not a OfferSet"),
        ((204, b""), "answered 204"),
        ((401, b'{"message": "who are you?"}'), "who are you?"),
        ((200, b'{"result": "NO"}'), "no offers, no reason given"),
        (
            (200, b'{"result": "NO", "meta": {"messages": [{}, {"kind": null}]}}'),
            "no offers, no reason given",
        ),
        ((200, b'{"result": "NO", "offers": [{"phase": "OFFERED"}]}'), "no offers, no reason given"),
        ((200, b'{"result": "YES", "offers": []}'), "no offers"),
        ((200, b'{"result": "YES", "offers": [{"phase": "OFFERED"}]}'), "its offer has no URL"),
        ((200, b'{"result": "YES", "offers": [{"phase": "RUNNING", "meta": {"url": "x"}}]}'), "RUNNING"),
        ((200, b'{"result": "YES", "offers": [{"phase": "OFFERED", "costs": [{"kind": 1}]}]}'), "costs"),
    ],
)
def test_nonsense_is_a_reason(alpha: FakeBroker, raw: tuple[int, bytes], said: str) -> None:
    alpha.raw = raw
    outcome, _ = place(alpha)
    assert said in str(outcome.problem)


def test_a_redirect_to_another_host_is_not_followed(alpha: FakeBroker, beta: FakeBroker) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(
            b"HTTP/1.1 303 See Other\r\nContent-Length: 0\r\n"
            + f"Location: {beta.url}/offersets/1\r\n\r\n".encode()
        )

    alpha.misbehave = answer
    outcome, _ = place(alpha)
    assert f"redirects to another host, which is not followed: {beta.url}" in str(outcome.problem)
    assert beta.polls == 0


def test_an_offer_at_another_host_is_not_taken(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.session_url = f"{beta.url}/sessions/1"
    outcome, _ = place(alpha)
    assert "at another host, which is not followed" in str(outcome.problem)
    assert beta.updates == []


def test_unless_the_site_says_so(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.session_url = f"{beta.url}/sessions/1"
    profile = Profile(hosts=frozenset([beta.url.removeprefix("http://")]))
    outcome, _ = place(alpha, profiles={0: profile})
    assert outcome.exit_code == 0
    assert beta.updates == ["ACCEPTED"]


# ---- absurd figures ----------------------------------------------------------------------------------


def schedule(start: str, duration: str = "PT1H") -> dict[str, Any]:
    return {"schedule": {"available": {"start": f"{start}/PT0S", "duration": duration}}}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (schedule("9999-12-31T23:59:59Z"), "it starts in 79"),
        (schedule("9999-12-31T23:59:59-23:59"), "it starts in 79"),
        ({"expires": "0001-01-01T00:00:00Z"}, "it expired at 0001"),
        ({"expires": "not a time"}, "expires"),
    ],
)
def test_an_offer_that_cannot_be_meant_is_refused(alpha: FakeBroker, more: dict[str, Any], said: str) -> None:
    alpha.more = more
    outcome, _ = place(alpha)
    assert said in str(outcome.problem)


@pytest.mark.parametrize(
    "more",
    [
        schedule("0001-01-01T00:00:00+14:00"),
        schedule("yesterday"),
        schedule("1970-01-01T00:00:00Z", "-PT1H"),
        schedule("1970-01-01T00:00:00Z", "P99999999999D"),
        {"schedule": {"available": {"start": "P99999999999D/2026-01-01T00:00:00Z"}}},
        {"schedule": {"preparing": {"start": "9999-12-31T23:59:59Z/PT1S", "duration": "PT0S"}}},
        {"schedule": {}},
        {"compute": {"kind": "x", "schedule": {"available": {}}}},
    ],
)
def test_an_offer_without_a_time_that_makes_sense_comes_after_one_with(
    alpha: FakeBroker, beta: FakeBroker, more: dict[str, Any]
) -> None:
    alpha.more = more
    beta.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert seen[0].placement.node == "node1"
    assert "does not say when it is done" in str(seen[0].placement.reason)
    assert place(alpha)[0].exit_code == 0  # by itself it will do


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), float("-inf"), -1.0, 1e308, 1e16])
def test_an_absurd_price_is_no_price(alpha: FakeBroker, beta: FakeBroker, figure: float) -> None:
    from wes_bridge.model.preferences import Wish  # noqa: PLC0415

    alpha.costs = {COST_MONETARY: (figure, figure)}
    beta.costs = {COST_MONETARY: (5.0, 6.0)}
    _, seen = place(alpha, beta, wish=Wish(policy="cheapest"))
    assert seen[0].placement.node == "node1"
    assert "names no price" in str(seen[0].placement.reason)
    shown = (seen[0].placement.choice or {})["offers"][1]
    assert "no figure" in shown["notes"][0]
    json.dumps(seen[0].placement.to_json(), allow_nan=False)


def test_contradictory_bounds_are_no_figures(alpha: FakeBroker, beta: FakeBroker) -> None:
    from wes_bridge.model.preferences import Wish  # noqa: PLC0415

    alpha.metrics = {METRIC_COMPUTE: (900.0, 1.0)}
    beta.metrics = {METRIC_COMPUTE: (2.0, 3.0)}
    _, seen = place(alpha, beta, wish=Wish(policy="fastest"))
    assert seen[0].placement.node == "node1"
    assert "promises no performance" in str(seen[0].placement.reason)


# ---- sessions ----------------------------------------------------------------------------------------


def test_a_session_that_goes_back_before_it_was_accepted_is_given_up(
    alpha: FakeBroker, beta: FakeBroker
) -> None:
    beta.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    alpha.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    alpha.phases = ["RUNNING", "OFFERED"]
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert (seen[0].placement.node, seen[-1].placement.node) == ("node0", "node1")
    assert "went back from RUNNING to OFFERED" in seen[-1].placement.earlier[0]["problem"]
    assert "CANCELLED" in alpha.updates


def test_a_session_that_goes_back_and_forth_is_given_up(alpha: FakeBroker) -> None:
    alpha.phases = ["RUNNING", "WAITING"] * 40
    outcome, seen = place(alpha)
    assert "its session went back from RUNNING to WAITING" in str(outcome.problem)
    phases = [progress.session.phase for progress in seen if progress.session]
    assert (
        phases.count("RUNNING") == outcome.problem.count("given up") * 4
    )  # once an attempt, never backwards


def test_one_step_back_is_put_up_with(alpha: FakeBroker) -> None:
    alpha.phases = ["RUNNING", "PREPARING", "COMPLETED"]
    outcome, seen = place(alpha)
    assert outcome.exit_code == 0
    assert "PREPARING" not in [progress.session.phase for progress in seen if progress.session]


def test_a_session_that_vanishes_is_asked_for_elsewhere(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    beta.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    alpha.forget = True
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"
    assert "set back because they failed this step: node0" in str(seen[-1].placement.reason)


def test_a_node_that_never_holds_a_poll_is_not_hammered(alpha: FakeBroker) -> None:
    alpha.etag = '"same"'
    alpha.phases = ["RUNNING"] * 5 + ["COMPLETED"]
    outcome, _ = place(alpha)
    assert outcome.exit_code == 0
    assert alpha.polls <= 7


def test_a_node_that_falls_silent_is_given_up(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    beta.start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    alpha.phases = ["RUNNING"]
    timer = threading.Timer(0.5, alpha.close)
    timer.start()
    outcome, seen = place(alpha, beta, lost_after=1.0)
    timer.join()
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"
    assert seen[-1].placement.earlier[0]["node"] == "node0"
