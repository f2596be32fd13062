"""cwltool's schemas of CWL, worked out once a machine instead of once a process.

Reading a version's schema costs cwltool half a second to a whole one, and each run needs three: its own,
the one that documents are brought to, and v1.0 for the types of files. What comes of it is kept as a pickle
in the user's cache directory, as Python keeps its bytecode; a file that is not there, not ours, or of another
release is worked out anew. It must not know what is loaded with the schemas.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
import stat
import sys
import tempfile
from functools import cache
from importlib.metadata import version as release
from pathlib import Path
from typing import Any

import platformdirs
import requests
import schema_salad.schema
from cwltool.process import SCHEMA_CACHE, get_schema
from cwltool.update import INTERNAL_VERSION
from schema_salad.avro.schema import Names
from schema_salad.ref_resolver import NormDict

_logger = logging.getLogger(__name__)
VERSIONS = ("v1.2", "v1.1", "v1.0")
"""Of CWL, the one that workflows have most likely first."""
_METASCHEMA = "metaschema"
_FOR_TYPES = "v1.0"
"""Whose types of files cwltool uses, whatever a document's version is (``cwltool.process.Process``)."""


def preload(version: str) -> None:
    """Have the schemas that documents of a CWL version need: read what was kept, else work them out."""
    for name in (version, INTERNAL_VERSION, _FOR_TYPES):
        if not _preload_kept(name) and isinstance(get_schema(name)[1], Names):
            _keep(name, SCHEMA_CACHE[name])
    # to work out a schema is to read the language: then it is here, but not kept
    if not _preload_metaschema() or not (_folder() / _METASCHEMA).exists():
        _keep(_METASCHEMA, schema_salad.schema.get_metaschema())


def is_here(version: str) -> bool:
    """Whether the schemas of a CWL version need not be worked out."""
    return all(name in SCHEMA_CACHE for name in (version, INTERNAL_VERSION, _FOR_TYPES))


def preload_kept() -> None:
    """Have all schemas that were kept: 25 ms each, where working one out takes half a second and more."""
    for name in (*VERSIONS, INTERNAL_VERSION):
        _preload_kept(name)
    _preload_metaschema()


def _preload_kept(name: str) -> bool:
    if name not in SCHEMA_CACHE and (kept := _read(name)) is not None:
        SCHEMA_CACHE[name] = kept
    return name in SCHEMA_CACHE


def _preload_metaschema() -> bool:
    """The language that schemas are written in: schema-salad reads it for the first type it makes."""
    if schema_salad.schema.cached_metaschema is None:
        schema_salad.schema.cached_metaschema = _read(_METASCHEMA)
    return schema_salad.schema.cached_metaschema is not None


class _Pickler(pickle.Pickler):
    """Knows two things that do not keep by themselves."""

    def reducer_override(self, thing: object) -> Any:
        if isinstance(thing, NormDict):  # needs its function before its items
            return NormDict, (thing.normalize,), None, None, iter(thing.items())
        if isinstance(thing, requests.Session):  # schemas come from cwltool's own files
            return requests.Session, ()
        return NotImplemented


@cache
def _folder() -> Path:
    """Named after all that a kept schema depends on."""
    parts = [f"{name} {release(name)}" for name in ("cwltool", "schema-salad", "ruamel.yaml", "requests")]
    names = "\n".join([*parts, sys.version, sys.prefix])
    folder = hashlib.sha256(names.encode()).hexdigest()[:16]
    return platformdirs.user_cache_path("wes-bridge") / "schemas" / folder


def _read(name: str) -> Any | None:
    path = _folder() / name
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                _logger.warning("%s is not used: others may write it", path)
                return None
            return pickle.load(file)  # noqa: S301 - our own file, as bytecode is
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever is wrong with the file: it is only a copy
        _logger.warning("%s cannot be read and will be made anew: %r", path, error)
        return None


def _keep(name: str, schema: object) -> None:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(schema)
        _folder().mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=_folder(), prefix=f".{name}-", delete=False) as file:
            file.write(buffer.getvalue())
        Path(file.name).replace(_folder() / name)
    except Exception as error:  # a full disk, no home: each process works it out for itself then
        _logger.debug("the schemas of %s are not kept: %r", name, error)
