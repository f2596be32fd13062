"""The commands tell when a tool's image was left out, and let people choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Command

IMAGE = "registry.example.org/astro/tool:1"


@pytest.fixture
def tool(tmp_path: Path) -> str:
    (tmp_path / "t.cwl").write_text(
        "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: [echo, hi]\ninputs: []\noutputs: []\n"
        f"hints: {{DockerRequirement: {{dockerPull: '{IMAGE}'}}}}\n"
    )
    return "t.cwl"


def test_run_and_show_tell_it(command: Command, service_url: str, tool: str) -> None:
    done = command("wes-bridge", "run", "--wes", service_url, tool)
    assert done.returncode == 0, done.stderr
    assert f"note: t.cwl: it runs without the container image {IMAGE}" in done.stderr
    [run_id] = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("run ")]
    shown = command("wes-bridge", "show", run_id, "--wes", service_url)
    assert f"note: t.cwl: it runs without the container image {IMAGE}" in shown.stdout


def test_plan_tells_it(command: Command, service_url: str, tool: str) -> None:
    done = command("wes-bridge", "plan", "--wes", service_url, tool)
    assert f"note: t.cwl: it runs without the container image {IMAGE}" in done.stdout
    done = command("wes-bridge", "plan", "--wes", service_url, "--containers", "required", tool)
    assert done.returncode == 1
    assert "this node runs no containers" in done.stdout


@pytest.mark.parametrize(("name", "flag"), [("wes-bridge", ["run"]), ("runner", [])])
def test_it_is_a_flag(command: Command, service_url: str, tool: str, name: str, flag: list[str]) -> None:
    done = command(name, *flag, "--wes", service_url, "--containers", "required", tool)
    assert done.returncode == 33
    assert "this node runs no containers" in done.stderr
    done = command(name, *flag, "--wes", service_url, "--containers", "sometimes", tool)
    assert done.returncode == 2
    assert "never" in done.stderr


def test_the_runner_takes_the_flag_of_cwltool(command: Command, service_url: str, tool: str) -> None:
    done = command("runner", "--wes", service_url, "--no-container", tool)
    assert done.returncode == 0, done.stderr
    assert "'containers' is 'never'" in done.stderr
    assert "ignored" not in done.stderr
