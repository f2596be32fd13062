"""A run's plan: what each step would ask for, and what nodes offer for it, before anything runs.

API and command line share it. Times are seconds from :attr:`RunPlan.created`; money is in the sites'
currency, energy in kWh, carbon in grams of CO2. None means: not known.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

KNOWN: Final = "known"
ESTIMATED: Final = "estimated"


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Range(_Part):
    """A figure between two bounds; either may not be known."""

    min: float | None = None
    max: float | None = None


class Total(Range):
    """A sum over steps; ``complete`` is false when some do not say, or run an unknown number of times."""

    complete: bool = True


class Moved(_Part):
    """Bytes of inputs that a node would have to bring, and inputs whose size is not known."""

    bytes: int = 0
    unknown: int = Field(0, description="inputs whose size nobody knows")


class Chosen(_Part):
    """The offer that would be taken."""

    node: str
    reason: str = Field(description="why this one")
    wait: float | None = Field(None, description="seconds until the command would start, were it asked now")
    duration: float | None = Field(None, description="seconds it would have")
    releasing: float = Field(0.0, description="seconds until its outputs are where they belong")
    cost: Range | None = Field(None, description="of one element")
    energy: Range | None = Field(None, description="of one element, kWh")
    carbon: Range | None = Field(None, description="of one element, grams of CO2")
    move: Moved = Field(Moved(), description="of all elements together")


class Answer(_Part):
    """What one node said to a step's request."""

    node: str
    offers: int = Field(description="how many that could be taken")
    reason: str | None = Field(None, description="why there is none")
    refused: list[str] = Field(default_factory=list, description="why offers cannot be taken")


class PlannedStep(_Part):
    """One step, or the elements of a scattered step that would ask for the same."""

    name: str = Field(description="path of steps, without scatter indices")
    places: list[str] = Field(description="names of its tasks; [?] where an index is not known yet")
    count: int | None = Field(None, description="how often it would run; None: not known before it runs")
    certainty: Literal["known", "estimated"]
    unknown: list[str] = Field(default_factory=list, description="what is not known yet, in words")
    optional: bool = Field(False, description="whether a condition that is not known yet may skip it")
    after: list[str] = Field(default_factory=list, description="names of the steps it waits for")
    tool: str = ""
    command: list[str] = Field(
        default_factory=list, description="of the first element, as far as it is known"
    )
    image: str | None = None
    without_image: str | None = Field(
        None, description="that it runs without the image its tool hints at, and why"
    )
    cores: float = 1
    memory: int | None = Field(None, description="bytes; None: not said")
    scratch: int | None = Field(None, description="bytes; None: not said")
    time_limit: int | None = Field(None, description="seconds; None: none")
    network: bool = False
    reads: Moved = Field(Moved(), description="known inputs of all elements together")
    problem: str | None = Field(None, description="why it would fail, whatever the nodes say")
    unsupported: bool = False
    answers: list[Answer] = Field(default_factory=list)
    chosen: Chosen | None = None
    start: float | None = Field(None, description="seconds from now, after the steps it waits for")
    end: float | None = Field(None, description="seconds from now, at the latest")
    critical: bool = Field(False, description="whether the run ends no earlier than it lets it")
    request: dict[str, Any] | None = Field(None, description="the ExecutionRequest of the first element")

    @property
    def label(self) -> str:
        """``x1``, ``x12``, or ``xN?`` when it is not known how often."""
        return "xN?" if self.count is None else f"x{self.count}"


class Totals(_Part):
    """All steps together; one that may be skipped counts as if it ran."""

    tasks: int = Field(description="sessions, those of an unknown number counted once")
    complete: bool = Field(description="whether the number of tasks is known")
    cost: Total
    energy: Total
    carbon: Total
    reads: Moved
    move: Moved
    end: float | None = Field(None, description="seconds from now; None: some step does not say")


class RunPlan(_Part):
    """What a run would do, and what it would take."""

    workflow: str
    created: datetime
    policy: str
    steps: list[PlannedStep]
    skipped: list[str] = Field(default_factory=list, description="places whose condition is already false")
    problems: list[str] = Field(
        default_factory=list, description="what would go wrong, whatever the nodes say"
    )
    notes: list[str] = Field(default_factory=list)
    nodes: list[str] = Field(default_factory=list, description="names of the brokers there are")
    totals: Totals

    @property
    def refused(self) -> list[PlannedStep]:
        """Steps that no node has an offer for."""
        return [step for step in self.steps if step.chosen is None]

    @property
    def is_possible(self) -> bool:
        """Whether every step has an offer and nothing is known to go wrong."""
        return not self.refused and not self.problems

    @property
    def is_unsupported(self) -> bool:
        """Whether some step asks for what cannot be done here."""
        return any(step.unsupported for step in self.steps)


class PlanError(Exception):
    """A plan cannot be made: the workflow or its inputs are not valid, or need what cannot be done.

    Args:
        text: for the user.
        unsupported: valid CWL that cannot be run here.
    """

    def __init__(self, text: str, *, unsupported: bool = False) -> None:
        super().__init__(text)
        self.unsupported = unsupported


UNSUPPORTED = "Unsupported: "
"""How the message of an answer begins that says so, as a run's own log does."""
