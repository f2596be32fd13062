"""Placing a step on brokers that behave and brokers that do not."""

import asyncio
import json
import threading
from datetime import timedelta

import pytest

from tests.federation.conftest import PLAN, place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.federation.placement import Progress
from wes_bridge.federation.placing import Federation
from wes_bridge.model.execution_broker import DOCKER_CONTAINER, OFFERSET, SIMPLE_STORAGE
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StepOutcome
from wes_bridge.model.units import format_instant, utcnow


def test_a_step_runs_where_it_is_offered(alpha: FakeBroker) -> None:
    outcome, seen = place(alpha)
    assert outcome == StepOutcome(exit_code=0, output_dir=PLAN.output_url)
    assert seen[0].placement.node == "node0"
    assert "only offer" in str(seen[0].placement.reason)


def test_the_earlier_offer_wins_and_the_other_is_rejected(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.start, beta.start = (format_instant(utcnow() + timedelta(hours=h)) for h in (10, 9))
    _, seen = place(alpha, beta)
    assert seen[0].placement.node == "node1"
    assert "earliest" in str(seen[0].placement.reason)
    assert (alpha.updates, beta.updates) == (["REJECTED"], ["ACCEPTED"])


def test_nobody_offers_and_everybody_says_why(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.refuse, beta.refuse = "it asks for 64 cores and there are 2", ""
    outcome, _ = place(alpha, beta)
    assert outcome.exit_code is None
    assert "node0: it asks for 64 cores" in str(outcome.problem)
    assert "node1: no offers, no reason given" in str(outcome.problem)


def test_no_nodes_at_all() -> None:
    outcome, _ = place()
    assert "no nodes are configured" in str(outcome.problem)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ((500, b"Internal Server Error"), "answered 500"),
        ((400, b'{"message": "no executable"}'), "no executable"),
        ((200, b"<html>"), "not a OfferSet"),
        ((200, b'{"result": "MAYBE"}'), "result"),
        ((200, b'{"result": "YES", "offers": [{"kind": "x", "phase": "DREAMING"}]}'), "phase"),
        ((200, b'{"result": "YES"}'), "no offers"),
        ((303, b""), "node0"),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_reason(
    alpha: FakeBroker, raw: tuple[int, bytes], said: str
) -> None:
    alpha.raw = raw
    outcome, _ = place(alpha)
    assert said in str(outcome.problem)


def test_a_slow_broker_costs_the_deadline(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.delay = 3.0
    outcome, seen = place(alpha, beta, deadline=0.3)
    assert outcome.exit_code == 0
    assert "did not answer within 0.3" in seen[0].placement.asked[0]["reason"]


def test_a_closed_port_is_a_reason(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.close()
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert "cannot be reached" in seen[0].placement.asked[0]["reason"]


def test_a_node_that_is_away_for_a_while_is_waited_for(alpha: FakeBroker) -> None:
    alpha.raw = (503, b"starting")
    timer = threading.Timer(1.0, lambda: setattr(alpha, "raw", None))
    timer.start()
    outcome, _ = place(alpha, patience=20.0)
    assert outcome.exit_code == 0


def test_an_offer_that_expired_is_asked_for_again(alpha: FakeBroker) -> None:
    alpha.accept_as = "EXPIRED"
    outcome, _ = place(alpha)
    assert len(alpha.requests) > 1
    assert "EXPIRED" in str(outcome.problem)


def test_a_session_that_fails_before_the_command_is_tried_again(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED", "COMPLETED"], None
    alpha.messages = [{"level": "ERROR", "message": "image not found"}]
    outcome, _ = place(alpha)
    assert outcome.exit_code == 0
    assert len(alpha.requests) == 2


def test_trying_again_ends(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], None
    alpha.messages = [{"level": "ERROR", "message": "image not found"}]
    outcome, _ = place(alpha)
    assert "given up" in str(outcome.problem)
    assert "image not found" in str(outcome.problem)


def test_a_command_that_fails_is_not_tried_again(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], 7
    outcome, _ = place(alpha)
    assert outcome.exit_code == 7
    assert len(alpha.requests) == 1


def test_a_good_command_whose_outputs_were_lost_is_tried_again(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED", "COMPLETED"], 0
    outcome, _ = place(alpha)
    assert outcome.exit_code == 0
    assert len(alpha.requests) == 2


def test_a_command_over_its_time_is_the_commands_fault(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], None
    alpha.messages = [{"kind": "urn:wes-bridge:time-limit", "level": "ERROR", "message": "over 5 s"}]
    outcome, _ = place(alpha)
    assert outcome.by_command
    assert outcome.problem == "over 5 s"


def test_a_session_that_vanishes_is_tried_again_and_ends(alpha: FakeBroker) -> None:
    alpha.forget = True
    outcome, _ = place(alpha)
    assert "not known to the node" in str(outcome.problem)


@pytest.mark.parametrize(
    ("values", "unsupported"),
    [({"kind": DOCKER_CONTAINER}, True), ({"kind": SIMPLE_STORAGE}, False), (None, False)],
)
def test_only_what_is_said_of_containers_makes_them_unsupported(
    alpha: FakeBroker, values: dict[str, str] | None, unsupported: bool
) -> None:
    message = {"kind": "uri:unknown-type", "level": "WARN", "template": "Unknown kind", "values": values}
    answer = {"kind": OFFERSET, "meta": {"messages": [message]}, "result": "NO"}
    alpha.raw = (303, json.dumps(answer).encode())
    outcome, _ = place(alpha, image="debian", image_required=True)
    assert outcome.unsupported == unsupported


def test_cancelling_the_step_cancels_the_session(alpha: FakeBroker) -> None:
    alpha.phases = ["RUNNING"]

    async def run() -> None:
        running = asyncio.Event()

        async def report(progress: Progress) -> None:
            if progress.session and progress.session.phase is Phase.RUNNING:  # before, it is still accepted
                running.set()

        async with http_session() as http:
            federation = Federation([Broker("node0", alpha.url, http)], 2.0)
            step = asyncio.create_task(federation.run(PLAN, report))
            await asyncio.wait_for(running.wait(), 5)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step

    asyncio.run(run())
    assert alpha.updates == ["ACCEPTED", "CANCELLED"]


def test_who_loses_a_race_for_the_best_offer_asks_again(alpha: FakeBroker, beta: FakeBroker) -> None:
    """Others were quicker: that is no reason to take a worse offer elsewhere, nor to set the node back."""
    alpha.start, beta.start = (format_instant(utcnow() + timedelta(hours=h)) for h in (1, 9))
    alpha.gone = 3
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    placement = seen[-1].placement
    assert (placement.node, placement.attempt) == ("node0", 1)
    assert [entry["node"] for entry in placement.earlier] == ["node0"] * 3
    assert "ACCEPTED" not in beta.updates


def test_races_that_are_always_lost_end(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.start, beta.start = (format_instant(utcnow() + timedelta(hours=h)) for h in (1, 9))
    alpha.gone = 10**6
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"
