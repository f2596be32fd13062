"""Files of runs in a store of their own: sent on to URLs that the store signs, or streamed from it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from wes_bridge.data.archive import Member
from wes_bridge.data.downloads import Entry, NotThereError
from wes_bridge.data.publishing import PARTS, discard, fetch_part, stored_name
from wes_bridge.model.stores import ObjectsWorkspaceConfig, WorkspaceStoreConfig
from wes_bridge.storage.base import MissingError, Stat, Storage
from wes_bridge.storage.opening import open_storage
from wes_bridge.surface.safe_headers import INERT
from wes_bridge.wes.sending import send_stored
from wes_bridge.wes.threads import Threads

_LIFETIME = 300
"""Seconds a signed URL can be used, where the configuration does not say."""
_THREADS = 16


class StoredOutputs:
    """What a store has of runs.

    Args:
        config: of the store.

    Attributes:
        threads: to ask it in; of its own, so that a slow store holds up no file of this machine.
    """

    def __init__(self, config: WorkspaceStoreConfig) -> None:
        self._lifetime = config.url_lifetime if isinstance(config, ObjectsWorkspaceConfig) else _LIFETIME
        self._storage: Storage = open_storage(config)
        self.threads = Threads(sql=1, files=_THREADS)

    def close(self) -> None:
        """Ask nothing any more."""
        self.threads.close()

    async def answer(self, request: Request, run_id: str, name: str) -> Response | list[Entry]:
        """A file, or what is in a folder.

        Args:
            request: a GET or HEAD; its range and conditions count.
            run_id: the run.
            name: of the file or folder, relative to the run's folder.

        Raises:
            NotThereError: the store has nothing of that name.
            NoSuchRangeError: the range begins behind the end.
            OSError: the store does not answer.
        """
        found = await self.threads.files(self._look, _checked(run_id, name), request.method)
        if isinstance(found, str):
            headers = {"Cache-Control": "private, no-store", "Content-Security-Policy": INERT}
            return Response(None, 302, {"Location": found, **headers})
        if isinstance(found, Stat):
            return send_stored(request, found, partial(self._storage.read, found.name), self.threads)
        return found

    async def log(self, request: Request, run_id: str, name: str, media_type: str) -> Response:
        """A log or a task's stream, streamed as text.

        Raises:
            NotThereError: the store has none.
            NoSuchRangeError: the range begins behind the end.
            OSError: the store does not answer.
        """
        try:
            stat = await self.threads.files(self._storage.stat, _checked(run_id, name))
        except MissingError as error:
            raise NotThereError(name) from error
        return send_stored(request, stat, partial(self._storage.read, stat.name), self.threads, media_type)

    async def fetch(self, run_id: str, part: str, target: Path) -> None:
        """Bring a part of a run back to a new folder.

        Raises:
            OSError: the store does not give it, or the folder cannot be written.
        """
        await self.threads.files(fetch_part, self._storage, run_id, part, target)

    async def discard(self, run_id: str) -> None:
        """Remove all of a run that is deleted; what is left is told in the log."""
        await self.threads.files(discard, self._storage, run_id)

    async def members(self, run_id: str, name: str) -> Iterator[Member]:
        """All that is in a folder, to be packed; each is to be read before the next.

        Raises:
            NotThereError: the store has no such folder.
            OSError: the store does not answer.
        """
        folder = _checked(run_id, name)
        await self.threads.files(self._entries, folder)
        return self._members(folder)

    def _members(self, folder: str) -> Iterator[Member]:
        top = folder.rpartition("/")[2]
        yield Member(top)
        for stat in self._storage.files(folder):
            inner = top + stat.name.removeprefix(folder)
            read = partial(self._storage.read, stat.name)
            yield Member(inner, stat.size, stat.mtime_ns, stat.is_executable, read)

    def _look(self, name: str, method: str) -> str | Stat | list[Entry]:
        """A signed URL, a file that is to be streamed, or a folder's entries."""
        try:
            stat = self._storage.stat(name)
        except MissingError:
            return self._entries(name)
        return self._storage.signed_url(name, method, self._lifetime) or stat

    def _entries(self, name: str) -> list[Entry]:
        try:
            folders, files = self._storage.entries(name)
        except MissingError as error:
            raise NotThereError(name) from error
        inner = [Entry(one, True, None) for one in folders]
        inner += [Entry(one.name.rpartition("/")[2], False, one.size, one.is_executable) for one in files]
        return sorted(inner, key=lambda one: one.name)


def _checked(run_id: str, name: str) -> str:
    """What the store calls a file or folder of a run."""
    if name.partition("/")[0] not in PARTS or any(part in ("", ".", "..") for part in name.split("/")):
        raise NotThereError(name)
    return stored_name(run_id, name)
