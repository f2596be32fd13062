"""Many runs at once, from several clients: none is lost, none is there twice, all give what they should."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Starter
from wes_bridge import WESClient

pytestmark = pytest.mark.slow
RUNS, CLIENTS = 500, 4
TOOL: dict[str, Any] = {
    "cwlVersion": "v1.2",
    "class": "ExpressionTool",
    "requirements": {"InlineJavascriptRequirement": {}},
    "inputs": {"number": "int"},
    "outputs": {"twice": "int"},
    "expression": "${ return {twice: 2 * inputs.number}; }",
}


def test_five_hundred_runs_from_four_clients(start_service: Starter, tmp_path: Path) -> None:
    service = start_service(engine={"workers": 2, "max_runs": 40}, log_level="warning")
    tool = tmp_path / "tool.cwl"
    tool.write_text(json.dumps(TOOL))

    def submit(client: int) -> dict[int, str]:
        with WESClient(service.url) as wes:
            return {n: wes.submit(tool, {"number": n}) for n in range(client, RUNS, CLIENTS)}

    def outputs(numbers: dict[int, str]) -> dict[int, Any]:
        with WESClient(service.url) as wes:
            assert {wes.wait(run_id, timeout=240) for run_id in numbers.values()} == {"COMPLETE"}
            return {n: wes.run(run_id)["outputs"] for n, run_id in numbers.items()}

    with ThreadPoolExecutor(CLIENTS) as threads:
        submitted = list(threads.map(submit, range(CLIENTS)))
        got = list(threads.map(outputs, submitted))
    assert {n: out for part in got for n, out in part.items()} == {n: {"twice": 2 * n} for n in range(RUNS)}
    known = Counter(run["run_id"] for run in service.client.runs())
    assert known == Counter(run_id for part in submitted for run_id in part.values())
    service.stop()
