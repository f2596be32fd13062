"""The circuit breaker: opens after failures, backs off, probes with one request, closes."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.federation.conftest import place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.federation.health import LONGEST_BREAK, TOLERATED, Circuit, Health
from wes_bridge.model.units import format_instant, utcnow


def opened(now: float = 0.0) -> Health:
    health = Health()
    for _ in range(TOLERATED):
        assert health.may_ask(now)
        health.went_wrong("no route", now)
    return health


def test_it_opens_after_some_failures_in_a_row() -> None:
    health = Health()
    for _ in range(TOLERATED - 1):
        health.went_wrong("no route", 0.0)
    health.answered(0.1, offers=False)
    health.went_wrong("no route", 0.0)
    assert health.circuit(0.0) is Circuit.CLOSED
    assert opened().circuit(0.5) is Circuit.OPEN
    assert not opened().may_ask(0.5)


def test_one_request_probes_and_the_others_wait_for_it() -> None:
    health = opened()
    assert [health.may_ask(1.5) for _ in range(3)] == [True, False, False]
    health.answered(0.1, offers=True)
    assert health.circuit(1.5) is Circuit.CLOSED
    assert health.may_ask(1.5)


def test_a_probe_that_was_given_up_lets_another_try() -> None:
    health = opened()
    assert health.may_ask(1.5)
    health.let_go()
    assert health.may_ask(1.5)


def test_each_failed_probe_doubles_the_break_up_to_a_limit() -> None:
    health, now, breaks = opened(), 0.0, []
    for _ in range(8):
        breaks.append(health.wait(now))
        now += health.wait(now)
        assert health.may_ask(now)
        health.went_wrong("still no route", now)
    assert breaks[:5] == [1, 2, 4, 8, 16]
    assert breaks[-1] == LONGEST_BREAK


def test_many_failures_at_once_open_it_once() -> None:
    health = opened()
    for _ in range(100):
        health.went_wrong("no route", 0.1)
    assert health.opened == 1
    assert health.wait(0.1) <= 1.0


@given(st.lists(st.tuples(st.sampled_from("asgb"), st.floats(0, 50)), max_size=60))
def test_whatever_happens_it_is_asked_again_in_the_end(events: list[tuple[str, float]]) -> None:
    health, now = Health(), 0.0
    for event, later in events:
        now += later
        asked = health.may_ask(now)
        if event == "a" and asked:
            health.answered(0.1, offers=True)
            assert health.circuit(now) is Circuit.CLOSED
        elif event == "s" and asked:
            health.went_wrong("x", now)
        elif event == "b":
            health.broke_down("x", now)
        else:
            health.let_go()
        assert 0 <= health.wait(now) <= LONGEST_BREAK + 1e-6  # moments are rounded
    health.let_go()
    assert health.may_ask(now + LONGEST_BREAK)


def test_a_broken_broker_is_no_longer_asked(
    alpha: FakeBroker, beta: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wes_bridge.federation.health.FIRST_BREAK", 1000.0)  # not over before the last one
    monkeypatch.setattr("wes_bridge.federation.health.LONGEST_BREAK", 1000.0)
    alpha.raw = (500, b"broken")
    outcome, seen = place(alpha, beta, times=6)
    assert outcome.exit_code == 0
    assert len(alpha.requests) == TOLERATED
    assert "not asked: it failed too often just now (node0 answered 500: broken)" in str(
        seen[-1].placement.asked[0]["reason"]
    )


def test_a_request_it_cannot_take_says_nothing_against_a_broker(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.raw = (400, b'{"message": "unknown kind"}')
    place(alpha, beta, times=5)
    assert len(alpha.requests) == 5


def test_the_grace_does_not_end_before_the_best_offer_would_start(
    alpha: FakeBroker, beta: FakeBroker
) -> None:
    alpha.delay = 0.5
    beta.start = format_instant(utcnow() + timedelta(hours=1))
    _, seen = place(alpha, beta, grace=0.05, deadline=20.0)
    assert [entry["offers"] for entry in seen[0].placement.asked] == [1, 1]


def test_a_late_broker_is_not_broken_and_gets_its_offers_back(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.delay = 0.6
    outcome, seen = place(alpha, beta, grace=0.05, deadline=60.0)
    assert outcome.exit_code == 0
    assert "while others had offers" in seen[0].placement.asked[0]["reason"]
    assert alpha.updates == ["REJECTED"]
