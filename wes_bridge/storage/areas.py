"""Parts of object stores that a configuration names (BUCKET, BUCKET/FOLDER), and which one a URL is in."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock

from obstore.store import S3Store

from wes_bridge.model.stores import S3StoreConfig
from wes_bridge.storage.obstores import Times
from wes_bridge.storage.s3 import ObjectUrl, bucket_of


class Areas:
    """The parts. Clients are made when they are first needed.

    Args:
        pairs: parts, each with its store.
        times: how long the stores may take.
    """

    def __init__(self, pairs: Iterable[tuple[str, S3StoreConfig]], times: Times) -> None:
        self._areas = sorted(pairs, key=lambda pair: -len(pair[0]))
        self._times = times
        self._clients: dict[tuple[int, str], S3Store] = {}
        self._lock = Lock()

    def __str__(self) -> str:
        return ", ".join(self.places) or "nothing"

    @property
    def places(self) -> tuple[str, ...]:
        """The beginnings of the URLs of all, the longest first."""
        return tuple(dict.fromkeys(f"s3://{area}/" for area, _ in self._areas))

    def hold(self, url: ObjectUrl) -> bool:
        """Whether a URL is in one of them."""
        return self._store_of(url) is not None

    def bucket(self, url: ObjectUrl) -> S3Store:
        """A client of the bucket of a URL, in the store of the longest part that it is in.

        Raises:
            ValueError: it is in none.
            OSError: a file that the configuration names cannot be read.
        """
        store = self._store_of(url)
        if store is None:
            raise ValueError(f"no object store is configured for {url}")
        with self._lock:
            client = self._clients.get((id(store), url.bucket))
            if client is None:
                client = self._clients[id(store), url.bucket] = bucket_of(store, url.bucket, self._times)
            return client

    def _store_of(self, url: ObjectUrl) -> S3StoreConfig | None:
        path = url.path
        found = (store for area, store in self._areas if path == area or path.startswith(area + "/"))
        return next(found, None)
