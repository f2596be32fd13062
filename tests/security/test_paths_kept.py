"""What a run's commands left behind, when it is kept, served, taken over and deleted: no link leads out."""

from __future__ import annotations

import contextlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.security import paths
from tests.security.paths import CANARY
from tests.security.test_paths_links import Secret, secret
from tests.security.test_paths_made_up import write
from tests.service.conftest import Service, start_service
from wes_bridge.data.workspace import RunFolder
from wes_bridge.engine.keeping import _bring

__all__ = ["secret", "start_service"]


@pytest.fixture(scope="module")
def keeping(request: pytest.FixtureRequest) -> Service:
    """A service that keeps results, with a node that isolates nothing."""
    start = request.getfixturevalue("start_service")
    node = {"name": "here", "platforms": ["process"], "sandbox": "none"}
    service: Service = start(nodes=[node], engine={"reuse": "on"})
    return service


@pytest.fixture(autouse=True)
def _nothing_is_in_the_workspace(keeping: Service, secret: Secret) -> Iterator[None]:
    yield
    assert not paths.found_in(keeping.state)


def directory(command: str, **more: Any) -> dict[str, Any]:
    out = {"type": "Directory", "outputBinding": {"glob": "d"}}
    return paths.tool(command, outputs={"d": out}, stdout="o.txt", **more)


@pytest.mark.parametrize("again", [False, True])
def test_a_link_in_an_output_is_told_and_not_followed(
    keeping: Service, secret: Secret, tmp_path: Path, again: bool
) -> None:
    """Also when the result was kept and is taken again."""
    command = f"mkdir d; ln -s {secret.folder} d/way; ln -s {secret.folder}/canary.txt d/k; echo x >d/own"
    for _ in range(1 + again):
        run = keeping.run(write(tmp_path, directory(command)))
        assert run["state"] == "EXECUTOR_ERROR"
        assert "is not among the run's files" in " ".join(run["run_log"]["system_logs"])


def test_an_output_directory_replaced_by_a_link_is_not_kept(
    keeping: Service, secret: Secret, tmp_path: Path
) -> None:
    script = f"cd ..; rm -r out; ln -s {secret.folder} out"
    run = keeping.run(write(tmp_path, directory(script)))
    assert run["state"] != "COMPLETE"
    assert "the command put a link in its place" in " ".join(run["run_log"]["system_logs"])


def test_the_last_words_of_a_failure_are_the_command_s_own(
    keeping: Service, secret: Secret, tmp_path: Path
) -> None:
    command = f"rm err.txt; ln -s {secret.folder}/canary.txt err.txt; exit 3"
    run = keeping.run(write(tmp_path, paths.tool(command, stderr="err.txt")))
    assert run["state"] == "EXECUTOR_ERROR"
    assert "exit code 3" in " ".join(run["run_log"]["system_logs"])
    assert CANARY not in str(run)


def test_a_stream_replaced_by_a_link_is_not_served(keeping: Service, secret: Secret, tmp_path: Path) -> None:
    command = f"rm said.txt; ln -s {secret.folder}/canary.txt said.txt; exit 3"
    run = keeping.run(write(tmp_path, paths.tool(command)))
    [task] = keeping.client.tasks(run["run_id"])
    for name in ("stdout", "stderr"):
        assert CANARY not in requests.get(task[name], timeout=30).text


def test_downloads_and_archives_do_not_follow(keeping: Service, secret: Secret, tmp_path: Path) -> None:
    command = f"mkdir d; ln -s {secret.folder} d/way; ln -s {secret.folder}/canary.txt d/k; echo x >d/own"
    run = keeping.run(write(tmp_path, directory(command)))
    [task] = keeping.client.tasks(run["run_id"])
    base = f"{keeping.client.url}/runs/{run['run_id']}/files/tasks/{task['id']}/out"
    assert requests.get(f"{base}/d/own", timeout=30).text == "x\n"
    for name in ("d/k", "d/way/canary.txt", "d/way"):
        assert requests.get(f"{base}/{name}", timeout=30).status_code == 404
    tar = requests.get(f"{base}?archive=tar", timeout=30).content
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert {Path(name).name for name in archive.getnames()} >= {"own"}
        assert all(member.isfile() or member.isdir() for member in archive)
        assert all(not member.mode & 0o7000 for member in archive)
    assert CANARY.encode() not in tar
    with zipfile.ZipFile(io.BytesIO(requests.get(f"{base}?archive=zip", timeout=30).content)) as packed:
        assert not any(CANARY.encode() in packed.read(name) for name in packed.namelist())


def test_clearing_away_takes_no_file_from_behind_a_link(secret: Secret, tmp_path: Path) -> None:
    """Streams that went to files of an output are kept when the output goes: those that are there."""
    folder = RunFolder(tmp_path / "run")
    out = folder.task_out("t1")
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "log").write_text("own")
    _bring(folder, out / "sub" / "log", folder.task_stream("t1", "stdout"))
    assert folder.task_stream("t1", "stdout").read_text() == "own"
    (out / "way").symlink_to(secret.folder)
    (out / "log").symlink_to(secret.folder / "log")
    for stream in (out / "way" / "log", out / "log"):
        with contextlib.suppress(OSError):
            _bring(folder, stream, folder.task_stream("t1", "stderr"))
    assert not folder.task_stream("t1", "stderr").exists()
    folder.remove()


def test_files_of_shared_folders_are_updated_in_a_copy(
    request: pytest.FixtureRequest, secret: Secret, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "a.txt").write_text("before\n")
    start = request.getfixturevalue("start_service")
    node = {"name": "here", "platforms": ["process"], "sandbox": "none"}
    service: Service = start(nodes=[node], fetch={"files": [str(shared)]})
    requirements = {
        "InitialWorkDirRequirement": {
            "listing": [{"entryname": "a.txt", "entry": "$(inputs.a)", "writable": True}]
        },
        "InplaceUpdateRequirement": {"inplaceUpdate": True},
    }
    document = paths.tool(
        "echo after >> a.txt", inputs={"a": "File"}, requirements=requirements, stdout="o.txt"
    ) | {"outputs": {"said": {"type": "File", "outputBinding": {"glob": "a.txt"}}}}
    job = {"a": {"class": "File", "location": f"file://{shared}/a.txt"}}
    run = service.run(write(tmp_path, document), job)
    assert run["state"] == "COMPLETE", run["run_log"]["system_logs"]
    service.client.download(run["run_id"], tmp_path / "out", outputs=run["outputs"])
    assert (tmp_path / "out" / "a.txt").read_text() == "before\nafter\n"
    assert (shared / "a.txt").read_text() == "before\n"
