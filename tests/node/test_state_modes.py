"""What a node leaves on the disk is its user's alone, and its users' outputs are as they expect."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.conftest import NodeProcess, Request, Starter, shell


@pytest.fixture(scope="module")
def node(start_node: Starter) -> Iterator[NodeProcess]:
    before = os.umask(0o002)  # what a node is started with
    yield start_node()
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_folders_and_files_of_the_node(node: NodeProcess, tmp_path: Path) -> None:
    session = node.completed(Request(shell("echo x > made; echo out")).output(tmp_path / "out"))
    sessions = node.state / "sessions"
    own = [node.state, sessions, sessions / session["meta"]["uuid"]]
    assert [oct(mode(path)) for path in own] == [oct(0o700)] * 3
    files = [path for path in node.state.iterdir() if not path.is_dir()]
    assert {path.name for path in files} >= {"node.db", "keeper", "keeper.key", "keeper.log", "url"}
    assert {path.name: oct(mode(path)) for path in files if mode(path) & 0o077} == {}
    record = own[2] / "command"
    assert not record.exists() or mode(record) == 0o600


def test_outputs_have_the_modes_of_the_umask_that_the_node_was_started_with(
    node: NodeProcess, tmp_path: Path
) -> None:
    node.completed(Request(shell("umask; mkdir d; echo x > d/file")).output(tmp_path / "out"))
    assert (oct(mode(tmp_path / "out/d")), oct(mode(tmp_path / "out/d/file"))) == (oct(0o775), oct(0o664))


def test_what_was_wide_before_is_narrowed(start_node: Starter, tmp_path: Path) -> None:
    node = start_node()
    node.completed(Request(shell("echo x")))
    node.kill()
    for path in [node.state, *node.state.iterdir()]:
        path.chmod(0o777)
    node.start()
    wide = {path.name for path in [node.state, *node.state.iterdir()] if mode(path) & 0o077}
    assert wide == set()
    node.completed(Request(shell("echo again")))
