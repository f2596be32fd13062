"""Which other files a CWL document refers to, and where in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from wes_bridge.bundle.document import Document
from wes_bridge.model.locations import is_elsewhere

Kind = Literal["document", "text", "schema", "File", "Directory"]
_DIRECTIVES: dict[str, Kind] = {"$import": "document", "$mixin": "document", "$include": "text"}


@dataclass(frozen=True)
class Reference:
    """One reference.

    Attributes:
        kind: ``document`` is itself read for references; ``text`` and ``schema`` are not.
        target: as written.
        holder, key: the dict or list it stands in, for :meth:`Document.where`.
        optional: a target that is not there is no mistake of the author's (a default may be replaced).
    """

    kind: Kind
    target: str
    holder: Any
    key: Any
    optional: bool = False


def references(document: Document) -> Iterator[Reference]:
    """All references of a CWL document, remote ones and expressions included."""
    data = document.data
    if isinstance(data, dict):
        for key in ("$schemas", "schemas"):
            yield from _schemas(data, key)
    yield from _walk(data, set())


def _schemas(data: dict[Any, Any], key: str) -> Iterator[Reference]:
    value = data.get(key)
    if isinstance(value, str):
        yield Reference("schema", value, data, key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, str):
                yield Reference("schema", item, value, index)


def _walk(value: Any, seen: set[int]) -> Iterator[Reference]:
    if id(value) in seen or not isinstance(value, dict | list):
        return
    seen.add(id(value))
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, seen)
        return
    yield from _of_mapping(value)
    for item in value.values():
        yield from _walk(item, seen)


def _of_mapping(value: dict[Any, Any]) -> Iterator[Reference]:
    for key, kind in _DIRECTIVES.items():
        if isinstance(value.get(key), str):
            yield Reference(kind, value[key], value, key)
    if isinstance(value.get("run"), str) and ("in" in value or "out" in value):
        yield Reference("document", value["run"], value, "run")
    if value.get("class") in ("File", "Directory"):
        for key in ("location", "path"):
            if isinstance(value.get(key), str):
                yield Reference(value["class"], value[key], value, key, optional=True)
                break


def is_expression(text: str) -> bool:
    """Whether a string holds a CWL parameter reference or JavaScript."""
    return "$(" in text or "${" in text


def local_paths(target: str, base: Path) -> list[Path]:
    """The local paths a reference may mean, likeliest first; none when it is not a local file.

    Args:
        target: a URL reference (percent-encoded), or a plain path: both are written in practice.
        base: the folder it is relative to.
    """
    if is_elsewhere(target) or target.startswith(("#", "_:")) or not target:
        return []
    if target[:5].lower() == "file:":
        split = urlsplit(target)
        return [Path(os.path.normpath(unquote(split.path)))] if split.netloc in ("", "localhost") else []
    without = target.partition("#")[0]
    names = dict.fromkeys((unquote(without), target, without, unquote(target)))
    return [Path(os.path.normpath(base / name)) for name in names if name]


def find_local(target: str, base: Path) -> Path | None:
    """The first of :func:`local_paths` that exists, else the likeliest; ``None``: not a local file."""
    paths = local_paths(target, base)
    return next((path for path in paths if _exists(path)), paths[0] if paths else None)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
