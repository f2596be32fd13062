"""Results of steps that other runs take: known by content, never another's, never half, never too many."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.stores import ObjectStore, dav, object_store
from wes_bridge.engine.stored_results import StoredResults
from wes_bridge.model.step_plan import StepPlan
from wes_bridge.storage.directory import DirectoryStorage

__all__ = ["dav", "object_store"]
pytestmark = pytest.mark.database

ENGINE = {"reuse": "on", "reuse_gib": 10_000 / 1024**3}
NODE = {"name": "here", "platforms": ["process"], "sandbox": "none"}


@pytest.fixture(scope="module")
def site(start_service: Starter) -> Service:
    return start_service(nodes=[NODE], engine=ENGINE)


class Case:
    """A command that notes that it ran, writes its input's content, and says something."""

    def __init__(self, service: Service, folder: Path, name: str = "w") -> None:
        self.service, self.folder = service, folder
        self.ran = folder / "ran"
        self.document: dict[str, Any] = {
            "cwlVersion": "v1.2",
            "class": "CommandLineTool",
            "baseCommand": ["sh", "-c", f"echo ran >> {self.ran}; cat $0 > made; echo said; echo {folder}"],
            "inputs": {"file": {"type": "File", "inputBinding": {}}},
            "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made"}}},
        }

    def count(self) -> int:
        return len(self.ran.read_text().splitlines()) if self.ran.exists() else 0

    def run(self, content: str, name: str = "in.txt", **parameters: str) -> dict[str, Any]:
        """Run it; its one task, with what came out as ``text`` and the run's id."""
        path, data = self.folder / "tool.cwl", self.folder / name
        path.write_text(json.dumps(self.document))
        data.write_text(content)
        client = self.service.client
        inputs = {"file": {"class": "File", "location": data.as_uri()}}
        run_id = client.submit(path, inputs, engine_parameters=parameters)
        assert client.wait(run_id, timeout=60) == "COMPLETE", client.run(run_id)
        (task,) = client.tasks(run_id)
        location = client.run(run_id)["outputs"]["made"]["location"]
        return task | {"text": requests.get(location, timeout=60).text, "run_id": run_id}


def test_the_same_content_is_not_worked_on_twice(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    first = case.run("sky")
    assert "reused_from" not in first["placement"]
    second = case.run("sky")
    assert (case.count(), second["text"], second["state"]) == (1, "sky", "COMPLETE")
    assert second["placement"]["reused_from"]["run_id"] == first["run_id"]
    words = f"result of tool.cwl in run {first['run_id']}, kept for reuse"
    assert second["system_logs"] == [words]
    assert second["placement"]["reason"] == f"{words}; it ran on here"
    assert requests.get(second["stdout"], timeout=60).text.startswith("said\n")
    assert case.run("sea")["text"] == "sea"
    assert case.count() == 2


def test_it_outlives_the_run_that_made_it(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    site.client.delete(case.run("star")["run_id"])
    assert case.run("star")["text"] == "star"
    assert case.count() == 1


def test_a_run_can_do_without(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    case.run("a")
    assert "reused_from" not in case.run("a", reuse="off")["placement"]
    assert case.count() == 2


@pytest.mark.parametrize("enabled", [False, "$(inputs.file.size > 3)"])
def test_work_reuse(site: Service, tmp_path: Path, enabled: Any) -> None:
    case = Case(site, tmp_path)
    case.document["requirements"] = {"WorkReuse": {"enableReuse": enabled}, "InlineJavascriptRequirement": {}}
    case.run("abc")
    case.run("abc")
    assert case.count() == 2
    if enabled:
        case.run("abcd")
        case.run("abcd")
        assert case.count() == 3


def test_outputs_are_collected_anew(site: Service, tmp_path: Path) -> None:
    """A tool that wants another file of what the command left finds it, or is run."""
    case = Case(site, tmp_path)
    case.run("x")
    case.document["outputs"]["said"] = {"type": "Any?", "outputBinding": {"outputEval": "$(null)"}}
    assert case.run("x")["text"] == "x"
    assert case.count() == 1


def test_paths_in_cwl_output_json(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    script = (
        f"echo ran >> {case.ran}; cat $0 > made;"
        ' echo "{\\"made\\": {\\"class\\": \\"File\\", \\"path\\": \\"$PWD/made\\"}}" > cwl.output.json'
    )
    case.document |= {"baseCommand": ["sh", "-c", script]}
    assert case.run("path")["text"] == case.run("path")["text"] == "path"
    assert case.count() == 1


def test_what_is_kept_is_bounded_and_the_least_used_goes(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    often = "o" * 3000
    case.run(often)
    for letter in "abcdefgh":
        case.run(letter * 3000)
        case.run(often)
    assert case.count() == 9
    folders = [path for path in (site.state / "workspace" / ".reuse").glob("??/*")]
    assert sum((path / "out" / "made").stat().st_size for path in folders) <= 10_000
    case.run("a" * 3000)
    assert case.count() == 10
    assert Counter(path.name for path in (site.state / "workspace" / ".reuse" / ".new").iterdir()) == {}


def test_a_result_that_was_damaged_is_not_used(site: Service, tmp_path: Path) -> None:
    case = Case(site, tmp_path)
    run_id = case.run("whole")["run_id"]
    found = [
        path
        for path in (site.state / "workspace" / ".reuse").glob("??/*")
        if run_id in (path / "kept.json").read_text()
    ]
    (found[0] / "out" / "made").unlink()
    assert case.run("whole")["text"] == "whole"
    assert case.run("whole")["text"] == "whole"
    assert case.count() == 2


def test_off_is_the_default(start_service: Starter, tmp_path: Path) -> None:
    case = Case(start_service(nodes=[NODE]), tmp_path)
    case.run("a")
    assert not (case.service.state / "workspace" / ".reuse").exists()
    case.run("a", reuse="on")
    case.run("a", reuse="on")
    assert case.count() == 2


STEP = """
mkdir -p made/deep/empty; echo $0 ran >> RAN; cat $0 > made/one; ln made/one made/two; ln -s one made/link
chmod 755 made/two; echo said
"""


@pytest.mark.parametrize("kind", ["directory", "s3", "webdav"])
def test_a_service_on_another_disk_finds_results_in_the_store(
    kind: str, start_service: Starter, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What the first run has kept is taken off the disk before the second, as if that were another."""
    kept: dict[str, Any] = {"kind": "directory", "path": str(tmp_path / "kept")}
    if kind == "webdav":
        kept = request.getfixturevalue("dav").workspace("wes/")
    elif kind == "s3":
        store: ObjectStore = request.getfixturevalue("object_store")
        keys = {"credentials": {"file": str(store.keys)}, "prefix": f"reuse/{tmp_path.name}"}
        kept = {"kind": "s3", "endpoint": store.url, "bucket": "results", **keys}
    settings = {"nodes": [NODE], "engine": {"reuse": "on"}, "outputs_store": kept}
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", STEP.replace("RAN", str(tmp_path / "ran"))],
        "inputs": {"file": {"type": "File", "inputBinding": {}}},
        "outputs": {"made": {"type": "Directory", "outputBinding": {"glob": "made"}}},
    }
    (tmp_path / "tool.cwl").write_text(json.dumps(tool))
    (tmp_path / "in.txt").write_text("sky")
    inputs = {"file": {"class": "File", "location": (tmp_path / "in.txt").as_uri()}}
    service = start_service(**settings)
    for _ in range(2):
        run = service.run(tmp_path / "tool.cwl", inputs)
        assert run["state"] == "COMPLETE", run
        (task,) = service.client.tasks(run["run_id"])
        listing = {one["basename"]: one for one in run["outputs"]["made"]["listing"]}
        assert sorted(listing) == ["deep", "link", "one", "two"]
        assert requests.get(listing["link"]["location"], timeout=60).text == "sky"
        assert requests.get(task["stdout"], timeout=60).text == "said\n"
        shutil.rmtree(service.state / "workspace" / ".reuse")
    assert "reused_from" in task["placement"]
    assert len((tmp_path / "ran").read_text().splitlines()) == 1


def test_a_result_in_the_store_that_leads_elsewhere_is_not_taken(tmp_path: Path) -> None:
    storage = DirectoryStorage(tmp_path / "kept")
    for index, name in enumerate(("../away", "/away", "out/../../away", "out/link/away")):
        key = f"{index}" * 64
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as made:
            link = tarfile.TarInfo("out/link")
            link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
            made.addfile(link)
            made.addfile(tarfile.TarInfo(name))
        (tmp_path / "packed").write_bytes(archive.getvalue())
        with (tmp_path / "packed").open("rb") as file:
            storage.put(f"reuse/{key}/result.tar", file.fileno())
        plan = StepPlan("s", ["true"], {}, "/wb-1", "/wb-1/out", (tmp_path / "out").as_uri())
        assert StoredResults(tmp_path / "work/deep", storage).take(key, plan) is None
    assert not list(tmp_path.rglob("away"))
    assert not list((tmp_path / "work").rglob("*.tar"))
