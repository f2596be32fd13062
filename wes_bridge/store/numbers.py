"""JSON columns with the numbers that JSON does not have: a workflow's outputs may hold NaN and infinities.

PostgreSQL refuses a text that is not JSON, and a finished step that is read back must give what it gave
before, so these are stored as an object that nothing else writes.
"""

from __future__ import annotations

import json
import math
from typing import Any

_KEY = "urn:wes-bridge:float"


def dumps(value: Any) -> str:
    """JSON text of a value."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_without(value), allow_nan=False)


def loads(text: str | bytes) -> Any:
    """The value that :func:`dumps` was given; psycopg gives the text as bytes."""
    if isinstance(text, bytes):
        text = text.decode()
    return json.loads(text, object_hook=_restored) if _KEY in text else json.loads(text)


def _without(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {_KEY: repr(value)}
    if isinstance(value, dict):
        return {key: _without(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without(item) for item in value]
    return value


def _restored(found: dict[str, Any]) -> Any:
    if len(found) == 1 and found.get(_KEY) in ("nan", "inf", "-inf"):
        return float(found[_KEY])
    return found
