"""A service that hands out outputs of runs from a store: there once the run is COMPLETE, gone with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.stores import ObjectStore, dav, object_store
from wes_bridge.cli.flow import reasons

__all__ = ["dav", "object_store"]
TOOL = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, 'mkdir d; echo one > d/a; echo two']
inputs: []
stdout: o.txt
outputs: {o: stdout, d: {type: Directory, outputBinding: {glob: d}}}
"""


def ran(service: Service, folder: Path) -> dict[str, Any]:
    (folder / "t.cwl").write_text(TOOL)
    return service.run(folder / "t.cwl")


@pytest.fixture(params=["directory", "object store", "webdav"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "directory":
        return {"kind": "directory", "path": str(tmp_path / "kept")}
    if request.param == "webdav":
        found: dict[str, Any] = request.getfixturevalue("dav").workspace("wes/runs/")
        return found
    store: ObjectStore = request.getfixturevalue("object_store")
    keys = {"credentials": {"file": str(store.keys)}, "prefix": f"wes/{tmp_path.name}"}
    return {"kind": "s3", "endpoint": store.url, "bucket": "results", **keys}


def test_outputs_are_in_the_store_and_go_with_their_run(
    kept: dict[str, Any], start_service: Starter, tmp_path: Path
) -> None:
    service = start_service(outputs_store=kept)
    run = ran(service, tmp_path)
    assert run["state"] == "COMPLETE", list(reasons(service.client, run))
    where = service.state / "workspace" / run["run_id"]
    (where / "outputs").rename(where / "gone")
    output = run["outputs"]["o"]["location"]
    assert requests.get(output, timeout=30).text == "two\n"
    assert requests.get(run["outputs"]["d"]["listing"][0]["location"], timeout=30).text == "one\n"
    service.client.delete(run["run_id"])
    assert requests.get(output, timeout=30).status_code == 404
    if kept["kind"] == "directory":
        assert not list(Path(kept["path"]).rglob("o.txt"))


def test_a_store_that_takes_nothing_ends_the_run_with_its_reason(
    start_service: Starter, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    service = start_service(outputs_store={"kind": "directory", "path": str(kept)})
    kept.rmdir()
    kept.write_text("this is no folder any more")
    for worker in service.children("wes_bridge.engine.worker"):
        worker.kill()  # the one that is started in its place meets such a store from the beginning
    run = ran(service, tmp_path)
    assert run["state"] == "SYSTEM_ERROR"
    assert "outputs_store" in " ".join(reasons(service.client, run))
