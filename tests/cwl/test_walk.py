"""The graph's walk: places, wide scatters in linear time, failures that end."""

import textwrap
import time
from pathlib import Path
from typing import Any

import cwltool.workflow_job
import pytest
from cwltool.errors import WorkflowException

from wes_bridge.config import FetchConfig
from wes_bridge.cwl import log, patches
from wes_bridge.cwl.errors import InvalidWorkflowError, PlaceTakenError
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.cwl.loading.load import load
from wes_bridge.cwl.tools.context import task_id
from wes_bridge.cwl.walking.walk import Finished, Walk
from wes_bridge.store import tables

TOOL = """
      class: CommandLineTool
      baseCommand: [sh, -c, "exit 0"]
      inputs: {x: Any}
      outputs: {y: {type: int, outputBinding: {outputEval: "$(inputs.x)"}}}
"""
SCATTER = f"""
cwlVersion: v1.2
class: Workflow
requirements: {{ScatterFeatureRequirement: {{}}, SubworkflowFeatureRequirement: {{}}}}
inputs: {{xs: "int[]"}}
outputs: {{ys: {{type: "int[]", outputSource: wide/y}}}}
steps:
  wide:
    scatter: x
    in: {{x: xs}}
    out: [y]
    run: {TOOL}
"""
CAT = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: cat
inputs: {f: {type: File, inputBinding: {}}}
outputs: {}
"""


@pytest.fixture(autouse=True, scope="module")
def cwltool_as_ours() -> None:
    patches.install()
    log.install()


def walk_of(tmp_path: Path, text: str, params: dict[str, Any], **options: Any) -> Walk:
    (tmp_path / "w.cwl").write_text(text)
    policy = Policy(FetchConfig(), [tmp_path])
    files = fs_access(policy)
    base = f"file://{tmp_path}/"
    return Walk("run1", load(base + "w.cwl", params, base, policy, files(base)), files, options)


def finish(walk: Walk, status: str = "success", fail: set[str] = frozenset()) -> list[str]:
    """Run a walk with every job ending at once; returns the places in order."""
    places: list[str] = []
    finished: list[Finished] = []
    while walk.status is None:
        pulled = walk.advance(finished, 10)
        if pulled.stuck and not pulled.jobs:
            break
        finished = []
        for job in pulled.jobs:
            places.append(job.key)
            bad = job.key in fail
            finished.append(
                Finished(job, {} if bad else {"y": job.builder.job["x"]}, "permanentFail" if bad else status)
            )
    return places


def test_scatter_elements_have_places_of_their_own(tmp_path: Path) -> None:
    walk = walk_of(tmp_path, SCATTER, {"xs": [3, 1, 2]})
    assert finish(walk) == ["wide[0]", "wide[1]", "wide[2]"]
    assert (walk.status, walk.outputs) == ("success", {"ys": [3, 1, 2]})


class Lambdas:
    """``functools`` with another way of making callbacks, which does not tell for whom they are."""

    @staticmethod
    def partial(function: Any, *first: Any) -> Any:
        return lambda *rest: function(*first, *rest)


def test_two_jobs_of_one_place_stop_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks of cwltool tell which element of a scatter a job is of: this release's, at least."""
    monkeypatch.setattr(cwltool.workflow_job, "functools", Lambdas)
    walk = walk_of(tmp_path, SCATTER, {"xs": [3, 1, 2]})
    with pytest.raises(PlaceTakenError, match=r"two jobs of this run have the place 'wide', .* report it"):
        finish(walk)


def test_a_job_that_was_recalled_has_its_place_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    finish(walk_of(tmp_path, SCATTER, {"xs": [3, 3]}, recall=memory.recall))
    asked = memory.asked[0][1]
    monkeypatch.setattr(cwltool.workflow_job, "functools", Lambdas)
    walk = walk_of(
        tmp_path, SCATTER, {"xs": [3, 3]}, recall=lambda _key, was: {"y": 3} if was == asked else None
    )
    with pytest.raises(PlaceTakenError, match="'wide'"):
        finish(walk)


def test_two_steps_of_one_name_stop_the_run(tmp_path: Path) -> None:
    step = "{id: twice, in: {x: x}, out: [y], run: t.cwl}"
    (tmp_path / "t.cwl").write_text(f"cwlVersion: v1.2\n{textwrap.dedent(TOOL)}")
    text = f"cwlVersion: v1.2\nclass: Workflow\ninputs: {{x: int}}\noutputs: []\nsteps: [{step}, {step}]\n"
    with pytest.raises(PlaceTakenError, match="If two steps of a workflow have one name, give each its own"):
        finish(walk_of(tmp_path, text, {"x": 1}))


@pytest.mark.parametrize("length", [1, 45, 53, 54, 60, 200])
def test_each_element_of_a_wide_scatter_has_an_id_that_the_database_can_hold(length: int) -> None:
    ids = {task_id(f"{'n' * length}[{index}]") for index in range(100_000)}
    assert len(ids) == 100_000
    assert max(map(len, ids)) <= tables.tasks.c.task_id.type.length


def test_places_are_the_same_in_every_walk(tmp_path: Path) -> None:
    plans = []
    for _ in range(2):
        walk = walk_of(tmp_path, SCATTER, {"xs": [1]})
        plans.append(walk.advance([], 1).jobs[0].plan("file:///out"))
    assert plans[0] == plans[1]
    assert plans[0].workdir == plans[0].root + "/out"


class Memory:
    """What steps were asked, and what those made that were seen to their end."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.made: dict[tuple[str, str], dict[str, Any]] = {}

    def recall(self, key: str, asked: str) -> dict[str, Any] | None:
        self.asked.append((key, asked))
        return self.made.get((key, asked))


def test_what_was_done_before_is_recalled_not_worked_out_again(tmp_path: Path) -> None:
    memory = Memory()
    finish(walk_of(tmp_path, SCATTER, {"xs": [3, 1, 2]}, recall=memory.recall))
    memory.made = {asked: {"y": 7} for asked in memory.asked[:2]}
    again = walk_of(tmp_path, SCATTER, {"xs": [3, 1, 2]}, recall=memory.recall)
    assert finish(again) == ["wide[2]"]
    assert (again.status, again.outputs) == ("success", {"ys": [7, 7, 2]})


@pytest.mark.parametrize(
    ("text", "values"),
    [
        (SCATTER, [3, 1, 5]),
        (SCATTER.replace("exit 0", "exit 0; true"), [3, 1, 2]),
        (SCATTER.replace("class: CommandLineTool", "class: CommandLineTool\n      stdout: x"), [3, 1, 2]),
        (f"{SCATTER}hints: {{EnvVarRequirement: {{envDef: {{A: b}}}}}}", [3, 1, 2]),
    ],
)
def test_another_tool_or_other_inputs_are_worked_out(tmp_path: Path, text: str, values: list[int]) -> None:
    memory = Memory()
    finish(walk_of(tmp_path, SCATTER, {"xs": [3, 1, 2]}, recall=memory.recall))
    memory.made = {memory.asked[2]: {"y": 7}}
    assert "wide[2]" in finish(walk_of(tmp_path, text, {"xs": values}, recall=memory.recall))


def test_what_changes_files_in_place_is_never_recalled(tmp_path: Path) -> None:
    memory = Memory()
    inplace = "requirements: {InplaceUpdateRequirement: {inplaceUpdate: true}}\n"
    text = SCATTER.replace("class: CommandLineTool", f"class: CommandLineTool\n      {inplace}")
    assert finish(walk_of(tmp_path, text, {"xs": [3]}, recall=memory.recall)) == ["wide[0]"]
    assert memory.asked == []


def test_a_wide_scatter_takes_linear_time(tmp_path: Path) -> None:
    def seconds(width: int) -> float:
        walk = walk_of(tmp_path, SCATTER, {"xs": list(range(width))})
        begin = time.process_time()
        assert len(finish(walk)) == width
        return time.process_time() - begin

    seconds(50)
    assert seconds(1600) < 8 * seconds(400)


def test_a_failing_element_stops_the_scatter(tmp_path: Path) -> None:
    walk = walk_of(tmp_path, SCATTER, {"xs": list(range(100))})
    places = finish(walk, fail={"wide[3]"})
    assert walk.status == "permanentFail"
    assert len(places) < 30


def test_on_error_continue_runs_the_rest(tmp_path: Path) -> None:
    walk = walk_of(tmp_path, SCATTER, {"xs": list(range(40))}, on_error="continue")
    assert len(finish(walk, fail={"wide[3]"})) == 40
    assert walk.status == "permanentFail"


def test_an_empty_scatter_is_complete(tmp_path: Path) -> None:
    walk = walk_of(tmp_path, SCATTER, {"xs": []})
    assert finish(walk) == []
    assert walk.outputs == {"ys": []}


def test_nested_scatter_places(tmp_path: Path) -> None:
    text = f"""
cwlVersion: v1.2
class: Workflow
requirements: {{ScatterFeatureRequirement: {{}}, SubworkflowFeatureRequirement: {{}}}}
inputs:
  xss: {{type: {{type: array, items: {{type: array, items: int}}}}}}
outputs:
  ys: {{type: {{type: array, items: {{type: array, items: int}}}}, outputSource: outer/ys}}
steps:
  outer:
    scatter: xs
    in: {{xs: xss}}
    out: [ys]
    run:
      class: Workflow
      inputs: {{xs: "int[]"}}
      outputs: {{ys: {{type: "int[]", outputSource: inner/y}}}}
      steps:
        inner:
          scatter: x
          in: {{x: xs}}
          out: [y]
          run: {textwrap.indent(TOOL, "        ")}
"""
    walk = walk_of(tmp_path, text, {"xss": [[1, 2], [3]]})
    assert sorted(finish(walk)) == ["outer[0]/inner[0]", "outer[0]/inner[1]", "outer[1]/inner[0]"]
    assert walk.outputs == {"ys": [[1, 2], [3]]}


@pytest.mark.parametrize(
    ("text", "params", "said"),
    [
        ("class: Workflow", {}, "w.cwl.*cwlVersion"),
        ("cwlVersion: v9\nclass: Workflow", {}, "w.cwl.*v1.2"),
        ("cwlVersion: v1.2\n$graph: []", {}, "w.cwl.*graph"),
        ("", {}, "w.cwl.*mapping"),
        ("# nothing", {}, "w.cwl.*mapping"),
        ("null", {}, "w.cwl.*mapping"),
        ("3", {}, "w.cwl.*mapping"),
        ("\x00", {}, "w.cwl"),
        ("cwlVersion: v1.2\nclass: [1]\n", {}, "w.cwl"),
        ("cwlVersion: v1.2\nclass: Wrkflow\n", {}, "Wrkflow"),
        (SCATTER.replace("source", "src").replace("outputSource", "outputSrc"), {"xs": []}, "w.cwl:"),
        (SCATTER, {}, "Missing required input parameter 'xs'"),
        (SCATTER, {"xs": [{"class": "File", "location": "none.txt"}]}, "does not exist"),
        ("cwlVersion: v1.2\nclass: Operation\ninputs: {}\noutputs: {}\n", {}, "Operation"),
        ("- just\n- a list\n", {}, "mapping"),
        ("{unclosed", {}, "w.cwl"),
        (SCATTER.partition("    run:")[0] + "    run: missing.cwl\n", {"xs": []}, "missing.cwl"),
    ],
)
def test_bad_documents_are_refused_with_the_place(
    tmp_path: Path, text: str, params: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidWorkflowError, match=r"(?s).*" + said.replace("{", "\\{")):
        walk_of(tmp_path, text, params)


def test_a_workflow_cannot_include_a_file_of_the_host(tmp_path: Path) -> None:
    text = (
        "cwlVersion: v1.2\nclass: CommandLineTool\nbaseCommand: cat\ndoc: {$include: 'file:///etc/passwd'}\n"
    )
    with pytest.raises(InvalidWorkflowError, match="outside"):
        walk_of(tmp_path, text + "inputs: {}\noutputs: {}\n", {})


def test_a_file_literal_is_an_input(tmp_path: Path) -> None:
    text = CAT
    walk = walk_of(tmp_path, text, {"f": {"class": "File", "contents": "hello"}})
    plan = walk.advance([], 1).jobs[0].plan("file:///out")
    assert [item.contents for item in plan.staged if item.path == plan.argv[1]] == ["hello"]


def test_a_file_of_the_clients_machine_is_found_among_the_attachments(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("x")
    text = CAT
    params = {"f": {"class": "File", "location": "file:///home/astronomer/survey/data.txt"}}
    plan = walk_of(tmp_path, text, params).advance([], 1).jobs[0].plan("file:///out")
    assert [item.url for item in plan.staged if item.path == plan.argv[1]] == [f"file://{tmp_path}/data.txt"]


def test_an_output_of_the_wrong_type_is_refused_though_types_are_only_warned_about(tmp_path: Path) -> None:
    text = f"""
cwlVersion: v1.2
class: Workflow
requirements: {{MultipleInputFeatureRequirement: {{}}}}
inputs: {{x: int}}
outputs: {{ys: {{type: int, outputSource: [only/y, x], pickValue: all_non_null}}}}
steps:
  only:
    in: {{x: x}}
    out: [y]
    run: {TOOL}
"""
    walk = walk_of(tmp_path, text, {"x": 1})
    finish(walk)
    with pytest.raises(WorkflowException, match="'ys' is not of its declared type"):
        walk.check_outputs()
