"""Refusing to scatter over a value that is no array, in words that name the step and its input.

cwltool takes the length of the value, whatever it is, and tells only what Python says to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cwltool.errors import WorkflowException
from cwltool.process import shortname
from cwltool.utils import aslist


def refuse_what_is_no_array(step: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Check the inputs that a step scatters over, as far as they are known.

    Args:
        step: the step's document.
        state: of its workflow: what each source has given, None while it has given nothing.

    Raises:
        WorkflowException: names the step, the input and its source.
    """
    scattered = set(aslist(step.get("scatter") or []))
    for port in step["inputs"]:
        sources = aslist(port.get("source") or [])
        if port["id"] not in scattered or len(sources) > 1 or port.get("linkMerge"):
            continue
        given = state.get(sources[0]) if sources else None
        if sources and given is None:
            continue  # it is not known yet
        value = given.value if given else None
        value = port.get("default") if value is None else value
        if not isinstance(value, list):
            source = f", which comes from {shortname(sources[0])!r}," if sources else ""
            raise WorkflowException(
                f"step {shortname(step['id'])!r} scatters over its input {shortname(port['id'])!r}{source}"
                f" and needs an array there, but the value is {_shown(value)}"
            )


def _shown(value: Any) -> str:
    return "null" if value is None else f"{str(value)[:100]!r}"
