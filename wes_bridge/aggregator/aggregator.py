"""An aggregator: it asks brokers, remembers what it told whom, and passes on what follows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from secrets import token_hex

from wes_bridge.aggregator.asking import Answers, Asker
from wes_bridge.aggregator.book import Book, Item, Record
from wes_bridge.aggregator.choosing import NOT_ACCEPTED, Chooser
from wes_bridge.aggregator.data import KeptData
from wes_bridge.aggregator.health import Look, report
from wes_bridge.aggregator.hops import Way
from wes_bridge.aggregator.messages import LOOP, STALE, Json, add_messages, message
from wes_bridge.aggregator.sessions import Sessions, Told
from wes_bridge.aggregator.upstream import Upstream
from wes_bridge.config import AggregatorConfig, BrokerConfig
from wes_bridge.federation.client import BrokerError, http_session
from wes_bridge.federation.credentials import Credentials
from wes_bridge.model.execution_broker import dump, phase_update
from wes_bridge.model.states import Phase

PURGE_EVERY = 600.0
"""Seconds between looks for offer sets to forget."""
SHORTEST = 0.05
"""Seconds of time left below which brokers are not asked."""


class Aggregator:
    """An aggregator of brokers.

    Args:
        config: of the aggregator.
        state: folder of its database.

    Attributes:
        book: what it remembers; there once started, like the others.
        sessions: talks to brokers about sessions.
        chooser: accepts and rejects offers.
        kept: asks brokers for outputs they keep.
    """

    book: Book
    sessions: Sessions
    chooser: Chooser
    kept: KeptData

    def __init__(self, config: AggregatorConfig, state: Path) -> None:
        self.config = config
        self._state = state
        self._id = token_hex(6)
        self._stack = contextlib.AsyncExitStack()
        self._closing = asyncio.Event()

    async def start(self) -> None:
        """Open the database and connections, and go on with what was interrupted."""
        self.book = Book(self._state)
        self._stack.callback(self.book.close)
        http = await self._stack.enter_async_context(http_session())
        brokers = {
            broker.name: Upstream(
                broker.name,
                str(broker.url),
                http,
                self.config.max_answer,
                _secret_of(broker),
                dialect=broker.dialect,
            )
            for broker in self.config.brokers
        }
        self.sessions = Sessions(brokers, self.book, self._closing)
        self.kept = KeptData(self.sessions, self.book)
        self.chooser = Chooser(self.book, self.sessions)
        self._look = Look(list(brokers.values()))
        self._stack.push_async_callback(self._look.close)
        self._asker = Asker(list(brokers.values()), self.config, self.chooser.reject)
        self._stack.push_async_callback(self.chooser.close)
        self._stack.push_async_callback(self._asker.close)
        await self.chooser.start()
        purging = asyncio.create_task(self._purge_now_and_then())
        self._stack.callback(purging.cancel)

    async def stop(self) -> None:
        """Close everything."""
        self._closing.set()
        await self._stack.aclose()

    def release_waiters(self) -> None:
        """Let held answers be given at once: we are going down."""
        self._closing.set()

    async def health(self, way: Way) -> Json:
        """How it is, and which of its brokers are away; nobody is looked at twice in a circle."""
        away: dict[str, str] = {}
        if way.problem(self._id, self.config.max_hops) is None:
            away = await self._look.away(way.onward(self._id, self.config.name))
        return report(self.config.name, [broker.name for broker in self.config.brokers], away)

    async def offer(
        self, request: Json, way: Way, patience: float, owner: str, *, dialect: str | None = None
    ) -> Record:
        """Ask all brokers, and store what they offer, or why they do not.

        Args:
            request: checked.
            way: the aggregators it has come through.
            patience: seconds the client is prepared to wait, 0 when it did not say.
            owner: whose the offer set is.
            dialect: in which the request is written, if its client says so; others are not asked.
        """
        deadline = min(self.config.deadline, patience or self.config.deadline)
        problem = way.problem(self._id, self.config.max_hops)
        if problem is None and deadline < SHORTEST:
            problem = f"there are only {deadline:g} s left to answer, too little to ask anybody"
        if problem is not None:
            answers = Answers(reasons=[message(LOOP, "ERROR", "{problem}", problem=problem)])
        else:
            via = way.onward(self._id, self.config.name)
            inputs = await self.kept.inputs(request, owner, len(self.config.brokers) > 1)
            answers = await self._asker.ask(request, deadline, via, inputs, dialect=dialect)
        try:
            record = await self.book.add(self.config.name, answers, owner)
        except BaseException:
            self.chooser.reject(answers.offers)
            raise
        finally:
            self.chooser.reject(answers.surplus)
        return record

    async def direct(
        self, request: Json, way: Way, base: str, owner: str, *, dialect: str | None = None
    ) -> tuple[Record, Item | None, Told | None]:
        """Ask, and accept the best offer that can be.

        Returns:
            The offer set, and the session if there is one.
        """
        record = await self.offer(request, way, 0, owner, dialect=dialect)
        for item in record.items.values():
            with contextlib.suppress(BrokerError):
                update = dump(phase_update(Phase.ACCEPTED))
                told = await self.chooser.accept(record, item, update, base, 0)
                if told.phase not in NOT_ACCEPTED:
                    return record, item, told
        return record, None, None

    async def tell_made(self, record: Record, base: str) -> Json:
        """An offer set as it was made."""
        told = _offerset(record, base)
        if record.items:
            told["offers"] = [
                await self.sessions.tell(item, json.loads(item.body), base) for item in record.items.values()
            ]
        return told

    async def tell_now(self, record: Record, base: str) -> Json:
        """An offer set with its offers as they are now; as they were made where a broker does not say."""
        told = _offerset(record, base)
        if record.items:
            told["offers"] = list(
                await asyncio.gather(*(self._offer_now(item, base) for item in record.items.values()))
            )
        return told

    async def _offer_now(self, item: Item, base: str) -> Json:
        try:
            async with asyncio.timeout(self.config.deadline):
                told = await self.sessions.read(item, base)
            return told.data or {}
        except (BrokerError, TimeoutError) as error:
            offer = await self.sessions.tell(item, json.loads(item.body), base)
            why = str(error) or f"{item.broker} did not answer in time"
            text = "this is what {broker} said earlier: {why}"
            add_messages(offer, [message(STALE, "WARN", text, broker=item.broker, why=why)])
            return offer

    async def _purge_now_and_then(self) -> None:
        while True:
            gone = await self.book.purge(time.time() - self.config.keep_sessions)
            await asyncio.sleep(1.0 if gone else min(PURGE_EVERY, self.config.keep_sessions))


def _offerset(record: Record, base: str) -> Json:
    """An offer set without its offers."""
    told: Json = json.loads(json.dumps(record.body))
    told["meta"]["url"] = f"{base}/offersets/{record.uuid}"
    return told


def _secret_of(broker: BrokerConfig) -> Callable[[], Mapping[str, str]]:
    """What makes the headers that a broker wants to see."""
    if broker.credentials is None:
        return dict
    credentials = Credentials(broker.credentials)
    return lambda: {"Authorization": credentials.header()}
