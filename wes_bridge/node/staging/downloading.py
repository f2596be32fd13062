"""One file from a web server: begun, gone on with after an interruption, and checked at its end.

A download goes on with a range of what the server says is the same content (``If-Range``), and begins again
where it is another. A server that is busy says when to come back (``Retry-After``). It must not know whose
URL it is, nor how a session uses the file.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from threading import Event

from wes_bridge.fetching import errors
from wes_bridge.fetching.client import Answer, Fetcher
from wes_bridge.fetching.errors import DeadlineError, FetchError, StatusError, TooLargeError
from wes_bridge.model.expected import Expected
from wes_bridge.model.headers import EXECUTABLE
from wes_bridge.node.staging.arriving import Arrival
from wes_bridge.node.staging.schemes import Fetched

ATTEMPTS = 4
"""How often a transfer is tried that does not get on."""
LONGEST_WAIT = 120.0
"""Seconds that a server may ask to wait before it is asked again."""
_GOT_ON = 1 << 20
"""Bytes of one attempt after which the count of attempts begins anew."""
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-\d{1,19}/(?:\d{1,19}|\*)")
_ETAG, _DATE = "etag ", "date "


class BusyError(StatusError):
    """The server cannot answer now.

    Attributes:
        wait: seconds until it wants to be asked again; 0 when it does not say.
    """

    def __init__(self, status: int, wait: float) -> None:
        text = f"HTTP {status}"
        if wait > LONGEST_WAIT:
            text += (
                f", and the server wants to be asked again in {wait:.0f} s, which is too long to wait here"
            )
        super().__init__(text, status)
        self.wait = wait


def is_worth_retrying(error: FetchError) -> bool:
    """The same of what a busy server says, too: it must not want to be left alone for too long."""
    if isinstance(error, BusyError) and error.wait > LONGEST_WAIT:
        return False
    return errors.is_worth_retrying(error)


class Download:
    """One file.

    Args:
        fetcher: asks the server.
        location: its URL.
        expected: how it must be.
        pause: seconds before the second attempt; doubles each time.
        credentials: headers for this server and no other.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        location: str,
        expected: Expected,
        *,
        pause: float,
        credentials: dict[str, str] | None = None,
    ) -> None:
        self._fetcher = fetcher
        self._location = location
        self._expected = expected
        self._pause = pause
        self._credentials = credentials
        self._version = ""
        self._is_executable = False

    def run(self, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Download to the new file ``target``; see :meth:`Scheme.fetch`.

        Raises:
            OSError: it cannot be had, or is not what was expected.
        """
        with Arrival(target, self._expected) as arrival:
            if not self._in_attempts(arrival, stop, unless):
                target.unlink()
                return None
            digests = arrival.finish()
        if self._is_executable:
            target.chmod(0o755)
        return Fetched(self._version, digests)

    def _in_attempts(self, arrival: Arrival, stop: Event, unless: str) -> bool:
        deadline = self._fetcher.limits.deadline
        end = float("inf") if deadline is None else time.monotonic() + deadline
        attempt = 0
        while True:
            before = arrival.size
            try:
                return self._attempt(arrival, stop, unless)
            except FetchError as error:
                attempt = 1 if arrival.size - before >= _GOT_ON else attempt + 1
                if attempt == ATTEMPTS or not is_worth_retrying(error):
                    raise
                wait = max(
                    self._pause * 2 ** (attempt - 1), error.wait if isinstance(error, BusyError) else 0.0
                )
            if time.monotonic() + wait > end:
                raise DeadlineError(f"it takes longer than {deadline:g} s (fetch.deadline)")
            if stop.wait(wait):
                raise InterruptedError("stopped")

    def _attempt(self, arrival: Arrival, stop: Event, unless: str) -> bool:
        """Whether all has come; False when it is here already."""
        headers = _range(self._version, arrival.size) if arrival.size else _condition(unless)
        if arrival.size and not headers:
            arrival.restart()
        with self._fetcher.open(
            "GET", self._location, headers=headers, credentials=self._credentials
        ) as answer:
            if answer.status == 304 and unless and not arrival.size:
                return False
            if answer.status == 416:
                arrival.restart()
                raise FetchError("the server has no more of what it had more of before")
            _raise_for_status(answer)
            self._begin(arrival, answer)
            for chunk in answer.chunks():
                arrival.write(chunk)
                if stop.is_set():
                    raise InterruptedError("stopped")
                self._check_size(arrival.size)
        return True

    def _begin(self, arrival: Arrival, answer: Answer) -> None:
        """Find out whether the server goes on, or begins."""
        if answer.status == 206:
            found = _CONTENT_RANGE.fullmatch(answer.header("content-range") or "")
            if found is None or int(found[1]) != arrival.size:
                arrival.restart()
                self._version = ""
                raise FetchError("the server sends another part than it was asked for")
            return
        if arrival.size:
            arrival.restart()
        self._version = _version(answer)
        self._is_executable = (answer.header(EXECUTABLE.lower()) or "").strip().lower() == "true"

    def _check_size(self, size: int) -> None:
        most = self._fetcher.limits.max_bytes
        if most is not None and size > most:
            raise TooLargeError(f"larger than {most} bytes (fetch.max_bytes)")


def _raise_for_status(answer: Answer) -> None:
    if answer.status in (429, 503):
        raise BusyError(answer.status, _seconds(answer.header("retry-after") or ""))
    answer.raise_for_status()


def _seconds(text: str) -> float:
    """A ``Retry-After`` header: seconds, or a date."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 9:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _version(answer: Answer) -> str:
    """What a server says of which content this is; empty where it says nothing that is sure."""
    if answer.header("content-encoding"):
        return ""  # packed: its bytes are not those that are kept
    etag = (answer.header("etag") or "").strip()
    if etag.startswith('"') and etag.isprintable():
        return _ETAG + etag
    date = (answer.header("last-modified") or "").strip()
    return _DATE + date if date and date.isprintable() else ""


def _range(version: str, size: int) -> dict[str, str]:
    """Headers that ask for the rest; empty when a server could not tell that it is the same content."""
    if not version:
        return {}
    return {"Range": f"bytes={size}-", "If-Range": version[len(_ETAG) :]}


def _condition(version: str) -> dict[str, str]:
    """Headers that ask for the content unless it is this version."""
    if version.startswith(_ETAG):
        return {"If-None-Match": version[len(_ETAG) :]}
    if version.startswith(_DATE):
        return {"If-Modified-Since": version[len(_DATE) :]}
    return {}
