"""Locations that expressions and commands make up: none leads to a file that the run was not given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.security import paths
from tests.service.conftest import Service, start_service
from wes_bridge import WESClient
from wes_bridge.cli.embedded import EmbeddedService

__all__ = ["start_service"]
Document = Callable[[str], dict[str, Any]]
SPELLINGS = ("file:///", "/", "file:/", "FILE:///", "file://localhost/", "file:///proc/../", "file:///%2e/")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that no run is given."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "canary.txt").write_text(paths.CANARY)
    return folder


@pytest.fixture(scope="module")
def guarded(request: pytest.FixtureRequest) -> Service:
    """A service with one plain node that isolates nothing: only the policy is in the way."""
    start = request.getfixturevalue("start_service")
    service: Service = start(nodes=[{"name": "here", "platforms": ["process"], "sandbox": "none"}])
    return service


@pytest.fixture(scope="module")
def laptop() -> Iterator[tuple[WESClient, Path]]:
    """The private service that ``wes-bridge run`` starts, and its folder."""
    with EmbeddedService() as embedded, WESClient(embedded.url(), token=embedded.token) as client:
        assert embedded._state is not None
        yield client, embedded._state


def run_there(client: WESClient, workflow: Path, params: Any = None) -> dict[str, Any]:
    run_id = client.submit(workflow, params)
    client.wait(run_id, timeout=120)
    return client.run(run_id)


def write(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "w.cwl"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize("way", paths.WAYS)
def test_a_made_up_location_gives_no_file_of_the_machine(
    guarded: Service, home: Path, tmp_path: Path, way: Document
) -> None:
    run = guarded.run(write(tmp_path, way(f"file://{home}/canary.txt")))
    assert run["state"] == "EXECUTOR_ERROR", run
    assert not paths.found_in(guarded.state / "workspace")
    assert any("canary.txt" in line for line in run["run_log"]["system_logs"]), run["run_log"]["system_logs"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_however_it_is_spelled(guarded: Service, home: Path, tmp_path: Path, spelling: str) -> None:
    location = f"{spelling}{str(home)[1:]}/canary.txt"
    run = guarded.run(write(tmp_path, paths.in_workdir(location)))
    assert run["state"] != "COMPLETE", run
    assert not paths.found_in(guarded.state / "workspace")


def test_a_folder_that_is_made_up_is_not_updated_in_place(
    guarded: Service, home: Path, tmp_path: Path
) -> None:
    run = guarded.run(write(tmp_path, paths.updated_in_place(f"file://{home}")))
    assert run["state"] == "EXECUTOR_ERROR", run
    assert [path.name for path in home.iterdir()] == ["canary.txt"]
    assert (home / "canary.txt").read_text() == paths.CANARY


def test_a_link_that_a_command_left_leads_nowhere(guarded: Service, home: Path, tmp_path: Path) -> None:
    """The first step gives a Directory with a link; the second is given what is behind it."""
    maker = paths.tool(
        f"mkdir d; ln -s {home} d/way",
        outputs={"d": {"type": "Directory", "outputBinding": {"glob": "d"}}},
        stdout="o.txt",
    )
    inside = "${return {class: 'File', location: inputs.d.location + '/way/canary.txt', basename: 'got'};}"
    reader = paths.tool(
        "cat got",
        inputs={"d": "Directory"},
        requirements={"InitialWorkDirRequirement": {"listing": [inside]}},
    )
    steps = {
        "make": {"in": {}, "out": ["d"], "run": maker},
        "read": {"in": {"d": "make/d"}, "run": reader},
    }
    run = guarded.run(write(tmp_path, paths._workflow(steps)))
    assert run["state"] == "EXECUTOR_ERROR", run
    assert not paths.found_in(guarded.state / "workspace")


@pytest.mark.parametrize("pattern", ["../../../../../../../../../..{home}/canary.txt", "way/canary.txt"])
def test_a_glob_does_not_lead_out(guarded: Service, home: Path, tmp_path: Path, pattern: str) -> None:
    document = paths.tool(
        f"ln -s {home} way",
        outputs={"said": {"type": "File", "outputBinding": {"glob": pattern.format(home=home)}}},
        stdout="o.txt",
    )
    run = guarded.run(write(tmp_path, document))
    assert run["state"] == "EXECUTOR_ERROR", run
    assert not paths.found_in(guarded.state / "workspace")


@pytest.mark.parametrize("way", paths.WAYS)
def test_on_a_laptop_too(laptop: tuple[WESClient, Path], home: Path, tmp_path: Path, way: Document) -> None:
    run = run_there(laptop[0], write(tmp_path, way(f"file://{home}/canary.txt")))
    assert run["state"] == "EXECUTOR_ERROR", run
    assert not paths.found_in(laptop[1] / "workspace")
    said = " ".join(run["run_log"]["system_logs"])
    assert "name it in the job file" in said or "is not in the command's output directory" in said


@pytest.mark.parametrize("name", [".netrc", "passwords.kdbx"])
def test_on_a_laptop_a_secondary_file_has_its_file_s_name(
    laptop: tuple[WESClient, Path], home: Path, tmp_path: Path, name: str
) -> None:
    (home / name).write_text(paths.CANARY)
    (home / "image.fits").write_text("image")
    document = paths.tool(
        f"cat $(inputs.f.dirname)/{name}",
        inputs={"f": {"type": "File", "secondaryFiles": ["${return '" + name + "';}"]}},
    )
    job = {"f": {"class": "File", "path": str(home / "image.fits")}}
    run = run_there(laptop[0], write(tmp_path, document), job)
    assert run["state"] == "EXECUTOR_ERROR", run
    assert not paths.found_in(laptop[1] / "workspace")


def test_on_a_laptop_files_that_job_and_document_name_are_there(
    laptop: tuple[WESClient, Path], tmp_path: Path
) -> None:
    """Elsewhere on the machine, by links, with their secondary files, in Directories, as defaults."""
    data, disk = tmp_path / "data", tmp_path / "disk"
    (data / "set" / "deep").mkdir(parents=True)
    disk.mkdir()
    (data / "set" / "deep" / "column").write_text("column ")
    (disk / "cube.fits").write_text("cube ")
    (disk / "cube.fits.idx").write_text("index ")
    for name in ("cube.fits", "cube.fits.idx"):
        (data / name).symlink_to(disk / name)
    (data / "beside.txt").write_text("beside ")
    (tmp_path / "default.txt").write_text("default ")
    document = paths.tool(
        "cat $(inputs.cube.path) $(inputs.cube.path).idx set/deep/column $(inputs.set.path)/deep/column"
        " static.txt $(inputs.other.path)",
        inputs={
            "cube": {"type": "File", "secondaryFiles": [".idx"]},
            "set": {"type": "Directory", "loadListing": "deep_listing"},
            "other": {"type": "File", "default": {"class": "File", "path": "default.txt"}},
        },
        requirements={
            "InitialWorkDirRequirement": {
                "listing": [
                    "$(inputs.set)",
                    {"class": "File", "location": "data/beside.txt", "basename": "static.txt"},
                ]
            }
        },
    )
    job = {
        "cube": {"class": "File", "path": str(data / "cube.fits")},
        "set": {"class": "Directory", "path": str(data / "set")},
    }
    run = run_there(laptop[0], write(tmp_path, document), job)
    assert run["state"] == "COMPLETE", run["run_log"]["system_logs"]
    laptop[0].download(run["run_id"], tmp_path / "out", outputs=run["outputs"])
    assert (tmp_path / "out" / "said.txt").read_text() == "cube index column column beside default "
