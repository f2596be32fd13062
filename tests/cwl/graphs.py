"""Workflows of many steps, made to size: the shapes in which loading or walking them could take too long."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Document = dict[str, Any]
REQUIREMENTS: Document = {
    "MultipleInputFeatureRequirement": {},
    "ScatterFeatureRequirement": {},
    "SubworkflowFeatureRequirement": {},
}


def tool(**more: Any) -> Document:
    """Gives what it is given."""
    return {
        "class": "CommandLineTool",
        "baseCommand": "true",
        "inputs": {"x": "Any", "after": "Any?"},
        "outputs": {"y": {"type": "int", "outputBinding": {"outputEval": "$(inputs.x)"}}},
        **more,
    }


def step(run: str | Document, number: int, after: list[str] | None = None) -> Document:
    """One step, which may wait for others."""
    inputs: Document = {"x": {"default": number}}
    if after:
        inputs["after"] = {"source": after, "linkMerge": "merge_flattened"}
    return {"run": run, "in": inputs, "out": ["y"]}


def workflow(steps: Document, outputs: list[str], **more: Any) -> Document:
    """All of them, and the outputs of some."""
    found = {"type": "int[]", "outputSource": outputs, "linkMerge": "merge_flattened"}
    return {
        "class": "Workflow",
        "requirements": REQUIREMENTS,
        "inputs": {},
        "outputs": {"ys": found},
        "steps": steps,
        **more,
    }


def beside(runs: list[str | Document], **more: Any) -> Document:
    """Steps beside each other, one for each process."""
    steps = {f"s{number}": step(run, number) for number, run in enumerate(runs)}
    return workflow(steps, [f"{name}/y" for name in steps], **more)


def inner(run: str | Document, **more: Any) -> Document:
    """A workflow of two steps one after the other, to be a step."""
    steps = {"a": step(run, 0), "b": step(run, 1, ["a/y"])}
    steps["a"]["in"]["x"] = "x"
    outputs = {"y": {"type": "int", "outputSource": "b/y"}}
    return {"class": "Workflow", "inputs": {"x": "int"}, "outputs": outputs, "steps": steps, **more}


def packed(*processes: Document, version: str = "v1.2") -> Document:
    """A document of several processes."""
    return {"cwlVersion": version, "$graph": list(processes)}


def one_tool(size: int) -> Document:
    """Layers of steps of one tool; all of a layer go to one step, which goes to all of the next."""
    steps: Document = {}
    after: list[str] = []
    for number in range(size):
        steps[f"s{number}"] = step(
            "#tool", number, after if number % 2 else [f"s{number - 1}/y"] * (number > 0)
        )
        after = [*after, f"s{number}/y"][-4:]
    return packed(tool(id="tool"), workflow(steps, [f"s{size - 1}/y"], id="main"))


def many_tools(size: int, version: str = "v1.2") -> Document:
    """A packed document with a tool for each step."""
    tools = [tool(id=f"tool{number}") for number in range(size)]
    return packed(*tools, beside([f"#{one['id']}" for one in tools], id="main"), version=version)


def many_old_tools(size: int) -> Document:
    """The same of CWL v1.0, which is brought to a newer version first."""
    return many_tools(size, "v1.0")


def embedded_tools(size: int) -> Document:
    """Steps with their tools in them."""
    return {"cwlVersion": "v1.2", **beside([tool() for _ in range(size)])}


def one_workflow(size: int) -> Document:
    """Steps of one workflow."""
    return packed(tool(id="tool"), inner("#tool", id="inner"), beside(["#inner"] * size, id="main"))


def many_workflows(size: int) -> Document:
    """Steps each of which is a workflow of its own."""
    found = [inner("#tool", id=f"inner{number}") for number in range(size)]
    return packed(tool(id="tool"), *found, beside([f"#{one['id']}" for one in found], id="main"))


def embedded_workflows(size: int) -> Document:
    """The same with the workflows and tools in the steps."""
    small = tool(inputs={"x": "int", "after": "Any?"})
    return {"cwlVersion": "v1.2", **beside([inner(small) for _ in range(size)])}


def wide_workflow(size: int) -> Document:
    """One step, a workflow that is scattered."""
    scattered = step("#inner", 0) | {"scatter": "x"}
    scattered["in"]["x"]["default"] = list(range(size))
    return packed(
        tool(id="tool"), inner("#tool", id="inner"), workflow({"wide": scattered}, ["wide/y"], id="main")
    )


def line(size: int) -> Document:
    """Steps one after the other."""
    steps = {f"s{n}": step("#tool", n, [f"s{n - 1}/y"] * (n > 0)) for n in range(size)}
    return packed(tool(id="tool"), workflow(steps, [f"s{size - 1}/y"], id="main"))


SHAPES: list[Callable[[int], Document]] = [
    one_tool,
    many_tools,
    many_old_tools,
    embedded_tools,
    one_workflow,
    many_workflows,
    embedded_workflows,
    line,
]
QUICK_TO_LOAD = [one_tool, one_workflow, wide_workflow, line]
"""Shapes in which much is walked and little is loaded."""


def write(folder: Path, document: Document, name: str = "w.cwl") -> Path:
    """The document as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def files_of_tools(folder: Path, size: int) -> Path:
    """A workflow whose steps have a file each."""
    names = [f"tool{number}.cwl" for number in range(size)]
    for name in names:
        write(folder, {"cwlVersion": "v1.2", **tool()}, name)
    return write(folder, {"cwlVersion": "v1.2", **beside(list(names))})
