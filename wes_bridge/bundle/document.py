"""Reading YAML or JSON the way CWL tools do (YAML 1.2), remembering where everything stood."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wes_bridge.bundle.errors import BundleError
from wes_bridge.bundle.marks import Mark
from wes_bridge.model.expansion import excess


@dataclass
class Document:
    """A YAML or JSON text and what it says.

    Attributes:
        name: path or URL, for messages.
        text: as read.
        data: plain dicts, lists and scalars.
        marks: where the value of a key (of the dict or list with that ``id``) stands. Empty for JSON.
    """

    name: str
    text: str
    data: Any
    marks: dict[tuple[int, Any], Mark] = field(default_factory=dict)

    def where(self, holder: Any = None, key: Any = None) -> str:
        """``name:line`` of a value, or just the name."""
        mark = self.marks.get((id(holder), key))
        return f"{self.name}:{mark.line}" if mark else self.name


def read_document(path: Path, *, quick: bool = False) -> Document:
    """Read a local file; see :func:`parse_document`.

    Raises:
        BundleError: it cannot be read, or is neither YAML nor JSON.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise BundleError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from error
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror or error}") from error
    return parse_document(text, str(path), quick=quick)


def parse_document(text: str, name: str, *, quick: bool = False) -> Document:
    """Parse YAML 1.2 as CWL tools do: no dates, ``yes`` and ``on`` are strings.

    Args:
        text: of the document.
        name: for messages.
        quick: JSON is read by the much faster JSON parser, without marks.

    Raises:
        BundleError: a syntax error or a key given twice, with its line; or too much when it is written out.
    """
    if quick and text.lstrip()[:1] in ("{", "["):
        try:
            return Document(name, text, json.loads(text))
        except (ValueError, RecursionError):
            pass  # not quite JSON; YAML may read it, or tell what is wrong
    from wes_bridge.bundle.yaml12 import parse  # noqa: PLC0415 - not needed where all is JSON

    data, marks = parse(text, name)
    if (why := excess(data)) is not None:
        raise BundleError(f"{name}: {why}")
    return Document(name, text, data, marks)
