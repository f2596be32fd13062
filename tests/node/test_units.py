"""The parts that need no node."""

from __future__ import annotations

import asyncio
import itertools
import re
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import inspect

from wes_bridge.config import NodeConfig
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.states import Phase
from wes_bridge.model.units import utcnow
from wes_bridge.node.capacity import Capacity, Need, Queue
from wes_bridge.node.errors import BadRequestError
from wes_bridge.node.layout import RootMap, clean_path, clean_relative, is_below
from wes_bridge.node.live import LiveSession
from wes_bridge.node.node import Node
from wes_bridge.node.offers import OfferMaker, Slot
from wes_bridge.node.phases import client_may_move, may_move
from wes_bridge.node.staging.literal import literal_bytes
from wes_bridge.store.database import Database, migrate
from wes_bridge.store.node_sessions import NODE, metadata
from wes_bridge.surface import http

PHASES = st.sampled_from(list(Phase))


@given(PHASES, PHASES)
def test_phase_machine_is_a_way_forward(old: Phase, new: Phase) -> None:
    order = list(Phase)
    if may_move(old, new):
        assert not old.is_final
        assert order.index(new) > order.index(old)
    if client_may_move(old, new):
        assert may_move(old, new)


@given(st.lists(PHASES, max_size=30))
def test_every_walk_ends(steps: list[Phase]) -> None:
    now = Phase.INITIAL
    path = [now]
    for step in steps:
        if may_move(now, step):
            now = step
            path.append(now)
    assert len(set(path)) == len(path)
    assert all(may_move(a, b) for a, b in itertools.pairwise(path))


def test_a_full_life_is_possible() -> None:
    life = ["INITIAL", "OFFERED", "ACCEPTED", "WAITING", "PREPARING", "RUNNING", "RELEASING", "COMPLETED"]
    assert all(may_move(Phase(a), Phase(b)) for a, b in itertools.pairwise(life))
    assert all(may_move(phase, Phase.FAILED) for phase in list(Phase) if client_may_move(phase, Phase.FAILED))


class QueueMachine(RuleBasedStateMachine):
    """Whatever comes and goes, nobody gets more than there is, and nobody is overtaken."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.queue = Queue(Capacity(cores=4, memory=100, sessions=3))
        self.inside: dict[str, Need] = {}
        self.line: list[tuple[str, Need, asyncio.Future[None]]] = []
        self.count = 0

    async def line_up(self, name: str, need: Need) -> asyncio.Future[None]:
        await asyncio.sleep(0)
        return self.queue.line_up(name, need)

    def spin(self) -> None:
        for _ in range(3):
            self.loop.run_until_complete(asyncio.sleep(0))
        for item in list(self.line):
            if item[2].done():
                assert item is self.line[0] or item[2].cancelled()
                self.line.remove(item)
                if not item[2].cancelled():
                    self.inside[item[0]] = item[1]

    @rule(cores=st.integers(1, 4), memory=st.integers(0, 100))
    def come(self, cores: int, memory: int) -> None:
        self.count += 1
        need = Need(cores, memory, timedelta(seconds=1))
        name = str(self.count)
        if self.queue.try_enter(name, need):
            self.inside[name] = need
        else:
            self.line.append((name, need, self.loop.run_until_complete(self.line_up(name, need))))
        self.spin()

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        if self.inside:
            name = data.draw(st.sampled_from(sorted(self.inside)))
            del self.inside[name]
            self.queue.leave(name)
            self.spin()

    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        if self.line:
            item = data.draw(st.sampled_from(self.line))
            item[2].cancel()
            self.spin()

    @invariant()
    def nobody_has_too_much(self) -> None:
        assert sum(need.cores for need in self.inside.values()) <= 4
        assert sum(need.memory for need in self.inside.values()) <= 100
        assert len(self.inside) <= 3
        assert self.queue.running == len(self.inside)
        assert self.queue.waiting == len(self.line)
        if self.line:  # the first in the line does not fit
            need = self.line[0][1]
            assert (
                sum(other.cores for other in self.inside.values()) + need.cores > 4
                or sum(other.memory for other in self.inside.values()) + need.memory > 100
                or len(self.inside) == 3
            )

    def teardown(self) -> None:
        for item in self.line:
            item[2].cancel()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()


TestQueue = QueueMachine.TestCase


def test_paths() -> None:
    assert clean_path("//a/./b/", "x") == "/a/b"
    assert clean_path("/", "x") == "/"
    assert clean_relative("./a//b", "x") == "a/b"
    for bad in ("a", "/a/../b", "/a\0"):
        with pytest.raises(BadRequestError):
            clean_path(bad, "x")
    for bad in ("/a", "../a", "", ".", "a\0"):
        with pytest.raises(BadRequestError):
            clean_relative(bad, "x")
    assert is_below("/a/b", "/a") and is_below("/a", "/a") and not is_below("/ab", "/a")


@given(st.text(alphabet="/wb-1ax \n", max_size=40))
def test_root_there_and_back(text: str) -> None:
    paths = RootMap("/wb-1", Path("/real/session/fs"))
    assert paths.outward(paths.inward(text).encode()).decode() == text
    assert RootMap(None, Path("/real")).inward(text) == text


@given(st.text(alphabet="/ab ", max_size=30), st.sampled_from(["/a", "/ab/a", "/a/a"]))
def test_root_is_found_as_an_expression_would(text: str, root: str) -> None:
    expected = re.sub(re.escape(root) + r"(?![A-Za-z0-9_-])", "/real", text)
    assert RootMap(root, Path("/real")).inward(text) == expected


def test_root_is_replaced_whole() -> None:
    paths = RootMap("/wb-1", Path("/real"))
    assert paths.inward("-I/wb-1/x:/wb-1 /wb-12 /wb-1.") == "-I/real/x:/real /wb-12 /real."
    assert paths.inward_bytes(b"\xff/wb-1/x") == b"\xff/real/x"
    assert paths.outward(b"\xff/real/x /real-y /real") == b"\xff/wb-1/x /real-y /wb-1"
    assert RootMap("/\u00e9", Path("/\u00fc")).outward("/\u00fc/x".encode()) == "/\u00e9/x".encode()
    assert paths.host("/wb-1/a/b") == Path("/real/a/b")
    assert RootMap(None, Path("/real")).host("/a/b") == Path("/real/a/b")


def test_literals() -> None:
    assert literal_bytes("data:,a%20b%00") == b"a b\0"
    assert literal_bytes("data:text/plain;base64,AAE=") == b"\0\1"
    for bad in ("data:nothing", "data:;base64,%%%", "data:;base64,A"):
        with pytest.raises(ValueError, match="data:"):
            literal_bytes(bad)


@given(st.integers(0, 50), st.one_of(st.none(), st.integers(0, 60)), st.one_of(st.none(), st.integers(0, 60)))
def test_byte_ranges_stay_inside(size: int, first: int | None, last: int | None) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    span = http.byte_range(header, size)
    if span is None or span[0] >= span[1]:
        return
    assert 0 <= span[0] < span[1] <= size


def test_migrations_make_the_same_tables(tmp_path: Path) -> None:
    new = Database(f"sqlite:///{tmp_path / 'new.db'}", NODE)
    old = Database(f"sqlite:///{tmp_path / 'old.db'}", NODE)
    with old.write() as connection:
        for table in (*metadata.tables, "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    migrate(old.engine, NODE.migrations)

    def shape(database: Database) -> object:
        found = inspect(database.engine)
        return {
            table: (
                [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)],
                sorted((i["name"], tuple(i["column_names"])) for i in found.get_indexes(table)),
            )
            for table in found.get_table_names()
        }

    assert shape(new) == shape(old)
    new.close()
    old.close()


class TwoSlots:
    """A planner with a choice."""

    def slots(self, need, earliest, latest):  # type: ignore[no-untyped-def]
        return [Slot(earliest, need.duration), Slot(earliest + timedelta(hours=1), need.duration)]


def test_siblings_are_rejected_and_the_set_shows_it(tmp_path: Path) -> None:
    async def go() -> None:
        node = Node(NodeConfig(platforms=["process"], sandbox="none"), tmp_path)
        await node.start()
        try:
            node.offers = OfferMaker(node.config, node.capacity, TwoSlots())
            executable = eb.Executable(kind=eb.PROCESS, command=["true"], root="/wb")
            offerset = await node.offer(eb.ExecutionRequest(executable=executable), "local")
            assert len(offerset.offers) == 2
            second = offerset.offers[1]
            await node.update(second, eb.phase_update(Phase.ACCEPTED))
            assert offerset.offers[0].phase is Phase.REJECTED
            await node.update(offerset.offers[0], eb.phase_update(Phase.ACCEPTED))
            assert offerset.offers[0].phase is Phase.REJECTED
            while not second.phase.is_final:
                await second.wait_change(second.etag, 5)
            assert second.phase is Phase.COMPLETED
            assert b'"REJECTED"' in offerset.encode("http://x")
        finally:
            await node.stop()

    asyncio.run(go())


def test_changes_that_follow_at_once_are_told_together() -> None:
    async def go() -> None:
        session = eb.Session(meta=eb.Meta(uuid="12345678-1234-4234-8234-123456789abc"), phase=Phase.ACCEPTED)
        live = LiveSession(session, "set", "boot")
        seen = live.etag
        loop = asyncio.get_running_loop()
        loop.call_later(0.01, live.move, Phase.PREPARING)
        loop.call_later(0.013, live.move, Phase.RUNNING)
        await live.wait_change(seen, 5)
        assert live.phase is Phase.RUNNING
        start = loop.time()
        loop.call_later(0.01, live.move, Phase.RELEASING)
        loop.call_later(0.012, live.move, Phase.COMPLETED)
        await live.wait_change(live.etag, 5)
        assert live.phase is Phase.COMPLETED
        assert loop.time() - start < 4
        assert not live.watched

    asyncio.run(go())


def test_a_busy_node_never_looks_as_early_as_an_idle_one() -> None:
    """Also after many quick sessions, and the more the longer what runs has been running."""
    now = [0.0]
    queue = Queue(Capacity(cores=2, memory=100, sessions=2), lambda: now[0])
    need = Need(2, 0, timedelta(hours=1))
    for number in range(20):
        assert queue.try_enter(str(number), need)
        assert (queue.earliest(need) - utcnow()).total_seconds() > 1
        now[0] += 0.05
        queue.leave(str(number), 0.05)
    assert (queue.earliest(need) - utcnow()).total_seconds() < 0.1
    assert queue.try_enter("long", need)
    now[0] += 600
    assert 500 < (queue.earliest(need) - utcnow()).total_seconds() < 700
    now[0] += 2700
    assert (queue.earliest(need) - utcnow()).total_seconds() < 400
