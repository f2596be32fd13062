"""What a workflow may refer to: its own attachments, permitted folders, and public http(s) hosts.

Workflows are untrusted input. Every document, ``$include`` and local file access of a run goes through one
:class:`Policy`; what it refuses is told with the reason and the setting that would allow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from schema_salad.exceptions import ValidationException
from schema_salad.fetcher import DefaultFetcher
from schema_salad.utils import CacheType

from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.local_files import LocalFiles
from wes_bridge.cwl.loading.document_checks import not_text, refuse_archive
from wes_bridge.data.beneath import real_path
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import FetchError, RefusedError, UrlError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.model.preferences import NAMESPACE
from wes_bridge.redaction import redacted


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
            self._check_web(url)
        else:
            raise ValidationException(f"Cannot read {url}: scheme {split.scheme!r} is not supported")

    def _check_web(self, url: str) -> None:
        try:
            self.web.guard.check_url(url)
        except RefusedError as error:
            raise ValidationException(f"Cannot read {redacted(url)}: {error}") from error

    @cached_property
    def web(self) -> Fetcher:
        """What web addresses are asked with; where a name leads is checked when it is connected to."""
        config = self.config
        limits = Limits(config.timeout, config.deadline, config.least_rate, config.max_bytes)
        guard = Guard(PrivateHosts(config.private_hosts))
        return Fetcher(guard, limits, ca_file=config.ca_file, keeps=False)


class RefusedLinkError(ValidationException):
    """A document links to an address that nothing is fetched from."""


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
                    self.answered[url] = self._answers(url)
                return self.answered.get(url, False)
            self.policy.check(url)
        except RefusedLinkError:
            raise  # "there is nothing" would be no help to who can allow it
        except ValidationException:
            return False
        return bool(super().check_exists(url))

    def _answers(self, url: str) -> bool:
        """Whether a host has something at ``url``; where it redirects to is not looked at."""
        try:
            with self.policy.web.open("HEAD", url, follow=False) as answer:
                return answer.status < 400
        except UrlError:
            return False
        except RefusedError as error:
            raise RefusedLinkError(f"Cannot read {redacted(url)}: {error}") from error
        except FetchError:
            return False


def guarded_fetcher(policy: Policy, *, trusts_links: bool = False) -> type[GuardedFetcher]:
    """A fetcher class bound to ``policy`` and to one load: cwltool wants a constructor of two arguments."""
    bound = {"policy": policy, "failed": {}, "answered": {}, "trusts_links": trusts_links}
    return type("RunFetcher", (GuardedFetcher,), bound)


def fetch_http(url: str, policy: Policy) -> bytes:
    """The body at an http(s) URL, within the policy's time and size.

    Raises:
        ValidationException: refused, unreachable, an error status, or too large; the message says which.
    """
    try:
        return policy.web.get(url)
    except FetchError as error:
        raise ValidationException(f"Cannot fetch {redacted(url)}: {error}") from error
