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

_NOT_PRINTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but ends of lines and tabulators, what turns the direction of text, half characters."""

_ADDRESS = re.compile(r"\(\d{9,}\) (?=\([^\n]*\) Validation error in )| at 0x[0-9A-Fa-f]{6,}(?=>)")
"""Where something is in our memory: schema-salad numbers its loaders so, and Python names objects so."""

_LONGEST = 10_000
"""Characters of a message that are looked at and shown. It may hold the text of a hostile author, and for
some of the patterns here the time grows faster than the text."""
_NO_SECONDARY = "Missing required secondary file '"
_OF_FILE = "' from file object: {"
_BASENAME = re.compile(r"\n(?:\S+:\d+:\d+: )? {4}\"basename\": \"([^\"\n]*)\"")
_END = re.compile(r"\n(?:\S+:\d+:\d+: )?\}")
"""cwltool shows the whole File object, perhaps with a line and a column before each of its lines."""


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
        text = _printable(shortened(_without_object(text) if _NO_SECONDARY in text else text))
        if "/" not in text and "%" not in text:
            return text
        text = _URL.sub(lambda found: unquote(found[1]), text)
        text = _SOURCE_LINE.sub(lambda found: _plain(found[0]), text)
        return self._prefix.sub("", text) if self._prefix else text


def shortened(text: str) -> str:
    """A message of bounded length, which says what is left out."""
    left = len(text) - _LONGEST
    return text if left <= 0 else f"{text[:_LONGEST]} ... ({left} more characters)"


def _printable(text: str) -> str:
    """A message that can be stored and shown: without what a terminal or a database takes for something else
    than text, and without places in our memory."""
    text = _ADDRESS.sub("", text)
    if _NOT_PRINTED.search(text):
        text = _NOT_PRINTED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text


def _without_object(text: str) -> str:
    """A message about a missing secondary file, without the File object; the text is read once."""
    before, _, after = text.partition(_NO_SECONDARY)
    name, _, shown = after.partition(_OF_FILE)
    file = _BASENAME.search(shown)
    end = _END.search(shown, file.end()) if file else None
    if file is None or end is None or "\n" in name:
        return text
    return (
        f"{before}Missing required secondary file {name!r} of the file {file[1]!r}: put it beside that file,"
        " or name it in the file's secondaryFiles, or end its pattern with a question mark if it is optional"
        f"{shown[end.end() :]}"
    )


def _plain(path: str) -> str:
    if "://" in path:
        return path
    path = unquote(path) if "%" in path else path
    return os.path.abspath(path) if path.startswith("../") else path  # noqa: PTH100 - links stay as they are
