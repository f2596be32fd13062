"""What is worked out once is what would have been worked out anew, and nobody's changes reach the next."""

from __future__ import annotations

import copy
import io
from typing import Any

import cwltool.process
import pytest
from cwltool.load_tool import docloaderctx
from ruamel.yaml import YAML
from schema_salad.ref_resolver import Loader

from wes_bridge.cwl import patches
from wes_bridge.cwl.loading import quick_documents, schemas
from wes_bridge.cwl.loading.quick_documents import KeptLoader

_STATE = (*quick_documents._WORKED_OUT, "standalone")


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    schemas.preload_kept()
    patches.install()


def _contexts() -> list[Any]:
    return [
        docloaderctx,
        *(cwltool.process.get_schema(version)[0].ctx for version in ("v1.0", "v1.1", "v1.2")),
    ]


def _state(loader: Loader) -> dict[str, Any]:
    return {name: getattr(loader, name) for name in _STATE}


def test_a_context_gone_through_before_is_the_same() -> None:
    for context in _contexts():
        expected = _state(Loader(context, doc_cache=False))
        for _ in range(3):
            assert _state(KeptLoader(context, doc_cache=False)) == expected


def test_namespaces_of_one_document_are_not_those_of_the_next() -> None:
    for context in _contexts():
        KeptLoader(context, doc_cache=False).add_namespaces({"edam": "http://edamontology.org/"})
        after = KeptLoader(context, doc_cache=False)
        assert "edam" not in after.vocab
        assert after.expand_url("edam:x", "file:///here/") != "http://edamontology.org/x"


def test_types_of_one_tool_are_not_those_of_the_next() -> None:
    version = cwltool.process.get_schema("v1.0")[3].idx
    types = [version[f"https://w3id.org/cwl/cwl#{name}"] for name in ("File", "Directory")]
    plain = quick_documents._make_avro_schema(types, Loader({}))
    first = quick_documents.make_avro_schema(types, Loader({}))
    first.names["mine"] = next(iter(first.names.values()))
    second = quick_documents.make_avro_schema(list(types), Loader({}))
    assert set(second.names) == set(plain.names)
    assert [second.names[name].props for name in sorted(plain.names)] == [
        first.names[name].props for name in sorted(plain.names)
    ]


def test_a_copy_knows_its_lines_and_is_a_copy() -> None:
    document = YAML().load(io.StringIO("a:\n  - b: 1  # one\n  - c: [2, 3]\nd: x\n"))
    copied = copy.deepcopy(document)
    copied["a"][1]["c"].append(4)
    copied["e"] = 5
    assert document == {"a": [{"b": 1}, {"c": [2, 3]}], "d": "x"}
    assert copied["a"].lc.item(1) == document["a"].lc.item(1) == (2, 4)
    assert copied.lc.key("d") == (3, 0)
    written = io.StringIO()
    YAML().dump(document, written)
    assert "".join(written.getvalue().split()) == "a:-b:1#one-c:[2,3]d:x"
