"""What the client knows of run states."""

from __future__ import annotations

FINAL_STATES = frozenset({"COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR", "CANCELED", "PREEMPTED"})
"""States that a run never leaves."""
