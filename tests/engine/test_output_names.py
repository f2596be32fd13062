"""Basenames of outputs, and of their secondary files, are part of a run's result: they stay as they are."""

import time
from pathlib import Path
from typing import Any

import pytest
from cwltool.errors import WorkflowException

from tests.engine.test_outputs import a_file, gather, run
from wes_bridge.config import FetchConfig
from wes_bridge.cwl.files.fs_access import fs_access
from wes_bridge.cwl.files.policy import Policy
from wes_bridge.data.workspace import url_path
from wes_bridge.engine.outputs import OutputFolder
from wes_bridge.model.output_places import NameConflictError, OutputPlaces

__all__ = ["run"]


def text_of(item: dict[str, Any]) -> str:
    path = url_path(item["location"])
    assert path.name == item["basename"]
    return path.read_text()


def as_link(run: Path, name: str, target: str) -> dict[str, Any]:
    path = run / "tasks" / name
    path.symlink_to(target)
    kind = "Directory" if path.is_dir() else "File"
    return {"class": kind, "location": f"file://{path}", "basename": path.name}


def test_files_of_one_name_go_to_folders_apart(run: Path) -> None:
    result = gather(run, {"maps": [a_file(run, f"{place}/map.fits", place) for place in "abc"]})
    assert [text_of(item) for item in result["maps"]] == ["a", "b", "c"]
    assert [item["location"].partition("/outputs/")[2] for item in result["maps"]] == [
        "map.fits",
        "2/map.fits",
        "3/map.fits",
    ]


def test_secondary_files_stay_beside_their_primary_and_keep_their_names(run: Path) -> None:
    images = [
        a_file(run, f"{place}/x.bam", place)
        | {"secondaryFiles": [a_file(run, f"{place}/x.bam.bai", f"i{place}")]}
        for place in "ab"
    ]
    images.append(a_file(run, "c/x.bam.bai", "alone"))
    result = gather(run, {"images": images})
    for item, place in zip(result["images"], "ab", strict=False):
        index = item["secondaryFiles"][0]
        assert (text_of(item), text_of(index)) == (place, f"i{place}")
        assert url_path(item["location"]).parent == url_path(index["location"]).parent
    assert text_of(result["images"][2]) == "alone"


def test_one_primary_with_two_indices_is_twice_there(run: Path) -> None:
    primary = a_file(run, "a/x.bam", "x")
    with_first = primary | {"secondaryFiles": [a_file(run, "a/x.bam.bai", "1")]}
    with_second = primary | {"secondaryFiles": [a_file(run, "b/x.bam.bai", "2")]}
    result = gather(run, {"one": with_first, "two": with_second, "bare": primary})
    for name, text in (("one", "1"), ("two", "2")):
        assert text_of(result[name]["secondaryFiles"][0]) == text
        place = url_path(result[name]["location"]).parent
        assert url_path(result[name]["secondaryFiles"][0]["location"]).parent == place
    assert result["bare"]["location"] == result["one"]["location"]


def test_one_file_under_two_names_is_there_under_both(run: Path) -> None:
    item = a_file(run, "a/made", "text")
    folder = {"class": "Directory", "location": f"file://{run}/tasks/a", "basename": "a"}
    outputs = {
        "f": item,
        "g": item | {"basename": "nice"},
        "d": folder,
        "e": folder | {"basename": "renamed"},
    }
    result = gather(run, outputs)
    assert {name: result[name]["basename"] for name in "fgde"} == {
        "f": "made",
        "g": "nice",
        "d": "a",
        "e": "renamed",
    }
    assert text_of(result["f"]) == text_of(result["g"]) == "text"
    for name in "de":
        (inside,) = result[name]["listing"]
        assert text_of(inside) == "text"
        assert url_path(inside["location"]).parent == url_path(result[name]["location"])


def test_a_link_and_its_target_are_both_there(run: Path) -> None:
    target = a_file(run, "z.txt", "text")
    (run / "tasks" / "zd").mkdir()
    (run / "tasks" / "zd" / "f").write_text("inside")
    folder = {"class": "Directory", "location": f"file://{run}/tasks/zd", "basename": "zd"}
    outputs = {
        "link": as_link(run, "a.txt", "z.txt"),
        "target": target,
        "dlink": as_link(run, "ad", "zd"),
        "dtarget": folder,
    }
    result = gather(run, outputs)
    assert [result[name]["basename"] for name in outputs] == ["a.txt", "z.txt", "ad", "zd"]
    assert text_of(result["link"]) == text_of(result["target"]) == "text"
    assert text_of(result["dlink"]["listing"][0]) == text_of(result["dtarget"]["listing"][0]) == "inside"


def test_a_file_is_there_as_itself_and_below_a_directory(run: Path) -> None:
    item = a_file(run, "ms/table", "1")
    folder = {"class": "Directory", "location": f"file://{run}/tasks/ms", "basename": "ms"}
    result = gather(run, {"whole": folder, "part": item})
    assert text_of(result["part"]) == text_of(result["whole"]["listing"][0]) == "1"
    assert result["part"]["location"] != result["whole"]["listing"][0]["location"]


def test_names_are_kept_in_nested_lists_and_records(run: Path) -> None:
    deep = {"rows": [[{"map": a_file(run, f"{n}{m}/map", f"{n}{m}")} for m in range(2)] for n in range(2)]}
    result = gather(run, {"deep": deep})
    assert [[text_of(cell["map"]) for cell in row] for row in result["deep"]["rows"]] == [
        ["00", "01"],
        ["10", "11"],
    ]


def test_an_output_may_be_called_as_a_folder_apart_would_be(run: Path) -> None:
    files = [
        a_file(run, "a/map", "1"),
        a_file(run, "b/map", "2"),
        a_file(run, "2", "two"),
        a_file(run, "3", "three"),
    ]
    result = gather(run, {"files": files})
    assert [text_of(item) for item in result["files"]] == ["1", "2", "two", "three"]


def test_directories_of_one_name(run: Path) -> None:
    for place in "ab":
        a_file(run, f"{place}/out.ms/t", place)
    folders = [
        {"class": "Directory", "location": f"file://{run}/tasks/{p}/out.ms", "basename": "out.ms"}
        for p in "ab"
    ]
    result = gather(run, {"folders": folders})
    assert [item["basename"] for item in result["folders"]] == ["out.ms", "out.ms"]
    assert [text_of(item["listing"][0]) for item in result["folders"]] == ["a", "b"]


def test_of_two_entries_of_one_name_in_a_directory_literal_one_is_left_out_and_told(run: Path) -> None:
    listing = [a_file(run, "a/map", "1"), a_file(run, "b/map", "2"), a_file(run, "other", "3")]
    literal = {"class": "Directory", "location": "_:1", "basename": "all", "listing": listing}
    folder = OutputFolder(run / "outputs", fs_access(Policy(FetchConfig(), [run]))(""))
    result = folder.gather({"maps": literal})
    assert [text_of(entry) for entry in result["maps"]["listing"]] == ["1", "3"]
    (said,) = folder.problems
    assert said.startswith("output maps: all/map is the name of two entries")


def test_one_file_twice_in_a_directory_literal_is_one_entry(run: Path) -> None:
    item = a_file(run, "a/map", "1")
    literal = {"class": "Directory", "location": "_:1", "basename": "all", "listing": [item, dict(item)]}
    result = gather(run, {"maps": literal})
    assert [text_of(entry) for entry in result["maps"]["listing"]] == ["1", "1"]


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "/etc/x"])
def test_a_basename_that_leads_elsewhere_is_refused(run: Path, name: str) -> None:
    with pytest.raises(WorkflowException, match="is not the name of a file"):
        gather(run, {"out": a_file(run, "a", "1") | {"basename": name}})
    assert sorted(path.name for path in run.iterdir()) == ["outputs", "tasks"]


def test_twenty_thousand_files_of_one_name_take_a_moment() -> None:
    places = OutputPlaces(["map", "map.idx"])
    start = time.monotonic()
    folders = {places.place([("map", str(n)), ("map.idx", f"i{n}")]) for n in range(20_000)}
    assert len(folders) == 20_000
    assert places.place([("map", "7"), ("map.idx", "i7")]) == "8"
    assert time.monotonic() - start < 5


def test_names_that_differ_in_case_only_are_kept_apart_where_the_file_system_does_not() -> None:
    names = ["I.fits", "i.fits"]
    apart, together = OutputPlaces(names, same=str.casefold), OutputPlaces(names)
    assert [apart.place([(name, name)]) for name in names] == ["", "2"]
    assert [together.place([(name, name)]) for name in names] == ["", ""]


def test_a_primary_and_its_secondary_file_cannot_have_one_name() -> None:
    with pytest.raises(NameConflictError, match="'x'"):
        OutputPlaces(["x"]).place([("x", "1"), ("x", "2")])
