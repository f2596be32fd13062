"""Watching the nodes' calendars while runs go on: who has booked what, and what becomes of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType

import requests
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

_EVERY = 0.1
"""Seconds between two looks."""
_TIMEOUT = 5.0


class Booking(BaseModel):
    """One entry of ``GET /bookings``; what else it has is not for us."""

    model_config = ConfigDict(extra="ignore")

    session: str
    name: str | None = None
    start: datetime
    end: datetime
    phase: str


_BOOKINGS = TypeAdapter(list[Booking])


@dataclass
class Seen:
    """A booking as it was seen.

    Attributes:
        node: whose it is.
        first, last: when it was seen, seconds since the epoch.
        slots: start and end, seconds since the epoch; a new one when it was moved.
        phases: each phase and when it was first seen.
    """

    node: str
    first: float
    last: float
    slots: list[tuple[float, float]] = field(default_factory=list)
    phases: dict[str, float] = field(default_factory=dict)

    def note(self, booking: Booking, now: float) -> None:
        """Another look at it."""
        self.last = now
        slot = (booking.start.timestamp(), booking.end.timestamp())
        if not self.slots or self.slots[-1] != slot:
            self.slots.append(slot)
        self.phases.setdefault(booking.phase, now)


class Watch:
    """Looks at all calendars from a thread of its own.

    Args:
        urls: of the nodes, by name.
        token: bearer token.
    """

    def __init__(self, urls: Mapping[str, str], token: str) -> None:
        self._urls = dict(urls)
        self._token = token
        self._seen: dict[str, Seen] = {}
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watch:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop looking."""
        self._end.set()
        self._thread.join(2 * _TIMEOUT)

    def seen(self) -> dict[str, Seen]:
        """All bookings so far, by session."""
        with self._lock:
            return dict(self._seen)

    def forget(self, node: str) -> None:
        """Look there no more."""
        self._urls.pop(node, None)

    def _watch(self) -> None:
        with requests.Session() as http:
            http.trust_env = False
            http.headers["Authorization"] = f"Bearer {self._token}"
            while not self._end.wait(_EVERY):
                for node, url in list(self._urls.items()):
                    with contextlib.suppress(requests.RequestException, ValidationError):
                        answer = http.get(f"{url}/bookings", timeout=_TIMEOUT)
                        self._note(node, _BOOKINGS.validate_json(answer.content))

    def _note(self, node: str, bookings: list[Booking]) -> None:
        now = time.time()
        with self._lock:
            for booking in bookings:
                self._seen.setdefault(booking.session, Seen(node, now, now)).note(booking, now)
