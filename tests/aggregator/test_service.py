"""An aggregator in the service: WES, with nothing but the aggregator to ask; and the command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.node.conftest import REPOSITORY, NodeProcess
from tests.service.conftest import Service, start_service
from wes_bridge.surface.app import load_document

__all__ = ["start_service"]

WORKFLOW = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}}
inputs: {words: "string[]"}
steps:
  say:
    scatter: word
    in: {word: words}
    out: [said]
    run:
      class: CommandLineTool
      baseCommand: echo
      inputs: {word: {type: string, inputBinding: {}}}
      outputs: {said: stdout}
  join:
    in: {files: say/said}
    out: [all]
    run:
      class: CommandLineTool
      baseCommand: cat
      inputs: {files: {type: "File[]", inputBinding: {}}}
      outputs: {all: stdout}
outputs: {all: {type: File, outputSource: join/all}}
"""


def run_words(service: Service, folder: Path) -> str:
    path = folder / "words.cwl"
    path.write_text(WORKFLOW)
    words = ["one", "two", "three"]
    run_id = service.client.submit(path, {"words": words})
    service.client.wait(run_id, timeout=180)
    run = service.client.run(run_id)
    assert run["state"] == "COMPLETE", run["run_log"]["system_logs"]
    assert run["outputs"]["all"]["size"] == len("one\ntwo\nthree\n")
    return str(run_id)


def test_a_workflow_with_only_an_aggregator_to_ask(
    start_service: Any, nodes: list[NodeProcess], tmp_path: Path
) -> None:
    brokers = [{"name": node.config["name"], "url": node.url} for node in nodes]
    service = start_service(nodes=[], aggregator={"name": "site", "brokers": brokers})
    assert len(service.children("wes_bridge.aggregator.main")) == 1
    run_id = run_words(service, tmp_path)
    made = {f"site/{node.config['name']}" for node in nodes}
    shown = [task["node"] for task in service.client.tasks(run_id)]
    assert shown
    assert set(shown) <= made  # people see where it ran, not only whom we asked


def test_an_aggregator_before_the_services_own_nodes(start_service: Any, tmp_path: Path) -> None:
    nodes = [{"name": name, "platforms": ["process"]} for name in ("a", "b")]
    service = start_service(nodes=nodes, aggregator={})
    (child,) = service.children("wes_bridge.aggregator.main")
    child.kill()
    run_words(service, tmp_path)  # it is started again, at the same address


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Any]:
    """Runs ``wes-bridge aggregate``."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        env = {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
        process = subprocess.Popen(
            [sys.executable, "-m", "wes_bridge.cli.main", "aggregate", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=env | {"PYTHONPATH": str(REPOSITORY)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_command(command: Any, nodes: list[NodeProcess], tmp_path: Path) -> None:
    process = command("--broker", f"n1={nodes[0].url}", "--name", "edge", "--state", "here")
    match = re.fullmatch(
        r"wes-bridge aggregator edge is ready at (http://127.0.0.1:\d+)\n", process.stdout.readline()
    )
    assert match
    assert nodes[0].http.get(f"{match[1]}/health").json()["brokers"] == ["n1"]
    assert (tmp_path / "here" / "aggregator.db").is_file()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    taken = command("--broker", f"n1={nodes[0].url}", "--port", nodes[0].url.rpartition(":")[2])
    told = taken.communicate(timeout=60)[1]
    assert "cannot listen on" in told
    assert "choose another with --port" in told
    assert taken.returncode == 1


def test_what_is_wrong_is_said_at_once(command: Any, tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(
        "brokers: [{name: a, url: 'http://a'}, {name: a, url: 'http://b'}]\n"
        "trusted_proxies: [nowhere]\n"
        "defaults: {duration: soon}\n"
        "data: [{prefix: 'x:', replicas: [{url: 'y:', brokers: [z]}]}]\n"
        "ofers: 3\n"
    )
    process = command("--config", "site.yaml")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 2
    for words in (
        "brokers[1].name: 'a' is the name of brokers[0] too",
        "trusted_proxies[0]: 'nowhere' is neither an address nor a network",
        "defaults.duration: ",
        "replicas[0].brokers: no broker is called 'z'",
        "did you mean 'offers'?",
    ):
        assert words in said, said


@pytest.mark.slow
def test_no_request_makes_it_fail(site: Any, tmp_path: Path) -> None:
    """schemathesis: many requests made from the document, good and bad; none may end in a 5xx."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        pytest.skip("schemathesis is not installed")
    document = load_document("execution-broker.yaml")
    document["paths"] |= load_document("aggregator.yaml")["paths"]
    path = tmp_path / "aggregator.json"
    path.write_text(json.dumps(document))
    words = [str(program), "run", str(path), "--url", site.url, "--checks", "not_a_server_error"]
    words += [
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "10",
        "--max-time",
        "50",
        "--suppress-health-check",
        "all",
        "--seed",
        "1",
        "--no-color",
    ]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
