"""``loadContents`` of more than 64 KiB: the first 64 KiB in CWL v1.0 and v1.1, an error in v1.2."""

from __future__ import annotations

import pytest
from cwltool.errors import WorkflowException

from tests.cwl.walking import Folder
from wes_bridge.cwl.walking.walk import Walk

LIMIT = 64 * 1024
BIND = {
    "v1.0": "{f: {type: File, inputBinding: {loadContents: true}}}",
    "v1.1": "{f: {type: File, loadContents: true}}",
}
TOOL = """
cwlVersion: {version}
class: ExpressionTool
requirements: {{InlineJavascriptRequirement: {{}}}}
inputs: {inputs}
outputs: {{n: int, last: string}}
expression: "${{ var c = inputs.f.contents; return {{n: c.length, last: c.slice(-1)}}; }}"
"""
STEP = """
cwlVersion: {version}
class: Workflow
requirements: {{InlineJavascriptRequirement: {{}}, StepInputExpressionRequirement: {{}}}}
inputs: {{f: File}}
outputs: {{n: {{type: int, outputSource: s/n}}}}
steps:
  s:
    in: {{n: {{source: f, loadContents: true, valueFrom: "$(self.contents.length)"}}}}
    out: [n]
    run: {{class: ExpressionTool, inputs: {{n: int}}, outputs: {{n: int}}, expression: "$({{n: inputs.n}})"}}
"""


def tool(folder: Folder, version: str) -> None:
    folder.write("t.cwl", TOOL.format(version=version, inputs=BIND.get(version, BIND["v1.1"])))


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
def test_older_documents_read_the_first_part(folder: Folder, version: str) -> None:
    tool(folder, version)
    walked = folder.walk("t.cwl", {"f": folder.file("f.txt", "x" * (LIMIT - 1) + "ab")})
    assert walked.outputs == {"n": LIMIT, "last": "a"}


def test_a_character_is_not_cut(folder: Folder) -> None:
    tool(folder, "v1.0")
    walked = folder.walk("t.cwl", {"f": folder.file("f.txt", "x" * (LIMIT - 1) + "é" * 9)})
    assert walked.outputs == {"n": LIMIT - 1, "last": "x"}


@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
def test_exactly_the_limit_is_read(folder: Folder, version: str) -> None:
    tool(folder, version)
    walked = folder.walk("t.cwl", {"f": folder.file("f.txt", "é" * (LIMIT // 2))})
    assert walked.outputs == {"n": LIMIT // 2, "last": "é"}


def test_more_is_an_error_in_v1_2(folder: Folder) -> None:
    tool(folder, "v1.2")
    with pytest.raises(Exception, match="64 KiB"):
        folder.walk("t.cwl", {"f": folder.file("f.txt", "x" * (LIMIT + 1))})


def test_a_steps_input_too(folder: Folder) -> None:
    file = folder.file("f.txt", "x" * (LIMIT + 1))
    for version in ("v1.1", "v1.2", "v1.1"):
        folder.write("w.cwl", STEP.format(version=version))
        walked = folder.walk("w.cwl", {"f": dict(file)})
        assert walked.outputs == {"n": LIMIT if version == "v1.1" else None}


OUTPUT = """
cwlVersion: {version}
class: CommandLineTool
requirements: {{InlineJavascriptRequirement: {{}}}}
baseCommand: make
inputs: []
outputs:
  n:
    type: int
    outputBinding: {{glob: o.txt, loadContents: true, outputEval: "$(self[0].contents.length)"}}
"""


@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
def test_an_output_too(folder: Folder, version: str) -> None:
    folder.write("t.cwl", OUTPUT.format(version=version))
    folder.write("out/o.txt", "x" * (LIMIT + 1))
    walk = Walk("run1", folder.load("t.cwl"), folder.files, {})
    (job,) = walk.advance([], 1).jobs
    if version == "v1.2":
        with pytest.raises(WorkflowException, match="64 KiB"):
            job.collect_outputs(str(folder.path / "out"), 0)
    else:
        assert job.collect_outputs(str(folder.path / "out"), 0) == {"n": LIMIT}
