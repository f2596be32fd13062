"""Telling a CWL document from what people give in its place: a job file, a list, an empty or other file.

Only the outermost shape is looked at; whether a document is valid CWL is for the service to say.
"""

from __future__ import annotations

import re
from typing import Any

from wes_bridge.bundle.document import Document
from wes_bridge.bundle.errors import BundleError

PROCESSES = ("CommandLineTool", "Workflow", "ExpressionTool", "Operation")
_NAMES = ", ".join(PROCESSES[:-1]) + f" or {PROCESSES[-1]}"
_ELSEWHERE = ("$graph", "$import", "$include", "$mixin")
_VERSION = re.compile(r"\bcwlVersion[\"']?\s*:\s*[\"']?([\w.\-]+)")
_CLASS = re.compile(rf"\bclass[\"']?\s*:\s*[\"']?(?:{'|'.join(PROCESSES)})\b")
_FEW = 4


def version_in(text: str) -> str | None:
    """The ``cwlVersion`` that a document's text states, found without parsing it."""
    found = _VERSION.search(text)
    return found[1] if found else None


def looks_like_cwl(text: str) -> bool:
    """Whether a text has what every CWL document has; if not, parse it and ask :func:`require_process`."""
    return version_in(text) is not None and _CLASS.search(text) is not None


def require_process(document: Document) -> None:
    """Refuse a document that cannot be a workflow or tool.

    Raises:
        BundleError: names the document and says what it is instead.
    """
    data = document.data
    if data is None:
        raise BundleError(f"{document.name}: is empty; a CWL workflow or tool is needed here")
    if not isinstance(data, dict):
        raise BundleError(f"{document.name}: holds {_kind(data)}, not a CWL workflow or tool")
    if any(key in data for key in _ELSEWHERE):
        return
    if "class" not in data:
        raise BundleError(f"{document.name}: is not a CWL workflow or tool: {_classless(data)}")
    name = data["class"]
    if not isinstance(name, str) or (name not in PROCESSES and ":" not in name):  # "ns:Name" is an extension
        where = document.where(data, "class")
        raise BundleError(f"{where}: is not a CWL workflow or tool: its 'class' is {name!r}, not {_NAMES}")


def _classless(data: dict[Any, Any]) -> str:
    if "cwlVersion" in data:
        return f"it has no 'class' ({_NAMES})"
    names = [str(name) for name in data]
    shown = ", ".join(names[:_FEW]) + (", ..." if len(names) > _FEW else "")
    what = f"looks like a job file with inputs ({shown})" if names else "is an object with nothing in it"
    return f"it has no 'class' and {what}; the workflow goes before it: WORKFLOW JOB"


def _kind(data: Any) -> str:
    if isinstance(data, list):
        return "a list"
    if isinstance(data, bool):
        return "true or false"
    return "a number" if isinstance(data, int | float) else "plain text"
