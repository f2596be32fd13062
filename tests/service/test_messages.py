"""The reason of a failure is where its user looks: in the task's and the run's system_logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service
from wes_bridge.client import WESError

Document = dict[str, Any]


def tool(script: str, outputs: Document, **more: Any) -> Document:
    return {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "requirements": {"InlineJavascriptRequirement": {}},
        "baseCommand": ["sh", "-c", script],
        "inputs": {},
        "outputs": outputs,
    } | more


def file(glob: str) -> Document:
    return {"type": "File", "outputBinding": {"glob": glob}}


def text_of(glob: str) -> Document:
    binding = {"glob": glob, "loadContents": True, "outputEval": "$(self[0].contents.length)"}
    return {"type": "int", "outputBinding": binding}


INDEX = {"pattern": ".idx", "required": True}
OUTPUT_OBJECT = "printf %s '{}' >cwl.output.json"
UNCOLLECTED = {
    "no-match": (
        tool("touch seen.fits; mkdir raw", {"image": file("image.fits")}),
        ["'image'", "no file matches the glob 'image.fits'", "holds 'raw/', 'seen.fits'"],
    ),
    "nothing-at-all": (
        tool("true", {"image": file("image.fits")}),
        ["no file matches the glob 'image.fits'", "the output directory is empty"],
    ),
    "several": (tool("touch a.txt b.txt", {"one": file("*.txt")}), ["'one'", "Multiple", "'a.txt', 'b.txt'"]),
    "secondary": (
        tool("touch a.ms", {"set": file("a.ms") | {"secondaryFiles": [INDEX]}}),
        ["'set'", "Missing required secondary file 'a.ms.idx'", "holds 'a.ms'"],
    ),
    "type": (
        tool("true", {"rms": {"type": "int", "outputBinding": {"outputEval": "$('loud')"}}}),
        ["'rms'", "'loud'", "not int"],
    ),
    "directory": (tool("mkdir cube", {"cube": file("cube")}), ["'cube'", "File", "Directory"]),
    "too-large": (
        tool("head -c 70000 /dev/zero >big", {"length": text_of("big")}),
        ["'length'", "larger than 64 KiB"],
    ),
    "no-text": (
        tool("printf 'ab\\377' >raw", {"length": text_of("raw")}),
        ["'length'", "UTF-8", "byte 2"],
    ),
    "null-for-any": (tool(OUTPUT_OBJECT.format('{"it": null}'), {"it": "Any"}), ["'it'", "non-null"]),
    "no-json": (tool(OUTPUT_OBJECT.format("{"), {"it": "int"}), ["cwl.output.json", "not JSON"]),
    "no-object": (tool(OUTPUT_OBJECT.format("[1]"), {"it": "int"}), ["cwl.output.json", "not a JSON object"]),
    "named-nowhere": (
        tool(OUTPUT_OBJECT.format('{"it": {"class": "File", "path": "gone.txt"}}'), {"it": "File"}),
        ["'gone.txt'", "Does not exist", "holds 'cwl.output.json'"],
    ),
}


@pytest.mark.parametrize("case", UNCOLLECTED)
def test_why_outputs_could_not_be_collected(service: Service, tmp_path: Path, case: str) -> None:
    document, words = UNCOLLECTED[case]
    run = _run(service, tmp_path, document)
    (task,) = service.client.tasks(run["run_id"])
    assert (run["state"], task["state"]) == ("EXECUTOR_ERROR", "EXECUTOR_ERROR")
    for told in (task["system_logs"], run["run_log"]["system_logs"]):
        assert all(word in told[0] for word in ["the command ended well", *words]), told[0]
        assert "/wb-" not in told[0]
        assert str(service.state) not in told[0]


def test_a_command_that_failed_is_told_by_its_exit_code(service: Service, tmp_path: Path) -> None:
    """That it made no output follows from it."""
    run = _run(service, tmp_path, tool("echo lost >&2; exit 3", {"image": file("image.fits")}))
    assert run["run_log"]["system_logs"] == ["tool.json: the command ended with exit code 3: lost"]


def test_a_signal_is_named_beside_the_last_words(service: Service, tmp_path: Path) -> None:
    run = _run(service, tmp_path, tool("echo dying >&2; kill -SEGV $$", {}))
    (line,) = run["run_log"]["system_logs"]
    assert line == "tool.json: the command ended with exit code 139: signal SIGSEGV: dying"


SAY = tool("true", {}, inputs={"word": "string?"})


@pytest.mark.parametrize("given", [None, "one"])
def test_a_scatter_over_no_array_names_step_and_input(
    service: Service, tmp_path: Path, given: str | None
) -> None:
    step = {"run": SAY, "scatter": "word", "in": {"word": "bands"}, "out": []}
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}},
        "inputs": {"bands": "Any?"},
        "outputs": {},
        "steps": {"calibrate": step},
    }
    run = _run(service, tmp_path, workflow, {"bands": given})
    (line,) = run["run_log"]["system_logs"]
    assert run["state"] == "EXECUTOR_ERROR"
    kind = "null" if given is None else "a string"
    told = (
        f"step 'calibrate' is scattered over its input 'word' (from 'bands'), which is {kind} and not a list"
    )
    assert line.startswith(f"[step calibrate] Cannot make job: {told}")


def test_two_steps_of_one_name_stop_the_run_before_one_overwrites_the_other(
    service: Service, tmp_path: Path
) -> None:
    steps = [{"id": "twice", "run": tool("true", {}), "in": [], "out": []} for _ in range(2)]
    workflow = {"cwlVersion": "v1.2", "class": "Workflow", "inputs": {}, "outputs": {}, "steps": steps}
    run = _run(service, tmp_path, workflow)
    assert run["state"] == "SYSTEM_ERROR"
    assert "two jobs of this run have the place 'twice'" in run["run_log"]["system_logs"][0]
    assert "give each its own" in run["run_log"]["system_logs"][0]
    assert list(service.client.tasks(run["run_id"])) == []


def _run(service: Service, folder: Path, document: Document, params: Any = None) -> dict[str, Any]:
    path = folder / "tool.json"
    path.write_text(json.dumps(document))
    return service.run(path, params)


def test_parameters_and_inputs_that_mean_nothing_are_told(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "tool.json"
    path.write_text(json.dumps(SAY))
    parameters = {"polciy": "cheapest", "my_engine.queue": "long", "on_error": "continue"}
    run = service.run(path, {"wrod": "x"}, engine_parameters=parameters)
    log = b"".join(service.client.log(run["run_id"])).decode()
    assert run["state"] == "COMPLETE"
    assert "'polciy' means nothing to this service and is ignored; did you mean 'policy'?" in log
    assert "'my_engine.queue' means nothing to this service and is ignored; known: containers," in log
    assert "the workflow has no input 'wrod'; did you mean 'word'?" in log
    assert "'on_error' means" not in log
    assert len(run["run_log"]["system_logs"]) == 3


def test_a_rerun_with_an_input_that_is_not_there_is_refused(service: Service, tmp_path: Path) -> None:
    run = _run(service, tmp_path, SAY)
    with pytest.raises(WESError, match="no input 'wrd'; did you mean 'word'") as refused:
        service.client.rerun(run["run_id"], inputs={"wrd": "x"})
    assert refused.value.status_code == 400
    again = service.client.rerun(run["run_id"], inputs={"word": "x"})
    assert service.client.wait(again, timeout=60) == "COMPLETE"


def test_a_rerun_of_what_never_was_loaded_is_refused_by_its_run(service: Service, tmp_path: Path) -> None:
    """Nobody knows its inputs before: its document was at fault, and has been mended where it is."""
    run = _run(service, tmp_path, SAY | {"inputs": {"word": "no-such-type"}})
    assert run["state"] == "EXECUTOR_ERROR"
    folder = service.state / "workspace" / run["run_id"] / "attachments"
    (folder / "tool.json").write_text(json.dumps(SAY))
    again = service.client.rerun(run["run_id"], inputs={"wrd": "x"})
    assert service.client.wait(again, timeout=60) == "EXECUTOR_ERROR"
    (line,) = service.client.run(again)["run_log"]["system_logs"]
    assert line == "the workflow has no input 'wrd'; did you mean 'word'?"


def test_a_temporary_failure_that_lasts(service: Service, tmp_path: Path) -> None:
    """It is tried four times, which takes seven seconds."""
    document = tool("mkdir $0 || exit 75", {}, temporaryFailCodes=[75])
    document["inputs"] = {"place": {"type": "string", "inputBinding": {}}}
    run = _run(service, tmp_path, document, {"place": "/proc/nowhere"})
    (task,) = service.client.tasks(run["run_id"])
    (line,) = run["run_log"]["system_logs"]
    assert run["state"] == "EXECUTOR_ERROR"
    assert task["placement"]["attempt"] == 4
    assert "exit code 75, which the tool calls a temporary failure: " in line


EXTENSION = {"$namespaces": {"cwltool": "http://commonwl.org/cwltool#"}}


@pytest.mark.parametrize(
    ("document", "feature"),
    [
        (
            tool("true", {}) | EXTENSION | {"requirements": {"cwltool:MPIRequirement": {}}},
            "cwltool:MPIRequirement",
        ),
        (
            {
                "cwlVersion": "v1.2",
                "class": "Workflow",
                "requirements": {"InlineJavascriptRequirement": {}},
                "inputs": {"word": "string?"},
                "outputs": {},
                "steps": {
                    "again": {
                        "run": SAY,
                        "in": {"word": "word"},
                        "out": [],
                        "requirements": {
                            "cwltool:Loop": {"loopWhen": "$(true)", "loop": {}, "outputMethod": "last"}
                        },
                    }
                },
            }
            | EXTENSION,
            "cwltool:Loop",
        ),
        (
            {
                "cwlVersion": "v1.2",
                "class": "Workflow",
                "inputs": {},
                "outputs": {},
                "steps": {"again": {"run": SAY, "in": {}, "out": [], "when": "$(false)", "loop": {}}},
            },
            "loop is a feature of CWL v1.3",
        ),
        (tool("true", {}) | {"cwlVersion": "v1.3.0-dev1"}, "CWL v1.3.0-dev1, with its loop,"),
    ],
    ids=["mpi", "loop-extension", "loop", "version"],
)
def test_what_other_engines_run_is_unsupported_by_its_name(
    service: Service, tmp_path: Path, document: Document, feature: str
) -> None:
    path = tmp_path / "tool.json"
    path.write_text(json.dumps(document))
    run = service.run(path, version="v1.2")
    (line,) = run["run_log"]["system_logs"]
    assert (run["state"], run["run_log"]["exit_code"]) == ("EXECUTOR_ERROR", 33)
    assert line.startswith("Unsupported: ")
    assert feature in line


def test_an_extension_as_a_hint_is_passed_over_and_told(service: Service, tmp_path: Path) -> None:
    run = _run(service, tmp_path, tool("true", {}) | EXTENSION | {"hints": {"cwltool:MPIRequirement": {}}})
    assert run["state"] == "COMPLETE"
    assert any("cwltool#MPIRequirement" in line for line in run["run_log"]["system_logs"])
