"""The table of URL schemes a node can stage from and transfer to: what a scheme is, and which URLs are used.

One file per scheme beside this one. Each is an entry point ``wes_bridge.data`` (see ``plugins.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.model.expected import UNSAID, Expected

if TYPE_CHECKING:
    from wes_bridge.node.staging.allowed import Allowed


class UnusableError(ValueError):
    """An output is nothing that can be brought anywhere; that is its command's fault."""


class Tokens(Protocol):
    """Tokens of the person for whom something is fetched or stored, made for one store each."""

    def token(self, wanted: DelegatedTo) -> str:
        """One for a store. Blocks, for about a minute at most.

        Raises:
            OSError: there is none; the text says why.
        """

    def forget(self, wanted: DelegatedTo) -> None:
        """The store does not take it."""


@dataclass(frozen=True)
class Wanted:
    """What a session wants to be fetched.

    Attributes:
        location: the URL.
        directory: whether it is a folder.
        expected: how it must be, of a file.
        user: the name of the person for whom it is; empty: nobody is told from others.
        tokens: of that person; None: there are none. They do not tell one thing from another.
    """

    location: str
    directory: bool = False
    expected: Expected = UNSAID
    user: str = ""
    tokens: Tokens | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Fetched:
    """What has come.

    Attributes:
        version: a text that is another one as soon as the content is another one; empty: the server gives
            none, so the content cannot be used again.
        digests: checksums that were computed while it came, by algorithm.
    """

    version: str = ""
    digests: tuple[tuple[str, str], ...] = ()


class Scheme(Protocol):
    """One family of URLs. All methods may block; they run in a thread.

    Attributes:
        names: URL schemes, lower case, without the colon.
        can_store: whether :meth:`store` is there.
        places: beginnings of the URLs that its own settings allow; None: the node's ``data`` says.
    """

    names: tuple[str, ...]
    can_store: bool
    places: Sequence[str] | None

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """Why the node cannot stage from (or write to) a URL, as far as that is known without asking anybody;
        None when it can. An offer is a NO with this reason."""

    def local(self, location: str) -> Path | None:
        """The path on this machine of what ``location`` names; None when it must be fetched."""

    def scope(self, wanted: Wanted) -> str:
        """For whom it is fetched: the name of a user whose own rights are used, empty for all of this node.

        What was fetched for one user is never given to another.
        """

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Bring what ``wanted`` names to the new file or folder ``target``.

        Args:
            wanted: what; a file's size and checksum are checked (see ``arriving.py``).
            target: in a private folder: what is half written there is seen by nobody.
            stop: set to give up.
            unless: a version that is here already; empty: none.

        Returns:
            None: its version is still ``unless``, and nothing was written.

        Raises:
            OSError, ValueError: it cannot be had; the text says why.
        """

    def store(self, folder: int, name: str, location: str, beside: Sequence[Path]) -> None:
        """Transfer a file or directory to ``location``. It may be changed meanwhile, by somebody hostile.

        Args:
            folder: descriptor of the folder it is in.
            name: its name there.
            location: the URL.
            beside: where its links may lead, apart from itself; links followed already.

        Raises:
            OSError, ValueError: it cannot be written; the text says why.
        """


@runtime_checkable
class Delegating(Scheme, Protocol):
    """A scheme some of whose URLs lead to where a token of the user is wanted."""

    def delegated(self, location: str) -> DelegatedTo | None:
        """The token that is wanted where a URL leads; None: none is."""

    def store(
        self, folder: int, name: str, location: str, beside: Sequence[Path], tokens: Tokens | None = None
    ) -> None:
        """See :meth:`Scheme.store`.

        Args:
            folder, name, location, beside: as there.
            tokens: of the person whose output it is; None: there are none.
        """


def scheme_of(location: str) -> str:
    """The scheme of a URL, lower case; empty when there is none."""
    name, colon, _ = location.partition(":")
    return name.lower() if colon else ""


class Schemes:
    """All schemes a node knows, by name.

    Args:
        schemes: those.
        allowed: which of their URLs may be used, where a scheme has no settings of its own.
    """

    def __init__(self, schemes: Iterable[Scheme], allowed: Allowed) -> None:
        self.allowed = allowed
        self._schemes = list(schemes)
        self._by_name = {name: scheme for scheme in self._schemes for name in scheme.names}

    def __str__(self) -> str:
        return ", ".join(self.places)

    @property
    def places(self) -> list[str]:
        """The beginnings of all URLs that the node stages from or writes to."""
        own = [place for scheme in self._schemes for place in scheme.places or ()]
        return list(dict.fromkeys([*self.allowed.prefixes, *own]))

    def get(self, location: str) -> Scheme | None:
        """The scheme of a URL; None when unknown."""
        return self._by_name.get(scheme_of(location))

    def local(self, location: str) -> Path | None:
        """See :meth:`Scheme.local`; None also for an unknown scheme."""
        scheme = self.get(location)
        return scheme.local(location) if scheme else None

    def delegated(self, location: str) -> DelegatedTo | None:
        """The token of the user that is wanted where a URL leads; None: none is."""
        scheme = self.get(location)
        return scheme.delegated(location) if isinstance(scheme, Delegating) else None

    def refusal(self, location: str, *, write: bool, directory: bool = False) -> str | None:
        """Why data cannot be staged from (or written to) a URL; None when it can."""
        scheme = self.get(location)
        if scheme is None or (scheme.places is None and not self.allowed.names(location)):
            return f"this node takes only {self}"
        if write and not scheme.can_store:
            return "cannot write to this"
        reason = scheme.refusal(location, write=write, directory=directory)
        if reason is not None:
            return reason[:300]
        try:
            scheme.local(location)
        except ValueError as error:
            return str(error)[:300]
        return None
