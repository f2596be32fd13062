"""Placing one step: ask the brokers, choose an offer, accept it, follow the session to its end.

What can be repaired by asking again is (an offer that expired, a node that failed before the command ran);
what cannot comes back as a StepOutcome whose ``problem`` says what happened, in words for the user.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from wes_bridge.federation.client import Broker, BrokerError, SessionGoneError
from wes_bridge.federation.dialect import NATIVE, BusyError, CannotAskError
from wes_bridge.federation.policies import Candidate, Choice, earliest
from wes_bridge.federation.render import native_request
from wes_bridge.model.execution_broker import ExecutionRequest, Message, OfferSet, Session
from wes_bridge.model.states import LifecyclePhase, Phase
from wes_bridge.model.step_plan import StepOutcome, StepPlan
from wes_bridge.model.units import utcnow

MAX_ATTEMPTS = 4
"""Sessions tried for one step before giving up."""
ACTION_TIMEOUT = 15.0
"""Seconds for accepting, rejecting, cancelling."""
ACCEPT_WAIT = 10.0
"""Seconds a node is asked to hold the answer to an acceptance, for a quick command's end to be in it."""
LOST_AFTER = 60.0
"""Seconds a node may be silent before its session is given up."""


UNKNOWN_KIND = "uri:unknown-type"
"""Kind of the message with which a node says that it has no platform for an executable."""
COMMAND_LIMITS = {"urn:wes-bridge:time-limit", "urn:wes-bridge:memory-limit"}
"""Kinds of messages that say the command itself went over what it asked for."""


@dataclass
class Placement:
    """How a step came to run where it runs: for the task log, in words and as data.

    Attributes:
        asked: one entry per broker asked: its name, the number of offers or the reason for none.
        node: whose offer was accepted.
        session_url: of the accepted session.
        reason: why that offer.
        attempt: 1 for the first session of the step.
        notes: what the node does otherwise than the step asks.
    """

    asked: list[dict[str, Any]] = field(default_factory=list)
    node: str | None = None
    session_url: str | None = None
    reason: str | None = None
    attempt: int = 0
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return dict(vars(self))


@dataclass(frozen=True)
class Progress:
    """Something the task's log should show: where it is placed, and how its session is."""

    placement: Placement
    session: Session | None


@dataclass(frozen=True)
class _Accepted:
    """A session as it was when its acceptance was answered."""

    session: Session
    etag: str | None


Report = Callable[[Progress], Awaitable[None]]


class Federation:
    """All configured brokers.

    Args:
        brokers: in order of configuration.
        deadline: seconds they have to make offers.
        patience: seconds a step waits for brokers that do not answer, when no other can run it.
    """

    def __init__(self, brokers: list[Broker], deadline: float, patience: float = 60.0) -> None:
        self.brokers = brokers
        self._by_name = {broker.name: broker for broker in brokers}
        self._deadline = deadline
        self._patience = patience

    async def run(self, plan: StepPlan, report: Report) -> StepOutcome:
        """Run a step somewhere.

        Cancelling the calling task cancels the session at its node before the cancellation goes on.
        """
        failures: list[str] = []
        placement = Placement()
        for attempt in range(1, MAX_ATTEMPTS + 1):
            placement = Placement(attempt=attempt)
            candidates = await self._ask_patiently(plan, placement)
            if not candidates:
                await report(Progress(placement, None))
                unsupported = plan.image_required and _all_lack_containers(placement)
                return StepOutcome(problem=_nobody(placement, failures), unsupported=unsupported)
            choice = earliest(candidates, utcnow())
            accepted = await self._accept(plan, choice, placement, failures, report)
            if accepted is None:
                continue
            if not accepted.session.phase.is_final:
                await report(Progress(placement, accepted.session))
            outcome = await self._follow(plan, accepted, placement, report)
            if isinstance(outcome, StepOutcome):
                return _with_output(outcome, plan)
            failures.append(f"{placement.node}: {outcome}")
        return StepOutcome(
            problem=f"given up after {MAX_ATTEMPTS} sessions: " + "; ".join(dict.fromkeys(failures))
        )

    async def _ask_patiently(self, plan: StepPlan, placement: Placement) -> list[Candidate]:
        """Offers; asked again for a while when there are none and a broker did not answer."""
        loop = asyncio.get_running_loop()
        pause, until = 0.5, loop.time() + self._patience
        while True:
            candidates = await self._ask(plan, placement)
            silent = any("kinds" not in entry and not entry["offers"] for entry in placement.asked)
            busy = any(entry.get("busy") for entry in placement.asked)  # its turn comes, whenever that is
            if candidates or not (busy or (silent and loop.time() + pause <= until)):
                return candidates
            await asyncio.sleep(pause)
            pause = min(pause * 2, 8.0)
            placement.asked.clear()

    async def _ask(self, plan: StepPlan, placement: Placement) -> list[Candidate]:
        """Offers of all brokers; an image that is only a hint is left out when nobody can run it."""
        found = await self._ask_all(plan, plan.image, placement)
        if not found and plan.image and not plan.image_required:
            found = await self._ask_all(plan, None, placement)
        return found

    async def _ask_all(self, plan: StepPlan, image: str | None, placement: Placement) -> list[Candidate]:
        native: list[ExecutionRequest] = []

        async def ask(broker: Broker) -> OfferSet | BrokerError | CannotAskError:
            try:
                if broker.dialect is not NATIVE:
                    request = broker.dialect.render(plan, image)
                else:  # rendered once for all
                    native[:] = native or [native_request(plan, image=image)]
                    request = native[0]
                return await broker.request_offers(request, self._deadline)
            except (BrokerError, CannotAskError) as error:
                return error

        answers = await asyncio.gather(*(ask(broker) for broker in self.brokers))
        found: list[Candidate] = []
        for broker, answer in zip(self.brokers, answers, strict=True):
            offers = _usable(answer) if isinstance(answer, OfferSet) else []
            found += [Candidate(broker.name, offer, str(offer.meta.url)) for offer in offers]
            placement.asked.append(_answer(broker.name, answer, len(offers)))
        return found

    async def _accept(
        self, plan: StepPlan, choice: Choice, placement: Placement, failures: list[str], report: Report
    ) -> _Accepted | None:
        """Accept the best offer that can be; reject those of other brokers.

        What is about to be accepted is reported first: after a crash the session is known and can be found.
        """
        for candidate in choice.ranked:
            broker = self._by_name[candidate.broker]
            placement.node, placement.session_url = candidate.broker, candidate.url
            placement.reason, placement.notes = choice.reason, broker.dialect.notes(plan)
            await report(Progress(placement, candidate.offer))
            others = [c for c in choice.ranked if c.broker != candidate.broker]
            wait = 0.0 if others else ACCEPT_WAIT  # others wait for their rejection
            try:
                await broker.dialect.prepare(plan, candidate.offer)
                session, etag = await broker.accept(candidate.url, ACTION_TIMEOUT, wait)
            except asyncio.CancelledError:
                await asyncio.shield(self._cancel(broker, candidate.url))
                raise
            except BrokerError as error:
                broker.dialect.release(candidate.url)
                failures.append(str(error))
                continue
            if session.phase in (Phase.OFFERED, Phase.REJECTED, Phase.EXPIRED):
                broker.dialect.release(candidate.url)
                failures.append(f"{broker.name}: the offer became {session.phase}")
                continue
            await asyncio.gather(*(self._reject(c) for c in others))
            return _Accepted(session, etag)
        return None

    async def _reject(self, candidate: Candidate) -> None:
        with contextlib.suppress(BrokerError):  # it will expire by itself
            await self._by_name[candidate.broker].set_phase(candidate.url, Phase.REJECTED, ACTION_TIMEOUT)

    async def _follow(
        self, plan: StepPlan, accepted: _Accepted, placement: Placement, report: Report
    ) -> StepOutcome | str:
        """The outcome; or, as text, why another session should be tried."""
        broker = self._by_name[str(placement.node)]
        url = str(placement.session_url)
        try:
            session = await self._last(plan, accepted, placement, report)
            own = await broker.dialect.outcome(plan, session)
        except asyncio.CancelledError:
            await asyncio.shield(self._cancel(broker, url))
            raise
        except SessionGoneError:
            return "the session is not known to the node any more"
        except BrokerError as error:
            return str(error)
        finally:
            broker.dialect.release(url)
        return _outcome(session, plan.success_codes) if own is None else own

    async def _last(
        self, plan: StepPlan, accepted: _Accepted, placement: Placement, report: Report
    ) -> Session:
        """Poll until the session has ended; report each change."""
        broker, url = self._by_name[str(placement.node)], str(placement.session_url)
        loop = asyncio.get_running_loop()
        session, etag = accepted.session, accepted.etag
        heard, pause, shown = loop.time(), 0.05, _shown(session)
        while not (session.phase.is_final or await broker.dialect.ended(plan, session)):
            try:
                news, etag = await broker.poll(url, etag)
                heard = loop.time()
            except SessionGoneError:
                raise
            except BrokerError:
                if loop.time() - heard > LOST_AFTER:
                    raise
                await asyncio.sleep(1.0)
                continue
            if news is not None:
                session = news
                if _shown(session) != shown and not session.phase.is_final:
                    shown = _shown(session)
                    await report(Progress(placement, session))
            if etag is None and not session.phase.is_final:
                pause = min(pause * 1.5, 5.0)
                await asyncio.sleep(pause)
        return session

    async def _cancel(self, broker: Broker, url: str) -> None:
        """Cancel a session and wait until it has ended."""
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(LOST_AFTER):
                session, etag = await broker.set_phase(url, Phase.CANCELLED, ACTION_TIMEOUT)
                await broker.dialect.stop(session)
                while not session.phase.is_final:
                    news, etag = await broker.poll(url, etag, wait=10)
                    session = news or session
        broker.dialect.release(url)


def _shown(session: Session) -> tuple[Phase, bool]:
    """What a task log shows of it; a broker may say RUNNING of the compute and never of the session."""
    running = session.compute is not None and session.compute.phase is LifecyclePhase.RUNNING
    return session.phase, running


def _usable(answer: OfferSet) -> list[Session]:
    offers = answer.offers or [] if answer.result == "YES" else []
    return [offer for offer in offers if offer.phase is Phase.OFFERED and offer.meta.url]


def _answer(name: str, answer: OfferSet | BrokerError | CannotAskError, offers: int) -> dict[str, Any]:
    if isinstance(answer, CannotAskError):
        entry: dict[str, Any] = {"node": name, "offers": 0, "reason": str(answer)}
        entry["busy" if isinstance(answer, BusyError) else "kinds"] = isinstance(answer, BusyError) or []
        return entry
    if isinstance(answer, BrokerError):
        return {"node": name, "offers": 0, "reason": str(answer)}
    if offers:
        return {"node": name, "offers": offers}
    messages = answer.meta.messages or []
    reason = "; ".join(message.text() for message in messages) or "no offers, no reason given"
    return {"node": name, "offers": 0, "reason": reason, "kinds": [message.kind for message in messages]}


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
        return StepOutcome(problem=words, by_command=True)
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
