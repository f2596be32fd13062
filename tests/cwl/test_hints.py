"""The Placement hint: mistakes are told with file and line, levels combine, the schema is in docs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cwl.test_walk import walk_of
from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.model.preferences import PreferencesError, combine, hint_schema, run_preferences

ROOT = Path(__file__).parents[2]
WORKFLOW = """\
cwlVersion: {version}
class: Workflow
$namespaces: {{wb: "urn:wes-bridge:cwl:"}}
hints:
  wb:Placement:
    policy: cheapest
    max_cost: 5
inputs: {{}}
outputs: {{}}
steps:
  one:
    in: {{}}
    out: []
    {step}
    run:
      class: CommandLineTool
      baseCommand: "true"
      inputs: {{}}
      outputs: {{}}
  two:
    in: {{}}
    out: []
    run:
      class: CommandLineTool
      hints: [{{class: "wb:Placement", retries: 2, never: old}}]
      baseCommand: "true"
      inputs: {{}}
      outputs: {{}}
"""


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "1000")  # as the worker does: schema-salad folds its messages


def wishes(tmp_path: Path, step: str, version: str = "v1.2") -> dict[str, Any]:
    walk = walk_of(tmp_path, WORKFLOW.format(step=step, version=version), {})
    return {job.key: combine(job.preferences()) for job in walk.advance([], 10).jobs}


@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
def test_a_steps_hint_goes_over_the_workflows(
    tmp_path: Path, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = wishes(tmp_path, "hints: {wb:Placement: {policy: greenest, max_cost: 9}}", version)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert not [text for text in warnings if "Placement" in text]  # about a class that is not CWL's
    assert found["one"].policy == "greenest"
    assert list(found["one"].max_costs.values()) == [5.0]  # limits add up
    assert (found["two"].policy, found["two"].retries, found["two"].never) == ("cheapest", 2, ("old",))


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("{policy: chepest}", "there is no policy 'chepest'; known: balanced, cheapest"),
        ("{max_cots: 1}", "did you mean 'max_cost'?"),
        ("{max_cost: -1}", "max_cost: must be greater than or equal to 0"),
        ("{max_cost: .nan}", "max_cost"),
        ("{deadline: tomorrow}", "neither an instant"),
        ("{weights: {beauty: 1}}", "weights.beauty"),
        ("{weights: {cost: 0}}", "at least one weight must be above 0"),
        ("{required: {io-throughput: fast}}", "required.io-throughput"),
        ("{retries: 1000}", "retries"),
    ],
)
def test_a_hint_that_cannot_be_understood_is_told_with_its_line(tmp_path: Path, hint: str, said: str) -> None:
    with pytest.raises(InvalidWorkflowError) as caught:
        wishes(tmp_path, f"hints: {{wb:Placement: {hint}}}")
    assert said in str(caught.value)
    assert "w.cwl:14:" in str(caught.value)


def test_as_a_requirement_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidWorkflowError, match="urn:wes-bridge:cwl:Placement"):
        wishes(tmp_path, "requirements: {wb:Placement: {policy: cheapest}}")


def test_a_runs_parameters() -> None:
    wish = combine(
        [
            run_preferences(
                {
                    "policy": "balanced",
                    "policy.weights": "time=2, cost=1",
                    "policy.only": "alpha, country=uk",
                    "policy.never": '["beta"]',
                    "policy.required": "io-throughput=200",
                    "policy.max_cost": "1.5",
                    "policy.deadline": "PT1H",
                    "policy.retries": "3",
                    "on_error": "stop",
                    "--something": "",
                }
            )
        ]
    )
    assert wish.weights == {"time": 2.0, "cost": 1.0}
    assert (wish.only, wish.never) == ((("alpha", "country=uk"),), ("beta",))
    assert (wish.retries, list(wish.max_costs.values())) == (3, [1.5])


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"policy": "best"}, "policy: there is no policy 'best'"),
        ({"policy.max_cst": "1"}, "policy.max_cst: there is no such preference; did you mean 'max_cost'?"),
        ({"policy.max_cost": "cheap"}, "policy.max_cost"),
        ({"policy.weights": "time"}, "write it as name=number"),
        ({"policy.weights": "{"}, "is not JSON"),
        ({"policy.deadline": "P1Y"}, "policy.deadline"),
        ({"policy.max_energy": "1e999"}, "policy.max_energy"),
    ],
)
def test_mistakes_in_a_runs_parameters_name_the_parameter(parameters: dict[str, str], said: str) -> None:
    with pytest.raises(PreferencesError) as caught:
        run_preferences(parameters, ["cheapest"])
    assert said in str(caught.value)


def test_the_schema_in_the_docs_is_this_one() -> None:
    path = ROOT / "docs" / "placement.schema.json"
    assert json.loads(path.read_text()) == hint_schema(), (
        "write it anew: python -m wes_bridge.model.preferences > docs/placement.schema.json"
    )
