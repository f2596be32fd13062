"""Locations of Files: which of them name something elsewhere, and are handed on as they are. No I/O.

A location is a path, a ``file:`` URL, the mark of a literal (``_:...``), or a URL of another scheme. The last
belongs to whoever can read it: nodes, mostly. ``a:b`` is a fine name for a file, so that of the schemes whose
URLs have no ``//`` only those are known that are in use for data.
"""

from __future__ import annotations

import re

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_WITHOUT_SLASHES = frozenset({"arn", "data", "did", "doi", "drs", "ivo", "keep", "rucio", "trs", "urn"})
WEB = ("http", "https")


def scheme_of(location: str) -> str:
    """The scheme of a location, lower case; empty where it has none."""
    found = _SCHEME.match(location)
    return found[1].lower() if found else ""


def is_elsewhere(location: str) -> bool:
    """Whether it is a URL of something that is neither a file of this machine nor a literal."""
    found = _SCHEME.match(location)
    if found is None:
        return False
    scheme = found[1].lower()
    return scheme != "file" and (found[2] is not None or scheme in _WITHOUT_SLASHES)


def is_web(location: str) -> bool:
    """Whether it is an ``http:`` or ``https:`` URL."""
    return scheme_of(location) in WEB
