"""The manifest of an output: what is in a directory, one JSON object a line (``application/x-ndjson``).

The lines are in the order of a walk: names of one directory by their bytes, a directory before what is in it.
So a reader finds duplicates, and things in what is no directory, without remembering the lines before; and a
path can be looked up in a manifest of any length by a binary search. Paths are bytes to the system: one that
is not UTF-8 has them in ``path_bytes``. This module reads and writes lines; it opens no file.

A manifest comes from a broker that nobody needs to trust: whatever is read here is checked here.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

MEDIA_TYPE = "application/x-ndjson"
MOST_ENTRIES = 1_000_000
"""Lines of a manifest that are read."""
LONGEST_LINE = 64 * 1024
"""Bytes of a line."""
LONGEST_PATH = 4096
"""Bytes of a path, and of a link's target: what systems take."""
LONGEST_NAME = 255
"""Bytes of a name in a path."""
DEEPEST = 200
"""Directories in one another."""
_LARGEST = 1 << 62
_CHECKSUM = re.compile(r"sha1\$[0-9a-f]{40}")
_MODE = re.compile(r"0[0-7]{3}")


class EntryKind(StrEnum):
    """What an entry is: OTHER is a pipe, a socket or a device, of which nothing but its name is kept."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"


class ManifestError(ValueError):
    """A manifest breaks a rule.

    Attributes:
        line: the number of the line, from 1.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line} of the manifest: {reason}")
        self.line = line


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """One thing in an output.

    Attributes:
        path: relative to the output, as :func:`os.fsdecode` gives it: what is not UTF-8 is in surrogates.
        kind: what it is.
        size: bytes of a file.
        mode: permissions of a file or a directory; never setuid, setgid or sticky bits.
        target: where a link leads, as it is written in the link.
        checksum: of a file, as CWL writes it: ``sha1$`` and 40 hexadecimal digits.
        checksums: further ones that were asked for, by the name of their algorithm.
        note: what a person should know: why this is not what the command left.
    """

    path: str
    kind: EntryKind
    size: int | None = None
    mode: int | None = None
    target: str | None = None
    checksum: str | None = None
    checksums: dict[str, str] | None = None
    note: str | None = None

    @property
    def key(self) -> bytes:
        """What entries are ordered by."""
        return path_key(self.path)

    @property
    def leads_inside(self) -> bool:
        """Whether a link leads to something of the same output, whatever else is a link there.

        ``..`` may only be at the beginning of its target: it then goes up from a real directory.
        """
        if self.target is None or not self.target or self.target.startswith("/"):
            return False
        parts = [part for part in self.target.split("/") if part not in ("", ".")]
        ups = 0
        while ups < len(parts) and parts[ups] == "..":
            ups += 1
        return ".." not in parts[ups:] and ups <= self.path.count("/")


def path_key(path: str) -> bytes:
    """What decides a path's place in a manifest."""
    return os.fsencode(path).replace(b"/", b"\0")


# ---- writing ---------------------------------------------------------------------------------------


def write_entry(entry: ManifestEntry) -> bytes:
    """The line of an entry, with its end."""
    line: dict[str, Any] = {**_text("path", entry.path), "kind": entry.kind.value}
    if entry.size is not None:
        line["size"] = entry.size
    if entry.mode is not None:
        line["mode"] = f"0{entry.mode & 0o777:03o}"
    if entry.target is not None:
        line |= _text("target", entry.target)
    if entry.checksum is not None:
        line["checksum"] = entry.checksum
    if entry.checksums:
        line["checksums"] = entry.checksums
    if entry.note is not None:
        line["note"] = entry.note
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def write_manifest(entries: Iterable[ManifestEntry]) -> Iterator[bytes]:
    """The lines of entries, which are in the order of a walk."""
    return map(write_entry, entries)


def _text(name: str, text: str) -> dict[str, str]:
    """A text as it is, or as a text to read and its bytes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        content = os.fsencode(text)
        return {
            name: content.decode("utf-8", "replace"),
            f"{name}_bytes": base64.b64encode(content).decode("ascii"),
        }
    return {name: text}


# ---- reading ---------------------------------------------------------------------------------------

_Size = Annotated[int, Field(strict=True, ge=0, lt=_LARGEST)]


class _Line(BaseModel):
    """A line as it is sent. What it has beside these is from a later version, and is passed over."""

    model_config = ConfigDict(extra="ignore")

    path: str
    path_bytes: str | None = None
    kind: EntryKind
    size: _Size | None = None
    mode: str | None = None
    target: str | None = None
    target_bytes: str | None = None
    checksum: str | None = None
    checksums: dict[str, str] | None = None
    note: str | None = None


def parse_entry(line: bytes, number: int = 1) -> ManifestEntry:
    """The entry of one line; what lines have to do with one another is :class:`ManifestReader`'s.

    Raises:
        ManifestError: it is none.
    """
    try:
        found = _Line.model_validate_json(line)
        return _checked(found)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ManifestError(number, f"{where}: {problem['msg']}" if where else problem["msg"]) from error
    except ValueError as error:
        raise ManifestError(number, str(error)) from error


def _checked(line: _Line) -> ManifestEntry:
    path = _decoded("path", line.path, line.path_bytes)
    _check_path(path)
    if line.kind is EntryKind.FILE:
        if line.size is None:
            raise ValueError(f"the file {path!r} has no size")
        if line.checksum is None or not _CHECKSUM.fullmatch(line.checksum):
            raise ValueError(f"the file {path!r} has no checksum of the form sha1$ and 40 hexadecimal digits")
    elif line.size is not None or line.checksum is not None:
        raise ValueError(f"{path!r} is no file, and has a size or a checksum")
    target = None
    if line.kind is EntryKind.LINK:
        target = _decoded("target", line.target or "", line.target_bytes)
        if not target or "\0" in target or len(os.fsencode(target)) > LONGEST_PATH:
            raise ValueError(f"the link {path!r} has no target that a link can have")
    return ManifestEntry(
        path=path,
        kind=line.kind,
        size=line.size,
        mode=_mode(line.mode),
        target=target,
        checksum=line.checksum,
        checksums=line.checksums,
        note=line.note,
    )


def _decoded(name: str, text: str, content: str | None) -> str:
    if content is None:
        return text
    try:
        decoded = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name}_bytes is not base64") from error
    if base64.b64encode(decoded).decode("ascii") != content:
        raise ValueError(f"{name}_bytes is base64 that can be written otherwise")
    try:
        decoded.decode()
    except UnicodeDecodeError:
        return os.fsdecode(decoded)
    raise ValueError(f"{name}_bytes is UTF-8, which belongs into {name}")


def _check_path(path: str) -> None:
    if not path or path.startswith("/"):
        raise ValueError(f"{path!r} is no relative path")
    content = os.fsencode(path)
    names = content.split(b"/")
    if b"\0" in content or any(name in (b"", b".", b"..") for name in names):
        raise ValueError(f"{path!r} has a part that is no name")
    if len(content) > LONGEST_PATH or len(names) > DEEPEST or max(map(len, names)) > LONGEST_NAME:
        raise ValueError(f"{path[:100]!r}... is longer or deeper than a path may be")


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not _MODE.fullmatch(text):
        raise ValueError(f"{text[:20]!r} is no mode: 0 and three octal digits")
    return int(text, 8)


class ManifestReader:
    """Reads a manifest as its bytes come, in whatever pieces.

    Args:
        most_entries: lines that are taken.
        longest_line: bytes of one.
    """

    def __init__(self, most_entries: int = MOST_ENTRIES, longest_line: int = LONGEST_LINE) -> None:
        self._most = most_entries
        self._longest = longest_line
        self._rest = b""
        self._number = 0
        self._last: bytes | None = None
        self._folders: list[bytes] = []

    @property
    def entries(self) -> int:
        """Lines read so far."""
        return self._number

    def feed(self, chunk: bytes) -> Iterator[ManifestEntry]:
        """The entries that are complete with these bytes.

        Raises:
            ManifestError: a line breaks a rule.
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            yield self._entry(line)
        if len(self._rest) > self._longest:
            raise ManifestError(self._number + 1, f"it has more than {self._longest} bytes")

    def close(self) -> None:
        """Say that there are no more bytes.

        Raises:
            ManifestError: the last line has no end.
        """
        if self._rest:
            raise ManifestError(self._number + 1, "it has no end: the manifest was cut off")

    def _entry(self, line: bytes) -> ManifestEntry:
        self._number += 1
        if self._number > self._most:
            raise ManifestError(self._number, f"more than {self._most} entries are not taken")
        if len(line) > self._longest:
            raise ManifestError(self._number, f"it has more than {self._longest} bytes")
        entry = parse_entry(line, self._number)
        self._place(entry)
        return entry

    def _place(self, entry: ManifestEntry) -> None:
        """See that an entry comes after the one before, and lies in a directory that was listed."""
        key = entry.key
        if self._last is not None and key <= self._last:
            what = "is there twice" if key == self._last else "is not in its place, or there twice"
            raise ManifestError(self._number, f"{entry.path!r} {what}")
        self._last = key
        parent = key.rpartition(b"\0")[0]
        while self._folders and self._folders[-1] != parent:
            self._folders.pop()
        if parent and not self._folders:
            raise ManifestError(self._number, f"{entry.path!r} is in what is not listed as a directory")
        if entry.kind is EntryKind.DIRECTORY:
            self._folders.append(key)


def read_manifest(
    chunks: Iterable[bytes], most_entries: int = MOST_ENTRIES, longest_line: int = LONGEST_LINE
) -> Iterator[ManifestEntry]:
    """The entries of a manifest.

    Args:
        chunks: its bytes, in whatever pieces.
        most_entries: lines that are taken.
        longest_line: bytes of one.

    Raises:
        ManifestError: a line breaks a rule, or the last one is cut off.
    """
    reader = ManifestReader(most_entries, longest_line)
    for chunk in chunks:
        yield from reader.feed(chunk)
    reader.close()
