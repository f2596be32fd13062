"""Durations, instants and sizes as the two standards write them.

ISO 8601 durations and intervals are those of the ExecutionBroker schema (``utils.yaml``); instants are
always UTC.
"""

from __future__ import annotations

import functools
import math
import re
import signal
from datetime import UTC, datetime, timedelta

MIB = 1024**2
GIB = 1024**3
_MINUTE, _HOUR, _DAY = 60, 3600, 86400

_DURATION = re.compile(
    r"^(?P<sign>-?)P(?=\d|T\d)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?$"
)


def utcnow() -> datetime:
    """The time now, UTC, aware."""
    return datetime.now(UTC)


@functools.lru_cache(maxsize=1024)
def format_instant(when: datetime) -> str:
    """Write an aware datetime as ISO 8601 UTC with milliseconds: ``2026-01-01T10:00:00.000Z``."""
    utc = when if when.tzinfo is UTC else when.astimezone(UTC)
    return f"{utc.isoformat(timespec='milliseconds')[:-6]}Z"


def format_second(when: datetime) -> str:
    """Write an aware datetime as WES 1.1.0 does: ``%Y-%m-%dT%H:%M:%SZ``."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_instant(text: str) -> datetime:
    """Read an ISO 8601 instant; one without a zone is taken as UTC.

    Raises:
        ValueError: the text is not an instant.
    """
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"not an ISO 8601 instant: {text!r}") from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)


@functools.lru_cache(maxsize=1024)  # offers say the same few lengths again and again
def parse_duration(text: str) -> timedelta:
    """Read an ISO 8601 duration of weeks, days and time (``PT2H``, ``P1DT30M``, ``PT0.5S``).

    Years and months have no fixed length and are refused, as the Java broker refuses them.

    Raises:
        ValueError: the text is not such a duration.
    """
    match = _DURATION.match(text)
    if not match:
        raise ValueError(f"not an ISO 8601 duration of days and time: {text!r}")
    parts = {name: float(value) for name, value in match.groupdict().items() if value and name != "sign"}
    try:
        length = timedelta(**parts)
    except OverflowError:
        raise ValueError(f"the duration is too long: {text!r}") from None
    return -length if match["sign"] else length


def format_duration(length: timedelta) -> str:
    """Write a non-negative timedelta as an ISO 8601 duration (``PT1H30M``, ``PT0S``, ``PT0.25S``)."""
    total = max(0.0, length.total_seconds())
    hours, rest = divmod(total, 3600)
    minutes, seconds = divmod(rest, 60)
    text = (f"{int(hours)}H" if hours else "") + (f"{int(minutes)}M" if minutes else "")
    if seconds or not text:
        text += f"{round(seconds, 3):g}S"
    return f"PT{text}"


def spell_seconds(value: float, tenths: bool = False) -> str:
    """Write seconds for people: ``4 s``, ``2 min``, ``1 h 3 min``, ``2 d 1 h``.

    Args:
        value: seconds, not negative.
        tenths: ``4.2 s``, below a minute.
    """
    whole = round(value)
    if tenths and whole < _MINUTE:
        return f"{value:.1f} s"
    for unit, name, small, small_name in (
        (_DAY, "d", _HOUR, "h"),
        (_HOUR, "h", _MINUTE, "min"),
        (_MINUTE, "min", 1, "s"),
    ):
        if whole >= unit:
            rest = whole % unit // small
            return f"{whole // unit} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def signal_of(exit_code: int) -> str | None:
    """The signal that ended a command, ``SIGSEGV``, as shells tell it: 128 and its number; None for none."""
    try:
        return signal.Signals(exit_code - 128).name
    except ValueError:
        return None


def parse_interval(text: str) -> tuple[datetime, datetime]:
    """Read an ISO 8601 interval: start/end, start/duration or duration/end.

    Raises:
        ValueError: the text is none of the three.
    """
    first, slash, second = text.partition("/")
    if not slash:
        raise ValueError(f"not an ISO 8601 interval (no '/'): {text!r}")
    if first.lstrip("-").startswith("P"):
        end = parse_instant(second)
        return _moved(end, -parse_duration(first), text), end
    start = parse_instant(first)
    if second.lstrip("-").startswith("P"):
        return start, _moved(start, parse_duration(second), text)
    return start, parse_instant(second)


def _moved(when: datetime, length: timedelta, text: str) -> datetime:
    """The other end of an interval."""
    try:
        return when + length
    except OverflowError:
        over = "ends after the year 9999" if length > timedelta() else "begins before the year 1"
        raise ValueError(f"the interval {over}: {text!r}") from None


def gib_ceil(size: float) -> int:
    """Bytes as whole GiB, rounded up: the unit of ``compute.memory`` and ``storage.size``."""
    return math.ceil(size / GIB)
