"""Expressions of a tool: a text without one is itself, and the Files that one gives have names.

cwltool goes through all of the step's inputs first, for each glob pattern and name of a stream, and through a
reference to an input letter by letter. This module must not know how JavaScript is evaluated.
"""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import unquote, urlsplit

from cwl_utils.expression import needs_parsing
from cwltool.builder import Builder

_do_eval = Builder.do_eval
_REFERENCE = re.compile(r"\$\(inputs\.([A-Za-z_][A-Za-z0-9_]*)\)")
"""The whole of most expressions that there are: the value of one input."""


def do_eval(
    builder: Builder,
    ex: Any,
    context: Any = None,
    recursive: bool = False,
    strip_whitespace: bool = True,
) -> Any:
    """The value of an expression; a text that has none is itself."""
    if isinstance(ex, str) and not needs_parsing(ex):
        return ex
    if isinstance(ex, str) and (reference := _REFERENCE.fullmatch(ex)) is not None:
        value = builder.job.get(reference[1])
        if isinstance(value, (str, int, float)):
            return value
    return _named(_do_eval(builder, ex, context, recursive, strip_whitespace))


def _named(value: Any) -> Any:
    """What an expression gave; a File that has a location and no name is called by its location."""
    for item in value if isinstance(value, list) else (value,):
        if isinstance(item, dict) and item.get("class") in ("File", "Directory") and "basename" not in item:
            location = item.get("location")
            if isinstance(location, str) and "/" in location:
                item["basename"] = os.path.basename(unquote(urlsplit(location).path.rstrip("/")))  # noqa: PTH119
    return value
