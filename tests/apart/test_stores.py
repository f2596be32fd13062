"""Inputs in an object store, at nodes that share no disk with the service: nodes fetch them by themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from tests.apart.conftest import ONLY_WEB
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Starter
from tests.stores import ObjectStore, object_store
from wes_bridge.cli.flow import reasons

__all__ = ["object_store"]
TOOL = {
    "cwlVersion": "v1.2",
    "class": "CommandLineTool",
    "baseCommand": ["sh", "-c", 'cat "$0" "$1/x" "$2"'],
    "inputs": {
        name: {"type": kind, "inputBinding": {"position": place}}
        for place, (name, kind) in enumerate({"s": "File", "d": "Directory", "u": "File"}.items())
    },
    "outputs": {"o": {"type": "stdout"}},
    "stdout": "o.txt",
}


def test_objects_and_uploads_meet_at_a_node(
    start_service: Starter, start_node: NodeStarter, object_store: ObjectStore, tmp_path: Path
) -> None:
    node = start_node(name="sky-node", **ONLY_WEB, s3=[object_store.settings(["sky"])])
    other = start_node(name="other", **ONLY_WEB)
    brokers: list[dict[str, Any]] = [
        {"name": "other", "url": other.url, "shares_files": False},
        {"name": "sky-node", "url": node.url, "shares_files": False},
    ]
    service = start_service(nodes=[], brokers=brokers)
    object_store.put("sky/apart/a", b"1")
    object_store.put("sky/apart/d/x", b"2")
    (tmp_path / "u").write_text("3")
    (tmp_path / "w.cwl").write_text(json.dumps(TOOL))
    job = {
        "s": {"class": "File", "location": "s3://sky/apart/a"},
        "d": {"class": "Directory", "location": "s3://sky/apart/d"},
        "u": {"class": "File", "path": str(tmp_path / "u")},
    }
    run = service.run(tmp_path / "w.cwl", job)
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    assert requests.get(run["outputs"]["o"]["location"], timeout=30).text == "123"
    (task,) = service.client.tasks(run["run_id"])
    assert task["node"] == "sky-node"


def test_a_broker_is_asked_for_what_it_is_known_to_reach(
    start_service: Starter, start_node: NodeStarter, tmp_path: Path
) -> None:
    """Of the service's own files nothing need be said: they go there over HTTP."""
    node = start_node(name="web", **ONLY_WEB)
    broker = {"name": "web", "url": node.url, "shares_files": False, "data": ["https://data.example.org/"]}
    service = start_service(nodes=[], brokers=[broker])
    tool = TOOL | {"inputs": {"s": {"type": "File", "inputBinding": {}}}, "baseCommand": "cat"}
    (tmp_path / "w.cwl").write_text(json.dumps(tool))
    run = service.run(tmp_path / "w.cwl", {"s": {"class": "File", "location": "s3://sky/a"}})
    words = " ".join(reasons(service.client, run))
    assert "web: not asked: it cannot reach s3://sky/a (it reaches https://data.example.org/)" in words
    (tmp_path / "u").write_text("3")
    run = service.run(tmp_path / "w.cwl", {"s": {"class": "File", "path": str(tmp_path / "u")}})
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
