"""What cwltool and its libraries work out anew for every document and tool, worked out once.

A pipeline of 75 steps has 94 documents. For each of them schema-salad goes through the 230 words of CWL's
context, for each tool it makes the same three types (File, Directory, Any) again, and ruamel copies line
numbers and comments with every copy of a mapping, and of a sequence once for each of its items. Together that
was half of the time of loading. It must not know what is loaded, nor why.
"""

from __future__ import annotations

from typing import Any

import cwltool.process
from ruamel.yaml.comments import CommentedBase
from schema_salad.avro.schema import Names
from schema_salad.ref_resolver import Loader

_make_avro_schema = cwltool.process.make_avro_schema
_copy_attributes = CommentedBase.copy_attributes

_WORKED_OUT = (
    "ctx",
    "url_fields",
    "scoped_ref_fields",
    "vocab_fields",
    "identifiers",
    "identity_links",
    "nolinkcheck",
    "idmap",
    "mapPredicate",
    "vocab",
    "rvocab",
    "type_dsl_fields",
    "secondaryFile_dsl_fields",
    "subscopes",
)
"""What ``Loader.add_context`` makes of a context: dicts, lists and sets that may be changed afterwards."""
_MOST = 32
"""Contexts kept: cwltool has one for each version of CWL, and a few of its own."""

_NO_LOADER = Loader({}, doc_cache=False)
_contexts: dict[int, tuple[Any, dict[str, Any]]] = {}
_basic_types: dict[tuple[int, ...], tuple[list[Any], dict[str, Any]]] = {}


class KeptLoader(Loader):
    """schema-salad's loader, which goes through a context only once. A context must not be changed later."""

    def add_context(self, newcontext: Any) -> None:
        """Take the words of a context over."""
        known = _contexts.get(id(newcontext))
        if known is None or self.url_fields:
            super().add_context(newcontext)
            self._keep(newcontext)
            return
        for name, value in known[1].items():
            setattr(self, name, value.copy())
        self.standalone: set[str] | None = set()

    def _keep(self, context: Any) -> None:
        if len(_contexts) < _MOST and not self.foreign_properties:
            worked_out = {name: getattr(self, name).copy() for name in _WORKED_OUT}
            _contexts[id(context)] = (context, worked_out)  # kept with it, so that its id stays its own


def make_avro_schema(types: list[Any], loader: Loader, vocab: dict[str, str] | None = None) -> Names:
    """The schemas of File, Directory and Any, to which those of a tool's inputs and outputs are added."""
    key = tuple(map(id, types))
    if key not in _basic_types:
        _basic_types[key] = types, _make_avro_schema(types, loader, vocab).names
    names = Names()
    names.names = dict(_basic_types[key][1])
    return names


def no_loader(_context: object) -> Loader:
    """The loader of no document, which each tool makes for its types: the same one."""
    return _NO_LOADER


def copy_attributes(self: Any, target: Any, memo: Any = None) -> Any:
    """Line numbers, comments and the like of a copy: those of the original, which stay true of it."""
    return _copy_attributes(self, target)
