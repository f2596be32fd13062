"""A prefix of an object store as a store for files.

An object is there as a whole or not at all, a folder is not: when all of it has been put, an object that says
so is put beside it. Signed URLs are for the name by which clients know the store, where that is another one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal, cast

import obstore

from wes_bridge.storage.base import ALGORITHM, MissingError, Stat, Stored, StoreError
from wes_bridge.storage.obstores import LISTED, NoObjectError, Uploads, check_key, listed, pieces, told
from wes_bridge.storage.work import Work

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import AzureStore, GCSStore, S3Store

    Signing = AzureStore | GCSStore | S3Store

_CHUNK = 512 * 1024
_PARALLEL = 8
_PUBLISHED = ".wb-published"
"""Name of the object that says that a folder is whole."""


class ObjectStorage:
    """Objects below a prefix.

    Args:
        store: a client of the bucket.
        prefix: of all keys, without slashes around.
        signer: a client that signs URLs; None: there are to be none.
    """

    def __init__(self, store: Signing, prefix: str, signer: Signing | None) -> None:
        self._prefix = prefix
        self._store = store
        self._uploads = Uploads()
        self._signer = signer

    def stat(self, name: str) -> Stat:
        """See the protocol."""
        with _missing(name), told():
            return self._stat(obstore.head(self._store, self._key(name)))

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See the protocol."""
        if end is not None and start >= end:
            return
        with _missing(name), told():
            if start == 0 and end is None:
                found = obstore.get(self._store, self._key(name))
            elif end is None:
                found = obstore.get(self._store, self._key(name), options={"range": {"offset": start}})
            else:
                found = obstore.get(self._store, self._key(name), options={"range": (start, end)})
        yield from pieces(found, _CHUNK)

    def files(self, folder: str) -> Iterator[Stat]:
        """See the protocol."""
        for item in self._listed(folder):
            found = self._stat(item)
            if not found.name.endswith(f"/{_PUBLISHED}"):
                yield found

    def entries(self, folder: str) -> tuple[list[str], list[Stat]]:
        """See the protocol."""
        with told():
            found = obstore.list_with_delimiter(self._store, self._key(folder))
        folders = [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]
        files = [self._stat(item) for item in found["objects"]]
        files = [one for one in files if not one.name.endswith(f"/{_PUBLISHED}")]
        if not folders and not found["objects"]:
            raise MissingError(folder)
        return sorted(folders), sorted(files, key=lambda one: one.name)

    def put(self, name: str, file: int) -> Stored:
        """See the protocol."""
        digest, size = hashlib.new(ALGORITHM, usedforsecurity=False), 0

        def look(piece: bytes) -> None:
            nonlocal size
            digest.update(piece)
            size += len(piece)

        self._uploads.put(self._store, self._key(name), file, look)
        return Stored(name, size, f"{ALGORITHM}${digest.hexdigest()}")

    def publish(self, folder: str, files: Iterable[tuple[str, int]]) -> list[Stored]:
        """See the protocol. What an earlier attempt has put and this one has not is removed."""
        self._unpublish(folder)
        found: list[Stored] = []

        def put(name: str, file: int) -> None:
            found.append(self.put(name, file))

        with Work(_PARALLEL) as work:
            for name, file in files:
                work.add(partial(put, f"{folder}/{name}", file), partial(os.close, file))
        names = {one.name for one in found}
        self._remove(one.name for one in self.files(folder) if one.name not in names)
        with told():
            obstore.put(self._store, self._key(f"{folder}/{_PUBLISHED}"), b"")
        return found

    def is_published(self, folder: str) -> bool:
        """See the protocol."""
        try:
            self.stat(f"{folder}/{_PUBLISHED}")
        except MissingError:
            return False
        return True

    def delete(self, folder: str) -> None:
        """See the protocol."""
        self._unpublish(folder)
        self._remove(self._name(item["path"]) for item in self._listed(folder))

    def signed_url(self, name: str, method: str, seconds: int) -> str | None:
        """See the protocol."""
        if self._signer is None:
            return None
        allowed = cast("Literal['GET', 'HEAD']", method)
        with told():
            return obstore.sign(self._signer, allowed, self._key(name), timedelta(seconds=seconds))

    def _unpublish(self, folder: str) -> None:
        self._remove([f"{folder}/{_PUBLISHED}"])

    def _remove(self, names: Iterable[str]) -> None:
        """Batches: a store takes 1,000 names at once."""
        batch = []
        for name in names:
            batch.append(self._key(name))
            if len(batch) == LISTED:
                self._remove_batch(batch)
                batch = []
        self._remove_batch(batch)

    def _remove_batch(self, keys: list[str]) -> None:
        if keys:
            with told():
                obstore.delete(self._store, keys)

    def _listed(self, folder: str) -> Iterator[ObjectMeta]:
        return listed(self._store, self._key(folder))

    def _key(self, name: str) -> str:
        try:
            name.encode()
            check_key(name)
        except ValueError as error:
            raise StoreError(f"{name[:200]!r} is no name for an object: {error}") from error
        return f"{self._prefix}/{name}" if self._prefix else name

    def _name(self, key: str) -> str:
        return key.removeprefix(f"{self._prefix}/") if self._prefix else key

    def _stat(self, item: ObjectMeta) -> Stat:
        written = item["last_modified"]
        version = item["e_tag"] or f"{item['size']:x}-{written.timestamp()}"
        return Stat(self._name(item["path"]), item["size"], version, int(written.timestamp()) * 10**9)


class _missing:
    """A store's word that an object is not there, as ours."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, NoObjectError):
            raise MissingError(self._name) from error
