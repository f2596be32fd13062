"""A private run says what its steps did not see or reach."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: {command}
inputs: []
outputs: []
"""


def run(folder: Path, command: str) -> str:
    (folder / "t.cwl").write_text(TOOL.format(command=command))
    words = ["run", "--quiet", "--outdir", str(folder / "out"), str(folder / "t.cwl")]
    done = subprocess.run(
        [sys.executable, "-m", "wes_bridge.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    return done.stderr


def told(said: str) -> list[str]:
    """What the run says of it, and the step."""
    return [line for line in said.splitlines() if "the command ended with" in line]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that is not shown by itself, and has nothing of a sandbox's own in front."""
    with TemporaryDirectory(dir="/var/tmp", prefix="wb-hindsight-") as name:
        yield Path(name)


def test_a_file_that_is_here_and_not_shown_is_named(folder: Path) -> None:
    (folder / "catalogue.txt").write_text("stars\n")
    said = run(folder, f"[sh, -c, 'cat {folder}/catalogue.txt /usr/bin/env /nowhere/at/all >/dev/null']")
    if "No such file" not in said.partition("catalogue.txt")[2]:
        pytest.skip("no sandbox works here")
    assert f"{folder}/catalogue.txt is on this machine, but steps see their inputs only" in said
    assert [line.count("is on this machine") for line in told(said)] == [1, 1]


def test_a_program_beside_the_workflow_is_to_be_an_input(folder: Path) -> None:
    (folder / "plot.sh").write_text("#!/bin/sh\n")
    assert "stage it by InitialWorkDirRequirement" in run(folder, "./plot.sh")


def test_a_step_without_a_network_is_told_so(folder: Path) -> None:
    said = run(folder, "[sh, -c, 'echo Temporary failure in name resolution >&2; exit 3']")
    if "without a sandbox" in said:
        pytest.skip("no sandbox works here")
    assert [line.count("the step had no network") for line in told(said)] == [1, 1]
