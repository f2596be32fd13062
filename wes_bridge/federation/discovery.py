"""Brokers that are listed elsewhere: listings are read at start and looked at again now and then.

A listing that cannot be read leaves the brokers as they were.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
from collections.abc import Callable
from pathlib import Path

import aiohttp

from wes_bridge.config import BrokerTraits, ListingConfig
from wes_bridge.federation.apart import Ways
from wes_bridge.federation.brokers import make_broker, profile_of, speak
from wes_bridge.federation.client import Broker
from wes_bridge.federation.listing import MAX_LISTING, Listing, ListingError, parse_listing
from wes_bridge.federation.strangers import Strangers
from wes_bridge.fetching.errors import RefusedError
from wes_bridge.lasting import LastingOfEach

_logger = logging.getLogger(__name__)
FETCH_TIMEOUT = 10.0


class Directory:
    """Keeps the brokers of all listings, and those of the configuration, together.

    Args:
        fixed: of the configuration; a listed broker of the same name is passed over.
        listings: where to look.
        http: shared by all brokers of a process.
        on_change: given all brokers, whenever they changed.
        strangers: says which listed brokers may be asked; None: all.
        ways: how bytes go to and from nodes that share no disk with us.
    """

    def __init__(
        self,
        fixed: list[Broker],
        listings: list[ListingConfig],
        http: aiohttp.ClientSession,
        on_change: Callable[[list[Broker]], None],
        strangers: Strangers | None = None,
        *,
        ways: Ways | None = None,
    ) -> None:
        self._ways = ways
        self._fixed = fixed
        self._listings = listings
        self._http = http
        self._on_change = on_change
        self._strangers = strangers
        self._refused = LastingOfEach(_logger, "the listed broker {} is not asked")
        self._found: list[dict[str, Broker]] = [{} for _ in listings]
        self._unread = LastingOfEach(_logger, "the listing {} is of no use; brokers stay as they were")
        self._passed_over = LastingOfEach(_logger, "a listed broker is passed over: {} is another one's name")
        self._traits: dict[str, BrokerTraits] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Look at all listings once, then keep looking in the background."""
        await asyncio.gather(*(self._look(index) for index in range(len(self._listings))))
        self._tasks = [asyncio.create_task(self._keep_looking(index)) for index in range(len(self._listings))]

    async def stop(self) -> None:
        """Look no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep_looking(self, index: int) -> None:
        while True:
            await asyncio.sleep(self._listings[index].refresh)
            await self._look(index)

    async def _look(self, index: int) -> None:
        config = self._listings[index]
        try:
            listing = parse_listing(await read_listing(config, self._http), _place(config))
        except ListingError as error:
            self._unread.seen(config.file or config.url, error, logging.ERROR)
            return
        self._unread.over(config.file or config.url)
        self._found[index] = self._made(index, listing)
        self._on_change(self._all())

    def _made(self, index: int, listing: Listing) -> dict[str, Broker]:
        """Brokers of a listing; one that did not change is kept, with what is known of its health."""
        config = self._listings[index]
        known, made = self._found[index], {}
        for traits in listing.brokers:
            if not self._may_ask(traits, config):
                continue
            old = known.get(traits.name)
            if old is not None and old.url == str(traits.url).rstrip("/"):
                old.profile = profile_of(traits)
                speak(old, traits, self._ways)
                made[traits.name] = old
                continue
            host = traits.url.host or ""
            trusted = any(fnmatch.fnmatchcase(host, pattern) for pattern in config.trusted_hosts)
            secret = config.credentials if trusted else None
            made[traits.name] = make_broker(traits, self._http, secret, ways=self._ways)
        return made

    def _may_ask(self, traits: BrokerTraits, config: ListingConfig) -> bool:
        if self._strangers is not None:
            try:
                self._strangers.check(traits, config)
            except RefusedError as error:
                self._refused.seen(traits.name, error)
                return False
        return True

    def _all(self) -> list[Broker]:
        brokers = {broker.name: broker for broker in self._fixed}
        for found in self._found:
            for name, broker in found.items():
                if brokers.setdefault(name, broker) is not broker:
                    self._passed_over.seen(name, "one of the two needs another name")
        return list(brokers.values())


async def read_listing(config: ListingConfig, http: aiohttp.ClientSession) -> bytes:
    """The text of a listing.

    Raises:
        ListingError: it cannot be read, or is too long.
    """
    if config.file is not None:
        return await asyncio.to_thread(_read_file, config.file)
    url = str(config.url)
    try:
        async with (
            asyncio.timeout(FETCH_TIMEOUT),
            http.get(url, allow_redirects=False, headers={"Accept-Encoding": "identity"}) as answer,
        ):
            if answer.status != 200:
                raise ListingError(f"the listing {url} was answered {answer.status}")
            parts: list[bytes] = []
            async for part in answer.content.iter_any():
                parts.append(part)
                if sum(map(len, parts)) > MAX_LISTING:
                    raise ListingError(f"the listing {url} has more than {MAX_LISTING} bytes")
            return b"".join(parts)
    except TimeoutError as error:
        raise ListingError(f"the listing {url} did not come within {FETCH_TIMEOUT:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ListingError(f"the listing {url} cannot be read: {error or type(error).__name__}") from error


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_LISTING + 1)
    except OSError as error:
        raise ListingError(f"the listing {path} cannot be read: {error.strerror}") from error
    if len(text) > MAX_LISTING:
        raise ListingError(f"the listing {path} has more than {MAX_LISTING} bytes")
    return text


def _place(config: ListingConfig) -> str:
    return str(config.file or config.url)
