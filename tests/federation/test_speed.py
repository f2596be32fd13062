"""Asking twenty brokers takes as long as the slowest, and a hung one the grace or the deadline at most.

Generous: the figures that matter are those of ``benchmarks/asking.py``.
"""

import asyncio
import time

import pytest

from tests.federation.conftest import PLAN
from tests.federation.swarm import swarm
from wes_bridge.federation.asking import Asker, Reply
from wes_bridge.federation.choosing import choose
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.model.units import utcnow


def asked(delays: list[float | None], deadline: float, grace: float) -> tuple[list[Reply], float]:
    """Replies, and the seconds they took."""

    async def run() -> tuple[list[Reply], float]:
        async with swarm(delays) as urls, http_session() as http:
            brokers = [Broker(f"node{n}", url, http) for n, url in enumerate(urls)]
            asker = Asker(deadline, grace)
            begun = time.perf_counter()
            replies = await asker.ask(brokers, PLAN, None, utcnow())
            choose([c for reply in replies for c in reply.candidates], PLAN.wish, PLAN.name)
            seconds = time.perf_counter() - begun
            await asker.close(0.0)
            return replies, seconds

    return asyncio.run(run())


def test_twenty_brokers_are_asked_side_by_side() -> None:
    replies, seconds = asked([0.5] * 20, deadline=30.0, grace=30.0)
    assert all(reply.candidates for reply in replies)
    assert seconds < 0.5 * 20 / 2  # one after the other it would be ten seconds


@pytest.mark.parametrize(("deadline", "grace"), [(1.0, 30.0), (30.0, 1.0)])
def test_a_hung_broker_costs_the_deadline_or_the_grace(deadline: float, grace: float) -> None:
    replies, seconds = asked([0.0] * 4 + [None], deadline, grace)
    assert [bool(reply.candidates) for reply in replies] == [True] * 4 + [False]
    assert 0.9 < seconds < 25
    assert replies[-1].silent
