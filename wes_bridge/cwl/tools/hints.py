"""The ``Placement`` hint: checked with file and line when a document is loaded, read for each step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schema_salad.exceptions import ValidationException
from schema_salad.sourceline import SourceLine

from wes_bridge.federation.policies.registry import policy_names
from wes_bridge.model.preferences import HINT, Preferences, PreferencesError, read_preferences


def check_hints(tool: Any) -> None:
    """Refuse a hint of ours that cannot be understood, in a process or one of its steps.

    Args:
        tool: a process's document, as loaded (it knows its lines).

    Raises:
        ValidationException: with file, line, and what should be there.
    """
    steps = tool.get("steps") or []
    for holder in (tool, *steps):
        hints = holder.get("hints") or []
        for index, hint in enumerate(hints):
            if isinstance(hint, dict) and hint.get("class") == HINT:
                _check(hints, index, hint)


def preferences_of(hints: Iterable[Mapping[str, Any]]) -> list[Preferences]:
    """What the hints that hold for a step say, the most general first."""
    return [read_preferences(_fields(hint)) for hint in hints if hint.get("class") == HINT]


def _check(hints: Any, index: int, hint: Any) -> None:
    try:
        read_preferences(_fields(hint), policy_names())
    except PreferencesError as error:
        field = error.where.partition(".")[0]
        line = SourceLine(hint, field, ValidationException) if field in hint else None
        line = line or SourceLine(hints, index, ValidationException)
        raise line.makeError(f"hint Placement: {error}") from error


def _fields(hint: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in hint.items() if name != "class"}
