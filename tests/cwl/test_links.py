"""Links between steps: what names nothing is refused, what may not fit is told and runs as it is written."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cwl.walking import Folder
from wes_bridge.cwl.errors import InvalidWorkflowError

STEP = """
    run:
      class: CommandLineTool
      baseCommand: observe
      inputs: {{on: "boolean?", f: "{kind}"}}
      outputs: {{log: File}}
    out: [log]
"""


def two_steps(sink: str, link: str, when: str = "") -> str:
    return f"""
cwlVersion: v1.2
class: Workflow
requirements: {{MultipleInputFeatureRequirement: {{}}, InlineJavascriptRequirement: {{}}}}
inputs: {{on: boolean}}
outputs: {{log: {{type: "File?", outputSource: second/log}}}}
steps:
  first:
    in: {{on: on}}
    when: $(inputs.on)
    {STEP.format(kind="File?").strip()}
  second:
    in: {{f: {link}}}
    {when}
    {STEP.format(kind=sink).strip()}
"""


PICKED = "{source: [first/log], pickValue: all_non_null}"


@pytest.mark.parametrize("sink", ["File", "File?"])
def test_the_one_file_of_a_list_goes_through_as_it_is_where_a_file_is_wanted(
    folder: Folder, sink: str
) -> None:
    folder.write("w.cwl", two_steps(sink, PICKED))
    walked = folder.walk("w.cwl", {"on": True}, {"log": folder.file("here.txt")})
    assert walked.status == "success"
    assert walked.values["second"]["f"]["location"] == folder.file("here.txt")["location"]
    assert any("'f' of type" in text and "incompatible" in text for text in walked.told)


def test_it_becomes_a_list_where_a_list_is_wanted(folder: Folder) -> None:
    folder.write("w.cwl", two_steps("File[]", PICKED))
    walked = folder.walk("w.cwl", {"on": True}, {"log": folder.file("here.txt")})
    assert [item["location"] for item in walked.values["second"]["f"]] == [
        folder.file("here.txt")["location"]
    ]
    assert not any("incompatible" in text for text in walked.told)


def test_a_step_is_skipped_by_what_a_skipped_step_did_not_make(folder: Folder) -> None:
    folder.write("w.cwl", two_steps("File?", PICKED, "when: $(inputs.f != null)"))
    walked = folder.walk("w.cwl", {"on": False})
    assert (walked.status, walked.commands, walked.outputs) == ("success", {}, {"log": None})


def test_as_an_output_of_the_workflow_it_stays_one_file(folder: Folder) -> None:
    text = two_steps("File?", "first/log")
    link = "outputSource: [first/log], pickValue: all_non_null"
    folder.write("w.cwl", text.replace("outputSource: second/log", link))
    walked = folder.walk("w.cwl", {"on": True}, {"log": folder.file("here.txt")})
    assert walked.outputs is not None
    assert walked.outputs["log"]["location"] == folder.file("here.txt")["location"]


def test_a_merge_that_is_asked_for_is_made(folder: Folder) -> None:
    link = "{source: [first/log], linkMerge: merge_nested, pickValue: all_non_null}"
    folder.write("w.cwl", two_steps("Any", link))
    walked = folder.walk("w.cwl", {"on": True}, {"log": folder.file("here.txt")})
    assert isinstance(walked.values["second"]["f"], list)


def ports(process: Any) -> Any:
    kept = [process.tool["inputs"], process.tool["outputs"]]
    kept += [
        [step.tool["inputs"], step.tool["outputs"]] for step in sorted(process.steps, key=lambda s: s.id)
    ]
    return repr(
        [[dict(port) | {"_tool_entry": None} for port in list_] for pair in kept for list_ in _flat(pair)]
    )


def _flat(pair: Any) -> Any:
    return pair if isinstance(pair[0], list) else [pair]


def test_the_checker_changes_nothing_of_what_is_run(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write("w.cwl", two_steps("File", "{source: [first/log], pickValue: all_non_null}"))
    checked = ports(folder.load("w.cwl", {"on": True}).process)
    monkeypatch.setattr("cwltool.workflow.static_checker", lambda *_args: None)
    assert ports(folder.load("w.cwl", {"on": True}).process) == checked


@pytest.mark.parametrize("written", ["{source: }", "", "{source: []}"])
def test_an_empty_link_is_refused_with_its_line(folder: Folder, written: str) -> None:
    folder.write("w.cwl", two_steps("File?", written))
    with pytest.raises(InvalidWorkflowError, match=r"w\.cwl:\d+:\d+: source of 'f' is empty"):
        folder.load("w.cwl", {"on": True})


@pytest.mark.parametrize("written", ["log", "[log]", "[second/log, log]"])
def test_an_output_of_nothing_is_refused_with_its_line(folder: Folder, written: str) -> None:
    text = two_steps("File?", "first/log").replace("outputSource: second/log", f"outputSource: {written}")
    folder.write("w.cwl", text)
    with pytest.raises(InvalidWorkflowError, match=r"w\.cwl:6:\d+: .*outputSource not found: 'log'"):
        folder.load("w.cwl", {"on": True})


def test_a_link_to_nothing_is_refused_beside_types_that_do_not_fit(folder: Folder) -> None:
    text = two_steps("int", "first/log").replace("outputSource: second/log", "outputSource: log")
    folder.write("w.cwl", text)
    with pytest.raises(InvalidWorkflowError, match="outputSource not found"):
        folder.load("w.cwl", {"on": True})


def test_an_empty_list_of_links_leaves_the_value_to_the_default(folder: Folder) -> None:
    folder.write("w.cwl", two_steps("Any", "{source: [], default: 3}"))
    walked = folder.walk("w.cwl", {"on": True}, {"log": folder.file("here.txt")})
    assert walked.values["second"]["f"] == 3
