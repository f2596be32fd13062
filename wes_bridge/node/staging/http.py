"""``http:`` and ``https:`` URLs: downloaded as a stream; outputs are PUT, one request per file.

Where the node may ask, and for how long, is the guarded fetcher's; private hosts are those that its
configuration names, in ``fetch.private_hosts`` or as the host of a prefix in ``data``. How a download is
begun, gone on with after an interruption, and checked is in ``downloading.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from urllib.parse import quote

from wes_bridge.config import NodeConfig, NodeFetchConfig
from wes_bridge.data.beneath import opened
from wes_bridge.data.plain_files import chunks_of, files_of
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import FetchError, RefusedError, UrlError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.fetching.urls import is_below, parse_url
from wes_bridge.model.delegation import DelegatedTo
from wes_bridge.model.stores import WebFolderConfig
from wes_bridge.node.staging.authorizing import authorized
from wes_bridge.node.staging.downloading import ATTEMPTS, Download, is_worth_retrying
from wes_bridge.node.staging.plugins import DataPlugin, NoSettings, Site
from wes_bridge.node.staging.schemes import Fetched, Tokens, Wanted


def limits_of(config: NodeConfig) -> Limits:
    """How slow and how large a transfer of a node may be."""
    fetch = config.fetch or NodeFetchConfig()
    return Limits(fetch.timeout, fetch.deadline, fetch.least_rate, fetch.max_bytes)


def transfers(config: NodeConfig, trusted: Iterable[str] = ()) -> Fetcher:
    """What a node fetches and stores with.

    Args:
        config: of the node.
        trusted: http(s) URLs of the configuration, whose hosts may be private.
    """
    fetch = config.fetch or NodeFetchConfig()
    hosts = PrivateHosts([*fetch.private_hosts, *_named_in([*config.data, *trusted])])
    return Fetcher(Guard(hosts), limits_of(config), ca_file=fetch.ca_file)


def _named_in(prefixes: Iterable[str]) -> Iterator[str]:
    """The hosts of URL prefixes: who names one means it, private or not."""
    for prefix in prefixes:
        try:
            url = parse_url(prefix)
        except UrlError:
            continue  # it names no host
        shown = f"[{url.host}]" if ":" in url.host else url.host
        yield f"{shown}:{url.port}"


class HttpScheme:
    """Files on web servers.

    Args:
        fetcher: asks them.
        pause: seconds before the second attempt; doubles each time.
        folders: where tokens of users are wanted.
    """

    names: tuple[str, ...] = ("http", "https")
    can_store = True
    places: Sequence[str] | None = None

    def __init__(self, fetcher: Fetcher, pause: float = 0.5, folders: Sequence[WebFolderConfig] = ()) -> None:
        self._fetcher = fetcher
        self._pause = pause
        known = [(parse_url(folder.url), folder.delegation) for folder in folders]
        self._folders = sorted(known, key=lambda folder: -len(folder[0].target))

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """The URL must not be asked, or is said to be a folder, which HTTP does not know."""
        try:
            self._fetcher.guard.check_url(location)
        except RefusedError as error:
            return str(error)
        if directory and not write:
            return "a folder cannot be fetched over HTTP; davs: and s3: know folders"
        return None

    def local(self, location: str) -> Path | None:
        """Never on this machine yet."""
        return None

    def scope(self, wanted: Wanted) -> str:
        """The user, where a token of theirs is used; else all of this node: nobody's credentials are."""
        return wanted.user if self.delegated(wanted.location) is not None else ""

    def delegated(self, location: str) -> DelegatedTo | None:
        """See :class:`Delegating`."""
        if not self._folders:
            return None
        url = parse_url(location)
        return next((wanted for folder, wanted in self._folders if is_below(url, folder)), None)

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Download; an interrupted transfer goes on where it was."""
        with authorized(self.delegated(wanted.location), wanted.tokens) as credentials:
            download = Download(
                self._fetcher,
                wanted.location,
                wanted.expected,
                pause=self._pause,
                credentials=credentials,
            )
            return download.run(target, stop, unless)

    def store(
        self, folder: int, name: str, location: str, beside: Sequence[Path], tokens: Tokens | None = None
    ) -> None:
        """PUT a file to ``location``, or each file of a directory below ``location``."""
        base = location if location.endswith("/") else location + "/"
        with authorized(self.delegated(location), tokens) as credentials:
            for relative, file in files_of(folder, name, beside):
                with opened(file):
                    url = base + quote(relative) if relative else location
                    put(self._fetcher, file, url, self._pause, credentials)


def put(
    fetcher: Fetcher, file: int, location: str, pause: float, credentials: dict[str, str] | None = None
) -> None:
    """Send an open file, again when that is interrupted.

    Raises:
        OSError: it was not taken; the text names the URL.
    """
    for attempt in range(ATTEMPTS):
        try:
            with fetcher.open(
                "PUT",
                location,
                credentials=credentials,
                content=partial(chunks_of, file),
                length=os.fstat(file).st_size,
            ) as answer:
                answer.raise_for_status()
            return
        except FetchError as error:
            if attempt == ATTEMPTS - 1 or not is_worth_retrying(error):
                raise OSError(f"{error} from {location}") from error
        time.sleep(pause * 2**attempt)


def _make(_settings: NoSettings, site: Site) -> HttpScheme:
    folders = site.config.web
    return HttpScheme(transfers(site.config, [folder.url for folder in folders]), folders=folders)


PLUGIN = DataPlugin(NoSettings, _make)
