"""What can go wrong with a fetch. The texts name the host and the setting, and no secret of a URL."""

from __future__ import annotations


class FetchError(OSError):
    """It cannot be fetched; the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text  # who wraps an OSError looks there


class RefusedError(FetchError):
    """It must not be fetched; trying again makes no sense."""


class UrlError(RefusedError):
    """The text is no URL that can be read in one way only."""


class UnknownHostError(FetchError):
    """No address is known for a host name."""


class TooSlowError(FetchError):
    """The server sends too little for too long."""


class DeadlineError(TooSlowError):
    """All of its time is over."""


class TooLargeError(FetchError):
    """There is more than was allowed."""


class StatusError(FetchError):
    """The server answered with an error.

    Attributes:
        status: of the answer.
    """

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text)
        self.status = status


PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of answers that may be others when the server is asked again."""


def is_worth_retrying(error: FetchError) -> bool:
    """Whether a transfer that failed so may work when it is tried again."""
    if isinstance(error, StatusError):
        return error.status in PASSING
    return not isinstance(error, DeadlineError | RefusedError | TooLargeError)
