"""What a node says of a program that its sandbox does not show; and environments that have two names."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.node.conftest import NodeProcess, Request, Starter, process, texts
from wes_bridge.node.platforms import advice, shown
from wes_bridge.node.platforms.sandbox import View

SHOWS = ["/usr", "/bin"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that no sandbox has one of its own in front of."""
    with TemporaryDirectory(dir="/var/tmp", prefix="wb-advice-") as folder:
        yield Path(folder)


@pytest.fixture
def home(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (place / "home").mkdir()
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return place / "home"


def said(program: Path, place: Path) -> str:
    return advice.of_program(program, View(SHOWS, [], place / "state"))


def made(program: Path, text: str = "#!/bin/sh\necho ran\n") -> Path:
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(text)
    program.chmod(0o755)
    return program


def environment(top: Path, python: str = "/usr/bin/python3") -> Path:
    (top / "bin").mkdir(parents=True)
    (top / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (top / "bin" / "python").symlink_to(python)
    return top


def test_of_an_environment_its_root_is_named(home: Path, place: Path) -> None:
    program = made(environment(home / "venv") / "bin" / "tool")
    assert f"--show {home}/venv'" in said(program, place)
    assert f"[system, {home}/venv]" in said(program, place)


def test_a_home_is_never_suggested(home: Path, place: Path) -> None:
    text = said(made(home / "tool"), place)
    assert "--show" not in text
    assert "a folder of its own" in text
    assert f"--show {home}/bin'" in said(made(home / "bin" / "tool"), place)


def test_a_program_in_tmp_is_to_be_moved(home: Path, place: Path) -> None:
    text = said(Path("/tmp/somewhere/tool"), place)
    assert "/tmp of their own" in text
    assert "another folder" in text
    assert "--show" not in text


def test_a_relative_folder_of_the_path_does_not_count(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = made(home / "tools" / "tool")
    monkeypatch.chdir(program.parent)
    monkeypatch.setenv("PATH", f".{os.pathsep}/usr/bin")
    assert "only absolute folders" in said(program, place)


def test_one_that_came_later_wants_a_restart(
    home: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{home}/tools{os.pathsep}/usr/bin")
    assert "start the node again" in said(made(home / "tools" / "tool"), place)


def test_an_environment_is_shown_under_both_its_names(home: Path, place: Path) -> None:
    real = environment(home / "data" / "venv")
    (home / "dv").symlink_to(real)
    found = shown.tools(f"{home}/dv/bin", SHOWS, [])
    assert {str(real), f"{home}/dv"} <= set(found)


@pytest.fixture(scope="module")
def node(start_node: Starter) -> NodeProcess:
    return start_node(sandbox="own", platforms=["process"])


def test_an_interpreter_that_is_not_shown_is_named(node: NodeProcess, place: Path, tmp_path: Path) -> None:
    python = made(place / "bin" / "my-interpreter", "#!/bin/sh\n")
    script = made(tmp_path / "script", f"#!{python} -x\n")
    request = Request(process("/wb-3f9a/in/script")).data("/wb-3f9a/in/script", script.as_uri())
    session = node.run(request)
    assert session["executable"]["exitCode"] == 127
    assert f"{python}, which runs " in texts(session)
    assert f"[system, {place}/bin]" in texts(session)


def test_only_a_script_has_an_interpreter(tmp_path: Path) -> None:
    assert advice.interpreter(Path(sys.executable)) is None
    assert advice.interpreter(made(tmp_path / "a", "#!/usr/bin/env python3\n")) == Path("/usr/bin/env")
    assert advice.interpreter(made(tmp_path / "b", "echo\n")) is None
