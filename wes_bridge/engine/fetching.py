"""What a workflow may refer to: its own attachments, permitted folders, and public http(s) hosts.

Workflows are untrusted input. Every document, ``$include`` and local file access of a run goes through one
:class:`Policy`; what it refuses is told with the reason and the setting that would allow it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from schema_salad.exceptions import ValidationException
from schema_salad.fetcher import DefaultFetcher
from schema_salad.utils import CacheType

from wes_bridge.config import FetchConfig
from wes_bridge.engine.document_checks import not_text, refuse_archive
from wes_bridge.engine.turn import LOADING
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import FetchError, RefusedError, UrlError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
from wes_bridge.model.preferences import NAMESPACE
from wes_bridge.redaction import redacted

_NAME_ONLY = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC
_GONE = " (deleted)"
"""What Linux appends to the name of a file that was removed."""


class Policy:
    """Which URLs one run may read.

    Args:
        config: the site's rules.
        folders: folders of the run itself, always allowed.
    """

    def __init__(self, config: FetchConfig, folders: Iterable[Path]) -> None:
        self.config = config
        folders = [folder.resolve() for folder in (*folders, *config.files)]
        # texts, with a slash at the end: they are compared several times for every file
        self._folders = tuple(f"{folder}/".replace("//", "/") for folder in folders)

    def check(self, url: str) -> None:
        """Refuse a URL that must not be read.

        Raises:
            ValidationException: with the reason.
        """
        split = urlsplit(url)
        if split.scheme == "file":
            self.check_path(Path(unquote(split.path)))
        elif split.scheme in ("http", "https"):
            self._check_web(url)
        else:
            raise ValidationException(f"Cannot read {url}: scheme {split.scheme!r} is not supported")

    def check_path(self, path: Path) -> str:
        """Refuse a local path outside the allowed folders, symbolic links followed.

        Returns:
            The path with links followed.

        Raises:
            ValidationException: with the reason.
        """
        real = _real(path)
        if not self._allows(real):
            raise ValidationException(
                f"{path} is outside the folders this service lets workflows read"
                " (attach the file, or ask the site to add its folder to fetch.files)"
            )
        return real

    def allows_path(self, path: Path) -> bool:
        """Whether a local path, symbolic links followed, is inside an allowed folder."""
        return self._allows(_real(path))

    def _allows(self, real: str) -> bool:
        return f"{real}/".startswith(self._folders)

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


def _real(path: Path) -> str:
    """A path with links followed, by the kernel: three calls, where Python makes one for each folder."""
    try:
        found = os.open(path, _NAME_ONLY)
    except OSError:  # as far as it is there
        return os.path.realpath(path)
    try:
        real = os.readlink(f"/proc/self/fd/{found}")  # noqa: PTH115 - texts, for each file of a wide scatter
    except OSError:  # not Linux
        return os.path.realpath(path)
    finally:
        os.close(found)
    return real if not real.endswith(_GONE) else os.path.realpath(path)


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
