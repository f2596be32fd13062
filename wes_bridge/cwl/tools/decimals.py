"""Numbers as tools read them: in decimals, never as ``1e-05`` (CWL v1.2, "CommandLineBinding").

cwltool does so only for what ruamel read from a document; a number that came as JSON, out of a tool or out of
an expression reached the tool in Python's spelling. Infinities and NaN have no decimals: they are ``inf``,
``-inf`` and ``nan``, which C, Fortran, Python and NumPy read. This module must not know where a text goes.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from cwltool.builder import Builder
from ruamel.yaml.scalarfloat import ScalarFloat
from schema_salad.utils import json_dumps

_tostr = Builder.tostr
_SCIENTIFIC = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?e[-+]?\d+')
"""A string, which stays as it is, or a number with an exponent, in JSON as Python writes it."""


def decimal_text(number: float) -> str:
    """The shortest decimals that are read back as this number; those of an integer are exact."""
    text = repr(float(number)) if isinstance(number, float) else str(number)
    return format(Decimal(text), "f") if "e" in text else text


def decimals_in_json(text: str) -> str:
    """The same JSON with all its numbers in decimals."""
    if "e-" not in text and "e+" not in text:
        return text
    return _SCIENTIFIC.sub(lambda found: _expanded(found[0]), text)


def _expanded(token: str) -> str:
    return token if token.startswith('"') else format(Decimal(token), "f")


def _as_written(number: ScalarFloat) -> str:
    """A number of a document, with the digits that its author gave it where cwltool gets them right.

    cwltool loses the last digits of a long number and all digits of one with a large exponent, and fails on
    some numbers.
    """
    try:
        text = str(_tostr(None, number))
        return text if float(text) == number else decimal_text(number)
    except (ValueError, ArithmeticError):
        return decimal_text(number)


def as_argument(builder: Builder, value: Any) -> str:
    """A value on the command line: as cwltool's, with all numbers in decimals."""
    if isinstance(value, ScalarFloat):
        return _as_written(value)
    return decimal_text(value) if isinstance(value, float) else str(_tostr(builder, value))


def as_text(value: Any, **options: Any) -> str:
    """A value that is no string where a text is wanted: in a string around it, or as a file's text."""
    if isinstance(value, float):
        return decimal_text(value)
    return decimals_in_json(json_dumps(value, **options))


def jshead(library: list[str], variables: Any) -> str:
    """What an expression finds: as cwl-utils', without its indentation, which took most of the time."""
    known = (f"var {name} = {json_dumps(value)};" for name, value in variables.items())
    return "\n".join([*library, *known])
