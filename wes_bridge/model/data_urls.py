"""Addresses of kept outputs and of what is in them: ``/data/SESSION/OUTPUT/PATH``. No I/O.

A path is bytes to the system. An address is read part by part from its percent-encoded form, so that a name
with any byte can be written in one way, and none can hold a ``/`` or lead up.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes
from uuid import UUID

DATA = "/data/"
"""How all of them begin, behind what a node is called."""
_OUTPUT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SAFE = "!$'()*,:;=@~"
"""What may stand for itself in a part of a path, beside letters, digits and ``_.-``."""


def is_output_name(text: str) -> bool:
    """Whether an output can be kept under a name."""
    return _OUTPUT.fullmatch(text) is not None


@dataclass(frozen=True)
class DataPath:
    """An address, without what the node is called.

    Attributes:
        session: UUID of the session that made the output.
        output: its name.
        path: of something in it, as :func:`os.fsdecode` gives it; empty: the output itself.
        is_folder: whether a folder is meant.
    """

    session: str
    output: str
    path: str = ""
    is_folder: bool = True

    def __str__(self) -> str:
        end = "/" if self.is_folder and self.path else ""
        return f"{DATA}{self.session}/{self.output}/{quote_path(self.path)}{end}"

    def covers(self, other: DataPath) -> bool:
        """Whether another address is this one, or in the folder that this one is of."""
        if (self.session, self.output) != (other.session, other.output):
            return False
        if not self.is_folder:
            return self.path == other.path and not other.is_folder
        return self.path in ("", other.path) or other.path.startswith(self.path + "/")


def quote_path(path: str) -> str:
    """A path as it stands in an address."""
    return "/".join(quote(os.fsencode(part), safe=_SAFE) for part in path.split("/"))


def read_data_path(text: str) -> DataPath | None:
    """Read the percent-encoded path of an address; None where it is none of a kept output."""
    if not text.startswith(DATA) or "?" in text or "#" in text:
        return None
    session, _, rest = text[len(DATA) :].partition("/")
    output, _, path = rest.partition("/")
    inside = read_path(path)
    try:
        session = str(UUID(session))
    except ValueError:
        return None
    if not is_output_name(output) or inside is None:
        return None
    return DataPath(session, output, inside[0], inside[1])


def data_path_of(url: str) -> DataPath | None:
    """What an http(s) URL names in a kept output of some node; None where it is another kind of URL."""
    scheme, found, rest = url.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        return None
    place = rest.partition("?")[0].partition("#")[0]
    start = place.find(DATA, max(0, place.find("/")))
    return read_data_path(place[start:]) if start >= 0 else None


def read_path(text: str) -> tuple[str, bool] | None:
    """Read the percent-encoded path of something in an output: its path, and whether a folder is meant.

    Returns:
        None where it is no such path: a part is empty, leads up, or holds what no name can.
    """
    if not text:
        return "", True
    is_folder = text.endswith("/")
    parts = [unquote_to_bytes(part) for part in text.removesuffix("/").split("/")]
    if any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in parts):
        return None
    return os.fsdecode(b"/".join(parts)), is_folder
