"""Tokens of users for stores that want to see for whom the node reads and writes.

A user, or their service, calls the node with a token that is for the node. For a store that wants one the
node has its issuer make another of it, for that store only (RFC 8693), at the moment when it is used. So
a session may wait for long: the service renews the token with which it asks how the session is, and the
newest is what counts. All of it is in memory, and goes with the session. It must not know what a session
does, nor any scheme.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from wes_bridge.auth.acting import owner_key
from wes_bridge.auth.exchange import DeniedError, Exchangers, IssuerUnavailableError, Token, claims
from wes_bridge.auth.principal import Principal
from wes_bridge.auth.safe import Held
from wes_bridge.model.delegation import DelegatedTo, DelegationConfig

if TYPE_CHECKING:
    import aiohttp

_LOOK = 0.2
"""Seconds between looks whether a session that waits for its token was stopped."""
_LATER = 2.0
"""Seconds after which an issuer that was silent is asked again."""
_NONE = "it wants a token of the user, and the node was called with none that an issuer made"


class UserTokenError(OSError):
    """There is no token of the user for a store; the text says why, and never shows one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


@dataclass
class _Session:
    """What came with the calls of a session's owner."""

    owner: str
    held: Held | None = None
    renewed: asyncio.Event = field(default_factory=asyncio.Event)


class UserTokens:
    """Those of all sessions of a node. All methods are for its loop.

    Args:
        config: as whom the node asks issuers.

    Attributes:
        can_be_made: whether it asks any; else no token of a user is kept.
    """

    def __init__(self, config: DelegationConfig) -> None:
        self._config = config
        self.can_be_made = bool(config.issuers or config.authn)
        self._sessions: dict[str, _Session] = {}
        self._tokens: dict[tuple[str, DelegatedTo], Token] = {}
        self._locks: dict[tuple[str, DelegatedTo], asyncio.Lock] = {}
        self._http: aiohttp.ClientSession | None = None
        self._exchangers: Exchangers | None = None

    async def close(self) -> None:
        """Let go of connections, and of all tokens."""
        self._sessions.clear()
        self._tokens.clear()
        if self._http is not None:
            await self._http.close()

    def came(self, session: str, owner: str, caller: Principal) -> None:
        """Somebody calls for a session that goes on: where it is its owner, their token is kept for it."""
        if not self.can_be_made or owner_key(caller) != owner:
            return
        held = _held(caller)
        if held is None:
            return
        known = self._sessions.setdefault(session, _Session(owner))
        if known.held is None or known.held.access != held.access:
            known.held = held
            known.renewed.set()

    def gone(self, session: str) -> None:
        """A session has ended."""
        known = self._sessions.pop(session, None)
        if known is None or any(other.owner == known.owner for other in self._sessions.values()):
            return
        for key in [key for key in self._tokens if key[0] == known.owner]:
            del self._tokens[key]
        self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}

    async def refusal(self, caller: Principal | None, wanted: DelegatedTo) -> str | None:
        """Why a caller gets no token for a store; None where they do, or that cannot be told now."""
        held = _held(caller) if caller is not None else None
        if held is None or caller is None:
            return _NONE
        try:
            await self._exchanged(owner_key(caller), held, wanted)
        except DeniedError as error:
            return str(error)
        except (IssuerUnavailableError, OSError):
            return None  # it may answer when the session begins
        return None

    def of(self, session: str, owner: str, stop: Event) -> SessionTokens:
        """Those of one session, for threads.

        Args:
            session: its UUID.
            owner: whose it is.
            stop: set when nobody needs a token any more.
        """
        return SessionTokens(self, session, owner, stop=stop, loop=asyncio.get_running_loop())

    async def token(self, session: str, owner: str, wanted: DelegatedTo) -> str:
        """A token of a session's owner for a store; waits a while for one to be had.

        Raises:
            UserTokenError: there is none.
        """
        known = self._sessions.setdefault(session, _Session(owner))
        deadline = time.monotonic() + self._config.patience
        while True:
            known.renewed.clear()
            reason, pause = _NONE, deadline - time.monotonic()
            held = known.held
            if held is not None and held.until and held.until < time.time():
                reason = "the token with which the node was called has ended, and no newer one has come"
            elif held is not None:
                try:
                    return (await self._exchanged(owner, held, wanted)).value.get_secret_value()
                except DeniedError as error:
                    raise UserTokenError(str(error)) from None
                except (IssuerUnavailableError, OSError) as error:
                    reason, pause = str(error), min(pause, _LATER)
            if time.monotonic() >= deadline:
                raise UserTokenError(reason)
            await _unless_after(known.renewed, pause)

    def forget(self, owner: str, wanted: DelegatedTo) -> None:
        """A store does not take the token: the next one is a new one."""
        self._tokens.pop((owner, wanted), None)

    async def _exchanged(self, owner: str, held: Held, wanted: DelegatedTo) -> Token:
        key = owner, wanted
        async with self._locks.setdefault(key, asyncio.Lock()):
            token = self._tokens.get(key)
            if token is None or token.until - self._config.early < time.time():
                token = await self._makers().of(held, wanted).exchange(held, wanted)
                if any(known.owner == owner for known in self._sessions.values()):
                    self._tokens[key] = token
            return token

    def _makers(self) -> Exchangers:
        if self._exchangers is None:
            import aiohttp  # noqa: PLC0415 - of nodes whose stores want tokens only

            self._http = aiohttp.ClientSession()
            self._exchangers = Exchangers(self._config, self._http)
        return self._exchangers


class SessionTokens:
    """Tokens of one session's owner, for the threads that stage and release it; see :meth:`UserTokens.of`."""

    def __init__(
        self,
        tokens: UserTokens,
        session: str,
        owner: str,
        *,
        stop: Event,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._tokens = tokens
        self._session = session
        self._owner = owner
        self._stop = stop
        self._loop = loop

    def token(self, wanted: DelegatedTo) -> str:
        """One for a store. Blocks.

        Raises:
            UserTokenError: there is none.
            InterruptedError: the session is to end.
        """
        asked = self._on_loop(self._tokens.token(self._session, self._owner, wanted))
        while True:
            done, _ = concurrent.futures.wait([asked], _LOOK)
            if done:
                return asked.result()
            if self._stop.is_set() or self._loop.is_closed():
                asked.cancel()
                raise InterruptedError("stopped")

    def forget(self, wanted: DelegatedTo) -> None:
        """A store does not take the one that it was shown."""
        self._loop.call_soon_threadsafe(self._tokens.forget, self._owner, wanted)

    def _on_loop(self, work: Coroutine[Any, Any, str]) -> concurrent.futures.Future[str]:
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the node has gone down
            work.close()
            raise InterruptedError("stopped") from None


def _held(caller: Principal) -> Held | None:
    """A user's token, as they came with it; None where they came with none, or somebody comes for them."""
    if caller.token is None or caller.on_behalf_of is not None:
        return None
    until = claims(caller.token.get_secret_value()).get("exp")
    return Held(
        issuer=caller.name.partition("#")[0],
        access=caller.token,
        refresh=SecretStr(""),
        until=float(until) if isinstance(until, int | float) else 0.0,
    )


async def _unless_after(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, and not for longer than that."""
    try:
        async with asyncio.timeout(max(0.0, seconds)):
            await event.wait()
    except TimeoutError:
        return
