"""Asking all brokers at once, under a deadline, and putting together what they say."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from wes_bridge.aggregator.dialects import Dialects
from wes_bridge.aggregator.filling import fill_in
from wes_bridge.aggregator.located import KeptInput, located
from wes_bridge.aggregator.messages import (
    GARBLED,
    OTHER_DIALECT,
    REFUSED,
    SILENT,
    UNEXPLAINED,
    Json,
    message,
    named,
)
from wes_bridge.aggregator.ranking import order
from wes_bridge.aggregator.rewriting import is_below, local_url
from wes_bridge.aggregator.upstream import SilentError, Upstream
from wes_bridge.config import AggregatorConfig
from wes_bridge.federation.client import OUR_FAULT, BrokerError
from wes_bridge.federation.exchange import Answer
from wes_bridge.lasting import LastingOfEach
from wes_bridge.model.execution_broker import OfferSet, Session, dump
from wes_bridge.model.headers import DIALECT
from wes_bridge.model.states import Phase
from wes_bridge.model.units import utcnow

_UNUSABLE = LastingOfEach(logging.getLogger(__name__), "the answers of {} cannot be worked with")

LATEST = 30.0
"""Seconds after which a broker's offers are not even rejected any more."""
_SHARE = 0.8
"""Of our time, what brokers are told to take at most: an aggregator among them must answer before that."""


@dataclass(frozen=True)
class Offer:
    """One broker's offer.

    Attributes:
        broker: who made it.
        url: of the session there.
        body: as told.
        session: the same, parsed.
        notes: what was filled in for it.
    """

    broker: str
    url: str
    body: Json
    session: Session
    notes: list[Json]


@dataclass
class Answers:
    """What all brokers said.

    Attributes:
        offers: the best ones, the best first.
        surplus: those that are not passed on; to be rejected.
        reasons: why there are not more: messages that name who says so.
    """

    offers: list[Offer] = field(default_factory=list)
    surplus: list[Offer] = field(default_factory=list)
    reasons: list[Json] = field(default_factory=list)


Reject = Callable[[Sequence[Offer]], None]


class Asker:
    """Asks.

    Args:
        brokers: whom.
        config: deadline, number of offers, what is filled in.
        reject: takes offers that are not needed.
    """

    def __init__(self, brokers: Sequence[Upstream], config: AggregatorConfig, reject: Reject) -> None:
        self._brokers = brokers
        self._config = config
        self._reject = reject
        self._late: set[asyncio.Task[Any]] = set()
        self._dialects = Dialects()

    async def ask(
        self,
        request: Json,
        deadline: float,
        via: str,
        inputs: Mapping[str, KeptInput],
        *,
        dialect: str | None = None,
    ) -> Answers:
        """Ask all brokers, wait for them until the deadline, and merge their answers.

        Offers that come later are rejected.

        Args:
            request: as it came.
            deadline: seconds.
            via: the header.
            inputs: those that brokers keep, by their location in the request.
            dialect: in which it is written; only brokers that speak it are asked. None: all of them.
        """
        headers = {"Via": via, "Prefer": f"wait={deadline * _SHARE:.3g}"}
        if dialect is not None:
            headers[DIALECT] = dialect
        tasks = {
            broker.name: asyncio.create_task(self._ask(broker, request, headers, inputs))
            for broker in self._brokers
        }
        self._late.update(tasks.values())
        for task in tasks.values():
            task.add_done_callback(self._late.discard)
        if tasks:
            await asyncio.wait(tasks.values(), timeout=deadline)
        answers = Answers()
        found: list[Offer] = []
        is_asked = False
        for name, task in tasks.items():
            if not task.done():
                task.add_done_callback(self._too_late)
                text = "{broker} did not answer within {seconds} s"
                late = message(SILENT, "WARN", text, broker=name, seconds=f"{deadline:g}")
                answers.reasons.append({"broker": name, **late})
                is_asked = True
                continue
            answer = task.result()
            if answer is None:
                continue
            is_asked = True
            offers, reasons = answer
            found += offers
            answers.reasons += [{"broker": name, **reason} for reason in reasons]
        if not is_asked and self._brokers:
            text = "no broker here speaks the dialect {dialect}"
            answers.reasons.append(message(OTHER_DIALECT, "WARN", text, dialect=str(dialect)[:40]))
        ranked = [found[index] for index in order([offer.session for offer in found], utcnow())]
        answers.offers, answers.surplus = ranked[: self._config.offers], ranked[self._config.offers :]
        return answers

    async def close(self) -> None:
        """Stop waiting for late answers."""
        late = list(self._late)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _too_late(self, task: asyncio.Task[tuple[list[Offer], list[Json]] | None]) -> None:
        if not task.cancelled() and task.exception() is None and (answer := task.result()) is not None:
            self._reject(answer[0])

    async def _ask(
        self, broker: Upstream, request: Json, headers: dict[str, str], inputs: Mapping[str, KeptInput]
    ) -> tuple[list[Offer], list[Json]] | None:
        """A broker's usable offers, or its reasons; None: it speaks another dialect. Never an exception."""
        dialect = headers.get(DIALECT)
        if dialect is not None and not await self._dialects.understands(broker, dialect, headers["Via"]):
            return None
        filled, notes = fill_in(request, broker.name, self._config)
        located(filled, broker.name, inputs)
        body = json.dumps(filled, allow_nan=False).encode()
        try:
            answer = await _request(broker, body, headers)
            read = _read(broker, *broker.parsed(answer, OfferSet), notes)
        except SilentError as error:
            return [], [message(SILENT, "WARN", str(error))]
        except BrokerError as error:
            kind = REFUSED if error.status in OUR_FAULT else GARBLED
            return [], [message(kind, "WARN", str(error))]
        except Exception as error:
            _UNUSABLE.seen(broker.name, error, logging.ERROR)
            return [], [message(GARBLED, "WARN", "{broker}: its answer cannot be used", broker=broker.name)]
        _UNUSABLE.over(broker.name)
        return read


def _read(
    broker: Upstream, data: Json, offerset: OfferSet, notes: list[Json]
) -> tuple[list[Offer], list[Json]]:
    """An offer set's usable offers, or its reasons."""
    if offerset.result == "YES":
        offers = _usable(broker, data, offerset, notes)
        if offers:
            return offers, []
        text = "{broker} said YES, but made no offer that can be used"
        return [], [message(GARBLED, "WARN", text, broker=broker.name)]
    reasons = [dump(item) for item in offerset.meta.messages or []]
    if not reasons:
        return [], [message(UNEXPLAINED, "ERROR", "{broker}: no, and no reason given", broker=broker.name)]
    return [], named(broker.name, broker.without_addresses(reasons, offerset.meta.url))


async def _request(broker: Upstream, body: bytes, headers: dict[str, str]) -> Answer:
    send = partial(broker.exchange, deadline=LATEST, headers=headers)
    answer = await send("POST", f"{broker.url}/requests", body=body)
    if answer.status == 303 and not answer.content.strip():
        location = answer.headers.get("location", "")
        if location.startswith("/"):
            location = broker.url + location
        if not is_below(location, broker.url):
            raise BrokerError(
                f"{broker.name} answered with a redirect that does not lead to an offer set of its own"
            )
        answer = await send("GET", location)
    if answer.status in (301, 302, 307, 308):
        raise BrokerError(
            f"{broker.name} answered {answer.status}, a redirect to somewhere else:"
            " its configured URL is not where the broker is"
        )
    if answer.status not in (200, 303):
        raise BrokerError(broker.refusal(answer), answer.status)
    return answer


def _usable(broker: Upstream, data: Json, offerset: OfferSet, notes: list[Json]) -> list[Offer]:
    """Offers that can be accepted: each has a session of its own, and is open."""
    found: dict[str, Offer] = {}
    for body, session in zip(data.get("offers") or [], offerset.offers or [], strict=True):
        uuid = str(session.meta.uuid) if session.meta.uuid else None
        url = local_url(session.meta.url, uuid, broker.url)
        if session.phase is Phase.OFFERED and url is not None:
            found.setdefault(url, Offer(broker.name, url, body, session, notes))
    return list(found.values())
