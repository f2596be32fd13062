"""What a store for files is: names and bytes, whatever keeps them.

A name is a path of plain parts (``RUN/outputs/a/b.fits``). All methods may block, hold no more than a few MiB
of a file of any size, and raise an ``OSError`` whose ``strerror`` says what is wrong in words for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

ALGORITHM = "sha1"
"""Of the checksums of what is put: CWL's."""


class StoreError(OSError):
    """A store does not give or take something; the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.strerror = text


class MissingError(OSError):
    """There is nothing of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name[:200]!r} in the store")
        self.strerror = str(self)


@dataclass(frozen=True)
class Stat:
    """A file in a store.

    Attributes:
        name: its whole name.
        size: bytes.
        version: a text that is another one as soon as the content is another one.
        mtime_ns: when it was written, in nanoseconds since 1970.
        is_executable: whether the store knows that it is.
    """

    name: str
    size: int
    version: str
    mtime_ns: int
    is_executable: bool = False

    @property
    def etag(self) -> str:
        """The version as an HTTP header."""
        return f'"{self.version.strip(chr(34))}"'


@dataclass(frozen=True)
class Stored:
    """A file that was put.

    Attributes:
        name: its whole name.
        size: bytes.
        checksum: of what passed, ``sha1$`` and hex digits.
    """

    name: str
    size: int
    checksum: str


class Storage(Protocol):
    """Keeps files by name."""

    def stat(self, name: str) -> Stat:
        """What a name has. Raises MissingError, too."""

    def read(self, name: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The content, or bytes ``start`` to before ``end`` of it, in pieces. Raises MissingError, too."""

    def files(self, folder: str) -> Iterator[Stat]:
        """All files below a folder, in no order; none where there is no such folder."""

    def entries(self, folder: str) -> tuple[list[str], list[Stat]]:
        """The folders and files that are in a folder itself. Raises MissingError where there are none."""

    def put(self, name: str, file: int) -> Stored:
        """Keep what an open file has; nobody sees a part of it.

        Args:
            name: what it is called.
            file: descriptor; read from its beginning, and not closed.
        """

    def publish(self, folder: str, files: Iterable[tuple[str, int]]) -> list[Stored]:
        """Keep files as a folder that is there as a whole, or not at all (see :meth:`is_published`).

        What an earlier attempt has left is replaced.

        Args:
            folder: its name.
            files: names in it, and descriptors, which are closed.
        """

    def is_published(self, folder: str) -> bool:
        """Whether all of a folder is there."""

    def delete(self, folder: str) -> None:
        """Remove all below a folder; nothing happens where there is nothing."""

    def signed_url(self, name: str, method: str, seconds: int) -> str | None:
        """A URL with which anybody can do ``method`` (GET, HEAD) to a file for a while; None: there are no
        such URLs."""
