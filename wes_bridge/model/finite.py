"""JSON for others: numbers that JSON does not have (NaN, infinities) are null in it. No I/O."""

from __future__ import annotations

import json
import math
from typing import Any


def finite_json(value: Any, **options: Any) -> str:
    """The value as JSON that every reader accepts.

    Args:
        value: what to write.
        options: of :func:`json.dumps`.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
