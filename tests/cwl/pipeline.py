"""Makes a pipeline like those of radio astronomy: 75 tool steps in three levels, with Directories.

Calibrate each observation (a Directory, as a MeasurementSet is), image it, combine. Written for the tests: it
resembles no pipeline that exists; its tools only touch files. Each of the 25 tools is used by three steps.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

OBSERVATIONS = 3
_PARTS, _IN_PART = 5, 5
_REQUIREMENTS = {
    "SubworkflowFeatureRequirement": {},
    "ScatterFeatureRequirement": {},
    "StepInputExpressionRequirement": {},
    "InlineJavascriptRequirement": {},
}


def tool(number: int) -> dict[str, Any]:
    """One of the tools; each has a time limit of its own, and as many cores as its input says."""
    return {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "label": f"tool {number}",
        "baseCommand": ["sh", "-c", 'mkdir -p out && touch out/table && echo "$0"'],
        "requirements": {
            "ResourceRequirement": {"coresMin": "$(inputs.threads)", "ramMin": 64},
            "ToolTimeLimit": {"timelimit": 600 + number},
            "InlineJavascriptRequirement": {},
        },
        "inputs": {
            "data": {"type": "Directory", "inputBinding": {"position": 1}},
            "model": {"type": "Directory?", "inputBinding": {"position": 2}},
            "column": {"type": "string?", "inputBinding": {"prefix": "--column"}},
            "threads": {"type": "int", "default": 1},
        },
        "outputs": {"data": {"type": "Directory", "outputBinding": {"glob": "out"}}},
    }


def chain(runs: dict[str, str]) -> dict[str, Any]:
    """A workflow of steps one after the other.

    Args:
        runs: file of each step's process, by name.
    """
    steps: dict[str, Any] = {}
    source = "data"
    for name, file in runs.items():
        steps[name] = {"run": file, "in": {"data": source, "threads": "threads"}, "out": ["data"]}
        source = f"{name}/data"
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": _REQUIREMENTS,
        "inputs": {"data": "Directory", "threads": "int"},
        "outputs": {"data": {"type": "Directory", "outputSource": source}},
        "steps": steps,
    }


def pipeline(folder: Path) -> tuple[Path, Path]:
    """Write the pipeline and its observations; returns the paths of the workflow and of its job file."""
    for number in range(_PARTS * _IN_PART):
        _write(folder / f"tool{number}.cwl", tool(number))
    for stage in ("calibrate", "image", "combine"):
        for part in range(_PARTS):
            first = part * _IN_PART
            runs = {f"step{first + n}": f"tool{first + n}.cwl" for n in range(_IN_PART)}
            _write(folder / f"{stage}{part}.cwl", chain(runs))
        _write(folder / f"{stage}.cwl", chain({f"part{n}": f"{stage}{n}.cwl" for n in range(_PARTS)}))
    _write(folder / "pipeline.cwl", _whole())
    observations = [_observation(folder, number) for number in range(OBSERVATIONS)]
    _write(folder / "job.json", {"observations": observations, "threads": 1})
    return folder / "pipeline.cwl", folder / "job.json"


def _whole() -> dict[str, Any]:
    threads = {"threads": "threads"}
    steps = {
        "calibrate": {"run": "calibrate.cwl", "scatter": "data", "in": {"data": "observations", **threads}},
        "image": {"run": "image.cwl", "scatter": "data", "in": {"data": "calibrate/data", **threads}},
        "combine": {
            "run": "combine.cwl",
            "in": {"data": {"source": "image/data", "valueFrom": "$(self[0])"}, **threads},
        },
    }
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": _REQUIREMENTS,
        "inputs": {"observations": "Directory[]", "threads": "int"},
        "outputs": {"map": {"type": "Directory", "outputSource": "combine/data"}},
        "steps": {name: step | {"out": ["data"]} for name, step in steps.items()},
    }


def _observation(folder: Path, number: int) -> dict[str, Any]:
    place = folder / f"observation{number}.ms"
    (place / "table").mkdir(parents=True)
    for part in range(5):
        (place / "table" / f"part{part}").write_bytes(b"x" * 1000 * (number + 1))
    return {"class": "Directory", "location": place.name}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))
