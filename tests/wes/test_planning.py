"""POST /runs/plan: checked like a submission, answered by a planner of its own, nothing kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import requests
from wes_server import GOOD, Server, is_error, start

from wes_bridge.config import EngineConfig, ServiceConfig
from wes_bridge.wes.document import load_document

TOOL = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": "cat",
    "requirements": {"InlineJavascriptRequirement": {}},
    "inputs": {"f": {"type": "File", "inputBinding": {}}, "n": {"type": "int", "default": 1}},
    "outputs": {},
}


@pytest.fixture(scope="module")
def planning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without nodes: plans say that nobody offers anything."""
    yield from start(ServiceConfig(state_dir=tmp_path_factory.mktemp("plan"), nodes=[]))


def ask(server: Server, tool: dict[str, Any], params: dict[str, Any], **files: bytes) -> requests.Response:
    fields = GOOD | {"workflow_url": "w.cwl", "workflow_params": json.dumps(params)}
    parts: list[tuple[str, Any]] = [(name, (None, value)) for name, value in fields.items()]
    parts += [("workflow_attachment", (name, content)) for name, content in files.items()]
    parts.append(("workflow_attachment", ("w.cwl", json.dumps(tool).encode())))
    return server.post("/runs/plan", files=parts)


def test_a_plan_is_as_the_document_says_and_leaves_nothing(planning: Server) -> None:
    answer = ask(planning, TOOL, {"f": {"class": "File", "location": "data"}}, data=b"12345")
    assert answer.status_code == 200, answer.text
    plan = answer.json()
    schemas = {"components": load_document()["components"], "$ref": "#/components/schemas/RunPlan"}
    jsonschema.validate(plan, schemas)
    (step,) = plan["steps"]
    assert step["reads"] == {"bytes": 5, "unknown": 0}
    assert "chosen" not in step
    assert plan["notes"] == ["no nodes are configured"]
    assert [path for path in planning.workspace.root.rglob("*") if path.name != ".incoming"] == []
    assert planning.get("/runs").json()["runs"] == []


def test_a_second_plan_is_made_by_the_planner_that_waits(planning: Server) -> None:
    params = {"f": {"class": "File", "location": "data"}}
    for content in (b"1", b"22"):
        answer = ask(planning, TOOL, params, data=content)
        assert answer.json()["totals"]["reads"]["bytes"] == len(content)


@pytest.mark.parametrize(
    ("tool", "params", "said"),
    [
        (TOOL | {"class": "Tool"}, {}, "w.cwl:"),
        (TOOL, {}, "'f'"),
        (TOOL, {"f": {"class": "File", "location": "missing"}}, "missing"),
        (TOOL, {"f": {"class": "File", "location": "file:///etc/passwd"}}, "passwd"),
        (TOOL | {"requirements": {"DockerRequirement": {"dockerFile": "FROM x"}}}, {}, ""),
    ],
)
def test_what_cannot_be_planned_is_a_bad_request(
    planning: Server, tool: dict[str, Any], params: dict[str, Any], said: str
) -> None:
    is_error(ask(planning, tool, params), 400, said)


def test_submissions_are_checked_first(planning: Server) -> None:
    is_error(planning.post("/runs/plan", json={}), 400, "workflow_url")
    is_error(planning.post("/runs/plan", data=b""), 400)
    bad = GOOD | {"workflow_engine_parameters": {"policy": "luckiest"}}
    is_error(planning.post("/runs/plan", json=bad), 400, "luckiest")


def test_the_server_answers_while_a_plan_takes_long_and_ends_it(tmp_path: Path) -> None:
    """An expression that never ends; the planner is killed when its time is over."""
    engine = EngineConfig(plan_timeout=6, expression_timeout=300)
    endless = TOOL | {
        "inputs": {"n": "int"},
        "arguments": ["${ while (true) {} }"],
    }
    for server in start(ServiceConfig(state_dir=tmp_path / "state", engine=engine, nodes=[])):
        answers: list[requests.Response] = []
        thread = threading.Thread(target=lambda: answers.append(ask(server, endless, {"n": 1})))  # noqa: B023
        thread.start()
        while thread.is_alive():
            assert requests.get(server.url + "/service-info", timeout=60).status_code == 200
            thread.join(0.2)
        is_error(answers[0], 400, "6 s", "engine.plan_timeout")
        assert list(server.workspace.root.glob(".incoming/*")) == []
