"""Manifests of outputs: what is written can be read, whatever the names; what breaks a rule is refused."""

from __future__ import annotations

import base64
import json
import os
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wes_bridge.model.manifest import (
    EntryKind,
    ManifestEntry,
    ManifestError,
    ManifestReader,
    parse_entry,
    path_key,
    read_manifest,
    write_entry,
    write_manifest,
)

SHA1 = "sha1$" + "0" * 40
NAMES = (
    st.binary(min_size=1, max_size=12)
    .filter(lambda name: not set(name) & {0, 0x2F} and name not in (b".", b".."))
    .map(os.fsdecode)
)
LEAVES = st.one_of(
    st.integers(0, 2**60),
    st.binary(min_size=1, max_size=12).filter(lambda target: 0 not in target).map(os.fsdecode),
    st.none(),
)
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=20)


def entries(tree: object, before: str = "") -> Iterator[ManifestEntry]:
    """A tree of dictionaries as the entries of a walk: a number is a file, a text is a link."""
    assert isinstance(tree, dict)
    for name in sorted(tree, key=os.fsencode):
        path, thing = before + name, tree[name]
        if isinstance(thing, dict):
            yield ManifestEntry(path, EntryKind.DIRECTORY, mode=0o750)
            yield from entries(thing, path + "/")
        elif isinstance(thing, int):
            yield ManifestEntry(path, EntryKind.FILE, size=thing, mode=0o644, checksum=SHA1)
        elif isinstance(thing, str):
            yield ManifestEntry(path, EntryKind.LINK, target=thing)
        else:
            yield ManifestEntry(path, EntryKind.OTHER, note="a named pipe (FIFO)")


@given(st.dictionaries(NAMES, TREES, max_size=6), st.integers(1, 50))
def test_what_is_written_is_read_again(tree: dict[str, object], piece: int) -> None:
    """Whatever bytes names have, and however the manifest is cut into pieces."""
    wanted = list(entries(tree))
    text = b"".join(write_manifest(wanted))
    pieces = (text[start : start + piece] for start in range(0, len(text), piece))
    assert list(read_manifest(pieces)) == wanted


def test_a_name_that_is_text_is_written_as_text() -> None:
    line = json.loads(write_entry(ManifestEntry("ä #%:\n", EntryKind.FILE, size=1, checksum=SHA1)))
    assert line == {"path": "ä #%:\n", "kind": "file", "size": 1, "checksum": SHA1}


def test_a_name_that_is_no_text_keeps_its_bytes() -> None:
    line = json.loads(write_entry(ManifestEntry(os.fsdecode(b"a\xff"), EntryKind.DIRECTORY, mode=0o755)))
    assert line["path"] == "a\ufffd"
    assert base64.b64decode(line["path_bytes"]) == b"a\xff"
    assert line["mode"] == "0755"


def _line(**more: object) -> bytes:
    usual = {"path": "a", "kind": "file", "size": 1, "checksum": SHA1}
    line = {name: value for name, value in (usual | more).items() if value is not None}
    return json.dumps(line).encode() + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        _line(path="../a"),
        _line(path="a/../b"),
        _line(path="a/.."),
        _line(path="."),
        _line(path="a//b"),
        _line(path="a/"),
        _line(path="/etc/passwd"),
        _line(path=""),
        _line(path="a\0b"),
        _line(path="n" * 256),
        _line(path="/".join("n" * 20)),
        _line(path="d/" * 300 + "f"),
        _line(path_bytes="not base64!"),
        _line(path_bytes=base64.b64encode(b"../\xff").decode()),
        _line(path_bytes=base64.b64encode(b"utf8").decode()),
        _line(path_bytes="/x=="),
        _line(size=-1),
        _line(size=None),
        _line(size="1"),
        _line(size=1.5),
        _line(size=2**63),
        _line(size=True),
        _line(checksum=None),
        _line(checksum="md5$00"),
        _line(checksum="sha1$" + "G" * 40),
        _line(mode="4755"),
        _line(mode="rwx"),
        _line(kind="door"),
        _line(kind="directory"),
        _line(kind="link", size=None, checksum=None),
        _line(kind="link", size=None, checksum=None, target=""),
        _line(kind="link", size=None, checksum=None, target="a\0b"),
        _line(kind="link", size=None, checksum=None, target="t" * 5000),
        b'{"path": "a"}\n',
        b'["a"]\n',
        b"nonsense\n",
        b"\n",
        b'{"path":"\\ud800","kind":"directory"}\n',
        b'{"path":"\xff","kind":"directory"}\n',
        _line().removesuffix(b"\n"),
        b'{"path":"' + b"x" * 70_000,
    ],
)
def test_a_line_that_breaks_a_rule_is_refused(line: bytes) -> None:
    with pytest.raises(ManifestError, match="line 1 of the manifest"):
        list(read_manifest([line]))


def _entry(path: str, kind: EntryKind = EntryKind.FILE) -> bytes:
    if kind is EntryKind.FILE:
        return write_entry(ManifestEntry(path, kind, size=0, checksum=SHA1))
    return write_entry(ManifestEntry(path, kind))


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([_entry("a"), _entry("a")], "twice"),
        ([_entry("a"), _entry("b"), _entry("a")], "twice"),
        ([_entry("b"), _entry("a")], "not in its place"),
        ([_entry("a"), _entry("a/b")], "not listed as a directory"),
        ([_entry("d", EntryKind.DIRECTORY), _entry("d/e/f")], "not listed as a directory"),
        ([_entry("d", EntryKind.DIRECTORY), _entry("d.txt"), _entry("d/f")], "not in its place"),
        ([_entry("d", EntryKind.DIRECTORY), _entry("dd/f")], "not listed as a directory"),
    ],
)
def test_lines_that_contradict_one_another_are_refused(lines: list[bytes], reason: str) -> None:
    with pytest.raises(ManifestError, match=reason):
        list(read_manifest(lines))


def test_more_entries_than_are_taken_are_refused() -> None:
    lines = [_entry(f"{number:04}") for number in range(11)]
    assert len(list(read_manifest(lines[:10], most_entries=10))) == 10
    with pytest.raises(ManifestError, match="more than 10 entries"):
        list(read_manifest(lines, most_entries=10))


def test_a_line_without_end_takes_no_memory() -> None:
    reader = ManifestReader(longest_line=1000)
    with pytest.raises(ManifestError, match="more than 1000 bytes"):
        for _ in range(10_000):
            list(reader.feed(b"x" * 100))
    assert reader.entries == 0


def test_a_later_version_may_say_more() -> None:
    assert parse_entry(_line(colour="red")) == ManifestEntry("a", EntryKind.FILE, size=1, checksum=SHA1)


@pytest.mark.parametrize(
    ("path", "target", "leads_inside"),
    [
        ("a", "b", True),
        ("a", "./b/c", True),
        ("d/a", "../b", True),
        ("d/a", "..", True),
        ("a", "../b", False),
        ("d/a", "../../b", False),
        ("a", "/etc/passwd", False),
        ("a", "b/../c", False),  # b may be a link to the output itself
    ],
)
def test_a_link_leads_inside_or_not(path: str, target: str, *, leads_inside: bool) -> None:
    assert ManifestEntry(path, EntryKind.LINK, target=target).leads_inside is leads_inside


def test_the_order_is_that_of_a_walk() -> None:
    assert sorted(["a/b", "a", "a.txt", "a/b/c"], key=path_key) == ["a", "a/b", "a/b/c", "a.txt"]


def test_a_hundred_thousand_files_take_little_memory() -> None:
    many = (
        ManifestEntry(f"{number:06}", EntryKind.FILE, size=number, checksum=SHA1) for number in range(100_000)
    )
    tracemalloc.start()
    count = sum(1 for _ in read_manifest(write_manifest(many)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak < 1_000_000
