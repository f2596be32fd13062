"""Small tools and workflows for runs at nodes that share no disk."""

from __future__ import annotations

from typing import Any

NAMESPACES = {"wb": "urn:wes-bridge:cwl:"}
FOLDER = {"type": "Directory"}
TOOL = {"class": "CommandLineTool", "cwlVersion": "v1.2"}


def sh(script: str, inputs: dict[str, Any], outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A tool: a shell script that gets its inputs as arguments."""
    words = {
        name: {"type": kind, "inputBinding": {"position": place}}
        for place, (name, kind) in enumerate(inputs.items())
    }
    return TOOL | {"baseCommand": ["sh", "-c", script, "x"], "inputs": words, "outputs": outputs, **more}


def found(glob: str, kind: str = "File") -> dict[str, Any]:
    """An output by its name."""
    return {"type": kind, "outputBinding": {"glob": glob}}


def at(node: str, tool: dict[str, Any], takes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A step that runs at one node only."""
    hints = {"wb:Placement": {"only": node}}
    return {"run": tool, "in": takes, "out": list(tool["outputs"]), "hints": hints, **more}


def workflow(
    inputs: dict[str, Any], outputs: dict[str, str], steps: dict[str, Any], **more: Any
) -> dict[str, Any]:
    """A workflow; ``outputs`` are ``TYPE SOURCE``."""
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "$namespaces": NAMESPACES,
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": inputs,
        "outputs": {
            name: dict(zip(("type", "outputSource"), text.split(), strict=True))
            for name, text in outputs.items()
        },
        "steps": steps,
        **more,
    }
