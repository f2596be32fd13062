"""Secondary files: which siblings of an input file its parameter asks for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wes_bridge.bundle.references import is_expression

MAX_GUESSED = 50
"""Siblings taken along at most when the pattern is an expression."""
MAX_GUESSED_BYTES = 1024**3
"""Bytes of all of them."""


@dataclass
class Wanted:
    """What belongs to the files of one input.

    Attributes:
        patterns: plain patterns (``.bai``, ``^.idx``).
        unsure: there are expressions too, or the parameter is not known: siblings are guessed.
        fields: of a record, by name.
    """

    patterns: list[str] = field(default_factory=list)
    unsure: bool = False
    fields: dict[str, Wanted] = field(default_factory=dict)

    def add(self, secondary: Any, version: str) -> None:
        """Add a ``secondaryFiles`` field as written in a document of CWL ``version``."""
        for item in secondary if isinstance(secondary, list) else [secondary]:
            pattern = item.get("pattern") if isinstance(item, dict) else item
            if not isinstance(pattern, str):
                self.unsure = self.unsure or item is not None
            elif is_expression(pattern):
                self.unsure = True
            else:
                optional = version not in ("v1.0", "draft-3") and pattern.endswith("?")
                self.patterns.append(pattern[:-1] if optional else pattern)


NOTHING = Wanted()
UNKNOWN = Wanted(unsure=True)


def wanted_for(
    kind: Any,
    secondary: Any,
    version: str,
    schemas: Mapping[str, Any],
    records: dict[int, dict[str, Wanted]] | None = None,
) -> Wanted:
    """What a parameter or record field of type ``kind`` with this ``secondaryFiles`` field asks for.

    Args:
        kind: the type as written: name, dict or list of them.
        secondary: the field; ``None`` when there is none.
        version: ``cwlVersion`` of the document.
        schemas: named types of SchemaDefRequirement, by their short name.
        records: fields of those that have been seen, which may hold each other many times.
    """
    records = {} if records is None else records
    wanted = Wanted()
    if secondary is not None:
        wanted.add(secondary, version)
    _add_type(wanted, kind, version, schemas, records, depth=0)
    return wanted


def _add_type(  # noqa: PLR0917 - it calls itself
    wanted: Wanted,
    kind: Any,
    version: str,
    schemas: Mapping[str, Any],
    records: dict[int, dict[str, Wanted]],
    depth: int,
) -> None:
    if depth > 20:  # a type that holds itself
        return
    if isinstance(kind, str):
        name = kind.rstrip("?").removesuffix("[]").rpartition("#")[2].rpartition("/")[2]
        if name in schemas:
            _add_type(wanted, schemas[name], version, schemas, records, depth + 1)
    elif isinstance(kind, list):
        for item in kind:
            _add_type(wanted, item, version, schemas, records, depth + 1)
    elif isinstance(kind, dict) and kind.get("type") == "record":
        if id(kind) not in records:
            fields = records[id(kind)] = {}
            for name, item in named(kind.get("fields"), "name"):
                asked = item.get("secondaryFiles")
                fields[name] = wanted_for(item.get("type"), asked, version, schemas, records)
        wanted.fields.update(records[id(kind)])
    elif isinstance(kind, dict):
        _add_type(wanted, kind.get("items", kind.get("type")), version, schemas, records, depth + 1)


def named(items: Any, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a CWL ``idMap``: a list of objects with a ``key``, or a map by short name."""
    if isinstance(items, dict):
        for name, item in items.items():
            yield str(name), item if isinstance(item, dict) and "type" in item else {"type": item}
    elif isinstance(items, list):
        for item in items:
            if isinstance(item, dict) and isinstance(item.get(key), str):
                yield short_name(item[key]), item


def short_name(identifier: str) -> str:
    """The last part of an id: ``#main/input`` is ``input``."""
    return identifier.rpartition("#")[2].rpartition("/")[2]


def apply_pattern(name: str, pattern: str) -> str:
    """The secondary file's name: each ``^`` takes one extension off, the rest is put behind."""
    while pattern.startswith("^"):
        stem, dot, _ = name.rpartition(".")
        if not dot:
            pattern = pattern.lstrip("^")
            break
        name, pattern = stem, pattern[1:]
    return name + pattern


def siblings(primary: Path, basename: str, patterns: list[str]) -> list[Path]:
    """The secondary files of ``primary`` that are there.

    Args:
        primary: the file.
        basename: what the input object calls it; patterns apply to this, else to the real name.
        patterns: plain ones.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        for name in dict.fromkeys((basename, primary.name)):
            path = primary.parent / apply_pattern(name, pattern)
            if "/" not in path.name and path.parent == primary.parent and path.exists():
                found[path] = None
                break
    return list(found)


def guessed_siblings(primary: Path) -> list[Path]:
    """Files beside ``primary`` whose names begin as its own does: within limits, smallest first."""
    root = primary.name.partition(".")[0] if not primary.name.startswith(".") else primary.name
    if not root:
        return []
    candidates = []
    for path in primary.parent.iterdir():
        if path != primary and path.name.startswith(root) and path.is_file():
            candidates.append((path.stat().st_size, path))
    taken, total = [], 0
    for size, path in sorted(candidates)[:MAX_GUESSED]:
        total += size
        if total > MAX_GUESSED_BYTES:
            break
        taken.append(path)
    return taken
