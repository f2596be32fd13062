"""Offers that nobody takes cost bounded room, and who asks without end loses their own first."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from uuid import uuid4

from tests.node.conftest import NodeProcess, Request, Starter, shell
from tests.waiting import until
from wes_bridge.model.states import Phase
from wes_bridge.node.room import Room
from wes_bridge.store import node_sessions as store
from wes_bridge.store.database import Database


def test_the_oldest_of_the_greediest_go_first() -> None:
    room = Room(most_sets=10)
    assert [room.add(f"a{number}", "a", 1) for number in range(3)] == [[], [], []]
    gone = [uuid for number in range(50) for uuid in room.add(f"b{number}", "b", 1)]
    assert gone == [f"b{number}" for number in range(43)]
    assert len(room) == 10


def test_one_large_offer_does_not_drive_out_others() -> None:
    room = Room(1000, most_bytes=1000)
    for number in range(5):
        room.add(f"a{number}", "a", 100)
    assert room.add("large", "b", 900) == ["large"]
    assert len(room) == 5


def test_what_was_taken_needs_no_room() -> None:
    room = Room(most_sets=2)
    for number in range(100):
        assert room.add(str(number), "a", 1) == []
        room.remove(str(number))
        room.remove(str(number))


def test_a_node_takes_back_the_oldest_and_makes_new_ones(start_node: Starter) -> None:
    node: NodeProcess = start_node(sandbox="none", platforms=["process"], open_offers=5)
    first, *_ = [node.offer(Request(shell("true"))) for _ in range(20)]
    gone = node.http.get(node.at(first))
    assert gone.status_code == 404 or gone.json()["phase"] == "EXPIRED"
    taken = [node.begin(Request(shell("true"))) for _ in range(10)]
    assert {node.end(session)["phase"] for session in taken} == {"COMPLETED"}


def test_untaken_offers_are_forgotten_soon(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.db'}", store.NODE)
    now = time.time()
    with database.write() as connection:
        for number in range(60):
            phase = (Phase.EXPIRED, Phase.REJECTED, Phase.COMPLETED)[number % 3]
            set_id, created = str(uuid4()), now - 7200 + number
            session = store.SessionRow(str(uuid4()), set_id, phase.value, created, None, "{}", ended=created)
            store.add_offerset(connection, store.OfferSetRow(set_id, created, "{}"), [session])
    with database.write() as connection:
        assert store.purge_untaken(connection, now - 86400, most=30) == 10
    gone = 1
    while gone:  # as the node does
        with database.write() as connection:
            gone = store.purge_untaken(connection, now - 3600, most=30)
    database.close()
    kept = sqlite3.connect(tmp_path / "node.db")
    phases = {phase for (phase,) in kept.execute("SELECT phase FROM sessions")}
    assert phases == {"COMPLETED"}
    assert kept.execute("SELECT count(*) FROM offersets").fetchone() == (20,)
    kept.close()


def test_a_flood_of_requests_leaves_room_for_others(start_node: Starter) -> None:
    """As many sessions as the node's limits allow; the next one is told which limit that is."""
    limits = {"default": {"sessions": 2}}
    node: NodeProcess = start_node(sandbox="none", platforms=["process"], limits=limits, max_running=1)
    running = [node.begin(Request(shell("sleep 30"))) for _ in range(2)]
    third = node.update(node.offer(Request(shell("true"))), "ACCEPTED")
    assert third["phase"] == "EXPIRED"
    assert "2 sessions here" in str(third["meta"]["messages"])
    assert "limits.default.sessions" in str(third["meta"]["messages"])
    for session in running:
        node.update(session, "CANCELLED")
    until(
        lambda: node.get(running[0])["phase"] == "CANCELLED" and node.get(running[1])["phase"] == "CANCELLED"
    )
    node.completed(Request(shell("true")))
