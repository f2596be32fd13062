"""The upload body, as a starlette server reads it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.datastructures import FormData, Headers
from starlette.formparsers import MultiPartParser

from wes_bridge.client.multipart import CHUNK, Multipart

NAMES = [
    "plain.txt",
    "sub/dir/a b.txt",
    "100%.txt",
    "a%20b#c?.txt",
    "ünï 日本 😀.txt",
    'quo"te;x=y.txt',
    "semi;colon.txt",
    "apo'strophe",
]


def received(body: Multipart) -> FormData:
    async def stream() -> AsyncIterator[bytes]:
        for piece in body:
            yield piece

    headers = Headers({"content-type": body.content_type})
    return asyncio.run(MultiPartParser(headers, stream()).parse())


def test_names_and_contents_arrive(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 10)
    files = [("workflow_attachment", name, path) for name in NAMES]
    body = Multipart([("workflow_url", "ü.cwl"), ("empty", "")], files)
    form = received(body)
    assert (form["workflow_url"], form["empty"]) == ("ü.cwl", "")
    uploads = form.getlist("workflow_attachment")
    assert [upload.filename for upload in uploads] == NAMES
    assert all(upload.file.read() == path.read_bytes() for upload in uploads)


def test_length_is_known_and_pieces_are_small(tmp_path: Path) -> None:
    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(5 * CHUNK + 7)
    body = Multipart([("a", "b")], [("f", "big", path), ("f", "bytes", b"x"), ("f", "empty", b"")])
    pieces = [len(piece) for piece in body]
    assert sum(pieces) == len(body)
    assert max(pieces) < 3 * CHUNK
    assert b"".join(body) == b"".join(body)  # can be sent again


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"):
        Multipart([], [("f", "a\nb", b"")])
    with pytest.raises(FileNotFoundError):
        Multipart([], [("f", "a", tmp_path / "gone")])
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    body = Multipart([], [("f", "a", path)])
    for change in (b"123", b"1234567"):
        path.write_bytes(change)
        with pytest.raises(OSError, match="changed while"):
            b"".join(body)
