"""Is a broker worth asking? A circuit breaker with back-off, and the counts that the operator sees.

A few failures in a row open the circuit: the broker is not asked for a while, which doubles with each further
failure. When the while is over, one request probes; its answer closes the circuit or opens it for longer.
A NO is a good answer. Time is told by the caller (seconds, monotonic), so that nothing here waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

TOLERATED = 3
"""Failures in a row that open the circuit."""
FIRST_BREAK, LONGEST_BREAK = 1.0, 30.0
"""Seconds. The longest is below the patience of a step, which would else end before the next probe."""


class Circuit(StrEnum):
    """Whether a broker is asked."""

    CLOSED = "closed"
    """It is."""
    OPEN = "open"
    """It is not, for a while."""
    PROBING = "probing"
    """One request finds out."""


@dataclass
class Health:
    """How a broker has been answering.

    Attributes:
        asked, offered, refused, failed, late: requests for offers; those answered with offers, with a NO,
            with nothing usable, and those whose answer came too late to be considered.
        seconds: of all answers together.
        last_error: the newest failure.
        opened: times the circuit was opened.
    """

    asked: int = 0
    offered: int = 0
    refused: int = 0
    failed: int = 0
    late: int = 0
    seconds: float = 0.0
    last_error: str | None = None
    opened: int = 0
    _in_a_row: int = 0
    _until: float = 0.0
    _probing: bool = False

    def circuit(self, now: float) -> Circuit:
        """The circuit's state."""
        if self._in_a_row < TOLERATED:
            return Circuit.CLOSED
        return Circuit.PROBING if self._probing or now >= self._until else Circuit.OPEN

    def may_ask(self, now: float) -> bool:
        """Whether to ask; the first to ask after a break is the probe, and must report how it went."""
        if self._in_a_row < TOLERATED:
            return True
        if self._probing or now < self._until:
            return False
        self._probing = True
        return True

    def is_shut(self, now: float) -> bool:
        """Whether a request that waited for its turn should not be sent any more."""
        return self._in_a_row >= TOLERATED and not self._probing and now < self._until

    def wait(self, now: float) -> float:
        """Seconds until it may be asked again."""
        return max(0.0, self._until - now)

    def answered(self, seconds: float, *, offers: bool) -> None:
        """A good answer came."""
        self.asked += 1
        self.seconds += seconds
        self.offered += offers
        self.refused += not offers
        self._in_a_row = 0
        self._probing = False

    def turned_away(self, reason: str, seconds: float) -> None:
        """It answered, but does not let us in: it is there, and the operator sees why nothing runs."""
        self.answered(seconds, offers=False)
        self.last_error = reason

    def went_wrong(self, reason: str, now: float) -> None:
        """No answer, or none that makes sense."""
        self.asked += 1
        self.failed += 1
        self.last_error = reason
        was_probe, self._probing = self._probing, False
        if self._in_a_row >= TOLERATED and now < self._until and not was_probe:
            return  # one of many that were under way when the circuit opened
        if was_probe or self._in_a_row < TOLERATED:
            self._in_a_row += 1
        if self._in_a_row >= TOLERATED:
            beyond = min(16, self._in_a_row - TOLERATED)
            self._until = now + min(LONGEST_BREAK, FIRST_BREAK * 2**beyond)
            self.opened += 1

    def broke_down(self, reason: str, now: float) -> None:
        """A session was lost with its node: do not ask it again before a break."""
        if self._in_a_row < TOLERATED:
            self._in_a_row = TOLERATED - 1
        self.went_wrong(reason, now)

    def let_go(self) -> None:
        """The request was given up by us: it says nothing about the broker."""
        self._probing = False

    def report(self, now: float) -> dict[str, Any]:
        """What the operator sees, as plain JSON types."""
        return {
            "circuit": self.circuit(now).value,
            "asked": self.asked,
            "offered": self.offered,
            "refused": self.refused,
            "failed": self.failed,
            "late": self.late,
            "opened": self.opened,
            "seconds": round(self.seconds, 3),
            "last_error": self.last_error,
        }
