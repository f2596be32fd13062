"""Default Files of tools and steps: found by ``path``, with the files beside them, in every use."""

from __future__ import annotations

import pytest

from tests.cwl.walking import Folder

TOOL = """
cwlVersion: {version}
class: CommandLineTool
requirements: {{InlineJavascriptRequirement: {{}}}}
baseCommand: read
inputs:
  table:
    type: {kind}
    {secondary}
    default: {default}
    inputBinding: {{}}
outputs: []
"""
STEP = """
cwlVersion: {version}
class: Workflow
requirements: {{SubworkflowFeatureRequirement: {{}}}}
inputs: {{other: "{kind}?"}}
outputs: []
steps:
  s: {{run: tools/tool.cwl, in: {link}, out: []}}
"""
BY_PATH = "{class: File, path: table.csv}"
BY_LOCATION = "{class: File, location: table.csv}"
PATTERNS = [
    "secondaryFiles: [.idx]",
    'secondaryFiles: ["^.fai?"]',
    'secondaryFiles: ["$(self.basename).idx"]',
]


def documents(folder: Folder, link: str, default: str, secondary: str = "", **more: str) -> None:
    given = {"version": "v1.2", "kind": "File", **more}
    folder.write("tools/tool.cwl", TOOL.format(default=default, secondary=secondary, **given))
    folder.write("w.cwl", STEP.format(link=link, **given))
    for name in ("tools/table.csv", "tools/table.csv.idx", "own.csv", "own.csv.idx"):
        folder.write(name, "1,2")


@pytest.mark.parametrize("version", ["v1.0", "v1.1", "v1.2"])
@pytest.mark.parametrize("default", [BY_PATH, BY_LOCATION])
@pytest.mark.parametrize("link", ["{}", "{table: other}", "{table: {source: other}}"])
def test_a_tools_default_is_found_beside_the_tool(
    folder: Folder, link: str, default: str, version: str
) -> None:
    documents(folder, link, default, version=version)
    walked = folder.walk("w.cwl", {"other": None})
    assert walked.staged == {"s": ["table.csv"]}, walked.told
    assert walked.values["s"]["table"]["location"] == f"{folder.base}tools/table.csv"


@pytest.mark.parametrize("field", ["path", "location"])
def test_a_steps_default_is_found_beside_the_workflow(folder: Folder, field: str) -> None:
    documents(folder, f"{{table: {{default: {{class: File, {field}: own.csv}}}}}}", BY_PATH)
    assert folder.walk("w.cwl").staged == {"s": ["own.csv"]}


def test_a_list_of_files_is_found(folder: Folder) -> None:
    documents(folder, "{}", f"[{BY_PATH}, {BY_PATH}]", kind="File[]")
    walked = folder.walk("w.cwl")
    assert [item["basename"] for item in walked.values["s"]["table"]] == ["table.csv", "table.csv"]


def test_a_directory_is_found(folder: Folder) -> None:
    documents(folder, "{table: other}", "{class: Directory, path: .}", kind="Directory")
    walked = folder.walk("w.cwl", {"other": None})
    assert walked.values["s"]["table"]["location"].rstrip("/.") == f"{folder.base}tools", walked.told


@pytest.mark.parametrize("secondary", PATTERNS[::2])
@pytest.mark.parametrize("link", ["{}", "{table: other}"])
def test_files_beside_a_tools_default_come_with_it(folder: Folder, link: str, secondary: str) -> None:
    documents(folder, link, BY_PATH, secondary)
    walked = folder.walk("w.cwl", {"other": None})
    assert walked.staged == {"s": ["table.csv", "table.csv.idx"]}, walked.told


def test_files_beside_a_steps_default_come_with_it(folder: Folder) -> None:
    documents(folder, "{table: {default: {class: File, path: own.csv}}}", BY_PATH, PATTERNS[0])
    assert folder.walk("w.cwl").staged == {"s": ["own.csv", "own.csv.idx"]}


def test_an_optional_one_that_is_not_there_is_left_out(folder: Folder) -> None:
    documents(folder, "{}", BY_PATH, PATTERNS[1])
    assert folder.walk("w.cwl").staged == {"s": ["table.csv"]}


def test_in_a_list_each_file_brings_its_own(folder: Folder) -> None:
    documents(folder, "{}", f"[{BY_PATH}]", PATTERNS[0], kind="File[]")
    assert folder.walk("w.cwl").staged == {"s": ["table.csv", "table.csv.idx"]}


def test_a_file_that_another_step_made_brings_only_what_it_says(folder: Folder) -> None:
    """What lies beside an earlier step's file was never said to belong to it."""
    documents(folder, "{table: first/table}", BY_PATH, PATTERNS[0])
    text = (folder.path / "w.cwl").read_text()
    first = (
        "  first: {in: {}, out: [table], run: {class: CommandLineTool, baseCommand: make, inputs: [],"
        " outputs: {table: File}}}\n"
    )
    folder.write("w.cwl", text + first)
    walked = folder.walk("w.cwl", outputs={"table": folder.file("own.csv")})
    assert list(walked.commands) == ["first"]
    assert any("own.csv" in text and "secondary" in text for text in walked.told)


def test_a_default_that_is_not_there_is_told(folder: Folder) -> None:
    documents(folder, "{table: other}", "{class: File, path: nowhere.csv}", PATTERNS[0])
    walked = folder.walk("w.cwl", {"other": None})
    assert walked.status == "permanentFail"
    assert any("nowhere.csv" in text for text in walked.told)


def test_a_default_of_one_step_is_none_of_another_that_runs_the_same_tool(folder: Folder) -> None:
    documents(folder, "{}", BY_LOCATION, PATTERNS[0])
    folder.write(
        "two.cwl",
        """
cwlVersion: v1.2
class: Workflow
inputs: {other: File}
outputs: []
steps:
  has: {run: tools/tool.cwl, in: {table: {default: {class: File, location: own.csv}}}, out: []}
  has_none: {run: tools/tool.cwl, in: {table: other}, out: []}
""",
    )
    walked = folder.walk("two.cwl", {"other": {"class": "File", "location": f"{folder.base}own.csv"}})
    assert "has_none" not in walked.staged, "files beside what the workflow passes on are not looked for"
