"""Twice as many steps are twice as much work: to load a workflow, to plan it and to walk it.

Counted are the calls of functions, which a busy machine does not change. What a load costs whatever it loads
falls out: the work that the last steps add is held against what as many steps before them added.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cwltool.load_tool
import pytest
from schema_salad.exceptions import ValidationException

from tests.cwl import graphs
from wes_bridge.config import FetchConfig
from wes_bridge.cwl import log, patches
from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.cwl.expanding.expand import Expansion
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading import schemas, shared_tools
from wes_bridge.cwl.loading.circles import circular_dependency_checker
from wes_bridge.cwl.loading.load import LoadedRun, load
from wes_bridge.cwl.tools import process as tools
from wes_bridge.cwl.tools.context import run_context
from wes_bridge.cwl.walking.walk import Finished, Walk
from wes_bridge.engine.plan.timeline import schedule
from wes_bridge.model.run_plan import Chosen, PlannedStep

LINEAR = 2.5
"""The last half of 4 n steps adds twice what the last half of 2 n adds; in a square it adds four times."""
Shape = Callable[[int], graphs.Document]


@pytest.fixture(autouse=True, scope="module")
def cwltool_as_ours() -> None:
    patches.install()
    log.install()
    for version in schemas.VERSIONS:
        schemas.preload(version)


class Work:
    """Counts the calls of functions in its block."""

    calls = 0

    def __enter__(self) -> Work:
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, _frame: object, event: str, _argument: object) -> None:
        self.calls += event in ("call", "c_call")


def loaded(path: Path) -> LoadedRun:
    policy = Policy(FetchConfig(), [path.parent])
    base = f"{path.parent.as_uri()}/"
    return load(path.as_uri(), {}, base, policy, fs_access(policy)(base))


def walk_of(run: LoadedRun, folder: Path, **options: Any) -> Walk:
    return Walk("run1", run, fs_access(Policy(FetchConfig(), [folder])), options)


def finish(walk: Walk, room: int = 10) -> list[str]:
    """Run a walk in which one job ends at a time; the places in the order in which they began."""
    began: list[str] = []
    running: list[Any] = []
    finished: list[Finished] = []
    while walk.status is None:
        pulled = walk.advance(finished, room)
        running += pulled.jobs
        began += [job.key for job in pulled.jobs]
        if not running and pulled.stuck:
            break
        ended = running.pop(0)
        finished = [Finished(ended, {"y": ended.builder.job["x"]}, "success")]
    return began


def assert_linear(work: Callable[[int], int], size: int) -> None:
    work(2)  # what is kept for the next load is there
    small, double, quadruple = (work(size * times) for times in (1, 2, 4))
    assert quadruple - double < LINEAR * (double - small)


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_twice_the_steps_are_twice_the_work_to_load(tmp_path: Path, shape: Shape) -> None:
    def work(size: int) -> int:
        path = graphs.write(tmp_path, shape(size))
        with Work() as counted:
            loaded(path)
        return counted.calls

    assert_linear(work, 6)


@pytest.mark.parametrize("shape", graphs.QUICK_TO_LOAD)
def test_twice_the_steps_are_twice_the_work_to_plan_and_to_walk(tmp_path: Path, shape: Shape) -> None:
    runs = {size: loaded(graphs.write(tmp_path, shape(size))) for size in (2, 40, 80, 160)}
    places: dict[int, list[str]] = {}

    def plan(size: int) -> int:
        context = run_context("r1", fs_access(Policy(FetchConfig(), [tmp_path])), {}, checksums=False)
        expansion = Expansion(context, lambda place: f"file:///out/{place}")
        with Work() as counted:
            expansion.expand(runs[size].process, runs[size].job_order)
        places[size] = sorted(element.place for element in expansion.elements)
        return counted.calls

    def walk(size: int) -> int:
        walked = walk_of(runs[size], tmp_path)
        with Work() as counted:
            began = finish(walked)
        assert walked.status == "success"
        assert sorted(began) == places[size]
        return counted.calls

    assert_linear(plan, 40)
    assert_linear(walk, 40)


def test_twice_the_rows_are_twice_the_work_to_put_in_time() -> None:
    def work(size: int) -> int:
        steps = [
            PlannedStep(
                name=f"s{n}", places=[f"s{n}"], count=1, certainty="known", after=[f"s{n - 1}"] * (n > 0)
            )
            for n in range(size)
        ]
        for step in steps:
            step.chosen = Chosen(node="a", reason="", wait=1.0, duration=2.0, releasing=0.0)
        with Work() as counted:
            end = schedule(steps)
        assert end == 3.0 * size
        return counted.calls

    assert_linear(work, 40)


def test_twice_the_files_are_twice_the_work(tmp_path: Path) -> None:
    def work(size: int) -> int:
        path = graphs.files_of_tools(tmp_path / str(size), size)
        with Work() as counted:
            loaded(path)
        return counted.calls

    assert_linear(work, 6)


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Documents that were gone through, in order."""
    found: list[str] = []
    convert: Callable[[Any], None] = cwltool.load_tool._convert_stdstreams_to_files

    def noted(document: Any) -> None:
        if isinstance(document, dict) and ("$graph" in document or "cwlVersion" in document):
            found.append(str(document.get("id")))
        convert(document)

    monkeypatch.setattr(cwltool.load_tool, "_convert_stdstreams_to_files", noted)
    return found


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tools that were built, in order."""
    found: list[str] = []
    begin: Any = tools.BridgeTool.__init__

    def noted(self: Any, document: Any, context: Any) -> None:
        found.append(document["id"].rpartition("#")[2])
        begin(self, document, context)

    monkeypatch.setattr(tools.BridgeTool, "__init__", noted)
    return found


def test_a_tool_of_many_steps_is_built_once(tmp_path: Path, built: list[str]) -> None:
    loaded(graphs.write(tmp_path, graphs.one_tool(12)))
    assert built == ["tool"]


def test_a_workflow_of_many_steps_is_built_once(tmp_path: Path, built: list[str]) -> None:
    loaded(graphs.write(tmp_path, graphs.one_workflow(12)))
    assert built == ["tool"]


def test_steps_that_hand_down_different_requirements_have_tools_of_their_own(
    tmp_path: Path, built: list[str]
) -> None:
    document = graphs.one_tool(6)
    steps = document["$graph"][1]["steps"]
    for name, value in (("s1", "a"), ("s2", "b"), ("s4", "a")):
        steps[name]["requirements"] = {"EnvVarRequirement": {"envDef": {"MARK": value}}}
    walk = walk_of(loaded(graphs.write(tmp_path, document)), tmp_path)
    marks: dict[str, str | None] = {}
    finished: list[Finished] = []
    while walk.status is None:
        jobs = walk.advance(finished, 10).jobs
        plans = {job.key: job.plan("file:///out") for job in jobs}
        marks |= {key: plan.environment.get("MARK") for key, plan in plans.items()}
        finished = [Finished(job, {"y": 1}, "success") for job in jobs]
    assert marks == {"s0": None, "s1": "a", "s2": "b", "s3": None, "s4": "a", "s5": None}
    assert built == ["tool"] * 3


def test_one_load_does_not_see_what_another_has_built(tmp_path: Path, built: list[str]) -> None:
    for _ in range(2):
        loaded(graphs.write(tmp_path, graphs.one_tool(4)))
    assert built == ["tool"] * 2


def test_a_document_of_many_tools_is_gone_through_once(tmp_path: Path, resolved: list[str]) -> None:
    path = graphs.write(tmp_path, graphs.many_tools(12))
    loaded(path)
    assert resolved.count(path.as_uri()) == 1


def test_a_load_by_others_is_as_it_was(tmp_path: Path) -> None:
    """cwltool's own context shares nothing, so it gets what it always got."""
    path = graphs.write(tmp_path, graphs.one_tool(3))
    process = cwltool.load_tool.load_tool(path.as_uri())
    found = [one.embedded_tool for one in process.steps]
    assert len(set(map(id, found))) == 3


def test_a_chain_may_be_longer_than_python_lets_functions_call_themselves() -> None:
    length = 3 * sys.getrecursionlimit()
    ports = [{"id": f"w#s{n}/after", "source": f"w#s{n - 1}/y"} for n in range(1, length)]
    circular_dependency_checker(ports)
    with pytest.raises(ValidationException, match="circular") as caught:
        circular_dependency_checker([*ports, {"id": "w#s5/x", "source": f"w#s{length - 1}/y"}])
    assert "'w#s5'" in str(caught.value)
    assert "'w#s4'" not in str(caught.value)


def test_steps_that_wait_for_each_other_are_named(tmp_path: Path) -> None:
    document = graphs.line(5)
    document["$graph"][1]["steps"]["s1"]["in"]["after"] = "s3/y"
    with pytest.raises(InvalidWorkflowError, match="circular") as caught:
        loaded(graphs.write(tmp_path, document))
    assert all(f"s{number}'" in str(caught.value) for number in (1, 2, 3))
    assert not any(f"s{number}'" in str(caught.value) for number in (0, 4))


def test_a_job_that_waits_for_any_other_is_asked_again_when_one_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = graphs.packed(graphs.tool(id="tool"), graphs.beside(["#tool"] * 3, id="main"))
    begin = tools.BridgeTool.job
    ended: list[bool] = []

    def held_back(self: Any, job_order: Any, callback: Any, context: Any) -> Iterator[Any]:
        while context.place == ("s1",) and not ended:
            context.after_any.append(callback)
            yield None
        yield from begin(self, job_order, callback, context)

    monkeypatch.setattr(tools.BridgeTool, "job", held_back)
    walk = walk_of(loaded(graphs.write(tmp_path, document)), tmp_path)
    pulled = walk.advance([], 10)
    assert sorted(job.key for job in pulled.jobs) == ["s0", "s2"]
    ended.append(True)
    assert [job.key for job in walk.advance([Finished(pulled.jobs[0], {"y": 1}, "success")], 10).jobs] == [
        "s1"
    ]


def test_a_shared_store_is_of_one_context_and_its_copies() -> None:
    one, other = shared_tools.SharingContext(), shared_tools.SharingContext()
    assert one.copy().shared is one.shared
    assert one.shared is not other.shared


def test_what_one_step_adds_to_its_own_tool_is_not_there_for_others(tmp_path: Path) -> None:
    first, second, *_ = loaded(graphs.write(tmp_path, graphs.one_tool(3))).process.steps
    assert first.embedded_tool is second.embedded_tool
    mine = shared_tools.own(first.embedded_tool)
    mine.inputs_record_schema["fields"][0]["note"] = "of the first step"
    assert "note" not in second.embedded_tool.inputs_record_schema["fields"][0]
    assert mine.tool is second.embedded_tool.tool


def test_a_loop_goes_on_when_a_round_has_ended(tmp_path: Path) -> None:
    document = graphs.packed(graphs.tool(id="tool"), graphs.beside(["#tool"], id="main"))
    document["$graph"][1]["requirements"] = graphs.REQUIREMENTS | {"InlineJavascriptRequirement": {}}
    run = loaded(graphs.write(tmp_path, document))
    (step,) = run.process.steps
    step.tool["loop"] = [{"id": f"{step.id}/x", "outputSource": f"{step.id}/y"}]
    step.tool["when"] = "$(inputs.x < 3)"
    walk = walk_of(run, tmp_path, eval_timeout=20.0)
    rounds: list[str] = []
    finished: list[Finished] = []
    while walk.status is None:
        jobs = walk.advance(finished, 10).jobs
        assert jobs or walk.status
        rounds += [job.key for job in jobs]
        finished = [Finished(job, {"y": job.builder.job["x"] + 1}, "success") for job in jobs]
    assert (walk.status, rounds, walk.outputs) == ("success", ["s0[0]", "s0[1]", "s0[2]"], {"ys": [3]})


@pytest.mark.parametrize("on_error", ["stop", "continue"])
def test_a_failure_in_a_workflow_within_a_scatter_ends_only_its_own(tmp_path: Path, on_error: str) -> None:
    """Of four elements one fails at its first step; the others are known to go on at the same time."""
    walk = walk_of(loaded(graphs.write(tmp_path, graphs.wide_workflow(4))), tmp_path, on_error=on_error)
    jobs = {job.key: job for job in walk.advance([], 10).jobs}
    assert sorted(jobs) == [f"wide[{number}]/a" for number in range(4)]
    began = walk.advance([Finished(jobs["wide[0]/a"], {"y": 0}, "success")], 10).jobs
    assert [job.key for job in began] == ["wide[0]/b"]
    finished = [Finished(jobs[f"wide[{n}]/a"], {"y": n}, "success") for n in (1, 2)]
    finished.append(Finished(jobs["wide[3]/a"], {}, "permanentFail"))
    while walk.status is None:
        pulled = walk.advance(finished, 10)
        began += pulled.jobs
        finished = [Finished(job, {"y": 1}, "success") for job in began if job.key not in jobs]
        jobs |= {job.key: job for job in began}
        if pulled.stuck and not finished:
            break
    assert sorted(job.key for job in began) == [f"wide[{number}]/b" for number in range(3)]
    assert walk.status == "permanentFail"
