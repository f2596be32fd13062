"""Default Files: those that a document gives by ``path``, and the secondary files that lie beside a default.

cwltool takes care of both for a tool that is run by itself and not for one that is a step: there a ``path``
is no file, and the files beside a default are not looked for. A default is the same wherever the tool is
used, so both are done for every one. Offered upstream in ``docs/upstream``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cwltool.process import shortname
from cwltool.utils import path_to_loc, visit_files, visit_files_directories

_OF_STEPS = "wes-bridge:stepDefaults"


def locate(ports: Iterable[dict[str, Any]]) -> None:
    """Have the default Files and Directories of inputs named by their location.

    Args:
        ports: inputs of a process or of a step, as loaded: paths in it are absolute URLs.
    """
    for port in ports:
        if port.get("default") is not None:
            visit_files_directories(port["default"], path_to_loc)


def of_step(ports: Iterable[dict[str, Any]], fields: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The defaults that a step has for those of its tool's inputs that have secondary files, by name.

    Args:
        ports: the step's inputs.
        fields: of the tool's record of inputs (``inputs_record_schema``).
    """
    given = {shortname(port["id"]): port["default"] for port in ports if port.get("default") is not None}
    return {
        field["name"]: given[field["name"]]
        for field in fields
        if field["name"] in given
        and "secondaryFiles" in field
        and given[field["name"]] != field.get("default")
    }


def remember(defaults: dict[str, Any], fields: Iterable[dict[str, Any]]) -> None:
    """Note defaults of a step (:func:`of_step`) in its tool's record of inputs, which must be its own."""
    for field in fields:
        if field["name"] in defaults:
            field.setdefault(_OF_STEPS, []).append(defaults[field["name"]])


def is_default(field: dict[str, Any], value: Any) -> bool:
    """Whether an input's Files are those of its default.

    Args:
        field: of the tool's record of inputs.
        value: what it is given.
    """
    defaults = [field["default"]] if field.get("default") is not None else []
    defaults += field.get(_OF_STEPS, [])
    if not defaults:
        return False
    places = set(_places(value))
    return bool(places) and any(places == set(_places(default)) for default in defaults)


def _places(value: Any) -> Iterator[str]:
    found: list[str] = []
    visit_files(value, lambda item: found.append(item.get("location") or item.get("path") or ""))
    return iter(found)
