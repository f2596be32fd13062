"""One workflow, three real nodes that quote differently: who gets it depends on what was asked for."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from tests.service.conftest import ROOT, Service, Starter
from wes_bridge.client.errors import WaitTimeoutError

QUOTES: dict[str, dict[str, Any]] = {
    "thrifty": {
        "monetary": {"min": 0.1, "max": 0.2},
        "energy": {"min": 3, "max": 4},
        "carbon": {"min": 50, "max": 60},
        "compute_performance": {"min": 50, "max": 60},
    },
    "green": {
        "monetary": {"min": 1, "max": 1.5},
        "energy": {"min": 0.1, "max": 0.2},
        "carbon": {"min": 1, "max": 2},
        "compute_performance": {"min": 80, "max": 90},
    },
    "swift": {
        "monetary": {"min": 4, "max": 5},
        "energy": {"min": 1, "max": 2},
        "carbon": {"min": 20, "max": 30},
        "compute_performance": {"min": 250, "max": 300},
    },
}
TOOL: dict[str, Any] = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": "true",
    "inputs": {},
    "outputs": {},
}
NAMESPACES = {"wb": "urn:wes-bridge:cwl:"}


@pytest.fixture(scope="module")
def federation(start_service: Starter) -> Service:
    nodes = [
        {"name": name, "platforms": ["process"], "sandbox": "none", "quotes": quotes, "cores": 4}
        for name, quotes in QUOTES.items()
    ]
    return start_service(
        nodes=nodes,
        engine={"lease": 3, "offer_grace": 10, "offer_deadline": 30},
        fetch={"files": [str(ROOT)]},
    )


def placed(service: Service, document: Any, **parameters: str) -> list[dict[str, Any]]:
    """Run a document; its tasks."""
    run_id = service.client.submit(
        document, engine_parameters={k.replace("__", "."): v for k, v in parameters.items()}
    )
    try:
        service.client.wait(run_id, timeout=60)
    except WaitTimeoutError:
        pytest.fail(f"still going on: {json.dumps(tasks_of(service, run_id), indent=1)}")
    return tasks_of(service, run_id)


def tasks_of(service: Service, run_id: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{service.url}/ga4gh/wes/v1/runs/{run_id}/tasks", timeout=60)
    return answer.json()["task_logs"]


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "tool.cwl"
    path.write_text(json.dumps(TOOL))
    return path


@pytest.mark.parametrize(
    ("policy", "node"), [("cheapest", "thrifty"), ("greenest", "green"), ("fastest", "swift")]
)
def test_the_policy_decides(federation: Service, tool: Path, policy: str, node: str) -> None:
    (task,) = placed(federation, tool, policy=policy)
    assert (task["state"], task["node"]) == ("COMPLETE", node)
    placement = task["placement"]
    assert [entry["node"] for entry in placement["asked"]] == list(QUOTES)
    assert f"{policy} of 3 offers" in placement["reason"]
    assert placement["choice"]["policy"] == policy
    assert placement["choice"]["offers"][0]["node"] == node


def test_the_earliest_when_the_others_are_busy(federation: Service, tmp_path: Path, tool: Path) -> None:
    """Two nodes are filled with work that says it takes long; the third is free."""
    gate = tmp_path / "gate"
    busy = TOOL | {
        "baseCommand": ["sh", "-c", f"until test -e {gate}; do sleep 0.1; done"],
        "requirements": {"ResourceRequirement": {"coresMin": 4}, "ToolTimeLimit": {"timelimit": 3000}},
        "$namespaces": NAMESPACES,
    }
    runs: list[str] = []
    try:
        for node in ("thrifty", "swift"):
            path = tmp_path / f"{node}.cwl"
            path.write_text(json.dumps(busy | {"hints": {"wb:Placement": {"only": node}}}))
            runs.append(federation.client.submit(path))
        deadline = time.monotonic() + 60
        while any((tasks_of(federation, run) or [{}])[0].get("state") != "RUNNING" for run in runs):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (task,) = placed(federation, tool, policy="earliest")
        assert task["node"] == "green"
        assert "earliest of 3 offers" in task["placement"]["reason"]
    finally:
        gate.touch()
        for run in runs:
            federation.client.wait(run, timeout=60)


def test_a_limit_makes_a_no_with_words(federation: Service, tool: Path) -> None:
    (task,) = placed(federation, tool, policy="fastest", policy__max_cost="3")
    assert task["node"] == "green"
    swift = next(entry for entry in task["placement"]["asked"] if entry["node"] == "swift")
    assert re.search(r"costs up to \d+(\.\d+)?, over max_cost 3", swift["reason"])
    (task,) = placed(federation, tool, policy__max_cost="0.01")
    assert task["state"] == "SYSTEM_ERROR"
    assert "no node can run this step: thrifty: it costs up to" in task["system_logs"][0]


def test_a_steps_hint_goes_over_the_runs_policy(federation: Service, tmp_path: Path) -> None:
    hint = {"hints": {"wb:Placement": {"policy": "greenest"}}}
    step = {"in": {}, "out": [], "run": {k: v for k, v in TOOL.items() if k != "cwlVersion"}}
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "$namespaces": NAMESPACES,
        "inputs": {},
        "outputs": {},
        "steps": {"plain": step, "hinted": step | hint},
    }
    path = tmp_path / "w.cwl"
    path.write_text(json.dumps(workflow))
    nodes = {task["name"]: task["node"] for task in placed(federation, path, policy="cheapest")}
    assert nodes == {"plain": "thrifty", "hinted": "green"}


def test_a_bad_parameter_is_refused_when_it_is_submitted(federation: Service, tool: Path) -> None:
    with pytest.raises(Exception, match="there is no policy 'chepest'; known: balanced, cheapest"):
        placed(federation, tool, policy="chepest")


def test_a_failed_command_is_run_again_when_asked(federation: Service, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = tmp_path / "second.cwl"
    script = f"if test -e {mark}; then echo good; else touch {mark}; echo bad >&2; exit 3; fi"
    outputs = {"said": {"type": "stdout"}}
    path.write_text(
        json.dumps(TOOL | {"baseCommand": ["sh", "-c", script], "outputs": outputs, "stdout": "said.txt"})
    )
    run_id = federation.client.submit(path, engine_parameters={"policy.retries": "1", "policy.only": "green"})
    assert federation.client.wait(run_id, timeout=60) == "COMPLETE"
    (task,) = tasks_of(federation, run_id)
    assert task["placement"]["earlier"][0]["problem"] == "exit code 3; again, as asked for"
    assert federation.client.run(run_id)["outputs"]["said"]["size"] == len("good\n")


def test_health_is_in_service_info_and_metrics(federation: Service, tool: Path) -> None:
    placed(federation, tool)
    deadline = time.monotonic() + 60
    while True:
        info = requests.get(f"{federation.url}/ga4gh/wes/v1/service-info", timeout=60).json()
        if [broker["name"] for broker in info["brokers"]] == sorted(QUOTES) and info["brokers"][0]["asked"]:
            break
        assert time.monotonic() < deadline, info["brokers"]
        time.sleep(0.1)
    assert {broker["circuit"] for broker in info["brokers"]} == {"closed"}
    metrics = requests.get(f"{federation.url}/metrics", timeout=60).text
    assert 'wes_bridge_broker_circuit_open{broker="green"} 0' in metrics


# ---- the examples of docs/choosing.md ------------------------------------------------------------------


def documents() -> list[str]:
    text = (ROOT / "docs" / "choosing.md").read_text()
    return [block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if "cwlVersion" in block]


def test_the_examples_run(federation: Service, tmp_path: Path) -> None:
    assert documents()
    for number, text in enumerate(documents()):
        path = tmp_path / f"example{number}.cwl"
        path.write_text(text)
        tasks = placed(federation, path)
        assert tasks, text
        assert {task["state"] for task in tasks} == {"COMPLETE"}, tasks
        assert all(task["placement"]["choice"]["policy"] in text for task in tasks)


def test_the_parameters_shown_are_those_there_are(federation: Service) -> None:
    text = (ROOT / "docs" / "choosing.md").read_text()
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    info = requests.get(f"{federation.url}/ga4gh/wes/v1/service-info", timeout=60).json()
    for parameter in info["default_workflow_engine_parameters"]:
        assert f"`{parameter['name']}`" in (text if parameter["name"].startswith("policy") else pages)
    for block in re.findall(r"```yaml\n(.*?)```", text, re.S):
        yaml.safe_load(block)


# ---- a node that dies ----------------------------------------------------------------------------------


def test_a_step_whose_node_is_killed_half_way_is_asked_for_elsewhere(
    start_service: Starter, tmp_path: Path
) -> None:
    nodes = [
        {"name": name, "platforms": ["process"], "sandbox": "none", "quotes": QUOTES[name]}
        for name in ("thrifty", "green")
    ]
    service = start_service(nodes=nodes, engine={"lost_after": 1.0, "offer_deadline": 2.0})
    second = tmp_path / "second"
    mark = tmp_path / "mark"
    wait = f"until test -e {second}; do sleep 0.1; done"
    script = f"if test -e {mark}; then touch {second}; else touch {mark}; {wait}; fi"
    path = tmp_path / "long.cwl"
    path.write_text(json.dumps(TOOL | {"baseCommand": ["sh", "-c", script]}))
    run_id = service.client.submit(path, engine_parameters={"policy": "cheapest"})
    deadline = time.monotonic() + 60
    while not mark.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    deadline = time.monotonic() + 120
    # again and again: it would be back within a second, and take up its session
    while service.client.status(run_id) == "RUNNING":
        assert time.monotonic() < deadline, tasks_of(service, run_id)
        for node in service.children("wes_bridge.node.main"):
            with contextlib.suppress(psutil.NoSuchProcess):
                if '"name":"thrifty"' in " ".join(node.cmdline()):
                    node.kill()
        time.sleep(0.05)
    assert service.client.status(run_id) == "COMPLETE"
    (task,) = tasks_of(service, run_id)
    assert task["node"] == "green"
    assert task["placement"]["earlier"][0]["node"] == "thrifty"
    assert second.exists()
