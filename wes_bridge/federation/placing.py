"""Placing one step: ask the brokers, choose an offer, accept it, follow the session to its end.

What can be repaired by asking again is (an offer that expired, a node that failed before the command ran),
elsewhere if there is an elsewhere: the node that failed is set back. A command that fails is run again only
if the user asked for it. What cannot be repaired comes back as a StepOutcome whose ``problem`` says what
happened, in words for the user. Every attempt after the first has places of its own for its output and
streams: a session that was given up may still be writing.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

from wes_bridge.federation.asking import Asker, Reply
from wes_bridge.federation.attempts import Attempts
from wes_bridge.federation.choosing import Candidate, Choice, choose
from wes_bridge.federation.client import Broker, BrokerError
from wes_bridge.federation.following import (
    ACTION_TIMEOUT,
    LOST_AFTER,
    NOT_ACCEPTED,
    Accepted,
    Following,
    cancel,
)
from wes_bridge.federation.placement import Placement, Progress, Report
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.step_plan import StepOutcome, StepPlan

MAX_ATTEMPTS = 4
"""Sessions tried for one step before giving up; those of a command that failed and is to be run again do
not count."""
ACCEPT_WAIT = 10.0
"""Seconds a node is asked to hold the answer to an acceptance, for a quick command's end to be in it."""
UNKNOWN_KIND = "uri:unknown-type"
"""Kind of the message with which a node says that it has no platform for an executable."""
Reports = dict[str, tuple[str, dict[str, Any]]]
"""URL and health by broker's name."""


class Federation:
    """All configured brokers.

    Args:
        brokers: in order of configuration.
        deadline: seconds they have to make offers.
        patience: seconds a step waits for brokers that do not answer, when no other can run it.
        grace: seconds the others have once an acceptable offer has come.
        lost_after: seconds a node may be silent before its session is given up.
    """

    def __init__(
        self,
        brokers: list[Broker],
        deadline: float,
        patience: float = 60.0,
        grace: float = 1.0,
        lost_after: float = LOST_AFTER,
    ) -> None:
        self.brokers = brokers
        self._asker = Asker(deadline, grace)
        self._patience = patience
        self._lost_after = lost_after

    async def close(self, wait: float = 1.0) -> None:
        """Give up, after ``wait`` seconds, what is under way beside the steps: late answers, offers being
        given back."""
        await self._asker.close(wait)

    async def offers(self, plan: StepPlan, since: datetime) -> list[Reply]:
        """What all brokers say to a step, for those who only want to know; see :meth:`give_back`.

        Args:
            plan: the step.
            since: when nodes were first asked for it.
        """
        return await self._ask(plan, since)

    def give_back(self, replies: list[Reply]) -> None:
        """Reject the offers of :meth:`offers`, soon; :meth:`close` waits for it."""
        for reply in replies:
            self._asker.give_back(reply.broker, [candidate.url for candidate in reply.candidates])

    def use(self, brokers: list[Broker]) -> None:
        """Ask these from now on; sessions of others are followed to their end."""
        self.brokers = brokers

    def reports(self) -> Reports:
        """How each broker has been answering."""
        now = asyncio.get_running_loop().time()
        return {broker.name: (broker.url, broker.health.report(now)) for broker in self.brokers}

    async def run(self, plan: StepPlan, report: Report) -> StepOutcome:
        """Run a step somewhere.

        Cancelling the calling task cancels the session at its node before the cancellation goes on.
        """
        step = Attempts(plan)
        while step.losses < MAX_ATTEMPTS:
            placement = step.begin()
            candidates = await self._ask_patiently(step.plan, placement, step.since)
            if not candidates:
                await report(Progress(placement, None))
                unsupported = plan.image_required and _all_lack_containers(placement)
                return StepOutcome(problem=_nobody(placement, step.failures), unsupported=unsupported)
            choice = choose(candidates, plan.wish, plan.name, step.set_back)
            accepted = await self._accept(choice, placement, step, report)
            if accepted is None:
                step.losses += 1
                continue
            outcome = await self._follow(accepted, placement, report)
            if isinstance(outcome, str):
                step.lost(placement, outcome)
            elif not step.again(placement, outcome):
                return _with_output(outcome, step.plan)
        return StepOutcome(
            problem=f"given up after {MAX_ATTEMPTS} attempts: " + "; ".join(dict.fromkeys(step.failures))
        )

    async def _ask_patiently(self, plan: StepPlan, placement: Placement, since: datetime) -> list[Candidate]:
        """Offers; asked again for a while when there are none and a broker did not answer."""
        loop = asyncio.get_running_loop()
        pause, until = 0.5, loop.time() + self._patience
        while True:
            replies = await self._ask(plan, since)
            placement.asked = [reply.entry for reply in replies]
            candidates = [candidate for reply in replies for candidate in reply.candidates]
            if candidates or not any(reply.silent for reply in replies) or loop.time() + pause > until:
                return candidates
            await asyncio.sleep(pause)
            pause = min(pause * 2, 8.0)

    async def _ask(self, plan: StepPlan, since: datetime) -> list[Reply]:
        """All brokers' replies; an image that is only a hint is left out when nobody can run it."""
        replies = await self._asker.ask(self.brokers, plan, plan.image, since)
        for reply in replies:
            if reply.spare:
                self._asker.give_back(reply.broker, reply.spare)
        if plan.image and not plan.image_required and not any(reply.candidates for reply in replies):
            return await self._ask(replace(plan, image=None), since)
        return replies

    async def _follow(self, accepted: Accepted, placement: Placement, report: Report) -> StepOutcome | str:
        """The outcome; or, as text, why another session should be tried."""

        async def on_news(session: Session) -> None:
            await report(Progress(placement, session))

        codes = placement.plan.success_codes if placement.plan else [0]
        return await Following(accepted, on_news, self._lost_after).outcome(codes)

    async def _accept(
        self, choice: Choice, placement: Placement, step: Attempts, report: Report
    ) -> Accepted | None:
        """Accept the best offer that can be; reject those of other brokers.

        What is about to be accepted is reported first: after a crash the session is known and can be found.
        """
        placement.choice, placement.reason = choice.data, choice.reason
        for candidate in choice.ranked:
            broker = candidate.broker
            if candidate is not choice.ranked[0]:
                placement.reason = f"the better ones could not be accepted; {choice.reason}"
            placement.node, placement.session_url = broker.name, candidate.url
            await report(Progress(placement, candidate.offer))
            others = [c for c in choice.ranked if c.broker is not broker]
            wait = 0.0 if others else ACCEPT_WAIT  # others wait for their rejection
            try:
                session, etag = await broker.accept(candidate.url, ACTION_TIMEOUT, wait)
            except asyncio.CancelledError:
                await asyncio.shield(cancel(broker, candidate.url))
                raise
            except BrokerError as error:
                problem = str(error)
            else:
                if session.phase not in NOT_ACCEPTED:
                    for other in others:
                        self._asker.give_back(other.broker, [other.url])
                    return Accepted(broker, candidate.url, session, etag)
                problem = f"{broker.name}: the offer became {session.phase}"
            step.not_accepted(placement, broker.name, problem)
        return None


def _all_lack_containers(placement: Placement) -> bool:
    return bool(placement.asked) and all(UNKNOWN_KIND in entry.get("kinds", []) for entry in placement.asked)


def _nobody(placement: Placement, failures: list[str]) -> str:
    reasons = [
        f"{entry['node']}: {entry.get('reason', 'offers that cannot be used')}" for entry in placement.asked
    ]
    earlier = [f"earlier: {failure}" for failure in dict.fromkeys(failures)]
    return "no node can run this step: " + ("; ".join(reasons + earlier) or "no nodes are configured")


def _with_output(outcome: StepOutcome, plan: StepPlan) -> StepOutcome:
    if outcome.exit_code is None:
        return outcome
    return StepOutcome(exit_code=outcome.exit_code, output_dir=plan.output_url)
