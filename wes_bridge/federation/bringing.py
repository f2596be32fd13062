"""Fetching to the workspace the bytes of stand-ins, from the nodes that keep them.

A replica that its node does not know any more, or whose node has been silent for too long, is lost: then
:class:`LostError` says so, and somebody else has to make the files again. It must not know steps or runs.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import TypeVar

from wes_bridge.data.beneath import real_path
from wes_bridge.data.receiving import Receiving, WrongContentError
from wes_bridge.federation.allowance import Allowance
from wes_bridge.federation.client import AwayError, Broker, BrokerError
from wes_bridge.federation.replicas import Replica, Replicas, note_of
from wes_bridge.fetching.errors import PASSING, FetchError, StatusError, is_worth_retrying
from wes_bridge.model.manifest import ManifestEntry, ManifestError

Result = TypeVar("Result")
_GONE = frozenset({404, 410})
"""Statuses with which a node says that an output, or a file of it, is not there any more."""
_EXPIRED = 403
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between attempts; the last is used again."""
_SPARE = 600.0
"""Seconds that a signed URL should be good for when it is handed out."""


class LostError(Exception):
    """An output is at no node any more, as far as we can find out.

    Attributes:
        folder: real path of the output in the workspace.
    """

    def __init__(self, folder: str, reason: str) -> None:
        super().__init__(reason)
        self.folder = folder


def may_pass(error: Exception) -> bool:
    """Whether an error may pass: the node is being restarted, or is busy."""
    if isinstance(error, BrokerError):
        return isinstance(error, AwayError) or error.status in PASSING
    cause = error if isinstance(error, FetchError) else error.__cause__
    return isinstance(cause, FetchError) and is_worth_retrying(cause)


class Bringing:
    """Fetches.

    Args:
        replicas: what is where.
        receiving: how.
        threads: for what is short.
        fetching: for transfers, which may be long.
        patience: seconds a node may be silent before its files are taken for lost.
        allowance: of each run.
    """

    def __init__(
        self,
        replicas: Replicas,
        receiving: Receiving,
        threads: Executor,
        fetching: Executor,
        *,
        patience: float,
        allowance: Allowance,
    ) -> None:
        self.allowance = allowance
        self.replicas = replicas
        self._receiving = receiving
        self._threads = threads
        self._fetching = fetching
        self.patience = patience
        self._brokers: dict[str, Broker] = {}

    def know(self, broker: Broker) -> None:
        """A broker whose nodes keep outputs."""
        self._brokers[broker.name] = broker

    def is_direct(self, name: str) -> bool:
        """Whether others may fetch from a broker's nodes."""
        broker = self._brokers.get(name)
        return broker is not None and broker.dialect.direct

    async def bring(self, real: str) -> None:
        """See that a file, or all in a folder, is in the workspace; also what links in the folder lead to.

        Args:
            real: its path, links followed.

        Raises:
            LostError: it cannot be had any more.
            OSError: it cannot be written here, or is more than the run may have.
        """
        waiting, seen = [real], {real}
        while waiting:
            one = waiting.pop()
            if await self._brought(one):
                led = await self.in_thread(functools.partial(_led_out, one))
                waiting += led - seen
                seen |= led

    async def _brought(self, real: str) -> bool:
        """Bring one thing; whether only a part of its output was wanted."""
        found = self.replicas.find(real)
        if found is None or found[0].whole:
            return False
        replica, inside = found
        async with replica.lock:
            try:
                entries = await self.in_thread(functools.partial(self.replicas.entries, replica, inside))
            except (OSError, ManifestError) as error:
                raise LostError(replica.folder, f"the note of its node is gone: {error}") from error
            size = sum(entry.size or 0 for entry in entries)
            await self.in_thread(functools.partial(self.allowance.take, real, size))
            await self._filled(replica, entries)
            if not inside:
                replica.whole = True
                note_of(Path(replica.folder)).unlink(missing_ok=True)
        return bool(inside)

    async def start(self, real: str, size: int) -> bytes:
        """The first bytes of a file that stands in, at most ``size``; the others stay where they are.

        Raises:
            LostError: they cannot be had any more.
        """
        found = self.replicas.find(real)
        if found is None or found[0].whole:
            return await self.in_thread(functools.partial(_first, real, size))
        replica, inside = found
        got: list[bytes] = []

        async def fetch(_url: str) -> None:
            url = replica.signed_location(inside, directory=False)
            got[:] = [await self._fetched(functools.partial(self._receiving.start, url, size))]

        await self._persist(replica, fetch)
        return got[0]

    async def _filled(self, replica: Replica, entries: list[ManifestEntry]) -> None:
        async def fetch(url: str) -> None:
            await self._fill(url, replica, entries)

        await self._persist(replica, fetch)

    async def _persist(self, replica: Replica, fetch: Callable[[str], Awaitable[None]]) -> None:
        """Fetch from a node until it has worked, or there is no hope."""
        clock = asyncio.get_running_loop().time
        until, attempt = clock() + self.patience, 0
        while True:
            problem, is_final = await self._tried(replica, fetch)
            if problem is None:
                replica.doubted = False
                return
            pause = PAUSES[min(attempt, len(PAUSES) - 1)]
            if is_final or clock() + pause > until:
                raise LostError(replica.folder, problem)
            attempt += 1
            await asyncio.sleep(pause)

    async def _tried(
        self, replica: Replica, fetch: Callable[[str], Awaitable[None]]
    ) -> tuple[str | None, bool]:
        """What went wrong with one attempt, and whether another would be for nothing."""
        try:
            url = await self.signed(replica)
            await fetch(url)
        except BrokerError as error:
            return str(error), error.status in _GONE
        except (FetchError, ValueError) as error:
            cause = error if isinstance(error, FetchError) else error.__cause__
            status = cause.status if isinstance(cause, StatusError) else None
            if status == _EXPIRED:
                replica.signed_until = 0.0
            name = replica.note.broker
            return f"{name}: {error}", isinstance(error, WrongContentError) or status in _GONE
        return None, False

    async def _fill(self, url: str, replica: Replica, entries: list[ManifestEntry]) -> None:
        stop = Event()
        fill = functools.partial(self._receiving.fill, url, Path(replica.folder), entries, stop)
        try:
            await self._fetched(fill)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def signed(self, replica: Replica) -> str:
        """A URL of an output for those without credentials, good for a while.

        Raises:
            BrokerError: its node does not give one.
        """
        if replica.signed_until - _SPARE < time.time():
            broker = self._brokers.get(replica.note.broker)
            if broker is None:
                raise BrokerError(f"{replica.note.broker} is no longer among the configured brokers", 404)
            replica.signed, replica.signed_until = await broker.signed(replica.note.location)
        return replica.signed

    async def renew(self, folder: str, lease: float, when: float) -> float:
        """Renew the leases of outputs below a folder. A node that is away is asked the next time.

        Args:
            folder: of a run, links followed.
            lease: seconds from now.
            when: seconds that a lease must have left not to be renewed.

        Returns:
            Seconds until the first of these leases ends.
        """
        first = lease
        for replica in self.replicas.at_or_below(folder):
            broker = self._brokers.get(replica.note.broker)
            if replica.whole or replica.is_freed or broker is None:
                continue
            if replica.note.until - time.time() <= when:
                try:
                    until = await broker.renew(replica.note.location, lease)
                except BrokerError as error:
                    replica.doubted = error.status in _GONE
                    continue
                until = min(until, time.time() + lease)  # its clock may be ahead
                replica.note = replica.note.model_copy(update={"until": until})
            first = min(first, replica.note.until - time.time())
        return first

    async def free(self, replica: Replica) -> None:
        """Have a node free an output. A node that is away frees it when the lease ends."""
        broker = self._brokers.get(replica.note.broker)
        replica.doubted = replica.is_freed = True
        replica.signed_until = 0.0
        with suppress(BrokerError):
            if broker is not None:
                await broker.free(replica.note.location)

    async def _fetched(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._fetching, work)

    async def in_thread(self, work: Callable[[], Result]) -> Result:
        """Run short blocking work, in threads that never wait for the engine's."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _led_out(top: str) -> set[str]:
    """Where links in a folder lead that lead out of it, to whatever else is there."""
    found: set[str] = set()
    for folder, folders, files in os.walk(top):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - texts, for each file
            if os.path.islink(path):  # noqa: PTH114
                real = real_path(path)
                if not real.startswith(f"{top}/"):
                    found.add(real)
    return found


def _first(path: str, size: int) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(size)
