"""Real nodes that book for different times: none is chosen for promising less, and no step is lost by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service, Starter
from tests.service.test_choosing import NAMESPACES, TOOL, tasks_of


def booked(name: str, default: str, horizon: str) -> dict[str, Any]:
    """A node that books, the default being enforced."""
    booking = {"mode": "slots", "slot": "PT1S", "horizon": horizon, "default_duration": default}
    return {"name": name, "platforms": ["process"], "sandbox": "none", "booking": booking}


def run(service: Service, folder: Path, script: str, **more: Any) -> dict[str, Any]:
    """Run a script as a tool; its task."""
    path = folder / "tool.cwl"
    path.write_text(json.dumps(TOOL | {"baseCommand": ["sh", "-c", script]} | more))
    run_id = service.client.submit(path)
    service.client.wait(run_id, timeout=120)
    (task,) = tasks_of(service, run_id)
    return task


def only(node: str) -> dict[str, Any]:
    """A hint for a node."""
    return {"$namespaces": NAMESPACES, "hints": {"wb:Placement": {"only": node}}}


def test_a_node_with_a_short_default_does_not_end_the_steps(start_service: Starter, tmp_path: Path) -> None:
    nodes = [booked("hasty", "PT1S", "PT24H"), {"name": "calm", "platforms": ["process"], "sandbox": "none"}]
    service = start_service(nodes=nodes)
    task = run(service, tmp_path, "sleep 2")
    assert task["state"] == "COMPLETE", task["system_logs"]
    assert task["placement"]["attempt"] == 1
    offers = task["placement"]["choice"]["offers"]
    finish = {offer["node"]: offer["finish"] - offer["start"] for offer in offers}
    assert finish["hasty"] == finish["calm"]


@pytest.fixture(scope="module")
def brief(start_service: Starter) -> Service:
    """A site that thinks steps take two seconds, with a node that gives more and one that hardly does."""
    nodes = [booked("far", "PT1S", "PT24H"), booked("near", "PT1S", "PT3S")]
    return start_service(nodes=nodes, engine={"default_duration": "PT2S"})


def test_a_step_that_needs_longer_than_the_site_thought_gets_it(brief: Service, tmp_path: Path) -> None:
    task = run(brief, tmp_path, "sleep 3", **only("far"))
    assert task["state"] == "COMPLETE", task["system_logs"]
    (earlier,) = task["placement"]["earlier"]
    assert "the end of its booking of PT2S" in earlier["problem"]
    assert "again with 4 s" in earlier["problem"]


def test_where_there_is_no_more_time_the_advice_is_told(brief: Service, tmp_path: Path) -> None:
    task = run(brief, tmp_path, "sleep 60", **only("near"))
    assert task["state"] == "SYSTEM_ERROR"
    (words,) = task["system_logs"]
    assert "a booking here lasts PT3S at most, PT6S was asked for" in words
    for name in ("ToolTimeLimit", "policy.duration", "engine.default_duration"):
        assert name in words
