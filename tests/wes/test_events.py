"""Streams of events: what a listener is told, when it comes anew, comes back, is slow, or asks wrongly."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from wes_server import BASE, Server, is_error, start

from wes_bridge import WESClient
from wes_bridge.client.events import Parser
from wes_bridge.config import EventsConfig, ServiceConfig
from wes_bridge.model.states import State
from wes_bridge.store.changes import Position
from wes_bridge.wes.events import takes_events
from wes_bridge.wes.watching import END, position_of

pytestmark = pytest.mark.database


class Listener:
    """One connection to a run's events."""

    def __init__(self, server: Server, run_id: str, query: str = "", **headers: str) -> None:
        self.answer = requests.get(
            f"{server.url}/runs/{run_id}/events{query}", headers=headers, stream=True, timeout=60
        )
        assert self.answer.status_code == 200, self.answer.text
        self.parser = Parser()
        self._pieces = self.answer.iter_content(None)
        self._found: list[dict[str, Any]] = []

    def next(self) -> dict[str, Any]:
        """The next event."""
        while not self._found:
            self._found += self.parser.feed(next(self._pieces))
        return self._found.pop(0)

    def until_end(self) -> list[dict[str, Any]]:
        """All that is left; the server must end it."""
        found, self._found = self._found, []
        for piece in self._pieces:
            found += self.parser.feed(piece)
        return found

    def close(self) -> None:
        self.answer.close()


@pytest.fixture
def listen(server: Server) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def listen(run_id: str, query: str = "", **headers: str) -> Listener:
            return stack.enter_context(
                contextlib.closing(
                    Listener(server, run_id, query, **{k.replace("_", "-"): v for k, v in headers.items()})
                )
            )

        yield listen


def begin(server: Server, engine: Any) -> str:
    run_id = server.submit()
    engine.claim()
    engine.state(run_id, State.RUNNING, start_time=time.time())
    return run_id


def test_from_first_to_last(server, engine, listen):
    run_id = server.submit()
    stream = listen(run_id)
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert stream.answer.headers["cache-control"] == "no-store"
    assert stream.next() == {"event": "run", "run_id": run_id, "state": "QUEUED"}
    engine.claim()
    engine.state(run_id, State.RUNNING, start_time=time.time())
    event = stream.next()
    assert (event["event"], event["state"]) == ("run", "RUNNING")
    assert event["start_time"]
    engine.task(run_id, 1)
    assert stream.next() == {"event": "task", "id": "t1", "name": "step1", "state": "QUEUED"}
    engine.task(run_id, 1, state=State.RUNNING, node="here")
    assert stream.next() == {"event": "task", "id": "t1", "name": "step1", "state": "RUNNING", "node": "here"}
    engine.task(run_id, 1, state=State.COMPLETE, node="here", exit_code=0, end_time=time.time())
    event = stream.next()
    assert (event["state"], event["exit_code"]) == ("COMPLETE", 0)
    engine.finish(run_id)
    (last,) = stream.until_end()
    assert (last["event"], last["state"], last["exit_code"]) == ("run", "COMPLETE", 0)
    assert stream.parser.last_id == END


def test_a_cancellation_is_told(server, listen):
    run_id = server.submit()
    stream = listen(run_id)
    stream.next()
    server.post(f"/runs/{run_id}/cancel")
    assert [event["state"] for event in stream.until_end()] == ["CANCELED"]


def test_a_run_that_has_ended(server, engine, listen):
    run_id = begin(server, engine)
    engine.task(run_id, 1, state=State.COMPLETE)
    engine.finish(run_id)
    events = listen(run_id).until_end()
    assert [(event["event"], event["state"]) for event in events] == [
        ("task", "COMPLETE"),
        ("run", "COMPLETE"),
    ]


def test_coming_back_tells_what_changed_meanwhile(server, engine, listen):
    run_id = begin(server, engine)
    for number in (1, 2, 3):
        engine.task(run_id, number)
    stream = listen(run_id)
    assert [stream.next().get("id") for _ in range(4)] == [None, "t1", "t2", "t3"]
    stream.close()
    engine.task(run_id, 2, state=State.RUNNING)
    engine.task(run_id, 2, state=State.COMPLETE)
    engine.task(run_id, 4)
    again = listen(run_id, Last_Event_ID=stream.parser.last_id)
    told = [again.next() for _ in range(3)]
    assert [(event.get("id"), event["state"]) for event in told] == [
        (None, "RUNNING"),
        ("t2", "COMPLETE"),
        ("t4", "QUEUED"),
    ]


def test_coming_back_in_the_midst_of_tasks_that_changed_together(server, engine, listen):
    from wes_bridge.store import runs  # noqa: PLC0415

    run_id = begin(server, engine)
    rows = [runs.TaskRow(run_id, f"t{n}", n, f"k{n}", f"s{n}") for n in range(1, 6)]
    with server.database.write() as connection:
        runs.put_tasks(connection, rows)
    stream = listen(run_id)
    for _ in range(6):
        stream.next()
    changed, _, seq = stream.parser.last_id.partition(".")
    assert seq == "5"
    again = listen(run_id, Last_Event_ID=f"{changed}.3")
    assert [again.next().get("id") for _ in range(3)] == [None, "t4", "t5"]


@pytest.mark.parametrize(
    "last", ["", "nonsense", "1", "-1.2", "9999999.1", "99999999999999999999.1", END, "1.2.3"]
)
def test_coming_back_with_an_unknown_id_tells_all_anew(server, engine, listen, last):
    run_id = begin(server, engine)
    engine.task(run_id, 1)
    stream = listen(run_id, Last_Event_ID=last)
    assert [stream.next()["event"] for _ in range(2)] == ["run", "task"]
    engine.task(run_id, 1, state=State.RUNNING)
    assert stream.next()["state"] == "RUNNING"


def test_who_has_the_last_event_is_sent_away(server, engine):
    run_id = begin(server, engine)
    engine.finish(run_id)
    answer = server.get(f"/runs/{run_id}/events", headers={"Last-Event-ID": END})
    assert (answer.status_code, answer.content) == (204, b"")


def test_without_tasks(server, engine, listen):
    run_id = begin(server, engine)
    engine.task(run_id, 1)
    stream = listen(run_id, "?tasks=false")
    stream.next()
    engine.task(run_id, 2)
    engine.finish(run_id)
    assert [event["event"] for event in stream.until_end()] == ["run"]


def test_who_wants_tasks_misses_none_beside_who_does_not(server, engine, listen):
    run_id = begin(server, engine)
    without = listen(run_id, "?tasks=false")
    without.next()
    for number in range(1, 4):  # changes that are looked at while nobody wants to be told of tasks
        engine.task(run_id, number)
    one = listen(run_id)
    assert [one.next().get("id") for _ in range(4)] == [None, "t1", "t2", "t3"]
    engine.task(run_id, 2, state=State.RUNNING)
    told = ("t2", "RUNNING")  # what it has seen already may come again
    assert any((event.get("id"), event["state"]) == told for event in iter(one.next, None))
    another = listen(run_id, "?tasks=false")
    one.close()
    engine.task(run_id, 3, state=State.RUNNING)
    engine.finish(run_id)
    assert [event["event"] for event in without.until_end()] == ["run"]
    assert another.until_end()[-1]["state"] == "COMPLETE"


def test_many_tasks_come_once_each(server, engine, listen):
    from wes_bridge.store import runs  # noqa: PLC0415

    run_id = begin(server, engine)
    rows = [runs.TaskRow(run_id, f"t{n}", n, f"k{n}", f"s{n}") for n in range(1, 2501)]
    with server.database.write() as connection:
        runs.put_tasks(connection, rows[:1500])
    one = listen(run_id)
    for _ in range(1501):
        one.next()
    with server.database.write() as connection:
        runs.put_tasks(connection, rows[1500:])
    engine.finish(run_id)
    for stream, count in ((one, 1000), (listen(run_id), 2500)):
        ids = [event["id"] for event in stream.until_end() if event["event"] == "task"]
        assert ids == [f"t{n}" for n in range(2501 - count, 2501)]


def test_head(server, engine):
    run_id = server.submit()
    answer = server.session.head(f"{server.url}/runs/{run_id}/events", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize("run", ["nope", "A", "x" * 70, "%00"])
def test_an_unknown_run(server, run):
    is_error(server.get(f"/runs/{run}/events"), 404)


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream;q=0", "text/html, image/*"])
def test_who_takes_no_events_is_refused(server, accept):
    run_id = server.submit()
    is_error(server.get(f"/runs/{run_id}/events", headers={"Accept": accept}), 406, "text/event-stream")


@given(st.text(max_size=60))
def test_any_accept_header(text):
    takes_events(text)


@pytest.mark.parametrize("accept", [None, "", "*/*", "text/*", "text/html;q=0.9, Text/Event-Stream ; q=0.1"])
def test_who_takes_events(accept):
    assert takes_events(accept)


@given(st.text(max_size=30))
def test_any_id(text):
    position = position_of(text)
    assert position == Position() or f"{position.changed}.{position.seq}"


def test_bad_requests(server):
    run_id = server.submit()
    is_error(server.get(f"/runs/{run_id}/events?tasks=perhaps"), 400, "tasks")
    is_error(server.post(f"/runs/{run_id}/events"), 405, "GET")


def test_too_many_listeners(tmp_path):
    config = ServiceConfig(state_dir=tmp_path / "state", events=EventsConfig(max_listeners=2))
    for server in start(config):
        run_id = server.submit()
        streams = [Listener(server, run_id) for _ in range(2)]
        for stream in streams:
            stream.next()
        refused = server.get(f"/runs/{run_id}/events")
        is_error(refused, 503, "status")
        assert refused.headers["retry-after"]
        streams[0].close()
        deadline = time.monotonic() + 60
        while server.get(f"/runs/{run_id}/events", stream=True).status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        streams[1].close()


def test_a_slow_listener_holds_up_nobody_and_gets_the_newest(server, engine, listen):
    """It does not read while far more happens than fits into any buffer, then reads."""
    run_id = begin(server, engine)
    slow = socket.create_connection(server.root.removeprefix("http://").split(":"))
    slow.sendall(f"GET {BASE}/runs/{run_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    quick = listen(run_id)
    quick.next()
    name = "n" * 2000
    from wes_bridge.store import runs  # noqa: PLC0415

    for state in (State.QUEUED, State.INITIALIZING, State.RUNNING, State.COMPLETE):
        rows = [runs.TaskRow(run_id, f"t{n}", n, f"k{n}", name, state=state) for n in range(1, 1001)]
        with server.database.write() as connection:
            runs.put_tasks(connection, rows)
        for _ in rows:
            assert quick.next()["state"] == state
    engine.finish(run_id)
    quick.until_end()
    slow.settimeout(30)
    got = bytearray()
    while b"\nid: end\n" not in got[-5000:]:
        piece = slow.recv(1 << 20)
        assert piece
        got += piece
    slow.close()
    last: dict[str, str] = {}
    for line in got.splitlines():
        if line.startswith(b'data: {"id"') and line.endswith(b"}"):
            event = json.loads(line.removeprefix(b"data: "))
            last[event["id"]] = event["state"]
    assert list(last.values()).count("COMPLETE") > 900  # chunk sizes stand in the midst of a few lines


def test_the_client_follows_a_run(server, engine):
    run_id = begin(server, engine)
    engine.task(run_id, 1, node="here")
    with WESClient(server.root) as client:
        assert client.has_events()
        events = client.events(run_id)
        assert next(events)["state"] == "RUNNING"
        assert next(events)["node"] == "here"
        engine.finish(run_id)
        assert [event["state"] for event in events] == ["COMPLETE"]


def test_the_client_waits_by_listening(server, engine):
    run_id = begin(server, engine)
    engine.task(run_id, 1)
    told: list[dict[str, Any]] = []
    with WESClient(server.root) as client:
        ender: list[threading.Thread] = []

        def on_progress(now: dict[str, Any]) -> None:
            told.append(now | {"tasks": len(list(now["tasks"]))} if "tasks" in now else now)
            if now.get("tasks") and not ender:
                ender.append(threading.Thread(target=engine.finish, args=(run_id,)))
                ender[0].start()

        assert client.wait(run_id, timeout=60, on_progress=on_progress) == "COMPLETE"
    assert next(now["tasks"] for now in told if "tasks" in now) == 1
    assert told[-1]["state"] == "COMPLETE"


def test_a_wait_ends_in_time(server, engine):
    run_id = begin(server, engine)
    with WESClient(server.root) as client, pytest.raises(TimeoutError):
        begun = time.monotonic()
        try:
            client.wait(run_id, timeout=1.0)
        finally:
            assert time.monotonic() - begun < 30


def test_a_wait_without_events(server, engine, monkeypatch):
    """Another WES: the run is asked for."""
    run_id = begin(server, engine)
    with WESClient(server.root) as client:
        monkeypatch.setattr(client, "has_events", lambda: False)
        monkeypatch.setattr(client, "_listen", None)
        threading.Timer(1.0, engine.finish, (run_id,)).start()
        assert client.wait(run_id, timeout=60) == "COMPLETE"


@given(st.binary(max_size=200), st.integers(1, 7))
def test_the_parser_takes_any_bytes_in_any_pieces(data, size):
    def parse(pieces):
        parser = Parser()
        try:
            return [event for piece in pieces for event in parser.feed(piece)]
        except Exception as error:
            return type(error)

    assert parse([data]) == parse([data[at : at + size] for at in range(0, len(data), size)])


def test_the_parser_keeps_to_the_standard():
    text = b": hello\r\nretry: 1\n\n"
    text += b'event: run\r\nid: 3\r\ndata: {\ndata:"a": 1}\r\n\r\nevent: x\n\nid\ndata: {}\n\n'
    parser = Parser()
    assert parser.feed(text) == [{"event": "run", "a": 1}, {"event": "message"}]
    assert parser.last_id == ""
