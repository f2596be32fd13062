"""Fake brokers, and placing a step on them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.federation.fake_broker import FakeBroker
from wes_bridge.federation.client import Broker, http_session
from wes_bridge.federation.placement import Progress
from wes_bridge.federation.placing import Federation
from wes_bridge.federation.profile import Profile
from wes_bridge.model.step_plan import StepOutcome, StepPlan

PLAN = StepPlan(
    name="measure[3]",
    argv=["true"],
    environment={},
    root="/wb-1",
    workdir="/wb-1/out",
    output_url="file:///nonexistent/out",
)


@pytest.fixture
def new_broker() -> Iterator[Callable[[], FakeBroker]]:
    """Makes fake brokers, closed at the end."""
    made: list[FakeBroker] = []

    def make() -> FakeBroker:
        made.append(FakeBroker())
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def alpha(new_broker: Callable[[], FakeBroker]) -> FakeBroker:
    return new_broker()


@pytest.fixture
def beta(new_broker: Callable[[], FakeBroker]) -> FakeBroker:
    return new_broker()


def place(
    *brokers: FakeBroker,
    deadline: float = 20.0,
    patience: float = 0.0,
    grace: float = 1.0,
    lost_after: float = 60.0,
    profiles: dict[int, Profile] | None = None,
    times: int = 1,
    **plan: Any,
) -> tuple[StepOutcome, list[Progress]]:
    """Run the plan on the brokers, node0, node1, ...; returns the (last) outcome and what was reported."""
    seen: list[Progress] = []

    async def report(progress: Progress) -> None:
        seen.append(replace(progress, placement=replace(progress.placement)))

    async def run() -> StepOutcome:
        async with http_session() as http:
            named = [
                Broker(f"node{n}", b.url, http, (profiles or {}).get(n, Profile()))
                for n, b in enumerate(brokers)
            ]
            wanted = replace(PLAN, **plan)
            federation = Federation(named, deadline, patience, grace, lost_after)
            try:
                for _ in range(times):
                    outcome = await asyncio.wait_for(federation.run(wanted, report), 60)
                return outcome
            finally:
                await federation.close(30.0)  # sees late answers through

    return asyncio.run(run()), seen
