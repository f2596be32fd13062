"""Who may run: cores, memory and a number of sessions, handed out first come, first served."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from wes_bridge.model.units import utcnow
from wes_bridge.node.calendar import NOTHING, Amount

UNCOUNTED = 2**62
"""Bytes of storage there are when nobody counts them."""


@dataclass(frozen=True)
class Need:
    """What a session holds while it is prepared and runs.

    Attributes:
        cores: processors.
        memory: bytes.
        duration: how long it may take.
        storage: bytes of scratch space.
        gpus: devices.
    """

    cores: int
    memory: int
    duration: timedelta
    storage: int = 0
    gpus: int = 0

    @property
    def amount(self) -> Amount:
        """What it holds, without for how long."""
        return Amount(self.cores, self.memory, self.storage, self.gpus)


@dataclass(frozen=True)
class Capacity:
    """What a node has: processors, bytes, sessions at once, bytes of storage (None: not counted), GPUs."""

    cores: int
    memory: int
    sessions: int
    storage: int | None = None
    gpus: int = 0

    @property
    def amount(self) -> Amount:
        """All of it."""
        storage = UNCOUNTED if self.storage is None else self.storage
        return Amount(self.cores, self.memory, storage, self.gpus, self.sessions)


SHORTEST_WAIT = 3.0
"""Seconds that a session waits at least where nothing is free: an idle node must look earlier than a busy
one, however quick sessions were of late."""


class Queue:
    """The line of sessions waiting to run, and those running.

    Args:
        capacity: what there is.
        clock: seconds.
        kept: bytes of storage that outputs take which the node keeps.
    """

    def __init__(
        self,
        capacity: Capacity,
        clock: Callable[[], float] = time.monotonic,
        kept: Callable[[], int] = lambda: 0,
    ) -> None:
        self.capacity = capacity
        self._kept = kept
        self._clock = clock
        self._running: dict[str, Need] = {}
        self._since: dict[str, float] = {}
        self._line: deque[tuple[str, Need, asyncio.Future[None]]] = deque()
        self._all = capacity.amount
        self._used = NOTHING
        self._ahead = 0.0
        self._typical: float | None = None

    @property
    def running(self) -> int:
        """Sessions holding a place."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Sessions in the line."""
        return sum(1 for _, _, turn in self._line if not turn.done())

    @property
    def free_cores(self) -> int:
        """Processors nobody holds."""
        return self.capacity.cores - self._used.cores

    @property
    def used(self) -> Amount:
        """What is held now."""
        return self._used

    def try_enter(self, uuid: str, need: Need) -> bool:
        """Take a place if one is free and nobody is in the line."""
        if self._line or not self._fits(need):
            return False
        self._enter(uuid, need)
        return True

    def line_up(self, uuid: str, need: Need) -> asyncio.Future[None]:
        """Join the line.

        Returns:
            Done once the place is taken; who cancels it before gives up the place in the line.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append((uuid, need, turn))
        self._ahead += self._weight(need)
        turn.add_done_callback(lambda done: self._admit() if done.cancelled() else None)
        self._admit()
        return turn

    def force(self, uuid: str, need: Need) -> None:
        """Take a place for what is running already, whether or not there is one."""
        self._enter(uuid, need)

    def leave(self, uuid: str, took: float | None = None) -> None:
        """Give the place back.

        Args:
            uuid: whose.
            took: seconds it was used, for later estimates.
        """
        need = self._running.pop(uuid, None)
        if need is None:
            return
        del self._since[uuid]
        self._used = self._used.minus(need.amount)
        if took is not None:
            self._typical = took if self._typical is None else 0.9 * self._typical + 0.1 * took
        self._admit()

    def earliest(self, need: Need) -> datetime:
        """When a session asked for now would start: at once, or after the work that is ahead of it."""
        now = utcnow()
        if not self._line and self._fits(need):
            return now
        running = sum(self._left(uuid, need) for uuid, need in self._running.items())
        wait = (running + self._ahead) / self.capacity.cores
        return now + timedelta(seconds=max(SHORTEST_WAIT, wait))

    def _left(self, uuid: str, need: Need) -> float:
        """Core-seconds a running session is expected to need yet.

        One that has taken longer than is usual is expected to take as long again, if it may.
        """
        so_far = self._clock() - self._since[uuid]
        expected = self._weight(need) / need.cores
        left = expected - so_far if so_far < expected else min(so_far, need.duration.total_seconds() - so_far)
        return need.cores * max(0.0, left)

    def _weight(self, need: Need) -> float:
        """Core-seconds a session is expected to take: what it asked for, or what sessions took of late."""
        seconds = need.duration.total_seconds()
        return need.cores * (seconds if self._typical is None else min(seconds, self._typical))

    def look_again(self) -> None:
        """There may be more room by now."""
        self._admit()

    def _fits(self, need: Need) -> bool:
        storage = self.capacity.storage
        if (
            storage is not None
            and need.storage
            and self._used.storage + need.storage + self._kept() > storage
        ):
            return False
        return self._used.plus(need.amount).within(self._all)

    def _enter(self, uuid: str, need: Need) -> None:
        self._running[uuid] = need
        self._used = self._used.plus(need.amount)
        self._since[uuid] = self._clock()

    def _admit(self) -> None:
        while self._line:
            uuid, need, turn = self._line[0]
            if not turn.done():
                if not self._fits(need):
                    return
                self._enter(uuid, need)
                turn.set_result(None)
            self._line.popleft()
            self._ahead = max(0.0, self._ahead - self._weight(need)) if self._line else 0.0
