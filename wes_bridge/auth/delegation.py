"""A run's wallet: the tokens with which it acts for its owner at other services.

Tokens are made when they are needed, kept until shortly before their end, and renewed, so that a run outlives
those that it was handed. Where none is to be had the run is paused: whoever needs the token waits until its
owner has authorised it anew. It must not know brokers, nor how a run is paused.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wes_bridge.auth.acting import NoTokenError
from wes_bridge.auth.exchange import DeniedError, Exchangers, IssuerUnavailableError, Token, claims
from wes_bridge.auth.safe import Held, Safe, SafeError
from wes_bridge.model.access import OidcConfig
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.store.database import Database
from wes_bridge.store.delegations import (
    DelegationRow,
    begin_refresh,
    end_refresh,
    get_delegation,
)
from wes_bridge.store.writer import Writer

LOOK = 1.0
"""Seconds between looks for what the owner of a paused run hands in."""
RETRY = 2.0
"""Seconds between attempts while an issuer is silent."""
_BUSY = 45.0
"""Seconds a refresh may take; after that another process may try."""
Change = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Source:
    """Where tokens come from and are kept.

    Attributes:
        exchangers: make them.
        safe: encrypts them.
        database: where they are.
        writer: writes there.
        early: seconds before its end that a token is renewed.
        patience: seconds that an issuer may be silent.
        issuers: whose users the service lets in, and by which groups.
    """

    exchangers: Exchangers
    safe: Safe
    database: Database
    writer: Writer
    early: float
    patience: float
    issuers: Sequence[OidcConfig] = ()


class Wallet:
    """What one run acts with.

    Args:
        run_id: the run.
        owner: its owner: renewed tokens must be theirs.
        source: of tokens.
        pause: called with the reason when the run has to wait for its owner.
        resume: called when it goes on.
        is_paused: whether it waits already, since an earlier worker's time.
    """

    def __init__(
        self,
        run_id: str,
        owner: str,
        source: Source,
        *,
        pause: Callable[[str], Awaitable[None]],
        resume: Change,
        is_paused: bool = False,
    ) -> None:
        self._run_id = run_id
        self._owner = owner
        self._source = source
        self._pause = pause
        self._resume = resume
        self._is_paused = is_paused
        self._waiting: dict[DelegatedTo, str] = {}
        self._tokens: dict[DelegatedTo, Token] = {}
        self._locks: dict[DelegatedTo, asyncio.Lock] = {}
        self._is_closed = False

    def close(self) -> None:
        """Make nobody wait any longer: the run ends."""
        self._is_closed = True

    def forget(self, wanted: DelegatedTo) -> None:
        """A service does not take the token: the next one is a new one."""
        self._tokens.pop(wanted, None)

    async def bearer(self, wanted: DelegatedTo, *, waits: bool = True) -> str:
        """A token for a service.

        Args:
            wanted: for whom, and for what.
            waits: whether to wait, however long, until the owner has authorised the run.

        Raises:
            NoTokenError: it does not wait, or the run ends.
        """
        token = self._tokens.get(wanted)
        if token is None or self._is_old(token.until):
            async with self._locks.setdefault(wanted, asyncio.Lock()):
                token = self._tokens.get(wanted)
                if token is None or self._is_old(token.until):
                    token = self._tokens[wanted] = await self._made(wanted, waits)
        return token.value.get_secret_value()

    def _is_old(self, until: float) -> bool:
        return until - self._source.early < time.time()

    async def _made(self, wanted: DelegatedTo, waits: bool) -> Token:
        """A new token; while there is none the run is paused."""
        silent_since: float | None = None
        while True:
            row = await asyncio.to_thread(get_delegation, self._source.database, self._run_id)
            try:
                token = await self._exchanged(row, wanted)
            except (DeniedError, SafeError) as error:
                reason = str(error)
            except IssuerUnavailableError as error:
                silent_since = silent_since or time.monotonic()
                reason = str(error)
                if time.monotonic() - silent_since < self._source.patience and not self._is_closed:
                    await asyncio.sleep(RETRY)
                    continue
            else:
                await self._goes_on(wanted)
                return token
            if self._is_closed or not waits:
                raise NoTokenError(reason)
            await self._stops(wanted, reason)
            try:
                await self._news(row, retry=silent_since is not None)
            except asyncio.CancelledError:
                self._waiting.pop(wanted, None)
                raise

    async def _stops(self, wanted: DelegatedTo, reason: str) -> None:
        told = self._waiting.get(wanted)
        self._waiting[wanted] = reason
        if told != reason:
            self._is_paused = True
            await self._pause(reason)

    async def _goes_on(self, wanted: DelegatedTo) -> None:
        self._waiting.pop(wanted, None)
        if self._is_paused and not self._waiting:
            self._is_paused = False
            await self._resume()

    async def _news(self, seen: DelegationRow | None, *, retry: bool) -> None:
        """Return when something else was handed in, or when a silent issuer is worth another try."""
        for _ in range(10 if retry else 2**62):
            await asyncio.sleep(LOOK)
            row = await asyncio.to_thread(get_delegation, self._source.database, self._run_id)
            if self._is_closed or (row and row.version) != (seen and seen.version):
                return

    async def _exchanged(self, row: DelegationRow | None, wanted: DelegatedTo) -> Token:
        if row is None:
            raise DeniedError("the run was handed no token to act with for you")
        held = await asyncio.to_thread(self._source.safe.open, self._run_id, row.sealed)
        exchanger = self._source.exchangers.of(held, wanted)
        if held.until and self._is_old(held.until):
            held = await self._refreshed(row, held, wanted)
        try:
            return await exchanger.exchange(held, wanted)
        except DeniedError:
            if not held.refresh.get_secret_value() or self._is_fresh(held):
                raise
        held = await self._refreshed(
            row, held, wanted
        )  # it may have been taken back: once more with a new one
        return await exchanger.exchange(held, wanted)

    def _is_fresh(self, held: Held) -> bool:
        """Whether the access token was made just now."""
        made = claims(held.access.get_secret_value()).get("iat")
        return isinstance(made, int | float) and time.time() - made < self._source.early

    async def _refreshed(self, row: DelegationRow, held: Held, wanted: DelegatedTo) -> Held:
        """New tokens, for all runs that have these; by one process at a time."""
        if not held.refresh.get_secret_value():
            raise DeniedError("the run's token has ended, and nothing was handed over that renews it")
        source = self._source
        deadline = time.monotonic() + _BUSY
        while not await source.writer(lambda connection: begin_refresh(connection, row.family, _BUSY)):
            await asyncio.sleep(0.2)
            now = await asyncio.to_thread(get_delegation, source.database, self._run_id)
            if now is None:
                raise DeniedError("the run's tokens are gone")
            if now.version != row.version:
                return await asyncio.to_thread(source.safe.open, self._run_id, now.sealed)
            if time.monotonic() > deadline:
                raise IssuerUnavailableError("another worker is renewing the tokens")
        seal: Callable[[str], str] | None = None
        try:
            now = await asyncio.to_thread(get_delegation, source.database, self._run_id)
            if now is not None and now.version != row.version:  # another one was just done with it
                return await asyncio.to_thread(source.safe.open, self._run_id, now.sealed)
            new = await source.exchangers.of(held, wanted).refresh(held)
            self._check_renewed(claims(new.access.get_secret_value()))
            seal = functools.partial(source.safe.seal, held=new)
            return new
        finally:
            await asyncio.shield(source.writer(lambda connection: end_refresh(connection, row.family, seal)))

    def _check_renewed(self, told: Mapping[str, Any]) -> None:
        """See that new tokens are still of somebody for whom the run may go on.

        A refresh token that was handed in must be its owner's: nobody lends theirs to another's run. And
        whoever has left the groups for which the service lets people in is not acted for any more.

        Raises:
            DeniedError: they are not.
        """
        if told and f"{told.get('iss')}#{told.get('sub')}" != self._owner:
            raise DeniedError("the refresh token that was handed over is somebody else's")
        for issuer in self._source.issuers:
            if told.get("iss") != issuer.issuer or not issuer.groups or issuer.groups_claim not in told:
                continue  # what the token does not say is the issuer's to judge
            groups = told[issuer.groups_claim]
            named = groups.split() if isinstance(groups, str) else groups
            if not isinstance(named, list) or not any(group in named for group in issuer.groups):
                needed = ", ".join(issuer.groups)
                raise DeniedError(f"its owner is in no group any more that this service lets in: {needed}")


class Handful:
    """Tokens for a plan: made of what came with the request, kept in memory, never renewed.

    Args:
        held: what came.
        exchangers: make them.
    """

    def __init__(self, held: Held, exchangers: Exchangers) -> None:
        self._held = held
        self._exchangers = exchangers
        self._tokens: dict[DelegatedTo, Token] = {}

    async def bearer(self, wanted: DelegatedTo, *, waits: bool = True) -> str:
        """A token for a service; it never waits.

        Raises:
            NoTokenError: there is none.
        """
        del waits
        token = self._tokens.get(wanted)
        if token is None:
            try:
                token = await self._exchangers.of(self._held, wanted).exchange(self._held, wanted)
            except (DeniedError, IssuerUnavailableError) as error:
                raise NoTokenError(str(error)) from None
            self._tokens[wanted] = token
        return token.value.get_secret_value()

    def forget(self, wanted: DelegatedTo) -> None:
        """A service does not take the token: there is no other."""


def family_of(held: Held) -> str:
    """Names the login that tokens come from, without telling them."""
    secret = held.refresh.get_secret_value() or held.access.get_secret_value()
    return hashlib.sha256(f"wes-bridge family {secret}".encode()).hexdigest()
