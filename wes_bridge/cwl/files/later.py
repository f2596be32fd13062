"""A file of a step's output whose bytes are still at its node, as cwltool reads it.

cwltool reads every file to hash it, by calling ``hashlib.sha1`` and reading pieces of a mebibyte. The node
has told the checksum already, so nothing is read then: the first piece is a :class:`Told`, and the
``hashlib`` that stands in cwltool's modules (:data:`HASHLIB`) takes the checksum from it. Whoever reads
pieces of another size gets the bytes.
"""

from __future__ import annotations

import hashlib
import io
import sys
from types import ModuleType
from typing import IO, Any

from wes_bridge.data.stand_ins import Elsewhere

_PIECE = 1024 * 1024
"""Bytes that cwltool reads at once to hash them, and never else."""
PLACES = ("cwltool.command_line_tool", "cwltool.process")
"""Modules in which cwltool hashes files."""


class Told(bytes):
    """Stands for the whole content of a file with a known checksum."""

    checksum: str

    def __new__(cls, checksum: str) -> Told:
        """``checksum``: as CWL writes it."""
        made = super().__new__(cls, checksum.encode())
        made.checksum = checksum
        return made


class _Sum:
    """SHA-1 as cwltool uses it: of bytes, or what was told."""

    def __init__(self, content: bytes = b"") -> None:
        self._sum = hashlib.sha1(content, usedforsecurity=False)
        self._told: str | None = None

    def update(self, content: bytes) -> None:
        """Take more."""
        if isinstance(content, Told):
            self._told = content.checksum.removeprefix("sha1$")
        else:
            self._sum.update(content)

    def hexdigest(self) -> str:
        """The sum."""
        return self._told if self._told is not None else self._sum.hexdigest()


HASHLIB = ModuleType("hashlib")
HASHLIB.__dict__.update(vars(hashlib) | {"sha1": _Sum})
"""Python's, but for ``sha1``."""


def _may_tell() -> bool:
    """Whether cwltool would understand: the replacement may be left out, and compiled code has its own."""
    modules = [sys.modules.get(name) for name in PLACES]
    return all(
        getattr(module, "hashlib", None) is HASHLIB and str(getattr(module, "__file__", "")).endswith(".py")
        for module in modules
    )


class LaterFile(io.RawIOBase):
    """Such a file, opened to read bytes.

    Args:
        real: its path, links followed.
        size: bytes it has.
        elsewhere: knows where they are.
    """

    def __init__(self, real: str, size: int, elsewhere: Elsewhere) -> None:
        super().__init__()
        self._real = real
        self._size = size
        self._elsewhere = elsewhere
        self._file: IO[Any] | None = None
        self._is_told = False
        self._read = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; see the module for what else may come."""
        if self._file is None and size == _PIECE and _may_tell():
            checksum = None if self._is_told else self._elsewhere.checksum(self._real)
            if self._is_told or checksum is not None:
                self._is_told = True
                return b"" if checksum is None else Told(checksum)
        if self._file is None and 0 <= size < min(self._size, _PIECE) and not self._read:
            start = self._elsewhere.start(self._real, size)  # what is read first is mostly all that is read
            self._read = len(start)
            return start
        if self._file is None:
            self._elsewhere.bring(self._real)
            self._file = open(self._real, "rb")  # noqa: SIM115, PTH123
            self._file.seek(self._read)
        content: bytes = self._file.read(size)
        return content

    def close(self) -> None:
        """Close it."""
        if self._file is not None:
            self._file.close()
        super().close()
