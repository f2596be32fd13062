"""Files shared between folders: nothing is copied, and nobody changes another's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wes_bridge.data.linking import link_file, link_tree, own, tree_size


def tree(folder: Path) -> Path:
    (folder / "a" / "deep").mkdir(parents=True)
    (folder / "a" / "one.txt").write_text("one")
    (folder / "a" / "deep" / "two.txt").write_text("two")
    (folder / "a" / "link").symlink_to("one.txt")
    return folder / "a"


def test_a_tree_is_linked(tmp_path: Path) -> None:
    source, target = tree(tmp_path), tmp_path / "b"
    link_tree(source, target)
    assert (target / "one.txt").stat().st_ino == (source / "one.txt").stat().st_ino
    assert (target / "deep" / "two.txt").read_text() == "two"
    assert (target / "link").readlink() == Path("one.txt")
    assert tree_size(target) == 3 + 3 + len("one.txt")


def test_copies_where_links_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, "other device")

    monkeypatch.setattr(os, "link", refuse)
    link_tree(tree(tmp_path), tmp_path / "b")
    assert (tmp_path / "b" / "one.txt").read_text() == "one"
    assert (tmp_path / "b" / "one.txt").stat().st_nlink == 1


def test_what_is_not_there_or_there_already(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        link_file(tmp_path / "no", tmp_path / "b")
    (tmp_path / "x").touch()
    (tmp_path / "y").touch()
    with pytest.raises(FileExistsError):
        link_file(tmp_path / "x", tmp_path / "y")
    assert tree_size(tmp_path / "no") == 0


def test_a_file_of_ones_own_can_be_changed(tmp_path: Path) -> None:
    source, target = tree(tmp_path), tmp_path / "b"
    link_tree(source, target)
    own(target)
    (target / "deep" / "two.txt").write_text("changed")
    assert (source / "deep" / "two.txt").read_text() == "two"
    assert (target / "link").is_symlink()
    inode = (target / "one.txt").stat().st_ino
    own(target)
    assert (target / "one.txt").stat().st_ino == inode
