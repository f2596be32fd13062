"""Plans: what is known before a run, what is not, what nodes say to it; and that nothing is accepted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cwl.pipeline import pipeline
from tests.federation.fake_broker import FakeBroker
from tests.node.conftest import NodeProcess
from wes_bridge.config import BrokerConfig, EngineConfig, FetchConfig, ServiceConfig
from wes_bridge.cwl.expanding.expand import Expansion
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading.load import load
from wes_bridge.cwl.tools.context import run_context
from wes_bridge.cwl.walking.walk import Finished, Walk
from wes_bridge.engine.plan.main import Job, Result, make_plan, prepare
from wes_bridge.federation.asking import Reply
from wes_bridge.federation.placing import Federation
from wes_bridge.model.quantities import COST_MONETARY
from wes_bridge.model.run_plan import PlannedStep, RunPlan
from wes_bridge.model.units import format_instant, utcnow
from wes_bridge.wes.document import load_document

Plan = Callable[..., RunPlan]
ALL = {
    name: {}
    for name in (
        "InlineJavascriptRequirement",
        "MultipleInputFeatureRequirement",
        "ScatterFeatureRequirement",
        "StepInputExpressionRequirement",
        "SubworkflowFeatureRequirement",
    )
}


@pytest.fixture(autouse=True, scope="module")
def cwltool_as_ours() -> None:
    prepare("v1.2")


@pytest.fixture
def brokers() -> Iterator[list[FakeBroker]]:
    made = [FakeBroker(), FakeBroker()]
    for number, broker in enumerate(made):
        broker.more = {"schedule": _schedule(60 * (number + 1))}
        broker.costs = {COST_MONETARY: (1.0 + number, 2.0 + number)}
    yield made
    for broker in made:
        broker.close()


def _schedule(wait: int) -> dict[str, Any]:
    start = format_instant(utcnow() + timedelta(seconds=wait))
    return {"available": {"start": f"{start}/PT0S", "duration": "PT10M"}}


@pytest.fixture
def result(tmp_path: Path, brokers: list[FakeBroker]) -> Callable[..., Result]:
    """Plans a document with inputs on both brokers."""

    def make(document: Any, params: dict[str, Any] | None = None, **parameters: str) -> Result:
        path = document
        if not isinstance(document, Path):
            path = tmp_path / "w.cwl"
            path.write_text(document if isinstance(document, str) else json.dumps(document))
        config = ServiceConfig(
            state_dir=tmp_path / "state",
            fetch=FetchConfig(files=[tmp_path]),
            engine=EngineConfig(offer_deadline=20, offer_grace=20, expression_timeout=2),
            nodes=[],
            brokers=[
                BrokerConfig(name=f"node{number}", url=broker.url)  # type: ignore[arg-type]
                for number, broker in enumerate(brokers)
            ],
        )
        request = {
            "workflow_url": path.as_uri(),
            "workflow_params": params or {},
            "workflow_engine_parameters": parameters,
        }
        job = Job(config=config, request=request, run_id="r1", folder=tmp_path / "r1")
        return asyncio.run(make_plan(job))

    return make


@pytest.fixture
def plan(result: Callable[..., Result]) -> Plan:
    def make(document: Any, params: dict[str, Any] | None = None, **parameters: str) -> RunPlan:
        found = result(document, params, **parameters)
        assert found.plan is not None, found.error
        return found.plan

    return make


def tool(**more: Any) -> dict[str, Any]:
    return {
        "class": "CommandLineTool",
        "baseCommand": ["echo"],
        "inputs": {"x": {"type": "Any", "inputBinding": {}}},
        "outputs": {
            "y": {"type": "int", "outputBinding": {"outputEval": "$(1)"}},
            "ys": {"type": "int[]", "outputBinding": {"outputEval": "$([1])"}},
        },
        "requirements": {"InlineJavascriptRequirement": {}},
        **more,
    }


def workflow(steps: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    for step in steps.values():
        step.setdefault("run", tool())
        step.setdefault("out", ["y", "ys"])
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": ALL,
        "inputs": inputs,
        "outputs": {},
        "steps": steps,
    }


def by_name(plan: RunPlan) -> dict[str, PlannedStep]:
    assert len({step.name for step in plan.steps}) == len(plan.steps)
    return {step.name: step for step in plan.steps}


def test_a_chain_is_known_at_its_start_and_estimated_after(plan: Plan) -> None:
    found = by_name(plan(workflow({"a": {"in": {"x": "n"}}, "b": {"in": {"x": "a/y"}}}, n="int"), {"n": 5}))
    assert (found["a"].certainty, found["a"].command) == ("known", ["echo", "5"])
    assert (found["b"].certainty, found["b"].command, found["b"].after) == ("estimated", ["echo"], ["a"])
    assert found["b"].unknown == ["input x comes from a"]


def test_the_better_offer_is_named_with_its_figures(plan: Plan) -> None:
    found = plan(workflow({"a": {"in": {"x": "n"}}}, n="int"), {"n": 5})
    chosen = found.steps[0].chosen
    assert chosen is not None
    assert (chosen.node, chosen.duration) == ("node0", 600)
    assert chosen.wait is not None and 0 < chosen.wait <= 60
    assert (found.totals.cost.min, found.totals.cost.max, found.totals.cost.complete) == (1.0, 2.0, True)
    assert "node1" in chosen.reason


def test_the_policy_of_the_request_decides(plan: Plan, brokers: list[FakeBroker]) -> None:
    brokers[1].costs = {COST_MONETARY: (0.1, 0.2)}
    found = plan(workflow({"a": {"in": {"x": "n"}}}, n="int"), {"n": 5}, policy="cheapest")
    assert found.policy == "cheapest"
    assert found.steps[0].chosen is not None and found.steps[0].chosen.node == "node1"


def test_nothing_is_accepted_and_every_offer_is_rejected(plan: Plan, brokers: list[FakeBroker]) -> None:
    plan(
        workflow({"a": {"in": {"x": "n"}}, "b": {"in": {"x": "a/y"}}}, n="int"),
        {"n": 5},
    )
    for broker in brokers:
        assert len(broker.requests) == 2
        assert broker.updates == ["REJECTED"] * 2


def test_a_real_node_has_rejected_all_it_offered(
    tmp_path: Path, result: Callable[..., Result], brokers: list[FakeBroker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked itself, once the plan is there: none of its sessions was accepted, nor is one still offered."""
    offered: list[str] = []
    give_back = Federation.give_back

    def spy(federation: Federation, replies: list[Reply]) -> None:
        offered.extend(candidate.url for reply in replies for candidate in reply.candidates)
        give_back(federation, replies)

    monkeypatch.setattr(Federation, "give_back", spy)
    node = NodeProcess(tmp_path / "node", {"name": "test", "platforms": ["process"]}).start()
    try:
        monkeypatch.setattr(brokers[0], "url", node.url)
        document = workflow({"a": {"scatter": "x", "in": {"x": "ns"}}, "b": {"in": {"x": "a/y"}}}, ns="int[]")
        found = result(document, {"ns": [1, 2, 3]})
        assert found.plan is not None
        assert found.plan.is_possible
        sessions = [url for url in offered if url.startswith(node.url)]
        assert len(sessions) == 2
        assert [node.http.get(url).json()["phase"] for url in sessions] == ["REJECTED"] * 2
    finally:
        node.stop()


def test_a_wide_scatter_is_asked_for_once(plan: Plan, brokers: list[FakeBroker]) -> None:
    document = workflow({"wide": {"scatter": "x", "in": {"x": "ns"}}}, ns="int[]")
    found = plan(document, {"ns": list(range(1000))})
    (step,) = found.steps
    assert (step.count, step.label, step.certainty, len(step.places)) == (1000, "x1000", "known", 1000)
    assert step.places[999] == "wide[999]"
    assert [len(broker.requests) for broker in brokers] == [1, 1]
    assert found.totals.cost.max == 2000.0


def test_elements_that_ask_for_different_things_are_told_apart(plan: Plan) -> None:
    run = tool(
        requirements={
            "InlineJavascriptRequirement": {},
            "ResourceRequirement": {"coresMin": "$(inputs.x)"},
        }
    )
    found = plan(
        workflow({"s": {"scatter": "x", "in": {"x": "ns"}, "run": run}}, ns="int[]"), {"ns": [1, 2, 1]}
    )
    assert [(step.cores, step.places) for step in found.steps] == [(1, ["s[0]", "s[2]"]), (2, ["s[1]"])]


def test_a_scatter_over_a_list_that_is_not_there_yet(plan: Plan) -> None:
    found = plan(
        workflow(
            {
                "list": {"in": {"x": "n"}},
                "wide": {"scatter": "x", "in": {"x": "list/ys"}},
                "join": {"in": {"x": "wide/y"}},
            },
            n="int",
        ),
        {"n": 1},
    )
    steps = by_name(found)
    assert (steps["wide"].count, steps["wide"].label, steps["wide"].places) == (None, "xN?", ["wide[?]"])
    assert steps["join"].count == 1
    assert not found.totals.complete
    assert not found.totals.cost.complete


def test_the_width_is_known_where_only_the_elements_are_not(plan: Plan) -> None:
    """Results of a scatter of known width are a list of known width."""
    found = by_name(
        plan(
            workflow(
                {
                    "first": {"scatter": "x", "in": {"x": "ns"}},
                    "second": {"scatter": "x", "in": {"x": "first/y"}},
                    "twice": {
                        "scatter": "x",
                        "in": {"x": {"source": ["first/y", "second/y"], "linkMerge": "merge_flattened"}},
                    },
                },
                ns="int[]",
            ),
            {"ns": [1, 2, 3]},
        )
    )
    assert (found["second"].count, found["second"].certainty) == (3, "estimated")
    assert found["twice"].count == 6


@pytest.mark.parametrize(("flag", "count", "skipped"), [(True, 1, []), (False, 0, ["b"])])
def test_a_condition_that_is_known_is_followed(
    plan: Plan, flag: bool, count: int, skipped: list[str]
) -> None:
    """Though other inputs of the step are not known."""
    found = plan(
        workflow(
            {
                "a": {"in": {"x": "flag"}},
                "b": {"in": {"x": "a/y", "flag": "flag"}, "when": "$(inputs.flag)"},
            },
            flag="boolean",
        ),
        {"flag": flag},
    )
    assert sum(step.name == "b" for step in found.steps) == count
    assert found.skipped == skipped


def test_a_condition_that_is_not_known_is_told(plan: Plan) -> None:
    found = by_name(
        plan(
            workflow(
                {
                    "a": {"in": {"x": "n"}},
                    "b": {"in": {"x": "n", "go": "a/y"}, "when": "$(inputs.go > 3)"},
                },
                n="int",
            ),
            {"n": 1},
        )
    )
    assert found["b"].optional
    assert found["b"].after == ["a"]
    assert found["b"].certainty == "known", "its command is known: only whether it runs is not"


def test_resources_are_known_where_their_expressions_look_at_what_is(plan: Plan) -> None:
    run = tool(
        inputs={"x": {"type": "Any", "inputBinding": {}}, "threads": "int"},
        requirements={
            "InlineJavascriptRequirement": {},
            "ResourceRequirement": {"coresMin": "$(inputs.threads)", "ramMin": "${ return inputs.x * 2 }"},
            "ToolTimeLimit": {"timelimit": 77},
            "NetworkAccess": {"networkAccess": True},
            "DockerRequirement": {"dockerPull": "example.org/image:1"},
        },
    )
    step = by_name(
        plan(
            workflow(
                {"a": {"in": {"x": "n"}}, "b": {"in": {"x": "a/y", "threads": "n"}, "run": run}}, n="int"
            ),
            {"n": 4},
        )
    )["b"]
    assert (step.cores, step.time_limit, step.network, step.image) == (4, 77, True, "example.org/image:1")
    assert step.memory is None
    assert step.unknown == ["input x comes from a", "ramMin is computed from a"]


def test_expression_tools_are_worked_out(plan: Plan) -> None:
    run = {
        "class": "ExpressionTool",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {"x": "int"},
        "outputs": {"ys": "int[]"},
        "expression": "${ var ys = []; for (var i = 0; i < inputs.x; i++) ys.push(i); return {ys: ys}; }",
    }
    found = plan(
        workflow(
            {
                "list": {"in": {"x": "n"}, "run": run, "out": ["ys"]},
                "s": {"scatter": "x", "in": {"x": "list/ys"}},
            },
            n="int",
        ),
        {"n": 7},
    )
    assert by_name(found)["s"].count == 7


def test_directories_are_measured(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "ms" / "sub").mkdir(parents=True)
    (tmp_path / "ms" / "sub" / "f").write_bytes(b"x" * 1000)
    (tmp_path / "ms" / "g").write_bytes(b"x" * 234)
    document = workflow({"s": {"scatter": "x", "in": {"x": "ds"}}}, ds="Directory[]")
    item = {"class": "Directory", "location": (tmp_path / "ms").as_uri()}
    (step,) = plan(document, {"ds": [item, item]}).steps
    assert (step.reads.bytes, step.reads.unknown) == (2468, 0)
    assert step.chosen is not None and step.chosen.move.bytes == 2468


def test_refusals_are_told_by_node(plan: Plan, brokers: list[FakeBroker]) -> None:
    brokers[0].refuse, brokers[1].refuse = "too many cores", "closed today"
    found = plan(workflow({"a": {"in": {"x": "n"}}}, n="int"), {"n": 5})
    (step,) = found.steps
    assert step.chosen is None
    assert [(answer.node, answer.reason) for answer in step.answers] == [
        ("node0", "too many cores"),
        ("node1", "closed today"),
    ]
    assert not found.is_possible
    assert found.totals.end is None


def test_offers_over_a_limit_are_refused_with_the_reason(plan: Plan, brokers: list[FakeBroker]) -> None:
    found = plan(workflow({"a": {"in": {"x": "n"}}}, n="int"), {"n": 5}, **{"policy.max_cost": "2.5"})
    answers = {answer.node: answer for answer in found.steps[0].answers}
    assert (answers["node0"].offers, answers["node1"].offers) == (1, 0)
    assert "max_cost" in answers["node1"].refused[0]
    assert brokers[1].updates == ["REJECTED"]


def test_the_timeline_follows_what_steps_wait_for(plan: Plan) -> None:
    found = plan(
        workflow(
            {"a": {"in": {"x": "n"}}, "b": {"in": {"x": "a/y"}}, "c": {"in": {"x": "n"}}},
            n="int",
        ),
        {"n": 1},
    )
    steps = by_name(found)
    a, b = steps["a"], steps["b"]
    assert a.end is not None and b.start is not None and b.end is not None
    assert b.start >= a.end >= 600
    assert found.totals.end == b.end
    assert [step.name for step in found.steps if step.critical] == ["a", "b"]


@pytest.mark.parametrize(
    ("document", "params", "said"),
    [
        ("class: Workflow", {}, "cwlVersion"),
        ("cwlVersion: v1.2\nclass: Wrkflow\n", {}, "w.cwl:"),
        (workflow({"a": {"in": {"x": "n"}}}, n="int"), {}, "'n'"),
        (workflow({"a": {"in": {"x": "n"}}}, n="int"), {"n": "text"}, "n"),
        (
            workflow({"a": {"in": {"x": "f"}}}, f="File"),
            {"f": {"class": "File", "location": "no.txt"}},
            "no.txt",
        ),
        (tool(cwlVersion="v1.2", inputs={"x": "int"}), {"x": "text"}, "x"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    result: Callable[..., Result], document: Any, params: dict[str, Any], said: str
) -> None:
    found = result(document, params)
    assert found.plan is None
    assert said in (found.error or "")


def test_unknown_policies_are_refused(result: Callable[..., Result]) -> None:
    found = result(workflow({"a": {"in": {"x": "n"}}}, n="int"), {"n": 1}, policy="luckiest")
    assert "luckiest" in (found.error or "")


def test_unsupported_steps_are_told(plan: Plan) -> None:
    run = tool(hints=None, requirements={"DockerRequirement": {"dockerFile": "FROM x"}})
    run.pop("hints")
    found = plan(workflow({"a": {"in": {"x": "n"}, "run": run}}, n="int"), {"n": 1})
    assert found.is_unsupported
    assert "dockerPull" in (found.steps[0].problem or "")


def test_a_step_that_would_fail_is_a_problem_and_the_rest_is_planned(plan: Plan) -> None:
    found = plan(
        workflow(
            {
                "a": {"in": {"x": {"source": "n", "valueFrom": "$(inputs.nope.nope)"}}},
                "b": {"in": {"x": "n"}},
            },
            n="int",
        ),
        {"n": 1},
    )
    assert [step.name for step in found.steps] == ["b"]
    assert found.problems[0].startswith("a: ")
    assert not found.is_possible


def test_an_endless_expression_is_stopped(result: Callable[..., Result]) -> None:
    document = workflow({"a": {"in": {"x": {"source": "n", "valueFrom": "${ while (true) {} }"}}}}, n="int")
    found = result(document, {"n": 1})
    assert found.plan is not None
    assert "stopped" in found.plan.problems[0]


def test_requests_are_as_our_document_says(plan: Plan, brokers: list[FakeBroker], tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    document = workflow({"a": {"in": {"x": "f"}}, "b": {"in": {"x": "a/y"}}}, f="File")
    found = plan(document, {"f": {"class": "File", "location": (tmp_path / "f").as_uri()}})
    api = load_document("execution-broker.yaml")
    schema = {"components": api["components"], "$ref": "#/components/schemas/ExecutionRequest"}
    for step in found.steps:
        jsonschema.validate(step.request, schema)
    assert found.steps[0].request in brokers[0].requests, "what was asked, to the byte"


def test_the_api_document_describes_the_plan() -> None:
    document = load_document()["components"]["schemas"]
    assert set(document["RunPlan"]["properties"]) == set(RunPlan.model_fields)
    assert set(document["PlannedStep"]["properties"]) == set(PlannedStep.model_fields)


def walked(path: Path, params: dict[str, Any], folder: Path) -> list[str]:
    """Places of the tasks of a real walk in which every job ends well at once."""
    policy = Policy(FetchConfig(files=[folder]), [folder])
    files = fs_access(policy)
    base = folder.as_uri() + "/"
    walk = Walk("r1", load(path.as_uri(), params, base, policy, files(base)), files, {})
    places: list[str] = []
    finished: list[Finished] = []
    while walk.status is None:
        pulled = walk.advance(finished, 10)
        if pulled.stuck and not pulled.jobs:
            break
        finished = [Finished(job, {"y": 1, "ys": [1, 2]}, "success") for job in pulled.jobs]
        places += [job.key for job in pulled.jobs]
    return places


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Any]:
    """Workflows whose widths are known: chains, scatters of scatters, sub-workflows, conditions on inputs."""
    steps: dict[str, Any] = {}
    scalars, lists = ["n"], ["ns"]
    for number in range(draw(st.integers(1, 5))):
        name = f"s{number}"
        step: dict[str, Any] = {"in": {"x": draw(st.sampled_from(scalars))}}
        kind = draw(st.sampled_from(["plain", "scatter", "cross", "flat", "when", "sub"]))
        if kind in ("scatter", "sub"):
            step = {"in": {"x": draw(st.sampled_from(lists))}, "scatter": "x"}
        if kind in ("cross", "flat"):
            run = tool(inputs={"x": "Any", "z": "Any"})
            method = "nested_crossproduct" if kind == "cross" else "flat_crossproduct"
            step = {
                "in": {"x": draw(st.sampled_from(lists)), "z": "ns"},
                "scatter": ["x", "z"],
                "scatterMethod": method,
                "run": run,
            }
        if kind == "sub":
            step["run"] = {
                "class": "Workflow",
                "inputs": {"x": "Any"},
                "outputs": {"y": {"type": "int", "outputSource": "in2/y"}},
                "steps": {
                    "in1": {"run": tool(), "in": {"x": "x"}, "out": ["y"]},
                    "in2": {"run": tool(), "in": {"x": "in1/y"}, "out": ["y"]},
                },
            }
            step["out"] = ["y"]
        if kind == "when":
            step["in"]["flag"] = "flag"
            step["when"] = draw(st.sampled_from(["$(inputs.flag)", "$(!inputs.flag)"]))
        steps[name] = step
        if kind == "plain":
            scalars.append(f"{name}/y")
        elif kind in ("scatter", "sub", "flat"):
            lists.append(f"{name}/y")
    return workflow(steps, n="int", ns="int[]", flag="boolean")


@settings(max_examples=25, deadline=None)
@given(document=graphs(), width=st.integers(0, 3), flag=st.booleans())
def test_a_plan_names_the_tasks_of_the_run(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, Any], width: int, flag: bool
) -> None:
    folder = tmp_path_factory.mktemp("graph")
    path = folder / "w.cwl"
    path.write_text(json.dumps(document))
    params = {"n": 1, "ns": list(range(width)), "flag": flag}
    policy = Policy(FetchConfig(files=[folder]), [folder])
    files = fs_access(policy)
    base = folder.as_uri() + "/"
    loaded = load(path.as_uri(), dict(params), base, policy, files(base))
    context = run_context("r1", files, {"eval_timeout": 20.0}, checksums=False)
    expansion = Expansion(context, lambda place: f"file:///out/{place}")
    expansion.expand(loaded.process, loaded.job_order)
    assert expansion.problems == []
    assert sorted(element.place for element in expansion.elements) == sorted(walked(path, params, folder))


def test_a_large_pipeline(plan: Plan, tmp_path: Path, brokers: list[FakeBroker]) -> None:
    path, job = pipeline(tmp_path)
    params = json.loads(job.read_text())
    for item in params["observations"]:
        item["location"] = (tmp_path / item["location"]).as_uri()
    found = plan(path, params)
    assert len(found.steps) == 75
    assert found.totals.tasks == 2 * 25 * 3 + 25
    assert found.totals.complete
    assert found.totals.reads.bytes == 5 * (1000 + 2000 + 3000)
    assert found.is_possible
    assert len([step for step in found.steps if step.critical]) == 75
    assert len(brokers[0].requests) < 30, "steps that nodes cannot tell apart are asked for once"
