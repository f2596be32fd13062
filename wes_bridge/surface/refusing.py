"""Answers to requests that never reach an application: too long, too slow, not HTTP, too many.

They have the shape of both our APIs' errors (``msg`` and ``status_code`` of WES, ``message`` of brokers).
"""

from __future__ import annotations

import json
from http import HTTPStatus


class RefusedError(Exception):
    """A request that is not read to its end.

    Attributes:
        status: of the answer.
        text: for the person who sent it.
        wait: seconds after which it may be sent again, where that helps.
    """

    def __init__(self, status: int, text: str, wait: int | None = None) -> None:
        super().__init__(text)
        self.wait = wait
        self.status = status
        self.text = text


def error_body(status: int, text: str) -> bytes:
    """The JSON of an error, readable by clients of WES and of brokers."""
    return json.dumps({"msg": text, "message": text, "status_code": status}).encode()


def raw_answer(refused: RefusedError) -> bytes:
    """The whole answer, as it goes over the wire; the connection is closed after it."""
    body = error_body(refused.status, refused.text)
    lines = [
        f"HTTP/1.1 {refused.status} {HTTPStatus(refused.status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *([f"retry-after: {refused.wait}"] if refused.wait is not None else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
