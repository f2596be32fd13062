"""A folder of a WebDAV server as a store for files.

A file is sent under another name and moved into place, and so is a folder: nobody sees a part of either. A
server has no signed URLs. Each request is for a few MiB and is done before the next: a file is read by
several threads, one after the other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TypeVar
from urllib.parse import quote, unquote
from uuid import uuid4

from wes_bridge.auth.tokens import secret_of
from wes_bridge.data.plain_files import chunks_of
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Answer, Content, Fetcher
from wes_bridge.fetching.errors import FetchError, UrlError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.fetching.urls import parse_url
from wes_bridge.model.stores import WebdavWorkspaceConfig
from wes_bridge.storage.base import ALGORITHM, MissingError, Stat, Stored, StoreError
from wes_bridge.storage.dav import BODY, ListingError, Member, itself, members, web_url
from wes_bridge.storage.work import Work

_Told = TypeVar("_Told")
_PIECE = 4 * 1024**2
_PARALLEL = 8
_OWN = ".wb-"
"""What names of our own begin with."""
_DEEPEST = 100
_NOT_FOUND, _MULTI_STATUS, _PARTIAL = 404, 207, 206
_MADE = (201, 405, 301)
"""Answers to MKCOL after which the folder is there."""
_CONFLICT = (404, 409)
"""Answers to requests for something whose folder is not there."""


class WebdavStorage:
    """Files below a folder of a server.

    Args:
        config: which, and with which token.

    Raises:
        ValueError: its URL is none.
    """

    def __init__(self, config: WebdavWorkspaceConfig) -> None:
        self._base = web_url(config.url).rstrip("/")
        try:
            place = parse_url(self._base + "/")
        except UrlError as error:
            raise ValueError(str(error)) from error
        host = f"[{place.host}]" if ":" in place.host else place.host
        guard = Guard(PrivateHosts([f"{host}:{place.port}"]))  # the site's own choice
        limits = Limits(config.timeout, deadline=None, least_rate=0.0, max_bytes=None)
        self._fetcher = Fetcher(guard, limits, ca_file=config.ca_file)
        self._config = config
        self._lock = threading.Lock()

    def stat(self, name: str) -> Stat:
        """See the protocol."""
        with self._asked("PROPFIND", name, headers={"Depth": "0"}, body=BODY) as answer:
            _check(answer, name)
            found = _told(itself, answer.chunks())
        if found.is_folder:
            raise MissingError(name)
        return _stat(name, found)

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See the protocol."""
        last = self.stat(name).size if end is None else end
        at = start
        while at < last:
            wanted = {"Range": f"bytes={at}-{min(at + _PIECE, last) - 1}"}
            with self._asked("GET", name, headers=wanted) as answer:
                _check(answer, name)
                if answer.status != _PARTIAL and (at or last > _PIECE):
                    raise StoreError("the server does not send parts of files (Range), which is needed here")
                piece = answer.read()
            if not piece:
                raise StoreError(f"{name[:200]!r} ends after {at} of {last} bytes")
            yield piece[: last - at]
            at += len(piece)

    def files(self, folder: str) -> Iterator[Stat]:
        """See the protocol."""
        return self._below(folder, 0)

    def _below(self, folder: str, deep: int) -> Iterator[Stat]:
        if deep > _DEEPEST:
            raise StoreError(f"more than {_DEEPEST} folders are in one another")
        try:
            found = self._members(folder)
        except MissingError:
            return
        for member in found:
            name = f"{folder}/{member.path}"
            if member.is_folder:
                yield from self._below(name, deep + 1)
            elif not member.path.startswith(_OWN):
                yield _stat(name, member)

    def entries(self, folder: str) -> tuple[list[str], list[Stat]]:
        """See the protocol."""
        found = self._members(folder)
        folders = [one.path for one in found if one.is_folder]
        files = [_stat(f"{folder}/{one.path}", one) for one in found if not one.is_folder]
        return sorted(folders), sorted(files, key=lambda one: one.name)

    def put(self, name: str, file: int) -> Stored:
        """See the protocol."""
        new = f"{name.rpartition('/')[0]}/{_OWN}{uuid4().hex}".lstrip("/")
        try:
            stored = self._send(new, file)
            self._move(new, name)
        except BaseException:
            with contextlib.suppress(OSError):
                self.delete(new)
            raise
        return Stored(name, stored.size, stored.checksum)

    def publish(self, folder: str, files: Iterable[tuple[str, int]]) -> list[Stored]:
        """See the protocol: it is moved into place."""
        draft, old = f"{_OWN}{uuid4().hex}", f"{_OWN}{uuid4().hex}"
        found: list[Stored] = []

        def send(name: str, file: int) -> None:
            one = self._send(f"{draft}/{name}", file)
            found.append(Stored(f"{folder}/{name}", one.size, one.checksum))

        try:
            self._make(draft)
            with Work(_PARALLEL) as work:
                for name, file in files:
                    work.add(partial(send, name, file), partial(os.close, file))
            self._make(folder.rpartition("/")[0])
            with contextlib.suppress(MissingError):
                self._move(folder, old)
            self._move(draft, folder)
        finally:
            for name in (draft, old):
                with contextlib.suppress(OSError):
                    self.delete(name)
        return found

    def is_published(self, folder: str) -> bool:
        """See the protocol."""
        try:
            with self._asked("PROPFIND", folder, headers={"Depth": "0"}, body=BODY) as answer:
                _check(answer, folder)
                return _told(itself, answer.chunks()).is_folder
        except MissingError:
            return False

    def delete(self, folder: str) -> None:
        """See the protocol."""
        with self._asked("DELETE", folder) as answer:
            if answer.status != _NOT_FOUND:
                _check(answer, folder)

    def signed_url(self, name: str, method: str, seconds: int) -> str | None:
        """None: WebDAV has no such URLs."""
        return None

    def _members(self, folder: str) -> list[Member]:
        with self._asked("PROPFIND", folder, headers={"Depth": "1"}, body=BODY) as answer:
            _check(answer, folder)
            path = unquote(answer.url.target.partition("?")[0], errors="surrogateescape")
            return _told(lambda chunks: list(members(chunks, path)), answer.chunks())

    def _send(self, name: str, file: int) -> Stored:
        """PUT a file; the folders that it needs are made where they are not there."""
        size = os.fstat(file).st_size
        digest = hashlib.new(ALGORITHM, usedforsecurity=False)

        def content() -> Iterator[bytes]:
            nonlocal digest
            digest = hashlib.new(ALGORITHM, usedforsecurity=False)
            for piece in chunks_of(file):
                digest.update(piece)
                yield piece

        for attempt in range(2):
            with self._asked("PUT", name, content=content, length=size) as answer:
                if answer.status not in _CONFLICT or attempt:
                    _check(answer, name)
                    break
            self._make(name.rpartition("/")[0])
        return Stored(name, size, f"{ALGORITHM}${digest.hexdigest()}")

    def _move(self, name: str, target: str) -> None:
        headers = {"Destination": self._url(target), "Overwrite": "T"}
        with self._asked("MOVE", name, headers=headers) as answer:
            _check(answer, name)

    def _make(self, folder: str) -> None:
        """Make a folder and those around it."""
        if not folder:
            return
        with self._lock:
            status = self._made(self._url(folder))
            if status in _CONFLICT:
                self._make_base()
                parts = folder.split("/")
                for end in range(1, len(parts) + 1):
                    status = self._made(self._url("/".join(parts[:end])))
            if status not in _MADE:
                raise StoreError(f"the folder {folder[:200]!r} cannot be made: HTTP {status}")

    def _make_base(self) -> None:
        """Make the configured folder; those around it may not be ours to make, so that nothing is said."""
        scheme, _, rest = self._base.partition("://")
        host, *parts = rest.split("/")
        for end in range(1, len(parts) + 1):
            self._made(f"{scheme}://{host}/{'/'.join(parts[:end])}")

    def _made(self, url: str) -> int:
        with self._requested("MKCOL", url) as answer:
            return answer.status

    def _asked(
        self,
        method: str,
        name: str,
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        content: Content | None = None,
        length: int | None = None,
    ) -> contextlib.AbstractContextManager[Answer]:
        url = self._url(name)
        if body is not None:
            content, length = (lambda: iter((body,))), len(body)
            headers = {**(headers or {}), "Content-Type": "application/xml; charset=utf-8"}
        return self._requested(method, url, headers=headers, content=content, length=length)

    @contextlib.contextmanager
    def _requested(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: Content | None = None,
        length: int | None = None,
    ) -> Iterator[Answer]:
        token = secret_of(self._config.token) if self._config.token is not None else ""
        try:
            with self._fetcher.open(
                method,
                url,
                headers=headers,
                credentials={"Authorization": f"Bearer {token}"} if token else None,
                content=content,
                length=length if length is not None or method == "GET" else 0,
            ) as answer:
                yield answer
        except FetchError as error:
            raise StoreError(f"the WebDAV server cannot be asked: {error}") from error

    def _url(self, name: str) -> str:
        if name.startswith("/") or any(part in ("", ".", "..") for part in name.split("/")):
            raise StoreError(f"{name[:200]!r} is no name for a file")
        return f"{self._base}/{quote(os.fsencode(name))}"


def _told(read: Callable[[Iterator[bytes]], _Told], chunks: Iterator[bytes]) -> _Told:
    try:
        return read(chunks)
    except ListingError as error:
        raise StoreError(str(error)) from error


def _check(answer: Answer, name: str) -> None:
    """Refuse an answer that is no success."""
    if answer.status == _NOT_FOUND:
        raise MissingError(name)
    if answer.status == _MULTI_STATUS or 200 <= answer.status < 300:
        return
    words = {
        401: "the server does not take the token (HTTP 401)",
        403: "the server does not allow it (HTTP 403)",
        507: "the server has no room left (HTTP 507)",
    }
    raise StoreError(words.get(answer.status, f"the WebDAV server answers HTTP {answer.status}"))


def _stat(name: str, member: Member) -> Stat:
    try:
        written = int(parsedate_to_datetime(member.modified).timestamp()) * 10**9
    except (ValueError, TypeError):
        written = 0
    return Stat(name, max(member.size, 0), member.version or f"{member.size:x}-{written:x}", written)
