"""What one user may have of the service: runs submitted in a minute, runs that go on, bytes of attachments.

Requests a second are counted before any handler (:mod:`wes_bridge.auth.rates`).
"""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from wes_bridge.auth.buckets import Buckets
from wes_bridge.auth.principal import Principal
from wes_bridge.auth.rates import of
from wes_bridge.data.workspace import Workspace
from wes_bridge.model.limits import LimitsConfig
from wes_bridge.model.units import GIB
from wes_bridge.store import runs
from wes_bridge.store.database import Database
from wes_bridge.wes.errors import TooManyError
from wes_bridge.wes.threads import Threads

_RECENT = 60.0
"""Seconds for which a sum of attachments is believed; what comes meanwhile is added."""
_KNOWN = 1000
"""Users whose sums are remembered."""
_LATER = 60
"""Seconds after which it is worth trying again where only an end or a deletion helps."""


class Allowances:
    """Says no to who has enough.

    Args:
        config: of all users.
        database: runs.
        workspace: their files.
        threads: what reads either is done there.
        clock: seconds.
    """

    def __init__(
        self,
        config: LimitsConfig,
        database: Database,
        workspace: Workspace,
        threads: Threads,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._database = database
        self._workspace = workspace
        self._threads = threads
        self._clock = clock
        self._submissions = Buckets(clock=clock)
        self._sums: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check_rate(self, user: Principal) -> None:
        """Count a submission, or a plan.

        Raises:
            TooManyError: there were too many of late.
        """
        limit = of(self._config, "submissions", user)
        if limit is None:
            return
        wait = self._submissions.take(user.name, limit.value / 60, max(1.0, limit.value))
        if wait:
            text = f"more than {limit.value:g} submissions a minute ({limit.setting})"
            raise TooManyError(f"{text}; wait {math.ceil(wait)} s", wait)

    def check_runs(self, connection: Connection, user: Principal) -> None:
        """Check that one more run may be stored; in the transaction that stores it.

        Raises:
            TooManyError: as many go on as may.
        """
        limit = of(self._config, "runs", user)
        if limit is not None and runs.count_going_on(connection, user.name) >= limit.value:
            text = f"you have {limit.value:g} runs that have not ended, and no more are allowed"
            raise TooManyError(f"{text} ({limit.setting}); wait for one, or cancel it", _LATER)

    async def attachments_left(self, user: Principal) -> int | None:
        """Bytes of attachments that may still be kept; None when nobody counts.

        Raises:
            TooManyError: none.
        """
        limit = of(self._config, "attachments_gib", user)
        if limit is None:
            return None
        left = int(limit.value * GIB) - await self._kept(user.name)
        if left <= 0:
            raise self.no_room(user)
        return left

    def no_room(self, user: Principal) -> TooManyError:
        """What to tell who has as many attachments as may be kept."""
        limit = of(self._config, "attachments_gib", user)
        assert limit is not None
        text = f"your runs' attachments may have {limit.value:g} GiB together ({limit.setting})"
        return TooManyError(f"{text}; delete runs that you no longer need", _LATER)

    def added(self, user: Principal, size: int) -> None:
        """Attachments were kept."""
        known = self._sums.get(user.name)
        if known is not None:
            self._sums[user.name] = known[0], known[1] + size

    async def _kept(self, user: str) -> int:
        now = self._clock()
        known = self._sums.get(user)
        if known is None or known[0] + _RECENT < now:
            ids = await self._threads.sql(runs.ids_of, self._database, user)
            known = now, await self._threads.files(self._sum, ids)
            self._sums[user] = known
            self._sums.move_to_end(user)
            if len(self._sums) > _KNOWN:
                self._sums.popitem(last=False)
        return known[1]

    def _sum(self, ids: list[str]) -> int:
        return sum(size_of(self._workspace.run(run_id).attachments) for run_id in ids)


def size_of(folder: Path) -> int:
    """Bytes of the files in a folder and below; blocking."""
    total = 0
    for where, _, names, descriptor in os.fwalk(folder):
        del where
        for name in names:
            try:
                total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
            except OSError:  # it was removed just now
                continue
    return total
