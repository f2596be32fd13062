"""Types that hold types without a name: lists of enumerations and records, optional, nested, in records."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cwl.walking import Folder

ENUM = "{type: enum, symbols: [XX, YY]}"
NAMED = "{type: enum, name: polarisation, symbols: [XX, YY]}"
RECORD = (
    "{type: record, fields: {lo: {type: int, inputBinding: {prefix: --lo}},"
    " hi: {type: 'int?', inputBinding: {prefix: --hi}}}}"
)
ARRAY = "{{type: array, items: {}}}"


def tool(kind: str) -> str:
    return f"""
cwlVersion: v1.2
class: CommandLineTool
baseCommand: cut
inputs: {{x: {{type: {kind}, inputBinding: {{prefix: -x}}}}}}
outputs: {{}}
"""


OPTIONAL = "['null', {}]"
CASES: dict[str, tuple[str, Any, list[str]]] = {
    "enums": (OPTIONAL.format(ARRAY.format(ENUM)), ["XX", "YY"], ["-x", "XX", "YY"]),
    "named enums": (OPTIONAL.format(ARRAY.format(NAMED)), ["YY"], ["-x", "YY"]),
    "records": (
        OPTIONAL.format(ARRAY.format(RECORD)),
        [{"lo": 1, "hi": 2}, {"lo": 3}],
        ["-x", "--hi", "2", "--lo", "1", "--lo", "3"],
    ),
    "lists of lists": (
        OPTIONAL.format(ARRAY.format(ARRAY.format(ENUM))),
        [["XX"], ["YY"]],
        ["-x", "XX", "YY"],
    ),
    "either": (f"['null', {ENUM}, {ARRAY.format(ENUM)}]", ["YY"], ["-x", "YY"]),
    "in a record": (
        "{type: record, fields: {p: {type: ['null', "
        + ARRAY.format(ENUM)
        + "], inputBinding: {prefix: -p}}}}",
        {"p": ["XX"]},
        ["-x", "-p", "XX"],
    ),
    "an enumeration in a list of records": (
        OPTIONAL.format(
            ARRAY.format(
                "{type: record, fields: {p: {type: [" + ENUM + ", 'null'], inputBinding: {prefix: -p}}}}"
            )
        ),
        [{"p": "XX"}, {}],
        ["-x", "-p", "XX"],
    ),
    "none": (OPTIONAL.format(ARRAY.format(ENUM)), None, []),
}


@pytest.mark.parametrize(("kind", "value", "words"), CASES.values(), ids=CASES)
def test_the_command_has_the_values(folder: Folder, kind: str, value: Any, words: list[str]) -> None:
    folder.write("t.cwl", tool(kind))
    walked = folder.walk("t.cwl", {"x": value})
    (command,) = walked.commands.values()
    assert command[0] == "cut"
    assert command[1:] == words


@pytest.mark.parametrize("value", [["ZZ"], "XX", [3]])
def test_a_value_of_none_of_the_types_is_refused(folder: Folder, value: Any) -> None:
    folder.write("t.cwl", tool(OPTIONAL.format(ARRAY.format(ENUM))))
    with pytest.raises(Exception, match="'x' field is not valid"):
        folder.walk("t.cwl", {"x": value})


def test_the_same_tool_twice_in_a_workflow(folder: Folder) -> None:
    folder.write("t.cwl", tool(OPTIONAL.format(ARRAY.format(ENUM))))
    folder.write(
        "w.cwl",
        """
        cwlVersion: v1.2
        class: Workflow
        requirements: {ScatterFeatureRequirement: {}}
        inputs: {xs: Any}
        outputs: {}
        steps:
          a: {run: t.cwl, in: {x: xs}, scatter: x, out: []}
        """,
    )
    walked = folder.walk("w.cwl", {"xs": [["XX"], ["YY"]]})
    assert walked.commands == {"a[0]": ["cut", "-x", "XX"], "a[1]": ["cut", "-x", "YY"]}
