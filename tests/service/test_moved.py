"""A state folder that is moved, restored from a backup or spelled otherwise: old runs are as before."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import Service
from tests.waiting import until

WORKFLOW = """
cwlVersion: v1.2
class: Workflow
inputs: {word: File}
outputs:
  whole: {type: Directory, outputSource: pack/set}
  said: {type: File, outputSource: say/said}
steps:
  say:
    in: {word: word}
    out: [said]
    run:
      class: CommandLineTool
      baseCommand: cat
      inputs: {word: {type: File, inputBinding: {}}}
      stdout: said.txt
      outputs: {said: {type: stdout, secondaryFiles: [{pattern: .index, required: false}]}}
  pack:
    in: {said: say/said}
    out: [set]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'echo packing >&2; mkdir set; cp "$0" set/']
      inputs: {said: {type: File, inputBinding: {}}}
      outputs: {set: {type: Directory, outputBinding: {glob: set}}}
"""
pytestmark = pytest.mark.slow
Start = Callable[[Path], Service]
NODES = [{"name": "here", "platforms": ["process"], "sandbox": "none"}]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts services in a state folder; those a test leaves are stopped."""
    started: list[Service] = []

    def one(state: Path) -> Service:
        started.append(Service(state, {"nodes": NODES}))
        return started[-1]

    yield one
    for service in started:
        if service.process.poll() is None:
            service.stop()


def begin(start: Start, folder: Path, state: Path) -> tuple[Service, str]:
    """A service that has done a run, and the run's id."""
    (folder / "before").mkdir()
    (folder / "w.cwl").write_text(WORKFLOW)
    (folder / "word.txt").write_text("hello\n")
    service = start(state)
    log = service.run(folder / "w.cwl", {"word": {"class": "File", "location": str(folder / "word.txt")}})
    assert log["state"] == "COMPLETE", log["run_log"]
    return service, log["run_id"]


def is_as_before(service: Service, run_id: str, folder: Path) -> None:
    """Outputs, logs, a rerun and its deletion."""
    outputs = service.client.download(run_id, folder)
    assert (folder / "said.txt").read_text() == (folder / "set" / "said.txt").read_text() == "hello\n"
    assert outputs["whole"]["listing"][0]["basename"] == "said.txt"
    tasks = {task["name"]: task for task in service.client.tasks(run_id)}
    assert b"".join(service.client.log(run_id, "stdout", task=tasks["say"]["id"])) == b"hello\n"
    assert b"".join(service.client.log(run_id, "stderr", task=tasks["pack"]["id"])) == b"packing\n"
    again = service.client.rerun(run_id)
    service.client.wait(again, timeout=120)
    assert service.client.run(again)["state"] == "COMPLETE"
    said = [line for task in service.client.tasks(again) for line in task["system_logs"]]
    assert said == [f"taken over from run {run_id}"] * 2
    service.client.download(again, folder / "again")
    assert (folder / "again" / "set" / "said.txt").read_text() == "hello\n"
    service.client.delete(again)


def test_runs_of_a_state_folder_that_is_spelled_otherwise_and_moved(start: Start, tmp_path: Path) -> None:
    service, run_id = begin(start, tmp_path, tmp_path / "before" / ".." / "before" / "st")
    service.stop()
    (tmp_path / "link").symlink_to("before")
    service = start(tmp_path / "link" / "st")
    is_as_before(service, run_id, tmp_path / "linked")
    service.stop()
    shutil.move(tmp_path / "before" / "st", tmp_path / "after")
    service = start(tmp_path / "after")
    is_as_before(service, run_id, tmp_path / "moved")
    service.stop()


def as_stored_before(state: Path, run_id: str) -> None:
    """Make a database what an older release would have left: whole URLs, of wherever the folder was then."""
    prefix = f"file:///somewhere/else/workspace/{run_id}/"

    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(item) for item in value]
        if isinstance(value, dict):
            return {
                name: prefix + item if name == "location" else whole(item) for name, item in value.items()
            }
        return value

    with sqlite3.connect(state / "wes-bridge.db") as database:
        (outputs,) = database.execute("select outputs from runs where run_id = ?", (run_id,)).fetchone()
        assert "file:" not in outputs
        database.execute("update runs set outputs = ?", (json.dumps(whole(json.loads(outputs))),))
        rows = database.execute("select task_id, outcome, stdout, stderr from tasks").fetchall()
        for task, outcome, *streams in rows:
            assert "file:" not in outcome + "".join(streams)
            values = (json.dumps(whole(json.loads(outcome))), *(prefix + url for url in streams), task)
            database.execute("update tasks set outcome = ?, stdout = ?, stderr = ? where task_id = ?", values)
    database.close()


def test_runs_of_a_database_with_whole_urls(start: Start, tmp_path: Path) -> None:
    service, run_id = begin(start, tmp_path, tmp_path / "before" / "st")
    service.stop()
    as_stored_before(tmp_path / "before" / "st", run_id)
    service = start(tmp_path / "before" / "st")
    is_as_before(service, run_id, tmp_path / "out")
    service.stop()


UNFINISHED = """
cwlVersion: v1.2
class: Workflow
inputs: {flag: string}
outputs: {all: {type: File, outputSource: after/all}}
steps:
  before:
    in: {}
    out: [made]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'date +%s.%N >made']
      inputs: {}
      outputs: {made: {type: File, outputBinding: {glob: made}}}
  during:
    in: {flag: flag, made: before/made}
    out: [made]
    run:
      class: CommandLineTool
      baseCommand: [sh, -c, 'until test -e $0; do sleep 0.1; done; cat "$1" >made']
      inputs: {flag: {type: string, inputBinding: {}}, made: {type: File, inputBinding: {position: 1}}}
      outputs: {made: {type: File, outputBinding: {glob: made}}}
  after:
    in: {made: during/made}
    out: [all]
    run:
      class: CommandLineTool
      baseCommand: cat
      inputs: {made: {type: File, inputBinding: {}}}
      stdout: all
      outputs: {all: stdout}
"""


@pytest.mark.parametrize("when", ["it ends before the move", "it ends afterwards"])
def test_a_run_that_had_not_ended_goes_on_where_its_state_is_now(
    start: Start, tmp_path: Path, when: str
) -> None:
    (tmp_path / "w.cwl").write_text(UNFINISHED)
    service = start(tmp_path / "before")
    run_id = service.client.submit(tmp_path / "w.cwl", {"flag": str(tmp_path / "flag")})
    seen: dict[str, str] = {}

    def look(progress: Any) -> None:
        seen.update({task["name"]: task["state"] for task in progress.get("tasks", ())})
        if seen.get("during") == "RUNNING":
            raise InterruptedError

    with pytest.raises(InterruptedError):
        service.client.wait(run_id, timeout=120, on_progress=look)
    (task,) = [task for task in service.client.tasks(run_id) if task["name"] == "before"]
    made = (tmp_path / "before" / "workspace" / run_id / "tasks" / task["id"] / "out" / "made").read_text()
    service.stop()
    if when == "it ends before the move":
        (tmp_path / "flag").touch()
        records = list((tmp_path / "before" / "nodes" / "here" / "sessions").glob("*/command"))
        assert records
        until(lambda: all(len(record.read_text().splitlines()) > 1 for record in records))
    shutil.move(tmp_path / "before", tmp_path / "after")
    service = start(tmp_path / "after")
    (tmp_path / "flag").touch()
    service.client.wait(run_id, timeout=120)
    log = service.client.run(run_id)
    assert log["state"] == "COMPLETE", log["run_log"]
    service.client.download(run_id, tmp_path / "out")
    assert (tmp_path / "out" / "all").read_text() == made  # what was done before was not done again
    service.stop()
    assert not (tmp_path / "before").exists()
