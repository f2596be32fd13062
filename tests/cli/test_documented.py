"""The commands that the documentation and each ``--help`` show: they exist, and those that can be run run."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from tests.cli.conftest import ROOT, Command
from wes_bridge.bundle import make_bundle
from wes_bridge.cli import runner
from wes_bridge.cli.checking import check
from wes_bridge.cli.embedded import READY
from wes_bridge.cli.main import cli

NAMES = ("wes-bridge", "wes-bridge-runner")
PAGES = sorted(["README.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("[cde]*/**/*.md"))])
ELSEWHERE = "http://127.0.0.1:8080"


def in_help(name: str) -> list[str]:
    text = CliRunner().invoke(cli, [name, "--help"], terminal_width=200).output
    return [line for line in text.splitlines() if line.startswith(f"    wes-bridge {name}")]


def in_page(name: str) -> list[str]:
    blocks = re.findall(r"^```\w*\n(.*?)^```", (ROOT / name).read_text(), re.MULTILINE | re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in _joined(block)]


def _joined(block: str) -> list[str]:
    """Lines, those that go on after a backslash as one."""
    return block.replace("\\\n", " ").splitlines()


def words(line: str) -> list[str]:
    found = shlex.split(line, comments=True)
    return found[: found.index(">")] if ">" in found else found


def ours(lines: list[str]) -> list[list[str]]:
    return [found for line in lines if line.strip().startswith(NAMES) and (found := words(line))]


COMMANDS = [name for name in cli.list_commands(click.Context(cli))]
HELP = [found for name in COMMANDS for found in ours(in_help(name))]
WRITTEN = [found for page in PAGES for found in ours(in_page(page))]
EACH = pytest.mark.parametrize("command", HELP + WRITTEN, ids=shlex.join)


def test_there_is_something_to_check() -> None:
    assert {found[1] for found in HELP} >= {"run", "serve", "node", "validate", "logs"}
    assert len(ours(in_page("README.md"))) >= 3


@EACH
def test_options_and_files_exist(command: list[str]) -> None:
    if command[0] == "wes-bridge-runner":
        runner.split_rest(runner.parse(command[1:]))
    else:
        found = cli.get_command(click.Context(cli), command[1])
        assert found is not None
        found.make_context(command[1], command[2:])
    for word in command[1:]:
        if re.match(r"(examples|cwl|docs|scripts)/", word):
            assert (ROOT / word).exists(), word


@EACH
def test_inputs_fit_the_workflow(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    start = next((place for place, word in enumerate(command) if word.endswith(".cwl")), None)
    if start is None or command[1] in ("validate", "demo"):
        return
    job = [word for word in command[start + 1 : start + 2] if not word.startswith("-")]
    given = [word for word in command[start + 1 + len(job) :]]
    if "--outdir" in given:
        place = given.index("--outdir")
        del given[place : place + 2]
    assert make_bundle(command[start], *job, arguments=given).params


@pytest.mark.slow
def test_they_run(
    command: Command, service_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("examples", "cwl"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    monkeypatch.chdir(tmp_path)
    for name, *rest in [found[1:] for found in HELP]:
        if name == "validate":
            assert check(*rest).problems == []
        if name == "run":
            done = CliRunner().invoke(
                cli, [name, *here(rest, service_url)], env={"WES_BRIDGE_URL": service_url}
            )
            assert (done.exit_code, '"class": "File"' in done.output) == (0, True), done.output
    for name, *rest in [found[1:] for found in ours(in_page("README.md"))]:
        if name == "run":
            ended = command("wes-bridge", name, *here(rest, service_url))
            assert (ended.returncode, '"class": "File"' in ended.stdout) == (0, True), ended.stderr


def here(rest: list[str], service_url: str) -> list[str]:
    return [word.replace(ELSEWHERE, service_url) for word in rest]


@pytest.mark.slow
def test_the_service_of_the_readme_starts(environment: dict[str, str], tmp_path: Path) -> None:
    [found] = [f for f in ours(in_page("README.md")) if f[1] == "serve"]
    with subprocess.Popen(
        ["python", "-m", "wes_bridge.cli.main", *found[1:]],
        cwd=tmp_path,
        env=environment | {"WES_BRIDGE_PORT": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stdout is not None
        assert service.stdout.readline().startswith(READY)
        service.terminate()
        assert service.wait(60) == 0
