"""Inputs from the command line, as cwltool takes them: ``--name value`` after the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from wes_bridge.bundle.errors import BundleError
from wes_bridge.bundle.inputs import Input
from wes_bridge.bundle.secondary import named
from wes_bridge.model.locations import is_elsewhere

_NUMBERS: dict[str, Any] = {"int": int, "long": int, "float": float, "double": float}
_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_arguments(inputs: dict[str, Input], arguments: Sequence[str], folder: Path) -> dict[str, Any]:
    """Turn ``--name value``, ``--name=value``, ``-x value`` and flags into an input object.

    Args:
        inputs: what the workflow declares.
        arguments: from the command line, the job file not among them.
        folder: what relative paths are relative to.

    Raises:
        BundleError: an input that is not declared, a value missing or of the wrong type; all at once.
    """
    reader = _Reader(inputs, folder)
    words = list(arguments)
    while words:
        reader.take(words)
    if reader.problems:
        raise BundleError(*reader.problems)
    return reader.values


def describe_inputs(inputs: dict[str, Input]) -> str:
    """The declared inputs as lines of help."""
    lines = []
    for item in inputs.values():
        note = "" if not item.optional else " (optional)"
        lines.append(f"  {_flag(item.name)} {type_name(item.kind)}{note}")
        lines += [f"      {line}" for line in item.doc.splitlines()]
        if item.default is not None and not isinstance(item.default, dict):
            lines.append(f"      default: {item.default}")
    return "\n".join(lines) or "  (no inputs)"


def type_name(kind: Any) -> str:
    """A type in one word or few."""
    if isinstance(kind, list):
        return " or ".join(type_name(item) for item in kind if item != "null")
    if isinstance(kind, dict):
        if kind.get("type") == "array":
            return f"{type_name(kind.get('items'))}..."
        if kind.get("type") == "enum":
            return "|".join(str(symbol).rpartition("/")[2] for symbol in kind.get("symbols", []))
        return str(kind.get("type"))
    return str(kind)


class _Reader:
    def __init__(self, inputs: dict[str, Input], folder: Path) -> None:
        self.kinds: dict[str, Any] = {}
        self.folder = folder
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        for item in inputs.values():
            self._declare(item.name, item.kind)

    def _declare(self, name: str, kind: Any) -> None:
        kind = _single(kind)
        if isinstance(kind, dict) and kind.get("type") == "record":
            for field, item in named(kind.get("fields"), "name"):
                self._declare(f"{name}.{field}", item.get("type"))
        self.kinds[name] = kind

    def take(self, words: list[str]) -> None:
        """Take one input off the front of ``words``."""
        word = words.pop(0)
        if not word.startswith("-") or word == "-":
            is_job = word.endswith((".yml", ".yaml", ".json"))
            hint = "; a job file comes directly after the workflow" if is_job else ""
            self.problems.append(f"unexpected argument {word!r} (inputs are given as --name value{hint})")
            return
        name, equals, value = word.lstrip("-").partition("=")
        if name not in self.kinds:
            name = name.replace("-", "_") if name.replace("-", "_") in self.kinds else name
        if name not in self.kinds:
            self._unknown(name)
            if not equals and words and not words[0].startswith("-"):
                words.pop(0)
            return
        kind = self.kinds[name]
        if equals:
            self._set(name, kind, value)
        elif kind == "boolean":
            self._set(name, kind, "true")
        elif words and not _is_flag(words[0]):
            self._set(name, kind, words.pop(0))
        else:
            self.problems.append(f"{_flag(name)} needs a value ({type_name(kind)})")

    def _unknown(self, name: str) -> None:
        import difflib  # noqa: PLC0415

        near = difflib.get_close_matches(name, self.kinds, 1)
        hint = f"; did you mean {_flag(near[0])}?" if near else ""
        known = ", ".join(_flag(item) for item in self.kinds) or "none"
        self.problems.append(f"the workflow has no input {name!r}{hint} (its inputs: {known})")

    def _set(self, name: str, kind: Any, text: str) -> None:
        holder = self.values
        *path, last = name.split(".") if name not in self.values and "." in name else [name]
        for part in path:
            holder = holder.setdefault(part, {})
        is_array = isinstance(kind, dict) and kind.get("type") == "array"
        try:
            value = self._value(kind["items"] if is_array else kind, text)
        except ValueError as error:
            self.problems.append(f"{_flag(name)}: {error}")
            return
        if is_array:
            holder.setdefault(last, []).append(value)
        else:
            holder[last] = value

    def _value(self, kind: Any, text: str) -> Any:
        kind = _single(kind)
        if kind in ("File", "Directory"):
            is_url = is_elsewhere(text) or text.startswith("file:")
            location = text if is_url else quote(str(self.folder / text))
            return {"class": kind, "location": location}
        if isinstance(kind, str) and kind in _NUMBERS:
            try:
                return _NUMBERS[kind](text)
            except ValueError:
                raise ValueError(f"{text!r} is not of type {kind}") from None
        if kind == "boolean":
            if text.lower() not in _TRUTH:
                raise ValueError(f"{text!r} is neither true nor false")
            return _TRUTH[text.lower()]
        if isinstance(kind, dict) and kind.get("type") == "enum":
            return self._symbol(kind, text)
        if kind == "string" or isinstance(kind, dict):
            return text
        return _guess(kind, text)

    @staticmethod
    def _symbol(kind: dict[str, Any], text: str) -> str:
        symbols = [str(symbol).rpartition("/")[2] for symbol in kind.get("symbols", [])]
        if symbols and text not in symbols:
            raise ValueError(f"{text!r} is none of {', '.join(symbols)}")
        return text


def _guess(kind: Any, text: str) -> Any:
    """A value for a union or Any: what YAML makes of it, if the type allows that."""
    from wes_bridge.bundle.document import parse_document  # noqa: PLC0415

    value = parse_document(text, "value").data
    if isinstance(kind, list) and "string" in kind and not isinstance(value, bool | int | float):
        return text
    return text if value is None else value


def _single(kind: Any) -> Any:
    """A type without ``null``; a list only when there are several left."""
    if isinstance(kind, str) and kind.endswith("?"):
        return _single(kind[:-1])
    if isinstance(kind, str) and kind.endswith("[]"):
        return {"type": "array", "items": kind[:-2]}
    if isinstance(kind, dict) and isinstance(kind.get("type"), str) and kind["type"] not in _COMPLEX:
        return _single(kind["type"])
    if isinstance(kind, list):
        rest = [item for item in kind if item != "null"]
        return _single(rest[0]) if len(rest) == 1 else rest
    return kind


_COMPLEX = ("array", "record", "enum")


def _is_flag(word: str) -> bool:
    return (
        word.startswith("-") and len(word) > 1 and not word[1:].replace(".", "", 1).replace("e", "").isdigit()
    )


def _flag(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"
