"""What a workflow may refer to: its own attachments, permitted folders, and public http(s) hosts.

Workflows are untrusted input. Every document, ``$include`` and local file access of a run goes through one
:class:`Policy`; what it refuses is told with the reason and the setting that would allow it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING
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

if TYPE_CHECKING:
    from wes_bridge.storage.looking import Objects


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
    def objects(self) -> Objects | None:
        """The object stores that this service itself looks into; None: none are configured."""
        config = self.config
        if not config.s3:
            return None
        from wes_bridge.storage.looking import Objects  # noqa: PLC0415 - its library is large
        from wes_bridge.storage.obstores import Times  # noqa: PLC0415

        return Objects(config.s3, Times(config.timeout, config.deadline))

    def objects_of(self, url: str) -> Objects | None:
        """The object stores, where they have a URL's part."""
        objects = self.objects
        return objects if objects is not None and objects.have(url) else None

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


def open_elsewhere(url: str, policy: Policy) -> IO[bytes]:
    """What a URL that is neither http(s) nor of this machine has.

    Raises:
        ValidationException: this service does not read it, or it cannot be read; the message says which.
    """
    objects = policy.objects_of(url)
    if objects is None:
        raise ValidationException(not_looked_into(url, policy, "loadContents asks for what is in it"))
    try:
        return objects.open(url)
    except OSError as error:
        raise ValidationException(f"Cannot read {redacted(url)}: {error.strerror or error}") from error


def not_looked_into(url: str, policy: Policy, why: str) -> str:
    """Words for a URL that this service hands on, and does not look into itself.

    Args:
        url: the URL.
        policy: of the run.
        why: it should be looked into, as a sentence.
    """
    shown = redacted(url)
    advice = "let a step read it"
    if url.lower().startswith("s3:"):
        known = f" (it has {policy.objects})" if policy.objects is not None else ""
        advice += f", or ask the site to add its bucket to fetch.s3{known}"
    return f"{shown} is handed on to nodes, and this service does not look into it, but {why}; {advice}"
