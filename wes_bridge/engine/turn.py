"""Loading workflows is done by one thread at a time, except while it waits for the network.

schema-salad and cwltool keep process-wide caches. A document from elsewhere is waited for without them, so a
host that does not answer, or cannot even be found, holds up the run that names it and no other.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """A lock that its holder can let go for a while; who has it may take it again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()

    @property
    def _depth(self) -> int:
        """How often this thread has taken it."""
        depth: int = getattr(self._local, "depth", 0)
        return depth

    def __enter__(self) -> None:
        if self._depth == 0:
            self._lock.acquire()
        self._local.depth = self._depth + 1

    def __exit__(self, *_: object) -> None:
        self._local.depth = self._depth - 1
        if self._depth == 0:
            self._lock.release()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """A context without the lock, if this thread has it."""
        depth = self._depth
        if depth == 0:
            yield
            return
        self._local.depth = 0
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()
            self._local.depth = depth


LOADING = Turn()
"""Of this process: as process-wide as the caches it is for."""
