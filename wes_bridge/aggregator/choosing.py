"""Accepting one offer of a merged set: that it is the only one, and that the others are rejected.

A client chooses among offers of several brokers. Each broker rejects its own other offers; those of the other
brokers are rejected here, so that they free what they held. What is begun here survives a crash: which offer
is about to be accepted is stored before its broker is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from wes_bridge.aggregator.asking import Offer
from wes_bridge.aggregator.book import Book, Item, Record
from wes_bridge.aggregator.messages import TAKEN, Json, add_messages, message
from wes_bridge.aggregator.sessions import Sessions, Told
from wes_bridge.auth.acting import act_for, person_of
from wes_bridge.federation.client import BrokerError, SessionGoneError
from wes_bridge.lasting import LastingOfEach
from wes_bridge.model.execution_broker import ENUM_UPDATE, dump, phase_update
from wes_bridge.model.states import Phase
from wes_bridge.store.outage import Trouble

log = logging.getLogger(__name__)
_LEFT = LastingOfEach(log, "offers of {} are left to expire, since they cannot be rejected")
_REJECTING = Trouble(log, "offers cannot be rejected")

NOT_ACCEPTED = frozenset({Phase.INITIAL, Phase.OFFERED, Phase.REJECTED, Phase.EXPIRED})
"""Phases of an offer that was not accepted."""
PAUSES = (1.0, 5.0, 20.0)
"""Seconds between attempts to reject an offer; after that it is left to expire."""


def is_acceptance(update: Json) -> bool:
    """Whether an update asks for an offer to be accepted."""
    return (
        update.get("kind") == ENUM_UPDATE
        and update.get("path") in ("/phase", "phase")
        and update.get("value") == Phase.ACCEPTED
    )


class Chooser:
    """Accepts and rejects.

    Args:
        book: where the state of offer sets is kept.
        sessions: talks to brokers.
    """

    def __init__(self, book: Book, sessions: Sessions) -> None:
        self._book = book
        self._sessions = sessions
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Go on with what a crash interrupted."""
        for uuid in await self._book.unsettled():
            self._spawn(self._resume(uuid))

    async def close(self) -> None:
        """Leave what is not done to the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def accept(self, record: Record, item: Item, update: Json, base: str, wait: float) -> Told:
        """Pass on the acceptance of one offer; once it is accepted, reject those of other brokers.

        Args:
            record: the offer set.
            item: the offer.
            update: as it came.
            base: what our client calls us.
            wait: seconds the answer may be held for news of the session.

        Raises:
            BrokerError: as :meth:`Sessions.update`.
        """
        is_chosen = record.accepted == item.uuid and record.state in ("taken", "settled")
        if len(record.items) == 1 or is_chosen:
            return await self._sessions.update(item, update, base, wait)
        async with record.choosing:
            told = await self._choose(record, item, update, base)
        if told.phase in NOT_ACCEPTED or told.phase.is_final or not wait or told.etag is None:
            return told
        later = await self._sessions.read(item, base, told.etag, wait)
        return told if later.data is None else later

    def reject(self, offers: Sequence[Offer]) -> None:
        """Reject offers that nobody has been told of, in the background."""
        for offer in offers:
            self._spawn(self._dismiss(Item(offer.url, offer.broker, offer.url, [], ""), False))

    async def _choose(self, record: Record, item: Item, update: Json, base: str) -> Told:
        chosen = record.accepted
        if record.state in ("taken", "settled") and chosen not in (None, item.uuid):
            told = await self._sessions.update(item, dump(phase_update(Phase.REJECTED)), base)
            text = "this offer cannot be accepted: offer {chosen} of the same set was"
            add_messages(told.data or {}, [message(TAKEN, "WARN", text, chosen=chosen)])
            return told
        if chosen is not None and chosen != item.uuid:
            record.lost.add(chosen)
        record.lost.discard(item.uuid)
        await self._book.set_state(record, "trying", item.uuid)
        told = await self._sessions.update(item, update, base)
        if told.phase in NOT_ACCEPTED:
            await self._book.set_state(record, "open", None)
        else:
            await self._book.set_state(record, "taken", item.uuid)
            self._spawn(self._settle(record, item))
        return told

    async def _settle(self, record: Record, chosen: Item) -> None:
        """Reject the offers of other brokers."""
        others = [
            item
            for item in record.items.values()
            if item is not chosen and (item.broker != chosen.broker or item.uuid in record.lost)
        ]
        await asyncio.gather(*(self._dismiss(item, item.uuid in record.lost) for item in others))
        await self._book.set_state(record, "settled", chosen.uuid)

    async def _dismiss(self, item: Item, was_tried: bool) -> None:
        """Reject an offer, or cancel what has become of it if its acceptance may have come through."""
        for pause in (*PAUSES, None):
            try:
                phase = await self._sessions.set_phase(item, Phase.REJECTED)
                if was_tried and not phase.is_final:
                    await self._sessions.set_phase(item, Phase.CANCELLED)
                _LEFT.over(item.broker)
                return
            except SessionGoneError:
                return
            except BrokerError as error:
                if pause is None:
                    _LEFT.seen(item.broker, error)
                    return
                await asyncio.sleep(pause)

    async def _resume(self, uuid: str) -> None:
        record = await self._book.record(uuid)
        chosen = record.items.get(record.accepted or "") if record else None
        if record is None or chosen is None:
            return
        act_for(person_of(record.owner))
        for pause in (*PAUSES, None):
            try:
                told = await self._sessions.read(chosen, "")
            except BrokerError as error:
                log.info("offer set %s: %s", uuid, error)
                if pause is None:
                    return
                await asyncio.sleep(pause)
                continue
            break
        async with record.choosing:
            if record.accepted != chosen.uuid or record.state not in ("trying", "taken"):
                return
            if told.phase in NOT_ACCEPTED:
                await self._book.set_state(record, "open", None)
                return
            await self._book.set_state(record, "taken", chosen.uuid)
        await self._settle(record, chosen)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _REJECTING.seen(error, logging.ERROR)
