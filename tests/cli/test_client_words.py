"""What the command line says of slips, and of runs that it waits for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Command
from wes_bridge.cli.checking import check
from wes_bridge.cli.main import cli

SCATTER = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {words: "string[]", code: {type: int, default: 0}}
outputs: {}
steps:
  flag:
    scatter: word
    in: {word: words, code: code}
    out: []
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo "flagging $0" >&2; exit $1']
      inputs:
        word: {type: string, inputBinding: {position: 1}}
        code: {type: int, inputBinding: {position: 2}}
      outputs: []
"""
SAME_NAME = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs: {x: {type: File, inputBinding: {}}}
outputs: {x: stdout}
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["w.cwl", "--code", "1", "job.yml"], "a job file comes directly after the workflow"),
        (["--code", "1", "w.cwl"], "the workflow comes first, and its inputs after it"),
    ],
)
def test_the_order_of_words_is_told(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("w.cwl").write_text(SCATTER)
    Path("job.yml").write_text("words: [a]\n")
    result = CliRunner().invoke(cli, ["run", *words])
    assert result.exit_code == 1
    assert said in result.output


@pytest.mark.parametrize(
    "value",
    [
        "{class: File, path: sky.fits}",
        "[{class: File, location: /data/sky.fits}]",
        "{class: Directory, path: d}",
    ],
)
def test_a_local_file_is_refused_in_a_rerun(value: str) -> None:
    words = ["rerun", "01J9ZV6T7XK2", "--wes", "http://127.0.0.1:9", "--set-input", f"image={value}"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 2
    assert "is a path of this machine, and a rerun sends no files" in " ".join(result.output.split())


def test_an_input_and_an_output_of_one_name_are_no_warning(tmp_path: Path) -> None:
    (tmp_path / "w.cwl").write_text(SAME_NAME)
    checked = check(str(tmp_path / "w.cwl"))
    assert (checked.problems, checked.warnings) == ([], [])


@pytest.mark.parametrize("kind", ["CommandLineTool", "Workflow"])
def test_a_missing_secondary_file_is_told_in_a_sentence(tmp_path: Path, kind: str) -> None:
    port = {"type": "File", "secondaryFiles": [".wcs"]}
    document = {"cwlVersion": "v1.2", "class": kind, "inputs": {"image": port}, "outputs": []}
    body = {"baseCommand": "true"} if kind == "CommandLineTool" else {"steps": []}
    (tmp_path / "w.cwl").write_text(json.dumps(document | body))
    (tmp_path / "job.yml").write_text("image: {class: File, path: sky.fits}\n")
    (tmp_path / "sky.fits").touch()
    problems = check(str(tmp_path / "w.cwl"), str(tmp_path / "job.yml")).problems
    assert len(problems) == 1
    assert "Missing required secondary file 'sky.fits.wcs' of the file 'sky.fits': put it" in problems[0]
    assert "\n" not in problems[0]
    (tmp_path / "sky.fits.wcs").touch()
    assert not check(str(tmp_path / "w.cwl"), str(tmp_path / "job.yml")).problems


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_two_inputs_of_one_name_are_a_warning(tmp_path: Path, field: str) -> None:
    document = {"cwlVersion": "v1.2", "class": "CommandLineTool", "baseCommand": "cat", "inputs": []}
    two = [{"id": "x", "type": "int?", **extra} for extra in ({}, {"doc": "again"})]
    (tmp_path / "w.cwl").write_text(json.dumps(document | {"outputs": []} | {field: two}))
    checked = check(str(tmp_path / "w.cwl"))
    assert len(checked.warnings) == 1
    assert f"two of the {field} have the name 'x'" in checked.warnings[0]


@pytest.mark.slow
def test_logs_of_a_scatter_and_a_rerun_that_fails(command: Command, service_url: str, tmp_path: Path) -> None:
    (tmp_path / "w.cwl").write_text(SCATTER)
    words = [word for number in range(3) for word in ("--words", f"w{number}")]
    begun = command("wes-bridge", "run", "--wes", service_url, "--detach", "w.cwl", *words)
    run_id = begun.stdout.strip()
    command("wes-bridge", "logs", "--wes", service_url, run_id, "--follow")
    told = command("wes-bridge", "logs", "--wes", service_url, run_id, "flag")
    assert told.stdout.split("\n") == ["flagging w0", "flagging w1", "flagging w2", ""]
    assert told.stderr.split("\n") == ["--- flag[0]", "--- flag[1]", "--- flag[2]", ""]
    wrong = command("wes-bridge", "logs", "--wes", service_url, run_id, "flog")
    assert "no step 'flog' (its steps: flag)" in wrong.stderr
    again = command(
        "wes-bridge",
        "rerun",
        "--wes",
        service_url,
        run_id,
        "--set-input",
        "code=3",
        "--from",
        "flag",
        "--wait",
    )
    assert again.returncode == 1
    assert "EXECUTOR_ERROR" in again.stdout
    assert "step flag[0]" in again.stderr
    assert "exit code 3" in again.stderr
