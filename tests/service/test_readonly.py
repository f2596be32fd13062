"""What a tool makes where a read-only input is: it is refused or it is the output, never the input's text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service, Starter


@pytest.fixture(scope="module", params=["auto", "none"])
def any_service(request: pytest.FixtureRequest, start_service: Starter) -> Service:
    """A service that uses the user's own files, with commands in a sandbox (if there is one) and without."""
    node = {"name": "here", "platforms": ["process"], "sandbox": request.param}
    service = start_service(nodes=[node], fetch={"files": ["/"]})
    assert service.client.shares_files()
    return service


def run(service: Service, folder: Path, command: str, entry: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A run of a tool with an input called ``own.txt``, and a Directory ``set``."""
    (folder / "set").mkdir()
    (folder / "set" / "table").write_text("precious")
    (folder / "own.txt").write_text("precious")
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "requirements": {"InitialWorkDirRequirement": {"listing": [entry]}},
        "baseCommand": ["sh", "-c", command],
        "inputs": {"own": "File", "set": "Directory"},
    }
    (folder / "w.cwl").write_text(json.dumps(tool | more))
    params = {
        "own": {"class": "File", "location": str(folder / "own.txt")},
        "set": {"class": "Directory", "location": str(folder / "set")},
    }
    return service.run(folder / "w.cwl", params)


def is_unharmed(folder: Path) -> bool:
    return (folder / "own.txt").read_text() == (folder / "set" / "table").read_text() == "precious"


OWN = {"entry": "$(inputs.own)", "entryname": "there.txt"}
OUT = {"out": {"type": "File", "outputBinding": {"glob": "there.txt"}}}


@pytest.mark.parametrize(
    ("entry", "stream", "path"),
    [
        (OWN, "stdout", "there.txt"),
        (OWN, "stderr", "./there.txt"),
        ({"entry": "$(inputs.set)"}, "stdout", "set/table"),
        ({"entry": "$(inputs.set)"}, "stderr", "set/new"),
    ],
)
def test_a_stream_to_a_read_only_input_is_refused_in_words(
    service: Service, tmp_path: Path, entry: dict[str, Any], stream: str, path: str
) -> None:
    log = run(service, tmp_path, "echo lost; echo lost >&2", entry, outputs={}, **{stream: path})
    assert log["state"] == "EXECUTOR_ERROR"
    (said,) = log["run_log"]["system_logs"]
    name = Path(path).parts[0]
    assert f"{stream} is to be written to {path}, where InitialWorkDirRequirement places {name}" in said
    assert "writable" in said
    assert is_unharmed(tmp_path)


@pytest.mark.parametrize("path", ["set", "set/sub"])
def test_a_stream_to_a_directory_is_refused_in_words(service: Service, tmp_path: Path, path: str) -> None:
    entry = {"entry": "$(inputs.set)", "entryname": "set/sub", "writable": True}
    log = run(service, tmp_path, "echo lost", entry, outputs={}, stdout=path)
    assert log["state"] == "EXECUTOR_ERROR"
    assert "directory" in log["run_log"]["system_logs"][0]


def test_a_stream_to_a_writable_input_replaces_it(any_service: Service, tmp_path: Path) -> None:
    log = run(any_service, tmp_path, "echo new", OWN | {"writable": True}, outputs=OUT, stdout="there.txt")
    assert log["state"] == "COMPLETE", log["run_log"]
    out = any_service.client.download(log["run_id"], tmp_path / "out")["out"]
    assert Path(out["path"]).read_text() == "new\n"
    assert is_unharmed(tmp_path)


def test_a_file_that_takes_the_place_of_an_input_is_the_output(any_service: Service, tmp_path: Path) -> None:
    log = run(any_service, tmp_path, "echo new >x; mv -f x there.txt", OWN, outputs=OUT)
    assert log["state"] == "COMPLETE", log["run_log"]
    out = any_service.client.download(log["run_id"], tmp_path / "out")["out"]
    assert Path(out["path"]).read_text() == "new\n"
    assert is_unharmed(tmp_path)


def test_an_input_that_is_left_alone_is_the_output(any_service: Service, tmp_path: Path) -> None:
    log = run(any_service, tmp_path, "true", OWN, outputs=OUT)
    assert log["state"] == "COMPLETE", log["run_log"]
    out = any_service.client.download(log["run_id"], tmp_path / "out")["out"]
    assert (out["basename"], Path(out["path"]).read_text()) == ("there.txt", "precious")
