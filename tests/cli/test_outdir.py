"""A folder for outputs that cannot be written to is told before the run; results are not lost at its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wes_bridge.cli.delivery import OutdirError, deliver
from wes_bridge.client import WESClient

MAIN, RUNNER = ["wes_bridge.cli.main", "run"], ["wes_bridge.cli.runner"]
TOOL = """\
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, '{command}']
inputs: []
outputs: {{out: stdout}}
stdout: out.txt
"""


def call(way: list[str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *way, "--quiet", "--outdir", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("way", [MAIN, RUNNER])
@pytest.mark.parametrize("where", ["/proc/nobody", "file/below"])
def test_it_is_told_before_the_run(tmp_path: Path, way: list[str], where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "tool.cwl").write_text(TOOL.format(command=f"touch {tmp_path}/begun"))
    done = call(way, tmp_path / where, str(tmp_path / "tool.cwl"))
    assert done.returncode == 1
    assert f"outputs cannot be written to {tmp_path / where}" in done.stderr
    assert "--outdir DIR" in done.stderr
    assert "run " not in done.stderr
    assert done.stdout == ""


@pytest.fixture
def spoiling(tmp_path: Path) -> tuple[Path, Path]:
    """A tool, and a folder for its outputs of which the tool makes a file."""
    outdir = tmp_path / "out"
    (tmp_path / "tool.cwl").write_text(TOOL.format(command=f"rmdir {outdir}; touch {outdir}; echo result"))
    return tmp_path / "tool.cwl", outdir


@pytest.mark.parametrize("way", [MAIN, RUNNER])
def test_a_private_run_keeps_what_cannot_be_delivered(
    spoiling: tuple[Path, Path], way: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tool, outdir = spoiling
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("WES_BRIDGE_NODES", json.dumps([{"name": "here", "sandbox": "none"}]))
    done = call(way, outdir, str(tool))
    assert done.returncode == 1
    assert f"cannot be written to {outdir}" in done.stderr
    path = Path(json.loads(done.stdout)["out"]["path"])
    assert path.read_text() == "result\n"
    assert f"they are in {path.parent}" in done.stderr


def test_a_service_says_how_to_get_them(service_url: str, tmp_path: Path) -> None:
    (tmp_path / "tool.cwl").write_text(TOOL.format(command="echo result"))
    (tmp_path / "file").write_text("")
    with WESClient(service_url) as client:
        run = client.submit(tmp_path / "tool.cwl")
        assert client.wait(run, timeout=60) == "COMPLETE"
        outputs = client.outputs(run)
        with pytest.raises(OutdirError, match=f"wes-bridge outputs {run} --wes .* --download DIR"):
            deliver(client, run, tmp_path / "file", outputs, private=False, say=print)
