"""Brokers that are away for a while, or say so of those behind them, are waited for: ``patience``."""

import json
import threading
import time
from typing import Any

import pytest

from tests.federation.conftest import place
from tests.federation.fake_broker import FakeBroker
from wes_bridge.federation.refusals import Refusal, refusal_of
from wes_bridge.model.execution_broker import DOCKER_CONTAINER, OFFERSET, Message

DRAINING = {"kind": "urn:wes-bridge:draining", "level": "ERROR", "message": "it is being drained"}
SILENT = {"kind": "urn:wes-bridge:broker-silent", "level": "WARN", "message": "it cannot be reached"}
GARBLED = {"kind": "urn:wes-bridge:broker-garbled", "level": "WARN", "message": "it answered 503"}
REFUSED = {"kind": "urn:wes-bridge:broker-refused", "level": "WARN", "message": "it answered 400"}
TOO_SMALL = {"kind": "urn:resource-limit", "level": "ERROR", "message": "it has too few cores"}
BOOKED_UP = {"kind": "urn:wes-bridge:no-slot", "level": "ERROR", "message": "nothing is free"}
NO_CONTAINERS = {"kind": "uri:unknown-type", "level": "ERROR", "values": {"kind": DOCKER_CONTAINER}}


def no(*messages: dict[str, Any]) -> tuple[int, bytes]:
    """The answer of a broker that refuses."""
    return 303, json.dumps({"kind": OFFERSET, "meta": {"messages": messages}, "result": "NO"}).encode()


def behind(name: str, message: dict[str, Any]) -> dict[str, Any]:
    """What an aggregator says of one of its brokers."""
    return message | {"broker": name}


@pytest.mark.parametrize(
    "messages",
    [
        [DRAINING],
        [behind("n1", SILENT)],
        [behind("n1", SILENT), behind("n2", GARBLED)],
        [behind("n1", DRAINING), behind("n2", DRAINING)],
        [behind("n1", DRAINING), behind("n2", TOO_SMALL)],
        [behind("n1", SILENT), behind("n2", TOO_SMALL)],
    ],
)
def test_it_is_waited_for(alpha: FakeBroker, messages: list[dict[str, Any]]) -> None:
    alpha.raw = no(*messages)
    timer = threading.Timer(1.0, lambda: setattr(alpha, "raw", None))
    timer.start()
    outcome, _ = place(alpha, patience=30.0)
    assert outcome.exit_code == 0


def test_not_for_longer_than_patience(alpha: FakeBroker) -> None:
    alpha.raw = no(DRAINING)
    begun = time.monotonic()
    outcome, _ = place(alpha, patience=1.5)
    assert time.monotonic() - begun < 10
    assert "it is being drained" in str(outcome.problem)
    assert len(alpha.requests) > 1


@pytest.mark.parametrize(
    "messages",
    [[TOO_SMALL], [DRAINING, TOO_SMALL], [behind("n1", TOO_SMALL), behind("n2", REFUSED)]],
)
def test_nobody_is_waited_for_who_could_not_run_it_anyway(
    alpha: FakeBroker, messages: list[dict[str, Any]]
) -> None:
    alpha.raw = no(*messages)
    place(alpha, patience=30.0)
    assert len(alpha.requests) == 1


def refusal(*messages: dict[str, Any]) -> Refusal:
    return refusal_of([Message.model_validate(message) for message in messages])


def test_what_holds_for_one_behind_an_aggregator_need_not_hold_for_all() -> None:
    assert refusal(behind("n1", BOOKED_UP), behind("n2", TOO_SMALL)).busy
    assert not refusal(BOOKED_UP, TOO_SMALL).busy
    assert not refusal(behind("n1", NO_CONTAINERS), behind("n2", TOO_SMALL)).no_containers
    assert refusal(behind("n1", NO_CONTAINERS), behind("n2", NO_CONTAINERS)).no_containers
