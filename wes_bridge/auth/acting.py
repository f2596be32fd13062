"""On whose behalf we call other services: said once for a run or a request, read by whatever sends something.

It is kept in a context variable, so tasks that are begun for a run, also those that go on in the background,
act for the same person, and no call can forget to. Whoever is called believes the header only where a service
sends it whose credentials say that it may (role ``service``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, unquote

from wes_bridge.auth.principal import Principal
from wes_bridge.model.delegation import DelegatedTo

HEADER = "On-Behalf-Of"
"""Carries a name, percent-encoded."""
_PLAIN = "/:#@"
_FOR = " for "


class NoTokenError(Exception):
    """There is no token, and whoever wants it does not wait; the text says why."""


class Bearers(Protocol):
    """Tokens of whom the current task acts for (:class:`wes_bridge.auth.delegation.Wallet`)."""

    async def bearer(self, wanted: DelegatedTo, *, waits: bool = True) -> str:
        """A token for a service."""

    def forget(self, wanted: DelegatedTo) -> None:
        """The service does not take it."""


@dataclass(frozen=True)
class Reveal:
    """Secret values: put into what is sent, and taken out of what comes back.

    Attributes:
        values: by placeholder, as they stand in a JSON string.
        hidden: placeholders of those that can be told from other words.
    """

    values: Mapping[str, bytes]
    hidden: frozenset[str]

    def into(self, body: bytes) -> bytes:
        """JSON with the values."""
        for placeholder, value in self.values.items():
            body = body.replace(placeholder.encode(), value)
        return body

    def out_of(self, content: bytes) -> bytes:
        """JSON, or words, with the placeholders."""
        for placeholder in self.hidden:
            content = content.replace(self.values[placeholder], placeholder.encode())
        return content


_reveal: ContextVar[list[Reveal] | None] = ContextVar("wes_bridge.reveal", default=None)
_bearers: ContextVar[Bearers | None] = ContextVar("wes_bridge.bearers", default=None)
_acting: ContextVar[str | None] = ContextVar("wes_bridge.acting", default=None)


def acting_for() -> str | None:
    """The name of whom the current task acts for; None: for itself."""
    return _acting.get()


@contextlib.contextmanager
def on_behalf_of(name: str | None) -> Iterator[None]:
    """Act for somebody; None: for oneself."""
    token = _acting.set(name)
    try:
        yield
    finally:
        _acting.reset(token)


def act_for(name: str | None, bearers: Bearers | None = None) -> None:
    """Act for somebody from here on, with tokens of theirs: of a task that does nothing for others."""
    _acting.set(name)
    _bearers.set(bearers)
    _reveal.set([])


def reveals(found: Reveal) -> None:
    """Say what is secret in what the current run sends; its tasks that have begun know it too."""
    known = _reveal.get()
    if known is not None:
        known.append(found)


def with_values(body: bytes) -> bytes:
    """What is sent, with the run's secret values."""
    for each in _reveal.get() or ():
        body = each.into(body)
    return body


def without_values(content: bytes) -> bytes:
    """What a broker said, without them."""
    for each in _reveal.get() or ():
        content = each.out_of(content)
    return content


def bearers() -> Bearers | None:
    """The tokens with which the current task acts; None: it has none."""
    return _bearers.get()


def headers(name: str | None = None) -> Mapping[str, str]:
    """The header that says for whom a request is made; ``name`` or, without one, as the current task acts."""
    name = name or _acting.get()
    return {HEADER: quote(name, safe=_PLAIN)} if name else {}


def owner_key(principal: Principal) -> str:
    """What a session belongs to: who made it, and where that is a service also for whom.

    No two principals have the same key: names are encoded, so none of them holds the words between them.
    """
    own = quote(principal.name, safe=_PLAIN)
    if principal.on_behalf_of is None or "service" not in principal.roles:
        return own
    return f"{own}{_FOR}{quote(principal.on_behalf_of, safe=_PLAIN)}"


def person_of(key: str) -> str | None:
    """For whom the owner of a session acts: the name that is passed on; None where nobody is known."""
    return unquote(key.rpartition(_FOR)[2]) or None


def may_see(principal: Principal, key: str) -> bool:
    """Whether a session is a principal's to see and touch.

    What was made before sessions had owners has an empty key: services may go on with it.
    """
    if principal.is_admin:
        return True
    return key == owner_key(principal) or (not key and "service" in principal.roles)
