"""Tasks: lists and single ones."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wes_server import is_error

from wes_bridge.model.states import State
from wes_bridge.wes.errors import BadRequestError
from wes_bridge.wes.paging import make_token, page_size, read_token

pytestmark = pytest.mark.database


def test_a_run_without_tasks(server):
    run_id = server.submit()
    assert server.get(f"/runs/{run_id}/tasks").json() == {"task_logs": [], "next_page_token": ""}


def test_a_task_tells_all(server, engine):
    run_id = server.submit()
    now = time.time()
    engine.task(
        run_id,
        1,
        state=State.EXECUTOR_ERROR,
        cmd=["sh", "-c", "exit 3"],
        node="here",
        session_url="https://node.example.org/sessions/1",
        placement={"policy": "earliest", "offers": [{"node": "here", "score": 1}]},
        exit_code=3,
        system_logs=["exit code 3 is none of the tool's success codes"],
        start_time=now,
        end_time=now,
    )
    task = server.get(f"/runs/{run_id}/tasks/t1").json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", task.pop("start_time"))
    assert task.pop("end_time")
    assert task == {
        "id": "t1",
        "name": "step1",
        "cmd": ["sh", "-c", "exit 3"],
        "stdout": f"{server.url}/runs/{run_id}/tasks/t1/stdout",
        "stderr": f"{server.url}/runs/{run_id}/tasks/t1/stderr",
        "exit_code": 3,
        "system_logs": ["exit code 3 is none of the tool's success codes"],
        "state": "EXECUTOR_ERROR",
        "node": "here",
        "session_url": "https://node.example.org/sessions/1",
        "placement": {"policy": "earliest", "offers": [{"node": "here", "score": 1}]},
    }
    assert server.get(f"/runs/{run_id}/tasks").json()["task_logs"][0]["id"] == "t1"


@pytest.mark.parametrize("size", [1, 4, 7, 8])
def test_pages_of_tasks(server, engine, size):
    run_id = server.submit()
    for number in range(7):
        engine.task(run_id, number)
    found, token = [], ""
    while True:
        query = f"page_size={size}" + (f"&page_token={token}" if token else "")
        page = server.get(f"/runs/{run_id}/tasks?{query}").json()
        assert len(page["task_logs"]) <= size
        found += [task["id"] for task in page["task_logs"]]
        token = page["next_page_token"]
        if not token:
            break
    assert found == [f"t{number}" for number in range(7)]


def test_a_token_of_another_run(server, engine):
    one, two = server.submit(), server.submit()
    for number in range(3):
        engine.task(one, number)
    token = server.get(f"/runs/{one}/tasks?page_size=1").json()["next_page_token"]
    is_error(server.get(f"/runs/{two}/tasks?page_token={token}"), 400, "page_token")
    is_error(server.get(f"/runs?page_token={token}"), 400, "page_token")


@pytest.mark.parametrize("task", ["t2", "T1", "%00", "t1%20", "..", "%2e%2e", "x" * 300])
def test_unknown_tasks(server, engine, task):
    run_id = server.submit()
    engine.task(run_id, 1)
    is_error(server.get(f"/runs/{run_id}/tasks/{task}/stdout"), 404)
    if task != "..":  # clients take that segment away themselves
        is_error(server.get(f"/runs/{run_id}/tasks/{task}"), 404)


def test_a_task_belongs_to_its_run(server, engine):
    one, two = server.submit(), server.submit()
    engine.task(one, 1)
    is_error(server.get(f"/runs/{two}/tasks/t1"), 404, "t1")


NUMBERS = st.integers(0, 2**64 - 1)


@given(st.text(max_size=50), NUMBERS, NUMBERS)
def test_tokens_come_back_as_they_were_made(query, newest, last):
    token = make_token(query, newest, last)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", token)
    assert read_token(query, token) == (newest, last)


@given(st.text(max_size=50), st.text(max_size=50), NUMBERS, NUMBERS)
def test_tokens_are_bound_to_their_query(one, other, newest, last):
    if one != other:
        with pytest.raises(BadRequestError):
            read_token(other, make_token(one, newest, last))


@given(st.text(max_size=80))
@example("")
@example("====")
def test_any_other_text_is_no_token(text):
    with pytest.raises(BadRequestError):
        read_token("q", text)


@given(st.integers(0, 29), st.characters(codec="ascii"))
def test_a_changed_token_is_no_token(position, letter):
    token = make_token("q", 5, 3)
    changed = token[:position] + letter + token[position + 1 :]
    if changed != token:
        with pytest.raises(BadRequestError):
            read_token("q", changed)


@given(st.one_of(st.integers().map(str), st.text(max_size=10)))
@example("+5")
@example("5\n")
@example("0x10")
def test_page_sizes(text):
    try:
        size = page_size(text)
    except BadRequestError:
        assert not (text.isascii() and text.isdigit() and 1 <= int(text) <= 1000)
    else:
        assert 1 <= size <= 1000
        assert size == int(text)
