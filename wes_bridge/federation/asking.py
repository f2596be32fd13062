"""Asking all brokers at once: who is asked, how long is waited, what each said.

A broker that cannot see the data or the image is not asked, nor is one whose circuit is open. The others are
asked side by side. Once an acceptable offer has come the rest have a short grace; without one, the deadline.
An answer that comes later is still read: it tells whether the broker lives, and its offers are given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from wes_bridge.federation.choosing import Candidate
from wes_bridge.federation.client import OUR_FAULT, Broker, BrokerError, BrokerShutError, TurnedAwayError
from wes_bridge.federation.dialect import BusyError, CannotAskError
from wes_bridge.federation.figures import figures_of, lasting
from wes_bridge.federation.limits import constraint_words, over_limit
from wes_bridge.federation.profile import to_move, unfit
from wes_bridge.federation.refusals import refusal_of
from wes_bridge.federation.requests import Requests
from wes_bridge.model.execution_broker import Message, OfferSet, Session
from wes_bridge.model.states import Phase
from wes_bridge.model.step_plan import StepPlan
from wes_bridge.model.units import utcnow

REJECT_TIMEOUT = 15.0
"""Seconds for giving an offer back."""
IMAGE_UNAVAILABLE = "urn:image-unavailable"
IMAGE_KINDS = frozenset({IMAGE_UNAVAILABLE, "urn:image-digest-mismatch", "urn:wes-bridge:engine-failed"})
"""Kinds of the messages with which a broker says that it cannot have an image, or not run it just now."""
MOST_OFFERS = 100
"""Offers of one broker that are looked at."""


@dataclass
class Reply:
    """What one broker said.

    Attributes:
        broker: who.
        entry: for the task's log: ``node``, ``offers`` (how many can be taken), ``reason`` for there being
            none, ``refused`` (reasons, of offers that cannot be taken), ``kinds`` of a NO's messages.
        candidates: offers that can be taken.
        spare: offers that cannot, to be given back.
        silent: it did not answer, or is away for a while: asking again may help.
        busy: all it says against the step is that it is booked up: asking again will help, some time.
        no_containers: all it says against the step is that it has no platform for containers.
        longest: it takes no booking as long as was asked for; this is the longest it takes.
        unasked: its dialect has no request for the step (or, when busy, not now).
        out: it could not run the step in any image, nor without one.
        without_image: it was asked for a plain process, though the tool hints at an image.
    """

    broker: Broker
    entry: dict[str, Any]
    candidates: list[Candidate] = field(default_factory=list)
    spare: list[str] = field(default_factory=list)
    silent: bool = False
    busy: bool = False
    no_containers: bool = False
    longest: timedelta | None = None
    unasked: bool = False
    out: bool = False
    without_image: bool = False


class Asker:
    """Asks brokers.

    Args:
        deadline: seconds they have.
        grace: seconds the others have once an acceptable offer has come.
        rate: bytes a second at which inputs are taken to move to nodes that share no disk with us.
        now: tells the time; a parameter for tests.
    """

    def __init__(
        self,
        deadline: float,
        grace: float,
        rate: float = math.inf,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._deadline = deadline
        self._grace = grace
        self._rate = rate
        self._now = now
        self._background: set[asyncio.Task[None]] = set()

    async def ask(
        self, brokers: list[Broker], plan: StepPlan, image: str | None, since: datetime
    ) -> list[Reply]:
        """Ask; one reply for each broker, in their order.

        Args:
            brokers: all there are.
            plan: the step.
            image: its container image; None for a plain process.
            since: when nodes were first asked for this step.
        """
        clock = asyncio.get_running_loop().time
        requests = Requests(plan, image)
        replies: dict[Broker, Reply] = {}
        asked: list[Broker] = []
        for broker in brokers:
            left_out = _left_out(broker, plan, image, clock())
            if left_out is not None:
                replies[broker] = left_out
            else:
                asked.append(broker)
        try:
            if len(asked) == 1:  # the usual case: no tasks, no timers
                replies[asked[0]] = await self._one(asked[0], plan, requests, since)
            elif asked:
                replies |= await self._many(asked, plan, requests, since)
        except BaseException:
            for broker in asked:
                broker.health.let_go()
            raise
        return [replies[broker] for broker in brokers]

    async def close(self, wait: float = 1.0) -> None:
        """Wait ``wait`` seconds for what is still under way, then give it up."""
        if self._background:
            await asyncio.wait(self._background, timeout=wait)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)

    def give_back(self, broker: Broker, urls: list[str]) -> None:
        """Reject offers, soon: their node can hand out what it kept for them."""
        for url in urls:
            self._keep(self._reject(broker, url))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _reject(self, broker: Broker, url: str) -> None:
        with contextlib.suppress(BrokerError):  # it will expire by itself
            await broker.set_phase(url, Phase.REJECTED, REJECT_TIMEOUT)

    async def _many(
        self, asked: list[Broker], plan: StepPlan, requests: Requests, since: datetime
    ) -> dict[Broker, Reply]:
        clock = asyncio.get_running_loop().time
        begun = clock()
        tasks = {asyncio.create_task(self._one(broker, plan, requests, since)): broker for broker in asked}
        pending = set(tasks)
        replies: dict[Broker, Reply] = {}
        until: float | None = None  # without an offer, each request ends by its own deadline
        try:
            while pending:
                left = None if until is None else max(0.0, until - clock())
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                replies |= {tasks[task]: task.result() for task in done}
                soonest = min((_start(c) for task in done for c in task.result().candidates), default=None)
                if soonest is not None:  # nothing is lost by waiting for as long as the offer would
                    wait = clock() + max(self._grace, soonest)
                    until = min(wait, max(clock(), begun + self._deadline), until or wait)
        except BaseException:
            for task in pending:
                task.cancel()
            raise
        for task in pending:
            broker = tasks[task]
            reason = f"it did not answer within {clock() - begun:.1f} s, while others had offers"
            broker.health.late += 1
            replies[broker] = Reply(broker, {"node": broker.name, "offers": 0, "reason": reason}, silent=True)
            self._keep(self._late(task))
        return replies

    async def _late(self, task: asyncio.Task[Reply]) -> None:
        """See a late answer through, and give its offers back."""
        try:
            reply = await task
        except asyncio.CancelledError:
            task.cancel()
            raise
        for url in [candidate.url for candidate in reply.candidates] + reply.spare:
            await self._reject(reply.broker, url)

    async def _one(self, broker: Broker, plan: StepPlan, requests: Requests, since: datetime) -> Reply:
        """Ask one broker, and note how it did."""
        clock = asyncio.get_running_loop().time
        begun = clock()
        try:
            answer = await self._answer(broker, plan, requests)
        except CannotAskError as error:
            broker.health.let_go()
            entry = _none(broker, f"not asked: {error}") | {"kinds": []}
            busy = isinstance(error, BusyError)
            return Reply(broker, entry, busy=busy, unasked=True, out=not busy)
        except BrokerShutError as error:
            return _silent(broker, str(error))
        except TurnedAwayError as error:
            broker.health.turned_away(str(error), clock() - begun)
            return Reply(broker, _none(broker, str(error)) | {"kinds": []})
        except BrokerError as error:
            if error.status in OUR_FAULT:
                broker.health.answered(clock() - begun, offers=False)
                return Reply(broker, _none(broker, str(error)) | {"kinds": []})
            broker.health.went_wrong(str(error), clock())
            return _silent(broker, str(error))
        broker.health.answered(clock() - begun, offers=bool(answer.offers) and answer.result == "YES")
        return self._read(broker, answer, plan, since)

    async def _answer(self, broker: Broker, plan: StepPlan, requests: Requests) -> OfferSet:
        """The broker's answer; after a NO its dialect may ask again, with other locations of inputs."""
        arranged = await broker.dialect.arrange(plan)
        answer = await broker.request_offers(requests.for_broker(broker, arranged), self._deadline)
        if answer.result == "YES" or not broker.dialect.otherwise(plan, answer.meta.messages or []):
            return answer
        return await broker.request_offers(requests.for_broker(broker, arranged), self._deadline)

    def _read(self, broker: Broker, answer: OfferSet, plan: StepPlan, since: datetime) -> Reply:
        """Which of the offers can be taken, and why the others cannot."""
        now = self._now()
        reply = Reply(broker, {"node": broker.name, "offers": 0})
        refused: list[str] = []
        for offer in (answer.offers or [])[:MOST_OFFERS] if answer.result == "YES" else []:
            unusable = _unusable(broker, offer)
            if unusable is not None:
                refused.append(unusable)
                continue
            url = str(offer.meta.url)
            figures = lasting(figures_of(offer, now), plan.asked_time)
            over = over_limit(figures, plan.wish, since, now)
            if over is not None:
                refused.append(over)
                reply.spare.append(url)
                continue
            moved, unknown = to_move(broker.profile, plan, broker.dialect.holds)
            if moved or unknown:
                figures = replace(figures, moved=moved, moved_unknown=unknown)
            if moved and broker.dialect.moves and figures.start is not None:  # no node counts what it fetches
                figures = replace(figures, start=figures.start + moved / self._rate)
            reply.candidates.append(Candidate(broker, offer, url, figures))
        reply.entry["offers"] = len(reply.candidates)
        if refused:
            reply.entry["refused"] = list(dict.fromkeys(refused))
        if not reply.candidates:
            messages = answer.meta.messages or []
            words = [_words(message, plan) for message in messages if message.text()]
            reply.entry["reason"] = "; ".join(words) or "; ".join(dict.fromkeys(refused)) or _NO_REASON
            reply.entry["kinds"] = [message.kind for message in messages]
            refusal = refusal_of(messages)
            reply.silent, reply.busy = refusal.away, refusal.busy
            reply.no_containers, reply.longest = refusal.no_containers, refusal.longest
        return reply


_NO_REASON = "no offers, no reason given"


def _words(message: Message, plan: StepPlan) -> str:
    """What a message says: of our limits in our own words, beginning with whose it is as all do."""
    own = constraint_words(message, plan.wish)
    return message.text() if own is None else f"{message.broker}: {own}" if message.broker else own


def _left_out(broker: Broker, plan: StepPlan, image: str | None, now: float) -> Reply | None:
    """A broker that is not asked, and why."""
    reason = unfit(broker.name, broker.profile, plan, image)
    if reason is not None:
        out = image is None or unfit(broker.name, broker.profile, plan, None) is not None
        kinds = [] if out else [IMAGE_UNAVAILABLE]
        return Reply(broker, _none(broker, f"not asked: {reason}") | {"kinds": kinds}, out=out)
    if broker.health.may_ask(now):
        return None
    wait, error = broker.health.wait(now), broker.health.last_error
    when = f"it is asked again in {wait:.0f} s" if wait else "it is being tried"
    return _silent(broker, f"not asked: it failed too often just now ({error}); {when}")


def _start(candidate: Candidate) -> float:
    return candidate.figures.start or 0.0


def _none(broker: Broker, reason: str) -> dict[str, Any]:
    return {"node": broker.name, "offers": 0, "reason": reason}


def _silent(broker: Broker, reason: str) -> Reply:
    return Reply(broker, _none(broker, reason), silent=True)


def _unusable(broker: Broker, offer: Session) -> str | None:
    """Why an offer is none."""
    if offer.phase is not Phase.OFFERED:
        return f"what it offers is {offer.phase}"
    if not offer.meta.url:
        return "its offer has no URL"
    if not broker.may_use(offer.meta.url):
        return f"its offer is at another host, which is not followed: {offer.meta.url[:200]}"
    return None
