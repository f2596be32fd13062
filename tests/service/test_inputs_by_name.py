"""Inputs that are no files of this machine: their URLs go to the nodes that can read them, as they are."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.stores import ObjectStore, object_store
from wes_bridge.cli.flow import reasons

__all__ = ["object_store"]
HEAD = {"cwlVersion": "v1.2", "class": "CommandLineTool"}
OUT = {"outputs": {"o": {"type": "stdout"}}, "stdout": "o.txt"}
CAT = HEAD | OUT | {"baseCommand": "cat", "inputs": {"f": {"type": "File", "inputBinding": {}}}}


@pytest.fixture(scope="module")
def service(start_service: Starter, object_store: ObjectStore) -> Service:
    """A service that cannot look into any store, and two nodes, of which one reads a bucket."""
    reads = {"name": "sky-node", "platforms": ["process"], "s3": [object_store.settings(["sky"])]}
    return start_service(nodes=[{"name": "other", "platforms": ["process"], "data": ["file:///"]}, reads])


@pytest.fixture(scope="module")
def looking(start_service: Starter, object_store: ObjectStore) -> Service:
    """A service that looks into the bucket, too."""
    stores = [object_store.settings(["sky"])]
    return start_service(
        nodes=[{"name": "sky-node", "platforms": ["process"], "s3": stores}], fetch={"s3": stores}
    )


def ran(service: Service, folder: Path, document: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    (folder / "w.cwl").write_text(json.dumps(document))
    return service.run(folder / "w.cwl", job)


def output(service: Service, folder: Path, document: dict[str, Any], job: dict[str, Any]) -> str:
    run = ran(service, folder, document, job)
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    return requests.get(run["outputs"]["o"]["location"], timeout=30).text


def failure(service: Service, folder: Path, document: dict[str, Any], job: dict[str, Any]) -> str:
    run = ran(service, folder, document, job)
    assert run["state"] in ("EXECUTOR_ERROR", "SYSTEM_ERROR"), run["state"]
    return " ".join(reasons(service.client, run))


def named(location: str, kind: str = "File", **more: Any) -> dict[str, Any]:
    return {"f": {"class": kind, "location": location, **more}}


@pytest.mark.parametrize("name", ["dr1/image.fits", "a b", "a%20b", "a#b", "ä"])
def test_an_object_is_read_by_the_node_that_can(
    service: Service, object_store: ObjectStore, tmp_path: Path, name: str
) -> None:
    object_store.put(f"sky/{name}", name.encode())
    run = ran(service, tmp_path, CAT, named(f"s3://sky/{quote(name)}"))
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert requests.get(run["outputs"]["o"]["location"], timeout=30).text == name
    (task,) = service.client.tasks(run["run_id"])
    assert task["node"] == "sky-node", task


def test_the_object_has_the_name_that_the_job_says(
    service: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.put("sky/named", b"x")
    tool = CAT | {"baseCommand": "basename"}
    assert output(service, tmp_path, tool, named("s3://sky/named")) == "named\n"
    assert output(service, tmp_path, tool, named("s3://sky/named", basename="b.fits")) == "b.fits\n"


def test_what_the_job_says_of_an_object_is_held_against_it(
    service: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.put("sky/checked", b"right")
    digest = hashlib.sha1(b"right").hexdigest()
    good = named("s3://sky/checked", size=5, checksum=f"sha1${digest}")
    assert output(service, tmp_path, CAT, good) == "right"
    wrong = hashlib.sha1(b"wrong").hexdigest()
    words = failure(service, tmp_path, CAT, named("s3://sky/checked", checksum=f"sha1${wrong}"))
    assert wrong in words
    assert digest in words
    words = failure(service, tmp_path, CAT, named("s3://sky/checked", size=6))
    assert "6 bytes were expected" in words


def test_everything_below_a_prefix_is_a_directory(
    service: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    for name in ("a", "d/b", "d/e/c"):
        object_store.put(f"sky/tree/{name}", b"x")
    tool = (
        HEAD
        | OUT
        | {
            "baseCommand": ["sh", "-c", 'basename "$0"; cd "$0"; find . -type f | sort'],
            "inputs": {"f": {"type": "Directory", "inputBinding": {}}},
        }
    )
    for location in ("s3://sky/tree/", "s3://sky/tree"):
        found = output(service, tmp_path, tool, named(location, "Directory"))
        assert found == "tree\n./a\n./d/b\n./d/e/c\n"


PAIR = CAT | {
    "inputs": {"f": {"type": "File", "secondaryFiles": [".idx", ".maybe?"]}},
    "baseCommand": ["sh", "-c"],
    "arguments": ['cat "$0" "$0.idx"; ls "$0"* | wc -l', "$(inputs.f.path)"],
}


def test_secondary_files_are_beside_the_object(
    service: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    for name in ("pair", "pa%20ir"):
        object_store.put(f"sky/s/{name}", b"1")
        object_store.put(f"sky/s/{name}.idx", b"2")
        assert output(service, tmp_path, PAIR, named(f"s3://sky/s/{quote(name)}")).split() == ["122"]
    object_store.put("sky/s/pair.maybe", b"3")
    listed = [{"class": "File", "location": f"s3://sky/s/pair.{end}"} for end in ("idx", "maybe")]
    given = named("s3://sky/s/pair", secondaryFiles=listed)
    assert output(service, tmp_path, PAIR, given).split() == ["123"]


def test_a_service_that_looks_finds_what_may_be_missing(
    looking: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    for name in ("full", "full.idx", "full.maybe", "bare", "bare.idx"):
        object_store.put(f"sky/l/{name}", b"1")
    assert output(looking, tmp_path, PAIR, named("s3://sky/l/full")).split() == ["113"]
    assert output(looking, tmp_path, PAIR, named("s3://sky/l/bare")).split() == ["112"]
    object_store.put("sky/l/alone", b"1")
    assert "Missing required secondary file 'alone.idx'" in failure(
        looking, tmp_path, PAIR, named("s3://sky/l/alone")
    )


def test_a_default_may_be_an_object(service: Service, object_store: ObjectStore, tmp_path: Path) -> None:
    object_store.put("sky/default", b"by default")
    default = named("s3://sky/default")["f"]
    tool = CAT | {"inputs": {"f": {"type": "File", "inputBinding": {}, "default": default}}}
    assert output(service, tmp_path, tool, {}) == "by default"
    flow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {},
        "steps": {"s": {"run": CAT, "in": {"f": {"default": default}}, "out": ["o"]}},
        "outputs": {"o": {"type": "File", "outputSource": "s/o"}},
    }
    assert output(service, tmp_path, flow, {}) == "by default"


def test_an_object_that_is_passed_through_stays_where_it_is(
    service: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.put("sky/through", b"x")
    flow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {"f": "File"},
        "steps": {},
        "outputs": {"o": {"type": "File", "outputSource": "f"}},
    }
    run = ran(service, tmp_path, flow, named("s3://sky/through"))
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert run["outputs"]["o"]["location"] == "s3://sky/through"


def test_a_wrong_key_is_named(service: Service, tmp_path: Path) -> None:
    words = failure(service, tmp_path, CAT, named("s3://sky/no/such/object"))
    assert "s3://sky/no/such/object" in words
    assert "the store has no such object" in words


@pytest.mark.parametrize(
    ("location", "says"),
    [
        (
            "s3://private/a",
            "sky-node: data resource input-1: of object stores, this node reads only s3://sky/",
        ),
        ("s3://private/a", "other: data resource input-1: this node takes only file:///"),
        ("rucio://srcnet/scope:name", "this node takes only file:///, http://, https://, data:, s3://sky/"),
        ("rucio:scope:name", "rucio:scope:name"),
        ("davs://dav.example.org/a", "davs://dav.example.org/a"),
        ("s3://sky/../a", "has '.', '..'"),
        ("s3://a", "s3://a"),
    ],
)
def test_who_cannot_read_it_says_what_they_can(
    service: Service, tmp_path: Path, location: str, says: str
) -> None:
    words = failure(service, tmp_path, CAT, named(location, basename="x"))
    assert "no node can run this step" in words
    assert says in words


READS = (
    HEAD
    | OUT
    | {
        "baseCommand": "echo",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {"f": {"type": "File", "loadContents": True}},
        "arguments": ["$(inputs.f.contents.trim())"],
    }
)
LISTS = (
    HEAD
    | OUT
    | {
        "baseCommand": "echo",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {"f": {"type": "Directory", "loadListing": "deep_listing"}},
        "arguments": ["$(inputs.f.listing.map(function(e) { return e.class + e.basename; }).join())"],
    }
)


def test_contents_and_listings_are_had_where_the_service_looks(
    looking: Service, object_store: ObjectStore, tmp_path: Path
) -> None:
    object_store.put("sky/look/a b", b"what is in it\n")
    object_store.put("sky/look/d/c", b"x")
    assert output(looking, tmp_path, READS, named("s3://sky/look/a%20b")) == "what is in it\n"
    assert output(looking, tmp_path, LISTS, named("s3://sky/look", "Directory")) == "Filea b,Directoryd\n"
    assert "the store has no such object" in failure(looking, tmp_path, READS, named("s3://sky/look/no"))
    assert "there is no object below" in failure(looking, tmp_path, LISTS, named("s3://sky/no", "Directory"))
    object_store.put("sky/look/large", bytes(70_000))
    assert "larger than 64 KiB" in failure(looking, tmp_path, READS, named("s3://sky/look/large"))


def test_contents_and_listings_are_refused_where_it_does_not(
    service: Service, looking: Service, tmp_path: Path
) -> None:
    words = failure(service, tmp_path, READS, named("s3://sky/a"))
    assert "s3://sky/a is handed on to nodes, and this service does not look into it" in words
    assert "loadContents" in words
    assert "fetch.s3" in words
    assert "a listing of it is asked for" in failure(
        service, tmp_path, LISTS, named("s3://sky/d", "Directory")
    )
    words = failure(looking, tmp_path, READS, named("s3://private/a"))
    assert "fetch.s3 (it has s3://sky/)" in words
    assert "fetch.s3" not in failure(looking, tmp_path, READS, named("davs://dav.example.org/a"))


def test_the_service_says_which_kinds_of_url_it_takes(service: Service) -> None:
    assert "s3" in service.client.service_info()["supported_filesystem_protocols"]


def test_a_plan_knows_who_can_read_it(service: Service, object_store: ObjectStore, tmp_path: Path) -> None:
    object_store.put("sky/planned", b"x")
    (tmp_path / "w.cwl").write_text(json.dumps(CAT))
    (step,) = service.client.plan(tmp_path / "w.cwl", named("s3://sky/planned", size=1))["steps"]
    assert step["chosen"]["node"] == "sky-node", step
