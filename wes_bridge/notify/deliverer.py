"""Carries deliveries from the database to their receivers, until they have arrived or it is of no use.

Each worker process has one. A delivery is claimed by a lease, so one of them has it at a time, and a process
that dies leaves it to the others: a receiver may be told twice, with the same id. Times are told by the
database's clock; when that is set back nothing waits for longer than it would have.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import random
import time
from collections.abc import Callable
from typing import Any

from wes_bridge.config import ServiceConfig
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.guard import Guard
from wes_bridge.model.states import State
from wes_bridge.notify.message import body, headers
from wes_bridge.notify.sending import DeliveryError, Sender
from wes_bridge.store.database import Database, clock
from wes_bridge.store.outage import OUTAGE, Trouble, is_passing
from wes_bridge.store.webhooks import (
    bring_forward,
    claim_deliveries,
    end_delivery,
    next_due,
    postpone_delivery,
)
from wes_bridge.store.writer import Writer

_logger = logging.getLogger("wes_bridge.notify")
POLL = 0.5
"""Seconds between looks at the database, at most."""
AT_ONCE = 32
FIRST_DELAY, LAST_DELAY = 2.0, 3600.0
"""Seconds until a delivery is tried again, the first time and at most; doubled each time in between."""
_SET_BACK = 1.0
"""Seconds that a clock has lost between two looks when it has been set back; it may have before the first."""
Tell = Callable[[str, str], None]


def delay(attempts: int, draw: float) -> float:
    """Seconds until the next attempt after ``attempts`` failed ones; ``draw`` of [0, 1) scatters them."""
    return float(min(LAST_DELAY, FIRST_DELAY * 2 ** min(attempts - 1, 20)) * (0.8 + 0.4 * draw))


class Deliverer:
    """Delivers what is due.

    Args:
        config: of the service.
        database: to look into.
        writer: to claim and settle with.
        tell: given a run's id and a line for its log; runs in a thread.
        draw: random numbers of [0, 1).
    """

    def __init__(
        self,
        config: ServiceConfig,
        database: Database,
        writer: Writer,
        tell: Tell,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._config = config.events
        self._guard = Guard(PrivateHosts(config.fetch.private_hosts))
        self._ca_file = config.fetch.ca_file
        self._database = database
        self._writer = writer
        self._tell = tell
        self._draw = draw
        self._lease = 2 * self._config.webhook_timeout + 30.0
        self._ahead = math.inf
        self._under_way: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Deliver until cancelled."""
        sender = Sender(self._guard, self._config.webhook_timeout, self._ca_file)
        trouble = Trouble(_logger, "cannot read or claim deliveries of webhooks; trying again")
        try:
            while True:
                try:
                    await self._look(sender)
                except Exception as error:
                    trouble.seen(error, logging.ERROR)
                else:
                    trouble.over()
                await asyncio.sleep(POLL)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
            await sender.close()

    async def _look(self, sender: Sender) -> None:
        due, now = await asyncio.to_thread(next_due, self._database)
        ahead = now - time.monotonic()
        if due is not None and ahead < self._ahead - _SET_BACK:
            await self._writer(lambda connection: bring_forward(connection, now, self._longest))
            due = now
        self._ahead = ahead
        room = AT_ONCE - len(self._under_way)
        if due is None or due > now or room <= 0:
            return
        rows = await self._writer(lambda connection: claim_deliveries(connection, now, self._lease, room))
        for row in rows:
            task = asyncio.create_task(self._deliver(row, sender), name=f"webhook of {row.run_id}")
            self._under_way.add(task)
            task.add_done_callback(self._on_done)

    def _longest(self, attempts: int) -> float:
        """Seconds a delivery waits at most: for a claimer's end, or to be tried again."""
        return max(self._lease, delay(attempts, 1.0)) if attempts else 0.0

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if is_passing(error):
                OUTAGE.seen(error)
            else:
                _logger.error("%s: %r", task.get_name(), error)

    async def _deliver(self, row: Any, sender: Sender) -> None:
        content = await asyncio.to_thread(body, row)
        try:
            await sender.send(row.url, content, headers(row, content, int(time.time())))
        except DeliveryError as error:
            await self._failed(row, error)
            return
        await self._end(row)

    async def _failed(self, row: Any, error: DeliveryError) -> None:
        now = await self._writer(clock)
        due = now + delay(row.attempts, self._draw())
        last = row.created + self._config.webhook_give_up.total_seconds()
        if error.is_lasting or now >= last:
            await self._say(row, f"webhook: {row.state} was not delivered: {error}")
            await self._end(row)
            return
        if row.attempts == 1:
            await self._say(row, f"webhook: {row.state}: {error}; it is tried again")
        postpone = functools.partial(
            postpone_delivery, seq=row.seq, attempts=row.attempts, due=min(due, max(last, now + FIRST_DELAY))
        )
        await self._writer(postpone)

    async def _end(self, row: Any) -> None:
        await self._writer(
            lambda connection: end_delivery(
                connection, row.seq, row.attempts, row.run_id, is_last=State(row.state).is_final
            )
        )

    async def _say(self, row: Any, text: str) -> None:
        _logger.info("run %s: %s", row.run_id, text)
        try:
            await asyncio.to_thread(self._tell, row.run_id, text)
        except OSError as error:
            _logger.warning("run %s: its log cannot be written: %s", row.run_id, error)
