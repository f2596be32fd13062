"""What can go wrong when talking to a WES."""

from __future__ import annotations

from wes_bridge.redaction import redacted


class WESError(Exception):
    """The service refused a request, or answered something that is not WES.

    Attributes:
        msg: what was wrong, in the service's words where it gave some.
        status_code: the HTTP status; ``None`` when there was no answer.
    """

    def __init__(self, msg: str, status_code: int | None = None) -> None:
        super().__init__(redacted(msg))
        self.msg = redacted(msg)
        self.status_code = status_code


class WESConnectionError(WESError):
    """The service could not be reached, retries included."""


class WaitTimeoutError(WESError, TimeoutError):
    """A run did not end in the time given; it is still going on."""


class DownloadError(WESError):
    """An output could not be fetched whole, or would be written outside the folder given."""
