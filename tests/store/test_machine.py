"""Whatever workers, users and clocks do, in whatever order: states only go on, and only the holder writes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import select

from wes_bridge.model.states import STATE_ORDER, State
from wes_bridge.store.database import Database
from wes_bridge.store.runs import (
    LeaseLostError,
    NewRun,
    TaskRow,
    claim_runs,
    create_run,
    journal,
    put_tasks,
    release_runs,
    renew_leases,
    request_cancel,
    set_run_state,
)
from wes_bridge.store.tables import SERVICE, runs

LEASE = 10.0
RUNS = ["r1", "r2", "r3"]
WORKERS = st.sampled_from(["alpha", "beta", "gamma"])
RUN = st.sampled_from(RUNS)
RUN_STATES = st.sampled_from(
    [State.INITIALIZING, State.RUNNING, State.COMPLETE, State.EXECUTOR_ERROR, State.CANCELED]
)
TASK_STATES = st.sampled_from([State.QUEUED, State.RUNNING, State.COMPLETE, State.SYSTEM_ERROR])


@dataclass
class Known:
    """What should be true of a run."""

    state: State = State.QUEUED
    holder: str | None = None
    until: float = 0.0
    fence: int = 0
    cancel: bool = False
    tasks: dict[str, State] = field(default_factory=dict)


class Machine(RuleBasedStateMachine):
    """The store beside a model of it."""

    new_url: Any

    @initialize()
    def begin(self) -> None:
        self.database = Database(self.new_url(), SERVICE)
        self.now = 1000.0
        self.known = {run: Known() for run in RUNS}
        self.fences: dict[tuple[str, str], int] = {}
        self.seen: dict[str, State] = {}
        with self.database.write() as connection:
            for run in RUNS:
                create_run(connection, NewRun(run, "local", {}, {}, "w"))

    @rule(worker=WORKERS, limit=st.integers(1, 3), most=st.none() | st.integers(1, 2))
    def claim(self, worker: str, limit: int, most: int | None) -> None:
        with self.database.write() as connection:
            rows = claim_runs(connection, worker, LEASE, limit, self.now, most)
        going_on = {run: k for run, k in self.known.items() if not k.state.is_final}
        held = sum(k.holder is not None and k.until >= self.now for k in going_on.values())
        free = [run for run, k in going_on.items() if k.holder is None or k.until < self.now]
        room = limit if most is None else max(0, min(limit, most - held))
        assert [row.run_id for row in rows] == free[:room]
        for row in rows:
            known = self.known[row.run_id]
            assert row.fence == known.fence + 1
            known.holder, known.until, known.fence = worker, self.now + LEASE, row.fence
            self.fences[worker, row.run_id] = row.fence

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(worker=WORKERS, held=st.lists(RUN, unique=True))
    def beat(self, worker: str, held: list[str]) -> None:
        with self.database.write() as connection:
            renew_leases(connection, worker, LEASE, self.now, held)
        for run in held:
            if self.known[run].holder == worker:
                self.known[run].until = self.now + LEASE

    @rule(worker=WORKERS)
    def release(self, worker: str) -> None:
        with self.database.write() as connection:
            release_runs(connection, worker)
        for known in self.known.values():
            if known.holder == worker:
                known.holder = None

    @rule(run=RUN)
    def cancel(self, run: str) -> None:
        with self.database.write() as connection:
            request_cancel(connection, run)
        known = self.known[run]
        if not known.state.is_final:
            known.cancel = True
            known.state = State.CANCELED if known.fence == 0 else State.CANCELING

    @rule(worker=WORKERS, run=RUN, state=RUN_STATES)
    def advance(self, worker: str, run: str, state: State) -> None:
        known, fence = self.known[run], self.fences.get((worker, run), 0)
        try:
            with self.database.write() as connection:
                reached = set_run_state(connection, run, fence, state)
        except LeaseLostError:
            assert fence != known.fence
            return
        assert fence == known.fence
        if not known.state.is_final and STATE_ORDER[state] >= STATE_ORDER[known.state]:
            known.state = state
        if known.state.is_final:
            known.holder = None
        assert reached == known.state

    @rule(
        worker=WORKERS,
        run=RUN,
        states=st.dictionaries(st.sampled_from(["t1", "t2"]), TASK_STATES, min_size=1),
    )
    def tell(self, worker: str, run: str, states: dict[str, State]) -> None:
        known, fence = self.known[run], self.fences.get((worker, run), 0)
        rows = [TaskRow(run, t, int(t[1]), t, t, state=s, fence=fence) for t, s in states.items()]
        with self.database.write() as connection:
            lost = put_tasks(connection, rows)
        assert lost == (frozenset() if fence == known.fence else {run})
        if not lost:
            for task, state in states.items():
                if not known.tasks.get(task, State.QUEUED).is_final:
                    known.tasks[task] = state

    @invariant()
    def as_expected(self) -> None:
        with self.database.read() as connection:
            rows = {row.run_id: row for row in connection.execute(select(runs))}
        for run, known in self.known.items():
            row = rows[run]
            state = State(row.state)
            assert (state, row.fence, row.cancel_requested) == (known.state, known.fence, known.cancel)
            before = self.seen.get(run, State.QUEUED)
            assert state == before or (not before.is_final and STATE_ORDER[state] >= STATE_ORDER[before]), (
                f"{run} went from {before} to {state}"
            )
            self.seen[run] = state
            assert {t.task_id: t.state for t in journal(self.database, run)} == known.tasks
            if not state.is_final:
                assert row.worker == known.holder
            else:
                assert row.worker is None

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_store(kind: str, request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as folder:
        numbers = iter(range(10**6))
        if kind == "postgresql":
            make = request.getfixturevalue("postgresql").new_database
        else:
            make = lambda: f"sqlite:///{folder}/{next(numbers)}.db"  # noqa: E731
        machine = type("OnDatabase", (Machine,), {"new_url": staticmethod(make)})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30 if kind == "sqlite" else 15,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
