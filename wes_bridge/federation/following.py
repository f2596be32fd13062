"""Following an accepted session to its end, and what that end means for the step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from wes_bridge.federation.client import (
    BrokenError,
    Broker,
    BrokerError,
    NotReachedError,
    SessionGoneError,
    TurnedAwayError,
)
from wes_bridge.federation.pace import HELD, SLOW, Pace
from wes_bridge.fetching.sockets import UNNOTICED
from wes_bridge.model.execution_broker import Message, Session
from wes_bridge.model.states import LifecyclePhase, Phase
from wes_bridge.model.step_plan import StepOutcome, StepPlan, Times
from wes_bridge.model.units import parse_duration

ACTION_TIMEOUT = 15.0
"""Seconds for accepting, rejecting, cancelling."""
LOST_AFTER = 60.0
"""Seconds a node may be silent before its session is given up."""
BACKWARDS = 3
"""Times a session may go back to an earlier phase before it is given up."""
MEMORY_LIMIT = "urn:wes-bridge:memory-limit"
EXPLAINING = {"urn:wes-bridge:disk-full", "urn:wes-bridge:command-not-found"}
"""Kinds of messages that say more of an exit code than it does."""
HINTS = {"urn:wes-bridge:path-not-shown", "urn:wes-bridge:no-network"}
"""Kinds of those that say what a command may have failed for."""
BOOKING_ENDED = "urn:wes-bridge:booking-ended"
COMMAND_LIMITS = {
    "urn:wes-bridge:time-limit",
    "urn:wes-bridge:process-limit",
    "urn:wes-bridge:disk-limit",
    "urn:wes-bridge:output-unusable",
    BOOKING_ENDED,
    MEMORY_LIMIT,
}
"""Kinds of messages that say the command itself went over what it asked for."""
LOST = "urn:wes-bridge:process-lost"
"""Kind of a message: nobody knows how the command ended, since the machine or what watched it died."""
GONE = frozenset({Phase.REJECTED, Phase.EXPIRED})
"""Phases of an offer that can be had no more: others were quicker, or time was."""
NOT_ACCEPTED = frozenset({Phase.INITIAL, Phase.OFFERED, Phase.REJECTED, Phase.EXPIRED})
"""Phases of a session that was never accepted."""
_RANK = {phase: rank for rank, phase in enumerate(Phase)}
"""Phases in the order in which a session goes through them: that of their declaration."""


@dataclass(frozen=True)
class Accepted:
    """A session as it was when its acceptance was answered."""

    broker: Broker
    url: str
    session: Session
    etag: str | None


class Following:
    """Follows one session.

    Args:
        accepted: the session.
        plan: the step it runs.
        report: told the session whenever its phase goes on, or its command begins to run.
        lost_after: seconds the node may be silent.
        leave: whether the session goes on when the calling task is cancelled.
    """

    def __init__(
        self,
        accepted: Accepted,
        plan: StepPlan,
        report: Callable[[Session], Awaitable[None]],
        lost_after: float,
        leave: Callable[[], bool],
    ) -> None:
        self._accepted = accepted
        self._plan = plan
        self._report = report
        self._lost_after = lost_after
        self._leave = leave
        self._furthest = accepted.session.phase
        self._runs = _runs(accepted.session)
        self._backwards = 0

    async def outcome(self) -> StepOutcome | str:
        """The outcome; or, as text, why another session should be tried.

        Cancelling the calling task cancels the session at its node first, unless it is to be left.
        """
        broker, url = self._accepted.broker, self._accepted.url
        try:
            session = await self._last()
            told = await broker.dialect.outcome(self._plan, session)
        except asyncio.CancelledError:
            if not self._leave():
                await asyncio.shield(cancel(broker, url))
            raise
        except SessionGoneError:
            return "the session is not known to the node any more"
        except BrokerError as error:
            return str(error)
        finally:
            broker.dialect.release(url)
        outcome = _outcome(session, self._plan.success_codes) if told is None else told
        if isinstance(outcome, StepOutcome) and outcome.times == Times():
            return replace(outcome, times=_times(session))
        return outcome

    async def _last(self) -> Session:
        """Poll until the session has ended; report each change.

        Raises:
            SessionGoneError: the node does not know it any more.
            BrokerError: the node was silent for too long, or the session went back and forth.
        """
        pace = Pace(self._accepted.broker.crowd)
        try:
            return await self._polled(pace)
        finally:
            pace.held()

    async def _polled(self, pace: Pace) -> Session:
        clock = asyncio.get_running_loop().time
        broker, session, etag = self._accepted.broker, self._accepted.session, self._accepted.etag
        if not session.phase.is_final:
            await self._report(session)
        heard = changed = clock()
        silent_from: float | None = None
        while not (session.phase.is_final or await broker.dialect.ended(self._plan, session)):
            begun = clock()
            try:
                news, etag = await broker.poll(self._accepted.url, etag)
            except (SessionGoneError, TurnedAwayError):
                raise
            except BrokerError as error:
                if silent_from is None:
                    silent_from = heard
                    if isinstance(error, BrokenError | NotReachedError):  # its machine was there meanwhile
                        silent_from = max(heard, clock() - UNNOTICED)
                if clock() - silent_from > self._lost_after:
                    broker.health.broke_down(str(error), clock())
                    raise
                await asyncio.sleep(min(1.0, self._lost_after / 4))
                continue
            heard, silent_from = clock(), None
            if news is not None:
                await self._see(news)
                if news.phase is not session.phase:
                    changed = heard
                    pace.news()
                session = news
            is_news = news is not None and changed == heard
            if heard - begun > (HELD if etag is not None or is_news else SLOW):
                pace.held()
            elif not session.phase.is_final and (etag is None or news is None):
                await pace.wait(heard - changed)
        return session

    async def _see(self, news: Session) -> None:
        """Report a phase that is further on; put up with one that is not, but not for ever."""
        if _RANK[news.phase] < _RANK[self._furthest]:
            self._backwards += 1
            if self._backwards > BACKWARDS or news.phase in NOT_ACCEPTED:
                await cancel(self._accepted.broker, self._accepted.url, patience=0.0)
                raise BrokerError(f"its session went back from {self._furthest} to {news.phase}")
        elif not news.phase.is_final and (news.phase, _runs(news)) != (self._furthest, self._runs):
            self._furthest, self._runs = news.phase, _runs(news)
            await self._report(news)


def _runs(session: Session) -> bool:
    """Whether the command runs in a session that is PREPARING still: some brokers never say it otherwise."""
    compute = session.compute
    return (
        session.phase is Phase.PREPARING and compute is not None and compute.phase is LifecyclePhase.RUNNING
    )


async def cancel(broker: Broker, url: str, patience: float = LOST_AFTER) -> None:
    """Cancel a session and wait until it has ended.

    Args:
        broker: whose it is.
        url: of the session.
        patience: seconds to wait for its end; a node that does not answer is told again until then.
    """
    with contextlib.suppress(BrokerError, TimeoutError):
        async with asyncio.timeout(max(patience, ACTION_TIMEOUT)):
            session, etag = await _told(broker, url, patience)
            await broker.dialect.stop(session)
            clock = asyncio.get_running_loop().time
            until = clock() + patience
            while not session.phase.is_final and clock() < until:
                begun = clock()
                news, etag = await broker.poll(url, etag, wait=10)
                session = news or session
                if not session.phase.is_final and clock() - begun < HELD:
                    await asyncio.sleep(0.2)
    broker.dialect.release(url)


async def _told(broker: Broker, url: str, patience: float) -> tuple[Session, str | None]:
    clock = asyncio.get_running_loop().time
    until = clock() + patience
    while True:
        try:
            return await broker.set_phase(url, Phase.CANCELLED, ACTION_TIMEOUT)
        except (SessionGoneError, TurnedAwayError):
            raise
        except BrokerError:
            if clock() >= until:
                raise
            await asyncio.sleep(1.0)


def _outcome(session: Session, success_codes: list[int]) -> StepOutcome | str:
    exit_code = session.executable.exit_code if session.executable else None
    ended_well = exit_code in success_codes
    if exit_code is not None and not (ended_well and session.phase is not Phase.COMPLETED):
        errors = _errors(session)
        why = [message.text() for message in errors if message.kind in EXPLAINING]
        hints = "; ".join(message.text() for message in errors if message.kind in HINTS)
        return StepOutcome(exit_code=exit_code, problem=why[0] if why else None, hint=hints or None)
    if session.phase is Phase.COMPLETED:
        return StepOutcome(exit_code=0)
    errors = _errors(session)
    words = "; ".join(message.text() for message in errors) or "no reason given"
    kinds = {message.kind for message in errors}
    has_begun = bool(session.executable and session.executable.started)
    if LOST in kinds or (BOOKING_ENDED in kinds and not has_begun):
        return f"{session.phase}: {words}"  # nobody knows its end, or it waited for too long and never ran
    if kinds & COMMAND_LIMITS:
        booked = _booked(session) if BOOKING_ENDED in kinds else None
        return StepOutcome(problem=words, by_command=True, out_of_memory=MEMORY_LIMIT in kinds, booked=booked)
    if session.phase is Phase.FAILED and has_begun and not ended_well:
        return StepOutcome(problem=f"failed at the node: {words}")
    return f"{session.phase}: {words}"


def _times(session: Session) -> Times:
    """When it got where; only our own node says it."""
    reached = {phase: when.timestamp() for phase, when in (session.reached or {}).items()}
    executable = session.executable
    started, finished = (executable.started, executable.finished) if executable else (None, None)
    return Times(
        accepted=reached.get(Phase.ACCEPTED),
        preparing=reached.get(Phase.PREPARING),
        started=started.timestamp() if started else None,
        finished=finished.timestamp() if finished else None,
        ended=reached.get(session.phase),
    )


def _booked(session: Session) -> float:
    """Seconds of the session's booking; 0 when it does not say."""
    schedule = session.schedule or (session.compute.schedule if session.compute else None)
    available = schedule.available if schedule else None
    try:
        return parse_duration(available.duration).total_seconds() if available and available.duration else 0.0
    except (ValueError, OverflowError):
        return 0.0


def _errors(session: Session) -> list[Message]:
    parts = [session, session.executable, session.compute, *(session.data or []), *(session.storage or [])]
    messages = [m for part in parts if part and part.meta for m in part.meta.messages or []]
    return [m for m in messages if m.level == "ERROR"] or [m for m in messages if m.level == "WARN"]
