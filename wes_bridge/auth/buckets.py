"""Token buckets by name, in bounded memory: how often somebody has done something of late.

A bucket fills up at a rate, and each deed takes one token out. A bucket that nobody has touched for longest
is forgotten when there are too many, so that names without end cost nothing. It must not know whose they are.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 10_000
"""Names that are remembered."""


class Buckets:
    """The buckets of one kind of deed.

    Args:
        most: names that are remembered.
        clock: seconds.
    """

    def __init__(self, most: int = MOST, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, rate: float, size: float, tokens: float = 1.0) -> float:
        """Take tokens out of a bucket.

        Args:
            name: whose.
            rate: tokens that come back in a second.
            size: tokens of a full bucket.
            tokens: how many; 0 only looks.

        Returns:
            0 when they were there; else seconds until they are, and nothing is taken.
        """
        now = self._clock()
        left, since = self._buckets.get(name, (size, now))
        left = min(size, left + (now - since) * rate)
        least = max(tokens, 1.0)
        if left < least:
            return (least - left) / rate
        if tokens:
            self._buckets[name] = left - tokens, now
            self._buckets.move_to_end(name)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return 0.0
