"""Basenames that are paths: refused in words, wherever they come from, and nothing is written anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cwltool.errors import WorkflowException
from hypothesis import given
from hypothesis import strategies as st

from tests.cwl.conftest import folder
from tests.cwl.walking import Folder
from tests.security import paths
from tests.security.test_paths_made_up import guarded, write
from tests.service.conftest import Service, start_service
from wes_bridge.cwl.files.names import check_name, file_name

__all__ = ["folder", "guarded", "start_service"]
NAMES = (
    "{out}/written",
    "../written",
    "../../../../../../{out}/written",
    "a/../../written",
    "..",
    ".",
    "a\0b",
)


def literal(name: str) -> dict[str, Any]:
    return {"class": "File", "basename": name, "contents": paths.CANARY}


MAKE = f"echo {paths.CANARY} > real.txt; mkdir d; echo x > d/real.txt"


def real(name: str) -> dict[str, Any]:
    """A file that a command made, under another name."""
    return {"class": "File", "path": "real.txt", "basename": name}


def in_a_folder(item: dict[str, Any]) -> dict[str, Any]:
    return {"class": "Directory", "path": "d", "basename": "d", "listing": [item]}


def beside(item: dict[str, Any]) -> dict[str, Any]:
    return {"class": "File", "path": "real.txt", "basename": "a.txt", "secondaryFiles": [item]}


def of_expression_tool(item: dict[str, Any]) -> dict[str, Any]:
    return {
        "cwlVersion": "v1.2",
        "class": "ExpressionTool",
        "requirements": {"InlineJavascriptRequirement": {}},
        "inputs": {},
        "outputs": {"said": "Any"},
        "expression": "${return {said: " + json.dumps(item) + "};}",
    }


def of_output_eval(item: dict[str, Any]) -> dict[str, Any]:
    out = {"type": "Any", "outputBinding": {"outputEval": "${return " + json.dumps(item) + ";}"}}
    return paths.tool(MAKE, outputs={"said": out}, stdout="o")


def of_output_object(item: dict[str, Any]) -> dict[str, Any]:
    place = {"InitialWorkDirRequirement": {"listing": [{"entryname": "object", "entry": json.dumps(item)}]}}
    command = MAKE + '; printf \'{"said": %s}\' "`cat object`" > cwl.output.json'
    return paths.tool(command, outputs={"said": "Any"}, stdout="o", requirements=place)


def of_workdir(item: dict[str, Any]) -> dict[str, Any]:
    place = {"InitialWorkDirRequirement": {"listing": ["${return " + json.dumps(item) + ";}"]}}
    return paths.tool("find . -type f | xargs cat", requirements=place)


def in_a_listing(item: dict[str, Any]) -> dict[str, Any]:
    inner = {"class": "Directory", "basename": "inner", "listing": [item]}
    return {"class": "Directory", "basename": "outer", "listing": [inner]}


def as_secondary(item: dict[str, Any]) -> dict[str, Any]:
    return {"class": "File", "basename": "a.txt", "contents": "a", "secondaryFiles": [item]}


def as_it_is(item: dict[str, Any]) -> dict[str, Any]:
    return item


def refusal(folder: Folder) -> str:
    """What a walk is refused with; no command may have been begun."""
    try:
        walked = folder.walk("w.cwl", outputs={})
    except WorkflowException as error:
        return str(error)
    assert walked.commands == {}
    return " ".join(walked.told)


@pytest.mark.parametrize("around", [as_it_is, in_a_listing, as_secondary])
def test_a_literal_is_not_written_where_its_name_says(
    guarded: Service, tmp_path: Path, around: Callable[[Any], dict[str, Any]]
) -> None:
    refused_and_not_written(guarded, tmp_path, of_expression_tool, around, literal)


@pytest.mark.parametrize("made_by", [of_output_eval, of_output_object])
@pytest.mark.parametrize("around", [as_it_is, in_a_folder, beside])
def test_an_output_is_not_written_where_its_name_says(
    guarded: Service,
    tmp_path: Path,
    made_by: Callable[[Any], dict[str, Any]],
    around: Callable[[Any], dict[str, Any]],
) -> None:
    refused_and_not_written(guarded, tmp_path, made_by, around, real)


def refused_and_not_written(
    guarded: Service,
    tmp_path: Path,
    made_by: Callable[[Any], dict[str, Any]],
    around: Callable[[Any], dict[str, Any]],
    item: Callable[[str], dict[str, Any]],
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run = guarded.run(write(tmp_path, made_by(around(item(f"{out}/written")))))
    assert run["state"] == "EXECUTOR_ERROR", run
    assert "is not the name of a file" in " ".join(run["run_log"]["system_logs"])
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("around", [in_a_listing, as_secondary])
def test_inside_what_is_staged_a_name_is_a_name(
    folder: Folder, tmp_path: Path, name: str, around: Callable[[Any], dict[str, Any]]
) -> None:
    item = around(literal(name.format(out=tmp_path / "out")))
    folder.write("w.cwl", json.dumps(of_workdir(item)))
    assert "is not the name of a file" in refusal(folder)


@pytest.mark.parametrize("name", ["/etc/written", "../written", "a/../../written", ".."])
def test_an_entryname_does_not_lead_out_of_the_working_directory(folder: Folder, name: str) -> None:
    folder.write("w.cwl", json.dumps(of_workdir({"entryname": name, "entry": "text"})))
    words = refusal(folder)
    assert "is not the name of a file" in words or "is invalid" in words


def test_an_entryname_may_be_a_path_below_it(folder: Folder) -> None:
    """CWL v1.2, InitialWorkDirRequirement, Dirent: as the specification lets it."""
    folder.write("w.cwl", json.dumps(of_workdir({"entryname": "a/b/c.txt", "entry": "text"})))
    assert list(folder.walk("w.cwl", outputs={}).commands)


@pytest.mark.parametrize("name", ["/etc/written", "../written", "..", "a/b"])
def test_a_job_s_names_are_names(folder: Folder, name: str) -> None:
    folder.write("w.cwl", json.dumps(paths.tool("true", inputs={"f": "File"}, outputs={}, stdout="o")))
    folder.write("f.txt", "here")
    with pytest.raises(Exception, match="is not the name of a file"):
        folder.load("w.cwl", {"f": {"class": "File", "location": "f.txt", "basename": name}})


def test_a_made_up_dirname_places_nothing_elsewhere(folder: Folder) -> None:
    item = in_a_listing({"class": "Directory", "basename": "d", "dirname": "/etc", "listing": []})
    folder.write("w.cwl", json.dumps(of_workdir(item)))
    assert "outside the step's own folders" in refusal(folder)


@given(st.text(max_size=12, alphabet=st.sampled_from("a./\0\\ \u00e9")))
def test_a_name_is_one_entry_of_a_folder_or_refused(name: str) -> None:
    is_name = Path("/x", name).parent == Path("/x") and name not in ("", ".", "..") and "/" not in name
    try:
        file_name(name, "a File")
    except WorkflowException:
        assert not is_name or "\0" in name
        return
    assert is_name
    check_name({"class": "File", "basename": name})


@pytest.mark.parametrize("name", [0, [], {}, True, 1.5])
def test_what_is_no_text_is_no_name(name: Any) -> None:
    with pytest.raises(WorkflowException, match="is not the name of a file"):
        check_name({"class": "Directory", "basename": name})
