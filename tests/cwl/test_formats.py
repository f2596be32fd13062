"""Files of the wrong format are told with the input, the file, what it is and what is wanted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cwl.walking import Folder

TOOL = """
cwlVersion: v1.2
class: CommandLineTool
$namespaces: {f: "http://formats.example/"}
baseCommand: read
inputs:
  one: {type: "File?", format: f:fits}
  many: {type: "File[]?", format: [f:fits, f:ms]}
  deep: {type: ["null", {type: record, fields: {x: {type: File, format: f:fits}}}]}
outputs: {}
"""
FITS, OTHER = "http://formats.example/fits", "http://formats.example/other"


def file(folder: Folder, name: str, kind: str | None) -> dict[str, Any]:
    made = folder.file(name)
    return made | {"format": kind} if kind else made


@pytest.mark.parametrize("kind", [OTHER, None])
@pytest.mark.parametrize("place", ["one", "many", "deep.x"])
def test_input_and_formats_are_named(folder: Folder, place: str, kind: str | None) -> None:
    folder.write("t.cwl", TOOL)
    value = file(folder, "a.bin", kind)
    params = {
        "one": {"one": value},
        "many": {"many": [file(folder, "b.bin", FITS), value]},
        "deep.x": {"deep": {"x": value}},
    }[place]
    with pytest.raises(Exception) as told:
        folder.walk("t.cwl", params)
    text = str(told.value)
    assert f"input '{place}': a.bin" in text
    assert FITS in text
    assert (OTHER if kind else "no format") in text


def test_right_ones_and_none_at_all_are_taken(folder: Folder) -> None:
    folder.write("t.cwl", TOOL)
    params = {
        "one": None,
        "many": [file(folder, "a.bin", "f:ms"), file(folder, "b.bin", FITS)],
        "deep": {"x": file(folder, "c.bin", FITS)},
    }
    ((_, names),) = folder.walk("t.cwl", params).staged.items()
    assert sorted(names) == ["a.bin", "b.bin", "c.bin"]


def test_a_secondary_file_without_a_name_is_called_by_its_location(folder: Folder) -> None:
    folder.write(
        "t.cwl",
        """
        cwlVersion: v1.2
        class: CommandLineTool
        requirements: {InlineJavascriptRequirement: {}}
        baseCommand: read
        inputs:
          a:
            type: File
            secondaryFiles: ['$({class: "File", location: self.location + ".idx"})']
        outputs: {}
        """,
    )
    folder.file("a.bin.idx")
    ((_, names),) = folder.walk("t.cwl", {"a": folder.file("a.bin")}).staged.items()
    assert sorted(names) == ["a.bin", "a.bin.idx"]
