"""``http:`` and ``https:`` URLs, of which those of kept outputs are read as such."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Event

from wes_bridge.data.receiving import Count, Receiving
from wes_bridge.fetching.client import Fetcher
from wes_bridge.model.data_urls import data_path_of
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.node.staging.schemes import Delegating, Fetched, Scheme, Tokens, Wanted


class KeptScheme:
    """Web addresses.

    Args:
        inner: does all that are no kept outputs.
        fetcher: asks other nodes.
        count: is told how many bytes came from them.
        pause: seconds before the second attempt; doubles each time.
    """

    names: tuple[str, ...] = ("http", "https")
    can_store = True
    places: Sequence[str] | None = None

    def __init__(self, inner: Scheme, fetcher: Fetcher, count: Count, pause: float = 0.5) -> None:
        self._inner = inner
        self._receiving = Receiving(fetcher, count, pause)

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """See :class:`Scheme`; a folder that a node keeps can be fetched."""
        is_kept = directory and not write and data_path_of(location) is not None
        return self._inner.refusal(location, write=write, directory=directory and not is_kept)

    def local(self, location: str) -> Path | None:
        """See :class:`Scheme`."""
        return self._inner.local(location)

    def scope(self, wanted: Wanted) -> str:
        """See :class:`Scheme`; a signed URL is everything that its reader needs."""
        return self._inner.scope(wanted)

    def delegated(self, location: str) -> DelegatedTo | None:
        """See :class:`Delegating`; a signed URL is everything that its reader needs."""
        if data_path_of(location) is not None or not isinstance(self._inner, Delegating):
            return None
        return self._inner.delegated(location)

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """See :class:`Scheme`; errors say what the other node says."""
        if data_path_of(wanted.location) is None:
            return self._inner.fetch(wanted, target, stop, unless)
        self._receiving.receive(wanted.location, target, stop, wanted.expected)
        return Fetched()

    def store(
        self, folder: int, name: str, location: str, beside: Sequence[Path], tokens: Tokens | None = None
    ) -> None:
        """See :class:`Scheme`."""
        if isinstance(self._inner, Delegating):
            self._inner.store(folder, name, location, beside, tokens)
        else:
            self._inner.store(folder, name, location, beside)
