"""A scatter over what cannot be scattered over is told with the step, the input and where it comes from."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cwl.walking import Folder

WORKFLOW = """
cwlVersion: v1.2
class: Workflow
requirements: {ScatterFeatureRequirement: {}, InlineJavascriptRequirement: {}}
inputs: {bands: Any?, times: Any?}
outputs: {out: {type: Any, outputSource: calibrate/out}}
steps:
  calibrate:
    in: {band: bands, time: times}
    scatter: SCATTER
    when: $(inputs.band != null)
    out: [out]
    run:
      class: CommandLineTool
      baseCommand: calibrate
      inputs: {band: {type: Any, inputBinding: {}}, time: {type: Any?, inputBinding: {}}}
      outputs: {out: Any}
"""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "null"),
        ("XX", "a string"),
        (3, "a number"),
        ({"class": "File", "basename": "a", "contents": "a"}, "a File"),
        ({"a": 1}, "a record"),
    ],
)
def test_what_is_no_list_is_named(folder: Folder, value: Any, kind: str) -> None:
    folder.write("w.cwl", WORKFLOW.replace("SCATTER", "band"))
    walked = folder.walk("w.cwl", {"bands": value})
    assert walked.status == "permanentFail"
    assert any(
        f"step 'calibrate' is scattered over its input 'band' (from 'bands'), which is {kind}" in text
        for text in walked.told
    ), walked.told
    assert not any("Unhandled exception" in text for text in walked.told)


@pytest.mark.parametrize("method", ["dotproduct", "flat_crossproduct", "nested_crossproduct"])
def test_the_second_of_two_is_named(folder: Folder, method: str) -> None:
    folder.write("w.cwl", WORKFLOW.replace("SCATTER", f"[band, time]\n    scatterMethod: {method}"))
    walked = folder.walk("w.cwl", {"bands": [1, 2]})
    assert any("its input 'time' (from 'times'), which is null" in text for text in walked.told)


def test_lists_of_different_lengths_are_told_with_their_lengths(folder: Folder) -> None:
    folder.write("w.cwl", WORKFLOW.replace("SCATTER", "[band, time]\n    scatterMethod: dotproduct"))
    walked = folder.walk("w.cwl", {"bands": [1, 2], "times": [1, 2, 3]})
    assert any("'band' has 2, 'time' has 3" in text for text in walked.told), walked.told


def test_an_empty_list_runs_nothing(folder: Folder) -> None:
    folder.write("w.cwl", WORKFLOW.replace("SCATTER", "band"))
    walked = folder.walk("w.cwl", {"bands": []})
    assert (walked.status, walked.outputs, walked.commands) == ("success", {"out": []}, {})


def test_other_lists_are_scattered_over(folder: Folder) -> None:
    folder.write("w.cwl", WORKFLOW.replace("SCATTER", "[band, time]\n    scatterMethod: flat_crossproduct"))
    walked = folder.walk("w.cwl", {"bands": ["X", "Y"], "times": [1, 2, 3]}, {"out": 1})
    assert walked.outputs == {"out": [1] * 6}
