"""A node that is killed finds everything again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import psutil
import pytest

from tests.node.conftest import (
    REPOSITORY,
    NodeProcess,
    Request,
    Starter,
    process,
    session_kinds,
    shell,
    texts,
)
from tests.node.test_run import alive, gone


@pytest.fixture(params=["auto", "none"])
def fresh(request: pytest.FixtureRequest, start_node: Starter) -> NodeProcess:
    return start_node("--log-level=warning", sandbox=request.param)


def running(node: NodeProcess, request: Request) -> dict:
    return node.until(node.begin(request), lambda s: s["phase"] == "RUNNING")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_running_sessions_go_on(fresh: NodeProcess, tmp_path: Path, how: int) -> None:
    script = "echo before; while [ ! -e go ]; do sleep 0.02; done; echo after; exit 7"
    first = running(fresh, Request(shell(script)).output(tmp_path / "out"))
    wait = "while [ ! -e go ]; do sleep 0.02; done; sleep 0.5; echo late"
    second = running(fresh, Request(shell(wait)).output(tmp_path / "late"))
    code = fresh.kill(how)
    assert how == signal.SIGKILL or code == 0
    (fresh.state / "sessions" / second["meta"]["uuid"] / "fs/out/go").touch()
    fresh.start()
    now = fresh.until(first, lambda s: s["phase"] == "RUNNING")
    then = datetime.fromisoformat(first["executable"]["started"])
    assert abs(datetime.fromisoformat(now["executable"]["started"]) - then) < timedelta(seconds=1)
    assert "urn:wes-bridge:restarted" in session_kinds(now)
    (fresh.state / "sessions" / first["meta"]["uuid"] / "fs/out/go").touch()
    ended = fresh.end(first)
    assert ended["phase"] == "FAILED"
    assert ended["executable"]["exitCode"] == 7
    assert fresh.stream(ended) == "before\nafter\n"
    assert (tmp_path / "out/go").exists()
    assert fresh.end(second)["phase"] == "COMPLETED"
    assert fresh.stream(second) == "late\n"


def test_what_ended_meanwhile_is_found_ended(fresh: NodeProcess, tmp_path: Path) -> None:
    wait = "while [ ! -e go ]; do sleep 0.02; done;"
    good = running(fresh, Request(shell(f"{wait} echo x > x")).output(tmp_path / "out"))
    bad = running(fresh, Request(shell(f"{wait} exit 9")))
    fresh.kill()
    for session in (good, bad):
        folder = fresh.state / "sessions" / session["meta"]["uuid"]
        (folder / "fs/out/go").touch()
        while len((folder / "command").read_text().splitlines()) < 2:
            time.sleep(0.02)
    ended = time.time()
    time.sleep(1.5)
    fresh.start()
    completed = fresh.end(good)
    assert completed["phase"] == "COMPLETED"
    finished = datetime.fromisoformat(completed["executable"]["finished"]).timestamp()
    assert abs(finished - ended) < 1.0  # when it ended, not when the node was back
    assert (tmp_path / "out/x").read_text() == "x\n"
    assert fresh.end(bad)["executable"]["exitCode"] == 9


def keeper_of(node: NodeProcess) -> psutil.Process:
    found = psutil.process_iter(["cmdline"])
    (keeper,) = [one for one in found if (one.info["cmdline"] or [""])[-1] == str(node.state.resolve())]
    return keeper


def test_lost_processes_are_told(fresh: NodeProcess, nap: str) -> None:
    session = running(fresh, Request(shell(f"sleep {nap}")))
    fresh.kill()
    keeper_of(fresh).kill()
    fresh.start()
    ended = fresh.end(session)
    assert ended["phase"] == "FAILED"
    assert "urn:wes-bridge:process-lost" in session_kinds(ended)
    assert "exitCode" not in ended["executable"]
    assert gone(nap)


def test_a_command_killed_while_the_node_is_away(fresh: NodeProcess, nap: str) -> None:
    session = running(fresh, Request(shell(f"sleep {nap}")))
    fresh.kill()
    for pid in alive(nap):
        os.kill(pid, signal.SIGKILL)
    fresh.start()
    assert fresh.end(session)["executable"]["exitCode"] == 128 + signal.SIGKILL


def test_a_keeper_that_is_killed(fresh: NodeProcess, nap: str) -> None:
    """What it watched is told to be lost, and is not left running; what comes then has another keeper."""
    session = running(fresh, Request(shell(f"sleep {nap} & sleep {nap}")))
    keeper = keeper_of(fresh)
    keeper.kill()
    ended = fresh.end(session)
    assert ended["phase"] == "FAILED"
    assert "urn:wes-bridge:process-lost" in session_kinds(ended)
    assert gone(nap)
    assert fresh.stream(fresh.completed(Request(shell("echo on")))) == "on\n"
    assert keeper_of(fresh).pid != keeper.pid


def test_a_keeper_stays_as_long_as_it_is_needed(start_node: Starter) -> None:
    node = start_node("--log-level=warning")
    session = running(node, Request(shell("while [ ! -e go ]; do sleep 0.02; done")))
    keeper = keeper_of(node)
    node.kill()
    (node.state / "sessions" / session["meta"]["uuid"] / "fs/out/go").touch()
    assert keeper.wait(60) is None
    node.start()
    assert node.end(session)["phase"] == "COMPLETED"
    again = keeper_of(node)
    node.kill(signal.SIGTERM)
    assert again.wait(60) is None


def test_cancel_after_restart(fresh: NodeProcess, nap: str) -> None:
    session = running(fresh, Request(shell(f"sleep {nap} & sleep {nap}")))
    fresh.kill()
    fresh.start()
    fresh.update(session, "CANCELLED")
    assert fresh.end(session)["phase"] == "CANCELLED"
    assert not alive(nap)


def test_cancel_survives_a_kill(fresh: NodeProcess, nap: str) -> None:
    session = running(fresh, Request(shell(f"trap '' TERM; sleep {nap}; sleep {nap}")))
    fresh.update(session, "CANCELLED")
    fresh.kill()
    fresh.start()
    assert fresh.end(session)["phase"] == "CANCELLED"
    assert gone(nap)


def test_time_limit_after_restart(fresh: NodeProcess, nap: str) -> None:
    session = running(fresh, Request(shell(f"sleep {nap}", timeLimit=10)))
    fresh.kill()
    time.sleep(1)
    fresh.start()
    ended = fresh.end(session, 60)
    assert "urn:wes-bridge:time-limit" in session_kinds(ended)
    assert gone(nap)


def test_offers_and_waiting_sessions_survive(start_node: Starter) -> None:
    node = start_node("--log-level=warning", cores=1, offer_lifetime=60)
    blocker = running(node, Request(shell("sleep 10")))
    waiting = [node.begin(Request(shell(f"echo {number}"))) for number in range(3)]
    offer = node.offer(Request(shell("echo offered")))
    answered = node.ask(Request(None))
    node.wait_stored("sessions", offer)
    node.wait_stored("offersets", answered)
    node.kill()
    node.start()
    assert node.http.get(f"{node.url}/offersets/{answered['meta']['uuid']}").json()["result"] == "NO"
    assert node.get(offer)["phase"] == "OFFERED"
    assert node.update(offer, "ACCEPTED")["phase"] == "ACCEPTED"
    assert node.end(blocker)["phase"] == "COMPLETED"
    for number, session in enumerate(waiting):
        assert node.end(session)["phase"] == "COMPLETED"
        assert node.stream(session) == f"{number}\n"
    assert node.stream(node.end(offer)) == "offered\n"


def test_offers_expire_while_the_node_is_away(start_node: Starter) -> None:
    node = start_node("--log-level=warning", offer_lifetime=1.0)
    offer = node.offer(Request(process("true")))
    node.wait_stored("sessions", offer)  # one lost to a kill before that is asked for again
    node.kill()
    time.sleep(1.1)
    node.start()
    assert node.get(offer)["phase"] == "EXPIRED"
    assert "EXPIRED" in texts(node.update(offer, "ACCEPTED"))


def test_a_node_that_is_stopped_keeps_its_newest_offers(start_node: Starter) -> None:
    node = start_node("--log-level=warning")
    offer = node.offer(Request(process("true")))
    node.kill(signal.SIGTERM)
    node.start()
    assert node.get(offer)["phase"] == "OFFERED"


def test_ended_sessions_can_be_read_after_a_restart(start_node: Starter) -> None:
    node = start_node("--log-level=warning")
    session = node.completed(Request(shell("echo kept")))
    time.sleep(0.3)
    node.kill(signal.SIGTERM)
    node.start()
    again = node.get(session)
    assert again["phase"] == "COMPLETED"
    assert again["meta"]["url"] == node.at(session)
    assert node.stream(session) == "kept\n"


def test_long_poll_is_let_go_when_the_node_stops(start_node: Starter) -> None:
    node = start_node("--log-level=warning")
    session = running(node, Request(shell("sleep 100")))
    answers = []

    def poll() -> None:
        answers.append(httpx.get(node.at(session), headers={"Prefer": "wait=60"}, timeout=100).status_code)

    thread = threading.Thread(target=poll)
    thread.start()
    time.sleep(0.5)
    start = time.monotonic()
    node.kill(signal.SIGTERM)
    thread.join(60)
    assert time.monotonic() - start < 50
    assert answers == [200]
    node.start()
    node.update(session, "CANCELLED")
    node.end(session)


def test_sessions_end_with_an_embedded_node(start_node: Starter, nap: str) -> None:
    node = start_node("--end-sessions-on-exit")
    session = running(node, Request(shell(f"sleep {nap}")))
    node.kill(signal.SIGTERM)
    assert gone(nap)
    node.start()
    assert node.get(session)["phase"] == "CANCELLED"


def test_exit_with_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "wes_bridge.node.main", "--state-dir", str(tmp_path)]
    node = subprocess.Popen(
        [*command, "--exit-with-parent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
    )
    assert b"is ready at" in node.stdout.readline()
    node.stdin.close()
    assert node.wait(60) == 0


def test_old_sessions_are_forgotten(start_node: Starter) -> None:
    node = start_node("--log-level=warning", keep_sessions=1.0)
    session = node.completed(Request(shell("echo x")))
    folder = node.state / "sessions" / session["meta"]["uuid"]
    deadline = time.monotonic() + 60
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    node.kill(signal.SIGTERM)
    node.start()
    assert node.http.get(node.at(session)).status_code == 404


def test_what_a_forgotten_session_left_is_removed(fresh: NodeProcess, tmp_path: Path) -> None:
    session = running(fresh, Request(shell("sleep 60")).output(tmp_path / "out"))
    stray = fresh.state / "sessions" / "00000000-0000-4000-8000-000000000000"
    stray.mkdir()
    (stray / "stdout").touch()
    fresh.kill(signal.SIGKILL)
    fresh.start()
    assert not stray.exists()
    assert (fresh.state / "sessions" / session["meta"]["uuid"]).is_dir()
