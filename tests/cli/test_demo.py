"""``wes-bridge demo``: real processes, the quick variant."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import psutil
import pytest
from click.testing import CliRunner

from tests.cli.conftest import Command
from wes_bridge.cli.main import cli

DEADLINE = 300.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policies", "earliest,greedy"], "'greedy'"),
        (["--policies", " , "], "cheapest, earliest"),
        (["--stop", "delta"], "'alpha', 'beta', 'gamma'"),
        (["--stop", "alpha", "--no-stop"], "exclude each other"),
        (["--job", "job.yml"], "--workflow"),
    ],
)
def test_wrong_usage(arguments: list[str], said: str) -> None:
    done = CliRunner().invoke(cli, ["demo", *arguments])
    assert (done.exit_code, said in done.output) == (2, True), done.output


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A temporary folder with a short name: the service has sockets in it."""
    with tempfile.TemporaryDirectory(prefix="demo-") as name:
        yield Path(name)


def leftovers(marker: str) -> list[psutil.Process]:
    """Processes whose environment says that they come from us."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("DEMO_TEST") == marker and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(marker: str) -> bool:
    until = time.monotonic() + 60
    while leftovers(marker):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_the_show(command: Command, tmp_path: Path, scratch: Path) -> None:
    words = ["demo", "--quick", "--workdir", "here", "--policies", "cheapest,greenest"]
    done = command("wes-bridge", *words, timeout=DEADLINE, TMPDIR=str(scratch), DEMO_TEST=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(scratch.glob("wes-bridge-demo-*")) == []
    assert gone(str(tmp_path)), leftovers(str(tmp_path))

    cheapest, greenest, stopped = runs = json.loads((tmp_path / "here/runs.json").read_text())
    assert [run["state"] for run in runs] == ["COMPLETE"] * 3
    cheap, green, rescued = ([task["node"] for task in run["task_logs"]] for run in runs)
    assert set(green) == {"alpha"}
    assert "gamma" in cheap
    assert "alpha" not in cheap
    assert len(cheap) == len(green) == len(rescued)
    assert stopped["stopped"]["node"] == "alpha"
    assert set(rescued) > {"alpha"}  # what had ended there, and what went elsewhere
    assert (cheapest["stopped"], greenest["stopped"]) == (None, None)
    assert "outputs of all runs are the same" in done.stdout
    assert re.search(r"greenest, alpha stopped .* COMPLETE", done.stdout)
    assert re.search(r"plan → alpha: greenest of \d+ offers", done.stdout)

    picture = ElementTree.parse(tmp_path / "here/timeline.svg")
    named = {element.text for element in picture.iter()}
    assert named >= {"alpha", "beta", "gamma", "alpha is gone"}
    assert named >= {task["name"] for run in runs for task in run["task_logs"]}
    assert "sources" in (tmp_path / "here/outputs/report.txt").read_text()


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(environment: dict[str, str], tmp_path: Path, scratch: Path) -> None:
    ours = {"TMPDIR": str(scratch), "DEMO_TEST": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "wes_bridge.cli.main", "demo", "--no-stop"],
        cwd=tmp_path,
        env=environment | ours,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        for line in demo.stdout:
            if line.startswith("RUNNING"):
                break
        os.kill(demo.pid, signal.SIGINT)
        _, errors = demo.communicate(timeout=DEADLINE)
    assert (demo.returncode, "interrupted" in errors) == (130, True), errors
    assert gone(str(tmp_path)), leftovers(str(tmp_path))
    assert list(scratch.glob("wes-bridge-demo-*")) == []


@pytest.mark.slow
def test_a_workflow_that_cannot_be_read_is_told_before_anything_starts(command: Command) -> None:
    done = command("wes-bridge", "demo", "--workflow", "nowhere.cwl", timeout=DEADLINE)
    assert (done.returncode, "nowhere.cwl" in done.stderr) == (1, True), done.stderr
    assert "the service is at" not in done.stdout
