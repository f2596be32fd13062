"""The CWL that is measured, made to size. No JavaScript, no containers: what is timed is the engines."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.montage import montage as graph

VERSION = "v1.2"


@dataclass(frozen=True)
class Work:
    """A workflow with its inputs, as files.

    Attributes:
        workflow, job: the files.
        params: what is in ``job``.
        outputs: how many files it has as outputs.
    """

    workflow: Path
    job: Path
    params: dict[str, Any]
    outputs: int


def echo(folder: Path) -> Work:
    """A tool that says one word into a file."""
    return _write(folder, "echo", _echo(), {"message": "hello"}, 1)


def sleep(folder: Path, seconds: int) -> Work:
    """A tool that waits."""
    tool = _tool("sleep", {"seconds": {"type": "int", "inputBinding": {}}}, {})
    return _write(folder, "sleep", tool, {"seconds": seconds}, 0)


def scatter(folder: Path, width: int) -> Work:
    """Echo, once for each of ``width`` words, into as many files with different names."""
    _save(folder / "echo.cwl", _echo())
    step = {"run": "echo.cwl", "scatter": "message", "in": {"message": "messages"}, "out": ["said"]}
    workflow = {
        "cwlVersion": VERSION,
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"messages": "string[]"},
        "outputs": {"all": {"type": "File[]", "outputSource": "say/said"}},
        "steps": {"say": step},
    }
    words = [f"word{number}" for number in range(width)]
    return _write(folder, f"scatter-{width}", workflow, {"messages": words}, width)


def chain(folder: Path, length: int) -> Work:
    """A file through ``length`` times cat."""
    source = {"source": {"type": "File", "inputBinding": {}}}
    _save(folder / "cat.cwl", {**_tool("cat", source, {"copy": "stdout"}), "stdout": "copy.txt"})
    steps = {}
    for number in range(1, length + 1):
        before = f"cat{number - 1}/copy" if number > 1 else "source"
        steps[f"cat{number}"] = {"run": "cat.cwl", "in": {"source": before}, "out": ["copy"]}
    workflow = {
        "cwlVersion": VERSION,
        "class": "Workflow",
        "inputs": {"source": "File"},
        "outputs": {"copy": {"type": "File", "outputSource": f"cat{length}/copy"}},
        "steps": steps,
    }
    folder.joinpath("source.txt").write_text("a line to hand on\n")
    job = {"source": {"class": "File", "location": "source.txt"}}
    return _write(folder, f"chain-{length}", workflow, job, 1)


def montage(folder: Path, size: int) -> Work:
    """A graph in the shape of Montage's with about ``size`` steps; how many it has is in the file's name."""
    document = graph(size)
    steps = len(document["$graph"][-1]["steps"])
    return _write(folder, f"montage-{steps}", document, {}, 1)


def _echo() -> dict[str, Any]:
    tool = _tool("echo", {"message": {"type": "string", "inputBinding": {}}}, {"said": "stdout"})
    return {**tool, "stdout": "$(inputs.message).txt"}


def _tool(command: str, inputs: dict[str, Any], outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cwlVersion": VERSION,
        "class": "CommandLineTool",
        "baseCommand": command,
        "inputs": inputs,
        "outputs": {name: {"type": kind} for name, kind in outputs.items()},
    }


def _write(folder: Path, name: str, document: dict[str, Any], params: dict[str, Any], outputs: int) -> Work:
    workflow, job = folder / f"{name}.cwl", folder / f"{name}.yml"
    _save(workflow, document)
    _save(job, params)
    return Work(workflow, job, params, outputs)


def _save(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(data, sort_keys=False))
