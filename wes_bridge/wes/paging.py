"""Pages: how many, from where, and tokens that say so.

A token carries up to two sequence numbers and a digest of the query it belongs to; it is opaque to clients
and useless for another query. Nothing in it is secret: every page is filtered by its owner anyway.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from hashlib import blake2b

from wes_bridge.wes.errors import BadRequestError

DEFAULT_SIZE = 100
MAX_SIZE = 1000
_NUMBERS = struct.Struct(">QQ")
_DIGEST = 6
_DIGITS = re.compile(r"^[0-9]{1,19}$", re.ASCII)


def page_size(text: str | None) -> int:
    """The page size a query asks for.

    Raises:
        BadRequestError: not a whole number from 1 to :data:`MAX_SIZE`.
    """
    if text is None:
        return DEFAULT_SIZE
    size = int(text) if _DIGITS.match(text) else 0
    if not 1 <= size <= MAX_SIZE:
        raise BadRequestError(f"page_size must be a whole number from 1 to {MAX_SIZE}, not {text[:40]!r}")
    return size


def make_token(query: str, newest: int, last: int) -> str:
    """A token for the page after the row numbered ``last``.

    Args:
        query: everything that the pages have in common, as text; the token is bound to it.
        newest: the listing was begun when this was the newest row.
        last: the last row already shown.
    """
    return _encode(query, _NUMBERS.pack(newest, last))


def read_token(query: str, token: str) -> tuple[int, int]:
    """``newest`` and ``last`` of a token made for this query.

    Raises:
        BadRequestError: it was not.
    """
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    numbers = raw[: _NUMBERS.size]
    if len(numbers) != _NUMBERS.size or token != _encode(query, numbers):
        raise BadRequestError(
            "page_token is not one handed out with these parameters; begin again without a page_token"
        )
    newest, last = _NUMBERS.unpack(numbers)
    return newest, last


def _encode(query: str, numbers: bytes) -> str:
    digest = blake2b(numbers + query.encode("utf-8", "surrogatepass"), digest_size=_DIGEST).digest()
    return base64.urlsafe_b64encode(numbers + digest).decode().rstrip("=")
