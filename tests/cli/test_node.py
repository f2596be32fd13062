"""``wes-bridge node drain | open | status`` against a real node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from wes_bridge.cli.main import cli

REPOSITORY = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("here")
    config = {"name": "jbo", "platforms": ["process"], "cores": 4, "memory_gib": 8, "gpus": 2}
    command = [sys.executable, "-m", "wes_bridge.node.main", "--config-json", json.dumps(config)]
    command += ["--state-dir", str(folder / "wes-bridge-node-jbo")]
    node = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    assert node.stdout is not None
    line = node.stdout.readline()
    assert "is ready at" in line
    before = Path.cwd()
    os.chdir(folder)
    yield line.split()[-1]
    os.chdir(before)
    node.send_signal(signal.SIGTERM)
    node.wait(60)
    node.stdout.close()


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["node", *words])
    return done.exit_code, done.output


def test_drain_and_open(url: str) -> None:
    assert run("status", url) == (
        0,
        "jbo is open\nsessions: 0 of 4 running, 0 accepted\ncores: 0 of 4 in use\n"
        "memory: 0 of 8 GiB in use\ngpus: 0 of 2 in use\n",
    )
    assert run("drain", url) == (0, "jbo is draining: 0 sessions to go\n")
    assert run("status", "--name", "jbo")[1].startswith("jbo is draining since 20")
    assert run("open", "--name", "jbo") == (0, "jbo is open\n")
    assert run("drain", "--name", "jbo", "--state", "wes-bridge-node-jbo", "--cancel-booked") == (
        0,
        "jbo is draining: 0 sessions to go, 0 cancelled\n",
    )
    assert run("open", url + "/") == (0, "jbo is open\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["drain"], 2, "say which node"),
        (["drain", "http://x", "--name", "y"], 2, "say which node"),
        (["drain", "jbo"], 2, "begins with http://"),
        (["open", "--name", "nobody"], 2, "no node has run in"),
        (["status", "http://127.0.0.1:1"], 1, "is the node running?"),
        (["undrain"], 2, "No such command"),
    ],
)
def test_mistakes(url: str, words: list[str], code: int, said: str) -> None:
    assert url
    found = run(*words)
    assert found[0] == code
    assert said in found[1]


def test_something_that_is_no_node(url: str) -> None:
    code, output = run("status", url + "/health")
    assert code == 1
    assert "/health/status" in output


@pytest.mark.parametrize("command", ["status", "drain", "open"])
def test_an_aggregator_is_no_node(url: str, tmp_path: Path, command: str) -> None:
    config = {"name": "site", "brokers": [{"name": "jbo", "url": url}]}
    words = [sys.executable, "-m", "wes_bridge.aggregator.main", "--config-json", json.dumps(config)]
    words += ["--state-dir", str(tmp_path / "site")]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ) as site:
        assert site.stdout is not None
        address = site.stdout.readline().split()[-1]
        code, output = run(command, address)
        site.terminate()
    assert code == 1
    assert f"{address} is no wes-bridge node" in output
    assert "an aggregator" in output
    assert "the address of one of its nodes" in output
