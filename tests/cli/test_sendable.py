"""Directories with entries that cannot be uploaded: told by name before anything is sent."""

import os
import socket
from pathlib import Path

import pytest

from wes_bridge.bundle.build import make_bundle
from wes_bridge.bundle.errors import BundleError

TOOL = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: ls, inputs: {d: Directory}, outputs: []}"


def make_odd(folder: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(folder / "odd")
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(os.path.relpath(folder / "odd"))
    elif kind == "link":
        (folder / "odd").symlink_to("nowhere")
    else:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + kind.encode("latin-1"))).write_text("x")


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pipe", "d/sub/odd is a named pipe (FIFO), so it cannot be uploaded"),
        ("socket", "d/sub/odd is a socket, so it cannot be uploaded"),
        ("link", "d/sub/odd is a link to nowhere, which is not there, so it cannot be uploaded"),
        ("back\\slash", "d/sub/back\\slash: the name has a backslash"),
        ("new\nline", "d/sub/new\\nline: the name has a control character"),
        ("caf\xe9", "d/sub/caf\\xe9: the name is not UTF-8"),
    ],
)
def test_an_entry_that_cannot_be_uploaded_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.cwl").write_text(TOOL)
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "sub" / "fine").write_text("x")
    make_odd(tmp_path / "d" / "sub", kind)
    given = {"d": {"class": "Directory", "location": "d"}}
    assert make_bundle("w.cwl", given, shared=True).attachments == []
    with pytest.raises(BundleError) as refused:
        make_bundle("w.cwl", given)
    (problem,) = refused.value.problems
    assert said in problem
