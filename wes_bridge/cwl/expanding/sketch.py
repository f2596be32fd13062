"""A tool whose inputs are not all known: what can be said of it nevertheless, as a StepPlan.

Image, resources, time limit and network are known unless an expression looks at something that is not. The
command is the tool's, without what its inputs add.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cwltool.errors import WorkflowException
from cwltool.process import shortname

from wes_bridge.cwl.expanding.expressions import Expressions
from wes_bridge.cwl.expanding.unknown import Unknown, is_known, sources_of
from wes_bridge.cwl.tools.context import StepContext
from wes_bridge.cwl.tools.requirements import image_of, success_codes
from wes_bridge.model.step_plan import Resources, StagedFile, StepPlan
from wes_bridge.model.units import MIB

_CODES = ("successCodes", "temporaryFailCodes", "permanentFailCodes")
_DEFAULTS = {"cores": 1.0, "ram": 256.0}


def sketch(
    tool: Any, inputs: Mapping[str, Any], context: StepContext, expressions: Expressions, output_url: str
) -> tuple[StepPlan, tuple[str, ...]]:
    """The plan, and what is not known, in words.

    Args:
        tool: a CommandLineTool.
        inputs: by short name.
        context: at its place.
        expressions: evaluates.
        output_url: where its output directory would go.

    Raises:
        UnsupportedRequirement: it asks for something no node can do.
        WorkflowException: an expression fails.
    """
    asked = _Asked(tool, inputs, expressions)
    choice = image_of(tool, context.containers)
    waits = {name: sources_of(value) for name, value in inputs.items() if not is_known(value)}
    root = context.get_outdir().removesuffix("/out")
    plan = StepPlan(
        name="/".join(context.place),
        argv=_command(tool),
        environment={},
        root=root,
        workdir=context.get_outdir(),
        output_url=output_url,
        staged=list(_staged(inputs, root)),
        resources=asked.resources(),
        time_limit=asked.time_limit(),
        network=asked.network(),
        image=choice.image,
        image_required=choice.required,
        containers=context.containers,
        image_is_there=choice.is_there,
        left_out=choice.left_out,
        success_codes=success_codes(*(tool.tool.get(name, ()) for name in _CODES)),
    )
    words = [_waits(name, sources) for name, sources in waits.items()]
    return plan, (*words, *asked.unknown)


def _waits(name: str, sources: frozenset[str]) -> str:
    return f"input {name} comes from {', '.join(sorted(sources)) or 'a step before'}"


def _command(tool: Any) -> list[str]:
    base = tool.tool.get("baseCommand") or []
    words = [str(word) for word in (base if isinstance(base, list) else [base])]
    if not words:
        first = next((one for one in tool.tool.get("arguments") or [] if isinstance(one, str)), None)
        words = [first] if first and "$" not in first else [shortname(tool.tool["id"])]
    return words


def _staged(inputs: Mapping[str, Any], root: str) -> Iterator[StagedFile]:
    for number, item in enumerate(files_of(list(inputs.values()))):
        path = f"{root}/in/{number}/{item.get('basename') or 'input'}"
        directory = item["class"] == "Directory"
        location = item.get("location", "")
        if location.startswith("_:"):
            yield StagedFile(path, contents=item.get("contents"), directory=directory)
        elif location:
            yield StagedFile(path, location, directory=directory, size=item.get("size"))


def files_of(value: Any) -> Iterator[dict[str, Any]]:
    """Files and Directories in a value, secondary files too; not what a Directory lists that has a place."""
    if isinstance(value, list):
        for part in value:
            yield from files_of(part)
    elif isinstance(value, dict):
        if value.get("class") in ("File", "Directory"):
            yield value
            yield from files_of(value.get("secondaryFiles") or [])
            if str(value.get("location", "")).startswith("_:"):
                yield from files_of(value.get("listing") or [])
        else:
            yield from files_of(list(value.values()))


class _Asked:
    """What a tool's requirements ask for; ``unknown`` collects what cannot be told."""

    def __init__(self, tool: Any, inputs: Mapping[str, Any], expressions: Expressions) -> None:
        self.unknown: list[str] = []
        self._tool = tool
        self._inputs = inputs
        self._expressions = expressions

    def resources(self) -> Resources:
        """As :meth:`BridgeJob.plan` would say."""
        requirement = self._tool.get_requirement("ResourceRequirement")[0] or {}
        said = {
            name: self._number(requirement.get(name), name)
            for name in ("coresMin", "coresMax", "ramMin", "ramMax", "tmpdirMin", "outdirMin")
        }
        cores = said["coresMin"] or said["coresMax"] or _DEFAULTS["cores"]
        memory = said["ramMin"] or said["ramMax"]
        scratch = (said["tmpdirMin"] or 0) + (said["outdirMin"] or 0)
        return Resources(
            cores_min=cores,
            cores_max=said["coresMax"],
            memory_min=int(memory * MIB) if memory else None,
            memory_max=int(said["ramMax"] * MIB) if said["ramMax"] else None,
            scratch_min=int(scratch * MIB) or None,
        )

    def time_limit(self) -> int | None:
        """Seconds."""
        requirement = self._tool.get_requirement("ToolTimeLimit")[0] or {}
        limit = self._number(requirement.get("timelimit"), "timelimit")
        return int(limit) if limit else None

    def network(self) -> bool:
        """Whether it needs the network."""
        requirement = self._tool.get_requirement("NetworkAccess")[0] or {}
        return self._value(requirement.get("networkAccess"), "networkAccess") is True

    def _number(self, written: Any, name: str) -> float | None:
        value = self._value(written, name)
        if value is None or isinstance(value, (int, float)):
            return value
        raise WorkflowException(f"{name} must be a number, not {value!r}")

    def _value(self, written: Any, name: str) -> Any:
        if written is None:
            return None
        value = self._expressions.value(written, self._inputs, self._tool.requirements)
        if isinstance(value, Unknown):
            self.unknown.append(
                f"{name} is computed from {', '.join(sorted(value.sources)) or 'steps before'}"
            )
            return None
        return value
