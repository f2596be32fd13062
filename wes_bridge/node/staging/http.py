"""``http:`` and ``https:`` URLs: downloaded as a stream; outputs are PUT, one request per file.

Where the node may ask, and for how long, is the guarded fetcher's; private hosts are those that its
configuration names, in ``fetch.private_hosts`` or as the host of a prefix in ``data``.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from threading import Event
from urllib.parse import quote

from wes_bridge.config import NodeConfig, NodeFetchConfig
from wes_bridge.data.beneath import folders_below, name_of, open_beneath, opened, regular_file, top_of
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

    def store(self, folder: int, name: str, location: str, beside: Sequence[Path]) -> None:
        """PUT a file to ``location``, or each file of a directory below ``location``."""
        with opened(open_beneath(folder, name)) as thing:
            if stat.S_ISDIR(os.fstat(thing).st_mode):
                self._put_folder(thing, location if location.endswith("/") else location + "/", beside)
            else:
                self._put(thing, location)

    def _put_folder(self, top: int, base: str, beside: Sequence[Path]) -> None:
        """Each file; of links those that lead to another one of it, or to what is beside it."""
        real = name_of(top)
        within = [*beside, Path(real)] if real is not None else list(beside)
        for folder, relative, entries in folders_below(top):
            before = relative + "/" if relative else ""
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir(follow_symlinks=False):
                    continue
                file = regular_file(folder, entry.name)
                if file is None and entry.is_symlink():
                    file = _linked(folder, entry.name, within)
                if file is not None:
                    with opened(file):
                        self._put(file, base + quote(before + entry.name))

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

    def _put(self, file: int, location: str) -> None:
        for attempt in range(ATTEMPTS):
            try:
                with self._fetcher.open(
                    "PUT", location, content=partial(_chunks, file), length=os.fstat(file).st_size
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


def _linked(folder: int, name: str, within: Iterable[Path]) -> int | None:
    """A descriptor of the file that a link leads to, when that is in one of these folders, or is one of
    them: links on the way are followed once, to see where it is, and not when it is opened."""
    try:
        here = name_of(folder)
        real = Path(os.path.realpath(Path(here or "/", os.readlink(name, dir_fd=folder)), strict=True))
    except OSError:
        return None
    if here is None or not any(map(real.is_relative_to, within)):
        return None
    with opened(top_of("/")) as root:
        return regular_file(root, str(real)[1:])


def _chunks(file: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(file, _CHUNK, offset):
        yield chunk
        offset += len(chunk)
