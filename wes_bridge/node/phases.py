"""Which phase may follow which: pure functions, no state.

Source: ExecutionBroker 1.0 ``SimpleExecutionSessionPhase`` and what the reference broker lets clients do.
"""

from __future__ import annotations

from wes_bridge.model.execution_broker import ENUM_OPTION, Option
from wes_bridge.model.states import LIVE_PHASES, LifecyclePhase, Phase

_ENDS = frozenset({Phase.FAILED, Phase.CANCELLED})
_NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.INITIAL: _ENDS | {Phase.OFFERED},
    Phase.OFFERED: frozenset({Phase.ACCEPTED, Phase.REJECTED, Phase.EXPIRED, Phase.CANCELLED}),
    Phase.ACCEPTED: _ENDS | {Phase.WAITING, Phase.PREPARING},
    Phase.WAITING: _ENDS | {Phase.PREPARING},
    Phase.PREPARING: _ENDS | {Phase.AVAILABLE, Phase.RUNNING, Phase.RELEASING},
    Phase.AVAILABLE: _ENDS | {Phase.RUNNING, Phase.RELEASING},
    Phase.RUNNING: _ENDS | {Phase.RELEASING},
    Phase.RELEASING: _ENDS | {Phase.COMPLETED},
}
_CLIENT: dict[Phase, frozenset[Phase]] = {
    Phase.ACCEPTED: frozenset({Phase.OFFERED}),
    Phase.REJECTED: frozenset({Phase.OFFERED}),
    Phase.CANCELLED: LIVE_PHASES - {Phase.RELEASING} | {Phase.INITIAL, Phase.OFFERED},
    Phase.FAILED: LIVE_PHASES,
}

_COMPONENT: dict[Phase, LifecyclePhase] = {
    Phase.INITIAL: LifecyclePhase.INITIALIZING,
    Phase.OFFERED: LifecyclePhase.INITIALIZING,
    Phase.ACCEPTED: LifecyclePhase.WAITING,
    Phase.WAITING: LifecyclePhase.WAITING,
    Phase.PREPARING: LifecyclePhase.PREPARING,
    Phase.AVAILABLE: LifecyclePhase.AVAILABLE,
    Phase.RUNNING: LifecyclePhase.RUNNING,
    Phase.RELEASING: LifecyclePhase.RELEASING,
    Phase.COMPLETED: LifecyclePhase.COMPLETED,
    Phase.FAILED: LifecyclePhase.FAILED,
    Phase.CANCELLED: LifecyclePhase.CANCELLED,
    Phase.REJECTED: LifecyclePhase.CANCELLED,
    Phase.EXPIRED: LifecyclePhase.CANCELLED,
}

_OPTIONS: dict[Phase, list[Option] | None] = {
    phase: [Option(kind=ENUM_OPTION, path="/phase", values=[new.value for new in found])] if found else None
    for phase in Phase
    for found in [[new for new, before in _CLIENT.items() if phase in before]]
}


def may_move(old: Phase, new: Phase) -> bool:
    """Whether the node may bring a session from ``old`` to ``new``; final phases are never left."""
    return new in _NEXT.get(old, frozenset())


def client_may_move(old: Phase, new: Phase) -> bool:
    """Whether a client may ask for a session in ``old`` to become ``new``."""
    return old in _CLIENT.get(new, frozenset())


def options(phase: Phase) -> list[Option] | None:
    """What a client may update of a session in ``phase``; None: nothing any more."""
    return _OPTIONS[phase]


def component_phase(phase: Phase) -> LifecyclePhase:
    """The phase a session's components are in, when nothing says otherwise."""
    return _COMPONENT[phase]
