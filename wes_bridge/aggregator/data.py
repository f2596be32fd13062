"""Outputs that brokers keep, under names of ours: read, leased and released through us; URLs signed by them.

What is read through us comes from the broker in pieces, for whom its owner lets in here. A signed URL is the
broker's own, passed on as it is: it is there so that bytes go from node to node without us.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aiohttp

from wes_bridge.aggregator.book import Book, Item
from wes_bridge.aggregator.located import KeptInput
from wes_bridge.aggregator.messages import Json
from wes_bridge.aggregator.sessions import Sessions
from wes_bridge.auth.acting import person_of
from wes_bridge.federation.client import BrokerError
from wes_bridge.model.data_urls import DataPath, data_path_of

_SIGNED_FOR = "PT24H"
"""Lifetime of URLs for inputs: a session may wait in a queue for long."""


class KeptData:
    """Asks brokers for outputs they keep.

    Args:
        sessions: talks to brokers.
        book: knows whose our names are.
    """

    def __init__(self, sessions: Sessions, book: Book) -> None:
        self._sessions = sessions
        self._book = book

    async def open(
        self, item: Item, place: DataPath, method: str, headers: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        """Open something of an output; the caller closes the answer.

        Raises:
            BrokerError: no answer.
        """
        return await self._sessions.link(item, _url_of(item, place), method, headers)

    async def ask(self, item: Item, what: str, output: str, method: str, body: bytes | None) -> Any:
        """What a broker answers about the lease or the URLs of an output; None where it says nothing.

        Args:
            item: the session that made it.
            what: ``data``, ``leases`` or ``urls``.
            output: its name.
            method: of the request.
            body: JSON.

        Raises:
            BrokerError: it refuses, or does not answer.
        """
        base, _, uuid = item.url.rpartition("/sessions/")
        answer = await self._sessions.ask(item, method, f"{base}/{what}/{uuid}/{output}", body)
        return json.loads(answer.content) if answer.content.strip() else None

    async def inputs(self, request: Json, owner: str, is_for_many: bool) -> dict[str, KeptInput]:
        """The inputs of a request that our brokers keep, by their location in it.

        Args:
            request: checked.
            owner: whose request it is: inputs of others are left as they are.
            is_for_many: whether other brokers than the one that has them will be asked.
        """
        found: dict[str, tuple[Item, DataPath]] = {}
        for data in request.get("data") or []:
            location = data.get("location")
            place = data_path_of(location) if isinstance(location, str) else None
            if place is None or data.get("access") == "WRITE":
                continue
            known = await self._book.item(place.session)
            if known is not None and person_of(known[0].owner) == person_of(owner):
                found[location] = known[1], place
        signed = await asyncio.gather(
            *(self._signed(item, place) if is_for_many else _nothing() for item, place in found.values())
        )
        return {
            location: KeptInput(item.broker, _url_of(item, place), url)
            for (location, (item, place)), url in zip(found.items(), signed, strict=True)
        }

    async def _signed(self, item: Item, place: DataPath) -> str | None:
        path = str(place).split("/", 4)[4]
        wish = json.dumps({"path": path, "lifetime": _SIGNED_FOR}).encode()
        try:
            told = await self.ask(item, "urls", place.output, "POST", wish)
        except (BrokerError, ValueError):
            return None
        url = told.get("url") if isinstance(told, dict) else None
        return url if isinstance(url, str) else None


async def _nothing() -> None:
    return None


def _url_of(item: Item, place: DataPath) -> str:
    """What the broker calls something of an output that we call ``place``."""
    base, _, uuid = item.url.rpartition("/sessions/")
    return f"{base}{DataPath(uuid, place.output, place.path, place.is_folder)}"
