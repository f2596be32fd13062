"""How a step came to run where it runs, told while it happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from wes_bridge.model.execution_broker import Session
from wes_bridge.model.step_plan import StepPlan


@dataclass
class Placement:
    """How a step came to run where it runs: for the task log, in words and as data.

    Attributes:
        asked: one entry per broker: its name, the number of offers, the reason for none.
        node: the broker whose offer was accepted.
        maker: who made the offer, where that broker is an aggregator and says so.
        session_url: of the accepted session.
        reason: why that offer.
        choice: the policy, and the figures of the offers in order of preference.
        attempt: 1 for the first session of the step.
        earlier: what became of the attempts before: node, session and problem.
        left: how many tries the step has left (see :class:`~wes_bridge.federation.attempts.Attempts`).
        notes: what the node does otherwise than the step asks.
        without_image: that the step runs without the container image that its tool hints at, and why.
        plan: what runs, which a retry may have changed; not part of the log.
    """

    asked: list[dict[str, Any]] = field(default_factory=list)
    node: str | None = None
    maker: str | None = None
    session_url: str | None = None
    reason: str | None = None
    choice: dict[str, Any] | None = None
    attempt: int = 0
    earlier: list[dict[str, Any]] = field(default_factory=list)
    left: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    without_image: str | None = None
    plan: StepPlan | None = None

    @property
    def shown_node(self) -> str | None:
        """What people call the place: ``site/alpha`` for node alpha behind the aggregator of a site."""
        return f"{self.node}/{self.maker}" if self.node and self.maker else self.node

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types; what is not there yet is left out."""
        return {name: value for name, value in vars(self).items() if value and name != "plan"}


@dataclass(frozen=True)
class Progress:
    """Something the task's log should show: where it is placed, and how its session is."""

    placement: Placement
    session: Session | None


Report = Callable[[Progress], Awaitable[None]]
"""Shows progress; returns when it is safe to go on."""
