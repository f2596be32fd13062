"""Webhooks: what a run may ask for, and a deliverer at work on a real database with a real receiver."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.conftest import NewDatabase
from wes_bridge.config import EventsConfig, FetchConfig, ServiceConfig
from wes_bridge.model.states import State
from wes_bridge.model.webhooks import WebhookError, hide_secret, read_webhook, signature
from wes_bridge.notify import deliverer as deliverer_module
from wes_bridge.notify.deliverer import Deliverer, delay
from wes_bridge.store import webhooks as webhooks_module
from wes_bridge.store.database import Database, clock
from wes_bridge.store.runs import NewRun, claim_runs, create_run, delete_run, request_cancel, set_run_state
from wes_bridge.store.tables import SERVICE, deliveries, webhooks
from wes_bridge.store.webhooks import (
    Webhook,
    bring_forward,
    claim_deliveries,
    create_webhook,
    end_delivery,
    postpone_delivery,
)
from wes_bridge.store.writer import Writer

pytestmark = pytest.mark.database
SECRET = "a secret of some length"
LOCAL = ["127.0.0.0/8"]


class Receiver:
    """Answers with the codes given, then 204; ``got`` has headers and body of each call."""

    def __init__(self, *answers: int, hang: threading.Event | None = None) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        left = list(answers)
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                got.append(({name.lower(): text for name, text in self.headers.items()}, body))
                if hang is not None:
                    hang.wait(60)
                self.send_response(left.pop(0) if left else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?token=hidden"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class House:
    """A database with runs, and what a worker has around a deliverer."""

    def __init__(self, folder: Path, url: str | None) -> None:
        self.folder = folder
        self.database = Database(url or f"sqlite:///{folder}/test.db", SERVICE)
        self.said: list[str] = []

    def run(self, name: str, url: str, *states: State, secret: str | None = SECRET) -> None:
        with self.database.write() as connection:
            create_run(connection, NewRun(name, "local", {}, {"k": "v"}, "w.cwl"))
            create_webhook(connection, name, Webhook(url, secret, states, "http://wes/ga4gh/wes/v1"))
            claim_runs(connection, "one", 60, 100, time.time())

    def state(self, name: str, state: State, **values: Any) -> None:
        with self.database.write() as connection:
            set_run_state(connection, name, 1, state, **values)

    def rows(self, table: Any) -> int:
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(table)).scalar_one())

    def config(self, hosts: list[str] = LOCAL, **events: Any) -> ServiceConfig:
        return ServiceConfig(
            state_dir=self.folder, fetch=FetchConfig(private_hosts=hosts), events=EventsConfig(**events)
        )

    def deliver(self, until: Callable[[], bool], config: ServiceConfig | None = None, count: int = 1) -> None:
        async def go() -> None:
            writer = Writer(self.database)
            made = [
                Deliverer(
                    config or self.config(), self.database, writer, lambda _run, text: self.said.append(text)
                )
                for _ in range(count)
            ]
            tasks = [asyncio.create_task(one.work()) for one in made]
            async with asyncio.timeout(60):
                while not until():  # noqa: ASYNC110 - what is waited for is in the database
                    await asyncio.sleep(0.01)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            writer.close()

        asyncio.run(go())

    def is_idle(self) -> bool:
        return not self.rows(deliveries)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: NewDatabase) -> House:
    monkeypatch.setattr(deliverer_module, "POLL", 0.01)
    monkeypatch.setattr(deliverer_module, "FIRST_DELAY", 0.02)
    return House(tmp_path, new_database())


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


def told(receiver: Receiver) -> list[str]:
    return [json.loads(body)["state"] for _, body in receiver.got]


def test_the_end_is_told_and_signed(house: House, receiver: Receiver) -> None:
    house.run("r", receiver.url)
    house.state("r", State.RUNNING, start_time=1.0)
    path = house.config().workspace_dir / "r" / "outputs" / "a b.txt"
    output = {"class": "File", "location": f"file://{path}", "path": str(path)}
    house.state("r", State.COMPLETE, end_time=3.0, exit_code=0, outputs={"o": output})
    house.deliver(house.is_idle)
    ((headers, body),) = receiver.got
    assert json.loads(body) | {"time": ""} == {
        "type": "run.state",
        "run_id": "r",
        "state": "COMPLETE",
        "time": "",
        "run_url": "http://wes/ga4gh/wes/v1/runs/r",
        "workflow_name": "w.cwl",
        "tags": {"k": "v"},
        "start_time": "1970-01-01T00:00:01Z",
        "end_time": "1970-01-01T00:00:03Z",
        "exit_code": 0,
        "system_logs": [],
        "outputs": {
            "o": {
                "class": "File",
                "location": "http://wes/ga4gh/wes/v1/runs/r/files/outputs/a%20b.txt",
            }
        },
    }
    stamp = int(headers["webhook-timestamp"])
    assert abs(stamp - time.time()) < 120
    assert headers["webhook-signature"] == signature(SECRET, "r.complete", stamp, body)
    assert headers["webhook-id"] == "r.complete"
    assert house.rows(deliveries) == 0


def test_states_asked_for_come_in_order(house: House, receiver: Receiver) -> None:
    house.run("r", receiver.url, State.RUNNING, State.CANCELING, secret=None)
    for state in (State.INITIALIZING, State.RUNNING):
        house.state("r", state)
    with house.database.write() as connection:
        request_cancel(connection, "r")
        request_cancel(connection, "r")
    house.state("r", State.CANCELED)
    house.deliver(house.is_idle, count=3)
    assert told(receiver) == ["RUNNING", "CANCELING", "CANCELED"]
    assert "webhook-signature" not in receiver.got[0][0]


def test_a_receiver_that_fails_is_tried_again_with_the_same_message(house: House) -> None:
    receiver = Receiver(500, 302, 404)
    house.run("r", receiver.url)
    house.state("r", State.EXECUTOR_ERROR, exit_code=1)
    house.deliver(house.is_idle)
    receiver.close()
    assert len(receiver.got) == 4  # a redirect is not followed
    assert len({(headers["webhook-id"], body) for headers, body in receiver.got}) == 1
    assert house.said == ["webhook: EXECUTOR_ERROR: 127.0.0.1 answered 500; it is tried again"]


@pytest.mark.parametrize("running", [False, True], ids=["nobody-looks", "while-it-runs"])
def test_a_clock_that_is_set_back_makes_nobody_wait(
    house: House, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    """Not for what was postponed, nor for what a deliverer that died had claimed, nor for new news."""
    offset = 3600.0
    for module in (webhooks_module, deliverer_module):
        monkeypatch.setattr(module, "clock", lambda connection: clock(connection) + offset)
    receiver = Receiver(500, 500)
    for name in ("new", "postponed"):
        house.run(name, receiver.url)
        house.state(name, State.COMPLETE)

    def until() -> bool:
        nonlocal offset
        if running and len(receiver.got) == 2:
            offset = 0.0
        return house.is_idle()

    if not running:
        with house.database.write() as connection:
            now = clock(connection) + offset
            (one, _) = claim_deliveries(connection, now, 30, 10)
            postpone_delivery(connection, one.seq, one.attempts, now + 2)
        offset = 0.0
    begun = time.monotonic()
    house.deliver(until, house.config(webhook_timeout=0.1) if running else None)
    receiver.close()
    assert time.monotonic() - begun < 300
    assert len(receiver.got) == 4


def test_clocks_that_keep_time_bring_nothing_forward(house: House) -> None:
    """What another has claimed is left to it, and what was postponed waits."""
    house.run("claimed", "http://127.0.0.1:9/")
    house.state("claimed", State.COMPLETE)
    now = time.time() + 1
    with house.database.write() as connection:
        (row,) = claim_deliveries(connection, now, 50, 1)
        assert bring_forward(connection, now, lambda attempts: 50.0 if attempts else 0.0) == 0
        postpone_delivery(connection, row.seq, row.attempts, now + delay(1, 0.5))
        assert bring_forward(connection, now, lambda attempts: delay(attempts, 1.0)) == 0
        assert bring_forward(connection, now - 100, lambda attempts: delay(attempts, 1.0)) == 1


def test_news_overtakes_what_could_not_be_told(house: House) -> None:
    receiver = Receiver(500)
    house.run("r", receiver.url, State.RUNNING)
    house.state("r", State.RUNNING)
    house.state("r", State.COMPLETE)
    house.deliver(house.is_idle)
    receiver.close()
    assert told(receiver) == ["RUNNING", "COMPLETE"]


def test_a_receiver_that_fails_for_ever_is_given_up(house: House) -> None:
    receiver = Receiver(*[500] * 10_000)
    house.run("r", receiver.url)
    house.state("r", State.COMPLETE)
    house.deliver(house.is_idle, house.config(webhook_give_up=1))
    receiver.close()
    assert house.rows(deliveries) == 0
    assert "was not delivered: 127.0.0.1 answered 500" in house.said[-1]
    assert "hidden" not in " ".join(house.said)


def test_a_receiver_that_is_gone_for_good(house: House) -> None:
    receiver = Receiver(410)
    house.run("r", receiver.url)
    house.state("r", State.COMPLETE)
    house.deliver(house.is_idle)
    receiver.close()
    assert len(receiver.got) == 1


def test_a_receiver_that_hangs_holds_up_nobody(house: House, receiver: Receiver) -> None:
    gate = threading.Event()
    hanging = Receiver(hang=gate)
    for number in range(12):
        house.run(f"h{number}", hanging.url)
        house.state(f"h{number}", State.COMPLETE)
    house.run("r", receiver.url)
    house.state("r", State.COMPLETE)
    house.deliver(lambda: bool(receiver.got), house.config(webhook_timeout=30))
    gate.set()
    hanging.close()


def test_a_receiver_that_does_not_answer_in_time(house: House) -> None:
    gate = threading.Event()
    hanging = Receiver(hang=gate)
    house.run("r", hanging.url)
    house.state("r", State.COMPLETE)
    house.deliver(lambda: bool(house.said), house.config(webhook_timeout=0.2))
    gate.set()
    hanging.close()
    assert "did not answer in time" in house.said[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0"])
def test_private_hosts_are_never_contacted(house: House, receiver: Receiver, host: str) -> None:
    house.run("r", receiver.url.replace("127.0.0.1", host))
    house.state("r", State.COMPLETE)
    house.deliver(house.is_idle, house.config(hosts=[]))
    assert receiver.got == []
    assert "private address" in house.said[-1]


def test_a_claim_is_held_by_one_and_comes_free_again(house: House) -> None:
    house.run("r", "http://127.0.0.1:9/")
    house.state("r", State.COMPLETE)
    now = time.time() + 1
    with house.database.write() as connection:
        (one,) = claim_deliveries(connection, now, 30, 10)
        assert claim_deliveries(connection, now + 29, 30, 10) == []
        (two,) = claim_deliveries(connection, now + 31, 30, 10)
        end_delivery(
            connection, one.seq, one.attempts, "r", is_last=True
        )  # it was too slow: not its any more
        postpone_delivery(connection, one.seq, one.attempts, now)
        assert claim_deliveries(connection, now + 32, 30, 10) == []
        end_delivery(connection, two.seq, two.attempts, "r", is_last=True)
    assert house.rows(deliveries) == 0


def test_a_deleted_run_takes_its_deliveries_along(house: House) -> None:
    house.run("r", "http://127.0.0.1:9/")
    house.state("r", State.COMPLETE)
    with house.database.write() as connection:
        delete_run(connection, "r")
    assert house.rows(deliveries) == house.rows(webhooks) == 0


def test_huge_outputs_are_left_out(house: House, receiver: Receiver) -> None:
    house.run("r", receiver.url)
    house.state("r", State.COMPLETE, outputs={"o": "x" * 300_000})
    house.deliver(house.is_idle)
    body = json.loads(receiver.got[0][1])
    assert (body["outputs"], body["truncated"]) == (None, True)


@given(st.integers(1, 10_000), st.floats(0, 0.999))
def test_delays_grow_to_a_limit(attempts: int, draw: float) -> None:
    assert 0 < delay(attempts, draw) <= 1.2 * 3600


# ---- what may be asked for ---------------------------------------------------------------------------

URL = "https://example.org/hook"


@pytest.mark.parametrize(
    "parameters",
    [
        {"webhook": "ftp://example.org/"},
        {"webhook": "example.org"},
        {"webhook": "http://"},
        {"webhook": "http://u:p@example.org/"},
        {"webhook": "http://example.org:99999/"},
        {"webhook": "http://[::1/"},
        {"webhook": "http://exa mple.org/"},
        {"webhook": "http://example.org/\r\nX: y"},
        {"webhook": "http://example.org/#part"},
        {"webhook": "http://example.org/" + "x" * 3000},
        {"webhook": URL, "webhook_secret": "short"},
        {"webhook": URL, "webhook_secret": "x" * 1_000_000},
        {"webhook": URL, "webhook_secret": "whsec_not base64 at all"},
        {"webhook": URL, "webhook_secret": "nul" * 10 + "\0"},
        {"webhook": URL, "webhook_states": "RUNING"},
        {"webhook_secret": SECRET},
        {"webhook_url": URL},
    ],
)
def test_bad_parameters_are_refused_without_showing_the_secret(parameters: dict[str, str]) -> None:
    with pytest.raises(WebhookError, match="webhook") as refused:
        read_webhook(parameters)
    assert parameters.get("webhook_secret", "?none?") not in str(refused.value)


@given(st.dictionaries(st.sampled_from(["webhook", "webhook_secret", "webhook_states"]), st.text()))
def test_any_parameters_are_taken_or_refused(parameters: dict[str, str]) -> None:
    try:
        found = read_webhook(parameters)
    except WebhookError:
        return
    assert (found is None) == (not any(parameters.values()))


def test_good_parameters() -> None:
    assert read_webhook({"policy": "cheapest", "webhook": ""}) is None
    found = read_webhook({"webhook": URL, "webhook_secret": SECRET, "webhook_states": "RUNNING, COMPLETE"})
    assert found is not None
    assert (found.url, found.secret, found.states) == (URL, SECRET, (State.RUNNING,))
    assert hide_secret({"webhook_secret": SECRET, "a": "b"}) == {"webhook_secret": "***", "a": "b"}
