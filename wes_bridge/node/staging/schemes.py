"""The table of URL schemes a node can stage from and transfer to. One file per scheme beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wes_bridge.node.staging.allowed import Allowed


class UnusableError(ValueError):
    """An output is nothing that can be brought anywhere; that is its command's fault."""


class Scheme(Protocol):
    """One family of URLs. All methods may block; they run in a thread.

    Attributes:
        names: URL schemes, lower case, without the colon.
        can_store: whether :meth:`store` is there.
    """

    names: tuple[str, ...]
    can_store: bool

    def local(self, location: str) -> Path | None:
        """The path on this machine of what ``location`` names; None when it must be fetched."""

    def fetch(self, location: str, target: Path, stop: Event) -> None:
        """Bring what ``location`` names to the new file ``target``.

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


def scheme_of(location: str) -> str:
    """The scheme of a URL, lower case; empty when there is none."""
    name, colon, _ = location.partition(":")
    return name.lower() if colon else ""


class Schemes:
    """All schemes a node knows, by name.

    Args:
        schemes: those.
        allowed: which of their URLs may be used.
    """

    def __init__(self, schemes: Iterable[Scheme], allowed: Allowed) -> None:
        self.allowed = allowed
        self._by_name = {name: scheme for scheme in schemes for name in scheme.names}

    def get(self, location: str) -> Scheme | None:
        """The scheme of a URL; None when unknown."""
        return self._by_name.get(scheme_of(location))

    def local(self, location: str) -> Path | None:
        """See :meth:`Scheme.local`; None also for an unknown scheme."""
        scheme = self.get(location)
        return scheme.local(location) if scheme else None
