"""What a worker does beside its runs."""

from __future__ import annotations

import asyncio
import logging

import pytest

from wes_bridge.engine.worker import keep_beating


def test_a_heart_that_misses_beats_says_so_once_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    outcomes = iter([None, OSError("gone"), OSError("gone"), None, None, OSError("gone"), None])

    async def run() -> None:
        done = asyncio.Event()

        async def beat() -> None:
            outcome = next(outcomes, done)
            if outcome is done:
                done.set()
            elif isinstance(outcome, OSError):
                raise outcome

        heart = asyncio.create_task(keep_beating(beat, 0.001))
        async with asyncio.timeout(60):
            await done.wait()
        heart.cancel()
        await asyncio.gather(heart, return_exceptions=True)

    with caplog.at_level(logging.WARNING, "wes_bridge.engine"):
        asyncio.run(run())
    told = [record.getMessage() for record in caplog.records]
    assert [("again" in text, "gone" in text) for text in told] == [(True, True), (True, False)] * 2
