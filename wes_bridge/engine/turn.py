"""Loading workflows is done by one thread at a time, except while it waits for the network.

schema-salad and cwltool keep process-wide caches. A document from elsewhere is waited for without them, so a
host that does not answer, or cannot even be found, holds up the run that names it and no other.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator


class Turn:
    """A lock that its holder can let go for a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._local = threading.local()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._local.held = True

    def __exit__(self, *_: object) -> None:
        self._local.held = False
        self._lock.release()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """A context without the lock, if this thread has it."""
        if not getattr(self._local, "held", False):
            yield
            return
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


LOADING = Turn()
"""Of this process: as process-wide as the caches it is for."""
