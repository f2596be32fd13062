"""Objects of stores that are only looked at: read, asked for their size, listed one level at a time.

It must not know who looks, nor why.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import IO
from urllib.parse import quote

import obstore

from wes_bridge.model.stores import S3Config
from wes_bridge.storage.areas import Areas
from wes_bridge.storage.obstores import NoObjectError, Times, check_key, pieces, told
from wes_bridge.storage.s3 import ObjectUrl, parse_object_url


class Objects:
    """Objects by their ``s3:`` URLs.

    Args:
        stores: the parts of stores that may be looked at (``read``).
        times: how long the stores may take.
    """

    def __init__(self, stores: Iterable[S3Config], times: Times) -> None:
        self._areas = Areas(((area, store) for store in stores for area in store.read), times)

    def __str__(self) -> str:
        return str(self._areas)

    def have(self, location: str) -> bool:
        """Whether a URL is in one of the parts."""
        try:
            return self._areas.hold(parse_object_url(location))
        except ValueError:
            return False

    def open(self, location: str) -> IO[bytes]:
        """An object, to be read from its beginning; what is not read does not come.

        Raises:
            OSError: it cannot be had; the text says why.
        """
        url = parse_object_url(location)
        with told():
            found = obstore.get(self._areas.bucket(url), url.key)
        return io.BufferedReader(_Pieces(pieces(found)))

    def size(self, location: str) -> int:
        """Bytes of an object.

        Raises:
            OSError: there is none, or the store does not say.
        """
        url = parse_object_url(location)
        with told():
            return obstore.head(self._areas.bucket(url), url.key)["size"]

    def is_object(self, location: str) -> bool:
        """Whether there is an object.

        Raises:
            OSError: the store does not say.
        """
        try:
            self.size(location)
        except NoObjectError:
            return False
        return True

    def entries(self, location: str) -> tuple[list[str], list[str]]:
        """The URLs of the folders and of the objects that are in a folder itself.

        Raises:
            OSError: there are none, or the store does not say.
        """
        url = parse_object_url(location)
        with told():
            found = obstore.list_with_delimiter(self._areas.bucket(url), url.key or None)
        folders = [prefix.rstrip("/") for prefix in found["common_prefixes"]]
        objects = [item["path"] for item in found["objects"]]
        if not folders and not objects:
            raise FileNotFoundError(f"there is no object below {location}")
        return [_url(url, key) for key in folders], [_url(url, key) for key in objects]


def _url(folder: ObjectUrl, key: str) -> str:
    check_key(key)
    return f"s3://{folder.bucket}/{quote(key)}"


class _Pieces(io.RawIOBase):
    """What comes in pieces, as a file."""

    def __init__(self, content: Iterator[bytes]) -> None:
        self._content = content
        self._left = b""

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """See :class:`io.RawIOBase`."""
        room = memoryview(buffer).cast("B")
        while not self._left:
            piece = next(self._content, None)
            if piece is None:
                return 0
            self._left = piece
        size = min(len(room), len(self._left))
        room[:size], self._left = self._left[:size], self._left[size:]
        return size
