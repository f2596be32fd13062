"""An error that nobody foresaw is told in words and with its place, not as a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from wes_bridge.cli import checking, main, runner

TOOL = "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: x\ninputs: []\noutputs: []\n"


def fail(*_: object, **__: object) -> NoReturn:
    raise KeyError("basename")


@pytest.mark.parametrize(
    ("command", "words"),
    [(main.main, ["validate", "t.cwl"]), (runner.main, ["--validate", "t.cwl"])],
    ids=["wes-bridge", "wes-bridge-runner"],
)
def test_a_mistake_of_ours(
    command: Callable[[list[str]], int],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.cwl").write_text(TOOL)
    monkeypatch.setattr(checking, "_check_as_runs_do", fail)
    assert command(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: internal error: KeyError (test_unforeseen.py, line ")
    assert "'basename'" in said
    assert "please report it" in said
    assert said.count("\n") == 1
    monkeypatch.setattr(sys, "flags", type("Flags", (), {"dev_mode": True}))
    with pytest.raises(KeyError):
        command(words)


@pytest.mark.parametrize("option", ["--enable-ext", "--enable-dev"])
def test_options_that_only_other_engines_have_are_told(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "t.cwl").write_text(TOOL)
    words = ["--wes", "http://127.0.0.1:9", option, str(tmp_path / "t.cwl")]
    assert runner.main(words) == 1
    assert f"{option}: " in (said := capsys.readouterr().err)
    assert "exit code 33" in said
    assert "ignored, as the service decides" not in said
