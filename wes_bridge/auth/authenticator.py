"""What looks at credentials: the plug-in point ``wes_bridge.authenticators``.

An authenticator knows one kind of credential and says whose it is, with groups and roles. What a caller may
do is none of its business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel

from wes_bridge.auth.peers import Connection
from wes_bridge.auth.principal import Principal


@dataclass(frozen=True, slots=True)
class Call:
    """A request, as far as it tells who makes it.

    Attributes:
        method: GET.
        path: without the query.
        scheme: of ``Authorization``, lower case: ``bearer``; empty without such a header.
        secret: what follows the scheme.
        connection: which it came over.
        is_forwarded: a proxy has passed it on.
    """

    method: str
    path: str
    scheme: str
    secret: str
    connection: Connection | None
    is_forwarded: bool = False


class RefusedError(Exception):
    """The credentials are of this kind, and are no good; the text says why, and never shows them.

    Attributes:
        error: as RFC 6750 names it: ``invalid_token``, ``insufficient_scope``.
        status: 401, or 403 where it is known who calls.
    """

    def __init__(self, message: str, error: str = "invalid_token", status: int = 401) -> None:
        super().__init__(message)
        self.error = error
        self.status = status


class UnavailableError(Exception):
    """Nobody can tell now whether the credentials are good: the issuer does not answer."""


class Authenticator(Protocol):
    """Looks at one kind of credential. It never blocks the loop."""

    async def authenticate(self, call: Call) -> Principal | None:
        """Whose credentials these are; None: they are of another kind.

        Raises:
            RefusedError: they are of this kind and no good.
            UnavailableError: that cannot be told now.
        """

    def challenges(self) -> Sequence[str]:
        """Values of ``WWW-Authenticate`` that tell a client which credentials would do."""

    async def close(self) -> None:
        """Let go of connections and tasks."""


_Settings = TypeVar("_Settings", bound=BaseModel)


@dataclass(frozen=True)
class Method(Generic[_Settings]):
    """What an entry point names: a way to be known.

    Attributes:
        settings: the model of its part of the configuration.
        make: makes the authenticator of these settings, with the server's state folder. What cannot be used
            is a ``ValueError`` or an ``OSError`` in words for the administrator.
        check: looks at what the settings name, files say, before anything is started; errors as of ``make``.
    """

    settings: type[_Settings]
    make: Callable[[_Settings, Path], Authenticator]
    check: Callable[[_Settings], object] = lambda _settings: None
