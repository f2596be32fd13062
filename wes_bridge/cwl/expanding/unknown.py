"""Values of a workflow that has not run: plain CWL ones with :class:`Unknown` where a step must run first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unknown:
    """A value that some steps have yet to make.

    Attributes:
        sources: names of these steps.
        array: whether it is a list, as far as its type tells; None: it may be.
        nullable: whether it may be null.
    """

    sources: frozenset[str] = frozenset()
    array: bool | None = None
    nullable: bool = True

    def element(self) -> Unknown:
        """One element of it."""
        return Unknown(self.sources)

    def also(self, sources: Iterable[str]) -> Unknown:
        """The same, of more steps."""
        return Unknown(self.sources.union(sources), self.array, self.nullable)

    def __deepcopy__(self, _memo: Any) -> Unknown:
        return self


def unknown_of(kind: Any, sources: Iterable[str], *, nullable: bool = False) -> Unknown:
    """The unknown value of a port.

    Args:
        kind: the port's CWL type, as loaded.
        sources: steps that make it.
        nullable: whether it may be null though its type does not say so (a step that may be skipped).
    """
    return Unknown(frozenset(sources), _is_array(kind), nullable or _may_be_null(kind))


def _is_array(kind: Any) -> bool | None:
    if isinstance(kind, list):
        found = {_is_array(one) for one in kind if one != "null"}
        return found.pop() if len(found) == 1 else None
    if isinstance(kind, dict):
        return bool(kind.get("type") == "array")
    return None if kind == "Any" else False


def _may_be_null(kind: Any) -> bool:
    if isinstance(kind, list):
        return any(_may_be_null(one) for one in kind)
    return kind in ("null", "Any")


def sources_of(value: Any) -> frozenset[str]:
    """All steps that a value waits for."""
    if isinstance(value, Unknown):
        return value.sources
    found: frozenset[str] = frozenset()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        if isinstance(part, (dict, list, Unknown)):
            found |= sources_of(part)
    return found


def is_known(value: Any) -> bool:
    """Whether there is no unknown in it."""
    if isinstance(value, Unknown):
        return False
    if isinstance(value, dict):
        return all(is_known(part) for part in value.values())
    return not isinstance(value, list) or all(is_known(part) for part in value)


def without_unknown(value: Any) -> Any:
    """The value with null for what is not known."""
    if isinstance(value, Unknown):
        return None
    if isinstance(value, dict):
        return {name: without_unknown(part) for name, part in value.items()}
    return [without_unknown(part) for part in value] if isinstance(value, list) else value
