"""One ExecutionBroker over HTTP: ask for offers, accept, reject, follow, cancel.

It speaks the standard and knows the two extras of our own node (long poll, streams); it decides nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from pydantic import BaseModel, ValidationError

from wes_bridge.auth import acting
from wes_bridge.auth.acting import NoTokenError
from wes_bridge.federation.credentials import Credentials, CredentialsError
from wes_bridge.federation.dialect import NATIVE, Dialect, Native
from wes_bridge.federation.exchange import Answer, TooLongError, exchange
from wes_bridge.federation.health import Health
from wes_bridge.federation.pace import Crowd
from wes_bridge.federation.profile import Profile
from wes_bridge.fetching.loops import OwnThreads
from wes_bridge.fetching.sockets import watched_socket
from wes_bridge.model.data_urls import DATA, data_path_of
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.model.execution_broker import ExecutionRequest, Instant, OfferSet, Session, phase_update
from wes_bridge.model.headers import DIALECT
from wes_bridge.model.states import Phase
from wes_bridge.model.units import format_duration

Part = TypeVar("Part", bound=BaseModel)
_Send = Callable[[str], Awaitable[Answer]]

LONG_POLL = 55
"""Seconds a node is asked to hold a poll, at most: proxies often give up after 60."""
_SPREAD = 0.25
"""By how much less, at random: sessions that began together are not to be asked for together."""
AT_ONCE = 8
"""Requests, polls aside, that one process sends one broker at a time: a scatter must not drown it."""
MAX_BODY = 16 * 1024**2
"""Bytes of an answer that are read; one that is longer is none."""
OUR_FAULT = frozenset({400, 406, 413, 415, 422})
"""Statuses that are about one request for offers, and say nothing against the broker."""
OK, NOT_MODIFIED, SEE_OTHER, NOT_FOUND = 200, 304, 303, 404
UNAUTHORIZED, FORBIDDEN = 401, 403
RANGE_NOT_SATISFIABLE = 416
_SIGNED_FOR = "PT24H"
"""How long a signed URL is to be good: a session may wait in a queue. A node may give less."""
_DATA_TIMEOUT = 60.0
"""Seconds for one request about data."""
LONGEST_STREAM = 4 * 1024**3
"""Bytes of a stream that are taken: a hostile broker might never end."""
_PIECE = 1024 * 1024
"""Bytes of a stream that are asked for at once."""


def http_session(resolver: OwnThreads | None = None) -> aiohttp.ClientSession:
    """The connections of one process to all brokers: pooled, kept alive, as many as there are sessions.

    aiohttp rather than httpx: httpx's pool looks at every connection for each request, which with hundreds
    of held polls took most of the engine's time.

    Args:
        resolver: finds the brokers; default: as the system does, wherever they are.
    """
    connector = aiohttp.TCPConnector(
        limit=0, keepalive_timeout=60, resolver=resolver or OwnThreads(), socket_factory=watched_socket
    )
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))


class BrokerError(Exception):
    """A broker could not be reached or did not speak the protocol; the text names it and says how.

    ``status`` is that of its answer, None when there was none.
    """

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


class _SignedUrl(BaseModel):
    """The answer to a request for a signed URL."""

    url: str
    expires: Instant | None = None


class _Status(BaseModel):
    """What is read of a broker's word about itself."""

    data: list[str] = []


class _Lease(BaseModel):
    """The answer to the renewal of a lease."""

    expires: Instant


class BrokerShutError(BrokerError):
    """It was not asked: it failed too often just before."""


class AwayError(BrokerError):
    """It gave no answer, or not all of one: it may give one later."""


class BrokenError(AwayError):
    """Its connection broke while an answer was waited for."""


class NotReachedError(AwayError):
    """There was no connection, so it has not heard what it was told."""


class TurnedAwayError(BrokerError):
    """The broker does not know us: no waiting helps, the site has to do something."""


class SessionGoneError(BrokerError):
    """The broker does not know the session (any more)."""


class Broker:
    """A configured broker.

    Args:
        name: what the site calls it.
        url: its base URL.
        http: shared by all brokers of a process (see :func:`http_session`).
        profile: what the site says of it.
        credentials: sent with each request to its own host, and to no other.
        dialect: how it is spoken to.
        delegation: the token of the user that it wants to see, where we act for one, in place of our own.
        longest_stream: bytes of a stream that are taken.

    Attributes:
        health: how it has been answering.
        crowd: its sessions that must be asked for again and again.
    """

    def __init__(
        self,
        name: str,
        url: str,
        http: aiohttp.ClientSession,
        profile: Profile = Profile(),  # noqa: B008  # it is frozen
        credentials: Credentials | None = None,
        *,
        dialect: Dialect = NATIVE,
        delegation: DelegatedTo | None = None,
        longest_stream: int = LONGEST_STREAM,
    ) -> None:
        self._longest_stream = longest_stream
        self.name = name
        self.url = url.rstrip("/")
        self.profile = profile
        self.dialect = dialect
        self.health = Health()
        self.crowd = Crowd()
        self._credentials = credentials
        self._delegation = delegation
        self._origin = _origin(self.url)
        self._http = http
        self._turns = asyncio.Semaphore(AT_ONCE)

    def is_own(self, url: str) -> bool:
        """Whether a URL is on the broker's own host."""
        return url.startswith(self._origin)

    def may_use(self, url: str) -> bool:
        """Whether a session's URL is on a host that may be asked for it."""
        return self.is_own(url) or _origin(url).partition("://")[2].rstrip("/") in self.profile.hosts

    async def request_offers(self, request: ExecutionRequest, deadline: float) -> OfferSet:
        """POST /requests (303 with the offer set as body, or a redirect to it).

        Args:
            request: what to run.
            deadline: seconds for the whole exchange.

        Raises:
            BrokerError: unreachable, too slow, or not an offer set.
        """
        body = acting.with_values(request.model_dump_json(by_alias=True, exclude_none=True).encode())
        await self._ready(f"{self.url}/")
        async with self._turns:
            if self.health.is_shut(asyncio.get_running_loop().time()):
                raise BrokerShutError(
                    f"{self.name} failed while this request waited: {self.health.last_error}"
                )
            clock = asyncio.get_running_loop().time
            until = clock() + deadline
            written = {DIALECT: self.dialect.name}
            answer = await self._send("POST", f"{self.url}/requests", deadline, body, written)
            if answer.status == SEE_OTHER and not answer.content:
                answer = await self._send("GET", self._redirect(answer), max(0.0, until - clock()))
        return self._parsed(answer, OfferSet, (200, 303))

    async def accept(
        self, session_url: str, deadline: float, wait: float = LONG_POLL
    ) -> tuple[Session, str | None]:
        """Accept an offer; the answer is held, where the node can, until there is news of the session.

        Returns:
            The session, which may have become anything, and its etag, None when the broker gives none.

        Raises:
            SessionGoneError: the offer is not known.
            BrokerError: unreachable, too slow, or not a session.
        """
        body = phase_update(Phase.ACCEPTED).model_dump_json(by_alias=True, exclude_none=True).encode()
        headers = {"Prefer": f"wait={wait:g}"} if wait else {}
        answer = await self._send("POST", session_url, wait + deadline, body, headers)
        return self._parsed(answer, Session, (200,)), answer.etag

    async def set_phase(self, session_url: str, phase: Phase, deadline: float) -> tuple[Session, str | None]:
        """Ask for a session to go to ``phase``; the answer says where it is, which may be elsewhere.

        Returns:
            The session and its etag, None when the broker gives none.

        Raises:
            SessionGoneError: the session is not known.
            BrokerError: unreachable, too slow, or not a session.
        """
        body = phase_update(phase).model_dump_json(by_alias=True, exclude_none=True).encode()
        await self._ready(session_url)
        async with self._turns:
            answer = await self._send("POST", session_url, deadline, body, {"Prefer": "wait=0"})
        return self._parsed(answer, Session, (200,)), answer.etag

    async def poll(
        self, session_url: str, etag: str | None, wait: float | None = None
    ) -> tuple[Session | None, str | None]:
        """The session as it is, once it differs from ``etag`` or ``wait`` seconds have passed; None: as long
        as usual.

        Returns:
            The session, None when nothing changed; and its new etag, None when the broker gives none
            (it then answered at once).

        Raises:
            SessionGoneError: the session is not known.
            BrokerError: unreachable, too slow, or not a session.
        """
        if wait is None:
            wait = round(LONG_POLL * random.uniform(1.0 - _SPREAD, 1.0))  # noqa: S311  # spreads, no secret
        headers = {"Prefer": f"wait={wait:g}"}
        if etag:
            headers["If-None-Match"] = etag
        answer = await self._send("GET", session_url, wait + 15, headers=headers)
        if answer.status == NOT_MODIFIED:
            return None, etag
        return self._parsed(answer, Session, (200,)), answer.etag

    async def signed(self, location: str) -> tuple[str, float]:
        """A URL with which an output that the broker keeps can be read without credentials, for a while.

        It may be of another host: an aggregator gives those of its nodes. Whoever follows it looks where it
        leads, and sends no credentials.

        Returns:
            The URL, and until when it is good, in seconds since the epoch.

        Raises:
            BrokerError: it is not there any more, or its address is not one of the broker.
        """
        place = data_path_of(location)
        if place is None or not self.is_own(location):
            raise BrokerError(
                f"{self.name} says that its output is at {location[:200]}, which is not its own"
            )
        url = f"{location.partition(DATA)[0]}/urls/{place.session}/{place.output}"
        inside = str(place).removeprefix(f"{DATA}{place.session}/{place.output}/")
        wish = json.dumps({"path": inside, "lifetime": _SIGNED_FOR})
        answer = await self._send("POST", url, _DATA_TIMEOUT, wish.encode())
        found = self._parsed(answer, _SignedUrl, (200,))
        if data_path_of(found.url) is None:
            raise BrokerError(f"{self.name} signs a URL that is none of an output: {found.url[:200]}")
        return found.url, found.expires.timestamp() if found.expires else 0.0

    async def renew(self, location: str, lease: float) -> float:
        """Have the broker keep an output for ``lease`` seconds from now, or as long as it allows.

        Returns:
            Until when it is kept, in seconds since the epoch.

        Raises:
            BrokerError: it does not; its status is 404 where the output is not there any more.
        """
        place = data_path_of(location)
        if place is None or not self.is_own(location):
            raise BrokerError(f"{location[:200]} is no address of an output that {self.name} keeps")
        url = f"{location.partition(DATA)[0]}/leases/{place.session}/{place.output}"
        wish = json.dumps({"lease": format_duration(timedelta(seconds=lease))})
        answer = await self._send("POST", url, _DATA_TIMEOUT, wish.encode())
        return self._parsed(answer, _Lease, (OK,)).expires.timestamp()

    async def free(self, location: str) -> None:
        """Say that an output that the broker keeps is not needed any more.

        Raises:
            BrokerError: it did not take notice; the output goes when its lease ends.
        """
        place = data_path_of(location)
        if place is None or not self.is_own(location):
            return
        url = f"{location.partition(DATA)[0]}{DATA}{place.session}/{place.output}"
        answer = await self._send("DELETE", url, _DATA_TIMEOUT)
        if answer.status not in (200, 204, NOT_FOUND):
            raise self._unexpected(answer)

    async def places(self) -> list[str]:
        """The beginnings of the URLs that the broker says it reads (``GET /status``, native); none where it
        does not say.

        Raises:
            BrokerError: it cannot be reached.
        """
        answer = await self._send("GET", f"{self.url}/status", _DATA_TIMEOUT)
        if answer.status in (UNAUTHORIZED, FORBIDDEN):
            raise TurnedAwayError(self._turned_away(answer), answer.status)
        try:
            return _Status.model_validate_json(answer.content).data if answer.status == OK else []
        except ValidationError:
            return []

    async def download(self, url: str, target: Path) -> None:
        """Write the text of a stream to a file; it takes as many requests as it has pieces.

        Raises:
            BrokerError: it cannot be had.
            OSError: it cannot be written.
        """
        if not self.is_own(url):
            raise BrokerError(f"{self.name} says that a stream is at another host: {url[:200]}")
        start, is_over = 0, False
        while not is_over:
            wanted = {"Range": f"bytes={start}-{start + _PIECE - 1}", "Accept": "*/*"}
            answer = await self._send("GET", url, _DATA_TIMEOUT, headers=wanted)
            if answer.status not in (200, 206, RANGE_NOT_SATISFIABLE):
                raise self._unexpected(answer)
            content = answer.content if answer.status in (200, 206) else b""
            if start + len(content) > self._longest_stream:
                raise BrokerError(f"{self.name} sends more than {self._longest_stream} bytes of a stream")
            await asyncio.to_thread(_append, target, content, start)
            start += len(content)
            is_over = answer.status != 206 or len(content) < _PIECE

    def _unexpected(self, answer: Answer) -> BrokerError:
        return BrokerError(f"{self.name} answered {answer.status}: {answer.excerpt}", answer.status)

    def _redirect(self, answer: Answer) -> str:
        """Where the offer set is: on the broker's own host."""
        location = answer.headers.get("location")
        if not location:
            raise BrokerError(f"{self.name} redirects to nowhere", answer.status)
        url = urljoin(answer.url, location)
        if not self.is_own(url):
            raise BrokerError(f"{self.name} redirects to another host, which is not followed: {url}")
        return url

    async def _ready(self, url: str) -> None:
        """Have the user's token, which may take as long as the run is paused: before one takes a turn."""
        if self._delegation is not None and self.is_own(url):
            await self._bearer(self._delegation)

    async def _bearer(self, wanted: DelegatedTo) -> str | None:
        """The user's token; None where we act for nobody.

        Raises:
            TurnedAwayError: there is none.
        """
        tokens = acting.bearers()
        if tokens is None:
            return None
        try:
            return f"Bearer {await tokens.bearer(wanted)}"
        except NoTokenError as error:
            raise TurnedAwayError(f"{self.name} wants a token of the user's, but {error}") from error

    async def _as_user(self, send: _Send, wanted: DelegatedTo) -> Answer | None:
        """The answer to a request with the user's token, which is renewed once where it is refused;
        None where we act for nobody."""
        bearer = await self._bearer(wanted)
        if bearer is None:
            return None
        answer = await send(bearer)
        tokens = acting.bearers()
        if answer.status == UNAUTHORIZED and tokens is not None:
            tokens.forget(wanted)
            renewed = await self._bearer(wanted)
            return answer if renewed is None else await send(renewed)
        return answer

    async def _send(
        self,
        method: str,
        url: str,
        deadline: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        sent = {"Accept": "application/json", "Content-Type": "application/json", **(headers or {})}
        if self.is_own(url) and isinstance(
            self.dialect, Native
        ):  # others would not know what to do with a name
            sent |= acting.headers()
        credentials = self._credentials if self.is_own(url) else None
        send = partial(_exchange, self._http, method, url, deadline, MAX_BODY, body=body)
        try:
            if self._delegation is not None and self.is_own(url):
                answered = await self._as_user(
                    lambda bearer: send(headers=sent | {"Authorization": bearer}), self._delegation
                )
                if answered is not None:
                    return answered
            if credentials is None:
                return await send(headers=sent)
            answer = await send(headers=sent | {"Authorization": credentials.header()})
            if answer.status == UNAUTHORIZED and credentials.is_renewed():
                answer = await send(headers=sent | {"Authorization": credentials.header()})
            return answer
        except aiohttp.ConnectionTimeoutError as error:
            raise NotReachedError(f"{self.name} cannot be reached at {url}: no answer") from error
        except TimeoutError as error:
            raise AwayError(f"{self.name} did not answer within {deadline:g} s ({url})") from error
        except CredentialsError as error:
            raise TurnedAwayError(f"{self.name} needs credentials, but {error}") from error
        except TooLongError as error:
            raise BrokerError(f"{self.name} sent more than {MAX_BODY} bytes ({url})") from error
        except aiohttp.ClientConnectorError as error:
            raise NotReachedError(f"{self.name} cannot be reached at {url}: {error}") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            kind = BrokerError if isinstance(error, ValueError) else BrokenError
            raise kind(f"{self.name} cannot be reached at {url}: {reason}") from error

    def _parsed(self, answer: Answer, model: type[Part], codes: tuple[int, ...]) -> Part:
        if answer.status == NOT_FOUND:
            raise SessionGoneError(f"{self.name} does not know {answer.url}", answer.status)
        if answer.status in (UNAUTHORIZED, FORBIDDEN):
            raise TurnedAwayError(self._turned_away(answer), answer.status)
        if answer.status not in codes:
            raise self._unexpected(answer)
        try:
            found = model.model_validate_json(answer.content)
            self._drop_foreign(found)
            return found
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise BrokerError(
                f"{self.name} sent something that is not a {model.__name__}: {where}: {problem['msg']}"
            ) from error

    def _drop_foreign(self, found: BaseModel) -> None:
        """Forget where a broker says that streams are, unless they are on hosts that may be asked for it: our
        service fetches them for its users."""
        sessions = [found] if isinstance(found, Session) else []
        if isinstance(found, OfferSet):
            sessions = found.offers or []
        for session in sessions:
            streams = session.executable.streams if session.executable else None
            for stream in (streams.stdout, streams.stderr) if streams else ():
                if stream is not None and stream.locations:
                    stream.locations = [url for url in stream.locations if self.may_use(url)]

    def _turned_away(self, answer: Answer) -> str:
        """What a broker says that does not let us in, and what the site can do about it."""
        said = f"{self.name} does not let this service in: it answered {answer.status}: {answer.excerpt}."
        if not self.is_own(answer.url):
            return f"{said} Sessions at other hosts than its own are asked for without credentials"
        if self._credentials is None:
            return f"{said} The configuration has no 'credentials' for it: give it some"
        return (
            f"{said} See that the account still exists there, and may do this, and that the"
            f" 'credentials' of {self.name} in the configuration are those of the account"
        )


async def _exchange(*arguments: Any, **more: Any) -> Answer:
    """As :func:`exchange`; secret inputs of the run are not in what the broker said."""
    answer = await exchange(*arguments, **more)
    content = acting.without_values(answer.content)
    return answer if content is answer.content else replace(answer, content=content)


def _origin(url: str) -> str:
    """Scheme, host and port, with a slash: what the URLs of one server begin with."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}/"


def _append(target: Path, content: bytes, start: int) -> None:
    """Write a piece of a file; the first makes it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab" if start else "wb") as file:
        file.write(content)
