"""Reading a log over HTTP, once or as it grows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Protocol

from wes_bridge.client.errors import WESError
from wes_bridge.client.http import Http
from wes_bridge.client.states import FINAL_STATES

FOLLOW_DELAY = 0.5
"""Seconds between two looks at a log that is followed."""


class Runs(Protocol):
    """What is needed of ``WESClient``, which see."""

    def status(self, run_id: str) -> str:
        """A run's state."""

    def run(self, run_id: str) -> dict[str, Any]:
        """All about a run."""

    def task(self, run_id: str, task_id: str) -> dict[str, Any]:
        """One task of a run."""


def read_log(
    client: Runs, http: Http, run_id: str, *, name: str, task: str | None, follow: bool
) -> Iterator[bytes]:
    """See :meth:`wes_bridge.client.WESClient.log`."""
    offset = 0
    while True:
        ended = not follow or client.status(run_id) in FINAL_STATES
        place = _place(client, run_id, name, task)
        if place is not None and not _is_url(place):  # some servers put the text itself there
            text = place.encode()
            yield text[offset:]
            offset = max(offset, len(text))
        elif place is not None:
            for piece in _fetch(http, place, offset):
                offset += len(piece)
                yield piece
        if ended:
            return
        time.sleep(FOLLOW_DELAY)


def read_tail(client: Runs, http: Http, run_id: str, *, name: str, task: str | None, size: int) -> bytes:
    """See :meth:`wes_bridge.client.WESClient.log_tail`."""
    place = _place(client, run_id, name, task)
    if place is None:
        return b""
    if not _is_url(place):
        return place.encode()[-size:]
    tail = b""
    for piece in _fetch(http, place, 0, f"bytes=-{size}"):
        tail = (tail + piece)[-size:]
    return tail


def _place(client: Runs, run_id: str, name: str, task: str | None) -> str | None:
    log: dict[str, Any]
    log = client.task(run_id, task) if task else client.run(run_id).get("run_log") or {}
    return log.get(name) or None


def _is_url(place: str) -> bool:
    return "\n" not in place and (place.startswith(("http://", "https://", "/", "../", "./")))


def _fetch(http: Http, url: str, offset: int, ranges: str | None = None) -> Iterator[bytes]:
    headers = {"Accept": "*/*"}
    if offset or ranges:
        headers["Range"] = ranges or f"bytes={offset}-"
    if url.startswith("/"):  # relative to the host, not to the API
        url = http.absolute(url) if url.startswith("/runs/") else http.base.split("/ga4gh/")[0] + url
    try:
        response = http.send("GET", url, headers=headers, stream=True)
    except WESError as error:
        if error.status_code in (404, 416):  # nothing yet, nothing more
            return
        raise
    skip = offset if response.status_code == 200 else 0
    for piece in http.pieces(response):
        if skip >= len(piece):
            skip -= len(piece)
        else:
            yield piece[skip:]
            skip = 0
