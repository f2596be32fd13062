"""InplaceUpdateRequirement: an update waits for those that read, and for nobody that has ended."""

import json
from pathlib import Path
from typing import Any

from tests.cwl.test_walk import cwltool_as_ours, walk_of
from wes_bridge.cwl.tools.jobs import BridgeJob
from wes_bridge.cwl.walking.walk import Finished, Walk

__all__ = ["cwltool_as_ours"]

BEFORE = {"class": "CommandLineTool", "baseCommand": "true", "inputs": {}, "outputs": {"y": "int"}}
READ = {
    "class": "CommandLineTool",
    "baseCommand": "ls",
    "inputs": {"sets": {"type": "Directory[]", "inputBinding": {}}},
    "outputs": {},
}
UPDATE = {
    "class": "CommandLineTool",
    "requirements": {
        "InplaceUpdateRequirement": {"inplaceUpdate": True},
        "InitialWorkDirRequirement": {
            "listing": [{"entry": "$(inputs.other)"}, {"entry": "$(inputs.set)", "writable": True}]
        },
    },
    "baseCommand": ["sh", "-c", "echo more >>table"],
    "inputs": {"set": {"type": "Directory", "inputBinding": {}}, "other": "File", "after": "int"},
    "outputs": {},
}


def two_steps(tmp_path: Path, **options: Any) -> Walk:
    """A step that reads a Directory, given to it twice, and one that updates it after a third has ended."""
    (tmp_path / "a.ms").mkdir()
    (tmp_path / "other").write_text("")
    a_set = {"class": "Directory", "location": f"file://{tmp_path}/a.ms"}
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": {"sets": "Directory[]", "set": "Directory", "other": "File"},
        "outputs": {},
        "steps": {
            "read": {"run": READ, "in": {"sets": "sets"}, "out": []},
            "before": {"run": BEFORE, "in": {}, "out": ["y"]},
            "update": {"run": UPDATE, "in": {"set": "set", "other": "other", "after": "before/y"}, "out": []},
        },
    }
    other = {"class": "File", "location": f"file://{tmp_path}/other"}
    return walk_of(
        tmp_path, json.dumps(workflow), {"sets": [a_set, a_set], "set": a_set, "other": other}, **options
    )


def pull(walk: Walk, finished: list[Finished]) -> dict[str, BridgeJob]:
    return {job.key: job for job in walk.advance(finished, 10).jobs}


def test_an_update_waits_for_a_step_that_reads(tmp_path: Path) -> None:
    walk = two_steps(tmp_path)
    first = pull(walk, [])
    assert set(first) == {"read", "before"}
    assert pull(walk, [Finished(first["before"], {"y": 1}, "success")]) == {}
    then = pull(walk, [Finished(first["read"], {}, "success")])
    assert list(then) == ["update"]
    pull(walk, [Finished(then["update"], {}, "success")])
    assert walk.status == "success"


def test_a_step_that_failed_reads_no_more(tmp_path: Path) -> None:
    walk = two_steps(tmp_path, on_error="continue")
    first = pull(walk, [])
    pull(walk, [Finished(first["read"], {}, "permanentFail")])
    assert list(pull(walk, [Finished(first["before"], {"y": 1}, "success")])) == ["update"]
