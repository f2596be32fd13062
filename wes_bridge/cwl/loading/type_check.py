"""Links between steps, checked before anything runs: mistakes are refused, doubts about types are told.

cwltool's checker of types works on the very ports that are run, and writes to them what it supposes: a merge
that turns one file into a list, a source that may be null. Here it is given copies, so that its doubts change
nothing. A document whose types do not fit runs as older runners ran it, with a warning; a link to nothing
never was a question of types. This module must not know how a workflow is run.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from cwltool import checker
from cwltool.process import shortname
from schema_salad.exceptions import ValidationException
from schema_salad.sourceline import SourceLine

_logger = logging.getLogger("cwltool")
_check = checker.static_checker
FINDING = "Static type check: "
"""How the warning of a finding begins."""

Port = dict[str, Any]


def static_checker(
    workflow_inputs: list[Port],
    workflow_outputs: list[Port],
    step_inputs: list[Port],
    step_outputs: list[Port],
    param_to_step: dict[str, Port],
) -> None:
    """In the place of cwltool's: see the module.

    Raises:
        ValidationException: a link that names nothing, with its file and line.
        cwltool.errors.WorkflowException: a way to merge or pick that there is none of.
    """
    known = {port["id"] for port in (*workflow_inputs, *step_outputs)}
    _require_sources(step_inputs, "source", known)
    _require_sources(workflow_outputs, "outputSource", known)
    _widen_loops(step_outputs, param_to_step)
    sources, sinks = _copies(workflow_inputs), _copies(step_inputs)
    outputs = _copies(workflow_outputs)
    made = _copies(step_outputs)
    steps = _without_loops(param_to_step)
    try:
        _check(sources, outputs, sinks, made, steps)
    except ValidationException as finding:
        _logger.warning("%s%s", FINDING, str(finding).strip("\n"))
    types = {port["id"]: port for port in (*sources, *made)}
    for port, checked in ((step_inputs, sinks), (workflow_outputs, outputs)):
        for original, supposed in zip(port, checked, strict=True):
            _take_over_merge(original, supposed, types)


def _require_sources(sinks: Iterable[Port], field: str, known: set[str]) -> None:
    """Refuse a link that names nothing, and an empty list where nothing else gives a value."""
    for sink in sinks:
        if field not in sink:
            continue
        named = sink[field] if isinstance(sink[field], list) else [sink[field]]
        if field == "source" and not named and "default" not in sink and "valueFrom" not in sink:
            named = [None]
        for source in named:
            if source is None:
                raise _at(
                    sink,
                    field,
                    f"{field} of {shortname(sink['id'])!r} is empty: name a workflow input or STEP/OUTPUT,"
                    " or leave it out",
                )
            if source not in known:
                raise _at(
                    sink,
                    field,
                    f"{field} not found: {_name(source)!r}, named by {shortname(sink['id'])!r}, is neither an"
                    " input of the workflow nor an output of one of its steps (STEP/OUTPUT)",
                )


def _at(sink: Port, field: str, text: str) -> ValidationException:
    made: ValidationException = SourceLine(sink, field, ValidationException).makeError(text)
    return made


def _name(source: str) -> str:
    """As written in the document: ``step/output``."""
    return source.rpartition("#")[2].removeprefix("main/") or source


def _widen_loops(step_outputs: Iterable[Port], param_to_step: Mapping[str, Port]) -> None:
    """What a loop gives of all its rounds is a list: cwltool's checker says so once for each sink."""
    for port in step_outputs:
        if checker.is_all_output_method_loop_step(param_to_step, port["id"]):
            port["type"] = {"type": "array", "items": port["type"]}


def _without_loops(param_to_step: Mapping[str, Port]) -> dict[str, Port]:
    return {
        name: {key: value for key, value in step.items() if key != "loop"} if "loop" in step else step
        for name, step in param_to_step.items()
    }


def _copies(ports: Iterable[Port]) -> list[Port]:
    """Ports that the checker may write to; they know their lines."""
    copied = []
    for port in ports:
        one = copy.copy(port)
        if not isinstance(port["type"], str):
            one["type"] = copy.deepcopy(port["type"])
        copied.append(one)
    return copied


def _take_over_merge(sink: Port, supposed: Port, types: Mapping[str, Port]) -> None:
    """``all_non_null`` of a list with one source gives a list where the sink takes one.

    cwltool supposes it everywhere since 3.2; before, the source's value went through as it is, and documents
    written then have sinks for that.
    """
    if "linkMerge" in sink or "linkMerge" not in supposed:
        return
    merge, how = supposed["linkMerge"], sink.get("valueFrom")
    sources: list[str] = sink["source"] if "source" in sink else sink["outputSource"]
    found = {
        checker.check_types(types[source], supposed, merge, sink.get("pickValue"), how) for source in sources
    }
    if "exception" not in found:
        sink["linkMerge"] = merge
