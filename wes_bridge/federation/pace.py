"""How often a broker is asked for a session that it does not tell of by itself. It must not know HTTP.

A broker that holds an answer until there is news costs a request or two a minute. One that answers at once is
asked again after a pause: short while things happen, longer the longer nothing does, and so long that all
sessions at it together, however many, make no more than so many requests a second.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

FIRST, FACTOR, USUAL = 0.05, 1.5, 5.0
"""Seconds of the first pause after news, how much longer each further one is, and up to when."""
SHARE, LONGEST = 0.02, 30.0
"""After that a pause is such a part of the time since the last news, and so many seconds at most."""
RATE = 100.0
"""Requests a second, for all sessions at one broker."""
HELD = 1.0
"""Seconds after which an answer counts as held by the broker: it may be asked again at once."""
SLOW = 5.0
"""The same for one that tells nothing new and has no etag: such a broker may just be slow."""


class Crowd:
    """The sessions at one broker that are followed by asking again and again."""

    def __init__(self) -> None:
        self.size = 0


class Pace:
    """The pauses of one session.

    Args:
        crowd: that it belongs to while it has to be asked for.
        draw: random numbers of [0, 1): sessions that began together shall not be asked for together.
    """

    def __init__(self, crowd: Crowd, draw: Callable[[], float] = random.random) -> None:
        self._crowd = crowd
        self._draw = draw
        self._pause = FIRST
        self._is_counted = False

    def news(self) -> None:
        """Something has happened, so more may soon."""
        self._pause = FIRST

    def held(self) -> None:
        """The broker tells by itself."""
        if self._is_counted:
            self._is_counted = False
            self._crowd.size -= 1

    def next(self, quiet: float) -> float:
        """Seconds to wait before it is asked again, when there has been no news for ``quiet`` seconds."""
        if not self._is_counted:
            self._is_counted = True
            self._crowd.size += 1
        self._pause = min(self._pause * FACTOR, max(USUAL, min(LONGEST, SHARE * quiet)))
        return max(self._pause, self._crowd.size / RATE) * (0.9 + 0.2 * self._draw())

    async def wait(self, quiet: float) -> None:
        """Wait so long."""
        await asyncio.sleep(self.next(quiet))
