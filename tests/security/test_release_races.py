"""A step hands a descriptor of its output folder to a step in another cell, which changes the output while
the node brings it away. The node then neither reads nor writes outside; and the descriptor is soon useless.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import (
    ROOT,
    NodeProcess,
    Request,
    Starter,
    engine,
    node,
    session_kinds,
    shell,
    start_node,
    texts,
)
from tests.node.test_container import cli, sh
from tests.security.paths import CANARY
from tests.waiting import until
from wes_bridge.model import execution_broker as eb
from wes_bridge.node.errors import ReleaseError
from wes_bridge.node.layout import RootMap
from wes_bridge.node.platforms.sandbox import bubblewrap
from wes_bridge.node.staging import release as releasing
from wes_bridge.node.staging.allowed import Allowed
from wes_bridge.node.staging.file import FileScheme
from wes_bridge.node.staging.plan import Tree
from wes_bridge.node.staging.schemes import Schemes

__all__ = ["node", "start_node"]
PYTHON = "docker.io/library/python:3-slim"
PAYLOAD = "a step was here"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder of the node's user, which is looked at afterwards."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    (folder / ".ssh/id_rsa").write_text(CANARY)
    (folder / ".ssh/program").write_text(CANARY)
    (folder / ".ssh/program").chmod(0o4755)
    yield folder
    assert {path.name for path in (folder / ".ssh").iterdir()} == {"id_rsa", "program"}
    assert all(path.read_text() == CANARY for path in (folder / ".ssh").iterdir())
    assert (folder / ".ssh/program").stat().st_mode & 0o7777 == 0o4755


def _release(state: Path, target: Path) -> None:
    session = eb.Session.model_construct()
    tree = Tree(RootMap(None, state / "fs"), "/work")
    tree.outputs.append(("/out", eb.Data.model_construct(location=target.as_uri())))
    allowed = Allowed(["file:///"])
    releasing.release(tree, session, Schemes([FileScheme(allowed)], allowed), links=True)


class _Listings:
    """Does something when a number of folders have been listed: what was seen is not there any more."""

    def __init__(self, number: int, then: Callable[[], None]) -> None:
        self._left = number
        self._then = then
        self._scandir: Callable[..., Any] = os.scandir
        self._thread = threading.get_ident()

    def __call__(self, path: Any = ".") -> Any:
        with self._scandir(path) as found:
            entries = list(found)
        for entry in entries:  # as the node sees it before the change
            entry.is_dir(follow_symlinks=False)
            entry.is_symlink()
        if threading.get_ident() == self._thread:
            self._left -= 1
            if self._left == 0:
                self._then()
        return _Listed(entries)


class _Listed(list[Any]):
    def __enter__(self) -> _Listed:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_folder_becomes_a_link_between_look_and_use(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    state = tmp_path / "sessions" / "one"
    out = state / "fs/out"
    (state / "fs/tmp").mkdir(parents=True)
    (state / "fs/tmp/payload").write_text(PAYLOAD)
    (out / "s/.ssh").mkdir(parents=True)
    (out / "s/.ssh/id_rsa").symlink_to("../../../tmp/payload")
    (out / "s/.ssh/program").write_text(PAYLOAD)
    (out / "s/.ssh/program").chmod(0o4755)
    held = os.open(out, os.O_RDONLY)

    def swap() -> None:
        os.rename("s", "away", src_dir_fd=held, dst_dir_fd=held)
        os.symlink(home, "s", dir_fd=held)

    monkeypatch.setattr(os, "scandir", _Listings(number, swap))
    try:
        _release(state, tmp_path / "to")
    except ReleaseError as error:
        assert error.by_command
    finally:
        monkeypatch.undo()
        os.close(held)


def test_links_are_still_made_good(tmp_path: Path, home: Path) -> None:
    state = tmp_path / "sessions" / "one"
    out = state / "fs/out"
    (state / "fs/tmp/d").mkdir(parents=True)
    (state / "fs/tmp/d/file").write_text("content")
    (out / "in").mkdir(parents=True)
    (out / "in/copied").symlink_to("../../tmp/d")
    (out / "in/absolute").symlink_to(out / "own")
    (out / "in/up").symlink_to("../..")
    (out / "own").write_text("own")
    _release(state, tmp_path / "to")
    assert (tmp_path / "to/in/copied/file").read_text() == "content"
    assert not (tmp_path / "to/in/copied").is_symlink()
    assert str((tmp_path / "to/in/absolute").readlink()) == "../own"
    assert (tmp_path / "to/in/up").is_symlink()


GIVE = """
import os, socket, sys
what, flags = sys.argv[1:]
os.makedirs("sub"); open("sub/file", "w").close()
handed = os.open(what, int(flags))
s = socket.socket(socket.AF_UNIX)
os.chdir(os.path.dirname(__file__)); s.connect("sock")
socket.send_fds(s, [b"x"], [handed])
assert s.recv(1) == b"y"
"""
TAKE = """
import os, socket, time
os.chdir(os.path.dirname(__file__))
s = socket.socket(socket.AF_UNIX); s.bind("sock"); s.listen(1)
open("ready", "w").close()
c, _ = s.accept()
_, [fd], _, _ = socket.recv_fds(c, 10, 5)
c.send(b"y")
while not os.path.exists("go"): time.sleep(0.02)
def make(): os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
def link(): os.symlink("/", "s", dir_fd=fd)
def rename(): os.rename("sub", "away", src_dir_fd=fd, dst_dir_fd=fd)
def mode(): os.chmod(fd, 0o4777)
for attempt in (make, link, rename, mode):
    try: attempt(); print("done", attempt.__name__)
    except OSError as error: print(error.strerror)
"""


@pytest.fixture(scope="module")
def bubbles(start_node: Starter) -> NodeProcess:
    """A node whose sandbox is bubblewrap's: its mounts are not the node's to close."""
    path, reason = bubblewrap()
    if path is None:
        pytest.skip(reason)
    return start_node(sandbox="bwrap")


@pytest.mark.bwrap
@pytest.mark.parametrize(("what", "flags"), [(".", os.O_RDONLY), ("sub/file", os.O_WRONLY)])
def test_what_bubblewrap_leaves_open_is_no_output_s(
    bubbles: NodeProcess, tmp_path: Path, what: str, flags: int
) -> None:
    """The taker can go on writing to what it was handed; what comes out is a copy of it."""
    _is_untouched(bubbles, tmp_path, *_handed_over(bubbles, tmp_path, what, flags))


@pytest.mark.bwrap
def test_nor_what_the_node_keeps(bubbles: NodeProcess, tmp_path: Path) -> None:
    giver, words = _handed_over(bubbles, tmp_path, ".", os.O_RDONLY, keep={})
    assert giver["phase"] == "COMPLETED", texts(giver)
    assert "done mode" in words
    [kept] = [data["kept"] for data in giver["data"] if "kept" in data]
    names = [path.name for path in bubbles.state.rglob("*") if giver["meta"]["uuid"] in str(path)]
    assert kept
    assert "sub" in names
    assert "late" not in names


@pytest.mark.podman
@pytest.mark.parametrize(("what", "flags"), [(".", os.O_RDONLY), ("sub/file", os.O_WRONLY)])
def test_what_a_container_leaves_open_is_no_output_s(
    start_node: Starter, tmp_path: Path, what: str, flags: int
) -> None:
    if engine() is None or cli("image", "inspect", PYTHON).returncode != 0:
        pytest.skip(f"the image {PYTHON} is not here")
    if cli("run", "--rm", "--network=none", PYTHON, "true").returncode != 0:
        pytest.skip("containers do not run here")
    node = start_node(platforms=["container"], pull_images=False)

    def boxed(script: str) -> dict[str, Any]:
        return sh(script, image=PYTHON, network={"access": False})

    _is_untouched(node, tmp_path, *_handed_over(node, tmp_path, what, flags, boxed))


def _is_untouched(node: NodeProcess, folder: Path, giver: dict[str, Any], words: str) -> None:
    assert giver["phase"] == "COMPLETED", (texts(giver), node.stream(giver, "stderr"))
    assert "done mode" in words  # else there would be nothing to see
    assert sorted(path.name for path in (folder / "out").rglob("*")) == ["file", "sub"]
    assert (folder / "out").stat().st_mode & 0o7777 == 0o755
    assert (folder / "out/sub/file").stat().st_mode & 0o7777 == 0o644


def _handed_over(
    node: NodeProcess,
    folder: Path,
    what: str,
    flags: int,
    shell: Callable[[str], dict[str, Any]] = shell,
    **more: Any,
) -> tuple[dict[str, Any], str]:
    """How the session of the giver ended, and the words of the taker, which goes on after that."""
    shared = folder / "shared"
    shared.mkdir()
    (shared / "give.py").write_text(GIVE)
    (shared / "take.py").write_text(TAKE)
    inside = f"{ROOT}/shared"
    take = Request(shell(f"python3 {inside}/take.py")).data(inside, shared.as_uri(), "READWRITE")
    taker = node.begin(take)
    until((shared / "ready").exists)
    give = Request(shell(f"python3 {inside}/give.py {what} {flags}"))
    give.data(inside, shared.as_uri(), "READWRITE")
    if "keep" in more:
        give.data(f"{ROOT}/out", None, "READWRITE", access="WRITE", **more)
    else:
        give.output(folder / "out")
    giver = node.run(give)
    (shared / "go").touch()
    return giver, node.stream(node.end(taker))


def test_a_folder_that_was_handed_over_cannot_be_written_to_any_more(
    node: NodeProcess, tmp_path: Path
) -> None:
    giver, words = _handed_over(node, tmp_path, ".", os.O_RDONLY)
    assert giver["phase"] == "COMPLETED", (texts(giver), node.stream(giver, "stderr"))
    assert words.splitlines() == ["Read-only file system"] * 4
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sub"]


def test_a_file_that_another_step_holds_to_write_fails_its_step(node: NodeProcess, tmp_path: Path) -> None:
    giver, _ = _handed_over(node, tmp_path, "sub/file", os.O_WRONLY)
    assert giver["phase"] == "FAILED"
    assert giver["executable"]["exitCode"] == 137
    assert "another one holds a file open" in node.stream(giver, "stderr")


def test_an_output_that_is_a_link_leaves_nothing(node: NodeProcess, home: Path, tmp_path: Path) -> None:
    command = f"head -c 1000000 /dev/zero >../big; cd ..; mv out o2; ln -s {home} out"
    giver = node.run(Request(shell(command)).output(tmp_path / "out"))
    assert giver["phase"] == "FAILED"
    assert "urn:wes-bridge:output-unusable" in session_kinds(giver)
    until(lambda: not list(node.state.glob("sessions/*/fs/big")))
