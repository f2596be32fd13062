"""Basenames: each is the name of one file in one folder, wherever the File or Directory comes from.

CWL says so of ``basename``; literals of expressions, ``cwl.output.json`` and job files may say otherwise, and
a name with a slash would be a path. It must not know where the files go.
"""

from __future__ import annotations

from typing import Any

from cwltool.errors import WorkflowException

_LONGEST = 255
"""Bytes of a name that file systems take."""


def file_name(name: Any, whose: str) -> str:
    """A name, if it is one.

    Args:
        name: what is given.
        whose: for the message.

    Raises:
        WorkflowException: it is none.
    """
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        shown = repr(name)
        shown = shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
        raise WorkflowException(
            f"the basename {shown} of {whose} is not the name of a file: a name has no slash, and is neither"
            " empty nor '.' nor '..'"
        )
    return name


def check_name(item: Any) -> None:
    """Refuse a File or Directory whose basename, where it has one, is no name.

    Raises:
        WorkflowException: says which.
    """
    name = item.get("basename")
    if name is not None:
        file_name(name, f"a {item['class']}")
