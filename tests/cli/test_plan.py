"""``wes-bridge plan``: the table, the files, the exit codes; here and at a service."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from tests.cli.conftest import Command
from wes_bridge import WESClient
from wes_bridge.cli import plan_picture, plan_view
from wes_bridge.cli.commands.plan import plan as plan_command
from wes_bridge.model.run_plan import (
    Answer,
    Chosen,
    Moved,
    PlannedStep,
    Range,
    RunPlan,
    Total,
    Totals,
)
from wes_bridge.wes.document import load_document

EXAMPLES = Path(__file__).parents[2] / "examples" / "tutorial"
DEMO = Path(__file__).parents[2] / "cwl" / "demo" / "workflow.cwl"


def a_plan(*steps: PlannedStep) -> RunPlan:
    total = Total(min=1.0, max=2.0)
    return RunPlan(
        workflow="file:///x/w.cwl",
        created="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
        policy="earliest",
        steps=list(steps),
        nodes=["alpha", "beta"],
        totals=Totals(
            tasks=len(steps),
            complete=True,
            cost=total,
            energy=total,
            carbon=total,
            reads=Moved(),
            move=Moved(),
            end=100.0,
        ),
    )


def a_step(name: str, **more: Any) -> PlannedStep:
    chosen = Chosen(
        node="alpha",
        reason="first <of> all",
        wait=1,
        duration=60,
        cost=Range(min=0.1, max=0.2),
        move=Moved(bytes=1500, unknown=2),
    )
    fields: dict[str, Any] = {"chosen": chosen, "start": 1.0, "end": 61.0, "count": 1, "places": [name]}
    return PlannedStep.model_validate({"name": name, "certainty": "known"} | fields | more)


def test_rows_multiply_costs_and_say_what_is_not_known() -> None:
    many, open_, none = (
        a_step("many", count=1000),
        a_step("open", count=None, certainty="estimated", optional=True),
        a_step("none", chosen=None, start=None, end=None),
    )
    rows = [
        dict(zip(plan_view.COLUMNS, row, strict=True)) for row in plan_view.rows(a_plan(many, open_, none))
    ]
    assert (rows[0]["runs"], rows[0]["cost"], rows[0]["to move"]) == (
        "x1000",
        "100-200",
        "1.5 kB + 2 unknown",
    )
    assert (rows[1]["step"], rows[1]["runs"], rows[1]["cost"]) == ("open?", "xN?", "0.1-0.2 each")
    assert rows[1]["how sure"] == "estimated"
    assert rows[2]["node"] == "nobody"


def test_refusals_name_node_and_reason_once() -> None:
    answers = [Answer(node="alpha", offers=0, reason="too big"), Answer(node="beta", offers=1)]
    steps = [a_step(name, chosen=None, answers=answers) for name in ("a", "b", "c")]
    assert list(plan_view.refusals(a_plan(*steps))) == ["a and 2 more: alpha: too big"]


def test_the_picture_shows_each_step_once() -> None:
    steps = [a_step(f"step{number} <&>", critical=number == 0) for number in range(5)]
    steps += [a_step("later", start=61.0, end=100.0), a_step("no one", chosen=None, start=None, end=None)]
    root = ET.fromstring(plan_picture.svg(a_plan(*steps)))
    space = "{http://www.w3.org/2000/svg}"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert sorted(title.split(" x1")[0] for title in titles) == sorted(step.name for step in steps[:-1])
    bars = [bar for bar in root.iter(f"{space}rect") if "bar" in bar.get("class", "")]
    spans = [(bar.get("y"), float(bar.get("x", 0)), float(bar.get("width", 0))) for bar in bars]
    for one in spans:
        for other in spans:
            if one is not other and one[0] == other[0]:
                assert one[1] + one[2] <= other[1] + 0.2 or other[1] + other[2] <= one[1] + 0.2
    assert sum("critical" in bar.get("class", "") for bar in bars) == 1
    assert "no one" in "".join(root.itertext())


def test_an_empty_plan_has_a_picture() -> None:
    ET.fromstring(plan_picture.svg(a_plan()))


def test_a_chain_here(command: Command, tmp_path: Path) -> None:
    """Table, requests and picture of the tutorial's chain, on a node of one's own."""
    done = command(
        "wes-bridge",
        "plan",
        str(EXAMPLES / "chain.cwl"),
        str(EXAMPLES / "chain-job.yml"),
        "--requests",
        "requests",
        "--picture",
        "plan.svg",
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert lines[0] == list(plan_view.COLUMNS)
    assert [(line[0], line[1], line[2], line[-1]) for line in lines[1:3]] == [
        ("sort", "x1", "here", "known"),
        ("top", "x1", "here", "estimated"),
    ]
    ET.parse(tmp_path / "plan.svg")
    schema = {
        "components": load_document("execution-broker.yaml")["components"],
        "$ref": "#/components/schemas/ExecutionRequest",
    }
    texts = sorted((tmp_path / "requests").iterdir())
    assert [path.name for path in texts] == [
        "001-sort.json",
        "001-sort.yaml",
        "002-top.json",
        "002-top.yaml",
    ]
    for path in texts:
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)


def test_a_step_that_nobody_offers(command: Command, tmp_path: Path) -> None:
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": "true",
        "inputs": {},
        "outputs": {},
        "requirements": {"ResourceRequirement": {"coresMin": 100_000}},
    }
    (tmp_path / "big.cwl").write_text(json.dumps(tool))
    done = command("wes-bridge", "plan", "big.cwl")
    assert done.returncode == 1
    assert "nobody" in done.stdout
    assert "100000" in done.stdout, "the node's reason is shown"


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("cwlVersion: v1.2\nclass: Wrkflow\n", 1, "bad.cwl:"),
        (
            "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: x\ninputs: {n: int}\noutputs: {}\n",
            1,
            "'n'",
        ),
        (
            "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: x\ninputs: {}\noutputs: {}\n"
            "requirements: {DockerRequirement: {dockerFile: FROM x}}\n",
            33,
            "dockerPull",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    command: Command, tmp_path: Path, service_url: str, text: str, code: int, said: str
) -> None:
    (tmp_path / "bad.cwl").write_text(text)
    done = command("wes-bridge", "plan", "--wes", service_url, "bad.cwl")
    assert done.returncode == code, done.stderr
    assert said in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["w.cwl", "--wes", "http://127.0.0.1:1", "--config", "x.yaml"], "--config"),
        (["w.cwl", "--picture", "plan.jpg"], "FILE.svg"),
    ],
)
def test_wrong_usage(words: list[str], said: str) -> None:
    done = CliRunner().invoke(plan_command, words)
    assert done.exit_code == 2
    assert said in done.output


def test_the_plan_of_a_service_is_what_the_run_does(command: Command, service_url: str) -> None:
    """The same steps, the same node; and planning leaves no run behind."""
    workflow, job = EXAMPLES / "words.cwl", EXAMPLES / "words-job.yml"
    with WESClient(service_url) as client:
        before = client.service_info()["system_state_counts"]
        done = command("wes-bridge", "plan", "--wes", service_url, "--json", str(workflow), str(job))
        assert done.returncode == 0, done.stderr
        assert client.service_info()["system_state_counts"] == before
        found = RunPlan.model_validate_json(done.stdout)
        places = [place for step in found.steps for place in step.places]
        run_id = client.submit(workflow, job)
        assert client.wait(run_id, timeout=120) == "COMPLETE"
        assert Counter(places) == Counter(task["name"] for task in client.tasks(run_id))


def test_uploaded_files_are_planned_with(service_url: str) -> None:
    with WESClient(service_url, upload=True) as client:
        found = client.plan(EXAMPLES / "chain.cwl", EXAMPLES / "chain-job.yml")
    assert [step["name"] for step in found["steps"]] == ["sort", "top"]
    assert found["totals"]["reads"]["bytes"] == (EXAMPLES / "sources.txt").stat().st_size
