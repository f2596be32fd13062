"""Scatters as wide as a document likes: refused before anything is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service, Starter, start_service  # noqa: F401
from tests.service.test_runs import ECHO

MB = 1024**2


def flow(method: str | None, names: str, expression: str | None = None) -> dict[str, Any]:
    """A scatter over lists that are given, or that an expression makes."""
    step: dict[str, Any] = {
        "run": {
            "class": "CommandLineTool",
            "baseCommand": "true",
            "inputs": dict.fromkeys(names, "int"),
            "outputs": {},
        },
        "scatter": list(names),
        "in": {name: name for name in names},
        "out": [],
    }
    if method:
        step["scatterMethod"] = method
    steps: dict[str, Any] = {"wide": step}
    inputs: dict[str, Any] = dict.fromkeys(names, "int[]")
    if expression:
        step["in"] = dict.fromkeys(names, "made/l")
        tool = {"class": "ExpressionTool", "inputs": {}, "outputs": {"l": "int[]"}, "expression": expression}
        steps["made"] = {"run": tool, "in": {}, "out": ["l"]}
        inputs = {}
    return {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "requirements": {"ScatterFeatureRequirement": {}, "InlineJavascriptRequirement": {}},
        "inputs": inputs,
        "outputs": {},
        "steps": steps,
    }


@pytest.fixture(scope="module")
def service(start_service: Starter) -> Service:  # noqa: F811
    return start_service()


def refused(service: Service, folder: Path, document: dict[str, Any], params: Any = None) -> None:
    (worker,) = service.children("wes_bridge.engine.worker")
    before = worker.memory_info().rss
    (folder / "flow.cwl").write_text(json.dumps(document))
    run = service.run(folder / "flow.cwl", params)
    assert run["state"] == "EXECUTOR_ERROR"
    assert "engine.max_scatter" in json.dumps(run["run_log"]["system_logs"])
    assert service.children("wes_bridge.engine.worker") == [worker]
    assert worker.memory_info().rss - before < 300 * MB
    (folder / "echo.cwl").write_text(ECHO)
    assert service.run(folder / "echo.cwl", {"word": "on"})["state"] == "COMPLETE"


@pytest.mark.parametrize("method", ["flat_crossproduct", "nested_crossproduct"])
def test_a_product_is_refused_before_it_is_made(service: Service, tmp_path: Path, method: str) -> None:
    thousand = list(range(1000))
    refused(service, tmp_path, flow(method, "abc"), dict.fromkeys("abc", thousand))


def test_a_million_elements_are_refused(service: Service, tmp_path: Path) -> None:
    refused(service, tmp_path, flow(None, "a"), {"a": list(range(1_000_000))})


def test_a_million_elements_that_an_expression_makes(service: Service, tmp_path: Path) -> None:
    made = "${ var l = []; for (var i = 0; i < 1000000; i++) l.push(i); return {l: l}; }"
    refused(service, tmp_path, flow(None, "a", made))


def test_an_empty_product_is_none(service: Service, tmp_path: Path) -> None:
    """Though the parts that come before the empty list would be many."""
    (tmp_path / "flow.cwl").write_text(json.dumps(flow("flat_crossproduct", "ab")))
    run = service.run(tmp_path / "flow.cwl", {"a": list(range(1000)), "b": []})
    assert run["state"] == "COMPLETE"
