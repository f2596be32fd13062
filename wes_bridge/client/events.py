"""Server-sent events of a run, over ``requests``: read, parsed, taken up again when the connection breaks."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from typing import Any

from wes_bridge.client.errors import WESConnectionError, WESError
from wes_bridge.client.http import RETRY_STATUSES, Http
from wes_bridge.client.states import FINAL_STATES

QUIET = 20.0
"""Seconds a stream may be silent, with something to spare: the service sends comments every 15."""
ATTEMPTS = 6
"""Connections in a row that break soon, until it is given up."""
_LASTING = 10.0
"""Seconds after which a connection has been of use."""
_MAX_EVENT = 16 * 1024**2
Event = dict[str, Any]


class Parser:
    """Bytes in, events out; ids are kept in ``last_id``. Lines may end in LF or CRLF."""

    def __init__(self, last_id: str = "") -> None:
        self.last_id = last_id
        self._rest = b""
        self._kind, self._id, self._data = "", self.last_id, list[str]()

    def feed(self, piece: bytes) -> list[Event]:
        """The events that end in ``piece``.

        Raises:
            WESError: an event is not JSON, or has no end.
        """
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _MAX_EVENT:
            raise WESError("an event of the stream has no end")
        found = []
        for line in lines:
            event = self._line(line.decode(errors="replace").rstrip("\r"))
            if event is not None:
                found.append(event)
        return found

    def _line(self, line: str) -> Event | None:
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        return None

    def _end(self) -> Event | None:
        kind, data, self._kind, self._data = self._kind, self._data, "", []
        self.last_id = self._id
        if not data:
            return None
        try:
            value = json.loads("\n".join(data))
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise WESError("an event of the stream is not a JSON object")
        return {"event": kind or "message", **value}


def follow(http: Http, path: str, *, tasks: bool) -> Generator[list[Event], None, None]:
    """The events of a run in batches, as they come; an empty one is a sign of life. Ends after the last.

    Args:
        http: to the service.
        path: of the run, below the API's base.
        tasks: with those of tasks.

    Raises:
        WESError: the service has no events, or no such run.
        WESConnectionError: it could not be reached several times in a row.
    """
    last_id, state, failures = "", "", 0
    while True:
        parser, begun = Parser(last_id), time.monotonic()
        try:
            for piece in _read(http, path, tasks, last_id):
                events = [one for one in parser.feed(piece) if one["event"] in ("run", "task")]
                last_id = parser.last_id
                new = [one for one in events if one["event"] == "task" or one.get("state") != state]
                state = next((str(one["state"]) for one in reversed(new) if one["event"] == "run"), state)
                yield new
                if state in FINAL_STATES:
                    return
            problem = WESConnectionError(f"{http.base} ended the stream of events before the run's end")
        except WESError as error:
            if error.status_code is not None and error.status_code not in RETRY_STATUSES:
                raise
            problem = error if isinstance(error, WESConnectionError) else WESConnectionError(error.msg)
        failures = 1 if time.monotonic() - begun > _LASTING else failures + 1
        if failures >= ATTEMPTS:
            raise problem
        time.sleep(0.1 * 2**failures)


def _read(http: Http, path: str, tasks: bool, last_id: str) -> Iterator[bytes]:
    headers = {"Accept": "text/event-stream"}
    if last_id:
        headers["Last-Event-ID"] = last_id
    answer = http.send(
        "GET",
        path + "/events",
        params=None if tasks else {"tasks": "false"},
        headers=headers,
        stream=True,
        read_timeout=2 * QUIET,
    )
    if not answer.headers.get("content-type", "").startswith("text/event-stream"):
        answer.close()
        raise WESError(f"{http.base} has no events", 404)
    yield from http.pieces(answer, None)
