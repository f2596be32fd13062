"""Final outputs gathered under the names a person expects."""

from pathlib import Path
from typing import Any

import pytest
from schema_salad.exceptions import ValidationException

from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.engine.outputs import OutputFolder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "tasks").mkdir()
    return tmp_path


def gather(run: Path, outputs: dict[str, Any]) -> dict[str, Any]:
    files = fs_access(Policy(FetchConfig(), [run]))("")
    return OutputFolder(run / "outputs", files).gather(outputs)


def a_file(run: Path, name: str, text: str) -> dict[str, Any]:
    path = run / "tasks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return {"class": "File", "location": f"file://{path}", "basename": path.name, "size": len(text)}


def test_no_bytes_are_copied_within_the_workspace(run: Path) -> None:
    item = a_file(run, "a/big", "x")
    gather(run, {"big": item})
    assert (run / "outputs" / "big").samefile(run / "tasks" / "a" / "big")


def test_one_file_in_two_outputs_is_one_file(run: Path) -> None:
    item = a_file(run, "a/map", "1")
    result = gather(run, {"first": item, "second": dict(item)})
    assert result["first"]["location"] == result["second"]["location"]


def test_links_are_followed(run: Path) -> None:
    a_file(run, "a/real", "text")
    (run / "tasks" / "a" / "link").symlink_to(run / "tasks" / "a" / "real")
    item = {"class": "File", "location": f"file://{run}/tasks/a/link", "basename": "link"}
    gather(run, {"out": item})
    assert not (run / "outputs" / "link").is_symlink()
    assert (run / "outputs" / "link").read_text() == "text"


def test_a_link_out_of_the_run_is_refused(run: Path) -> None:
    (run / "tasks" / "leak").symlink_to("/etc/passwd")
    item = {"class": "File", "location": f"file://{run}/tasks/leak", "basename": "leak"}
    with pytest.raises(ValidationException, match="outside"):
        gather(run, {"out": item})


def test_a_directory_gets_its_listing(run: Path) -> None:
    a_file(run, "ms/table", "1")
    a_file(run, "ms/sub/col", "22")
    result = gather(
        run, {"ms": {"class": "Directory", "location": f"file://{run}/tasks/ms", "basename": "ms"}}
    )
    names = {entry["basename"]: entry for entry in result["ms"]["listing"]}
    assert names["table"]["size"] == 1
    assert names["sub"]["listing"][0]["basename"] == "col"
    assert (run / "outputs" / "ms" / "sub" / "col").read_text() == "22"


def test_literals_become_files(run: Path) -> None:
    literal = {"class": "File", "location": "_:1", "basename": "note.txt", "contents": "hello"}
    directory = {"class": "Directory", "location": "_:2", "basename": "notes", "listing": [literal]}
    result = gather(run, {"notes": directory})
    assert (run / "outputs" / "notes" / "note.txt").read_text() == "hello"
    assert result["notes"]["listing"][0]["location"] == f"file://{run}/outputs/notes/note.txt"


def test_secondary_files_come_along(run: Path) -> None:
    item = a_file(run, "a/x.bam", "1") | {"secondaryFiles": [a_file(run, "a/x.bam.bai", "2")]}
    result = gather(run, {"bam": item})
    assert (run / "outputs" / "x.bam.bai").read_text() == "2"
    assert result["bam"]["secondaryFiles"][0]["location"].endswith("/outputs/x.bam.bai")


def test_remote_files_and_values_stay_as_they_are(run: Path) -> None:
    outputs = {
        "far": {"class": "File", "location": "https://example.org/x"},
        "n": 1,
        "none": None,
        "l": [1.5],
    }
    assert gather(run, outputs) == outputs


def test_gathering_again_gives_the_same(run: Path) -> None:
    outputs = {"a": a_file(run, "a/x", "1"), "b": a_file(run, "b/x", "2")}
    assert gather(run, outputs) == gather(run, outputs)
