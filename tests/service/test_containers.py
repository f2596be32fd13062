"""A tool's image is used, or it is told that it was not: in the run, its tasks, its plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service, Starter
from wes_bridge.client import WESError

IMAGE = "registry.example.org/astro/tool:1"
PULLED = "Error: manifest of the tool is unknown"
FAKE_ENGINE = f"""#!/bin/sh
case "$1" in
    version) echo 'Version: 5.0'; exit 0 ;;
    pull) echo "{PULLED}" >&2; exit 125 ;;
    *) exit 1 ;;
esac
"""
"""Has no image and cannot get one."""


def tool(where: str = "hints", **docker: str) -> dict[str, Any]:
    return {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": ["echo", "hi"],
        where: {"DockerRequirement": docker or {"dockerPull": IMAGE}},
        "inputs": {},
        "outputs": {"said": "stdout"},
        "stdout": "said.txt",
    }


def write(folder: Path, document: dict[str, Any]) -> Path:
    path = folder / "tool.cwl"
    path.write_text(json.dumps(document))
    return path


def run_of(service: Service, path: Path, **parameters: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run that has ended, and its only task."""
    run = service.run(path, engine_parameters=parameters)
    [task] = service.client.tasks(run["run_id"])
    return run, task


@pytest.fixture(scope="module")
def with_engine(start_service: Starter, tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service whose node has a container engine that gets no image."""
    engine = tmp_path_factory.mktemp("engine") / "podman"
    engine.write_text(FAKE_ENGINE)
    engine.chmod(0o755)
    node = {"name": "box", "platforms": ["process", "container"], "container_engine": str(engine)}
    return start_service(nodes=[node])


def test_without_any_engine_a_hint_is_left_out_and_that_is_told(service: Service, tmp_path: Path) -> None:
    run, task = run_of(service, write(tmp_path, tool()))
    assert run["state"] == "COMPLETE"
    [words] = task["system_logs"]
    assert f"without the container image {IMAGE}" in words
    assert "no node that could run it has a container engine" in words
    assert [f"tool.cwl: {words}"] == run["run_log"]["system_logs"]


def test_the_plan_tells_it_too(service: Service, tmp_path: Path) -> None:
    plan = service.client.plan(write(tmp_path, tool()))
    assert IMAGE in plan["steps"][0]["without_image"]
    assert any("no node that could run it has a container engine" in note for note in plan["notes"])
    plan = service.client.plan(write(tmp_path, tool()), engine_parameters={"containers": "never"})
    assert "never" in plan["steps"][0]["without_image"]
    plan = service.client.plan(write(tmp_path, tool()), engine_parameters={"containers": "required"})
    assert "without_image" not in plan["steps"][0]
    assert "runs no containers" in plan["steps"][0]["answers"][0]["reason"]


def test_the_run_can_require_the_image(service: Service, tmp_path: Path) -> None:
    run, _ = run_of(service, write(tmp_path, tool()), containers="required")
    assert run["run_log"]["exit_code"] == 33
    said = " ".join(run["run_log"]["system_logs"])
    assert "this node runs no containers: its platforms are process" in said
    assert "http" not in said, "words, not a kind's URL"


def test_an_image_that_cannot_be_had_fails_the_step_with_the_engines_words(
    with_engine: Service, tmp_path: Path
) -> None:
    run, task = run_of(with_engine, write(tmp_path, tool()))
    assert run["state"] == "SYSTEM_ERROR"
    assert IMAGE in task["system_logs"][0]
    assert task["system_logs"][0].count(PULLED) == 1, "told once"
    assert "'containers: never' runs it without one" in task["system_logs"][0]


def test_an_image_known_by_an_id_only_is_not_looked_for_in_registries(
    with_engine: Service, tmp_path: Path
) -> None:
    _, task = run_of(with_engine, write(tmp_path, tool(dockerImageId="mine:1")))
    assert "image mine:1 is not here, and the request asks for one that is" in task["system_logs"][0]
    assert PULLED not in task["system_logs"][0]


def test_the_run_can_do_without_images(with_engine: Service, tmp_path: Path) -> None:
    failed = with_engine.run(write(tmp_path, tool()))
    again = with_engine.client.rerun(failed["run_id"], containers="never")
    assert with_engine.client.wait(again, timeout=60) == "COMPLETE"
    run, task = run_of(with_engine, write(tmp_path, tool()), containers="never")
    assert run["state"] == "COMPLETE"
    assert IMAGE in task["system_logs"][0]
    assert "never" in task["system_logs"][0]
    run = with_engine.run(write(tmp_path, tool("requirements")), engine_parameters={"containers": "never"})
    assert run["run_log"]["exit_code"] == 33
    assert "'containers' is 'never'" in " ".join(run["run_log"]["system_logs"])


def test_a_choice_that_is_none_and_one_that_the_site_forbids_are_refused(
    service: Service, start_service: Starter, tmp_path: Path
) -> None:
    path = write(tmp_path, tool())
    with pytest.raises(WESError, match="'sometimes' is none of required, preferred, never"):
        service.client.submit(path, engine_parameters={"containers": "sometimes"})
    strict = start_service(engine={"containers": "required"})
    for ask in (strict.client.submit, strict.client.plan):
        with pytest.raises(WESError, match="this site lays down 'required'"):
            ask(path, engine_parameters={"containers": "never"})
    run, _ = run_of(strict, path)
    assert run["run_log"]["exit_code"] == 33
    with pytest.raises(WESError, match="this site lays down 'required'"):
        strict.client.rerun(run["run_id"], containers="never")


def test_what_other_software_made_is_no_result_of_the_image(service: Service, tmp_path: Path) -> None:
    path = write(tmp_path, tool())
    for _ in range(2):
        _, task = run_of(service, path, reuse="on")
        assert "kept for reuse" not in task["placement"]["reason"]
    _, task = run_of(service, path, reuse="on", containers="never")
    _, task = run_of(service, path, reuse="on", containers="never")
    assert "kept for reuse" in task["placement"]["reason"], "no image was asked for"


def test_a_rerun_that_takes_the_step_over_tells_it_again(service: Service, tmp_path: Path) -> None:
    run, task = run_of(service, write(tmp_path, tool()))
    again = service.client.rerun(run["run_id"])
    service.client.wait(again, timeout=60)
    [taken] = service.client.tasks(again)
    assert taken["system_logs"] == [f"taken over from run {run['run_id']}", *task["system_logs"]]
    assert run["run_log"]["system_logs"] == service.client.run(again)["run_log"]["system_logs"]


@pytest.mark.parametrize("where", ["hints", "requirements"])
@pytest.mark.parametrize("way", ["dockerFile", "dockerLoad", "dockerImport"])
def test_an_image_that_would_have_to_be_made_is_unsupported_by_name(
    service: Service, tmp_path: Path, where: str, way: str
) -> None:
    """Also with an id: what has this name in some registry is another image."""
    run = service.run(write(tmp_path, tool(where, **{way: "FROM x", "dockerImageId": "made"})))
    assert (run["state"], run["run_log"]["exit_code"]) == ("EXECUTOR_ERROR", 33)
    assert way in run["run_log"]["system_logs"][0]
    assert "tool.cwl" in run["run_log"]["system_logs"][0]
    assert "name it with dockerPull" in run["run_log"]["system_logs"][0]
