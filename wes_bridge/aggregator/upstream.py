"""One broker an aggregator asks, over HTTP: one request and what came back, or why nothing did.

Texts of errors name the broker and never its address: they are for clients that must not know it. The log has
the address.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from wes_bridge.aggregator.rewriting import offerset_base, scrub
from wes_bridge.auth import acting
from wes_bridge.federation.client import BrokerError
from wes_bridge.federation.credentials import CredentialsError
from wes_bridge.federation.exchange import Answer, TooLongError, exchange

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10.0
"""Seconds to make a connection."""
READ_TIMEOUT = 60.0
"""Seconds a stream may be silent."""
_Model = TypeVar("_Model", bound=BaseModel)


class SilentError(BrokerError):
    """The broker cannot be reached."""


class LateError(SilentError):
    """The broker did not answer in time."""


class Upstream:
    """A configured broker.

    Args:
        name: what the site calls it.
        url: its base URL.
        http: shared by all brokers.
        max_answer: bytes an answer may have.
        credentials: headers that every request to it carries, asked for each time.
        dialect: in which requests are written that it understands.
    """

    def __init__(
        self,
        name: str,
        url: str,
        http: aiohttp.ClientSession,
        max_answer: int,
        credentials: Callable[[], Mapping[str, str]] = dict,
        *,
        dialect: str = "native",
    ) -> None:
        self.name = name
        self.dialect = dialect
        self.url = url.rstrip("/")
        self._authority = self.url.partition("://")[2].partition("/")[0]
        self._http = http
        self._max_answer = max_answer
        self._credentials = credentials

    async def exchange(
        self,
        method: str,
        url: str,
        deadline: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request and read the whole answer. Redirects are not followed.

        Args:
            method: of the request.
            url: below the broker's.
            deadline: seconds for all of it.
            body: JSON.
            headers: beside the usual.

        Raises:
            LateError: no answer in time.
            SilentError: not reachable.
            BrokerError: the answer is too long, or not HTTP.
        """
        try:
            return await self._exchange(method, url, deadline, body, headers)
        except aiohttp.ServerDisconnectedError:
            # It closed an idle connection just when we used it: what we send can be sent twice.
            try:
                return await self._exchange(method, url, deadline, body, headers)
            except aiohttp.ServerDisconnectedError as error:
                raise SilentError(f"{self.name} closed the connection without an answer") from error

    async def _exchange(
        self, method: str, url: str, deadline: float, body: bytes | None, headers: Mapping[str, str] | None
    ) -> Answer:
        sent = {"Accept": "application/json", **(headers or {}), **acting.headers(), **self._secret()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        within = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
        try:
            return await exchange(
                self._http, method, url, deadline, self._max_answer, headers=sent, body=body, within=within
            )
        except TimeoutError as error:
            raise LateError(f"{self.name} did not answer within {deadline:g} s") from error
        except TooLongError as error:
            raise BrokerError(f"{self.name} sent more than {self._max_answer} bytes") from error
        except aiohttp.ServerDisconnectedError:
            raise
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(url, error) from error

    async def open(self, method: str, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Send a request and leave the answer's body to the caller, who closes it.

        Raises:
            LateError: no answer in time.
            SilentError: not reachable.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=READ_TIMEOUT)
        sent = {"Accept-Encoding": "identity", **headers, **acting.headers(), **self._secret()}
        try:
            return await self._http.request(method, url, headers=sent, allow_redirects=False, timeout=timeout)
        except TimeoutError as error:
            raise LateError(f"{self.name} did not answer within {READ_TIMEOUT:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._unreachable(url, error) from error

    def _secret(self) -> Mapping[str, str]:
        try:
            return self._credentials()
        except CredentialsError as error:
            raise SilentError(f"{self.name} needs credentials, but {error}") from error

    def parsed(self, answer: Answer, model: type[_Model]) -> tuple[dict[str, Any], _Model]:
        """The answer's JSON as it is, and as a model.

        Raises:
            BrokerError: it is not JSON, or not that; the text says where.
        """
        what = model.__name__
        try:
            data = from_json(answer.content, allow_inf_nan=False)
            checked = model.model_validate(data)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise BrokerError(
                f"{self.name} sent something that is not a valid {what}: {where}: {problem['msg']}"
            ) from error
        except (ValueError, RecursionError) as error:
            raise BrokerError(
                f"{self.name} sent something that is not JSON where a {what} belongs"
            ) from error
        result: dict[str, Any] = data
        return result, checked

    def refusal(self, answer: Answer) -> str:
        """In words, that and why the broker refused."""
        words: str = scrub(answer.excerpt, [self.url, self._authority], self.name)
        return f"{self.name} answered {answer.status}: {words}"

    def without_addresses(self, messages: list[dict[str, Any]], url: str | None) -> list[dict[str, Any]]:
        """Messages with the broker's name where they give its address.

        Args:
            messages: of the broker.
            url: what it calls the offer set they belong to.
        """
        told = offerset_base(url) if url else None
        bases = [*([told] if told else []), self.url, self._authority]
        scrubbed: list[dict[str, Any]] = scrub(messages, bases, self.name)
        return scrubbed

    def _unreachable(self, url: str, error: Exception) -> SilentError:
        log.info("%s: %s: %r", self.name, url, error)
        return SilentError(f"{self.name} cannot be reached ({_why(error)})")


def _why(error: Exception) -> str:
    """What went wrong, without an address."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its host name is not known"
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
        return "its TLS certificate is not accepted"
    inner = getattr(error, "os_error", error)
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused"
    if isinstance(inner, ConnectionResetError):
        return "connection reset"
    return type(error).__name__
