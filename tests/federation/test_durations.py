"""How long a step may take: one quantity for all brokers, and more of it where that was too little."""

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.federation.conftest import place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.model.execution_broker import OFFERSET
from wes_bridge.model.preferences import Preferences, PreferencesError, combine, read_preferences
from wes_bridge.model.units import format_instant, utcnow


def asked(broker: FakeBroker) -> list[str]:
    """The durations that a broker was asked for."""
    return [request["schedule"]["requested"]["duration"] for request in broker.requests]


def offering(duration: str, start: timedelta = timedelta()) -> dict[str, Any]:
    """The schedule of an offer."""
    begin = f"{format_instant(utcnow() + start)}/PT0S"
    return {"schedule": {"available": {"start": begin, "duration": duration}}}


def ended_by_booking(*, started: bool = True) -> dict[str, Any]:
    """What a session has whose booking ended."""
    executable = {"kind": "urn:wes-bridge:kind:executable:process"}
    return {"executable": executable | ({"started": format_instant(utcnow())} if started else {})}


BOOKING_ENDED = {
    "kind": "urn:wes-bridge:booking-ended",
    "level": "ERROR",
    "message": "the command was ended at the end of its booking",
}


def too_long(broker: FakeBroker, longest: str) -> None:
    """Have a broker refuse as a node does whose bookings last so long at most."""
    text = f"a booking here lasts {longest} at most"
    message = {
        "kind": "urn:resource-limit",
        "level": "ERROR",
        "message": text,
        "values": {"longest": longest},
    }
    answer = {"kind": OFFERSET, "meta": {"messages": [message]}, "result": "NO"}
    broker.raw = (303, json.dumps(answer).encode())


def test_all_are_asked_for_the_same_time(alpha: FakeBroker, beta: FakeBroker) -> None:
    place(alpha, beta)
    assert asked(alpha) == asked(beta) == ["PT2H"]


@pytest.mark.parametrize(
    ("plan", "duration"),
    [
        ({"time_limit": 90}, "PT1M30S"),
        ({"wish": combine([Preferences(duration="PT45M")])}, "PT45M"),
        ({"time_limit": 90, "wish": combine([Preferences(duration="PT45M")])}, "PT1M30S"),
    ],
)
def test_what_the_workflow_says_goes_first(alpha: FakeBroker, plan: dict[str, Any], duration: str) -> None:
    place(alpha, **plan)
    assert asked(alpha) == [duration]


def test_the_broker_that_promises_least_does_not_win_by_that(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.more = offering("PT2M", start=timedelta(minutes=10))  # it does not do as it is asked
    beta.more = offering("PT2H")
    _, seen = place(alpha, beta)
    assert seen[-1].placement.node == "node1"
    first, second = (seen[-1].placement.choice or {})["offers"]
    assert second["finish"] - first["finish"] == pytest.approx(600, abs=5)
    assert second["notes"] == ["duration: 2 min, less than the 2 h asked for"]


def test_a_node_whose_bookings_are_shorter_is_asked_for_its_longest(alpha: FakeBroker) -> None:
    too_long(alpha, "PT1H")
    outcome, _ = place(alpha)
    assert asked(alpha) == ["PT2H", "PT1H"]
    assert "lasts PT1H at most" in str(outcome.problem)


def test_nobody_is_asked_for_less_while_another_gives_it(alpha: FakeBroker, beta: FakeBroker) -> None:
    too_long(alpha, "PT1H")
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"
    assert asked(alpha) == ["PT2H"]


def test_nor_for_less_than_the_workflow_says(alpha: FakeBroker) -> None:
    too_long(alpha, "PT1H")
    place(alpha, time_limit=3 * 3600)
    assert asked(alpha) == ["PT3H"]


def test_a_booking_that_nobody_asked_for_is_made_longer(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code, alpha.messages = ["FAILED"], None, [BOOKING_ENDED]
    alpha.more = offering("PT2H") | ended_by_booking()
    outcome, seen = place(alpha)
    assert asked(alpha) == ["PT2H", "PT4H", "PT4H", "PT4H"]  # twice what it was given, which stays PT2H
    assert "again with 4 h" in seen[-1].placement.earlier[0]["problem"]
    for word in ("ToolTimeLimit", "policy.duration", "engine.default_duration"):
        assert word in str(outcome.problem)


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"time_limit": 60}, "1 min is what its ToolTimeLimit asks for"),
        ({"wish": combine([Preferences(duration="PT45M")])}, "45 min is what its duration"),
    ],
)
def test_one_that_was_asked_for_is_not(alpha: FakeBroker, plan: dict[str, Any], said: str) -> None:
    alpha.phases, alpha.exit_code, alpha.messages = ["FAILED"], None, [BOOKING_ENDED]
    alpha.more = offering("PT1M") | ended_by_booking()
    outcome, _ = place(alpha, **plan)
    assert len(alpha.requests) == 1
    assert outcome.by_command
    assert said in str(outcome.problem)


def test_a_booking_over_before_the_command_began_is_the_nodes_affair(
    alpha: FakeBroker, beta: FakeBroker
) -> None:
    alpha.phases, alpha.exit_code, alpha.messages = ["FAILED"], None, [BOOKING_ENDED]
    alpha.more = offering("PT1M") | ended_by_booking(started=False)
    beta.more = offering("PT1M", start=timedelta(hours=1))
    outcome, seen = place(alpha, beta, time_limit=60)
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"


def test_a_duration_that_cannot_be_read_is_told() -> None:
    for text in ("soon", "PT0S", "P1Y"):
        with pytest.raises(PreferencesError, match="duration"):
            read_preferences({"duration": text})


def test_the_most_specific_duration_counts() -> None:
    wish = combine(
        [Preferences(duration="PT5H"), Preferences(policy="cheapest"), Preferences(duration="PT1H")]
    )
    assert wish.duration == timedelta(hours=1)
