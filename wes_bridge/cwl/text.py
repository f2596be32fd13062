"""Text that is none: half of a surrogate pair, which JSON and YAML can spell and no file, database or answer
can hold. Whoever makes one is told so where it is made. It must not know what the text is for.
"""

from __future__ import annotations

import json
from typing import Any

_WRONG = "text that is no Unicode (half of a surrogate pair)"


def invalid_text(value: Any) -> str | None:
    """What is wrong with the texts in JSON types, names of fields included; None when nothing is."""
    seen: set[int] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if not _is_text(item):
                return _WRONG
        elif isinstance(item, (dict, list)) and id(item) not in seen:
            seen.add(id(item))
            stack.extend(item)
            if isinstance(item, dict):
                stack.extend(item.values())
    return None


def invalid_json(text: str) -> str | None:
    """The same of a JSON text, which is read only if it spells such a thing; what cannot be read is not."""
    if "\\ud" not in text and "\\uD" not in text:
        return None
    try:
        return invalid_text(json.loads(text))
    except ValueError:
        return None


def _is_text(text: str) -> bool:
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False
