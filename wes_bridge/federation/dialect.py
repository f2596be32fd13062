"""What differs between brokers that speak the protocol differently, behind one small interface.

Asking, placing and following call it at the moments of a session's life; they must not know any dialect but
the native one, and a dialect must not know how offers are chosen or sessions followed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from wes_bridge.federation.render import native_request
from wes_bridge.model.execution_broker import ExecutionRequest, Image, Message, Session
from wes_bridge.model.step_plan import StagedFile, StepOutcome, StepPlan


class CannotAskError(Exception):
    """The broker cannot run this step as planned, so it is not asked; the text says why."""


class BusyError(CannotAskError):
    """It has as many of our sessions as it may have; asking again later helps."""


class Dialect(Protocol):
    """How one broker is spoken to; the order is that of a session's life."""

    direct: bool
    """Whether other nodes may fetch what its nodes keep, and they from others."""
    moves: bool
    """Whether inputs have to be moved to its nodes: they see no disk of ours."""

    async def arrange(self, plan: StepPlan) -> StepPlan:
        """Get ready for the request; returns the step as it is to be rendered.

        Raises:
            CannotAskError: the step needs what the broker cannot do.
        """

    @property
    def name(self) -> str:
        """What it is called in configurations, and to aggregators: others behind one may speak another."""

    def render(self, plan: StepPlan, image: Image | None) -> ExecutionRequest:
        """The request for a step.

        Args:
            plan: the step.
            image: what the broker calls its container image; None for a plain process.

        Raises:
            BusyError: not now.
            CannotAskError: the step needs what the broker cannot do.
        """

    def otherwise(self, plan: StepPlan, messages: list[Message]) -> bool:
        """Whether the step is to be rendered again, after the broker has said NO with these messages."""

    def reaches(self, real: str) -> bool:
        """Whether its nodes find what is at a real path of the workspace where it stands in only."""

    def holds(self, item: StagedFile) -> bool:
        """Whether an input is there already."""

    def notes(self, plan: StepPlan) -> list[str]:
        """What the broker does otherwise than asked, its results being the same: for the task log."""

    def hold(self, session_url: str) -> None:
        """The session is about to be accepted, or followed again after a restart of ours."""

    async def prepare(self, plan: StepPlan, offer: Session) -> None:
        """Make ready what the session will need, before its offer is accepted; what is there is made anew.

        Raises:
            BrokerError: it cannot be.
        """

    async def ended(self, plan: StepPlan, session: Session) -> bool:
        """Whether the command is known to have ended, though the session's phase does not say so yet."""

    async def outcome(self, plan: StepPlan, session: Session) -> StepOutcome | str | None:
        """How the command did; as text, why to try another session; None: the session itself says it.

        It may be asked again, by an engine that takes up the run of one that is no more.
        """

    async def stop(self, session: Session) -> None:
        """End the command of a session that was cancelled, or could not be accepted, where that does not."""

    def release(self, session_url: str) -> None:
        """The session is followed no longer."""

    async def forget(self, folder: Path, *, but: Callable[[str], bool] = lambda _folder: False) -> None:
        """The run whose outputs are below a folder has ended; ``but`` says which of them are still wanted."""


class Together:
    """What dialects have in common of brokers that see our files."""

    direct = False
    moves = False

    async def arrange(self, plan: StepPlan) -> StepPlan:
        """Nothing: it sees our files."""
        return plan

    def otherwise(self, plan: StepPlan, messages: list[Message]) -> bool:
        """There is no other way."""
        return False

    def reaches(self, real: str) -> bool:
        """It sees what is in the workspace."""
        return False

    def holds(self, item: StagedFile) -> bool:
        """It keeps nothing."""
        return False


class Native(Together):
    """Our own node: the session says everything."""

    name = "native"

    def render(self, plan: StepPlan, image: Image | None) -> ExecutionRequest:
        """See :func:`native_request`."""
        return native_request(plan, image=image)

    def notes(self, _plan: StepPlan) -> list[str]:
        """Nothing: it does what it is asked, or says so itself."""
        return []

    def hold(self, _session_url: str) -> None:
        """Nothing is held: the node says when it is booked up."""

    async def prepare(self, _plan: StepPlan, _offer: Session) -> None:
        """Nothing: the node stages."""

    async def ended(self, _plan: StepPlan, _session: Session) -> bool:
        """The phase says it."""
        return False

    async def outcome(self, _plan: StepPlan, _session: Session) -> None:
        """The session says it."""

    async def stop(self, _session: Session) -> None:
        """Nothing: the node stops it."""

    def release(self, _session_url: str) -> None:
        """Nothing is held."""

    async def forget(self, folder: Path, *, but: Callable[[str], bool] = lambda _folder: False) -> None:
        """Nothing is kept."""


NATIVE = Native()
"""It has no state: one for all."""
