"""A file that arrives in pieces: written, counted and hashed as it passes, and checked at its end.

Its size and checksum are those that the request expects, or the session fails with both values. It must not
know where the pieces come from.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from wes_bridge.model.expected import Expected

_HEX = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "adler32": 8,
    "crc32": 8,
}
"""Hex digits of the checksums that can be checked."""
_CHUNK = 1 << 20


class UnexpectedError(OSError):
    """What has come is not what was expected; the text has both values."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class _Rolling:
    """zlib's checksums with the methods of hashlib's."""

    def __init__(self, function: Callable[[bytes, int], int], start: int) -> None:
        self._function = function
        self._value = start

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _hash(algorithm: str) -> _Hash:
    if algorithm == "adler32":
        return _Rolling(zlib.adler32, 1)
    if algorithm == "crc32":
        return _Rolling(zlib.crc32, 0)
    return hashlib.new(algorithm, usedforsecurity=False)


def problem_with(algorithm: str, value: str) -> str | None:
    """What is wrong with a checksum as it is written; None when nothing is."""
    digits = _HEX.get(algorithm)
    if digits is None:
        return f"checksums of type {algorithm[:40]!r} are not checked here; those of {', '.join(_HEX)} are"
    if len(value) != digits or not all(letter in "0123456789abcdef" for letter in value):
        return f"a checksum of type {algorithm} has {digits} lower-case hex digits, not {value[:140]!r}"
    return None


class Arrival:
    """A new file.

    Args:
        target: where it is written; nothing must be there.
        expected: how it must be.
    """

    def __init__(self, target: Path, expected: Expected) -> None:
        self._expected = expected
        self._file = target.open("xb")
        self._hash: _Hash | None = None
        self.size = 0
        self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def restart(self) -> None:
        """Throw away what has come: the server has begun again."""
        self._file.seek(0)
        self._file.truncate()
        self.size = 0
        self._hash = _hash(self._expected.checksum[0]) if self._expected.checksum else None

    def write(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            UnexpectedError: more has come than was expected.
            OSError: the disk is full.
        """
        self._file.write(piece)
        self.size += len(piece)
        if self._hash is not None:
            self._hash.update(piece)
        if self._expected.size is not None and self.size > self._expected.size:
            raise UnexpectedError(
                f"the size is wrong: {self._expected.size} bytes were expected, and more have come"
            )

    def finish(self) -> tuple[tuple[str, str], ...]:
        """All has come.

        Returns:
            The checksums that were computed.

        Raises:
            UnexpectedError: it is not what was expected.
            OSError: the disk is full.
        """
        self._file.flush()
        digest = self._hash.hexdigest() if self._hash is not None else ""
        found = ((self._expected.checksum[0], digest),) if self._expected.checksum else ()
        check(self._expected, self.size, dict(found))
        return found


def check(expected: Expected, size: int, digests: dict[str, str]) -> None:
    """Compare what has come with what was expected.

    Raises:
        UnexpectedError: they differ.
    """
    if expected.size is not None and size != expected.size:
        raise UnexpectedError(
            f"the size is wrong: {expected.size} bytes were expected, and {size} bytes have come"
        )
    if expected.checksum is not None:
        algorithm, value = expected.checksum
        if digests.get(algorithm) != value:
            raise UnexpectedError(
                f"the checksum is wrong: {algorithm} {value} was expected,"
                f" and what has come has {algorithm} {digests.get(algorithm)}"
            )


def digest_of(path: Path, algorithm: str) -> str:
    """The checksum of a file that is here."""
    found = _hash(algorithm)
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            found.update(piece)
    return found.hexdigest()
