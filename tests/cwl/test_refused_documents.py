"""Documents that cannot be run, and what is said of them: the file, the line and what to do."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from typing import Any

import pytest
from cwltool.errors import UnsupportedRequirement

from tests.cwl.walking import Folder
from wes_bridge.cwl.errors import InvalidWorkflowError
from wes_bridge.cwl.tools import process as tools

TOOL = "class: CommandLineTool\nbaseCommand: echo\ninputs: {}\noutputs: {}\n"
STEP = """
cwlVersion: v1.2
class: Workflow
requirements: {SubworkflowFeatureRequirement: {}}
inputs: {}
outputs: {}
steps:
  outer: {run: RUN, in: {}, out: []}
"""


def refusal(folder: Folder, name: str = "w.cwl", params: dict[str, Any] | None = None) -> str:
    """What load says; validate says the same."""
    with pytest.raises(InvalidWorkflowError) as loaded:
        folder.load(name, params)
    with pytest.raises(InvalidWorkflowError) as checked:
        folder.validate(name, params)
    assert str(loaded.value) == str(checked.value)
    return str(loaded.value)


@pytest.mark.parametrize("version", ["v1.3", "cwl:v1.3.0", "v1.10"])
@pytest.mark.parametrize("inner", [False, True])
def test_a_newer_version_of_cwl_is_unsupported(folder: Folder, version: str, inner: bool) -> None:
    folder.write("t.cwl", f"# a tool\ncwlVersion: {version}\n{TOOL}")
    folder.write("w.cwl", STEP.replace("RUN", "t.cwl"))
    with pytest.raises(UnsupportedRequirement, match=r"t\.cwl:\d.*v1\.\d+.*cannot be run here yet; v1\.0"):
        folder.load("w.cwl" if inner else "t.cwl")


@pytest.mark.parametrize(
    ("version", "advice"), [("draft-3", "cwl-upgrader"), ("v9", "v1.2"), ("1.2", "v1.2")]
)
@pytest.mark.parametrize("inner", [False, True])
def test_no_version_of_cwl_is_told_with_its_place(
    folder: Folder, version: str, advice: str, inner: bool
) -> None:
    folder.write("t.cwl", f'# a tool\ncwlVersion: "{version}"\n{TOOL}')
    folder.write("w.cwl", STEP.replace("RUN", "t.cwl"))
    told = refusal(folder, "w.cwl" if inner else "t.cwl")
    assert "t.cwl:2:1" in told
    assert version in told
    assert advice in told


def archive() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as packed:
        packed.writestr("w.cwl", TOOL)
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [(archive(), "ZIP"), (gzip.compress(b"cwlVersion: v1.2"), "gzip"), (b"\x7fELF\x02\xff\xfe", "no text")],
    ids=["zip", "gzip", "program"],  # an archive has the time in it, and each worker makes its own
)
def test_what_is_no_text_is_named(folder: Folder, content: bytes, kind: str) -> None:
    (folder.path / "w.zip").write_bytes(content)
    told = refusal(folder, "w.zip")
    assert "w.zip" in told
    assert kind in told
    assert "codec" not in told


@pytest.mark.parametrize("circle", [("w.cwl",), ("b.cwl", "w.cwl"), ("b.cwl", "c.cwl", "b.cwl")])
def test_a_workflow_that_runs_itself_is_told_so(folder: Folder, circle: tuple[str, ...]) -> None:
    above = "w.cwl"
    for name in circle:
        folder.write(above, STEP.replace("RUN", name))
        above = name
    told = refusal(folder)
    assert "the workflow runs itself" in told
    assert f"{circle[-1]} -> " in told


def test_one_that_runs_another_twice_is_no_circle(folder: Folder) -> None:
    folder.write("b.cwl", STEP.replace("RUN", "t.cwl"))
    folder.write("t.cwl", "cwlVersion: v1.2\n" + TOOL)
    folder.write("w.cwl", STEP.replace("RUN", "b.cwl") + "  again: {run: b.cwl, in: {}, out: []}\n")
    assert sorted(folder.walk("w.cwl").commands) == ["again/outer", "outer/outer"]


def test_what_the_yaml_parser_says_without_a_place_has_one(folder: Folder) -> None:
    block = "arguments:\n  - valueFrom: |\n  \n      first\n        second\n      third\n"
    (folder.path / "w.cwl").write_text("cwlVersion: v1.2\n" + TOOL + block)
    told = refusal(folder)
    assert re.search(r"w\.cwl:\d+:\d+: more indented", told)
    assert "block scalar" in told


def test_an_operation_is_named_by_its_step(folder: Folder) -> None:
    folder.write("op.cwl", "cwlVersion: v1.2\nclass: Operation\ninputs: {}\noutputs: {}\n")
    folder.write("b.cwl", STEP.replace("RUN", "op.cwl").replace("outer", "inner"))
    folder.write("w.cwl", STEP.replace("RUN", "b.cwl"))
    with pytest.raises(
        InvalidWorkflowError, match=r"op\.cwl:2:1: step 'outer/inner' is an abstract Operation"
    ):
        folder.load("w.cwl")
    assert folder.validate("w.cwl") == []  # it is valid, and cannot be run


@pytest.mark.parametrize("error", [KeyError("name"), AttributeError("no lc"), IndexError("list index")])
def test_a_surprise_is_told_with_file_line_and_advice(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def surprised(*_args: object) -> None:
        raise error

    folder.write("t.cwl", "# a tool\ncwlVersion: v1.2\n" + TOOL)
    folder.write("w.cwl", STEP.replace("RUN", "t.cwl"))
    monkeypatch.setattr(tools.BridgeTool, "__init__", surprised)
    told = refusal(folder)
    assert "t.cwl:2:1" in told
    assert type(error).__name__ in told
    assert "report" in told


@pytest.mark.parametrize(
    "field", ["inputs: 3", "inputs: {a: {type: {type: array}}}", "requirements: [3]", "hints: {a: }"]
)
def test_odd_documents_are_refused_by_name(folder: Folder, field: str) -> None:
    key = field.partition(":")[0]
    lines = [line for line in TOOL.splitlines() if not line.startswith(key)]
    folder.write("w.cwl", "\n".join(["cwlVersion: v1.2", *lines, field]) + "\n")
    assert "w.cwl" in refusal(folder)


@pytest.mark.parametrize(
    ("kind", "words"), [("Any", "everything but null"), ('"int[]"', "array"), ("File", "File")]
)
def test_null_for_an_input_that_takes_none_is_told_as_that(folder: Folder, kind: str, words: str) -> None:
    folder.write("t.cwl", "cwlVersion: v1.2\n" + TOOL.replace("inputs: {}", f"inputs: {{x: {kind}}}"))
    told = refusal(folder, "t.cwl", {"x": None})
    assert "t.cwl:4:" in told
    assert "'x'" in told
    assert "non-null" in told
    assert words in told
    assert "given null" not in refusal(folder, "t.cwl", {})


@pytest.mark.parametrize("kind", ["Any?", '"null"', "{type: int, default: 3}", "[int, 'null']"])
def test_null_is_taken_where_it_may_be(folder: Folder, kind: str) -> None:
    folder.write("t.cwl", "cwlVersion: v1.2\n" + TOOL.replace("inputs: {}", f"inputs: {{x: {kind}}}"))
    assert folder.load("t.cwl", {"x": None}).job_order["x"] in (None, 3)


GRAPH = """
cwlVersion: v1.2
$graph:
- {class: CommandLineTool, id: one, baseCommand: echo, inputs: [], outputs: []}
- {class: CommandLineTool, id: two, baseCommand: echo, inputs: [], outputs: OUTPUTS}
"""


def test_each_process_of_a_graph_is_checked(folder: Folder) -> None:
    folder.write("good.cwl", GRAPH.replace("OUTPUTS", "[]"))
    assert [name.rpartition("#")[2] for name in folder.validate("good.cwl")] == ["one", "two"]
    assert folder.validate("good.cwl#two") == []
    folder.write("bad.cwl", GRAPH.replace("OUTPUTS", "{x: 3}"))
    with pytest.raises(InvalidWorkflowError, match=r"bad\.cwl"):
        folder.validate("bad.cwl")


def test_a_run_of_a_graph_must_name_one(folder: Folder) -> None:
    folder.write("good.cwl", GRAPH.replace("OUTPUTS", "[]"))
    with pytest.raises(InvalidWorkflowError, match=r"#one, #two and no #main; name one.* good\.cwl#"):
        folder.load("good.cwl")
