"""YAML 1.2 as CWL tools read it, by PyYAML, which by itself reads 1.1; with the place of every value."""

from __future__ import annotations

import re
from typing import Any

import yaml

from wes_bridge.bundle.errors import BundleError
from wes_bridge.bundle.marks import Mark

_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"
_TYPED = {_TAG + name for name in ("int", "float", "bool", "null")}
_INT = re.compile(r"[-+]?[0-9][0-9_]*\Z|0o[0-7_]+\Z|0x[0-9a-fA-F_]+\Z|0b[01_]+\Z")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))\Z|\.(?:nan|NaN|NAN)\Z"
)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
}


_PROLOGUE = re.compile(r"\A(?>[ \t]*(?:[#%][^\r\n]*)?(?:\r\n|\n|\r))++(?=---)")
"""Each line is read in one way only, else the time would double with each line that ends with CR and LF."""
_DIRECTIVE = re.compile(r"(?m)^%(?!YAML[ \t]+\d|TAG[ \t])")


class _Loader(_BASE):  # type: ignore[misc]
    """Composes nodes; what a plain scalar means is decided in :func:`_plain`."""

    def resolve(self, kind: type, value: Any, implicit: tuple[bool, bool]) -> str:
        """The tag of a node without one."""
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _TAG + "str"
        return _TAG + ("map" if kind is yaml.MappingNode else "seq")


def parse(text: str, name: str) -> tuple[Any, dict[tuple[int, Any], Mark]]:
    """What a text says, and where: see ``document.Document``.

    Raises:
        BundleError: a syntax error or a key given twice, with its line.
    """
    try:
        loader = _Loader(_known_directives(text))
        try:
            node = loader.get_single_node()
        finally:
            loader.dispose()
        builder = _Builder(name)
        return builder.build(node) if node else None, builder.marks
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise BundleError(f"{where}: {error.problem or error.context}") from error
    except yaml.reader.ReaderError as error:
        problem = f"not a text file (character {error.position} is a control character)"
        raise BundleError(f"{name}: {problem}") from error
    except yaml.YAMLError as error:
        raise BundleError(f"{name}: {error}") from error
    except RecursionError as error:
        raise BundleError(f"{name}: nested too deeply") from error


def _known_directives(text: str) -> str:
    """The text without directives that YAML does not know, as other parsers pass over ``%YAML-1.1``.

    They become comments, so that all else keeps its place.
    """
    found = _PROLOGUE.match(text) if "%" in text[:1000] else None
    return _DIRECTIVE.sub("#", found[0]) + text[found.end() :] if found else text


class _Builder:
    """Turns nodes into plain data, keeping marks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.marks: dict[tuple[int, Any], Mark] = {}
        self._built: dict[int, Any] = {}
        self._open: set[int] = set()

    def build(self, node: Any) -> Any:
        if isinstance(node, yaml.ScalarNode):
            try:
                return _scalar(node)
            except ValueError as error:  # 0x_, or more digits than Python reads
                raise BundleError(
                    f"{self._where(node)}: {node.value[:40]!r} cannot be read as a number"
                ) from error
        if id(node) in self._built:
            return self._built[id(node)]
        if id(node) in self._open:
            raise BundleError(f"{self._where(node)}: an alias that holds itself")
        self._open.add(id(node))
        value = self._mapping(node) if isinstance(node, yaml.MappingNode) else self._sequence(node)
        self._built[id(node)] = value
        return value

    def _sequence(self, node: Any) -> list[Any]:
        result: list[Any] = []
        for index, child in enumerate(node.value):
            result.append(self.build(child))
            self._mark(result, index, child)
        return result

    def _mapping(self, node: Any) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        merged: list[dict[Any, Any]] = []
        for key_node, child in node.value:
            key = self.build(key_node)
            if key == "<<" and key_node.tag == _PLAIN:
                value = self.build(child)
                merged += [item for item in (value if isinstance(value, list) else [value]) if item]
                continue
            try:
                known = key in result
            except TypeError:
                raise BundleError(f"{self._where(key_node)}: a key must be a plain value") from None
            if known:
                raise BundleError(f"{self._where(key_node)}: key {key!r} is given twice")
            result[key] = self.build(child)
            self._mark(result, key, child)
        for other in merged:
            for key, value in other.items():
                result.setdefault(key, value)
        return result

    def _mark(self, holder: Any, key: Any, node: Any) -> None:
        start, end = node.start_mark, node.end_mark
        self.marks[id(holder), key] = Mark(start.line + 1, start.index, end.index)

    def _where(self, node: Any) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def _scalar(node: Any) -> Any:
    if node.tag == _PLAIN or node.tag in _TYPED:
        return _plain(node.value)
    return str(node.value)


def _plain(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-.0123456789":
        if _INT.match(text):
            digits = text.replace("_", "")
            return int(digits, 0 if digits[:2] in ("0o", "0x", "0b") else 10)
        if _FLOAT.match(text):
            return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    return text
