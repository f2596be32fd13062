"""Faults that last: one line in the log when one begins, one a minute with a count, one when it ends.

Whatever is tried again and again tells what went wrong to an object of :class:`Lasting`, and tells it when
all is well. It must not know what is tried, or why it fails.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from pathlib import Path

from wes_bridge.model.units import spell_seconds

EVERY = 60.0
"""Seconds between two lines about a fault that lasts."""
FORGOTTEN = 10 * EVERY
"""Seconds without a word after which a fault is over, though nobody has said so."""
_LONGEST = 500
"""Characters of an error's own words."""
Clock = Callable[[], float]


def in_one_line(error: object) -> str:
    """An error's own words, without what SQLAlchemy adds to those of a driver."""
    words = " ".join(str(getattr(error, "orig", None) or error).split())
    if isinstance(error, BaseException) and not words:
        return type(error).__name__
    return words[:_LONGEST]


def place_of(error: BaseException) -> str:
    """The kind of an error and where in the program it arose, by which it is told from others."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{place}"


class Lasting:
    """One fault, which is there or not. For any thread.

    Args:
        logger: where it is told.
        what: goes wrong, as in ``cannot purge sessions; trying again``.
        ended: what is said at its end; by default that it is well again.
        clock: seconds, from any moment on.
        settling: seconds after its end in which others may still run into it: their attempts began before.
        traceback_once: whether an error that no surroundings explain is told with its traceback.
    """

    def __init__(
        self,
        logger: logging.Logger,
        what: str,
        ended: str = "",
        clock: Clock = time.monotonic,
        *,
        settling: float = 0.0,
        traceback_once: bool = True,
    ) -> None:
        self._logger = logger
        self._what = what
        self._ended = ended or f"no longer: {what}"
        self._clock = clock
        self._settling = settling
        self._traceback_once = traceback_once
        self._lock = threading.RLock()  # a log handler may find out about the same fault
        self._begun: float | None = None
        self._over = float("-inf")
        self._last = self._told = 0.0
        self._count = self._untold = 0

    @property
    def is_there(self) -> bool:
        """Whether it has begun and not ended."""
        return self._begun is not None

    def seen(self, error: object, level: int = logging.WARNING) -> None:
        """It is there.

        Args:
            error: what has just gone wrong. One that no surroundings explain is told with a traceback, once.
            level: of the line.
        """
        with self._lock:
            now = self._clock()
            if self._begun is not None and now - self._last > FORGOTTEN:
                self._begun = None
            if self._begun is None and now - self._over < self._settling:
                return
            self._last = now
            if self._begun is None:
                self._begun = self._told = now
                self._count, self._untold = 1, 0
                with_place = (
                    self._traceback_once and isinstance(error, Exception) and not _is_explained(error)
                )
                cause = error if with_place and isinstance(error, Exception) else None
                self._logger.log(level, "%s: %s", self._what, in_one_line(error), exc_info=cause)
                return
            self._count += 1
            self._untold += 1
            if now - self._told >= EVERY:
                times, since = self._untold, spell_seconds(now - self._begun)
                self._told, self._untold = now, 0
                text = "%s, for %s now; %d more times, at last: %s"
                self._logger.log(level, text, self._what, since, times, in_one_line(error))

    def over(self) -> None:
        """All is well: for each attempt that succeeds."""
        if self._begun is None:  # as nearly always
            return
        with self._lock:
            if self._begun is None:
                return
            now = self._clock()
            lasted, times = spell_seconds(now - self._begun, tenths=True), self._count
            self._begun, self._over = None, now
            self._logger.warning(
                "%s; it took %s and went wrong %d time%s", self._ended, lasted, times, "s" * (times > 1)
            )


class LastingOfEach:
    """The faults of many things of a kind, such as brokers.

    Args:
        logger: where they are told.
        what: goes wrong with one; ``{}`` stands for its name.
        clock: seconds, from any moment on.
    """

    def __init__(self, logger: logging.Logger, what: str, clock: Clock = time.monotonic) -> None:
        self._logger = logger
        self._what = what
        self._clock = clock
        self._faults: dict[Hashable, Lasting] = {}

    def seen(self, name: Hashable, error: object, level: int = logging.WARNING) -> None:
        """As :meth:`Lasting.seen`, of one of them."""
        if name not in self._faults:
            self._faults[name] = Lasting(self._logger, self._what.format(name), clock=self._clock)
        self._faults[name].seen(error, level)

    def over(self, name: Hashable) -> None:
        """As :meth:`Lasting.over`, of one of them."""
        fault = self._faults.pop(name, None)
        if fault is not None:
            fault.over()


def _is_explained(error: Exception) -> bool:
    """Whether the world outside is at fault, so that where in the program it was noticed says nothing."""
    return isinstance(error, OSError) or hasattr(error, "orig")
