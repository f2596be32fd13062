"""Numbers reach tools in decimals, wherever they come from and wherever they go; integers are exact."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from wes_bridge.config import FetchConfig
from wes_bridge.cwl import log, patches
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading.load import load
from wes_bridge.cwl.walking.walk import Walk
from wes_bridge.model.step_plan import StepPlan

DECIMALS = re.compile(r"-?\d+(\.\d+)?")
ONE_NUMBER = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))

EVERYWHERE = """
cwlVersion: v1.2
class: CommandLineTool
requirements:
  InlineJavascriptRequirement: {}
  EnvVarRequirement: {envDef: {NUMBER: "is $(inputs.x)"}}
  InitialWorkDirRequirement:
    listing:
    - {entryname: plain.txt, entry: "$(inputs.x)"}
    - {entryname: text.txt, entry: "x = $(inputs.x)\\n"}
    - {entryname: object.json, entry: "$({'x': inputs.x, 'said': '1e-07 and 2e+30'})"}
baseCommand: measure
arguments:
- $(inputs.x)
- {prefix: --computed, valueFrom: "${ return inputs.x; }"}
- {prefix: --inside=, separate: false, valueFrom: "<$(inputs.x)>"}
- {valueFrom: "$([inputs.x, inputs.x])", itemSeparator: ","}
inputs:
  x: {type: [double, long], inputBinding: {position: 1}}
  many: {type: "Any[]?", inputBinding: {position: 2}}
stdout: out-$(inputs.x).txt
outputs: []
"""
DEFAULT = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [measure]
inputs: {x: {type: Any, default: %s, inputBinding: {}}}
outputs: []
"""

PlanOf = Callable[[str, dict[str, Any]], StepPlan]


@pytest.fixture(scope="module")
def plan_of(tmp_path_factory: pytest.TempPathFactory) -> PlanOf:
    """What a node is asked to run for a tool and its inputs."""
    patches.install()
    log.install()
    folder = tmp_path_factory.mktemp("decimals")
    policy = Policy(FetchConfig(), [folder])
    files = fs_access(policy)

    def plan(text: str, params: dict[str, Any]) -> StepPlan:
        (folder / "tool.cwl").write_text(text)
        base = f"file://{folder}/"
        walk = Walk("run1", load(base + "tool.cwl", params, base, policy, files(base)), files, {})
        found: StepPlan = walk.advance([], 1).jobs[0].plan("file:///out")
        return found

    return plan


def texts(plan: StepPlan) -> dict[str, str]:
    return {Path(staged.path).name: staged.contents for staged in plan.staged if staged.contents is not None}


def decimals_everywhere(plan: StepPlan) -> str:
    """The one text that a number became."""
    name, first, *rest = plan.argv
    assert name == "measure"
    _, computed, inside, pair, bound = rest
    files = texts(plan)
    assert inside == f"--inside=<{first}>"
    assert pair == f"{computed},{computed}"
    assert bound == first
    assert plan.environment["NUMBER"] == f"is {first}"
    assert files["plain.txt"] == first
    assert files["text.txt"] == f"x = {first}\n"
    assert plan.stdout == f"out-{first}.txt"
    assert json.loads(files["object.json"])["said"] == "1e-07 and 2e+30"
    assert "e" not in files["object.json"].split('"x": ')[1].split("}")[0].split(",")[0]
    assert DECIMALS.fullmatch(first) and DECIMALS.fullmatch(computed)
    assert float(computed) == float(first)  # JavaScript writes 3.0 as 3
    return first


@ONE_NUMBER
@given(number=st.floats(allow_nan=False, allow_infinity=False))
@example(number=1e-05)
@example(number=-0.0)
@example(number=1e21)
@example(number=1e300)
@example(number=5e-324)
def test_a_double_of_the_job_file(plan_of: PlanOf, number: float) -> None:
    text = decimals_everywhere(plan_of(EVERYWHERE, {"x": number}))
    assert float(text) == number
    assert math.copysign(1, float(text)) == math.copysign(1, number)


@ONE_NUMBER
@given(number=st.integers(min_value=-(2**63), max_value=2**63 - 1))
@example(number=2**53 + 1)
@example(number=-(2**53) - 1)
def test_an_integer_is_exact_where_no_javascript_computes_with_it(plan_of: PlanOf, number: int) -> None:
    plan = plan_of(EVERYWHERE, {"x": number})
    assert plan.argv[1] == plan.argv[-1] == str(number)
    assert plan.environment["NUMBER"] == f"is {number}"
    assert texts(plan)["plain.txt"] == str(number)
    assert plan.stdout == f"out-{number}.txt"


@ONE_NUMBER
@given(number=st.floats(allow_nan=False, allow_infinity=False), how=st.sampled_from(["r", ".3e", "E", ".0e"]))
@example(number=6.404125492519245e249, how="r")
@example(number=-0.0, how=".0e")
@example(number=9.999e-7, how="E")
def test_a_default_of_the_document(plan_of: PlanOf, number: float, how: str) -> None:
    written = repr(number) if how == "r" else format(number, how)
    assume(math.isfinite(float(written)))
    text = plan_of(DEFAULT % written, {}).argv[1]
    assert DECIMALS.fullmatch(text)
    assert float(text) == float(written)


@pytest.mark.parametrize(
    ("written", "text"), [("1.50", "1.50"), ("1.23e5", "123000"), ("1e-9", "0.000000001"), ("3.0", "3.0")]
)
def test_a_default_keeps_its_authors_digits(plan_of: PlanOf, written: str, text: str) -> None:
    assert plan_of(DEFAULT % written, {}).argv[1] == text


@pytest.mark.parametrize(
    ("written", "text"), [(".inf", "inf"), ("-.inf", "-inf"), (".nan", "nan"), ("1E400", "inf")]
)
def test_what_has_no_decimals_is_a_word_that_tools_read(plan_of: PlanOf, written: str, text: str) -> None:
    assert plan_of(DEFAULT % written, {}).argv[1] == text


def test_an_infinity_in_texts_and_for_javascript(plan_of: PlanOf) -> None:
    looks = EVERYWHERE.replace("return inputs.x;", "return inputs.x > 1e308 ? 'huge' : 'small';")
    plan = plan_of(looks.replace("$([inputs.x, inputs.x])", "$(['a'])"), {"x": math.inf})
    assert plan.argv[1:6] == ["inf", "--computed", "huge", "--inside=<inf>", "a"]
    assert plan.environment["NUMBER"] == "is inf"
    assert texts(plan)["plain.txt"] == "inf"


def test_numbers_inside_lists(plan_of: PlanOf) -> None:
    joined = EVERYWHERE.replace("{position: 2}", "{position: 2, itemSeparator: ';'}")
    plan = plan_of(joined, {"x": 1, "many": [1e-7, 1e22, 2**53 + 1, 0.1]})
    assert plan.argv[-1] == "0.0000001;10000000000000000000000;9007199254740993;0.1"
