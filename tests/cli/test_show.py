"""``--show``: steps of a private run see a folder of this machine that they would not see."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

MAIN, RUNNER = ["wes_bridge.cli.main", "run"], ["wes_bridge.cli.runner"]


def call(way: list[str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *way, "--quiet", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def tools() -> Iterator[Path]:
    """A folder that is not shown by itself."""
    with TemporaryDirectory(dir="/var/tmp", prefix="wb-show-") as folder:
        program = Path(folder) / "tools" / "observe"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\necho observed\n")
        program.chmod(0o755)
        (Path(folder) / "t.cwl").write_text(
            f"cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: {program}\ninputs: []\n"
            "outputs: {out: stdout}\nstdout: out.txt\n"
        )
        yield Path(folder)


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no namespaces are tried here")
@pytest.mark.parametrize("way", [MAIN, RUNNER])
def test_a_step_sees_what_is_to_be_shown(tools: Path, way: list[str]) -> None:
    words = ["--outdir", str(tools / "out"), str(tools / "t.cwl")]
    if way is MAIN:
        hidden = call(way, *words)
        if hidden.returncode == 0:
            pytest.skip("no sandbox works here")
        assert f"wes-bridge run --show {tools}/tools" in hidden.stderr
    done = call(way, "--show", str(tools / "tools"), *words)
    assert done.returncode == 0, done.stderr
    assert (tools / "out" / "out.txt").read_text() == "observed\n"


@pytest.mark.parametrize("way", [MAIN, RUNNER])
def test_one_that_is_not_there_is_told(tools: Path, way: list[str]) -> None:
    done = call(way, "--show", "/nowhere/at/all", "--outdir", str(tools), str(tools / "t.cwl"))
    assert done.returncode == 1
    assert "--show /nowhere/at/all: there is no such file or folder" in done.stderr


@pytest.mark.parametrize("way", [MAIN, RUNNER])
def test_a_service_shows_what_its_nodes_do(tools: Path, way: list[str]) -> None:
    done = call(way, "--wes", "http://127.0.0.1:9", "--show", str(tools), str(tools / "t.cwl"))
    assert done.returncode == 2
    assert "sandbox_shows" in done.stderr


def test_a_setting_of_another_command_is_told(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WES_BRIDGE_NODE_SANDBOX_SHOWS", str(tools))
    done = call(MAIN, "--show", "/nowhere/at/all", "--outdir", str(tools), str(tools / "t.cwl"))
    assert "note: WES_BRIDGE_NODE_SANDBOX_SHOWS is a setting of 'wes-bridge node'" in done.stderr
