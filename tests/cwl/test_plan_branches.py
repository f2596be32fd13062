"""Plans of what may be left out, of default Files, and of what is wrong whatever the nodes say."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cwl.walking import Folder
from wes_bridge.cwl.expanding.expand import Expansion
from wes_bridge.cwl.tools.context import run_context

INNER = """
      class: Workflow
      inputs: {go: Any, f: "File?", fs: "File[]?"}
      outputs: {}
      steps:
        one:
          in: {f: f}
          out: []
          run: {class: CommandLineTool, baseCommand: read, inputs: {f: File}, outputs: {}}
        each:
          in: {f: fs}
          scatter: f
          out: []
          run: {class: CommandLineTool, baseCommand: read, inputs: {f: File}, outputs: {}}
"""
BRANCH = """
cwlVersion: v1.2
class: Workflow
requirements:
  InlineJavascriptRequirement: {{}}
  ScatterFeatureRequirement: {{}}
  SubworkflowFeatureRequirement: {{}}
inputs: {{f: "File?", fs: "File[]?"}}
outputs: {{}}
steps:
  gate:
    in: {{}}
    out: [go, whether]
    run:
      class: CommandLineTool
      baseCommand: gate
      inputs: {{}}
      outputs: {{go: "int[]", whether: boolean}}
  branch:
    in: {{go: {source}, f: f, fs: fs}}
    out: []
    {how}
    run: {inner}
"""


def expand(folder: Folder, params: dict[str, Any] | None = None) -> Expansion:
    loaded = folder.load("w.cwl", params)
    context = run_context("run1", folder.files, {"eval_timeout": 5.0}, checksums=False)
    expansion = Expansion(context, lambda place: f"file:///made/{place}")
    expansion.expand(loaded.process, loaded.job_order)
    return expansion


MAY_BE_LEFT_OUT = [("gate/go", "scatter: go"), ("gate/whether", "when: $(inputs.go)")]


@pytest.mark.parametrize(("source", "how"), MAY_BE_LEFT_OUT)
def test_what_fails_in_a_branch_that_may_be_left_out_is_a_note(folder: Folder, source: str, how: str) -> None:
    folder.write("w.cwl", BRANCH.format(source=source, how=how, inner=INNER))
    found = expand(folder)
    assert [element.path for element in found.elements] == ["gate"]
    assert found.problems == []
    one, each = sorted(found.notes, reverse=True)
    assert "branch" in one
    assert "/one fails if it is run, and it may be left out" in one
    assert "is scattered over its input 'f' (from 'branch" in each


@pytest.mark.parametrize(("source", "how"), MAY_BE_LEFT_OUT)
def test_what_goes_well_there_is_planned(folder: Folder, source: str, how: str) -> None:
    folder.write("w.cwl", BRANCH.format(source=source, how=how, inner=INNER))
    file = folder.file("here.txt")
    found = expand(folder, {"f": file, "fs": [dict(file)]})
    assert {element.path for element in found.elements} == {"gate", "branch/one", "branch/each"}
    assert (found.problems, found.notes) == ([], [])


def test_what_fails_for_sure_is_a_problem(folder: Folder) -> None:
    folder.write("w.cwl", BRANCH.format(source="{default: 1}", how="", inner=INNER))
    found = expand(folder)
    problems = {element.path: element.problem for element in found.elements}
    assert "required input parameter 'f'" in str(problems["branch/one"])
    (problem,) = found.problems
    assert "step 'each' is scattered over its input 'f'" in problem
    assert found.notes == []


@pytest.mark.parametrize("link", ["{}", "{script: other}"])
def test_a_default_file_given_by_path_is_staged(folder: Folder, link: str) -> None:
    folder.write("script.py", "1")
    folder.write(
        "w.cwl",
        f"""
        cwlVersion: v1.2
        class: Workflow
        inputs: {{other: "File?"}}
        outputs: {{}}
        steps:
          s:
            in: {link}
            out: []
            run:
              class: CommandLineTool
              baseCommand: cat
              inputs: {{script: {{type: File, default: {{class: File, path: script.py}}}}}}
              outputs: {{}}
        """,
    )
    (element,) = expand(folder).elements
    assert element.problem is None
    assert element.plan is not None
    assert [item.url for item in element.plan.staged if item.url] == [f"{folder.base}script.py"]
