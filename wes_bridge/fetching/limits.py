"""How long, how slow and how large one fetch may be."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from wes_bridge.fetching.errors import DeadlineError, TooSlowError


@dataclass(frozen=True)
class Limits:
    """Of one fetch, redirects included.

    Attributes:
        timeout: seconds without progress: to connect, and until ``least_rate`` is looked at again.
        deadline: seconds for all of it; None: no end as long as it goes on.
        least_rate: bytes a second, on average over ``timeout``.
        max_bytes: of the body, unpacked; None: any number.
    """

    timeout: float = 30.0
    deadline: float | None = 600.0
    least_rate: float = 1024.0
    max_bytes: int | None = None


class Budget:
    """The time of one fetch as it is used up.

    Args:
        limits: what it may take.
        clock: seconds, monotonic.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        now = clock()
        self._end = float("inf") if limits.deadline is None else now + limits.deadline
        self._look = now + limits.timeout
        self._moved = 0

    def left(self) -> float:
        """Seconds until the next look at it.

        Raises:
            DeadlineError: there are none at all.
            TooSlowError: too little came or went since the last look.
        """
        now, limits = self._clock(), self._limits
        if now >= self._end:
            raise DeadlineError(f"it takes longer than {limits.deadline:g} s (fetch.deadline)")
        if now >= self._look:
            if self._moved < max(1.0, limits.least_rate * limits.timeout):
                raise TooSlowError(
                    f"only {self._moved} bytes came or went in {limits.timeout:g} s"
                    f" (fetch.least_rate is {limits.least_rate:g} bytes a second)"
                )
            self._look, self._moved = now + limits.timeout, 0
        return min(self._end, self._look) - now

    def moved(self, count: int) -> None:
        """Bytes came or went."""
        self._moved += count
