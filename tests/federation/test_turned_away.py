"""A broker that does not know us (401, 403): told at once, with its name and what to do, never waited for."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.federation.conftest import PLAN, place
from tests.federation.fake_broker import FakeBroker
from tests.federation.fake_calycopis import FakeCalycopis
from wes_bridge.config import CredentialsConfig
from wes_bridge.federation.client import Broker, TurnedAwayError, http_session
from wes_bridge.federation.credentials import Credentials
from wes_bridge.federation.render import native_request
from wes_bridge.model.units import format_instant, utcnow

PATIENCE = 600.0
"""Far more than a test takes: whoever waits for it does not end."""


@pytest.mark.parametrize("status", [401, 403])
def test_it_is_told_at_once_when_asked_for_offers(alpha: FakeBroker, status: int) -> None:
    alpha.turn_away = status
    outcome, _ = place(alpha, patience=PATIENCE)
    assert outcome.exit_code is None
    assert len(alpha.requests) == 0
    for words in ("node0", str(status), "credentials"):
        assert words in str(outcome.problem)


def test_another_broker_runs_the_step(alpha: FakeBroker, beta: FakeBroker) -> None:
    alpha.turn_away = 401
    outcome, seen = place(alpha, beta, patience=PATIENCE)
    assert outcome.exit_code == 0
    [entry, _] = seen[-1].placement.asked
    assert "does not let this service in" in entry["reason"]


def test_a_session_that_may_not_be_looked_at_any_more_is_given_up_at_once(
    alpha: FakeBroker, beta: FakeBroker
) -> None:
    alpha.phases, alpha.start = ["RUNNING"], format_instant(utcnow())
    beta.start = format_instant(utcnow() + timedelta(hours=1))
    alpha.turn_away, alpha.turn_away_after = 401, 3  # asked, accepted, looked at once
    outcome, seen = place(alpha, beta, lost_after=PATIENCE)
    assert outcome.exit_code == 0
    [earlier] = seen[-1].placement.earlier
    assert earlier["node"] == "node0"
    assert "does not let this service in" in earlier["problem"]


def test_a_token_that_was_renewed_just_now_is_tried_before_that(tmp_path: Path) -> None:
    """The Java broker's fake takes one password; ours has changed in the file since it was read."""
    fake = FakeCalycopis(tmp_path, password="new")
    secret = tmp_path / "secret"
    secret.write_text("old")
    config = CredentialsConfig(file=secret, username="wes-bridge")

    async def ask() -> None:
        async with http_session() as http:
            broker = Broker("java", fake.url, http, credentials=Credentials(config))
            request = native_request(PLAN, image=None)
            with pytest.raises(TurnedAwayError, match=r"java.*401.*account"):
                await broker.request_offers(request, 10.0)
            secret.write_text("new")
            with pytest.raises(Exception, match="400"):  # it knows no plain processes, but lets us in
                await broker.request_offers(request, 10.0)

    try:
        asyncio.run(ask())
    finally:
        fake.close()


def test_a_secret_that_is_not_there_is_told_at_once(alpha: FakeBroker, tmp_path: Path) -> None:
    begun = time.monotonic()
    config = CredentialsConfig(file=tmp_path / "none")

    async def ask() -> None:
        async with http_session() as http:
            broker = Broker("java", alpha.url, http, credentials=Credentials(config))
            with pytest.raises(
                TurnedAwayError, match=f"java needs credentials, but the file {tmp_path}/none"
            ):
                await broker.request_offers(native_request(PLAN, image=None), 10.0)

    asyncio.run(ask())
    assert time.monotonic() - begun < PATIENCE
