"""Entries that an expression gives for the listing of an InitialWorkDirRequirement.

cwltool takes them to be right, and ends in an internal error where they are not. This module must not know
where the entries go.
"""

from __future__ import annotations

import json
from typing import Any

from cwltool.errors import WorkflowException
from cwltool.utils import is_file_or_directory


def entries(value: Any, version: str) -> Any:
    """What an expression gave, fit for cwltool: a Dirent may say its class, as files do.

    Args:
        value: its value.
        version: of CWL: from v1.1 on an entry may be an array, from v1.2 on null, which places nothing.

    Raises:
        WorkflowException: an entry is no File, Directory or Dirent.
    """
    if isinstance(value, dict):
        return _entry(value, 0)
    if not isinstance(value, list):
        return value
    found: list[Any] = []
    for number, item in enumerate(value):
        if isinstance(item, list):
            inner = [_entry(one, number) for one in item]
            found += [inner] if version == "v1.0" else inner
        elif item is not None or version in ("v1.0", "v1.1"):
            found.append(_entry(item, number))
    return found


def _entry(item: Any, number: int) -> Any:
    if is_file_or_directory(item):
        return item
    if not isinstance(item, dict) or "entry" not in item:
        raise _error(number, f"is {_shown(item)}")
    entry = item["entry"]
    if not isinstance(entry, str) and not is_file_or_directory(entry):
        raise _error(number, f"has the entry {_shown(entry)}")
    if isinstance(entry, str) and not item.get("entryname"):
        raise _error(number, "has a text as its entry and no entryname")
    return {name: field for name, field in item.items() if name != "class"}


def _error(number: int, what: str) -> WorkflowException:
    return WorkflowException(
        f"InitialWorkDirRequirement: entry {number} of the listing {what}; its expression must give Files,"
        " Directories, or objects of an entryname and an entry that is a File, a Directory or a text"
    )


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)[:100]
