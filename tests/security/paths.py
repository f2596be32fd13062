"""What the tests of paths share: documents that make up locations, and canaries that are looked at."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CANARY = "the-canary-sings"


def tool(command: str, **more: Any) -> dict[str, Any]:
    """A tool that runs a command, with JavaScript."""
    body: dict[str, Any] = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "requirements": {"InlineJavascriptRequirement": {}} | more.pop("requirements", {}),
        "inputs": {},
        "baseCommand": ["sh", "-c"],
        "arguments": [command],
        "outputs": {"said": "stdout"},
        "stdout": "said.txt",
    }
    return body | more


def made_up(location: str, kind: str = "File") -> str:
    """An expression that makes up a File or Directory."""
    return "${return " + json.dumps({"class": kind, "location": location, "basename": "got"}) + ";}"


def in_workdir(location: str) -> dict[str, Any]:
    """InitialWorkDirRequirement places what an expression made up."""
    listing = {"InitialWorkDirRequirement": {"listing": [made_up(location)]}}
    return tool("cat got", requirements=listing)


def in_listing(location: str) -> dict[str, Any]:
    """A Directory literal lists it."""
    entry = {"class": "Directory", "basename": "d", "listing": [_item(location)]}
    listing = {
        "InitialWorkDirRequirement": {"listing": ["${return " + json.dumps(entry) + ";}"]},
    }
    return tool("cat d/got", requirements=listing)


def in_output(location: str) -> dict[str, Any]:
    """``outputEval`` gives it."""
    out = {"type": "File", "outputBinding": {"outputEval": made_up(location)}}
    return tool("true", outputs={"said": out}, stdout="other.txt")


def in_output_object(location: str) -> dict[str, Any]:
    """The command's ``cwl.output.json`` names it."""
    text = json.dumps({"said": _item(location)})
    return tool(f"echo '{text}' > cwl.output.json", outputs={"said": "File"})


def in_value_from(location: str) -> dict[str, Any]:
    """A step's ``valueFrom`` gives it."""
    reader = tool(
        "cat $0",
        inputs={"f": {"type": "File", "inputBinding": {"position": 1}}},
    )
    return _workflow({"read": {"in": {"f": {"valueFrom": made_up(location)}}, "run": reader}})


def in_expression_tool(location: str) -> dict[str, Any]:
    """An ExpressionTool gives it to a step."""
    maker = {
        "class": "ExpressionTool",
        "inputs": {},
        "outputs": {"f": "File"},
        "expression": "${return {f: " + json.dumps(_item(location)) + "};}",
    }
    reader = tool("cat $0", inputs={"f": {"type": "File", "inputBinding": {"position": 1}}})
    steps = {"make": {"in": {}, "out": ["f"], "run": maker}, "read": {"in": {"f": "make/f"}, "run": reader}}
    return _workflow(steps)


def in_secondary_files(location: str) -> dict[str, Any]:
    """The secondary file of a literal."""
    literal = {"class": "File", "basename": "a.txt", "contents": "a", "secondaryFiles": [_item(location)]}
    listing = {"InitialWorkDirRequirement": {"listing": ["${return " + json.dumps(literal) + ";}"]}}
    return tool("cat got", requirements=listing)


def in_contents(location: str) -> dict[str, Any]:
    """``loadContents`` of what a ``valueFrom`` gives."""
    reader = tool(
        "echo $0",
        inputs={
            "f": {
                "type": "File",
                "loadContents": True,
                "inputBinding": {"position": 1, "valueFrom": "$(self.contents)"},
            }
        },
    )
    return _workflow({"read": {"in": {"f": {"valueFrom": made_up(location)}}, "run": reader}})


WAYS = (
    in_workdir,
    in_listing,
    in_output,
    in_output_object,
    in_value_from,
    in_expression_tool,
    in_secondary_files,
    in_contents,
)


def updated_in_place(location: str) -> dict[str, Any]:
    """A Directory that an expression makes up is to be changed in place."""
    entry = {"entryname": "got", "entry": made_up(location, "Directory"), "writable": True}
    place = {
        "InitialWorkDirRequirement": {"listing": [entry]},
        "InplaceUpdateRequirement": {"inplaceUpdate": True},
    }
    return tool("echo changed > got/canary.txt; echo new > got/new.txt", requirements=place)


def _item(location: str) -> dict[str, Any]:
    return {"class": "File", "location": location, "basename": "got"}


def _workflow(steps: dict[str, Any]) -> dict[str, Any]:
    for step in steps.values():
        step.setdefault("out", ["said"])
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"InlineJavascriptRequirement": {}, "StepInputExpressionRequirement": {}},
        "inputs": {},
        "outputs": {"said": {"type": "File", "outputSource": "read/said"}},
        "steps": steps,
    }


def texts(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """All regular files below a folder, no link followed."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path, path.read_bytes()


def found_in(folder: Path) -> list[str]:
    """Files below a folder that hold the canary."""
    return [str(path) for path, content in texts(folder) if CANARY.encode() in content]
