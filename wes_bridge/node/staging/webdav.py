"""``davs:`` and ``dav:`` URLs: files and folders of WebDAV servers that the configuration names.

They are asked over http(s), through the guarded fetcher, with a bearer token: of the user for whom it is,
where the site has one, else of the node. A token goes to the server it is for, and along no redirect.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from urllib.parse import quote, unquote

from wes_bridge.auth.tokens import secret_of
from wes_bridge.data.beneath import opened, regular_file, top_of
from wes_bridge.data.plain_files import files_of
from wes_bridge.fetching.client import Answer, Fetcher
from wes_bridge.fetching.errors import FetchError, StatusError, UrlError
from wes_bridge.fetching.urls import WebUrl, is_below, parse_url
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.model.expected import UNSAID
from wes_bridge.model.stores import WebdavConfig
from wes_bridge.node.staging.authorizing import authorized
from wes_bridge.node.staging.downloading import Download
from wes_bridge.node.staging.http import put, transfers
from wes_bridge.node.staging.plugins import DataPlugin, Site, WebdavSettings
from wes_bridge.node.staging.schemes import Fetched, Tokens, Wanted
from wes_bridge.plugging import Key, unreadable
from wes_bridge.storage.dav import BODY, SCHEMES, ListingError, Member, members, web_url
from wes_bridge.storage.work import Work

_PARALLEL = 8
"""Files of one folder at once."""
_DEEPEST = 100
_MOST = 1_000_000
"""Files of one folder: a server could go on for ever."""
_LONGEST_TOKEN = 65_536
_MULTI_STATUS = 207
_MADE = (201, 405, 301)
"""Answers to MKCOL after which the folder is there."""


class WebdavError(OSError):
    """A WebDAV server does not give or take something; the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


@dataclass(frozen=True)
class _Place:
    """A configured folder."""

    config: WebdavConfig
    url: WebUrl


class WebdavScheme:
    """Files and folders on WebDAV servers.

    Args:
        folders: of the configuration.
        fetcher: asks them.
        pause: seconds before the second attempt; doubles each time.
    """

    names: tuple[str, ...] = SCHEMES
    can_store = True

    def __init__(self, folders: Sequence[WebdavConfig], fetcher: Fetcher, pause: float = 0.5) -> None:
        places = [_Place(config, parse_url(web_url(config.url))) for config in folders]
        self._places = sorted(places, key=lambda place: -len(place.url.target))
        self._fetcher = fetcher
        self._pause = pause
        self.places: Sequence[str] | None = tuple(config.url for config in folders)

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """No folder is configured that it is in, or it is not to be written to."""
        try:
            place = self._place(location)
        except UrlError as error:
            return str(error)
        if place is None:
            return f"of WebDAV servers, this node takes only {', '.join(self.places or ())}"
        if write and not place.config.write:
            known = ", ".join(one.config.url for one in self._places if one.config.write) or "nothing"
            return f"of WebDAV servers, this node writes to only {known}"
        return None

    def local(self, location: str) -> Path | None:
        """Never on this machine yet."""
        return None

    def scope(self, wanted: Wanted) -> str:
        """The user, where their own token is used."""
        place = self._place(wanted.location)
        if place is None:
            return ""
        is_own = place.config.delegation is not None or _token_of(place.config, wanted.user)
        return wanted.user if is_own else ""

    def delegated(self, location: str) -> DelegatedTo | None:
        """See :class:`Delegating`."""
        place = self._place(location)
        return None if place is None else place.config.delegation

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Download a file, or all of a folder."""
        place = self._place(wanted.location)
        if place is None:  # refused when the offer was made
            raise WebdavError("this node has no such WebDAV folder")
        with _authorized(place.config, wanted.user, wanted.tokens) as credentials:
            asking = _Asking(self._fetcher, credentials, self._pause)
            url = web_url(wanted.location)
            if wanted.directory:
                return _Folder(asking, url, stop).fetch(target, unless)
            try:
                return asking.download(url, wanted).run(target, stop, unless)
            except StatusError as error:
                raise _refused(error) from error

    def store(
        self, folder: int, name: str, location: str, beside: Sequence[Path], tokens: Tokens | None = None
    ) -> None:
        """PUT a file to ``location``, or each file of a directory below ``location``."""
        place = self._place(location)
        if place is None:
            raise WebdavError("this node has no such WebDAV folder")
        base = web_url(location).rstrip("/")
        with _authorized(place.config, "", tokens) as credentials, Work(_PARALLEL) as work:
            asking = _Asking(self._fetcher, credentials, self._pause)
            made = _Folders(asking, str(place.url).rstrip("/"))
            for relative, file in files_of(folder, name, beside):
                url = f"{base}/{quote(os.fsencode(relative))}" if relative else base
                try:
                    made.make(url.rpartition("/")[0])
                except BaseException:
                    os.close(file)
                    raise
                work.add(partial(asking.put, file, url), partial(os.close, file))

    def _place(self, location: str) -> _Place | None:
        url = parse_url(web_url(location))
        return next((place for place in self._places if _is_in(url, place.url)), None)


def _is_in(url: WebUrl, folder: WebUrl) -> bool:
    if "?" in url.target:
        return False
    base = WebUrl(folder.scheme, folder.host, folder.port, folder.target.rstrip("/") + "/")
    inside = WebUrl(url.scheme, url.host, url.port, url.target.rstrip("/") + "/")
    return ".." not in unquote(url.target).split("/") and is_below(inside, base)


class _Asking:
    """Requests to one server on somebody's behalf."""

    def __init__(self, fetcher: Fetcher, credentials: dict[str, str], pause: float) -> None:
        self._fetcher = fetcher
        self._credentials = credentials
        self._pause = pause

    def download(self, url: str, wanted: Wanted | None) -> Download:
        expected = wanted.expected if wanted is not None else UNSAID
        return Download(self._fetcher, url, expected, pause=self._pause, credentials=self._credentials)

    def put(self, file: int, url: str) -> None:
        put(self._fetcher, file, url, self._pause, self._credentials)

    def members(self, url: str) -> Iterator[Member]:
        """What is in a folder."""
        headers = {"Depth": "1", "Content-Type": "application/xml; charset=utf-8"}
        with self._fetcher.open(
            "PROPFIND",
            url,
            headers=headers,
            credentials=self._credentials,
            content=lambda: iter((BODY,)),
            length=len(BODY),
        ) as answer:
            _check(answer)
            path = unquote(answer.url.target.partition("?")[0], errors="surrogateescape")
            yield from members(answer.chunks(), path)

    def make(self, url: str) -> int:
        """Make a folder; the status."""
        with self._fetcher.open(
            "MKCOL", url + "/", credentials=self._credentials, length=0, follow=False
        ) as answer:
            return answer.status


def _check(answer: Answer) -> None:
    if answer.status == _MULTI_STATUS:
        return
    if 200 <= answer.status < 300:
        raise WebdavError("the server answers as one that knows no folders (no WebDAV)")
    error = StatusError(f"HTTP {answer.status}", answer.status)
    raise _refused(error) from error


def _refused(error: StatusError) -> WebdavError:
    words = {
        401: "the server takes no token of this node or user (HTTP 401)",
        403: "the server does not allow it (HTTP 403)",
        404: "there is no such file or folder (HTTP 404)",
    }
    return WebdavError(words.get(error.status, str(error)))


class _Folders:
    """The folders that outputs go to, made when they are not there."""

    def __init__(self, asking: _Asking, base: str) -> None:
        self._asking = asking
        self._base = base
        self._made = {base}
        self._lock = threading.Lock()

    def make(self, url: str) -> None:
        with self._lock:
            self._make(url)

    def _make(self, url: str) -> None:
        if url in self._made or not url.startswith(self._base + "/"):
            return
        self._make(url.rpartition("/")[0])
        status = self._asking.make(url)
        if status not in _MADE:
            raise WebdavError(f"the folder {url} cannot be made: HTTP {status}")
        self._made.add(url)


class _Folder:
    """All of a folder."""

    def __init__(self, asking: _Asking, url: str, stop: Event) -> None:
        self._asking = asking
        self._url = url.rstrip("/") + "/"
        self._stop = stop

    def fetch(self, target: Path, unless: str) -> Fetched | None:
        try:
            found = list(self._walk(self._url, "", 0))
        except ListingError as error:
            raise WebdavError(str(error)) from error
        version = _version(found)
        if unless and version == unless:
            return None
        target.mkdir()
        with Work(_PARALLEL) as work:
            for relative, member in found:
                if member.is_folder:
                    (target / relative).mkdir()
                else:
                    work.add(partial(self._one, relative, target / relative))
        return Fetched(version)

    def _one(self, relative: str, target: Path) -> None:
        url = self._url + quote(os.fsencode(relative))
        try:
            self._asking.download(url, None).run(target, self._stop)
        except FetchError as error:
            raise WebdavError(f"{relative}: {error}") from error

    def _walk(self, url: str, before: str, deep: int) -> Iterator[tuple[str, Member]]:
        """Each thing below, a folder before what is in it."""
        if deep > _DEEPEST:
            raise WebdavError(f"more than {_DEEPEST} folders are in one another")
        folders = []
        for count, member in enumerate(self._asking.members(url)):
            if self._stop.is_set():
                raise InterruptedError("stopped")
            if count > _MOST:
                raise WebdavError(f"more than {_MOST} things are in one folder")
            yield before + member.path, member
            if member.is_folder:
                folders.append(member.path)
        for name in folders:
            inner = f"{url}{quote(os.fsencode(name))}/"
            yield from self._walk(inner, f"{before}{name}/", deep + 1)


def _version(found: Sequence[tuple[str, Member]]) -> str:
    """It changes with any file; empty where the server does not say which content a file has."""
    digest = hashlib.sha256()
    for relative, member in sorted(found, key=lambda item: item[0]):
        if not member.is_folder and not member.version:
            return ""
        line = repr((relative, member.is_folder, member.size, member.version))
        digest.update(line.encode("utf-8", "surrogateescape"))
    return f"listed {digest.hexdigest()}"


@contextlib.contextmanager
def _authorized(config: WebdavConfig, user: str, tokens: Tokens | None) -> Iterator[dict[str, str]]:
    """The credentials of a transfer: the user's own where the site wants those, else those that it has."""
    if config.delegation is None:
        yield _credentials(config, user)
        return
    with authorized(config.delegation, tokens) as credentials:
        yield credentials or {}


def _credentials(config: WebdavConfig, user: str) -> dict[str, str]:
    token = _token_of(config, user) or (secret_of(config.token) if config.token is not None else "")
    if not token and config.user_tokens is not None:
        raise WebdavError(f"there is no token of user {user or '(nobody)'} in {config.user_tokens}")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _token_of(config: WebdavConfig, user: str) -> str:
    """The token that the site has of a user; empty: none."""
    if config.user_tokens is None or not user:
        return ""
    name = quote(user, safe="@")
    with opened(top_of(config.user_tokens)) as top:
        file = None if name in (".", "..") else regular_file(top, name)
    if file is None:
        return ""
    with opened(file):
        token = os.read(file, _LONGEST_TOKEN).decode("ascii", "replace").strip()
    return token if token.isprintable() and token.isascii() else ""


def _make(settings: WebdavSettings, site: Site) -> WebdavScheme:
    fetcher = transfers(site.config, [web_url(folder.url) for folder in settings.folders])
    return WebdavScheme(settings.folders, fetcher)


def _check_settings(settings: WebdavSettings) -> Iterator[tuple[Key, str]]:
    """URLs that are none, tokens that are not there."""
    for index, folder in enumerate(settings.folders):
        try:
            parse_url(web_url(folder.url))
        except UrlError as error:
            yield (index, "url"), str(error)
        if folder.token is not None:
            try:
                secret_of(folder.token)
            except UnicodeDecodeError:
                yield (index, "token"), f"{folder.token.file} is no text"
            except OSError as error:
                yield (index, "token"), unreadable(error)
        if folder.user_tokens is not None and not folder.user_tokens.is_dir():
            yield (index, "user_tokens"), f"{folder.user_tokens} is not a folder here"


PLUGIN = DataPlugin(WebdavSettings, _make, _check_settings)
