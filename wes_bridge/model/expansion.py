"""How large a document is when all that it refers to is written out: YAML aliases and imports make few bytes
into more values than any machine holds, and who walks through them never ends. It must not know CWL.
"""

from __future__ import annotations

import re
from typing import Any

MOST_VALUES = 5_000_000
"""Values in one document, or in the inputs of one run."""
TOO_MANY = (
    f"more than {MOST_VALUES} values when its aliases (*name) and imports are written out;"
    " write what it needs without them, or give long lists in a file that a step reads"
)
_DEEPEST = 400
"""Levels of lists and mappings within each other; Python's stack, and so cwltool, ends soon after."""
_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?P<open>[\[{])|(?P<close>[\]}])')
"""In JSON; those in strings are skipped."""


def nested(text: str) -> int:
    """To how many levels the lists and objects of a JSON text are nested."""
    depth = deepest = 0
    if text.count("[") + text.count("{") <= _DEEPEST:
        return 0
    for found in _BRACKETS.finditer(text):
        depth += (found.lastgroup == "open") - (found.lastgroup == "close")
        deepest = max(deepest, depth)
    return deepest


def excess(document: Any) -> str | None:
    """Why a document has too many values, or too many levels, when it is written out; None when it has not.

    Takes time for each value that is there, however often it is referred to.
    """
    values, levels = expanded(document)
    if values > MOST_VALUES:
        return TOO_MANY
    return f"nested too deeply, in more than {_DEEPEST} levels" if levels > _DEEPEST else None


def expanded(document: Any) -> tuple[int, int]:
    """How many values and how many levels it has; a circle has no end.

    Returns:
        Both; as soon as one is too much, it may be less than it really is.
    """
    known: dict[int, tuple[int, int]] = {}
    open_: set[int] = set()
    stack: list[tuple[Any, bool]] = [(document, False)]
    while stack:
        value, is_counted = stack.pop()
        items = _items(value)
        if items is None or (id(value) in known and not is_counted):
            continue
        if is_counted:
            open_.discard(id(value))
            parts = [known.get(id(item), (1, 0)) if _items(item) is not None else (1, 0) for item in items]
            known[id(value)] = (
                1 + sum(part[0] for part in parts),
                1 + max((part[1] for part in parts), default=0),
            )
            continue
        if id(value) in open_:
            return MOST_VALUES + 1, _DEEPEST + 1
        open_.add(id(value))
        stack.append((value, True))
        stack.extend((item, False) for item in items if _items(item) is not None)
    return known.get(id(document), (1, 0))


def _items(value: Any) -> list[Any] | None:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else None
