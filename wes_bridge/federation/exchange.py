"""One HTTP request to an ExecutionBroker and its answer, bounded in time and length.

It must not know what is asked, nor how a failure is told: a service names the broker's address to its user,
an aggregator must not.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from wes_bridge.redaction import HIDDEN, redacted

_READ = 64 * 1024
"""Bytes of an error's body that are looked at."""
_EXCERPT = 300
"""Characters of what it says that are passed on."""
_SHORTEST = 4
"""Characters of a secret that can be told from other words."""
_JWT = re.compile(rb"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}")
_BEARER = re.compile(rb"(?i)(bearer )[\w.~+/=-]{16,}")
_WITHIN_DEADLINE = aiohttp.ClientTimeout(total=None, sock_connect=15.0)
"""A machine that is there takes a connection at once, however busy its server is."""


@dataclass(frozen=True)
class Answer:
    """A broker's answer, read to its end."""

    url: str
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def etag(self) -> str | None:
        """The version of what was answered, None when the broker gives none."""
        return self.headers.get("etag")

    @property
    def excerpt(self) -> str:
        """What an error's body says, shortened."""
        text = self.content[:_READ].decode(errors="replace").strip()
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            return redacted(text[:_EXCERPT]) or "nothing more"
        if isinstance(body, dict):
            body = body.get("message") or body.get("msg") or body.get("detail") or body.get("error") or body
        return redacted(str(body)[:_EXCERPT])


class TooLongError(Exception):
    """The answer is longer than was allowed."""


async def exchange(
    http: aiohttp.ClientSession,
    method: str,
    url: str,
    deadline: float,
    limit: int,
    *,
    headers: Mapping[str, str],
    body: bytes | None = None,
    within: aiohttp.ClientTimeout = _WITHIN_DEADLINE,
) -> Answer:
    """Send a request and read the whole answer. Redirects are not followed.

    Args:
        http: the connections.
        method: of the request.
        url: of the request.
        deadline: seconds for all of it.
        limit: bytes the answer may have, unpacked.
        headers: all there are.
        body: of the request.
        within: what parts of it may take, where that is to be less.

    Raises:
        TimeoutError: no answer in time.
        TooLongError: it is longer.
        aiohttp.ClientError: not reachable, or not HTTP. So do OSError and ValueError.
    """
    async with (
        asyncio.timeout(deadline),
        http.request(
            method, url, data=body, headers=headers, allow_redirects=False, timeout=within
        ) as answer,
    ):
        content = await _content(answer, limit)
        return Answer(url, answer.status, answer.headers, _without(headers.get("Authorization"), content))


def _without(authorization: str | None, content: bytes) -> bytes:
    """What a broker said, without the secret that it was sent: some echo the headers of what they refuse, and
    what they say is shown to people."""
    if authorization is None:
        return content
    scheme, _, secret = authorization.partition(" ")
    secrets = [secret]
    if scheme == "Basic":
        with contextlib.suppress(ValueError):
            secrets.append(base64.b64decode(secret).decode().partition(":")[2])
    for one in secrets:
        quoted = json.dumps(one)[1:-1]
        for form in {one, quoted, one.replace("/", "\\/"), quoted.replace("/", "\\/")}:
            if len(form) >= _SHORTEST:
                content = content.replace(form.encode(), HIDDEN.encode())
    return _without_tokens(content)


def _without_tokens(content: bytes) -> bytes:
    """What a broker said, without what looks like a token: it may echo one that another run came with."""
    if b"eyJ" in content:
        content = _JWT.sub(HIDDEN.encode(), content)
    if b"bearer " in content.lower():
        content = _BEARER.sub(rb"\1" + HIDDEN.encode(), content)
    return content


async def _content(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body. One that does not say how long it is, or is compressed, is read with an eye on its length."""
    length = answer.content_length
    if length is not None and length <= limit and "Content-Encoding" not in answer.headers:
        return await answer.read()
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > limit:
            raise TooLongError
        parts.append(part)
    return b"".join(parts)
