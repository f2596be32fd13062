"""A Directory may be a folder of links to data elsewhere: a command sees what they lead to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wes_bridge.cwl.files.linked import MOST_LINKS, TooManyLinksError, links_out

TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'cat "$0"/*.fits "$0"/deep/*/x.fits']
inputs:
  night: {type: Directory, inputBinding: {position: 1}}
outputs:
  all: {type: stdout}
stdout: all.txt
"""
OF_DOCUMENT = TOOL.replace(
    "{type: Directory,", "{type: Directory, default: {class: Directory, location: night},"
)


def run(folder: Path, tool: str, job: str) -> subprocess.CompletedProcess[str]:
    (folder / "tool.cwl").write_text(tool)
    (folder / "job.yml").write_text(job)
    words = ["run", "--quiet", "--outdir", "out", "tool.cwl", "job.yml"]
    command = [sys.executable, "-m", "wes_bridge.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


@pytest.fixture
def night(tmp_path: Path) -> Path:
    data, night = tmp_path / "elsewhere", tmp_path / "night"
    for folder in (data / "sky", data / "field", night / "deep"):
        folder.mkdir(parents=True)
    (data / "sky" / "a.fits").write_text("absolute\n")
    (data / "b.fits").write_text("relative\n")
    (data / "c.fits").write_text("by way of a folder\n")
    (data / "field" / "x.fits").symlink_to("../c.fits")
    (night / "raw1.fits").symlink_to(data / "sky" / "a.fits")
    (night / "raw2.fits").symlink_to("../elsewhere/b.fits")
    (night / "raw3.fits").write_text("own\n")
    (night / "raw3b").symlink_to("raw3.fits")
    (night / "gone").symlink_to("/nowhere/at/all")
    (night / "deep" / "field").symlink_to(data / "field")
    return night


def test_a_private_run_sees_what_the_links_of_its_job_lead_to(tmp_path: Path, night: Path) -> None:
    done = run(tmp_path, TOOL, "night: {class: Directory, path: night}\n")
    assert done.returncode == 0, done.stderr
    text = Path(json.loads(done.stdout)["all"]["path"]).read_text()
    assert text == "absolute\nrelative\nown\nby way of a folder\n"


def test_those_of_a_folder_that_only_a_document_names_fail_in_words(tmp_path: Path, night: Path) -> None:
    done = run(tmp_path, OF_DOCUMENT, "{}\n")
    assert done.returncode == 1
    assert "holds the link" in done.stderr
    assert "elsewhere" in done.stderr
    assert "name it in the job file" in done.stderr


def test_links_in_circles_end(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "to").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "back").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "program").symlink_to("/usr/bin/env")
    found = [(link.path, link.target) for link in links_out(os.path.realpath(tmp_path / "a"))]
    assert found == [("to", os.path.realpath(tmp_path / "b"))]


def test_very_many_are_refused(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("")
    (tmp_path / "a").mkdir()
    for number in range(MOST_LINKS + 1):
        (tmp_path / "a" / str(number)).symlink_to("../one")
    with pytest.raises(TooManyLinksError, match="more than"):
        links_out(os.path.realpath(tmp_path / "a"))
