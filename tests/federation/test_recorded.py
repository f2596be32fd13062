"""The fake answers as the real Java broker did, and our client reads both (see docs/interop.md)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.federation.fake_calycopis import FakeCalycopis
from wes_bridge.model.execution_broker import OfferSet, Session
from wes_bridge.model.states import Phase

RECORDED = Path(__file__).parent / "recorded"
ASKED = sorted(RECORDED.glob("ask-*.json"))
SESSIONS = sorted(RECORDED.glob("session-*.json"))
CHANGING = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[\d:.]+Z|http://(broker|127.0.0.1:\d+)/"
)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeCalycopis]:
    broker = FakeCalycopis(tmp_path, tick=60, password="secret")
    yield broker
    broker.close()


def read(path: Path) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(path.read_text())
    return recorded


def shape(answer: object, key: str = "") -> Any:
    """An answer without what differs from one to the next: ids, times, hosts, and the order of keys."""
    if isinstance(answer, dict):
        kept = (
            answer.items() if key not in ("storage", "schedule") else ()
        )  # estimates; the linker's own words
        return {name: shape(part, name) for name, part in sorted(kept) if name != "description"}
    if isinstance(answer, list):
        return [shape(part, key) for part in answer]
    return CHANGING.sub("*", answer) if isinstance(answer, str) else answer


@pytest.mark.parametrize("path", ASKED, ids=lambda path: path.stem)
def test_the_fake_answers_a_request_as_the_real_broker_did(fake: FakeCalycopis, path: Path) -> None:
    recorded = read(path)
    content = json.dumps(recorded["request"]) if recorded["request"] else "{"
    answer = httpx.post(f"{fake.url}/requests", content=content, auth=("wes-bridge", "secret"))
    assert answer.status_code == recorded["status"]
    if answer.status_code != 303:
        assert answer.json() == recorded["body"]
        return
    assert answer.headers["location"] == answer.json()["meta"]["url"]
    assert shape(answer.json()) == shape(recorded["body"])
    schedules = [offer["compute"]["schedule"]["available"] for offer in answer.json().get("offers", [])]
    theirs = [offer["compute"]["schedule"]["available"] for offer in recorded["body"].get("offers", [])]
    assert [s["duration"] for s in schedules] == [s["duration"] for s in theirs]
    assert {s["start"][17:] for s in schedules} <= {"00Z/PT0S"}, "whole minutes"


def test_nobody_posts_without_credentials(fake: FakeCalycopis) -> None:
    assert httpx.post(f"{fake.url}/requests", json={}).status_code == 401


@pytest.mark.parametrize(
    "path", [path for path in ASKED if read(path)["status"] == 303], ids=lambda p: p.stem
)
def test_recorded_offers_can_be_read(path: Path) -> None:
    answer = OfferSet.model_validate(read(path)["body"])
    assert bool(answer.offers) == (answer.result == "YES")
    for offer in answer.offers or []:
        assert offer.phase is Phase.OFFERED
        assert offer.meta.url


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem)
def test_recorded_sessions_can_be_read_and_never_say_running_or_an_exit_code(path: Path) -> None:
    recorded = read(path)
    session = Session.model_validate(recorded["body"])
    assert session.phase in (Phase.COMPLETED, Phase.FAILED)
    assert session.executable
    assert session.executable.exit_code is None
    assert "RUNNING" not in {phases[0] for _, phases in recorded["seen"]}


def test_cancelling_was_a_word() -> None:
    assert read(RECORDED / "update-cancel-cancelled.json")["body"]["phase"] == "CANCELLED"
    assert read(RECORDED / "update-cancel-after-cancel.json")["body"]["phase"] == "PREPARING"
    assert read(RECORDED / "session-cancel.json")["body"]["phase"] == "COMPLETED"
