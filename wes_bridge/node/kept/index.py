"""Looking up in a manifest on the disk: its lines are in order, so a few of them are read, never all."""

from __future__ import annotations

import os
from collections.abc import Iterator

from wes_bridge.model.manifest import LONGEST_LINE, ManifestEntry, parse_entry, path_key

_NEAR = 1024
"""Bytes in which a line is looked for first."""
_CHUNK = 256 * 1024


class Index:
    """A manifest that we wrote.

    Args:
        file: its descriptor; it stays the caller's.
    """

    def __init__(self, file: int) -> None:
        self._file = file
        self.size = os.fstat(file).st_size

    def find(self, path: str) -> ManifestEntry | None:
        """The entry of a path; None where there is none."""
        at = self._lower_bound(path_key(path))
        if at >= self.size:
            return None
        entry = parse_entry(self._line(at))
        return entry if entry.path == path else None

    def below(self, path: str) -> tuple[int, int]:
        """From and to which byte the entries in a directory stand, at any depth; an empty path: of all."""
        if not path:
            return 0, self.size
        start = path_key(path) + b"\0"
        return self._lower_bound(start), self._lower_bound(path_key(path) + b"\1")

    def lines(self, start: int, end: int) -> Iterator[bytes]:
        """The lines between two bytes, each without its end."""
        rest = b""
        while start < end:
            chunk = os.pread(self._file, min(_CHUNK, end - start), start)
            if not chunk:
                return
            start += len(chunk)
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            yield from lines

    def _lower_bound(self, key: bytes) -> int:
        """Where the first line begins whose key is not before ``key``."""
        low, high = 0, self.size
        while low < high:
            start = self._start_of((low + high) // 2, low)
            line = self._line(start)
            if parse_entry(line).key < key:
                low = start + len(line) + 1
            else:
                high = start
        return low

    def _start_of(self, middle: int, low: int) -> int:
        """Where the line begins that a byte is in."""
        reach = _NEAR
        while True:
            begin = max(low, middle - reach)
            found = os.pread(self._file, middle - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            if begin == low:
                return low
            reach *= 8

    def _line(self, start: int) -> bytes:
        reach = _NEAR
        while True:
            line, end, _ = os.pread(self._file, reach, start).partition(b"\n")
            if end or reach > LONGEST_LINE:
                return line
            reach *= 8
