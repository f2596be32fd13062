"""What makes a step the same step in another walk of its run, or in another run."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from wes_bridge.engine.journal import Journal, inputs_hash, is_open, is_still_there, outcome_record
from wes_bridge.model.states import State
from wes_bridge.model.step_plan import Booking, Resources, StagedFile, StageMode, StepPlan
from wes_bridge.store.runs import TaskRow

RUN = Path("/runs/1")
PLAN = StepPlan(
    name="measure[3]",
    argv=["measure", "/wb-1/in/a.fits"],
    environment={"HOME": "/wb-1/out"},
    root="/wb-1",
    workdir="/wb-1/out",
    output_url="file:///runs/1/measure",
    staged=[StagedFile("/wb-1/in/a.fits", "file:///data/a.fits")],
)
OTHER = {
    "argv": ["measure", "--deep", "/wb-1/in/a.fits"],
    "environment": {"HOME": "/elsewhere"},
    "workdir": "/wb-1/elsewhere",
    "stdin": "/wb-1/in/a.fits",
    "stdout": "said.txt",
    "stderr": "err.txt",
    "staged": [StagedFile("/wb-1/in/a.fits", "file:///data/b.fits")],
    "resources": Resources(cores_min=2),
    "time_limit": 10,
    "network": True,
    "image": "alpine",
    "image_required": True,
    "success_codes": [0, 1],
    "rewrite": [],
}
SAME: dict[str, Any] = {
    "name": "other",
    "output_url": "file:///x",
    "stdout_url": "file:///y",
    "stderr_url": "file:///z",
    "temporary_codes": [75],
    "containers": "never",
    "left_out": "alpine",
    "image_is_there": True,
    "booking": Booking(60),
}


def test_every_field_is_thought_of() -> None:
    assert {field.name for field in fields(StepPlan)} == {*OTHER, *SAME, "root", "wish"}


@pytest.mark.parametrize("name", OTHER)
def test_what_makes_another_step(name: str) -> None:
    assert inputs_hash(replace(PLAN, **{name: OTHER[name]}), RUN) != inputs_hash(PLAN, RUN)


@pytest.mark.parametrize("name", SAME)
def test_what_does_not(name: str) -> None:
    assert inputs_hash(replace(PLAN, **{name: SAME[name]}), RUN) == inputs_hash(PLAN, RUN)


@pytest.mark.parametrize(
    "item",
    [
        StagedFile("/wb-1/in/a.fits", "file:///data/a.fits", mode=StageMode.COPY),
        StagedFile("/wb-1/in/a.fits", contents="text"),
        StagedFile("/wb-1/in/a.fits", directory=True),
    ],
)
def test_files_differ_by_how_they_are_staged(item: StagedFile) -> None:
    assert inputs_hash(replace(PLAN, staged=[item]), RUN) != inputs_hash(PLAN, RUN)


def test_a_size_that_becomes_known_changes_nothing() -> None:
    known = replace(PLAN, staged=[replace(PLAN.staged[0], size=10)])
    assert inputs_hash(known, RUN) == inputs_hash(PLAN, RUN)


def test_another_runs_root_changes_nothing() -> None:
    moved = replace(
        PLAN,
        argv=["measure", "/wb-2/in/a.fits"],
        environment={"HOME": "/wb-2/out"},
        root="/wb-2",
        workdir="/wb-2/out",
        staged=[StagedFile("/wb-2/in/a.fits", "file:///data/a.fits")],
    )
    assert inputs_hash(moved, RUN) == inputs_hash(PLAN, RUN)


def task(key: str, seq: int, **values: object) -> TaskRow:
    return TaskRow("run", key, seq, key, key, **values)


def test_a_task_is_taken_once_and_what_is_left_is_open() -> None:
    done = task("a", 1, state=State.COMPLETE, outcome={"status": "success"}, session_url="http://n/1")
    running = task("b", 7, state=State.RUNNING, session_url="http://n/2")
    never = task("c", 3)
    journal = Journal([done, running, never])
    assert journal.last_seq == 7
    assert journal.open_sessions() == [running]
    assert [is_open(row) for row in (done, running, never)] == [False, True, False]
    assert journal.take("b") is running
    assert journal.take("b") is None
    assert journal.open_sessions() == []


def test_what_did_well_when_asked_the_same_is_recalled_once(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.touch()

    def done(key: str, status: str, asked: str | None, path: Path) -> TaskRow:
        outputs = {"f": {"class": "File", "location": path.as_uri()}}
        record = outcome_record(outputs, status, asked=asked)
        return task(key, 1, state=State.COMPLETE, outcome=record)

    journal = Journal(
        [
            done("well", "success", "same", there),
            done("ill", "permanentFail", "same", there),
            done("gone", "success", "same", gone),
            done("of an older release", "success", None, there),
            task("begun", 2, state=State.RUNNING, session_url="http://n/1"),
        ]
    )
    assert journal.recall("well", "other") is None
    assert journal.recall("well", "same") == {"f": {"class": "File", "location": there.as_uri()}}
    assert [journal.recall(key, "same") for key in ("well", "ill", "gone", "begun", "never")] == [None] * 5
    assert journal.recall("of an older release", "None") is None
    assert journal.take("well") is None
    assert journal.is_left


def test_outputs_that_are_gone_are_noticed(tmp_path: Path) -> None:
    there = tmp_path / "a b.txt"
    there.touch()
    good = {"class": "File", "location": there.as_uri()}
    gone = {"class": "File", "location": (tmp_path / "gone").as_uri()}
    elsewhere = {"class": "File", "location": "https://example.org/x"}
    assert is_still_there({"x": [good, elsewhere], "n": None, "t": "file:///not-a-file-object"})
    assert not is_still_there({"x": [good, gone]})
    assert not is_still_there({"x": {**good, "secondaryFiles": [gone]}})
    assert not is_still_there({"d": {"class": "Directory", "location": tmp_path.as_uri(), "listing": [gone]}})
