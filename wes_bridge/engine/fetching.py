"""What a workflow may refer to: its own attachments, permitted folders, and public http(s) hosts.

Workflows are untrusted input. Every document, ``$include`` and local file access of a run goes through one
:class:`Policy`; what it refuses is told with the reason and the setting that would allow it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from schema_salad.exceptions import ValidationException
from schema_salad.fetcher import DefaultFetcher
from schema_salad.utils import CacheType

from wes_bridge.config import FetchConfig
from wes_bridge.data.beneath import real_path
from wes_bridge.data.hosts import PrivateHosts
from wes_bridge.engine.document_checks import not_text, refuse_archive
from wes_bridge.engine.local_files import LocalFiles
from wes_bridge.engine.turn import LOADING
from wes_bridge.model.preferences import NAMESPACE

_MAX_REDIRECTS = 5


class Policy:
    """Which URLs one run may read.

    Args:
        config: the site's rules.
        folders: folders of the run itself, always allowed.

    Attributes:
        files: which files of this machine.
    """

    def __init__(self, config: FetchConfig, folders: Iterable[Path]) -> None:
        self.config = config
        self.files = LocalFiles(folders, config.files, only_named=config.only_named)
        self._hosts = PrivateHosts(config.private_hosts)

    def check(self, url: str) -> None:
        """Refuse a URL that must not be read as a document, or as a part of one.

        Raises:
            ValidationException: with the reason.
        """
        split = urlsplit(url)
        if split.scheme == "file":
            path = unquote(split.path)
            if not self.files.allows_document(real_path(path)):
                raise self.files.refusal(path)
        elif split.scheme in ("http", "https"):
            self._check_host(url, split.hostname)
        else:
            raise ValidationException(f"Cannot read {url}: scheme {split.scheme!r} is not supported")

    def _check_host(self, url: str, host: str | None) -> None:
        if not host:
            raise ValidationException(f"Cannot read {url}: it names no host")
        if self._hosts.names(host):
            return
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise ValidationException(f"Cannot read {url}: host {host} is not known ({error})") from error
        for *_, address in found:
            ip = ipaddress.ip_address(address[0])
            if not self._hosts.allows(ip):
                raise ValidationException(
                    f"Cannot read {url}: {host} is a private address of this site ({ip});"
                    " the site can allow it in fetch.private_hosts"
                )


class GuardedFetcher(DefaultFetcher):
    """schema-salad's fetcher of documents, behind a :class:`Policy`; redirects are checked one by one."""

    policy: Policy
    failed: dict[str, ValidationException]
    """Web addresses that could not be read for this run: each is asked for once."""
    answered: dict[str, bool]
    """Whether web addresses have something."""
    trusts_links: bool
    """Whether web addresses are not asked for something before it is needed."""

    def __init__(self, cache: CacheType, _session: requests.Session | None) -> None:
        super().__init__(cache, requests.Session())

    def fetch_text(self, url: str, content_types: list[str] | None = None) -> str:
        """The text of the document at ``url``.

        Raises:
            ValidationException: it may not or cannot be read.
        """
        cached = self.cache.get(url)
        if isinstance(cached, str):
            return cached
        if urlsplit(url).scheme == "file":
            self.policy.check(url)
            try:
                return str(super().fetch_text(url, content_types))
            except UnicodeDecodeError as error:
                raise not_text(error.object, url, error) from error
        if url in self.failed:
            raise ValidationException(str(self.failed[url]))
        try:
            with LOADING.away():
                content = fetch_http(url, self.policy)
            refuse_archive(content, url)
            return content.decode(errors="replace")
        except ValidationException as error:
            self.failed[url] = error
            raise

    def check_exists(self, url: str) -> bool:
        """Whether there is something at ``url`` that may be read."""
        if url in self.cache or url.startswith(NAMESPACE):  # our own hints are known, not fetched
            return True
        try:
            if urlsplit(url).scheme in ("http", "https"):
                if self.trusts_links:
                    return True
                if url not in self.answered and url not in self.failed:
                    with LOADING.away():
                        self.answered[url] = self._answers(url)
                return self.answered.get(url, False)
            self.policy.check(url)
        except ValidationException:
            return False
        return bool(super().check_exists(url))

    def _answers(self, url: str) -> bool:
        """Whether a host has something at ``url``; where it redirects to is not looked at."""
        self.policy.check(url)
        try:
            with requests.Session() as session:
                answer = session.head(url, timeout=self.policy.config.timeout, allow_redirects=False)
        except requests.RequestException:
            return False
        return answer.ok


def guarded_fetcher(policy: Policy, *, trusts_links: bool = False) -> type[GuardedFetcher]:
    """A fetcher class bound to ``policy`` and to one load: cwltool wants a constructor of two arguments."""
    bound = {"policy": policy, "failed": {}, "answered": {}, "trusts_links": trusts_links}
    return type("RunFetcher", (GuardedFetcher,), bound)


def fetch_http(url: str, policy: Policy) -> bytes:
    """The body at an http(s) URL, within the policy's time and size.

    Raises:
        ValidationException: refused, unreachable, an error status, or too large; the message says which.
    """
    config = policy.config
    with requests.Session() as session:
        for _ in range(_MAX_REDIRECTS + 1):
            policy.check(url)
            try:
                with session.get(url, timeout=config.timeout, stream=True, allow_redirects=False) as answer:
                    if answer.is_redirect:
                        url = requests.compat.urljoin(url, answer.headers["location"])
                        continue
                    answer.raise_for_status()
                    return _read(answer, url, config.max_bytes)
            except requests.RequestException as error:
                raise ValidationException(f"Cannot fetch {url}: {error}") from error
    raise ValidationException(f"Cannot fetch {url}: more than {_MAX_REDIRECTS} redirects")


def _read(answer: requests.Response, url: str, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    for part in answer.iter_content(1 << 16):
        size += len(part)
        if size > limit:
            raise ValidationException(f"Cannot fetch {url}: larger than {limit} bytes (fetch.max_bytes)")
        parts.append(part)
    return b"".join(parts)
