"""``http:`` and ``https:`` URLs: downloaded as a stream; outputs are PUT, one request per file.

Where the node may ask, and for how long, is the guarded fetcher's; private hosts are those that its
configuration names, in ``fetch.private_hosts`` or as the host of a prefix in ``data``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event
from urllib.parse import quote

from wes_bridge.config import NodeConfig, NodeFetchConfig
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import (
    DeadlineError,
    FetchError,
    RefusedError,
    StatusError,
    TooLargeError,
    UrlError,
)
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.fetching.urls import parse_url
from wes_bridge.model.headers import EXECUTABLE

ATTEMPTS = 4
"""How often a transfer is tried."""
_CHUNK = 256 * 1024
_WORTH_RETRYING = frozenset({408, 425, 429, 500, 502, 503, 504})


def transfers(config: NodeConfig) -> Fetcher:
    """What a node fetches and stores with."""
    fetch = config.fetch or NodeFetchConfig()
    limits = Limits(fetch.timeout, fetch.deadline, fetch.least_rate, fetch.max_bytes)
    hosts = PrivateHosts([*fetch.private_hosts, *_named_in(config.data)])
    return Fetcher(Guard(hosts), limits, ca_file=fetch.ca_file)


def _named_in(prefixes: list[str]) -> Iterator[str]:
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
    """

    names: tuple[str, ...] = ("http", "https")
    can_store = True

    def __init__(self, fetcher: Fetcher, pause: float = 0.5) -> None:
        self._fetcher = fetcher
        self._pause = pause

    def local(self, location: str) -> Path | None:
        """Never on this machine yet. Raises ValueError: the URL must not be asked."""
        try:
            self._fetcher.guard.check_url(location)
        except RefusedError as error:
            raise ValueError(str(error)) from error
        return None

    def fetch(self, location: str, target: Path, stop: Event) -> None:
        """Download to ``target``; interrupted transfers are tried again."""
        for attempt in range(ATTEMPTS):
            try:
                self._download(location, target, stop)
                return
            except FetchError as error:
                if attempt == ATTEMPTS - 1 or not _is_worth_retrying(error):
                    raise
            if stop.wait(self._pause * 2**attempt):
                raise InterruptedError("stopped")

    def store(self, source: Path, location: str) -> Path | None:
        """PUT a file to ``location``, or each file of a directory below ``location``."""
        if source.is_dir():
            base = location if location.endswith("/") else location + "/"
            for path in sorted(source.rglob("*")):
                if path.is_file():
                    self._put(path, base + quote(path.relative_to(source).as_posix()))
        else:
            self._put(source, location)
        return None

    def _download(self, location: str, target: Path, stop: Event) -> None:
        with self._fetcher.open("GET", location) as answer:
            answer.raise_for_status()
            with target.open("wb") as out:
                for chunk in answer.chunks():
                    out.write(chunk)
                    if stop.is_set():
                        raise InterruptedError("stopped")
            if (answer.header(EXECUTABLE.lower()) or "").strip().lower() == "true":
                target.chmod(0o755)

    def _put(self, path: Path, location: str) -> None:
        for attempt in range(ATTEMPTS):
            try:
                with self._fetcher.open(
                    "PUT", location, content=partial(_chunks, path), length=path.stat().st_size
                ) as answer:
                    answer.raise_for_status()
                return
            except FetchError as error:
                if attempt == ATTEMPTS - 1 or not _is_worth_retrying(error):
                    raise OSError(f"{error} from {location}") from error
            time.sleep(self._pause * 2**attempt)


def _is_worth_retrying(error: FetchError) -> bool:
    if isinstance(error, StatusError):
        return error.status in _WORTH_RETRYING
    return not isinstance(error, DeadlineError | RefusedError | TooLargeError)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
