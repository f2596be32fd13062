"""Runs belong to whoever submitted them: nobody else sees or touches them, unless a group is let in."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from wes_server import Engine, Server, is_error, start

from tests.auth.callers import believing, header
from tests.conftest import NewDatabase
from wes_bridge.config import ServiceConfig
from wes_bridge.model.states import State

CANARY = b"the canary of alice"


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Server]:
    """A server that several people use."""
    folder = tmp_path_factory.mktemp("owners")
    yield from start(ServiceConfig(state_dir=folder / "state", database=new_database()), believing)


@pytest.fixture(scope="module")
def playing(shared_server: Server) -> Iterator[Engine]:
    engine = Engine(shared_server)
    yield engine
    engine.close()


class Person:
    """Somebody who uses the server."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    def do(self, method: str, path: str, **options: Any) -> requests.Response:
        url = self.server.url + path
        return requests.request(method, url, headers=header(self.name), timeout=60, **options)

    def submit(self, parameters: dict[str, str] | None = None, **fields: str) -> str:
        parts = {
            "workflow_type": "CWL",
            "workflow_type_version": "v1.2",
            "workflow_url": "https://example.org/canary.cwl",
            "workflow_engine_parameters": json.dumps(parameters or {}),
            **fields,
        }
        answer = self.do("POST", "/runs", data=parts)
        assert answer.status_code == 200, answer.text
        run_id: str = answer.json()["run_id"]
        return run_id

    def listed(self, **query: str) -> list[str]:
        answer = self.do("GET", "/runs", params={"page_size": "1000", **query})
        assert answer.status_code == 200, answer.text
        return [run["run_id"] for run in answer.json()["runs"]]


@pytest.fixture
def person(shared_server: Server) -> Callable[[str], Person]:
    return lambda name: Person(shared_server, name)


PLACES = [
    ("GET", ""),
    ("GET", "/status"),
    ("POST", "/cancel"),
    ("DELETE", ""),
    ("POST", "/rerun"),
    ("POST", "/authorise"),
    ("GET", "/tasks"),
    ("GET", "/tasks/t1"),
    ("GET", "/tasks/t1/stdout"),
    ("GET", "/logs/stderr"),
    ("HEAD", "/logs/stderr"),
    ("GET", "/files"),
    ("GET", "/files/outputs/canary.txt"),
    ("GET", "/files/outputs?archive=tar"),
    ("GET", "/events"),
    ("HEAD", "/events"),
]


@pytest.fixture
def ended(shared_server: Server, playing: Engine, person: Callable[[str], Person]) -> str:
    """A run of alice's with everything a run can have."""
    run_id = person("alice").submit(tags=json.dumps({"secret": CANARY.decode()}))
    playing.claim()
    playing.task(run_id)
    folder = shared_server.folder(run_id)
    folder.task_stream("t1", "stdout").parent.mkdir(parents=True, exist_ok=True)
    folder.task_stream("t1", "stdout").write_bytes(CANARY)
    folder.stderr.parent.mkdir(parents=True, exist_ok=True)
    folder.stderr.write_bytes(CANARY)
    playing.finish(run_id, {"out": playing.output(run_id, "canary.txt", CANARY)})
    return run_id


def test_the_places_are_those_of_the_document(shared_server: Server) -> None:
    document = requests.get(f"{shared_server.url}/openapi.json", timeout=60).json()
    below = {path for path in document["paths"] if path.startswith("/runs/{run_id}")}
    shape = {
        "/runs/{run_id}": "",
        "/runs/{run_id}/tasks/{task_id}/{stream}": "/tasks/t1/stdout",
        "/runs/{run_id}/logs/{stream}": "/logs/stderr",
        "/runs/{run_id}/tasks/{task_id}": "/tasks/t1",
        "/runs/{run_id}/files/{path}": "/files/outputs/canary.txt",
    }
    tried = {path.partition("?")[0] for _, path in PLACES}
    missing = {path for path in below if shape.get(path, path.removeprefix("/runs/{run_id}")) not in tried}
    assert not missing


@pytest.mark.parametrize(("method", "path"), PLACES)
def test_a_strangers_answer_is_that_of_an_id_that_is_not_there(
    person: Callable[[str], Person], ended: str, method: str, path: str
) -> None:
    unknown = uuid.uuid4().hex
    bob = person("bob")
    theirs = bob.do(method, f"/runs/{ended}{path}")
    nobodys = bob.do(method, f"/runs/{unknown}{path}")
    assert theirs.status_code == nobodys.status_code == 404
    assert theirs.text == nobodys.text.replace(unknown, ended)
    headers = [{k: v for k, v in answer.headers.items() if k != "date"} for answer in (theirs, nobodys)]
    assert headers[0] == headers[1]
    assert person("alice").do("GET", f"/runs/{ended}").json()["state"] == "COMPLETE"


def test_its_owner_has_all_of_it(person: Callable[[str], Person], ended: str) -> None:
    alice = person("alice")
    assert alice.do("GET", f"/runs/{ended}/files/outputs/canary.txt").content == CANARY
    assert alice.do("GET", f"/runs/{ended}/tasks/t1/stdout").content == CANARY
    assert alice.do("DELETE", f"/runs/{ended}").status_code == 200


def test_lists_and_counts_are_of_ones_own_runs(person: Callable[[str], Person], ended: str) -> None:
    alice, mallory = person("alice"), person("mallory")
    before = mallory.do("GET", "/service-info").json()["system_state_counts"]
    assert sum(before.values()) == len(mallory.listed())
    own = mallory.submit()
    assert mallory.listed() == [own, *mallory.listed()[1:]]
    for query in ({}, {"owner": "alice"}, {"owner": "*"}, {"tag": "secret"}, {"state": "COMPLETE"}):
        assert ended not in mallory.listed(**query), query
    assert mallory.listed(owner="alice") == []
    answer = mallory.do("GET", "/runs", params={"owner": "alice"}).json()
    assert answer["total_runs"] == 0
    assert ended in alice.listed(tag="secret")
    assert CANARY.decode() not in mallory.do("GET", "/runs", params={"owner": "*"}).text


def test_an_administrator_sees_all_and_says_so(person: Callable[[str], Person], ended: str) -> None:
    root = person("root")
    assert ended not in root.listed()
    assert ended in root.listed(owner="*")
    assert ended in root.listed(owner="alice", tag="secret", state="COMPLETE")
    assert ended not in root.listed(owner="bob")
    shown = root.do("GET", "/runs", params={"owner": "alice"}).json()["runs"]
    assert {run["owner"] for run in shown} == {"alice"}
    assert root.do("GET", f"/runs/{ended}/files/outputs/canary.txt").content == CANARY
    assert root.do("POST", f"/runs/{ended}/cancel").status_code == 200
    assert root.do("DELETE", f"/runs/{ended}").status_code == 200
    assert ended not in person("alice").listed()


def test_a_group_may_look_and_not_touch(
    person: Callable[[str], Person], playing: Engine, shared_server: Server
) -> None:
    alice, bob, mallory = person("alice"), person("bob"), person("mallory")
    run_id = alice.submit({"share_with": "lofar"})
    playing.claim()
    playing.finish(run_id, {"out": playing.output(run_id, "canary.txt", CANARY)})
    assert bob.do("GET", f"/runs/{run_id}/status").json()["state"] == "COMPLETE"
    assert bob.do("GET", f"/runs/{run_id}/files/outputs/canary.txt").content == CANARY
    assert run_id not in bob.listed()
    assert run_id in bob.listed(owner="alice")
    assert run_id in bob.listed(owner="*")
    for method, path in (("POST", "/cancel"), ("DELETE", ""), ("POST", "/rerun")):
        is_error(bob.do(method, f"/runs/{run_id}{path}"), 403, "only its owner")
        is_error(mallory.do(method, f"/runs/{run_id}{path}"), 404)
    assert run_id not in mallory.listed(owner="*")
    assert alice.do("GET", f"/runs/{run_id}/status").json()["state"] == "COMPLETE"


@pytest.mark.parametrize("state", [State.RUNNING, State.COMPLETE])
def test_who_has_left_the_group_sees_nothing_any_more(
    person: Callable[[str], Person], playing: Engine, state: State
) -> None:
    run_id = person("alice").submit({"share_with": "lofar"})
    playing.claim()
    playing.task(run_id)
    if state is State.COMPLETE:
        playing.finish(run_id, {"out": playing.output(run_id, "canary.txt", CANARY)})
    else:
        playing.state(run_id, State.RUNNING)
    assert person("bob").do("GET", f"/runs/{run_id}/status").json()["state"] == state.value
    gone = person("bob who left")
    for method, path in PLACES:
        assert gone.do(method, f"/runs/{run_id}{path}").status_code == 404, (method, path)
    for query in ({}, {"owner": "alice"}, {"owner": "*"}):
        assert run_id not in gone.listed(**query)
    assert person("alice").do("GET", f"/runs/{run_id}/status").json()["state"] == state.value


def test_a_run_is_not_shared_with_a_group_that_its_owner_is_not_in(person: Callable[[str], Person]) -> None:
    fields = {"workflow_engine_parameters": json.dumps({"share_with": "lofar"})}
    run = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "https://e.org/w"}
    is_error(person("mallory").do("POST", "/runs", data=run | fields), 400, "share_with", "'lofar'")


@pytest.mark.parametrize("rule", ["none", "groups"])
def test_a_site_may_share_nothing_or_all(tmp_path: Path, new_database: NewDatabase, rule: str) -> None:
    config = ServiceConfig.model_validate(
        {"state_dir": tmp_path / "state", "database": new_database(), "sharing": rule}
    )
    serving = start(config, believing)
    server = next(serving)
    try:
        alice, bob = Person(server, "alice"), Person(server, "bob")
        run_id = alice.submit()
        assert bob.do("GET", f"/runs/{run_id}").status_code == (200 if rule == "groups" else 404)
        if rule == "none":
            fields = {"workflow_engine_parameters": json.dumps({"share_with": "lofar"})}
            run = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "https://e.org/w"}
            is_error(alice.do("POST", "/runs", data=run | fields), 400, "sharing: none")
    finally:
        serving.close()


def test_naming_somebodys_run_does_not_keep_them_from_deleting_it(
    person: Callable[[str], Person], ended: str
) -> None:
    person("mallory").submit(workflow_params=json.dumps({"x": f"http://here/runs/{ended}/files/outputs/a"}))
    answer = person("alice").do("DELETE", f"/runs/{ended}")
    assert answer.status_code == 200, answer.text


def test_a_reader_from_the_group_is_not_named(person: Callable[[str], Person], playing: Engine) -> None:
    run_id = person("alice").submit({"share_with": "lofar"})
    playing.finish(run_id)
    reader = person("bob").submit(workflow_params=json.dumps({"x": f"http://h/runs/{run_id}/files/a"}))
    answer = person("alice").do("DELETE", f"/runs/{run_id}")
    is_error(answer, 409, "somebody else")
    assert reader not in answer.text
    person("bob").do("POST", f"/runs/{reader}/cancel")


def test_pages_do_not_tell_how_much_others_submit(person: Callable[[str], Person]) -> None:
    mallory = person("mallory")
    for _ in range(2):
        mallory.submit()
    first = mallory.do("GET", "/runs", params={"page_size": "1"}).json()["next_page_token"]
    for _ in range(3):
        person("alice").submit()
    again = mallory.do("GET", "/runs", params={"page_size": "1"}).json()["next_page_token"]
    assert first == again


def test_the_time_tells_nothing(person: Callable[[str], Person], ended: str) -> None:
    bob = person("bob")
    times: dict[str, list[float]] = {ended: [], uuid.uuid4().hex: []}
    for _ in range(60):
        for run_id, took in times.items():
            begun = time.perf_counter()
            assert bob.do("GET", f"/runs/{run_id}").status_code == 404
            took.append(time.perf_counter() - begun)
    theirs, nobodys = (statistics.median(took) for took in times.values())
    assert abs(theirs - nobodys) < max(0.5 * min(theirs, nobodys), 0.003)


def test_a_run_that_is_cancelled_is_told_to_its_owner_only(
    person: Callable[[str], Person], playing: Engine
) -> None:
    run_id = person("alice").submit()
    playing.claim()
    playing.state(run_id, State.RUNNING)
    is_error(person("bob").do("POST", f"/runs/{run_id}/cancel"), 404)
    assert person("alice").do("GET", f"/runs/{run_id}/status").json()["state"] == "RUNNING"
