"""Definitions of other packages as they are written: found in their source, and known again by a hash.

A definition is named ``module:name``, as in ``cwltool.builder:Builder.do_eval``. The source is read as a
file, since a package may be compiled, and it is cut by lines, since parsing it would make a worker start a
tenth of a second later. This module must not know why somebody asks.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import re
import types
from pathlib import Path
from typing import Any

_LENGTH = 12
"""Hexadecimal digits of a hash: it is to notice a change, not to withstand somebody."""


class NotThereError(Exception):
    """There is no such definition, or no source of it."""


def found(where: str) -> Any:
    """What a name stands for.

    Raises:
        NotThereError: nothing has that name.
    """
    module, _, name = where.partition(":")
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise NotThereError(f"there is no {where}") from error


def put(where: str, thing: Any) -> None:
    """Let a name stand for something else."""
    module, _, name = where.partition(":")
    path, _, last = name.rpartition(".")
    setattr(found(f"{module}:{path}") if path else importlib.import_module(module), last, thing)


def parameters(thing: Any) -> str | None:
    """How something is called: the names of its parameters, with ``=`` where there is a default.

    None: it does not say, as the constructor of a compiled class.
    """
    if isinstance(thing, types.WrapperDescriptorType):
        return None
    try:
        given = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return None
    stars: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(
        f"{stars.get(one.kind, '')}{one.name}{'' if one.default is one.empty else '='}" for one in given
    )


def source_hash(where: str) -> str:
    """A short hash of a definition's source.

    Raises:
        NotThereError: there is no such source.
    """
    return f"sha256:{hashlib.sha256(source(where).encode()).hexdigest()[:_LENGTH]}"


def source(where: str) -> str:
    """The lines of a class or function, from ``class`` or ``def`` on.

    Raises:
        NotThereError: there is no such source.
    """
    module, _, name = where.partition(":")
    text = _text(module)
    start, end = 0, len(text)
    for depth, part in enumerate(name.split(".")):
        start = _start(text, " " * 4 * depth, part, start, end)
        if start < 0:
            raise NotThereError(f"{module} has no definition of {name}")
        end = _end(4 * depth, text, start, end)
    return text[start:end]


def _start(text: str, indent: str, name: str, start: int, end: int) -> int:
    """Where a definition begins, after its indent; -1 where there is none."""
    for sign in (f"def {name}(", f"class {name}(", f"class {name}:"):
        place = text.find(f"\n{indent}{sign}", start, end)
        if place >= 0:
            return place + 1 + len(indent)
    return -1


def _end(indent: int, text: str, start: int, end: int) -> int:
    """Where it ends: before the next line that is indented no more than it is, and is no part of its head."""
    line = text.find("\n", start, end)
    following = _next_line(indent).search(text, line, end) if line >= 0 else None
    lines = text[start : following.start() if following else end].rstrip().splitlines()
    while lines[-1].lstrip().startswith("#"):  # it is about what follows
        lines.pop()
        while not lines[-1].strip():
            lines.pop()
    return start + len("\n".join(lines))


@functools.cache
def _next_line(indent: int) -> re.Pattern[str]:
    return re.compile(rf"^ {{0,{indent}}}(?=[^\s#)\]}}])", re.MULTILINE)


def forget() -> None:
    """Let go of the source that was read."""
    _text.cache_clear()


@functools.cache
def _text(module: str) -> str:
    """The source of a module, which may be compiled: then its source is beside it.

    Raises:
        NotThereError: there is none.
    """
    try:
        spec = importlib.import_module(module).__spec__
        assert spec is not None
        origin = Path(spec.origin or "")
        return (origin.parent / f"{origin.name.partition('.')[0]}.py").read_text()
    except (ImportError, OSError, ValueError) as error:
        raise NotThereError(f"there is no source of {module}") from error
