"""``data:`` URLs (RFC 2397): content that travels inside the request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from urllib.parse import unquote_to_bytes


class LiteralScheme:
    """Small files given in the request itself."""

    names: tuple[str, ...] = ("data",)
    can_store = False

    def local(self, location: str) -> Path | None:
        """Never on this machine yet."""
        return None

    def fetch(self, location: str, target: Path, stop: Event) -> None:
        """Write the content to ``target``."""
        target.write_bytes(literal_bytes(location))

    def store(self, folder: int, name: str, location: str, beside: Sequence[Path]) -> None:
        """Refused: a literal is not a place."""
        raise ValueError("a data: URL cannot be written to")


def literal_bytes(location: str) -> bytes:
    """The content of a ``data:`` URL.

    Raises:
        ValueError: no comma, or bad base64.
    """
    header, comma, content = location.partition(",")
    if not comma:
        raise ValueError("a data: URL needs a comma before its content")
    if not header.rstrip().endswith(";base64"):
        return unquote_to_bytes(content)
    try:
        return base64.b64decode(unquote_to_bytes(content), validate=True)
    except binascii.Error as error:
        raise ValueError(f"bad base64 in a data: URL: {error}") from error
