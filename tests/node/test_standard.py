"""Our document has every field of ExecutionBroker 1.0, by the kinds it belongs to, and our model takes them.

The names below are facts of the published schema (version 1.0), written down here as a tree.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.node.conftest import REPOSITORY, NodeProcess, Starter
from wes_bridge.model import execution_broker as eb
from wes_bridge.node import kinds

Tree = dict[str, Any]
"""Fields by name; None: it has none of its own. A name that ends with [] is a list."""

DOCUMENT: Tree = yaml.safe_load((REPOSITORY / "openapi" / "execution-broker.yaml").read_text())
SCHEMAS: Tree = DOCUMENT["components"]["schemas"]


def leaves(names: str) -> Tree:
    return dict.fromkeys(names.split())


MESSAGE = leaves("kind time level template values message")
OPTION = leaves("kind path")
RANGE = leaves("min max")
OPTIONS: Tree = {
    "uri:string-value-option": OPTION | leaves("pattern"),
    "uri:enum-value-option": OPTION | {"values[]": None},
    "uri:integer-value-option": OPTION | RANGE | leaves("units"),
    "uri:integer-delta-option": OPTION | RANGE | leaves("units"),
}
META = leaves("uuid name url description created modified") | {"messages[]": MESSAGE, "options[]": OPTIONS}
ITEM = leaves("kind type description")
COSTS: Tree = {eb.ABSTRACT_COST: ITEM, eb.MINMAX_COST: ITEM | RANGE}
METRICS: Tree = {eb.ABSTRACT_METRIC: ITEM, eb.MINMAX_METRIC: ITEM | RANGE}
COMPONENT: Tree = {"kind": None, "meta": META, "costs[]": COSTS, "metrics[]": METRICS}
TIMES = leaves("start duration")
SCHEDULE: Tree = {"preparing": TIMES, "available": TIMES, "releasing": TIMES}
LIVING: Tree = COMPONENT | {"phase": None, "schedule": SCHEDULE}
PORT = leaves("access protocol path") | {
    "internal": leaves("port"),
    "external": leaves("port") | {"addresses[]": None},
}
EXECUTABLE: Tree = {
    eb.DOCKER_CONTAINER: LIVING
    | leaves("privileged entrypoint environment")
    | {
        "image": {"locations[]": None, "digest": None, "platform": leaves("architecture os")},
        "command[]": None,
        "network": {"ports[]": PORT},
    },
    eb.SINGULARITY_CONTAINER: LIVING | leaves("location"),
    eb.JUPYTER_NOTEBOOK: LIVING | leaves("location"),
}
VOLUMES: Tree = {eb.SIMPLE_VOLUME: COMPONENT | leaves("path mode resource")}
COMPUTE: Tree = {eb.SIMPLE_COMPUTE: LIVING | {"cores": RANGE, "memory": RANGE, "volumes[]": VOLUMES}}
STORAGE: Tree = {eb.SIMPLE_STORAGE: LIVING | {"size": RANGE, "data[]": None}}
IVOA: Tree = {
    "ivoid": None,
    "obscore": leaves(
        "obs_id obs_collection obs_publisher_did obs_creator_did dataproduct_type calib_level access_url"
        " access_format"
    ),
    "datalink": leaves(
        "ID access_url service_def error_message description semantics content_type content_length"
        " content_qualifier local_semantics link_auth link_authorized"
    ),
}
SKAO: Tree = leaves("namespace objectname objecttype datasize") | {
    "checksum": leaves("type value"),
    "replicas[]": leaves("rsename dataurl"),
}
DATUM: Tree = LIVING | leaves("storage")
DATA: Tree = {
    eb.SIMPLE_DATA: DATUM | leaves("location"),
    eb.S3_DATA: DATUM | leaves("endpoint template bucket object"),
    eb.RUCIO_DATA: DATUM | {"rucio": leaves("endpoint scope object type")},
    eb.IVOA_DATA: DATUM | {"ivoa": IVOA},
    eb.SKAO_DATA: DATUM | {"ivoa": IVOA, "skao": SKAO},
}
PARTS: Tree = {"executable": EXECUTABLE, "compute": COMPUTE, "storage[]": STORAGE, "data[]": DATA}
REQUEST: Tree = PARTS | {"schedule": {"requested": TIMES}, "costs[]": COSTS, "metrics[]": METRICS}
SIMPLE: Tree = (
    COMPONENT | PARTS | leaves("phase expires") | {"connectors[]": leaves("kind status protocol location")}
)
SESSION: Tree = {eb.SIMPLE_SESSION: SIMPLE, eb.SCHEDULED_SESSION: SIMPLE | {"schedule": SCHEDULE}}
UPDATE = leaves("kind path value")
UPDATES: Tree = {
    eb.STRING_UPDATE: UPDATE,
    eb.ENUM_UPDATE: UPDATE,
    eb.INTEGER_UPDATE: UPDATE | leaves("units"),
    eb.INTEGER_DELTA_UPDATE: leaves("kind path delta units"),
}
STANDARD: dict[str, Tree] = {
    "ExecutionRequest": REQUEST,
    "Session": SESSION,
    "OfferSet": COMPONENT | leaves("result description") | {"offers[]": SESSION},
    "Update": UPDATES,
}


def paths(tree: Tree | None, prefix: str = "") -> Iterator[str]:
    """Each field's path; where the kind decides about the fields it is in the path."""
    for name, inner in (tree or {}).items():
        where = f"{prefix}<{name.rpartition('/')[2]}>" if is_kind(name) else f"{prefix}.{name}"
        if not is_kind(name):
            yield where
        yield from paths(inner, where)


def is_kind(name: str) -> bool:
    return ":" in name


def plain(schema: Tree) -> Tree:
    while "$ref" in schema:
        schema = SCHEMAS[schema["$ref"].rpartition("/")[2]]
    return schema


def fields(schema: Tree) -> Tree:
    """The fields of a schema, with those that it takes over; schemas, not trees."""
    schema = plain(schema)
    found: Tree = {}
    for part in schema.get("allOf", []):
        found |= fields(part)
    return found | schema.get("properties", {})


def tree_of(schema: Tree) -> Tree | None:
    """What a schema has, as a tree of the form above."""
    schema = plain(schema)
    if "discriminator" in schema:
        mapping = schema["discriminator"]["mapping"]
        return {kind: _tree(fields({"$ref": target})) for kind, target in mapping.items()}
    found = fields(schema)
    return _tree(found) if found else None


def _tree(found: Tree) -> Tree:
    tree: Tree = {}
    for name, schema in found.items():
        inner = plain(schema)
        is_list = inner.get("type") == "array"
        tree[f"{name}[]" if is_list else name] = tree_of(inner["items"] if is_list else inner)
    return tree


@pytest.mark.parametrize("name", STANDARD)
def test_every_field_of_the_standard_is_in_our_document(name: str) -> None:
    ours = set(paths(tree_of({"$ref": f"#/components/schemas/{name}"})))
    standard = set(paths(STANDARD[name]))
    assert len(standard) >= 10
    assert sorted(standard - ours) == []


def discriminated() -> Iterator[tuple[str, str, str]]:
    for name, schema in SCHEMAS.items():
        for kind, target in schema.get("discriminator", {}).get("mapping", {}).items():
            yield name, kind, target.rpartition("/")[2]


@pytest.mark.parametrize(("base", "kind", "target"), list(discriminated()))
def test_each_kind_is_a_schema_of_its_own(base: str, kind: str, target: str) -> None:
    """Generated clients take the structure that the kind names; it has all that the base has."""
    assert "kind" in _required(SCHEMAS[base])
    assert target == base or {"$ref": f"#/components/schemas/{base}"} in SCHEMAS[target]["allOf"], kind


def _required(schema: Tree) -> set[str]:
    schema = plain(schema)
    return set(schema.get("required", [])).union(*(_required(part) for part in schema.get("allOf", [])))


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Executable", kinds.EXECUTABLES),
        ("Compute", kinds.COMPUTE),
        ("Storage", kinds.STORAGE),
        ("Volume", kinds.VOLUMES),
        ("Data", kinds.DATA),
        ("Cost", kinds.COSTS),
        ("Metric", kinds.METRICS),
    ],
)
def test_the_node_knows_the_kinds_of_the_document(name: str, known: frozenset[str]) -> None:
    assert {kind for base, kind, _ in discriminated() if base == name} == known


def example(tree: Tree | None, kind: str | None = None) -> Any:
    """Something with every field of a tree; of several kinds, the first."""
    if tree is None:
        return "x"
    if any(is_kind(name) for name in tree):
        kind, inner = next(iter(tree.items()))
        return example(inner, kind)
    made: Tree = {}
    for name, inner in tree.items():
        value = VALUES.get(name.removesuffix("[]"), None) if inner is None else example(inner)
        value = "x" if value is None else value
        made[name.removesuffix("[]")] = [value] if name.endswith("[]") else value
    return made | ({"kind": kind} if kind else {})


VALUES: Tree = {
    "min": 1,
    "max": 2,
    "port": 80,
    "access": True,
    "privileged": False,
    "calib_level": 2,
    "content_length": 7,
    "datasize": 7,
    "values": {"a": "b"},
    "environment": {"a": "b"},
    "level": "INFO",
    "mode": "READONLY",
    "uuid": "3fa85f64-5717-4562-b3fc-2c963f66afa6",
} | {name: "2026-01-01T00:00:00Z" for name in ("created", "modified", "time", "expires")}


def request_of(kind: str, tree: Tree) -> Tree:
    """A request with every field of one kind of data, and of everything else."""
    body: Tree = example(REQUEST)
    body["data"] = [example(tree, kind)]
    body["schedule"] = {"requested": {"duration": "PT1H", "start": "2026-01-01T00:00:00Z/PT1H"}}
    for part in (body["executable"], body["compute"], *body["data"], *body["storage"]):
        part["phase"] = "INITIALIZING"
    for owner in [*_owners(body)]:
        owner["values"] = ["x"] if "path" in owner else {"a": "b"}
    body["compute"]["volumes"][0]["path"] = "/x"
    return body


def _owners(value: Any) -> Iterator[Tree]:
    """Objects with ``values``: a list in options, an object in messages."""
    if isinstance(value, dict):
        if "values" in value:
            yield value
        for inner in value.values():
            yield from _owners(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _owners(inner)


@pytest.fixture(scope="module")
def node(start_node: Starter) -> NodeProcess:
    return start_node(sandbox="none")


@pytest.mark.parametrize(("kind", "tree"), DATA.items(), ids=lambda value: str(value)[-40:][:30])
def test_a_request_with_every_field_is_answered(node: NodeProcess, kind: str, tree: Tree) -> None:
    body = request_of(kind, tree)
    told = eb.dump(eb.ExecutionRequest.model_validate_json(json.dumps(body)))
    assert json.loads(json.dumps(told)).keys() == body.keys()
    assert told["data"][0].keys() == body["data"][0].keys()
    reasons = node.refused(body)
    assert all(reason["message"] for reason in reasons)
