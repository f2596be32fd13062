"""Paths in messages are those of the person who reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wes_bridge.data.readable import Readable
from wes_bridge.data.workspace import file_url
from wes_bridge.engine.runlog import RunLog


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The attachments of a run, below the working directory: their relative path ends their absolute one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "my work" / "run1" / "attachments"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("{url}/types/enum.yml is empty", "types/enum.yml is empty"),
        ("{base}/types/enum.yml:3:1: no", "types/enum.yml:3:1: no"),
        ("{relative}/types/enum.yml:3:1: no", "types/enum.yml:3:1: no"),
        ("{encoded}/types/enum.yml:3:1: no", "types/enum.yml:3:1: no"),
        ("tried: {encoded}/a.cwl:1:2: x\n {encoded}/b.cwl:1:2: y", "tried: a.cwl:1:2: x\n b.cwl:1:2: y"),
        ("{url}/old%20data/a%2Cb.cwl#main: no", "old data/a,b.cwl#main: no"),
        ("'{url}/in.txt' is gone", "'in.txt' is gone"),
        ("file:///data/my%20work/in.txt is gone", "/data/my work/in.txt is gone"),
        ("my%20work/wf.cwl:12:7: no", "my work/wf.cwl:12:7: no"),
        ("https://x.org/my%20work/wf.cwl:3:1: no", "https://x.org/my%20work/wf.cwl:3:1: no"),
        ("'50%25' is not int", "'50%25' is not int"),
        ("a/{relative}/wf.cwl", "a/{relative}/wf.cwl"),
    ],
)
def test_paths(base: Path, message: str, shown: str) -> None:
    relative = os.path.relpath(base)
    names = {"url": file_url(base), "base": base, "relative": relative}
    names["encoded"] = relative.replace(" ", "%20")
    assert Readable(base)(message.format(**names)) == shown.format(**names)


def test_a_file_beside_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service tells of files where its user has them, not of the way there from where it happens to run."""
    (tmp_path / "service").mkdir()
    monkeypatch.chdir(tmp_path / "service")
    assert Readable()("../my%20work/wf.cwl:1:1: no") == f"{tmp_path}/my work/wf.cwl:1:1: no"


def test_a_runs_log_tells_them_so(base: Path) -> None:
    log = RunLog(base.parent / "stderr", base)
    log.error(f"{base}/types/enum.yml:3:1: no")
    log.close()
    assert log.errors == ["types/enum.yml:3:1: no"]
    assert (base.parent / "stderr").read_text().endswith(" ERROR types/enum.yml:3:1: no\n")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "(140655610355376) (g.cwl) Validation error in field requirements:\n  g.cwl:3:1: no",
            "(g.cwl) Validation error in field requirements:\n  g.cwl:3:1: no",
        ),
        (
            "(140655610355376) (a (b).cwl) Validation error in position 0:",
            "(a (b).cwl) Validation error in position 0:",
        ),
        (
            "<cwltool.builder.Builder object at 0x7fed2c0e1f10> has none",
            "<cwltool.builder.Builder object> has none",
        ),
        ("<function f at 0x7fed2c0e1f10>", "<function f>"),
        ("(140655610355376) is too large", "(140655610355376) is too large"),
        ("stopped at 0x7fed2c0e1f10", "stopped at 0x7fed2c0e1f10"),
    ],
)
def test_where_something_is_in_memory_is_not_told(message: str, shown: str) -> None:
    assert Readable()(message) == shown
