"""What may be updated is told; the answer to a cancellation is the session's end."""

from __future__ import annotations

import time

import pytest

from tests.node.conftest import NodeProcess, Request, Starter, process, shell
from wes_bridge.model import execution_broker as eb


def values(session: dict) -> list[str]:
    """The phases that a session's options name."""
    (option,) = session["meta"]["options"]
    assert (option["kind"], option["path"]) == ("uri:enum-value-option", "/phase")
    return sorted(option["values"])


def test_options_say_what_may_be_updated(node: NodeProcess) -> None:
    offers = node.ask(Request(shell("sleep 60")))["offers"]
    assert values(offers[0]) == ["ACCEPTED", "CANCELLED", "REJECTED"]
    running = node.until(node.update(offers[0], "ACCEPTED"), lambda session: session["phase"] == "RUNNING")
    assert values(running) == ["CANCELLED", "FAILED"]
    ended = node.update(running, "CANCELLED")
    assert "options" not in ended["meta"]
    assert "options" not in node.get(ended)["meta"]


@pytest.mark.parametrize("phase", ["CANCELLED", "FAILED"])
@pytest.mark.parametrize("script", ["sleep 60", "trap '' TERM; sleep 60 & wait; sleep 60"])
def test_the_answer_to_a_cancellation_is_the_end(node: NodeProcess, phase: str, script: str) -> None:
    session = node.until(node.begin(Request(shell(script))), lambda session: session["phase"] == "RUNNING")
    assert node.update(session, phase)["phase"] == phase


def test_who_is_in_a_hurry_is_answered_at_once(node: NodeProcess) -> None:
    session = node.begin(Request(shell("trap '' TERM; echo on; while :; do sleep 1; done")))
    node.until(session, lambda session: session["phase"] == "RUNNING")
    while not node.stream(session):
        time.sleep(0.02)
    update = eb.dump(eb.phase_update(eb.Phase.CANCELLED))
    answer = node.http.post(node.at(session), json=update, headers={"Prefer": "wait=0"})
    assert answer.json()["phase"] == "RUNNING"
    assert node.end(session)["phase"] == "CANCELLED"


@pytest.fixture
def drained(start_node: Starter) -> NodeProcess:
    """A node with one place, taken."""
    return start_node(sandbox="none", cores=1)


def test_one_that_waits_for_its_turn_is_cancelled_at_once(drained: NodeProcess) -> None:
    first = drained.begin(Request(process("sleep", "60")))
    second = drained.begin(Request(process("sleep", "60")))
    begun = time.monotonic()
    assert drained.update(second, "CANCELLED")["phase"] == "CANCELLED"
    assert time.monotonic() - begun < 3
    drained.update(first, "CANCELLED")


def test_xml_is_refused_with_the_reason(node: NodeProcess) -> None:
    for path in ("requests", "direct"):
        answer = node.http.post(
            f"{node.url}/{path}", content=b"<request/>", headers={"Content-Type": "application/xml"}
        )
        assert answer.status_code == 415
        assert "XML is not spoken here" in answer.json()["message"]
        assert "application/json or application/yaml" in answer.json()["message"]
