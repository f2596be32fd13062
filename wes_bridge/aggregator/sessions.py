"""Sessions of brokers under names of ours: read, updated, their streams and links opened."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from wes_bridge.aggregator.book import Book, Item
from wes_bridge.aggregator.messages import Json, add_messages
from wes_bridge.aggregator.rewriting import Rewriter
from wes_bridge.aggregator.upstream import Upstream
from wes_bridge.federation.client import BrokerError, SessionGoneError
from wes_bridge.federation.exchange import Answer
from wes_bridge.model.execution_broker import Session, dump, phase_update
from wes_bridge.model.states import Phase

ACTION_TIMEOUT = 15.0
"""Seconds a broker has to answer, what it is asked to wait aside."""
_PASSED_ON = frozenset({400, 409, 413, 415, 422})
"""Refusals that are the client's doing."""
_T = TypeVar("_T")


class RefusedError(BrokerError):
    """The broker refused an update; ``status`` says how."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Told:
    """A session as we tell it.

    Attributes:
        data: its JSON; None: it is still the version the client knows.
        etag: its version, as its broker names it.
        phase: its phase.
    """

    data: Json | None
    etag: str | None
    phase: Phase = Phase.INITIAL


class Sessions:
    """Talks to brokers about sessions.

    Args:
        brokers: by name.
        book: where names of links are kept.
        closing: set when answers must not be held any longer.
    """

    def __init__(self, brokers: Mapping[str, Upstream], book: Book, closing: asyncio.Event) -> None:
        self._brokers = brokers
        self._book = book
        self._closing = closing

    async def read(
        self,
        item: Item,
        base: str,
        seen: str | None = None,
        wait: float = 0,
        gone: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> Told:
        """A session as it is now, or once it differs from the version the client knows.

        Args:
            item: which.
            base: what our client calls us.
            seen: ETag of the version it knows.
            wait: seconds the broker may hold its answer.
            gone: returns when the client is not there any more.

        Raises:
            SessionGoneError: the broker does not know it.
            BrokerError: no answer, or none that is a session.
        """
        broker = self._broker(item)
        headers = {"If-None-Match": seen} if seen else {}
        answer: Answer | None = None
        if wait and not self._closing.is_set():
            held = broker.exchange(
                "GET", item.url, wait + ACTION_TIMEOUT, headers=headers | {"Prefer": f"wait={wait:g}"}
            )
            answer = await first(held, self._closing.wait(), *([gone()] if gone else []))
            if answer is None and seen:
                return Told(None, seen)
        if answer is None:
            answer = await broker.exchange("GET", item.url, ACTION_TIMEOUT, headers=headers)
        if answer.status == 304 and seen:
            return Told(None, answer.etag or seen)
        return await self._told(item, answer, base)

    async def update(self, item: Item, update: Json, base: str, wait: float | None = 0) -> Told:
        """Pass an update on.

        Args:
            item: the session.
            update: as the client sent it.
            base: what our client calls us.
            wait: seconds the broker may hold its answer; None: as long as it thinks best.

        Raises:
            SessionGoneError: the broker does not know it.
            RefusedError: the broker finds fault with the update.
            BrokerError: no answer, or none that is a session.
        """
        answer = await self._post(item, update, 0 if self._closing.is_set() else wait)
        return await self._told(item, answer, base)

    async def set_phase(self, item: Item, phase: Phase) -> Phase:
        """Ask for a session to go to ``phase``; returns where it is. Errors as of :meth:`update`."""
        answer = await self._post(item, dump(phase_update(phase)), 0)
        self._check(item, answer)
        return self._broker(item).parsed(answer, Session)[1].phase

    async def tell(self, item: Item, data: Json, base: str) -> Json:
        """The session as we tell it: every URL one of ours, and stored."""
        told = (data.get("meta") or {}).get("url")
        rewriter = Rewriter((self._broker(item).url, item.url), told, base, item.uuid)
        session = rewriter.session(data, item.broker)
        add_messages(session, item.notes)
        await self._book.keep_links(item, rewriter.links)
        return session

    async def stream(
        self, item: Item, name: str, method: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Open one of a session's streams; the caller closes the answer.

        Raises:
            BrokerError: no answer.
        """
        base, _, uuid = item.url.rpartition("/sessions/")
        return await self._broker(item).open(method, f"{base}/streams/{uuid}/{name}", headers)

    async def link(
        self, item: Item, url: str, method: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Open what a broker linked to in an answer about a session; the caller closes the answer.

        Raises:
            BrokerError: no answer.
        """
        return await self._broker(item).open(method, url, headers)

    async def ask(self, item: Item, method: str, url: str, body: bytes | None) -> Answer:
        """Ask a broker something about a session: at a URL that belongs to it.

        Raises:
            SessionGoneError: the broker does not have it.
            RefusedError: the broker finds fault with the question.
            BrokerError: no answer, or a failure.
        """
        broker = self._broker(item)
        answer = await broker.exchange(method, url, ACTION_TIMEOUT, body)
        if answer.status == 404:
            raise SessionGoneError(broker.refusal(answer))
        if answer.status in _PASSED_ON:
            raise RefusedError(broker.refusal(answer), answer.status)
        if answer.status not in (200, 204):
            raise BrokerError(broker.refusal(answer))
        return answer

    async def tell_anything(self, item: Item, content: bytes, base: str) -> Any:
        """JSON that a link led to, as we tell it.

        Raises:
            ValueError: it is not JSON.
        """
        rewriter = Rewriter((self._broker(item).url, item.url), None, base, item.uuid)
        told = rewriter.anything(json.loads(content))
        await self._book.keep_links(item, rewriter.links)
        return told

    async def _post(self, item: Item, update: Json, wait: float | None) -> Answer:
        body = json.dumps(update, allow_nan=False).encode()
        headers = {} if wait is None else {"Prefer": f"wait={wait:g}"}
        broker = self._broker(item)
        return await broker.exchange("POST", item.url, (wait or 0) + ACTION_TIMEOUT, body, headers)

    async def _told(self, item: Item, answer: Answer, base: str) -> Told:
        self._check(item, answer)
        data, session = self._broker(item).parsed(answer, Session)
        return Told(await self.tell(item, data, base), answer.etag, session.phase)

    def _check(self, item: Item, answer: Answer) -> None:
        if answer.status == 404:
            raise SessionGoneError(f"{item.broker} does not know this session (any more)")
        if answer.status in _PASSED_ON:
            raise RefusedError(self._broker(item).refusal(answer), answer.status)
        if answer.status != 200:
            raise BrokerError(self._broker(item).refusal(answer))

    def _broker(self, item: Item) -> Upstream:
        broker = self._brokers.get(item.broker)
        if broker is None:
            raise BrokerError(f"{item.broker} is not among the configured brokers any more")
        return broker


async def first(work: Coroutine[Any, Any, _T], *others: Coroutine[Any, Any, object]) -> _T | None:
    """The result of ``work``; None when one of the others ends before. What has not ended is cancelled."""
    tasks = [asyncio.ensure_future(work), *(asyncio.ensure_future(other) for other in others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None  # type: ignore[return-value]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
