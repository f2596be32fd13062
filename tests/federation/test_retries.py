"""A command that fails is the user's: run again only if asked for, and told."""

import pytest

from tests.federation.conftest import PLAN, place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.model.preferences import Wish
from wes_bridge.model.step_plan import Resources

MEMORY = {"kind": "urn:wes-bridge:memory-limit", "level": "ERROR", "message": "used 2 GiB, limit 1 GiB"}


def test_a_failed_command_is_run_again_as_often_as_asked(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], 7
    outcome, seen = place(alpha, wish=Wish(retries=2))
    assert outcome.exit_code == 7
    assert len(alpha.requests) == 3
    assert outcome.output_dir == f"{PLAN.output_url}.3"
    earlier = seen[-1].placement.earlier
    assert [entry["problem"] for entry in earlier] == ["exit code 7; again, as asked for"] * 2


def test_a_temporary_failure_is_tried_again_without_asking(
    alpha: FakeBroker, beta: FakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tool says of this exit code that it may pass (CWL: ``temporaryFailCodes``)."""
    monkeypatch.setattr("wes_bridge.federation.attempts.REST", 0.001)
    for node in (alpha, beta):
        node.phases, node.exit_code = ["FAILED"], 75
    outcome, seen = place(alpha, beta, temporary_codes=[75])
    assert outcome.exit_code == 75
    assert outcome.output_dir == f"{PLAN.output_url}.4"
    earlier = seen[-1].placement.earlier
    assert [entry["problem"] for entry in earlier] == ["exit code 75, a temporary failure; again"] * 3
    nodes = [entry["node"] for entry in earlier] + [seen[-1].placement.node]
    assert sorted(nodes) == ["node0", "node0", "node1", "node1"]
    assert nodes[0] != nodes[1]


def test_another_exit_code_is_no_temporary_failure(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], 7
    place(alpha, temporary_codes=[75])
    assert len(alpha.requests) == 1


def test_each_attempt_writes_to_places_of_its_own(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], 7
    place(alpha, wish=Wish(retries=1), stderr_url="file:///nonexistent/stderr")
    places = [
        (request["data"][0]["location"], request["executable"]["streams"]["stderr"]["destination"])
        for request in alpha.requests
    ]
    assert places == [
        (PLAN.output_url, "file:///nonexistent/stderr"),
        (f"{PLAN.output_url}.2", "file:///nonexistent/stderr.2"),
    ]


def test_more_memory_when_it_ran_out(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code, alpha.messages = ["FAILED"], None, [MEMORY]
    resources = Resources(memory_min=512 * 1024**2, memory_max=1024**3)
    wish = Wish(memory_retries=2, memory_factor=1.5, retries=9)
    outcome, seen = place(alpha, wish=wish, resources=resources)
    asked = [request["compute"]["memory"]["maxBytes"] for request in alpha.requests]
    assert asked == [1024**3, int(1.5 * 1024**3), int(2.25 * 1024**3)]
    assert outcome.problem == "used 2 GiB, limit 1 GiB"
    assert outcome.by_command
    assert "again with 1536 MiB of memory" in seen[-1].placement.earlier[0]["problem"]


def test_without_asking_there_is_no_more_memory(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code, alpha.messages = ["FAILED"], None, [MEMORY]
    outcome, _ = place(alpha, resources=Resources(memory_max=1024**3))
    assert outcome.out_of_memory
    assert len(alpha.requests) == 1


def test_retries_of_the_command_do_not_use_up_those_of_nodes(alpha: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], 7
    place(alpha, wish=Wish(retries=6))
    assert len(alpha.requests) == 7


def test_a_node_that_failed_is_set_back_for_this_step(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.phases, alpha.exit_code = ["FAILED"], None
    alpha.messages = [{"level": "ERROR", "message": "image not found"}]
    beta.phases, beta.exit_code = ["FAILED"], None
    beta.messages = [{"level": "ERROR", "message": "disk full"}]
    outcome, seen = place(alpha, beta)
    nodes = [entry["node"] for entry in seen[-1].placement.earlier] + [seen[-1].placement.node]
    assert sorted(nodes) == ["node0", "node0", "node1", "node1"]
    assert nodes[0] != nodes[1]
    assert "image not found" in str(outcome.problem)
    assert "disk full" in str(outcome.problem)


def test_an_offer_that_cannot_be_accepted_leaves_the_next_best(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.accept_as = "REJECTED"
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"
    if seen[-1].placement.earlier:
        assert seen[-1].placement.earlier[0]["problem"] == "node0: the offer became REJECTED"


# ---- an acceptance whose answer is lost ------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, 503])
def test_an_acceptance_whose_answer_is_lost_is_not_made_elsewhere(
    alpha: FakeBroker, beta: FakeBroker, status: int | None
) -> None:
    """The node died after it had heard of it: the command runs, and must not run once more."""
    alpha.lose_answers, alpha.lost_as = 1, status
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert (len(alpha.requests), alpha.updates) == (1, ["ACCEPTED"])
    assert "ACCEPTED" not in beta.updates
    assert seen[-1].placement.node == "node0"


def test_an_acceptance_that_was_lost_on_its_way_is_made_again(alpha: FakeBroker) -> None:
    alpha.lose_answers = 1
    alpha.phases = ["OFFERED", "RUNNING", "COMPLETED"]
    outcome, _ = place(alpha)
    assert outcome.exit_code == 0
    assert (len(alpha.requests), alpha.updates) == (1, ["ACCEPTED", "ACCEPTED"])


def test_a_node_that_never_takes_notice_is_left_for_the_next_best(
    alpha: FakeBroker, beta: FakeBroker
) -> None:
    alpha.lose_answers, alpha.lost_as, alpha.phases = 99, 500, ["OFFERED"]
    outcome, seen = place(alpha, beta)
    assert outcome.exit_code == 0
    assert seen[-1].placement.node == "node1"


def test_an_offer_that_is_gone_after_a_lost_answer_is_asked_for_again(alpha: FakeBroker) -> None:
    alpha.lose_answers = 1
    alpha.phases = ["EXPIRED", "RUNNING", "COMPLETED"]
    outcome, _ = place(alpha)
    assert outcome.exit_code == 0
    assert len(alpha.requests) == 2


LOST = {"kind": "urn:wes-bridge:process-lost", "level": "ERROR", "message": "its keeper was killed"}


def test_a_command_that_was_lost_is_run_again_without_asking(alpha: FakeBroker) -> None:
    """The machine died under it: also at the same node, but not for ever."""
    alpha.phases, alpha.exit_code, alpha.messages, alpha.started = ["FAILED"], None, [LOST], True
    outcome, seen = place(alpha)
    assert len(alpha.requests) == 4
    assert outcome.problem is not None
    assert outcome.problem.startswith("given up after 4 attempts: node0: FAILED: its keeper was killed")
    assert outcome.exit_code is None
    outputs = {request["data"][0]["location"] for request in alpha.requests}
    assert len(outputs) == 4, "what was lost may still be writing"
    assert len(seen[-1].placement.earlier) == 3
