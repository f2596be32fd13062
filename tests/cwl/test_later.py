"""Files that are elsewhere, as they are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cwltool.command_line_tool
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.cwl.files.later import HASHLIB, LaterFile, Told
from wes_bridge.cwl.patches import install

MIB = 1024 * 1024


class At:
    """A file that is brought when it is asked for; its first bytes come alone."""

    def __init__(self, path: Path, content: bytes, checksum: str | None) -> None:
        self.path, self.content, self.told = path, content, checksum
        self.brought = 0

    def bring(self, real: str) -> None:
        self.brought += 1
        Path(real).write_bytes(self.content)

    def checksum(self, _real: str) -> str | None:
        return self.told

    def start(self, _real: str, size: int) -> bytes:
        return self.content[:size]

    def opened(self) -> LaterFile:
        return LaterFile(str(self.path), len(self.content), self)


def _hashed(file: LaterFile) -> str:
    """As cwltool does it."""
    checksum = cwltool.command_line_tool.hashlib.sha1()
    contents = file.read(MIB)
    while contents != b"":
        checksum.update(contents)
        contents = file.read(MIB)
    return f"sha1${checksum.hexdigest()}"


@pytest.mark.parametrize("size", [1, 5, MIB - 1, MIB, MIB + 1, 3 * MIB])
@pytest.mark.parametrize("is_told", [True, False])
def test_the_checksum_is_the_one_that_was_told_or_that_of_all_bytes(
    tmp_path: Path, size: int, is_told: bool
) -> None:
    install()
    content = b"x" * size
    right = f"sha1${hashlib.sha1(content).hexdigest()}"
    at = At(tmp_path / "f", content, right if is_told else None)
    with at.opened() as file:
        assert _hashed(file) == right
    assert at.brought == (0 if is_told else 1)


def test_other_content_is_hashed_as_ever() -> None:
    for content in (b"", b"abc"):
        assert HASHLIB.sha1(content).hexdigest() == hashlib.sha1(content).hexdigest()
    assert HASHLIB.sha256 is hashlib.sha256
    assert Told("sha1$00") != b""


@given(
    content=st.binary(min_size=1, max_size=300),
    sizes=st.lists(st.one_of(st.just(-1), st.integers(1, 400), st.just(MIB)), min_size=1, max_size=6),
)
def test_what_is_read_in_pieces_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, sizes: list[int]
) -> None:
    at = At(tmp_path_factory.mktemp("later") / "f", content, None)
    with at.opened() as file:
        read = b"".join(file.read(size) for size in sizes)
    wanted = len(content) if -1 in sizes else min(len(content), sum(sizes))
    assert read == content[:wanted]


def test_the_first_bytes_come_alone(tmp_path: Path) -> None:
    at = At(tmp_path / "f", b"a" * (2 * MIB), None)
    with at.opened() as file:
        assert len(file.read(65537)) == 65537
    assert at.brought == 0
