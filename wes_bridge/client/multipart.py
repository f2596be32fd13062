"""A ``multipart/form-data`` body that is streamed from disk and knows its length beforehand.

``requests`` and ``urllib3`` read attachments into memory and write file names that are not plain ASCII in
the ``filename*`` form, which RFC 7578 forbids in forms and servers ignore. Here names are raw UTF-8 with
quotes and backslashes escaped, what browsers and curl send.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from wes_bridge.model.headers import EXECUTABLE

CHUNK = 1024**2
"""Bytes read from a file at a time."""


class Multipart:
    """One body. It can be iterated over more than once (a retry sends it again).

    Args:
        fields: form fields, name and text.
        files: field name, file name, and the file's path or its bytes.

    Attributes:
        content_type: for the request's header.

    Raises:
        OSError: a file cannot be looked at.
        ValueError: a file name holds a line break.
    """

    def __init__(
        self, fields: Iterable[tuple[str, str]], files: Iterable[tuple[str, str, Path | bytes]]
    ) -> None:
        self._boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self._parts: list[tuple[bytes, bytes | Path, int]] = []
        for name, text in fields:
            self._add(f'form-data; name="{name}"', text.encode(), "")
        for name, file_name, content in files:
            extra = _BINARY + (_EXECUTABLE_LINE if _is_executable(content) else "")
            self._add(f'form-data; name="{name}"; filename="{_escape(file_name)}"', content, extra)
        self._end = f"--{self._boundary}--\r\n".encode()
        self._length = sum(len(head) + size + 2 for head, _, size in self._parts) + len(self._end)

    def _add(self, disposition: str, content: bytes | Path, extra: str) -> None:
        head = f"--{self._boundary}\r\nContent-Disposition: {disposition}\r\n{extra}\r\n".encode()
        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        self._parts.append((head, content, size))

    def __len__(self) -> int:
        """Bytes of the whole body."""
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        """The body, in pieces of at most about a megabyte; small parts are sent together.

        Raises:
            OSError: a file cannot be read, or changed its size since.
        """
        pending = bytearray()
        for head, content, size in self._parts:
            pending += head
            if isinstance(content, bytes):
                pending += content
            else:
                for piece in _read(content, size):
                    pending += piece
                    if len(pending) >= CHUNK:
                        yield bytes(pending)
                        pending.clear()
            pending += b"\r\n"
            if len(pending) >= CHUNK:
                yield bytes(pending)
                pending.clear()
        yield bytes(pending) + self._end


_BINARY = "Content-Type: application/octet-stream\r\n"
_EXECUTABLE_LINE = f"{EXECUTABLE}: true\r\n"


def _is_executable(content: Path | bytes) -> bool:
    return isinstance(content, Path) and bool(content.stat().st_mode & 0o100)


def _escape(file_name: str) -> str:
    if "\r" in file_name or "\n" in file_name:
        raise ValueError(f"file name {file_name!r} holds a line break and cannot be uploaded")
    return file_name.replace("\\", "\\\\").replace('"', '\\"')


def _read(path: Path, size: int) -> Iterator[bytes]:
    left = size
    with path.open("rb", buffering=0) as stream:
        while left and (piece := stream.read(min(left, CHUNK))):
            left -= len(piece)
            yield piece
        if left or os.fstat(stream.fileno()).st_size != size:
            raise OSError(f"{path} changed while it was uploaded")
