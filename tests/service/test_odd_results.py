"""Results and placed entries that a workflow's author may write, and that have no plain meaning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service

PASSED_ON = """
cwlVersion: v1.2
class: Workflow
inputs: {sig: {type: double, default: %s}}
steps: {}
outputs: {sig: {type: double, outputSource: sig}}
"""
WRITTEN = """
cwlVersion: v1.2
class: CommandLineTool
baseCommand: [sh, -c, "echo '{\\"sig\\": {\\"values\\": [1.5, %s]}, \\"rms\\": 2}' >cwl.output.json"]
inputs: {}
outputs: {sig: Any, rms: double}
"""
PLACED = """
cwlVersion: v1.2
class: CommandLineTool
requirements:
  InlineJavascriptRequirement: {}
  InitialWorkDirRequirement: {listing: '${return %s;}'}
baseCommand: [sh, -c, "ls; cat a.txt"]
inputs: {f: {type: File, default: {class: File, basename: x.txt, contents: bright}}}
outputs: {seen: {type: string, outputBinding: {glob: seen, loadContents: true,
    outputEval: "$(self[0].contents)"}}}
stdout: seen
"""


def run(service: Service, folder: Path, text: str) -> dict[str, Any]:
    (folder / "w.cwl").write_text(text)
    return service.run(folder / "w.cwl", {})


def refuse(name: str) -> float:
    raise AssertionError(f"{name} is not JSON")


@pytest.mark.parametrize(
    ("text", "value", "outputs"),
    [
        (PASSED_ON % ".inf", "inf", {"sig": None}),
        (PASSED_ON % "-.inf", "-inf", {"sig": None}),
        (PASSED_ON % ".nan", "nan", {"sig": None}),
        (WRITTEN % "1e400", "inf", {"sig": {"values": [1.5, None]}, "rms": 2}),
        (WRITTEN % "NaN", "nan", {"sig": {"values": [1.5, None]}, "rms": 2}),
    ],
)
def test_an_output_that_json_cannot_hold_fails_the_run_by_name(
    service: Service, tmp_path: Path, text: str, value: str, outputs: dict[str, Any]
) -> None:
    log = run(service, tmp_path, text)
    assert log["state"] == "EXECUTOR_ERROR"
    assert any(
        line.startswith(f"output sig: a number in it is {value}, which JSON cannot hold")
        for line in log["run_log"]["system_logs"]
    ), log["run_log"]
    answer = requests.get(f"{service.url}/ga4gh/wes/v1/runs/{log['run_id']}", timeout=60)
    assert json.loads(answer.text, parse_constant=refuse)["outputs"] == outputs


@pytest.mark.parametrize(
    "listing",
    [
        '[{class: "Dirent", entryname: "a.txt", entry: inputs.f}]',
        '[{entryname: "a.txt", entry: inputs.f}]',
        '[null, {entryname: "a.txt", entry: inputs.f}]',
        '[[{class: "File", basename: "a.txt", contents: "bright"}], null]',
    ],
)
def test_what_an_expression_may_place(service: Service, tmp_path: Path, listing: str) -> None:
    log = run(service, tmp_path, PLACED % listing)
    assert log["outputs"] == {"seen": "a.txt\nseen\nbright"}, log["run_log"]


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        ("[inputs.f, 7]", "entry 1 of the listing is 7"),
        ('[{class: "Dirent", entryname: "a.txt", entry: null}]', "entry 0 of the listing has the entry null"),
    ],
)
def test_an_entry_that_cannot_be_placed_is_told(
    service: Service, tmp_path: Path, listing: str, said: str
) -> None:
    log = run(service, tmp_path, PLACED % listing)
    assert log["state"] == "EXECUTOR_ERROR"
    assert said in "\n".join(log["run_log"]["system_logs"])


def test_null_is_no_entry_before_cwl_v1_2(service: Service, tmp_path: Path) -> None:
    log = run(service, tmp_path, (PLACED % "[inputs.f, null]").replace("v1.2", "v1.1"))
    assert log["state"] == "EXECUTOR_ERROR"
    assert "entry 1 of the listing is null" in "\n".join(log["run_log"]["system_logs"])


@pytest.mark.parametrize("kind", ["File", "Directory"])
def test_a_literal_input_that_is_an_output_is_told_without_our_paths(
    service: Service, tmp_path: Path, kind: str
) -> None:
    file = "{class: File, basename: x.txt, contents: bright}"
    literal = file if kind == "File" else f"{{class: Directory, basename: d, listing: [{file}]}}"
    log = run(
        service,
        tmp_path,
        f"""
cwlVersion: v1.2
class: CommandLineTool
baseCommand: "true"
inputs: {{f: {{type: {kind}, default: {literal}}}}}
outputs: {{o: {{type: {kind}, outputBinding: {{outputEval: $(inputs.f)}}}}}}
""",
    )
    assert log["state"] == "EXECUTOR_ERROR"
    said = "\n".join(log["run_log"]["system_logs"])
    name = "x.txt" if kind == "File" else "d/x.txt"
    assert "output for parameter 'o'" in said
    assert f"{name} is an input that is given by its contents" in said
    assert "must copy it into its output directory" in said
    assert "/wb-" not in said
