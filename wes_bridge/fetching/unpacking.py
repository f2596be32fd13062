"""Bodies as they were before a server packed them, within limits: 1 MB of gzip can be 1 GB of zeros."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from wes_bridge.fetching.errors import FetchError, TooLargeError

_PIECE = 256 * 1024
_FREE = 16 * 1024**2
"""Bytes that may come of anything."""
_RATIO = 200
"""How many times its packed size a longer body may have."""
_WINDOWS = {"gzip": (31,), "x-gzip": (31,), "deflate": (15, -15)}


def unpacked(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """The body that ``chunks`` are packed from.

    Args:
        chunks: as they came.
        encoding: the ``Content-Encoding`` header; empty: none.

    Raises:
        FetchError: it cannot be unpacked.
        TooLargeError: it grows too much.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return iter(chunks)
    if name not in _WINDOWS:
        raise FetchError(f"the server packs what was asked for unpacked, as {name[:40]!r}")
    return _inflated(chunks, _WINDOWS[name])


def _inflated(chunks: Iterable[bytes], windows: tuple[int, ...]) -> Iterator[bytes]:
    packed = size = 0
    unpacker = zlib.decompressobj(windows[0])
    for chunk in chunks:
        packed += len(chunk)
        rest, piece = chunk, b""
        while rest or len(piece) == _PIECE:  # a full piece: more of it may be waiting inside
            if unpacker.eof:  # a file of several parts, as bgzip makes them
                unpacker = zlib.decompressobj(windows[0])
            try:
                piece = unpacker.decompress(rest, _PIECE)
            except zlib.error as error:
                if size or len(windows) == 1 or packed > len(chunk):
                    raise FetchError(f"what the server packed cannot be unpacked: {error}") from error
                windows = windows[1:]  # servers do not agree on what deflate is
                unpacker = zlib.decompressobj(windows[0])
                continue
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            size += len(piece)
            if size > max(_FREE, _RATIO * packed):
                raise TooLargeError(f"what the server packed grows to more than {_RATIO} times its size")
            if piece:
                yield piece
    if packed and not unpacker.eof:
        raise FetchError("what the server packed is not complete")
