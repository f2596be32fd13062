"""Placing one step: ask the brokers, choose an offer, accept it, follow the session to its end.

What can be repaired by asking again is (an offer that expired, a node that failed before the command ran),
elsewhere if there is an elsewhere: the node that failed is set back. A command that fails is run again only
if the user asked for it. What cannot be repaired comes back as a StepOutcome whose ``problem`` says what
happened, in words for the user. Every attempt after the first has places of its own for its output and
streams: a session that was given up may still be writing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from wes_bridge.federation.asking import Asker, Reply
from wes_bridge.federation.choosing import Candidate, Choice, choose
from wes_bridge.federation.client import Broker, BrokerError, SessionGoneError
from wes_bridge.model.execution_broker import Message, Session
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import Resources, StepOutcome, StepPlan
from wes_bridge.model.units import utcnow

MAX_ATTEMPTS = 4
"""Sessions tried for one step before giving up; those of a command that failed and is to be run again do
not count."""
ACTION_TIMEOUT = 15.0
"""Seconds for accepting, rejecting, cancelling."""
ACCEPT_WAIT = 10.0
"""Seconds a node is asked to hold the answer to an acceptance, for a quick command's end to be in it."""
LOST_AFTER = 60.0
"""Seconds a node may be silent before its session is given up."""
BACKWARDS = 3
"""Times a session may go back to an earlier phase before it is given up."""

UNKNOWN_KIND = "uri:unknown-type"
"""Kind of the message with which a node says that it has no platform for an executable."""
MEMORY_LIMIT = "urn:wes-bridge:memory-limit"
COMMAND_LIMITS = {"urn:wes-bridge:time-limit", MEMORY_LIMIT}
"""Kinds of messages that say the command itself went over what it asked for."""


@dataclass
class Placement:
    """How a step came to run where it runs: for the task log, in words and as data.

    Attributes:
        asked: one entry per broker: its name, the number of offers, the reason for none.
        node: whose offer was accepted.
        session_url: of the accepted session.
        reason: why that offer.
        choice: the policy, and the figures of the offers in order of preference.
        attempt: 1 for the first session of the step.
        earlier: what became of the attempts before: node, session and problem.
        plan: what runs, which a retry may have changed; not part of the log.
    """

    asked: list[dict[str, Any]] = field(default_factory=list)
    node: str | None = None
    session_url: str | None = None
    reason: str | None = None
    choice: dict[str, Any] | None = None
    attempt: int = 0
    earlier: list[dict[str, Any]] = field(default_factory=list)
    plan: StepPlan | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; what is not there yet is left out."""
        return {name: value for name, value in vars(self).items() if value and name != "plan"}


@dataclass(frozen=True)
class Progress:
    """Something the task's log should show: where it is placed, and how its session is."""

    placement: Placement
    session: Session | None


@dataclass(frozen=True)
class _Accepted:
    """A session as it was when its acceptance was answered."""

    candidate: Candidate
    session: Session
    etag: str | None


Report = Callable[[Progress], Awaitable[None]]


class _Step:
    """What is remembered of one step from attempt to attempt."""

    def __init__(self, plan: StepPlan) -> None:
        self.first = plan
        self.plan = plan
        self.since = utcnow()
        self.attempt = 0
        self.losses = 0
        self.retries = plan.wish.retries
        self.memory_retries = plan.wish.memory_retries
        self.set_back: Counter[str] = Counter()
        self.failures: list[str] = []
        self.earlier: list[dict[str, Any]] = []

    def begin(self) -> Placement:
        """A further attempt."""
        self.attempt += 1
        if self.attempt > 1:
            self.plan = _elsewhere(self.plan, self.first, self.attempt)
        return Placement(attempt=self.attempt, earlier=list(self.earlier), plan=self.plan)

    def lost(self, placement: Placement, problem: str) -> None:
        """An attempt came to nothing, by the node's fault: it is set back."""
        self.losses += 1
        if placement.node is not None:
            self.set_back[placement.node] += 1
        self.failures.append(f"{placement.node}: {problem}")
        self._note(placement, problem)

    def again(self, placement: Placement, outcome: StepOutcome) -> bool:
        """Whether a command that failed is to be run again; changes the plan as that needs."""
        if outcome.out_of_memory:
            larger = _more_memory(self.plan.resources, self.plan.wish.memory_factor)
            if self.memory_retries <= 0 or larger is None:
                return False
            self.memory_retries -= 1
            self.plan = replace(self.plan, resources=larger)
            self._note(placement, f"{outcome.problem}; again with {_memory_words(larger)}")
            return True
        failed = outcome.by_command or (outcome.exit_code not in (None, *self.plan.success_codes))
        if self.retries <= 0 or not failed:
            return False
        self.retries -= 1
        self._note(placement, f"{outcome.problem or f'exit code {outcome.exit_code}'}; again, as asked for")
        return True

    def _note(self, placement: Placement, problem: str) -> None:
        self.earlier.append(
            {"attempt": self.attempt, "node": placement.node, "session_url": placement.session_url}
            | {"problem": problem}
        )


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

    async def close(self) -> None:
        """Give up what is under way beside the steps: late answers, offers being given back."""
        await self._asker.close()

    def health(self) -> dict[str, dict[str, object]]:
        """How each broker has been answering."""
        now = asyncio.get_running_loop().time()
        return {broker.name: broker.health.report(now) for broker in self.brokers}

    async def run(self, plan: StepPlan, report: Report) -> StepOutcome:
        """Run a step somewhere.

        Cancelling the calling task cancels the session at its node before the cancellation goes on.
        """
        step = _Step(plan)
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
            if not accepted.session.phase.is_final:
                await report(Progress(placement, accepted.session))
            outcome = await self._follow(step.plan, accepted, placement, report)
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

    async def _accept(
        self, choice: Choice, placement: Placement, step: _Step, report: Report
    ) -> _Accepted | None:
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
                await asyncio.shield(self._cancel(broker, candidate.url))
                raise
            except BrokerError as error:
                problem = str(error)
            else:
                if session.phase not in _NOT_ACCEPTED:
                    for other in others:
                        self._asker.give_back(other.broker, [other.url])
                    return _Accepted(candidate, session, etag)
                problem = f"{broker.name}: the offer became {session.phase}"
            step.set_back[broker.name] += 1
            step.failures.append(problem)
            step.earlier.append({"attempt": step.attempt, "node": broker.name, "problem": problem})
            placement.earlier = list(step.earlier)
        return None

    async def _follow(
        self, plan: StepPlan, accepted: _Accepted, placement: Placement, report: Report
    ) -> StepOutcome | str:
        """The outcome; or, as text, why another session should be tried."""
        broker, url = accepted.candidate.broker, accepted.candidate.url
        try:
            session = await self._last(broker, url, accepted, placement, report)
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(broker, url))
            raise
        except SessionGoneError:
            return "the session is not known to the node any more"
        except BrokerError as error:
            return str(error)
        return _outcome(session, plan.success_codes)

    async def _last(
        self, broker: Broker, url: str, accepted: _Accepted, placement: Placement, report: Report
    ) -> Session:
        """Poll until the session has ended; report each change.

        Raises:
            SessionGoneError: the node does not know it any more.
            BrokerError: the node was silent for too long, or the session went back and forth.
        """
        clock = asyncio.get_running_loop().time
        session, etag = accepted.session, accepted.etag
        heard, pause, backwards = clock(), 0.05, 0
        furthest = session.phase
        while not session.phase.is_final:
            begun = clock()
            try:
                news, etag = await broker.poll(url, etag)
                heard = clock()
            except SessionGoneError:
                raise
            except BrokerError as error:
                if clock() - heard > self._lost_after:
                    broker.health.broke_down(str(error), clock())
                    raise
                await asyncio.sleep(min(1.0, self._lost_after / 4))
                continue
            if news is not None:
                if _RANK[news.phase] < _RANK[furthest]:
                    backwards += 1
                    if backwards > BACKWARDS or news.phase in _NOT_ACCEPTED:
                        problem = f"{broker.name}: its session went back from {furthest} to {news.phase}"
                        self._asker.give_up(broker, url)
                        raise BrokerError(problem)
                elif news.phase is not furthest and not news.phase.is_final:
                    furthest = news.phase
                    await report(Progress(placement, news))
                session = news
            at_once = clock() - begun < 1.0
            if at_once and (etag is None or news is None) and not session.phase.is_final:
                pause = min(pause * 1.5, 5.0)
                await asyncio.sleep(pause)
        return session

    async def _cancel(self, broker: Broker, url: str) -> None:
        """Cancel a session and wait until it has ended."""
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(LOST_AFTER):
                session, etag = await broker.set_phase(url, Phase.CANCELLED, ACTION_TIMEOUT)
                while not session.phase.is_final:
                    news, etag = await broker.poll(url, etag, wait=10)
                    session = news or session


_NOT_ACCEPTED = frozenset({Phase.INITIAL, Phase.OFFERED, Phase.REJECTED, Phase.EXPIRED})
_RANK = {phase: rank for rank, phase in enumerate(Phase)}
"""Phases in the order in which a session goes through them: that of their declaration."""


def _all_lack_containers(placement: Placement) -> bool:
    return bool(placement.asked) and all(UNKNOWN_KIND in entry.get("kinds", []) for entry in placement.asked)


def _nobody(placement: Placement, failures: list[str]) -> str:
    reasons = [
        f"{entry['node']}: {entry.get('reason', 'offers that cannot be used')}" for entry in placement.asked
    ]
    earlier = [f"earlier: {failure}" for failure in dict.fromkeys(failures)]
    return "no node can run this step: " + ("; ".join(reasons + earlier) or "no nodes are configured")


def _outcome(session: Session, success_codes: list[int]) -> StepOutcome | str:
    exit_code = session.executable.exit_code if session.executable else None
    ended_well = exit_code in success_codes
    if exit_code is not None and not (ended_well and session.phase is not Phase.COMPLETED):
        return StepOutcome(exit_code=exit_code)
    if session.phase is Phase.COMPLETED:
        return StepOutcome(exit_code=0)
    errors = _errors(session)
    words = "; ".join(message.text() for message in errors) or "no reason given"
    if any(message.kind in COMMAND_LIMITS for message in errors):
        memory = any(message.kind == MEMORY_LIMIT for message in errors)
        return StepOutcome(problem=words, by_command=True, out_of_memory=memory)
    if session.phase is Phase.FAILED and session.executable and session.executable.started and not ended_well:
        return StepOutcome(problem=f"failed at the node: {words}")
    return f"{session.phase}: {words}"


def _errors(session: Session) -> list[Message]:
    parts = [session, session.executable, session.compute, *(session.data or []), *(session.storage or [])]
    messages = [m for part in parts if part and part.meta for m in part.meta.messages or []]
    return [m for m in messages if m.level == "ERROR"] or [m for m in messages if m.level == "WARN"]


def _with_output(outcome: StepOutcome, plan: StepPlan) -> StepOutcome:
    if outcome.exit_code is None:
        return outcome
    return StepOutcome(exit_code=outcome.exit_code, output_dir=plan.output_url)


def _elsewhere(plan: StepPlan, first: StepPlan, attempt: int) -> StepPlan:
    """The plan with places of its own for what comes out of it."""
    return replace(
        plan,
        output_url=f"{first.output_url}.{attempt}",
        stdout_url=f"{first.stdout_url}.{attempt}" if first.stdout_url else None,
        stderr_url=f"{first.stderr_url}.{attempt}" if first.stderr_url else None,
    )


def _more_memory(resources: Resources, factor: float) -> Resources | None:
    """None when the step does not say how much it needs: then there was no limit to raise."""
    least, most = resources.memory_min, resources.memory_max
    if least is None and most is None:
        return None
    return replace(
        resources,
        memory_min=None if least is None else int(least * factor),
        memory_max=None if most is None else int(most * factor),
    )


def _memory_words(resources: Resources) -> str:
    return f"{(resources.memory_max or resources.memory_min or 0) / 1024**2:.0f} MiB of memory"
