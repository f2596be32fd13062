"""What reaches a port: the values of its sources, merged and picked as CWL says, as far as they are known.

Source: CWL v1.2 Workflow, "WorkflowStepInput" and "WorkflowOutputParameter"; as cwltool's object_from_state.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from cwltool.errors import WorkflowException
from cwltool.process import shortname

from wes_bridge.cwl.expanding.unknown import Unknown, is_known, sources_of

State = Mapping[str, Any]
"""Values by id of the workflow's inputs and its steps' outputs."""


def linked(port: Mapping[str, Any], field: str, state: State) -> Any:
    """The value at a port.

    Args:
        port: a step's input or a workflow's output.
        field: which of its fields names the sources.
        state: what there is.

    Raises:
        WorkflowException: a source that is not there, or nothing to pick.
    """
    value: Any = None
    if field in port:
        sources = port[field] if isinstance(port[field], list) else [port[field]]
        missing = [source for source in sources if source not in state]
        if missing:
            raise WorkflowException(f"{shortname(port['id'])}: there is no source {missing[0]}")
        merge = port.get("linkMerge", "merge_nested" if len(sources) > 1 else None)
        value = _merged(merge, [state[source] for source in sources])
        value = _picked(port, value)
    if value is None and "default" in port:
        return copy.deepcopy(port["default"])
    return value


def _merged(merge: str | None, values: list[Any]) -> Any:
    if merge is None:
        return copy.deepcopy(values[0])
    if merge == "merge_nested":
        return copy.deepcopy(values)
    flat: list[Any] = []
    for value in values:
        if isinstance(value, Unknown) and value.array is not False:
            return Unknown(sources_of(values), array=True, nullable=False)
        flat.extend(value if isinstance(value, list) else [value])
    return copy.deepcopy(flat)


def _picked(port: Mapping[str, Any], value: Any) -> Any:
    how = port.get("pickValue")
    if how is None or not isinstance(value, list):
        return value
    if any(isinstance(one, Unknown) and one.nullable for one in value):
        return Unknown(sources_of(value), array=True if how == "all_non_null" else None, nullable=False)
    there = [one for one in value if one is not None]
    if how == "all_non_null":
        return there
    if not there:
        raise WorkflowException(f"All sources for {shortname(port['id'])!r} are null")
    if how == "the_only_non_null" and len(there) > 1:
        raise WorkflowException(f"Expected only one source for {shortname(port['id'])!r} to be non-null")
    return there[0]


def with_defaults(ports: list[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A process's inputs, by short name, with its own defaults for those that are null."""
    found = dict(inputs)
    for port in ports:
        name = shortname(port["id"])
        if found.get(name) is None:
            found[name] = copy.deepcopy(port["default"]) if "default" in port else None
    return found


def all_known(values: Mapping[str, Any]) -> bool:
    """Whether every one of them is."""
    return all(is_known(value) for value in values.values())
