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
import math
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from wes_bridge.data.beneath import real_path
from wes_bridge.data.workspace import url_path
from wes_bridge.federation.asking import IMAGE_KINDS, Asker, Reply
from wes_bridge.federation.attempts import Attempts
from wes_bridge.federation.bringing import Bringing, LostError
from wes_bridge.federation.choosing import Choice, choose, maker_of
from wes_bridge.federation.client import (
    Broker,
    BrokerError,
    NotReachedError,
    SessionGoneError,
    TurnedAwayError,
)
from wes_bridge.federation.following import (
    ACTION_TIMEOUT,
    GONE,
    LOST_AFTER,
    NOT_ACCEPTED,
    Accepted,
    Following,
    cancel,
)
from wes_bridge.federation.placement import Placement, Progress, Report
from wes_bridge.model.execution_broker import Session
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import Booking, StageMode, StepOutcome, StepPlan

MAX_ATTEMPTS = 4
"""Sessions tried for one step before giving up; those of a command that failed and is to be run again do
not count."""
ACCEPT_WAIT = 10.0
"""Seconds a node is asked to hold the answer to an acceptance, for a quick command's end to be in it."""
SERVER_ERROR = 500
"""From this status on, an answer does not say what was done: a node that is being stopped gives such, too."""
DEFAULT_DURATION = timedelta(hours=2)
"""Asked for where nobody says how long a step takes: as long as brokers of all kinds give without a word."""
_PAUSE = 0.2
_ACCEPTS = 3
"""Times an offer is accepted whose node does not answer, but is there and has not taken notice."""
_TAKEN_UP = 16
"""Sessions of an earlier engine that are looked for at once: what is new need not wait for all of them."""
_TURN = 1.0
"""Seconds such a look waits for its turn at most: a node that hangs must not hold up the others' sessions."""
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
        default_duration: asked of all brokers for a step that does not say how long it takes.
        bringing: fetches inputs that other nodes keep, where the one that needs them cannot.
        rate: bytes a second at which inputs are taken to move to nodes that share no disk with us.

    Attributes:
        default_duration: that, in seconds.
    """

    def __init__(
        self,
        brokers: list[Broker],
        deadline: float,
        patience: float = 60.0,
        grace: float = 1.0,
        lost_after: float = LOST_AFTER,
        *,
        default_duration: timedelta = DEFAULT_DURATION,
        bringing: Bringing | None = None,
        rate: float = math.inf,
    ) -> None:
        self.brokers = brokers
        self._asker = Asker(deadline, grace, rate)
        self._patience = patience
        self._lost_after = lost_after
        self.default_duration = default_duration.total_seconds()
        self._turns = asyncio.Semaphore(_TAKEN_UP)
        self._bringing = bringing

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
        return await self._ask(self.with_time(plan), since)

    def with_time(self, plan: StepPlan) -> StepPlan:
        """The step with the time to ask for; what its workflow or user says goes first."""
        return plan if plan.said_time else replace(plan, booking=Booking(self.default_duration))

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

    async def run(
        self,
        plan: StepPlan,
        report: Report,
        journalled: Mapping[str, Any] | None = None,
        leave: Callable[[], bool] = lambda: False,
    ) -> StepOutcome:
        """Run a step somewhere.

        Cancelling the calling task cancels the session at its node before the cancellation goes on.

        Args:
            plan: the step.
            report: told how it goes; an offer is accepted only when it has returned.
            journalled: the placement reported last by an engine that is no more: its session is taken up.
            leave: whether, when the task is cancelled, the session is left running instead.

        Raises:
            LostError: an input was at a node only, and is there no more.
        """
        step = Attempts(self.with_time(plan))
        resumed = step.restore(journalled) if journalled and journalled.get("session_url") else None
        while step.losses < MAX_ATTEMPTS:
            if resumed is not None:
                placement, resumed = resumed, None
                accepted = await self._take_up(placement, step, leave)
            else:
                await step.rest()
                placement = step.begin()
                replies = await self._ask_patiently(step.plan, placement, step.since)
                candidates = [candidate for reply in replies for candidate in reply.candidates]
                if not candidates:
                    await report(Progress(placement, None))
                    unsupported = plan.image_required and _all_lack_containers(replies)
                    problem = _nobody(placement, step.failures) + _advice(step.plan, replies)
                    return StepOutcome(problem=problem, unsupported=unsupported)
                placement.without_image = image_words(plan, replies)
                choice = choose(candidates, step.plan.wish, plan.name, step.set_back)
                try:
                    accepted = await self._accept(choice, placement, step, report, leave)
                except LostError:
                    self.give_back(replies)
                    raise
            if accepted is None:
                await step.missed()
                continue
            outcome = await self._follow(accepted, placement, step.plan, report, leave)
            if isinstance(outcome, str):
                step.lost(placement, outcome)
            elif not step.again(placement, outcome):
                return _with_output(step.advised(outcome), step.plan)
        return StepOutcome(
            problem=f"given up after {MAX_ATTEMPTS} attempts: " + "; ".join(dict.fromkeys(step.failures))
        )

    async def forget(self, folder: Path, *, but: Callable[[str], bool] = lambda _folder: False) -> None:
        """A run has ended: nodes need keep no more of what is below its folder.

        Args:
            folder: of the run, links followed.
            but: which outputs are still wanted, by their real paths.
        """
        await asyncio.gather(*(broker.dialect.forget(folder, but=but) for broker in self.brokers))

    async def _prepare(self, broker: Broker, plan: StepPlan, offer: Session) -> None:
        """Make ready what a session needs: also inputs that its node cannot get without us."""
        if self._bringing is not None:
            for item in plan.staged:
                if item.url is None or not item.url.startswith("file:"):
                    continue
                real = real_path(url_path(item.url))
                if item.mode is StageMode.INPLACE or not broker.dialect.reaches(real):
                    await self._bringing.bring(real)
        await broker.dialect.prepare(plan, offer)

    async def cancel(self, node: str, session_url: str) -> None:
        """Cancel a session that nobody follows, and wait until it has ended or its node is given up."""
        broker = self._broker(node)
        if broker is not None:
            await cancel(broker, session_url)

    def _broker(self, name: str) -> Broker | None:
        """By its name, or by that of a place behind it (:attr:`Placement.shown_node`)."""
        own = name.partition("/")[0]
        return next((broker for broker in self.brokers if broker.name == own), None)

    async def _take_up(
        self, placement: Placement, step: Attempts, leave: Callable[[], bool]
    ) -> Accepted | None:
        """The session of an earlier engine, accepted if it was not; None when another must be found."""
        node, url = str(placement.node), str(placement.session_url)
        broker = self._broker(node)
        if broker is None:
            step.not_accepted(placement, node, f"{node}: no longer among the configured brokers")
            return None
        broker.dialect.hold(url)
        try:
            async with self._turn():
                session, etag = await self._found(broker, url)
            if session.phase is Phase.OFFERED:
                await self._prepare(broker, step.plan, session)
                session, etag = await self._accepted(broker, url, ACCEPT_WAIT)
        except (asyncio.CancelledError, LostError) as error:
            if isinstance(error, LostError) or not leave():
                await asyncio.shield(cancel(broker, url))
            raise
        except BrokerError as error:
            problem = f"{node}: its session could not be taken up again: {error}"
        else:
            if session.phase not in NOT_ACCEPTED:
                return Accepted(broker, url, session, etag)
            await broker.dialect.stop(session)
            problem = f"{node}: the offer became {session.phase}"
        broker.dialect.release(url)
        step.not_accepted(placement, node, problem)
        return None

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """One of few, unless that takes long."""
        try:
            async with asyncio.timeout(_TURN):
                await self._turns.acquire()
        except TimeoutError:
            yield
            return
        try:
            yield
        finally:
            self._turns.release()

    async def _accepted(self, broker: Broker, url: str, wait: float) -> tuple[Session, str | None]:
        """Accept an offer. When the answer is lost, what became of it is found out: the command may run.

        Raises:
            BrokerError: it was not accepted, or its node has been silent for too long.
        """
        problem = BrokerError(f"{broker.name} was not asked")
        for _ in range(_ACCEPTS):
            try:
                return await broker.accept(url, ACTION_TIMEOUT, wait)
            except BrokerError as error:
                refused = error.status is not None and error.status < SERVER_ERROR
                if refused or isinstance(error, NotReachedError):
                    raise
                problem = error
            session, etag = await self._found(broker, url)
            if session.phase is not Phase.OFFERED:
                return session, etag
            await asyncio.sleep(_PAUSE)
        raise problem

    async def _found(self, broker: Broker, url: str) -> tuple[Session, str | None]:
        """The session as it is; a node that does not answer is given as long as one that falls silent."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._lost_after
        while True:
            try:
                session, etag = await broker.poll(url, None, wait=0)
            except (SessionGoneError, TurnedAwayError):
                raise
            except BrokerError:
                if clock() > until:
                    raise
                await asyncio.sleep(min(1.0, self._lost_after / 4))
                continue
            if session is None:
                raise BrokerError(f"{broker.name} says that nothing has changed, but was asked for all of it")
            return session, etag

    async def _ask_patiently(self, plan: StepPlan, placement: Placement, since: datetime) -> list[Reply]:
        """All brokers' replies; they are asked again when nobody offers anything: for a while if one did not
        answer, and as long as it takes if all one says is that it is booked up."""
        loop = asyncio.get_running_loop()
        pause, until = 0.5, loop.time() + self._patience
        while True:
            replies = await self._ask(plan, since)
            placement.asked = [reply.entry for reply in replies]
            silent = any(reply.silent for reply in replies) and loop.time() + pause <= until
            offered = any(reply.candidates for reply in replies)
            if offered or not (silent or any(reply.busy for reply in replies)):
                return replies
            await asyncio.sleep(pause)
            pause = min(pause * 2, 8.0)

    async def _ask(self, plan: StepPlan, since: datetime) -> list[Reply]:
        """All brokers' replies; those who take no booking as long as is asked for only because nobody says
        how long the step takes are asked for the longest that one of them takes, when nobody offers more."""
        replies = await self._ask_with_hint(plan, since)
        booking, lengths = plan.booking, [reply.longest for reply in replies if reply.longest is not None]
        if booking is None or not lengths or any(reply.candidates for reply in replies):
            return replies
        longest = max(lengths).total_seconds()
        if not booking.more_than < longest < booking.seconds:
            return replies
        shorter = replace(plan, booking=replace(booking, seconds=longest))
        again = [reply for reply in replies if reply.longest is not None]
        plain = [reply.broker for reply in again if reply.without_image]
        others = [reply.broker for reply in again if not reply.without_image]
        asked = [
            *await self._ask_with(shorter, plan.image, others, since),
            *await self._ask_without_image(shorter, plain, since),
        ]
        by_broker = {reply.broker: reply for reply in [*replies, *asked]}
        return list(by_broker.values())

    async def _ask_with_hint(self, plan: StepPlan, since: datetime) -> list[Reply]:
        """All brokers' replies; an image that is only a hint is left out where no node has an engine for it.

        Where one has, the image must be had: a name with a mistake in it would else be answered by whatever
        software the node has.
        """
        replies = await self._ask_with(plan, plan.image, self.brokers, since)
        if not plan.image or plan.image_required or not _all_lack_containers(replies):
            return replies
        again = [reply.broker for reply in replies if reply.no_containers]
        without = await self._ask_without_image(plan, again, since)
        by_broker = {reply.broker: reply for reply in replies + without}
        return list(by_broker.values())

    async def _ask_without_image(self, plan: StepPlan, brokers: list[Broker], since: datetime) -> list[Reply]:
        replies = await self._ask_with(replace(plan, image=None), None, brokers, since)
        for reply in replies:
            reply.without_image = True
        return replies

    async def _ask_with(
        self, plan: StepPlan, image: str | None, brokers: list[Broker], since: datetime
    ) -> list[Reply]:
        replies = await self._asker.ask(brokers, plan, image, since)
        for reply in replies:
            if reply.spare:
                self._asker.give_back(reply.broker, reply.spare)
        return replies

    async def _follow(
        self,
        accepted: Accepted,
        placement: Placement,
        plan: StepPlan,
        report: Report,
        leave: Callable[[], bool],
    ) -> StepOutcome | str:
        """The outcome; or, as text, why another session should be tried."""

        async def on_news(session: Session) -> None:
            await report(Progress(placement, session))

        return await Following(accepted, plan, on_news, self._lost_after, leave).outcome()

    async def _accept(
        self,
        choice: Choice,
        placement: Placement,
        step: Attempts,
        report: Report,
        leave: Callable[[], bool],
    ) -> Accepted | None:
        """Accept the best offer that can be; reject those of other brokers.

        What is about to be accepted is reported first: after a crash the session is known and can be found.
        """
        placement.choice, placement.reason = choice.data, choice.reason
        for index, candidate in enumerate(choice.ranked):
            broker, rest = candidate.broker, choice.ranked[index + 1 :]
            if index:
                placement.reason = f"the better ones could not be accepted; {choice.reason}"
            placement.node, placement.session_url = broker.name, candidate.url
            placement.maker = maker_of(candidate.offer)
            placement.notes = broker.dialect.notes(step.plan)
            await report(Progress(placement, candidate.offer))
            others = [c for c in choice.ranked if c.broker is not broker]
            wait = 0.0 if others else ACCEPT_WAIT  # others wait for their rejection
            broker.dialect.hold(candidate.url)
            try:
                await self._prepare(broker, step.plan, candidate.offer)
                session, etag = await self._accepted(broker, candidate.url, wait)
            except asyncio.CancelledError:
                if not leave():
                    await asyncio.shield(cancel(broker, candidate.url))
                raise
            except BrokerError as error:  # it may have been accepted all the same: it must not run then
                session, problem = candidate.offer, str(error)
            else:
                if session.phase not in NOT_ACCEPTED:
                    for other in others:
                        self._asker.give_back(other.broker, [other.url])
                    return Accepted(broker, candidate.url, session, etag)
                problem = f"{broker.name}: the offer became {session.phase}"
            await broker.dialect.stop(session)
            broker.dialect.release(candidate.url)
            if session.phase not in GONE:
                step.not_accepted(placement, broker.name, problem)
            elif step.outrun(placement, broker.name, problem) and rest and rest[0].broker is not broker:
                for other in rest:  # worse, while the better ones went to others: ask for what comes next
                    self._asker.give_back(other.broker, [other.url])
                return None
        return None


def _all_lack_containers(replies: list[Reply]) -> bool:
    """Whether no node that could run the step has a container engine; one that is silent may have one."""
    able = [reply for reply in replies if not reply.out]
    return bool(able) and all(reply.no_containers for reply in able)


def image_words(plan: StepPlan, replies: list[Reply]) -> str | None:
    """That a step runs without the image its tool hints at, and why; None where it does not."""
    if plan.left_out:
        return (
            f"it runs without the container image {plan.left_out}, at which the tool only hints, since"
            " containers are not used ('containers' is 'never')"
        )
    if any(reply.without_image for reply in replies):
        return (
            f"it runs without the container image {plan.image}, at which the tool only hints, since no node"
            " that could run it has a container engine"
        )
    return None


def _advice(plan: StepPlan, replies: list[Reply]) -> str:
    """What to do where an image that is only a hint cannot be had; empty where that is not the trouble."""
    trouble = any(
        reply.no_containers or IMAGE_KINDS.intersection(reply.entry.get("kinds", ())) for reply in replies
    )
    if plan.image is None or plan.image_required or not trouble:
        return ""
    return f". The tool only hints at the image {plan.image}: 'containers: never' runs it without one"


def _nobody(placement: Placement, failures: list[str]) -> str:
    reasons = [
        f"{entry['node']}: {entry.get('reason', 'offers that cannot be used')}" for entry in placement.asked
    ]
    said = " ".join(reasons)
    news = [failure for failure in dict.fromkeys(failures) if failure.rpartition("failed: ")[2] not in said]
    earlier = [f"earlier: {failure}" for failure in news]  # not the reason that the node now gives, too
    return "no node can run this step: " + ("; ".join(reasons + earlier) or "no nodes are configured")


def _with_output(outcome: StepOutcome, plan: StepPlan) -> StepOutcome:
    if outcome.exit_code is None:
        return outcome
    return replace(outcome, output_dir=plan.output_url)
