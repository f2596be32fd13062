"""cwltool's schemas, read in a third of the time: what parsing their YAML gave is kept for the next process.

Four fifths of what cwltool does before it can load a first document is ruamel's parser, in Python, going
through the same texts in every process. The parsed texts are kept as JSON in the user's cache folder, each
under a digest of the text it came from, so a new cwltool finds nothing and parses again. It is JSON, not
pickles, since whoever can write there could otherwise run code here. Without a folder that can be written,
all is as slow as it was. It must not know runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

from cwltool.process import get_schema
from cwltool.update import INTERNAL_VERSION
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

VERSIONS = ("v1.2", "v1.1", "v1.0")
"""Of CWL, the one that workflows have most likely first."""
_TYPES = "v1.0"
"""The version whose types of File and Directory cwltool takes for every document's."""
_Parse = Callable[[YAML, str], list[Any]]


def read_schemas(version: str, cache: Path | None = None) -> None:
    """Read the schemas of a CWL version, and those that cwltool needs beside it for any document.

    One thread at a time, and none that loads a document meanwhile: cwltool keeps them process-wide.

    Args:
        version: one of :data:`VERSIONS`.
        cache: where parsed texts are kept; None: :func:`cache_folder`.
    """
    folder = cache or cache_folder()
    with _parsed_before(folder) if folder else contextlib.nullcontext():
        for name in (version, INTERNAL_VERSION, _TYPES):
            get_schema(name)


def cache_folder() -> Path | None:
    """The user's folder for it, by the XDG Base Directory Specification; None for a user without a home."""
    said = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = said if said.is_absolute() else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "wes-bridge" / "schemas"


@contextlib.contextmanager
def _parsed_before(folder: Path) -> Iterator[None]:
    """ruamel's parser looks into the folder first. What it gives for a text is the same, for all threads."""
    load, load_all = YAML.load, YAML.load_all

    def parse(yaml: YAML, text: str) -> list[Any]:
        return list(load_all(yaml, text))

    def quick_load(yaml: YAML, stream: str | TextIO) -> Any:
        return _documents(yaml, stream, folder, parse)[0]

    def quick_load_all(yaml: YAML, stream: str | TextIO) -> Iterator[Any]:
        return iter(_documents(yaml, stream, folder, parse))

    patched: Any = YAML
    patched.load, patched.load_all = quick_load, quick_load_all
    try:
        yield
    finally:
        patched.load, patched.load_all = load, load_all


def _documents(yaml: YAML, stream: str | TextIO, folder: Path, parse: _Parse) -> list[Any]:
    text = stream if isinstance(stream, str) else stream.read()
    path = folder / _digest(text.encode())
    kept = _kept(path)
    if kept is not None:
        return [_commented(document) for document in kept]
    documents = parse(yaml, text)
    with contextlib.suppress(OSError, TypeError, ValueError):
        as_json = json.dumps(documents)
        if json.loads(as_json) == documents:  # JSON can say it
            _keep(path, as_json.encode())
    return documents


def _commented(value: Any) -> Any:
    """In ruamel's types, which schema-salad wants, in the same order; line numbers of schemas tell nobody
    anything."""
    if isinstance(value, dict):
        mapping = CommentedMap()
        for name, item in value.items():
            mapping[name] = _commented(item)
            mapping.lc.add_kv_line_col(name, [0, 0, 0, 0])
        return mapping
    if isinstance(value, list):
        sequence = CommentedSeq(map(_commented, value))
        for index in range(len(value)):
            sequence.lc.add_kv_line_col(index, [0, 0, 0, 0])
        return sequence
    return value


def _kept(path: Path) -> list[Any] | None:
    """What was kept, if it is there and whole."""
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
        return list(json.loads(content)) if digest.decode() == _digest(content) else None
    except (OSError, ValueError):
        return None


def _keep(path: Path, content: bytes) -> None:
    """Several processes may do so at once: each file appears whole."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        new.write_bytes(_digest(content).encode() + b"\n" + content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
