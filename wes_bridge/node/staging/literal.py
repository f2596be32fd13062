"""``data:`` URLs (RFC 2397): content that travels inside the request."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from threading import Event
from urllib.parse import unquote_to_bytes

from wes_bridge.node.staging.plugins import DataPlugin, NoSettings, Site
from wes_bridge.node.staging.schemes import Fetched, Wanted


class LiteralScheme:
    """Small files given in the request itself."""

    names: tuple[str, ...] = ("data",)
    can_store = False
    places: Sequence[str] | None = None

    def refusal(self, location: str, *, write: bool, directory: bool) -> str | None:
        """None: what is wrong with one is found when it is written."""
        return None

    def local(self, location: str) -> Path | None:
        """Never on this machine yet."""
        return None

    def scope(self, wanted: Wanted) -> str:
        """All of this node."""
        return ""

    def fetch(self, wanted: Wanted, target: Path, stop: Event, unless: str = "") -> Fetched | None:
        """Write the content to ``target``."""
        target.write_bytes(literal_bytes(wanted.location))
        return Fetched()

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


def _make(_settings: NoSettings, _site: Site) -> LiteralScheme:
    return LiteralScheme()


PLUGIN = DataPlugin(NoSettings, _make)
