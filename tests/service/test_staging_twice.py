"""One file in several places of a step's inputs: in each of them it is there, under the name it has there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.service.conftest import Service

LOOK = ["sh", "-c", 'for p in "$@"; do (cd $p && find . | LC_ALL=C sort | tr "\\n" " "); done', "x"]


def seen(
    service: Service, folder: Path, inputs: dict[str, Any], listing: list[Any], params: Any, *shown: str
) -> str:
    """What a tool finds in its working directory, or in the folders ``shown``."""
    tool = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "requirements": {"InitialWorkDirRequirement": {"listing": listing}},
        "baseCommand": LOOK,
        "inputs": inputs,
        "arguments": list(shown or ["."]),
        "stdout": "found",
        "outputs": {"found": {"type": "stdout"}},
    }
    (folder / "w.cwl").write_text(json.dumps(tool))
    log = service.run(folder / "w.cwl", params)
    assert log["state"] == "COMPLETE", log["run_log"]
    found = service.client.download(log["run_id"], folder / "out")["found"]
    return Path(found["path"]).read_text().strip()


def files(folder: Path) -> dict[str, Any]:
    (folder / "x.bam").write_text("x")
    (folder / "x.bam.bai").write_text("i")
    index = {"class": "File", "location": str(folder / "x.bam.bai")}
    return {"class": "File", "location": str(folder / "x.bam"), "secondaryFiles": [index]}


def test_a_file_in_two_listings_of_a_directory(service: Service, tmp_path: Path) -> None:
    bam = files(tmp_path)
    inner = {"class": "Directory", "basename": "in", "listing": [bam]}
    renamed = {"class": "File", "location": bam["location"], "basename": "again"}
    pack = {"class": "Directory", "basename": "pack", "listing": [bam, inner, renamed]}
    found = seen(
        service, tmp_path, {"d": "Directory", "f": "File"}, [], {"d": pack, "f": bam}, "$(inputs.d.path)"
    )
    assert found == ". ./again ./in ./in/x.bam ./in/x.bam.bai ./x.bam ./x.bam.bai"


def test_an_input_that_is_also_in_a_directory_has_its_secondary_files(
    service: Service, tmp_path: Path
) -> None:
    bam = files(tmp_path)
    bare = {"class": "File", "location": bam["location"]}
    pack = {"class": "Directory", "basename": "pack", "listing": [bare]}
    inputs = {"d": "Directory", "f": "File"}
    found = seen(
        service, tmp_path, inputs, [], {"d": pack, "f": bam}, "$(inputs.d.path)", "$(inputs.f.dirname)"
    )
    assert found == ". ./x.bam . ./x.bam ./x.bam.bai"


def test_one_file_as_two_inputs_of_different_names(service: Service, tmp_path: Path) -> None:
    bam = files(tmp_path)
    other = {"class": "File", "location": bam["location"], "basename": "other"}
    inputs, params = {"f": "File", "g": "File"}, {"f": bam, "g": other}
    names = seen(service, tmp_path, inputs, [], params, "$(inputs.f.dirname)", "$(inputs.g.dirname)")
    assert names == ". ./x.bam ./x.bam.bai . ./other"


def test_one_file_under_two_names_in_the_working_directory(service: Service, tmp_path: Path) -> None:
    bam = {"class": "File", "location": files(tmp_path)["location"]}
    listing = [
        {"entry": "$(inputs.f)", "entryname": "one"},
        {"entry": "$(inputs.f)", "entryname": "sub/two", "writable": True},
        "$(inputs.d)",
        "$(inputs.d.listing[0])",
    ]
    pack = {"class": "Directory", "basename": "pack", "listing": [bam]}
    found = seen(service, tmp_path, {"d": "Directory", "f": "File"}, listing, {"d": pack, "f": bam})
    assert found == ". ./found ./one ./pack ./pack/x.bam ./sub ./sub/two ./x.bam"


def test_literals_in_the_working_directory_of_a_tool_that_runs_many_times(
    service: Service, tmp_path: Path
) -> None:
    literal = {
        "class": "Directory",
        "basename": "made",
        "listing": [
            {"class": "File", "basename": "note", "contents": "hello"},
            {"class": "Directory", "basename": "deep", "listing": []},
        ],
    }
    tool = {
        "class": "CommandLineTool",
        "requirements": {
            "InitialWorkDirRequirement": {
                "listing": [literal, {"class": "File", "basename": "top", "contents": "top"}]
            }
        },
        "baseCommand": ["sh", "-c", "cat made/note top > made/$0.txt; ls made >>made/$0.txt"],
        "inputs": {"name": {"type": "string", "inputBinding": {}}},
        "outputs": {"text": {"type": "File", "outputBinding": {"glob": "made/*.txt"}}},
    }
    step = {"run": tool, "scatter": "name", "in": {"name": "names"}, "out": ["text"]}
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"names": "string[]"},
        "outputs": {"texts": {"type": "File[]", "outputSource": "s/text"}},
        "steps": {"s": step},
    }
    (tmp_path / "w.cwl").write_text(json.dumps(workflow))
    log = service.run(tmp_path / "w.cwl", {"names": ["a", "b", "c"]})
    assert log["state"] == "COMPLETE", log["run_log"]
    texts = service.client.download(log["run_id"], tmp_path / "out")["texts"]
    assert [Path(item["path"]).read_text() for item in texts] == [
        f"hellotop{name}.txt\ndeep\nnote\n" for name in "abc"
    ]


def test_one_secondary_file_of_two_primaries_is_beside_both(service: Service, tmp_path: Path) -> None:
    bam = files(tmp_path)
    (tmp_path / "y.bam").write_text("y")
    other = bam | {"location": str(tmp_path / "y.bam")}
    inputs, params = {"f": "File", "g": "File"}, {"f": bam, "g": other}
    found = seen(service, tmp_path, inputs, [], params, "$(inputs.f.dirname)", "$(inputs.g.dirname)")
    assert found == ". ./x.bam ./x.bam.bai . ./x.bam.bai ./y.bam"
