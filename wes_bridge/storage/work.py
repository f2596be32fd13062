"""Many transfers at once: a few threads do them, and the first error ends them all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Self


class Work:
    """Some threads' work; little of it waits at a time.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._most = 2 * threads
        self._pool = ThreadPoolExecutor(threads, "wb-transfers")
        self._pending: set[Future[object]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._settle(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def add(self, work: Callable[[], object], afterwards: Callable[[], None] = lambda: None) -> None:
        """Do it soon, and in any case what comes afterwards.

        Raises:
            Exception: what earlier work raised.
        """
        try:
            self._settle(self._most)
            future: Future[object] = self._pool.submit(work)
        except BaseException:
            afterwards()
            raise
        future.add_done_callback(lambda _: afterwards())
        self._pending.add(future)

    def _settle(self, most: int) -> None:
        while len(self._pending) > most:
            done, self._pending = wait(self._pending, return_when=FIRST_COMPLETED)
            for one in done:
                one.result()
