"""YAML as a body may have it: JSON's types, few nodes, no aliases. Also a program that reads it for others.

PyYAML takes 20 µs for each node, all of it with the interpreter's lock, and more for some texts: a server
that answers others meanwhile has all but short ones read by a process of its own (``python yaml_reader.py``),
which the system ends when it takes too long. It reads a body from its standard input and writes JSON, or why
it cannot; with ``--count`` it counts the values of a JSON text. It must not import anything of ours: it
starts quickly.
"""

from __future__ import annotations

import functools
import json
import re
import resource
import sys
from typing import Any

MOST_NODES = 50_000
"""Mappings, sequences and scalars of a YAML body."""
MOST_DEPTH = 64
"""Of one in another."""
REFUSED = 3
"""Exit code: standard output says in words why the text is not taken."""
_PROCESSOR = 8
"""Seconds of processor time."""
_MEMORY = 1 << 30
"""Bytes of address space."""


class NotReadError(ValueError):
    """A text that is not taken; the words are for the person who sent it."""


def parse_yaml(body: bytes) -> Any:
    """What a YAML text says.

    Raises:
        NotReadError: it is no YAML, or too much of it.
    """
    import yaml  # noqa: PLC0415 - who counts does not need it

    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_events(yaml, loader_class, body)
        loader = _plain(yaml, loader_class)(body)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except RecursionError:
        raise NotReadError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError) as error:
        if "integer string conversion" in str(error):  # Python's words speak to a programmer
            most = sys.get_int_max_str_digits()
            raise NotReadError(f"a number in it has too many digits (at most {most:,} are read)") from error
        raise NotReadError(str(error)) from error


def yaml_as_json(body: bytes) -> bytes:
    """The JSON of what a YAML text says.

    Raises:
        NotReadError: it is no YAML, too much of it, or nothing that JSON has.
    """
    try:
        return json.dumps(parse_yaml(body), allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError) as error:
        raise NotReadError(str(error)) from error


def _check_events(yaml: Any, loader_class: Any, body: bytes) -> None:
    """Refuse what would be much, before anything is made of it."""
    nodes = depth = 0
    for event in yaml.parse(body, Loader=loader_class):
        if isinstance(event, yaml.AliasEvent):
            raise NotReadError("YAML aliases are not accepted")
        nodes += isinstance(event, yaml.NodeEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MOST_DEPTH:
            raise NotReadError(f"it is nested deeper than {MOST_DEPTH} levels")
        if nodes > MOST_NODES:
            raise NotReadError(f"it has more than {MOST_NODES} values; send large requests as JSON")


_LEFT_OUT = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,40})$")
_FLOAT = re.compile(
    r"[-+]?(?:[0-9]{1,400}\.[0-9]{0,400}|\.[0-9]{1,400}|[0-9]{1,400})(?:[eE][-+]?[0-9]{1,4})?$"
    r"|[-+]?\.(?:inf|Inf|INF)$|\.(?:nan|NaN|NAN)$"  # of which JSON has none: they are refused
)


@functools.cache
def _plain(yaml: Any, loader_class: Any) -> Any:
    """A loader that knows JSON's types only: what looks like a date, or 1:30, stays text."""

    class Plain(loader_class):  # type: ignore[misc]
        yaml_implicit_resolvers = {
            first: [(tag, pattern) for tag, pattern in resolvers if tag not in _LEFT_OUT]
            for first, resolvers in loader_class.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            made = super().construct_mapping(node, deep=deep)
            if len(made) < len(node.value):
                raise NotReadError(f"a key stands twice in the mapping at line {node.start_mark.line + 1}")
            return made

    Plain.add_implicit_resolver("tag:yaml.org,2002:int", _INT, list("-+0123456789"))
    Plain.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
    Plain.add_constructor("tag:yaml.org,2002:int", _scalar(int))
    Plain.add_constructor("tag:yaml.org,2002:float", _scalar(float))
    return Plain


def _scalar(kind: type[int] | type[float]) -> Any:
    return lambda loader, node: kind(loader.construct_scalar(node))


_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PIECE = 1 << 20
_HEAVY = 4


def at_most(body: bytes, most: int) -> bool:
    """Whether a JSON text can be seen to have at most so many values; False: perhaps it has more.

    A list or an object takes as long to make as :data:`_HEAVY` others.
    """
    found = 0
    for start in range(0, len(body), _PIECE):
        end = start + _PIECE
        found += body.count(b",", start, end)
        found += _HEAVY * (body.count(b"[", start, end) + body.count(b"{", start, end))
        if found > most:
            return False
    return True


def main() -> int:
    """Read standard input."""
    resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR, _PROCESSOR))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    body = sys.stdin.buffer.read()
    try:
        if sys.argv[1:2] == ["--count"]:
            most = int(sys.argv[2])
            if not at_most(_TEXT.sub(b"", body), most):
                raise NotReadError(
                    f"it has more than {most} values, each list and object counted as {_HEAVY}"
                )
            return 0
        sys.stdout.buffer.write(yaml_as_json(body))
    except (NotReadError, MemoryError) as error:
        sys.stdout.buffer.write((str(error) or "it is too much").encode(errors="replace")[:2000])
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
