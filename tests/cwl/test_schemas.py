"""cwltool's schemas, kept from one process for the next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schema_salad.schema
from cwltool.process import SCHEMA_CACHE
from schema_salad.avro.schema import Names

from wes_bridge.cwl.loading import schemas


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory, and a process that has no schemas."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    schemas._folder.cache_clear()
    before = dict(SCHEMA_CACHE)
    SCHEMA_CACHE.clear()
    yield tmp_path
    schemas._folder.cache_clear()
    SCHEMA_CACHE.clear()
    SCHEMA_CACHE.update(before)


def _kept(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.rglob("*") if path.is_file()}


def test_the_next_process_reads_what_was_worked_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schemas.preload("v1.2")
    assert {"v1.2", "v1.0"} < set(_kept(folder))
    first = dict(SCHEMA_CACHE)
    SCHEMA_CACHE.clear()
    monkeypatch.setattr(schemas, "get_schema", lambda name: pytest.fail(f"{name} was worked out again"))
    schemas.preload_kept()
    schemas.preload("v1.2")
    assert set(SCHEMA_CACHE) == set(first)
    for name, (loader, names, context, meta) in SCHEMA_CACHE.items():
        loader_before, names_before, context_before, meta_before = first[name]
        assert isinstance(names, Names)
        assert isinstance(names_before, Names)
        assert set(names.names) == set(names_before.names)
        assert context == context_before
        assert loader.vocab == loader_before.vocab
        assert dict(loader.idx.items()) == dict(loader_before.idx.items())
        assert set(meta.idx) == set(meta_before.idx)


def test_the_language_of_schemas_is_kept_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """schema-salad reads it for the first type it makes: a fifth of a second in each process."""
    monkeypatch.setattr(schema_salad.schema, "cached_metaschema", None)
    schemas.preload("v1.0")
    names, documents, loader = schema_salad.schema.get_metaschema()
    assert "metaschema" in _kept(folder)
    schema_salad.schema.cached_metaschema = None
    schemas.preload_kept()
    kept = schema_salad.schema.cached_metaschema
    assert kept is not None
    assert set(kept[0].names) == set(names.names)
    assert kept[1] == documents
    assert kept[2].vocab == loader.vocab


@pytest.mark.parametrize("wrong", ["cut short", "not a pickle", "open to others"])
def test_a_file_that_cannot_be_trusted_is_made_anew(folder: Path, wrong: str) -> None:
    schemas.preload("v1.0")
    path = _kept(folder)["v1.0"]
    whole = path.read_bytes()
    if wrong == "open to others":
        path.chmod(0o666)
    else:
        path.write_bytes(whole[:1000] if wrong == "cut short" else b"nonsense")
    SCHEMA_CACHE.clear()
    schemas.preload_kept()
    assert "v1.0" not in SCHEMA_CACHE
    schemas.preload("v1.0")
    assert isinstance(SCHEMA_CACHE["v1.0"][1], Names)
    SCHEMA_CACHE.clear()
    schemas.preload_kept()
    assert "v1.0" in SCHEMA_CACHE


def test_a_cache_that_cannot_be_written_is_done_without(folder: Path) -> None:
    (folder / "wes-bridge").write_text("in the way")
    schemas.preload("v1.0")
    assert isinstance(SCHEMA_CACHE["v1.0"][1], Names)
