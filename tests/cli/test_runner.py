"""The cwl-runner's command line."""

from pathlib import Path

import pytest

from tests.cli.conftest import Command
from wes_bridge.cli import runner
from wes_bridge.cli.flow import exit_code

TOOL = "cwlVersion: v1.2\nclass: CommandLineTool\ninputs: {outdir: string?, n: int?}\noutputs: []\n"


def test_options_before_and_after_the_workflow(tmp_path: Path) -> None:
    tool = tmp_path / "t.cwl"
    tool.write_text(TOOL)
    call = runner.parse(
        f"--outdir=o --quiet --tmpdir-prefix x --no-match-user --tag a=b {tool} job.yml"
        " --n 3 --outdir mine --upload --parallel".split(" ")
    )
    assert call.workflow == str(tool)
    assert runner.split_rest(call) == ("job.yml", ["--n", "3", "--outdir", "mine"])
    assert call.options == {"--outdir": "o", "--quiet": True, "--tag": ["a=b"], "--upload": True}
    assert call.ignored == ["--tmpdir-prefix", "--no-match-user", "--parallel"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["--version"], 0, "wes-bridge-runner "),
        (["--help"], 0, "usage: wes-bridge-runner"),
        ([], 2, "no workflow given"),
        (["--outdir"], 2, "--outdir needs a value"),
        (["--what"], 2, "unknown option --what"),
        (["gone.cwl"], 1, "gone.cwl: no such file"),
    ],
)
def test_without_a_service(
    words: list[str],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WES_BRIDGE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("wes_bridge.client.WESClient.shares_files", lambda _self: True)
    assert runner.main(words) == code
    captured = capsys.readouterr()
    assert text in captured.out + captured.err


def test_tool_help(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.cwl").write_text(TOOL)
    assert runner.main([str(tmp_path / "t.cwl"), "--help"]) == 0
    assert "-n int (optional)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("run", "code"),
    [
        ({"state": "COMPLETE"}, 0),
        ({"state": "EXECUTOR_ERROR", "run_log": {"exit_code": 1}}, 1),
        ({"state": "SYSTEM_ERROR", "run_log": {"exit_code": 33}}, 33),
        ({"state": "SYSTEM_ERROR", "run_log": {"system_logs": ["Unsupported: MPI"]}}, 33),
        ({"state": "CANCELED", "run_log": None}, 1),
    ],
)
def test_exit_codes(run: dict[str, object], code: int) -> None:
    assert exit_code(run) == code


def test_a_run_at_a_service_imports_little(command: Command, service_url: str, tmp_path: Path) -> None:
    """The command takes a fraction of a second, which is nearly all imports."""
    (tmp_path / "t.cwl").write_text(TOOL + "baseCommand: 'true'\n")
    (tmp_path / "job.json").write_text('{"n": 1}')
    done = command("runner", "--wes", service_url, "t.cwl", "job.json", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}
    heavy = {"aiohttp", "click", "connexion", "cwltool", "pydantic", "rich", "ruamel", "sqlalchemy", "yaml"}
    assert "requests" in imported
    assert not heavy & imported
