"""``validate``, ``plan`` and ``run`` say the same of a workflow, and say it before anything is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Command
from wes_bridge.cli import runner
from wes_bridge.cli.checking import check
from wes_bridge.cli.main import cli
from wes_bridge.model.run_options import OptionsError, run_options

ECHO = "{class: CommandLineTool, baseCommand: echo, inputs: {x: Any}, outputs: {o: stdout}, stdout: o.txt}"
HEAD = "cwlVersion: v1.2\nclass: Workflow\nrequirements: {ScatterFeatureRequirement: {}}\ninputs: {}\n"
STEP = f"in: {{x: {{default: 1}}}}, out: [o], run: {ECHO}"
VALID = {
    "types that do not fit": (
        f"{HEAD}outputs: {{o: {{type: File, outputSource: [s/o], pickValue: all_non_null}}}}\n"
        f"steps:\n  s: {{{STEP}}}\n",
        "incompatible",
    ),
    "a default by path": (
        f"{HEAD}outputs: {{}}\nsteps:\n  s: {{in: {{x: {{default: {{class: File, path: x.txt}}}}}}, out: [],"
        f" run: {ECHO}}}\n",
        "",
    ),
    "an odd directive": (f"%YAML-1.1\n---\n{HEAD}outputs: {{}}\nsteps: {{}}\n", ""),
}
WRONG = {
    "an output of nothing": (
        f"{HEAD}outputs: {{o: {{type: File, outputSource: o}}}}\nsteps:\n  s: {{{STEP}}}\n",
        ":5:",
        "outputSource not found: 'o'",
    ),
    "an empty source": (
        f"{HEAD}outputs: {{}}\nsteps:\n  s: {{in: {{x: {{source: }}}}, out: [], run: {ECHO}}}\n",
        ":7:",
        "source of 'x' is empty",
    ),
    "itself": (
        f"{HEAD}outputs: {{}}\nsteps:\n  s: {{run: w.cwl, in: {{}}, out: []}}\n".replace(
            "Scatter", "Subworkflow"
        ),
        "w.cwl",
        "the workflow runs itself",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize(("text", "warning"), VALID.values(), ids=VALID)
def test_what_is_valid_can_be_planned_and_run(
    text: str, warning: str, command: Command, service_url: str, tmp_path: Path
) -> None:
    (tmp_path / "w.cwl").write_text(text)
    (tmp_path / "x.txt").write_text("x")
    checked = command("wes-bridge", "validate", "--json", "w.cwl")
    planned = command("wes-bridge", "plan", "--wes", service_url, "w.cwl")
    done = command("wes-bridge", "run", "--wes", service_url, "w.cwl")
    assert [one.returncode for one in (checked, planned, done)] == [0, 0, 0], (checked, planned, done)
    warnings = json.loads(checked.stdout)["warnings"]
    for told in (" ".join(warnings), planned.stdout, done.stderr):
        assert (warning in told) if warning else ("warning" not in told)


@pytest.mark.slow
@pytest.mark.parametrize(("text", "line", "words"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_refused_by_all_before_anything_runs(
    text: str, line: str, words: str, command: Command, service_url: str, tmp_path: Path
) -> None:
    (tmp_path / "w.cwl").write_text(text)
    checked = command("wes-bridge", "validate", "w.cwl")
    planned = command("wes-bridge", "plan", "--wes", service_url, "w.cwl")
    done = command("wes-bridge", "run", "--json", "--wes", service_url, "w.cwl")
    for one in (checked, planned, done):
        assert one.returncode == 1
        assert words in one.stderr
        assert line in one.stderr
        assert "Traceback" not in one.stderr
    assert json.loads(done.stdout)["tasks"] == []


def test_inputs_are_checked_as_a_run_checks_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.cwl").write_text(
        "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: echo\ninputs: {n: int}\noutputs: {}\n"
    )
    assert check("t.cwl").problems == []
    assert check("t.cwl", arguments=["--n", "3"]).problems == []
    Path("job.yml").write_text("n: many\n")
    (problem,) = check("t.cwl", "job.yml").problems
    assert "'n' field is not valid" in problem
    Path("job.yml").write_text("{}\n")
    (problem,) = check("t.cwl", "job.yml").problems
    assert "Missing required input parameter 'n'" in problem
    Path("job.yml").write_text("{n: 1, m: 2}\n")
    checked = check("t.cwl", "job.yml")
    assert checked.problems == []
    assert any("'m'" in text for text in checked.warnings), checked


def test_skip_schemas_goes_with_the_run() -> None:
    call = runner.parse(["--skip-schemas", "--engine", "reuse=on", "w.cwl"])
    assert runner._engine_parameters(call) == {"skip_schemas": "on", "reuse": "on"}
    assert call.ignored == []
    assert run_options({"skip_schemas": "on"}).skip_schemas
    assert not run_options({}).skip_schemas
    with pytest.raises(OptionsError, match="skip_schemas: 'maybe' is neither on nor off"):
        run_options({"skip_schemas": "maybe"})


def test_validate_skips_schemas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("t.cwl").write_text(
        'cwlVersion: v1.2\nclass: CommandLineTool\n$schemas: ["http://127.0.0.1:9/gone.ttl"]\n'
        "baseCommand: echo\ninputs: {}\noutputs: {}\n"
    )
    done = CliRunner().invoke(cli, ["validate", "t.cwl"])
    assert done.exit_code == 0
    assert "gone.ttl" in done.output
    done = CliRunner().invoke(cli, ["validate", "--skip-schemas", "t.cwl"])
    assert (done.exit_code, done.output) == (0, "t.cwl is valid\n")
