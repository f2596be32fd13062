"""One ExecutionBroker over HTTP: ask for offers, accept, reject, follow, cancel.

It speaks the standard and knows the two extras of our own node (long poll, streams); it decides nothing.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from wes_bridge.model.execution_broker import ExecutionRequest, OfferSet, Session, phase_update
from wes_bridge.model.states import Phase

Part = TypeVar("Part", bound=BaseModel)

LONG_POLL = 30
"""Seconds a node is asked to hold a poll."""


class BrokerError(Exception):
    """A broker could not be reached or did not speak the protocol; the text names it and says how."""


class SessionGoneError(BrokerError):
    """The broker does not know the session (any more)."""


class Broker:
    """A configured broker.

    Args:
        name: what the site calls it.
        url: its base URL.
        http: a client shared by all brokers of a process (pooled connections).
    """

    def __init__(self, name: str, url: str, http: httpx.AsyncClient) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self._http = http

    async def request_offers(self, request: ExecutionRequest, deadline: float) -> OfferSet:
        """POST /requests (303 with the offer set as body, or a redirect to it).

        Args:
            request: what to run.
            deadline: seconds for the whole exchange.

        Raises:
            BrokerError: unreachable, too slow, or not an offer set.
        """
        body = request.model_dump_json(by_alias=True, exclude_none=True).encode()
        answer = await self._send("POST", f"{self.url}/requests", deadline, content=body)
        if answer.status_code == httpx.codes.SEE_OTHER and not answer.content:
            answer = await self._send("GET", str(answer.headers.get("location", "")), deadline)
        return self._parsed(answer, OfferSet, (200, 303))

    async def set_phase(self, session_url: str, phase: Phase, deadline: float) -> Session:
        """Ask for a session to go to ``phase``; the answer says where it is, which may be elsewhere.

        Raises:
            SessionGoneError: the session is not known.
            BrokerError: unreachable, too slow, or not a session.
        """
        body = phase_update(phase).model_dump_json(by_alias=True, exclude_none=True).encode()
        answer = await self._send("POST", session_url, deadline, content=body)
        return self._parsed(answer, Session, (200,))

    async def poll(
        self, session_url: str, etag: str | None, wait: float = LONG_POLL
    ) -> tuple[Session | None, str | None]:
        """The session as it is, once it differs from ``etag`` or ``wait`` seconds have passed.

        Returns:
            The session, None when nothing changed; and its new etag, None when the broker gives none
            (it then answered at once).

        Raises:
            SessionGoneError: the session is not known.
            BrokerError: unreachable, too slow, or not a session.
        """
        headers = {"Prefer": f"wait={wait:g}"}
        if etag:
            headers["If-None-Match"] = etag
        answer = await self._send("GET", session_url, wait + 15, headers=headers)
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return None, etag
        return self._parsed(answer, Session, (200,)), answer.headers.get("etag")

    async def _send(self, method: str, url: str, deadline: float, **options: Any) -> httpx.Response:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        headers |= options.pop("headers", {})
        try:
            async with asyncio.timeout(deadline):
                return await self._http.request(method, url, headers=headers, **options)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise BrokerError(f"{self.name} did not answer within {deadline:g} s ({url})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BrokerError(
                f"{self.name} cannot be reached at {url}: {error or type(error).__name__}"
            ) from error

    def _parsed(self, answer: httpx.Response, model: type[Part], codes: tuple[int, ...]) -> Part:
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise SessionGoneError(f"{self.name} does not know {answer.request.url}")
        if answer.status_code not in codes:
            raise BrokerError(f"{self.name} answered {answer.status_code}: {_excerpt(answer)}")
        try:
            return model.model_validate_json(answer.content)
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise BrokerError(
                f"{self.name} sent something that is not a {model.__name__}: {where}: {problem['msg']}"
            ) from error


def _excerpt(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        return answer.text[:200]
    if isinstance(body, dict):
        return str(body.get("message") or body.get("msg") or body.get("detail") or body)[:300]
    return str(body)[:200]
