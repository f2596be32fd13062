"""What is remembered of one step from attempt to attempt: who failed, what is tried again and with what."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wes_bridge.federation.placement import Placement
from wes_bridge.model.step_plan import Booking, Resources, StepOutcome, StepPlan
from wes_bridge.model.units import spell_seconds, utcnow

TEMPORARY = 3
"""Times a command is run again whose exit code its tool calls a temporary failure; retries come on top."""
REST = 1.0
"""Seconds before the first of those; doubled for each further one."""
MOST_RACES = 20
"""Times it is asked again because others took the best offers; after that the next best is accepted."""
PAUSE = 0.02
"""Seconds, times the number of lost races, before asking again."""
SHOWN = 20
"""Earlier tries that are remembered."""
LONGER_TRIES = 3
"""Times a step that a booking ended is given twice the time, when nobody said how long it takes."""


TIME_ADVICE = (
    "nobody says how long this step takes: give its tool a ToolTimeLimit, or say duration in the hint"
    " Placement or as the engine parameter policy.duration; the site's setting for all steps is"
    " engine.default_duration"
)


class Attempts:
    """The attempts at one step.

    Args:
        plan: the step.

    Attributes:
        plan: as it is to be run next.
        since: when nodes were first asked.
        losses: attempts that came to nothing by a node's fault.
        set_back: by node, how often it failed this step.
        failures: what went wrong, in words.
    """

    def __init__(self, plan: StepPlan) -> None:
        self.first = plan
        self.plan = plan
        self.since = utcnow()
        self.attempt = 0
        self.losses = 0
        self.retries = plan.wish.retries
        self.memory_retries = plan.wish.memory_retries
        self.longer_tries = LONGER_TRIES
        self.temporary = TEMPORARY
        self.pause = 0.0
        self.races = 0
        self.raced = False
        self.set_back: Counter[str] = Counter()
        self.failures: list[str] = []
        self.earlier: list[dict[str, Any]] = []

    def begin(self) -> Placement:
        """A further attempt."""
        self.attempt += 1
        if self.attempt > 1:
            self.plan = _elsewhere(self.plan, self.first, self.attempt)
        return Placement(
            attempt=self.attempt, earlier=list(self.earlier), plan=self.plan, left=self._left() or None
        )

    def restore(self, journalled: Mapping[str, Any]) -> Placement:
        """The attempt that was under way when the engine was last heard of.

        Args:
            journalled: its placement, as the task's log has it.
        """
        left = journalled.get("left") or {}
        self.attempt = int(journalled.get("attempt") or 1)
        self.earlier = list(journalled.get("earlier") or [])
        self.losses = int(left.get("losses", 0))
        self.retries = int(left.get("retries", self.retries))
        self.memory_retries = int(left.get("memory_retries", self.memory_retries))
        self.temporary = int(left.get("temporary", self.temporary))
        self.set_back = Counter(left.get("set_back") or {})
        self.longer_tries = int(left.get("longer_tries", self.longer_tries))
        if "booking" in left and not self.plan.said_time:
            self.plan = replace(self.plan, booking=Booking(*left["booking"]))
        if "memory" in left:
            least, most = left["memory"]
            resources = replace(self.plan.resources, memory_min=least, memory_max=most)
            self.plan = replace(self.plan, resources=resources)
        if self.attempt > 1:
            self.plan = _elsewhere(self.plan, self.first, self.attempt)
        return Placement(
            asked=list(journalled.get("asked") or []),
            node=journalled.get("node"),
            maker=journalled.get("maker"),
            session_url=journalled.get("session_url"),
            reason=journalled.get("reason"),
            choice=journalled.get("choice"),
            attempt=self.attempt,
            earlier=list(self.earlier),
            left=self._left() or None,
            notes=list(journalled.get("notes") or []),
            without_image=journalled.get("without_image"),
            plan=self.plan,
        )

    def _left(self) -> dict[str, Any]:
        """What differs from how the step began, as plain JSON types."""
        if self.attempt <= 1 and not self.losses:
            return {}
        left: dict[str, Any] = {
            "losses": self.losses,
            "retries": self.retries,
            "memory_retries": self.memory_retries,
            "temporary": self.temporary,
            "set_back": dict(self.set_back),
        }
        if self.plan.booking != self.first.booking and self.plan.booking is not None:
            left["longer_tries"] = self.longer_tries
            left["booking"] = [self.plan.booking.seconds, self.plan.booking.more_than]
        if self.plan.resources != self.first.resources:
            left["memory"] = [self.plan.resources.memory_min, self.plan.resources.memory_max]
        return left

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
        if outcome.booked is not None and self._longer(placement, outcome, outcome.booked):
            return True
        if outcome.exit_code in self.plan.temporary_codes and self.temporary > 0:
            self.pause = REST * 2 ** (TEMPORARY - self.temporary)
            self.temporary -= 1
            if placement.node is not None:
                self.set_back[placement.node] += 1
            self._note(placement, f"exit code {outcome.exit_code}, a temporary failure; again")
            return True
        failed = outcome.by_command or (outcome.exit_code not in (None, *self.plan.success_codes))
        if self.retries <= 0 or not failed:
            return False
        self.retries -= 1
        self._note(placement, f"{outcome.problem or f'exit code {outcome.exit_code}'}; again, as asked for")
        return True

    def _longer(self, placement: Placement, outcome: StepOutcome, booked: float) -> bool:
        """Whether a command that the end of a booking ended gets more time: not if its workflow or user said
        how much it needs."""
        if self.plan.booking is None or self.longer_tries <= 0:
            return False
        self.longer_tries -= 1
        asked = 2 * (booked or self.plan.booking.seconds)
        self.plan = replace(self.plan, booking=Booking(asked, more_than=booked))
        problem = f"{outcome.problem}; again with {spell_seconds(asked)}, since nobody says how long it takes"
        self.failures.append(f"{placement.node}: {outcome.problem}; {TIME_ADVICE}")
        self._note(placement, problem)
        return True

    def advised(self, outcome: StepOutcome) -> StepOutcome:
        """The last outcome; one that a booking ended says what helps."""
        if outcome.booked is None:
            return outcome
        said = self.plan.said_time
        advice = TIME_ADVICE
        if said is not None:
            advice = (
                f"{spell_seconds(said)} is what its "
                + ("ToolTimeLimit" if self.plan.time_limit else "duration (hint Placement, policy.duration)")
                + " asks for: raise it"
            )
        return replace(outcome, problem=f"{outcome.problem}; {advice}")

    async def rest(self) -> None:
        """Wait before the next attempt, when the last one ended in a temporary failure."""
        pause, self.pause = self.pause, 0.0
        if pause:
            await asyncio.sleep(pause)

    def outrun(self, placement: Placement, node: str, problem: str) -> bool:
        """An offer went to somebody else, which is nobody's fault; whether to ask for others like it."""
        self.failures.append(problem)
        self.earlier.append({"attempt": self.attempt, "node": node, "problem": problem})
        del self.earlier[:-SHOWN]
        placement.earlier = list(self.earlier)
        self.raced = self.races < MOST_RACES
        return self.raced

    async def missed(self) -> None:
        """No offer could be accepted: either others were quicker and it is asked again, or it is a loss."""
        if not self.raced:
            self.losses += 1
            return
        self.raced = False
        self.races += 1
        self.attempt -= 1  # nothing ran
        await asyncio.sleep(PAUSE * self.races)

    def not_accepted(self, placement: Placement, node: str, problem: str) -> None:
        """An offer could not be accepted: its node is set back."""
        self.raced = False
        self.set_back[node] += 1
        self.failures.append(problem)
        self.earlier.append({"attempt": self.attempt, "node": node, "problem": problem})
        placement.earlier = list(self.earlier)

    def _note(self, placement: Placement, problem: str) -> None:
        self.earlier.append(
            {"attempt": self.attempt, "node": placement.node, "session_url": placement.session_url}
            | {"problem": problem}
        )


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
