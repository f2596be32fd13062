"""Types inside of types: an optional list of records or enumerations that have no name of their own.

cwltool gives each such type a name when it loads a tool, and makes the type anew for each value of an
optional input, under the same name, which Avro refuses. Here a type that is known already is named. Offered
upstream in ``docs/upstream``.
"""

from __future__ import annotations

from typing import Any

import cwltool.builder
from schema_salad.avro.schema import Names, Schema

_make_avsc_object = cwltool.builder.make_avsc_object
_NAMED = ("enum", "record")


def with_names(kind: Any, names: Names) -> Any:
    """A type in which those that are known stand by their name.

    Args:
        kind: as cwltool has it for Avro.
        names: what is known.
    """
    if isinstance(kind, list):
        return [with_names(one, names) for one in kind]
    if not isinstance(kind, dict):
        return kind
    if kind.get("type") in _NAMED and "name" in kind and names.has_name(kind["name"], None):
        return kind["name"]
    inner = {key: with_names(kind[key], names) for key in ("type", "items", "fields") if key in kind}
    return {**kind, **inner}


def make_avsc_object(kind: Any, names: Names | None = None) -> Schema:
    """The schema of a type, for the values of one input."""
    if names is None:
        return _make_avsc_object(kind, names)
    named = with_names(kind, names)
    known = names.get_name(named, None) if isinstance(named, str) else None
    return known or _make_avsc_object(named, names)
