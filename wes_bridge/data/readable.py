"""Paths in messages as their reader knows them: of attachments by their names, nothing percent-encoded.

cwltool and schema-salad tell places as ``file://`` URLs, and as paths relative to the working directory of
the process, which is the service's, and encoded. It must not know who reads.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

_URL = re.compile(r"file://(/[^\s'\"()\[\]{},<>]*)")
_SOURCE_LINE = re.compile(r"(?<![^\s'\"(\[,])[^\s'\"(\[,:]+(?=:\d+:\d+)")
"""The path before a line and a column."""

_LONGEST = 10_000
"""Characters of a message: names and values in it are the workflow's, and may be millions."""
_LONGEST_FILE = 8000
"""Characters of a message in which a File object is looked for: that takes time for each pair of lines."""
_NOT_PRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but ends of lines and tabulators, what turns the direction of text, half characters."""

_ADDRESS = re.compile(r"\(\d{9,}\) (?=\([^\n]*\) Validation error in )| at 0x[0-9A-Fa-f]{6,}(?=>)")
"""Where something is in our memory: schema-salad numbers its loaders so, and Python names objects so."""

_NO_SECONDARY_BEGINS = "Missing required secondary file"
_NO_SECONDARY = re.compile(
    _NO_SECONDARY_BEGINS + r" '([^\n]*?)' from file object: \{"
    r".*?\n(?:\S+:\d+:\d+: )? {4}\"basename\": \"([^\"\n]*)\""
    r".*?\n(?:\S+:\d+:\d+: )?\}",
    re.DOTALL,
)
"""cwltool shows the whole File object."""


class Readable:
    """Makes messages readable.

    Args:
        base: the folder of the attachments; None when there are none.
    """

    def __init__(self, base: Path | None = None) -> None:
        names = (
            [f"{base}/", f"{os.path.relpath(base)}/", f"{os.path.relpath(quote(str(base)))}/"] if base else []
        )
        # the longest is tried first: the relative one is often the end of the absolute one
        names = sorted(set(names), key=len, reverse=True)
        self._prefix = re.compile(rf"(?<![\w/.-])(?:{'|'.join(map(re.escape, names))})") if names else None

    def __call__(self, text: str) -> str:
        """A message with the paths that its reader knows."""
        text = _ADDRESS.sub("", _printable(text))
        if _NO_SECONDARY_BEGINS in text and len(text) < _LONGEST_FILE:
            text = _NO_SECONDARY.sub(_secondary, text)
        if "/" not in text and "%" not in text:
            return text
        text = _URL.sub(lambda found: unquote(found[1]), text)
        text = _SOURCE_LINE.sub(lambda found: _plain(found[0]), text)
        return self._prefix.sub("", text) if self._prefix else text


def _printable(text: str) -> str:
    """A message that can be stored and shown: not endless, without what a terminal or a database takes for
    something else than text."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]} ... and {len(text) - _LONGEST} more characters"
    if _NOT_PRINTED.search(text):
        text = _NOT_PRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text


def _secondary(found: re.Match[str]) -> str:
    return (
        f"Missing required secondary file {found[1]!r} of the file {found[2]!r}: put it beside that file,"
        " or name it in the file's secondaryFiles, or end its pattern with a question mark if it is optional"
    )


def _plain(path: str) -> str:
    if "://" in path:
        return path
    path = unquote(path) if "%" in path else path
    return os.path.abspath(path) if path.startswith("../") else path  # noqa: PTH100 - links stay as they are
