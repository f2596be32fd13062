"""``s3:`` URLs: objects, and everything below a prefix as a folder, in stores that the configuration names.

Which store a URL belongs to is told by its bucket and the beginning of its key: the longest that is
configured counts. An object is streamed to the disk, an output is sent in parts; memory stays bounded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event

import obstore
from obstore.exceptions import NotModifiedError
from obstore.store import S3Store

from wes_bridge.data.plain_files import files_of
from wes_bridge.fetching.limits import Budget, Limits
from wes_bridge.fetching.tls import tls_context
from wes_bridge.model.expected import UNSAID, Expected
from wes_bridge.model.stores import S3Config
from wes_bridge.node.staging.arriving import Arrival
from wes_bridge.node.staging.http import limits_of
from wes_bridge.node.staging.plugins import DataPlugin, S3Settings, Site
from wes_bridge.node.staging.schemes import Fetched, Wanted
from wes_bridge.plugging import Key, unreadable
from wes_bridge.storage.areas import Areas
from wes_bridge.storage.base import StoreError
from wes_bridge.storage.obstores import Times, Uploads, check_key, listed, pieces, told
from wes_bridge.storage.s3 import Keys, ObjectUrl, parse_object_url
from wes_bridge.storage.work import Work

_AS_IT_COMES = 1
"""Bytes that are waited for: of a store that drips, each drop is looked at, and it costs nothing else."""
_PARALLEL = 16
"""Objects of one folder at once."""
_SENT_AT_ONCE = 8
"""Objects of one output, each below the size of a part in memory."""
_EVER = 10 * 365 * 86400.0


class S3Scheme:
    """Objects in stores.

    Args:
        stores: of the configuration.
        limits: of each transfer.
    """

    names: tuple[str, ...] = ("s3",)
    can_store = True

    def __init__(self, stores: Sequence[S3Config], limits: Limits) -> None:
        self._limits = limits
        times = Times(limits.timeout, limits.deadline or _EVER)
        self._read = Areas(((area, store) for store in stores for area in store.read), times)
        self._write = Areas(((area, store) for store in stores for area in store.write), times)
        self._uploads = Uploads()
        self.places: Sequence[str] | None = self._read.places

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """No store is configured for it."""
        try:
            url = parse_object_url(location)
        except ValueError as error:
            return str(error)
        areas = self._write if write else self._read
        if areas.hold(url):
            return None if url.key or directory or write else "it names a bucket, and no object in it"
        does = "writes to" if write else "reads"
        return f"of object stores, this node {does} only {areas}"

    def local(self, location: str) -> Path | None:
        """Never on this machine yet."""
        return None

    def scope(self, wanted: Wanted) -> str:
        """All of this node: its own keys are used, and its configuration says for what."""
        return ""

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Download an object, or all below a prefix."""
        url = parse_object_url(wanted.location)
        bucket = self._read.bucket(url)
        if wanted.directory:
            return _Folder(bucket, url, self._limits, stop).fetch(target, unless)
        return _fetch(bucket, url.key, target, wanted.expected, limits=self._limits, stop=stop, unless=unless)

    def store(self, folder: int, name: str, location: str, beside: Sequence[Path]) -> None:
        """Send a file to ``location``, or each file of a directory below ``location``."""
        url = parse_object_url(location)
        bucket = self._write.bucket(url)

        with Work(_SENT_AT_ONCE) as work:
            for relative, file in files_of(folder, name, beside):
                key = f"{url.key}/{relative}" if relative and url.key else relative or url.key
                try:
                    check_key(key.encode("utf-8", "strict").decode())
                except ValueError:
                    os.close(file)
                    raise ValueError(f"{key!r} is no name for an object: names are UTF-8 text") from None
                work.add(partial(self._uploads.put, bucket, key, file), partial(os.close, file))


def _fetch(
    bucket: S3Store,
    key: str,
    target: Path,
    expected: Expected,
    *,
    limits: Limits,
    stop: Event,
    unless: str = "",
) -> Fetched | None:
    try:
        with told():
            found = obstore.get(bucket, key, options={"if_none_match": unless} if unless else None)
            size, version = found.meta["size"], found.meta["e_tag"] or ""
    except StoreError as error:
        if unless and isinstance(error.__cause__, NotModifiedError):
            return None
        raise
    _check_size(size, limits)
    budget = Budget(limits)
    with Arrival(target, expected) as arrival:
        for piece in pieces(found, _AS_IT_COMES):
            arrival.write(piece)
            budget.moved(len(piece))
            budget.left()
            if stop.is_set():
                raise InterruptedError("stopped")
        if arrival.size != size:
            raise StoreError(f"the object ends after {arrival.size} of {size} bytes")
        return Fetched(version, arrival.finish())


def _check_size(size: int, limits: Limits) -> None:
    if limits.max_bytes is not None and size > limits.max_bytes:
        raise StoreError(f"larger than {limits.max_bytes} bytes (fetch.max_bytes)")


class _Folder:
    """All objects below a prefix, as a folder."""

    def __init__(self, bucket: S3Store, url: ObjectUrl, limits: Limits, stop: Event) -> None:
        self._bucket = bucket
        self._url = url
        self._limits = limits
        self._stop = stop
        self._made: set[Path] = set()

    def fetch(self, target: Path, unless: str) -> Fetched | None:
        version = self._version() if unless else ""
        if unless and version == unless:
            return None
        target.mkdir()
        found = _Version()
        self._made = {target}
        with Work(_PARALLEL) as work:
            for key, size, etag in self._objects():
                found.add(key, size, etag)
                path = target / key
                self._make(path.parent, target)
                work.add(self._one(key, path))
        if not found.count:
            raise StoreError(f"there is no object below s3://{self._url.path}/")
        return Fetched(found.text)

    def _one(self, key: str, path: Path) -> Callable[[], object]:
        full = f"{self._url.key}/{key}" if self._url.key else key
        return lambda: _fetch(self._bucket, full, path, UNSAID, limits=self._limits, stop=self._stop)

    def _make(self, folder: Path, top: Path) -> None:
        """The folder of an object; another object may have the same name."""
        if folder in self._made:
            return
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            name = folder.relative_to(top)
            text = f"{name} is an object, and other objects are below it, which no folder allows"
            raise StoreError(text) from None
        self._made.add(folder)

    def _version(self) -> str:
        found = _Version()
        for key, size, etag in self._objects():
            found.add(key, size, etag)
        return found.text

    def _objects(self) -> Iterator[tuple[str, int, str]]:
        """Path below the prefix, size and version of each."""
        before = f"{self._url.key}/" if self._url.key else ""
        for item in listed(self._bucket, self._url.key):
            if self._stop.is_set():
                raise InterruptedError("stopped")
            key = item["path"].removeprefix(before)
            check_key(key)
            yield key, item["size"], item["e_tag"] or ""


class _Version:
    """Of a folder: it changes with any object of it, whatever the order of the listing."""

    def __init__(self) -> None:
        self._sum = 0
        self.count = 0

    def add(self, *parts: object) -> None:
        digest = hashlib.sha256(repr(parts).encode()).digest()
        self._sum = (self._sum + int.from_bytes(digest, "big")) % (1 << 256)
        self.count += 1

    @property
    def text(self) -> str:
        return f"listed {self.count} {self._sum:064x}"


def _make(settings: S3Settings, site: Site) -> S3Scheme:
    return S3Scheme(settings.stores, limits_of(site.config))


def _check(settings: S3Settings) -> Iterator[tuple[Key, str]]:
    """Keys and files of authorities that are not there, and areas that two stores have."""
    seen: dict[tuple[str, str], int] = {}
    for index, store in enumerate(settings.stores):
        if store.credentials is not None:
            try:
                Keys(store.credentials).look_up()
            except OSError as error:
                yield (index, "credentials"), unreadable(error)
        if store.ca_file is not None:
            try:
                tls_context(store.ca_file)
            except OSError as error:
                yield (index, "ca_file"), unreadable(error)
        for use, areas in (("read", store.read), ("write", store.write)):
            for place, area in enumerate(areas):
                other = seen.setdefault((use, area), index)
                if other != index:
                    yield (index, use, place), f"{area} is of s3[{other}], too; name it in one of them"


PLUGIN = DataPlugin(S3Settings, _make, _check)
