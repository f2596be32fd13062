"""How documents are fetched: schema-salad's fetcher, behind the run's :class:`Policy`.

What the policy refuses is told with the reason and the setting that would allow it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import requests
from schema_salad.exceptions import ValidationException
from schema_salad.fetcher import DefaultFetcher
from schema_salad.utils import CacheType

from wes_bridge.cwl.files.policy import Policy, fetch_http
from wes_bridge.cwl.loading.document_checks import not_text, refuse_archive
from wes_bridge.fetching.errors import FetchError, RefusedError, UrlError
from wes_bridge.model.preferences import NAMESPACE
from wes_bridge.redaction import redacted


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
