"""Booking over HTTP: slots are offered, reserved, waited for, ended, freed; nodes are drained."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.node.conftest import (
    NodeProcess,
    Request,
    Starter,
    kinds,
    process,
    session_kinds,
    shell,
    texts,
)
from tests.node.test_run import gone
from wes_bridge.model import execution_broker as eb
from wes_bridge.model.units import format_instant, utcnow

HOUR = timedelta(hours=1)


def slots(slot: str = "PT1H", **more: Any) -> dict[str, Any]:
    return {"booking": {"mode": "slots", "slot": slot, **more}, "sandbox": "none"}


def wanted(
    executable: dict[str, Any] | None = None,
    duration: str | None = None,
    start: str | None = None,
    **compute: Any,
) -> Request:
    request = Request(executable or process("true"), **compute)
    asked = {key: value for key, value in (("duration", duration), ("start", start)) if value}
    if asked:
        request.body["schedule"] = {"requested": asked}
    return request


def start_of(session: dict[str, Any]) -> datetime:
    available = session["schedule"]["available"]
    assert session["compute"]["schedule"]["available"] == available
    return datetime.fromisoformat(available["start"].partition("/")[0])


def bookings(node: NodeProcess) -> list[dict[str, Any]]:
    answer = node.http.get(f"{node.url}/bookings")
    assert answer.status_code == 200, answer.text
    return answer.json()


def status(node: NodeProcess) -> dict[str, Any]:
    return node.http.get(f"{node.url}/status").json()


def admin(node: NodeProcess, what: str, body: dict[str, Any] | None = None, **headers: str) -> Any:
    return node.http.post(f"{node.url}/admin/{what}", json=body, headers=headers)


def window(hours: float, width: str = "PT0S") -> str:
    """An interval of starts, from a full hour that is at least so many hours from now."""
    hour = utcnow().replace(minute=0, second=0, microsecond=0) + HOUR
    return f"{format_instant(hour + timedelta(hours=hours))}/{width}"


def beaten_window(offer: dict[str, Any]) -> str:
    """An interval of starts that is just that of an offer."""
    return f"{format_instant(start_of(offer))}/PT0S"


def waiter() -> dict[str, Any]:
    """A command that ends once ``let_go`` was called."""
    return shell("while [ ! -e go ]; do sleep 0.02; done")


def let_go(node: NodeProcess, session: dict[str, Any]) -> None:
    (node.state / "sessions" / session["meta"]["uuid"] / "fs/out/go").touch()


def running(node: NodeProcess, request: Request) -> dict[str, Any]:
    return node.until(node.begin(request), lambda s: s["phase"] == "RUNNING")


@pytest.fixture(scope="module")
def hourly(start_node: Starter) -> NodeProcess:
    """One core, slots of an hour; tests leave it empty."""
    return start_node(cores=1, memory_gib=2, gpus=1, storage_gib=10, **slots())


@pytest.fixture(autouse=True)
def empty_again(request: pytest.FixtureRequest) -> Any:
    yield
    if "hourly" in request.fixturenames:
        node = request.getfixturevalue("hourly")
        for booking in bookings(node):
            node.end(node.update({"meta": {"uuid": booking["session"]}}, "CANCELLED"))


# ---- offers ------------------------------------------------------------------------------------------


def test_offers_are_now_and_the_next_hours(hourly: NodeProcess) -> None:
    before = utcnow() - timedelta(seconds=1)
    offers = hourly.ask(wanted(duration="PT30M"))["offers"]
    first, *others = [start_of(offer) for offer in offers]
    assert before <= first <= utcnow()
    assert len(others) == 3
    assert all(start.timestamp() % 3600 == 0 for start in others)
    assert [b - a for a, b in pairwise(others)] == [HOUR, HOUR]
    assert all(offer["schedule"]["available"]["duration"] == "PT30M" for offer in offers)


@pytest.mark.parametrize("hours", [0, 3])
def test_requested_start_and_duration_are_honoured(hourly: NodeProcess, hours: int) -> None:
    start = window(hours, "PT90M")
    earliest = datetime.fromisoformat(start.partition("/")[0])
    offers = hourly.ask(wanted(duration="PT45M", start=start))["offers"]
    assert [start_of(offer) for offer in offers] == [earliest, earliest + HOUR]
    assert {offer["schedule"]["available"]["duration"] for offer in offers} == {"PT45M"}
    assert offers[0]["schedule"]["requested"] == {"duration": "PT45M", "start": start}


def test_a_window_without_a_slot_is_told_when_slots_start(hourly: NodeProcess) -> None:
    hour = datetime.fromisoformat(window(2).partition("/")[0])
    begin = format_instant(hour + timedelta(minutes=10))
    [reason] = hourly.refused(wanted(duration="PT10M", start=f"{begin}/PT20M"))
    assert reason["kind"] == "urn:wes-bridge:no-slot"
    assert "every PT1H" in reason["message"] and format_instant(hour + HOUR) in reason["message"]


@pytest.mark.parametrize(
    ("duration", "start", "status_code", "said"),
    [
        ("PT0S", None, 400, "positive"),
        ("-PT1H", None, 400, "positive"),
        ("P1M", None, 400, "duration"),
        ("an hour", None, 400, "duration"),
        ("P999999D", None, 400, "longer than"),
        ("PT99999999999999999999H", None, 400, "schedule.requested"),
        ("PT25H", None, 303, "lasts PT24H at most"),
        (None, "2001-01-01T00:00:00Z/PT1H", 303, "is over"),
        (None, "2001-01-01T00:00:00Z", 400, "interval"),
        (None, "2040-01-01T01:00:00Z/2040-01-01T00:00:00Z", 400, "ends before it starts"),
        (None, "2040-01-01T01:00:00Z/-PT1H", 400, "ends before it starts"),
        (None, "PT1H/PT1H", 400, "schedule.requested"),
        (None, "9999-12-31T23:00:00Z/PT30M", 400, "not a time"),
        (None, "0001-01-01T00:00:00+14:00/PT30M", 400, "schedule.requested"),
        (None, "2040-01-01T01:00:00Z/PT1H", 303, "bookings here end before"),
    ],
)
def test_nonsense_about_time(
    hourly: NodeProcess, duration: str | None, start: str | None, status_code: int, said: str
) -> None:
    request = wanted(duration=duration, start=start)
    answer = hourly.http.post(f"{hourly.url}/requests", json=request.body)
    assert answer.status_code == status_code, answer.text
    if status_code == 400:
        assert said in answer.json()["message"]
    else:
        assert answer.json()["result"] == "NO"
        assert said in texts(answer.json())


def test_a_long_time_is_no_trouble_without_a_calendar(plain: NodeProcess) -> None:
    offer = plain.offer(wanted(duration="P36000D"))
    assert offer["schedule"]["available"]["duration"] == "PT864000H"
    assert plain.http.post(f"{plain.url}/requests", json=wanted(duration="P99999D").body).status_code == 400


@pytest.mark.parametrize(
    ("compute", "storage", "kind"),
    [
        ({"cores": {"min": 2}}, None, "urn:resource-limit"),
        ({"gpus": {"min": 2}}, None, "urn:resource-limit"),
        ({}, {"min": 11}, "urn:resource-limit"),
        ({"cores": {"min": 2, "max": 1}}, None, "urn:invalid-value"),
        ({"gpus": {"min": 1, "max": 0}}, None, "urn:invalid-value"),
        ({"cores": {"max": 0}}, None, "urn:invalid-value"),
        ({"cores": {"min": -1}}, None, "urn:invalid-value"),
        ({"memory": {"min": 2, "max": 1}}, None, "urn:invalid-value"),
        ({"memory": {"minBytes": 2**30, "max": 0}}, None, "urn:invalid-value"),
        ({"memory": {"min": -1}}, None, "urn:invalid-value"),
        ({}, {"min": -1}, "urn:invalid-value"),
        ({}, {"min": 3, "max": 2}, "urn:invalid-value"),
    ],
)
def test_amounts_that_cannot_be(
    hourly: NodeProcess, compute: dict[str, Any], storage: dict[str, Any] | None, kind: str
) -> None:
    request = wanted(**compute)
    if storage is not None:
        request.body["storage"] = [{"kind": eb.SIMPLE_STORAGE, "meta": {"name": "s"}, "size": storage}]
    assert kind in kinds(hourly.refused(request))


def test_gpus_and_storage_are_counted(start_node: Starter) -> None:
    node = start_node(gpus=1, storage_gib=10, **slots())
    request = wanted(duration="PT1H", start=window(1), gpus={"min": 1, "max": 4})
    offer = node.offer(request)
    assert offer["compute"]["gpus"] == {"min": 1, "max": 1}
    assert node.update(offer, "ACCEPTED")["phase"] in ("ACCEPTED", "WAITING")
    assert kinds(node.refused(request)) == {"urn:wes-bridge:no-slot"}
    roomy = wanted(duration="PT1H", start=window(1))
    roomy.body["storage"] = [{"kind": eb.SIMPLE_STORAGE, "meta": {"name": "s"}, "size": {"min": 6}}]
    node.begin(roomy)
    assert kinds(node.refused(roomy)) == {"urn:wes-bridge:no-slot"}
    assert {(b["gpus"], b["storage"]) for b in bookings(node)} == {(1, 0), (0, 6 * 2**30)}
    node.begin(wanted(duration="PT1H", start=window(1)))


# ---- accepting ---------------------------------------------------------------------------------------


def test_first_acceptance_wins_and_the_others_are_told_why(hourly: NodeProcess) -> None:
    request = wanted(duration="PT1H", start=window(1, "PT1H"))
    first, second = (hourly.ask(request)["offers"] for _ in range(2))
    assert start_of(first[0]) == start_of(second[0])
    assert hourly.update(first[0], "ACCEPTED")["phase"] in ("ACCEPTED", "WAITING")
    late = hourly.update(second[0], "ACCEPTED")
    assert late["phase"] == "EXPIRED"
    assert "urn:wes-bridge:slot-taken" in session_kinds(late)
    assert "taken by others" in texts(late)
    assert hourly.get(second[1])["phase"] == "OFFERED"
    assert hourly.update(second[1], "ACCEPTED")["phase"] in ("ACCEPTED", "WAITING")
    assert kinds(hourly.refused(request)) == {"urn:wes-bridge:no-slot"}
    listed = bookings(hourly)
    assert [b["session"] for b in listed] == [first[0]["meta"]["uuid"], second[1]["meta"]["uuid"]]
    assert [datetime.fromisoformat(b["start"]) for b in listed] == [start_of(first[0]), start_of(second[1])]
    assert listed[0]["cores"] == 1 and listed[0]["memory"] == 2**30 and listed[0]["phase"] == "WAITING"


@pytest.mark.parametrize("how", ["CANCELLED", "FAILED"])
def test_cancelling_frees(hourly: NodeProcess, how: str) -> None:
    request = wanted(duration="PT1H", start=window(2))
    session = hourly.begin(request)
    hourly.refused(request)
    assert hourly.end(hourly.update(session, how))["phase"] == how
    assert hourly.update(hourly.offer(request), "ACCEPTED")["phase"] in ("ACCEPTED", "WAITING")


def test_offers_hold_nothing_rejected_or_not(hourly: NodeProcess) -> None:
    request = wanted(duration="PT1H", start=window(2))
    offers = [hourly.offer(request) for _ in range(5)]
    assert hourly.update(offers[0], "REJECTED")["phase"] == "REJECTED"
    assert bookings(hourly) == []
    assert hourly.update(offers[1], "ACCEPTED")["phase"] in ("ACCEPTED", "WAITING")


def test_offers_expire_without_a_trace(start_node: Starter) -> None:
    node = start_node(cores=1, offer_lifetime=0.5, **slots())
    request = wanted(duration="PT1H", start=window(2))
    offer = node.offer(request)
    deadline = time.monotonic() + 60
    while node.get(offer)["phase"] != "EXPIRED":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert node.update(offer, "ACCEPTED")["phase"] == "EXPIRED"
    assert bookings(node) == []
    node.offer(request)


def test_rejected_offers_are_forgotten_some_day(start_node: Starter) -> None:
    """They had no end in the database when they were rejected before they were stored."""
    node = start_node(keep_sessions=1.0, **slots())
    first, *others = node.ask(wanted(duration="PT1H", start=window(2, "PT4H")))["offers"]
    node.update(first, "ACCEPTED")
    with sqlite3.connect(f"file:{node.state / 'node.db'}?mode=ro", uri=True) as database:
        deadline = time.monotonic() + 60
        while database.execute("SELECT count(*) FROM sessions").fetchone() != (1,):
            assert time.monotonic() < deadline, f"{len(others)} rejected offers are still there"
            time.sleep(0.1)


# ---- running -----------------------------------------------------------------------------------------


def test_it_waits_for_its_start_and_is_ended_at_its_end(start_node: Starter, nap: str) -> None:
    node = start_node(**slots("PT1S"))
    offer = node.ask(wanted(shell(f"sleep {nap}"), "PT4S"))["offers"][3]
    start = start_of(offer)
    session = node.update(offer, "ACCEPTED")
    session = node.until(session, lambda s: s["phase"] == "RUNNING")
    assert datetime.fromisoformat(session["executable"]["started"]) >= start - timedelta(seconds=0.1)
    ended = node.end(session)
    assert ended["phase"] == "FAILED"
    assert "urn:wes-bridge:booking-ended" in session_kinds(ended)
    assert "end of its booking of PT4S" in texts(ended)
    assert datetime.fromisoformat(ended["executable"]["finished"]) >= start + timedelta(seconds=4)
    assert "exitCode" not in ended["executable"]
    assert gone(nap)
    assert bookings(node) == []


def test_an_early_end_frees_the_rest_for_who_asks_next(hourly: NodeProcess) -> None:
    request = wanted(waiter(), "PT2H")
    blocker = running(hourly, request)
    [booking] = bookings(hourly)
    assert booking["phase"] == "RUNNING"
    assert datetime.fromisoformat(booking["end"]) - datetime.fromisoformat(booking["start"]) == 2 * HOUR
    soon = wanted(duration="PT1H", start=f"{format_instant(utcnow())}/PT30M")
    assert kinds(hourly.refused(soon)) == {"urn:wes-bridge:no-slot"}
    let_go(hourly, blocker)
    assert hourly.end(blocker)["phase"] == "COMPLETED"
    hourly.completed(wanted(duration="PT1H", start=f"{format_instant(utcnow())}/PT30M"))


def test_who_wants_the_earliest_is_advanced_when_room_is_freed(hourly: NodeProcess) -> None:
    blocker = running(hourly, wanted(waiter(), "PT2H"))
    chosen = hourly.update(hourly.ask(wanted(duration="PT10M"))["offers"][1], "ACCEPTED")
    named = hourly.begin(wanted(duration="PT10M", start=window(8)))
    request = wanted(shell("echo early"), "PT10M")
    beaten, *next_best = hourly.ask(request)["offers"]
    hourly.begin(wanted(duration="PT1H", start=beaten_window(beaten)))
    assert hourly.update(beaten, "ACCEPTED")["phase"] == "EXPIRED"
    eager = hourly.update(next_best[0], "ACCEPTED")
    assert start_of(eager) > utcnow() + HOUR
    assert eager["advance"] is True
    assert "advance" not in chosen and "advance" not in named
    let_go(hourly, blocker)
    ended = hourly.end(eager)
    assert ended["phase"] == "COMPLETED"
    assert "urn:wes-bridge:advanced" in session_kinds(ended)
    assert start_of(ended) <= utcnow()
    assert hourly.get(chosen)["phase"] == hourly.get(named)["phase"] == "WAITING"


def test_nobody_is_advanced_where_that_is_not_wanted(start_node: Starter) -> None:
    node = start_node(cores=1, **slots(advance=False))
    blocker = running(node, wanted(waiter(), "PT2H"))
    later = node.begin(wanted(duration="PT10M"))
    let_go(node, blocker)
    node.end(blocker)
    node.completed(wanted(duration="PT1M"))
    assert node.get(later)["phase"] == "WAITING"


def test_bookings_are_listed_without_a_calendar_too(plain: NodeProcess) -> None:
    session = running(plain, wanted(waiter(), "PT1H", cores={"min": 2}))
    [booking] = [b for b in bookings(plain) if b["session"] == session["meta"]["uuid"]]
    assert booking["start"] == session["executable"]["started"]
    assert booking["cores"] == 2
    assert status(plain)["used"]["cores"] == 2
    assert status(plain)["booking"] == {"mode": "queue"}
    let_go(plain, session)
    plain.end(session)
    assert session["meta"]["uuid"] not in {b["session"] for b in bookings(plain)}


# ---- restart -----------------------------------------------------------------------------------------


def test_bookings_survive_a_kill(start_node: Starter) -> None:
    node = start_node("--log-level=warning", cores=1, **slots())
    request = wanted(duration="PT1H", start=window(2))
    spare = node.ask(request)["offers"][0]
    node.wait_stored("sessions", spare)
    booked = node.begin(request)
    runs = running(node, wanted(waiter(), "PT1H"))
    before = bookings(node)
    assert len(before) == 2
    node.kill()
    node.start()
    node.until(runs, lambda s: s["phase"] == "RUNNING")
    node.until(booked, lambda s: s["phase"] == "WAITING")
    assert bookings(node) == before
    node.refused(request)
    assert node.update(spare, "ACCEPTED")["phase"] == "EXPIRED"
    node.end(node.update(booked, "CANCELLED"))
    node.offer(request)
    let_go(node, runs)
    assert node.end(runs)["phase"] == "COMPLETED"


@pytest.mark.slow
def test_an_end_is_enforced_after_a_restart(start_node: Starter, nap: str) -> None:
    node = start_node("--log-level=warning", cores=2, **slots("PT1S", offers=12))
    runs = running(node, wanted(shell(f"sleep {nap}"), "PT8S"))
    never = node.update(node.ask(wanted(shell("echo never"), "PT1S"))["offers"][9], "ACCEPTED")
    node.kill()
    over = max(start_of(runs) + timedelta(seconds=8), start_of(never) + timedelta(seconds=1))
    time.sleep(max(0.0, (over - utcnow()).total_seconds()))
    node.start()
    ended = node.end(runs)
    assert "urn:wes-bridge:booking-ended" in session_kinds(ended)
    assert gone(nap)
    ended = node.end(never)
    assert ended["phase"] == "FAILED"
    assert "before the command could start" in texts(ended)
    assert node.stream(ended) == ""


# ---- drain -------------------------------------------------------------------------------------------


def test_drain_and_open(start_node: Starter) -> None:
    node = start_node("--log-level=warning", cores=2, **slots())
    runs = running(node, wanted(waiter(), "PT1H"))
    booked = node.begin(wanted(duration="PT1H", start=window(1)))
    offer, spare = (node.ask(wanted(duration="PT1H", start=window(3)))["offers"][0] for _ in range(2))
    node.wait_stored("sessions", spare)
    assert status(node)["state"] == "open"
    drained = admin(node, "drain")
    assert drained.status_code == 200, drained.text
    assert drained.json()["state"] == "draining" and drained.json()["cancelled"] == 0
    [reason] = node.refused(wanted())
    assert reason["kind"] == "urn:wes-bridge:draining" and "drained" in reason["message"]
    refused = node.update(offer, "ACCEPTED")
    assert refused["phase"] == "EXPIRED" and "urn:wes-bridge:draining" in session_kinds(refused)
    direct = node.http.post(f"{node.url}/direct", json=wanted().body)
    assert direct.status_code == 400 and "drained" in direct.text
    node.kill()
    node.start()
    assert status(node)["state"] == "draining"
    assert node.http.get(f"{node.url}/health").json()["draining"] is True
    node.refused(wanted())
    node.until(runs, lambda s: s["phase"] == "RUNNING")
    let_go(node, runs)
    assert node.end(runs)["phase"] == "COMPLETED"
    assert node.get(booked)["phase"] == "WAITING"
    assert admin(node, "open").json()["state"] == "open"
    assert node.update(spare, "ACCEPTED")["phase"] in ("ACCEPTED", "WAITING")
    node.completed(wanted(duration="PT1M"))
    node.kill()
    node.start()
    assert status(node)["state"] == "open"


def test_drain_can_cancel_what_has_not_begun(start_node: Starter) -> None:
    node = start_node(cores=1, **slots())
    runs = running(node, wanted(waiter(), "PT1H"))
    booked = [node.begin(wanted(duration="PT1H", start=window(hours))) for hours in (2, 4)]
    assert admin(node, "drain", {"cancelBooked": True}).json()["cancelled"] == 2
    for session in booked:
        ended = node.end(session)
        assert ended["phase"] == "CANCELLED"
        assert "being drained" in texts(ended)
    assert node.get(runs)["phase"] == "RUNNING"
    assert [b["session"] for b in bookings(node)] == [runs["meta"]["uuid"]]
    let_go(node, runs)
    assert node.end(runs)["phase"] == "COMPLETED"


def test_only_administrators_may_drain(start_node: Starter, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret of a service\n")
    node = start_node(**slots(), authentication={"services": [{"name": "wes", "file": str(key)}]})
    service = {"Authorization": "Bearer secret of a service"}
    for what in ("drain", "open"):
        answer = admin(node, what, {}, **service)
        assert answer.status_code == 403
        assert "administrators" in answer.json()["message"]
    assert status(node)["state"] == "open"
    node.begin(wanted(duration="PT1H", start=window(1)))
    [near] = bookings(node)
    [far] = node.http.get(f"{node.url}/bookings", headers=service).json()
    assert near == {**far, "session": near["session"]}
    assert "session" not in far and far["cores"] == 1


def test_bad_drains(hourly: NodeProcess) -> None:
    assert admin(hourly, "drain", {"cancelBoked": True}).status_code == 400
    for nonsense in ("perhaps", "true", 0, None, []):
        assert admin(hourly, "drain", {"cancelBooked": nonsense}).status_code == 400
    assert admin(hourly, "drain", []).status_code == 400  # type: ignore[arg-type]
    assert status(hourly)["state"] == "open"


# ---- load --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_acceptances_of_a_hundred_places(start_node: Starter) -> None:
    node = start_node(cores=100, memory_gib=1000, **slots())
    body = wanted(duration="PT1H", start=window(1)).body
    accept = eb.dump(eb.phase_update(eb.Phase.ACCEPTED))

    async def go() -> list[dict[str, Any]]:
        timeout = aiohttp.ClientTimeout(total=240)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000), timeout=timeout) as http:
            gate, together = asyncio.Semaphore(50), asyncio.Event()

            async def ask() -> str:
                async with (
                    gate,
                    http.post(f"{node.url}/requests", json=body, allow_redirects=False) as answer,
                ):
                    [offer] = (await answer.json())["offers"]
                    return str(offer["meta"]["url"])

            async def take(url: str) -> dict[str, Any]:
                await together.wait()
                async with http.post(url, json=accept) as answer:
                    assert answer.status == 200
                    return await answer.json()

            urls = await asyncio.gather(*(ask() for _ in range(1000)))
            taking = [asyncio.ensure_future(take(url)) for url in urls]
            together.set()
            return await asyncio.gather(*taking)

    sessions = asyncio.run(go())
    won = [session for session in sessions if session["phase"] in ("ACCEPTED", "WAITING")]
    lost = [session for session in sessions if session["phase"] == "EXPIRED"]
    assert (len(won), len(lost)) == (100, 900)
    assert all("urn:wes-bridge:slot-taken" in session_kinds(session) for session in lost)
    assert {b["session"] for b in bookings(node)} == {s["meta"]["uuid"] for s in won}


def test_races_for_one_place_have_one_winner(hourly: NodeProcess) -> None:
    request = wanted(duration="PT1H", start=window(5))
    offers = [hourly.offer(request) for _ in range(8)]
    answers: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda o=offer: answers.append(hourly.update(o, "ACCEPTED")))
        for offer in offers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a["phase"] == "EXPIRED" for a in answers) == [False] + [True] * 7


def test_a_failed_session_frees_its_place(hourly: NodeProcess) -> None:
    failed = hourly.run(wanted(shell("exit 3"), "PT1H"))
    assert failed["phase"] == "FAILED"
    assert bookings(hourly) == []
