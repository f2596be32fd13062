"""Schemas read from what an earlier process has parsed: the same schemas, whatever is in the folder."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wes_bridge.engine.schemas import cache_folder

SAY = """
import json, sys
from pathlib import Path
from ruamel.yaml.parser import Parser
from cwltool.process import get_schema
from wes_bridge.engine.schemas import read_schemas

parsed = []
node = Parser.parse_document_start
Parser.parse_document_start = lambda self: (parsed.append(1), node(self))[1]
read_schemas("v1.2", Path(sys.argv[1]) if sys.argv[1] else None)
loader, names, metadata, meta = get_schema("v1.2")
print(len(parsed))
print(json.dumps([
    sorted(loader.vocab.items()), metadata,
    [(name, [field.name for field in getattr(kind, "fields", [])], getattr(kind, "symbols", None))
     for name, kind in sorted(names.names.items())],
    sorted(loader.url_fields), sorted(loader.identifiers), sorted(meta.vocab.items()),
    sorted(loader.graph.serialize(format="nt").splitlines()),
], default=str))
"""


def read(folder: Path | str, **environment: str) -> tuple[int, str]:
    """How many texts were parsed, and the schemas, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", SAY, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    count, schemas = done.stdout.splitlines()
    return int(count), schemas


def test_the_second_process_parses_nothing_and_has_the_same_schemas(tmp_path: Path) -> None:
    parsed, first = read(tmp_path)
    again, second = read(tmp_path)
    assert parsed > 10
    assert again == 0
    assert first == second
    assert json.loads(first)[1]


def test_what_is_damaged_is_made_anew(tmp_path: Path) -> None:
    parsed, _ = read(tmp_path)
    whole = {path: path.read_bytes() for path in tmp_path.iterdir()}
    damages = itertools.cycle([b"", b"[{}]", b"0123\n[{}]", b"\xff\xfe"])
    for path, damage in zip(whole, damages, strict=False):
        path.write_bytes(damage)
    assert read(tmp_path)[0] == parsed
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == whole


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    parsed, schemas = read("", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert parsed > 10
    assert schemas


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert cache_folder() == Path("/cache/wes-bridge/schemas")
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # the specification: to be ignored
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache_folder() == Path("/home/somebody/.cache/wes-bridge/schemas")
