"""What a workflow may refer to: its own attachments, permitted folders, and public http(s) hosts.

Workflows are untrusted input. Every document, ``$include`` and local file access of a run goes through one
:class:`Policy`; what it refuses is told with the reason and the setting that would allow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from schema_salad.exceptions import ValidationException

from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.local_files import LocalFiles
from wes_bridge.data.beneath import real_path
from wes_bridge.fetching.addresses import PrivateHosts
from wes_bridge.fetching.client import Fetcher
from wes_bridge.fetching.errors import FetchError, RefusedError
from wes_bridge.fetching.guard import Guard
from wes_bridge.fetching.limits import Limits
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


def fetch_http(url: str, policy: Policy) -> bytes:
    """The body at an http(s) URL, within the policy's time and size.

    Raises:
        ValidationException: refused, unreachable, an error status, or too large; the message says which.
    """
    try:
        return policy.web.get(url)
    except FetchError as error:
        raise ValidationException(f"Cannot fetch {redacted(url)}: {error}") from error
