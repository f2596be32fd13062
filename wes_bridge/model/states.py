"""WES states, ExecutionBroker phases, and the one table that maps the second to the first.

Sources: WES 1.1.0 ``State``; ExecutionBroker 1.0 ``SimpleExecutionSessionPhase`` and ``LifecyclePhase``.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """State of a run or a task (WES 1.1.0, ``State``)."""

    UNKNOWN = "UNKNOWN"
    QUEUED = "QUEUED"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    EXECUTOR_ERROR = "EXECUTOR_ERROR"
    SYSTEM_ERROR = "SYSTEM_ERROR"
    CANCELED = "CANCELED"
    CANCELING = "CANCELING"
    PREEMPTED = "PREEMPTED"

    @property
    def is_final(self) -> bool:
        """Whether nothing more happens after this state."""
        return self in FINAL_STATES


FINAL_STATES = frozenset(
    {State.COMPLETE, State.EXECUTOR_ERROR, State.SYSTEM_ERROR, State.CANCELED, State.PREEMPTED}
)
"""States that a run or task never leaves."""

STATE_ORDER: dict[State, int] = {
    State.UNKNOWN: 0,
    State.QUEUED: 1,
    State.INITIALIZING: 2,
    State.RUNNING: 3,
    State.PAUSED: 3,
    State.CANCELING: 4,
    **{state: 5 for state in FINAL_STATES},
}
"""Rank of each state; a transition to a lower rank is refused."""


def may_follow(old: State, new: State) -> bool:
    """Whether a run or task in state ``old`` may go to ``new`` (monotonic; final states stay)."""
    if old == new:
        return True
    return not old.is_final and STATE_ORDER[new] >= STATE_ORDER[old]


class Phase(StrEnum):
    """Phase of an ExecutionBroker session (``SimpleExecutionSessionPhase``)."""

    INITIAL = "INITIAL"
    OFFERED = "OFFERED"
    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    WAITING = "WAITING"
    PREPARING = "PREPARING"
    AVAILABLE = "AVAILABLE"
    RUNNING = "RUNNING"
    RELEASING = "RELEASING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the session has ended, or never began."""
        return self in FINAL_PHASES


FINAL_PHASES = frozenset({Phase.REJECTED, Phase.EXPIRED, Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})
"""Phases that a session never leaves."""
LIVE_PHASES = frozenset(Phase) - FINAL_PHASES - {Phase.INITIAL, Phase.OFFERED}
"""Phases from acceptance until the end."""


class LifecyclePhase(StrEnum):
    """Phase of one component of a session (``LifecyclePhase``)."""

    INITIALIZING = "INITIALIZING"
    WAITING = "WAITING"
    PREPARING = "PREPARING"
    AVAILABLE = "AVAILABLE"
    RUNNING = "RUNNING"
    RELEASING = "RELEASING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


TASK_STATE: dict[Phase, State] = {
    Phase.INITIAL: State.QUEUED,
    Phase.OFFERED: State.QUEUED,
    Phase.ACCEPTED: State.QUEUED,
    Phase.WAITING: State.QUEUED,
    Phase.PREPARING: State.INITIALIZING,
    Phase.AVAILABLE: State.RUNNING,
    Phase.RUNNING: State.RUNNING,
    Phase.RELEASING: State.RUNNING,
    Phase.COMPLETED: State.COMPLETE,
    Phase.FAILED: State.SYSTEM_ERROR,
    Phase.CANCELLED: State.CANCELED,
    Phase.REJECTED: State.QUEUED,
    Phase.EXPIRED: State.QUEUED,
}
"""The phase to task state table of ``docs/design.md``; REJECTED and EXPIRED are asked again."""


def task_state(
    phase: Phase, compute_phase: LifecyclePhase | None = None, exit_code: int | None = None
) -> State:
    """State of the task whose session is in ``phase``.

    Args:
        phase: the session's phase.
        compute_phase: phase of its compute component; a broker that never says RUNNING on the session
            says it here.
        exit_code: the command's exit code, when the node told it.

    Returns:
        The WES state. FAILED is EXECUTOR_ERROR when the command itself ended badly (the node told a
        non-zero exit code), SYSTEM_ERROR otherwise.
    """
    if phase is Phase.PREPARING and compute_phase is LifecyclePhase.RUNNING:
        return State.RUNNING
    if phase is Phase.FAILED and exit_code not in (None, 0):
        return State.EXECUTOR_ERROR
    return TASK_STATE[phase]
