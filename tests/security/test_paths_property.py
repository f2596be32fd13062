"""Random trees of files, folders and links: whatever is done below a folder, nothing outside is touched."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.security.paths import CANARY, found_in
from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.data import beneath, copying
from wes_bridge.data.linking import link_tree, own
from wes_bridge.engine.outputs import OutputFolder
from wes_bridge.node.staging.allowed import Allowed

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(
    PATHS,
    PATHS.map("../".__add__),
    PATHS.map("../../".__add__),
    st.sampled_from(
        ["OUTSIDE", "OUTSIDE/canary.txt", "OUTSIDE/deep", "../outside", "../../outside/canary.txt"]
    ),
)
THINGS = st.lists(
    st.one_of(
        st.tuples(st.just("file"), PATHS, st.sampled_from([0o644, 0o4755, 0o2755, 0o1777])),
        st.tuples(st.just("folder"), PATHS, st.sampled_from([0o755, 0o3755])),
        st.tuples(st.just("link"), PATHS, TARGETS),
    ),
    max_size=8,
)
FEW = settings(max_examples=25, deadline=None)


class World:
    """A folder with a random tree, and one beside it that nothing may touch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.inside, self.outside, self.to = (top / name for name in ("inside", "outside", "to"))
        for folder in (self.inside, self.outside, self.outside / "deep", self.to):
            folder.mkdir()
        for path in (self.outside / "canary.txt", self.outside / "deep" / "a", self.outside / "a"):
            path.write_text(CANARY)
        self._before = self.look()

    def build(self, folder: Path, things: list[tuple[str, str, object]]) -> None:
        """Make what can be made: a link made first may be on the way of the next, which is then not made."""
        for kind, name, more in things:
            path = folder / name
            with contextlib.suppress(OSError, RuntimeError):
                if not path.parent.resolve().is_relative_to(folder) or os.path.lexists(path):
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                if kind == "file":
                    path.write_text("own")
                    path.chmod(int(str(more)))
                elif kind == "folder":
                    path.mkdir()
                    path.chmod(int(str(more)))
                else:
                    path.symlink_to(str(more).replace("OUTSIDE", str(self.outside)))

    def look(self) -> list[tuple[str, int, int, int, bytes]]:
        found = []
        for path in sorted(self.outside.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            links = status.st_nlink if path.is_file() else 0
            found.append((str(path), status.st_mode, links, status.st_mtime_ns, content))
        return found

    def check(self) -> None:
        """Nothing outside was changed, linked or read into our own."""
        assert self.look() == self._before
        assert found_in(self.inside) == found_in(self.to) == []


@contextlib.contextmanager
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="wb-paths-") as folder:
        yield World(Path(folder).resolve())


def no_special_bits(folder: Path) -> bool:
    return not any(path.lstat().st_mode & 0o7000 for path in folder.rglob("*") if not path.is_symlink())


@pytest.fixture(params=["openat2", "part by part"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "part by part":
        monkeypatch.setattr(beneath._KERNEL, "_call", None)


class TestTrees:
    @FEW
    @given(things=THINGS, path=PATHS)
    def test_opening(self, things: list[tuple[str, str, object]], path: str) -> None:
        with world() as here, beneath.opened(beneath.top_of(here.inside)) as top:
            here.build(here.inside, things)
            try:
                found = beneath.open_beneath(top, path)
            except OSError:
                found = None
            plain = all(
                not (here.inside / "/".join(path.split("/")[:end])).is_symlink()
                for end in range(1, path.count("/") + 2)
            )
            there = plain and (here.inside / path).exists()
            assert (found is not None) == there
            if found is not None:
                assert beneath.name_of(found) == str(here.inside / path)
                os.close(found)
            here.check()

    @FEW
    @given(things=THINGS, path=PATHS)
    def test_writing(self, things: list[tuple[str, str, object]], path: str) -> None:
        with world() as here, beneath.opened(beneath.top_of(here.inside)) as top:
            here.build(here.inside, things)
            with contextlib.suppress(OSError):
                folder, name = beneath.parent_beneath(top, path, make=True)
                with beneath.opened(folder):
                    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                    with os.fdopen(beneath.open_beneath(folder, name, flags), "w") as file:
                        file.write("written")
            here.check()

    @FEW
    @given(things=THINGS, there=THINGS)
    def test_copying_and_moving_onto_what_is_there(
        self, things: list[tuple[str, str, object]], there: list[tuple[str, str, object]]
    ) -> None:
        for move in (False, True):
            with world() as here, beneath.opened(beneath.top_of(here.top)) as top:
                here.build(here.inside, things)
                here.build(here.to, there)
                with contextlib.suppress(OSError):
                    if move:
                        copying.move(top, "inside", top, "to")
                        here.inside.mkdir()
                    else:
                        with beneath.opened(os.open(here.inside, os.O_RDONLY)) as source:
                            copying.copy_thing(source, top, "to", usable=True)
                here.inside.mkdir(exist_ok=True)
                here.check()

    @FEW
    @given(things=THINGS)
    def test_a_copy_is_the_same_without_rights(self, things: list[tuple[str, str, object]]) -> None:
        with world() as here, beneath.opened(beneath.top_of(here.to)) as to:
            here.build(here.inside, things)
            with beneath.opened(os.open(here.inside, os.O_RDONLY)) as source:
                copying.copy_thing(source, to, "copy", usable=True)
            assert _shape(here.to / "copy") == _shape(here.inside)
            assert no_special_bits(here.to)
            here.check()

    @FEW
    @given(things=THINGS)
    def test_gathering_outputs_and_keeping_results(self, things: list[tuple[str, str, object]]) -> None:
        with world() as here:
            here.build(here.inside, things)
            link_tree(here.inside, here.to / "kept")
            policy = Policy(FetchConfig(), [here.inside, here.to])
            outputs = OutputFolder(here.to / "outputs", fs_access(policy)(""))
            item = {"class": "Directory", "location": f"file://{here.inside}", "basename": "d"}
            outputs.gather({"d": item})
            own(here.to / "kept")
            here.check()
            assert not any(path.is_symlink() for path in (here.to / "outputs").rglob("*"))

    @FEW
    @given(things=THINGS, path=PATHS, name=NAMES)
    def test_destinations_and_sources_of_a_node(
        self, things: list[tuple[str, str, object]], path: str, name: str
    ) -> None:
        with world() as here:
            here.build(here.inside, things)
            allowed = Allowed([f"file://{here.inside}/"])
            with contextlib.suppress(OSError, ValueError):
                assert allowed.source(here.inside / path).is_relative_to(here.inside)
            with contextlib.suppress(OSError, ValueError):
                folder, last = allowed.destination(here.inside / path / name)
                with beneath.opened(folder):
                    assert Path(beneath.name_of(folder) or "").is_relative_to(here.inside)
                    copying.remove(folder, last)
            here.check()


def _shape(folder: Path) -> list[tuple[str, str]]:
    found = []
    for path in sorted(folder.rglob("*")):
        kind = stat.S_IFMT(path.lstat().st_mode)
        what = str(path.readlink()) if kind == stat.S_IFLNK else ""
        found.append((f"{path.relative_to(folder)}:{kind}", what))
    return found


def test_a_swap_between_look_and_use_changes_nothing(tmp_path: Path) -> None:
    """A folder that is open stays the folder that it was, whatever is put in its place."""
    with world() as here, beneath.opened(beneath.top_of(here.inside)) as top:
        (here.inside / "a").mkdir()
        folder, name = beneath.parent_beneath(top, "a/canary.txt")
        (here.inside / "a").rename(here.inside / "gone")
        (here.inside / "a").symlink_to(here.outside)
        with beneath.opened(folder):
            copying.remove(folder, name)
            flags = os.O_WRONLY | os.O_CREAT
            os.close(beneath.open_beneath(folder, name, flags))
        assert (here.inside / "gone" / "canary.txt").exists()
        here.check()


def test_a_tree_that_is_very_deep_ends(tmp_path: Path) -> None:
    here = World(tmp_path)
    current = here.inside
    for _ in range(250):
        current /= "d"
    current.mkdir(parents=True)
    outputs = OutputFolder(here.to / "outputs", fs_access(Policy(FetchConfig(), [tmp_path]))(""))
    outputs.gather({"d": {"class": "Directory", "location": f"file://{here.inside}", "basename": "d"}})
    assert any("is in more than" in text for text in outputs.problems)
    shutil.rmtree(here.inside)
