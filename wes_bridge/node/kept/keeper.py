"""The outputs of one session on their way to the node's kept ones, and what the session tells of them."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Event

from wes_bridge.config import KeptConfig
from wes_bridge.model.execution_broker import Data, Kept
from wes_bridge.node.kept.asking import lease_seconds, output_name
from wes_bridge.node.kept.store import KeptNote, KeptStore, Wanted


class SessionKeeper:
    """Keeps outputs of one session.

    Args:
        store: where.
        config: how long.
        session: the session's UUID.
        owner: whose it is.
        stop: set when the session is to end.
    """

    def __init__(
        self, store: KeptStore, config: KeptConfig, session: str, owner: str, stop: Event | None = None
    ) -> None:
        self._stop = stop
        self._store = store
        self._config = config
        self._session = session
        self._owner = owner

    def keep(self, data: Data, folder: int | None, name: str) -> KeptNote:
        """See :class:`wes_bridge.node.staging.release.Keeper`."""
        asked = data.keep.lease if data.keep else None
        algorithms = tuple((data.keep.checksums if data.keep else None) or ())
        wanted = Wanted(
            self._session,
            output_name(data),
            self._owner,
            lease(self._config, asked),
            algorithms,
            self._stop,
        )
        return self._store.keep(wanted, folder, name)

    def open_file(self, data: Data, path: str) -> int:
        """See :class:`wes_bridge.node.staging.release.Keeper`."""
        note = self._store.find(self._session, output_name(data))
        if note is None:
            raise FileNotFoundError(2, "it is not kept any more", path)
        return self._store.open_file(note, path)

    def tell(self, data: Data) -> None:
        """Write what is kept of an output into the session's data resource."""
        note = self._store.find(self._session, output_name(data))
        if data.keep is not None and note is not None:
            data.kept = told(note)


def told(note: KeptNote) -> Kept:
    """A kept output as a session tells it."""
    return Kept(
        file=note.file,
        entries=note.entries,
        files=note.files,
        size=note.size,
        expires=datetime.fromtimestamp(note.until, UTC),
    )


def lease(config: KeptConfig, asked: str | None) -> float:
    """Seconds of the lease that is given.

    Raises:
        BadRequestError: what is asked for is no duration.
    """
    seconds = lease_seconds(asked, "lease") if asked else config.lease.total_seconds()
    return min(seconds, config.max_lease.total_seconds())
