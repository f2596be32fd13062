"""Reading, listing, cancelling, deleting runs."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from wes_server import is_error, start

from wes_bridge.config import ServiceConfig
from wes_bridge.model.states import State
from wes_bridge.wes.document import BASE_PATH

pytestmark = pytest.mark.database

# ---- one run


def test_a_new_run_is_queued(server, engine):
    run_id = server.submit()
    assert re.fullmatch(r"[a-z0-9-]{8,64}", run_id)
    assert server.get(f"/runs/{run_id}/status").json() == {"run_id": run_id, "state": "QUEUED"}
    log = server.get(f"/runs/{run_id}").json()
    assert log["run_id"] == run_id
    assert log["state"] == "QUEUED"
    assert log["outputs"] == {}
    assert log["task_logs"] is None
    assert log["task_logs_url"] == f"{server.url}/runs/{run_id}/tasks"
    assert log["run_log"]["name"] == "w.cwl"
    assert log["run_log"]["stdout"] == f"{server.url}/runs/{run_id}/logs/stdout"
    assert "start_time" not in log["run_log"]


def test_submitting_wakes_the_workers(server):
    before = len(server.woken)
    server.submit()
    assert len(server.woken) == before + 1


def test_the_request_is_echoed(server):
    run_id = server.submit(
        workflow_params='{"a": [1, {"b": null}], "ü": "ß"}', tags='{"project": "ska"}', workflow_type="cwl"
    )
    request = server.get(f"/runs/{run_id}").json()["request"]
    assert request["workflow_params"] == {"a": [1, {"b": None}], "ü": "ß"}
    assert request["tags"] == {"project": "ska"}
    assert request["workflow_type"] == "cwl"
    assert request["workflow_type_version"] == "v1.2"
    assert request["workflow_url"] == "https://example.org/w.cwl"
    assert request["workflow_engine_parameters"] == {}
    assert "workflow_engine" not in request


def test_a_finished_run_tells_times_and_exit_code(server, engine):
    run_id = server.submit()
    engine.finish(run_id, {"n": 3})
    log = server.get(f"/runs/{run_id}").json()
    assert log["state"] == "COMPLETE"
    assert log["outputs"] == {"n": 3}
    assert log["run_log"]["exit_code"] == 0
    for field in ("start_time", "end_time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", log["run_log"][field])


def test_a_failed_run_says_why(server, engine):
    run_id = server.submit()
    engine.claim()
    engine.state(run_id, State.EXECUTOR_ERROR, exit_code=3, system_logs=["step a: exit code 3"])
    log = server.get(f"/runs/{run_id}").json()
    assert (log["state"], log["outputs"]) == ("EXECUTOR_ERROR", {})
    assert log["run_log"]["exit_code"] == 3
    assert log["run_log"]["system_logs"] == ["step a: exit code 3"]


@pytest.mark.parametrize(
    "path",
    [
        "/runs/nope",
        "/runs/nope/status",
        "/runs/nope/tasks",
        "/runs/nope/tasks/t1",
        "/runs/nope/logs/stdout",
        "/runs/nope/tasks/t1/stderr",
        "/runs/nope/files/outputs/x",
        "/runs/NOPE/status",
        "/runs/%00/status",
        "/runs/'%20or%201=1/status",
        f"/runs/{'a' * 300}/status",
    ],
)
def test_unknown_runs_are_not_found(server, path):
    is_error(server.get(path), 404)


def test_unknown_runs_cannot_be_cancelled_or_deleted(server):
    is_error(server.post("/runs/nope/cancel"), 404, "nope")
    is_error(server.session.delete(server.url + "/runs/nope"), 404, "nope")


# ---- cancel, delete


def test_cancelling_a_run_nobody_holds(own_server):
    run_id = own_server.submit()
    answer = own_server.post(f"/runs/{run_id}/cancel")
    assert (answer.status_code, answer.json()) == (200, {"run_id": run_id})
    assert own_server.get(f"/runs/{run_id}/status").json()["state"] == "CANCELED"


def test_cancelling_a_held_run_wakes_its_worker_and_is_idempotent(server, engine):
    run_id = server.submit()
    engine.claim()
    engine.state(run_id, State.RUNNING)
    before = len(server.woken)
    for _ in range(3):
        assert server.post(f"/runs/{run_id}/cancel").json() == {"run_id": run_id}
        assert server.get(f"/runs/{run_id}/status").json()["state"] == "CANCELING"
    assert len(server.woken) > before
    engine.state(run_id, State.CANCELED)
    assert server.post(f"/runs/{run_id}/cancel").status_code == 200


@pytest.mark.parametrize("end", ["COMPLETE", "EXECUTOR_ERROR", "SYSTEM_ERROR"])
def test_cancelling_an_ended_run_changes_nothing(server, engine, end):
    run_id = server.submit()
    engine.claim()
    engine.state(run_id, State(end))
    assert server.post(f"/runs/{run_id}/cancel").status_code == 200
    assert server.get(f"/runs/{run_id}/status").json()["state"] == end


def test_deleting_takes_everything_along(server, engine):
    run_id = server.submit({"a.cwl": b"x"}, workflow_url="a.cwl")
    engine.finish(run_id, {"o": engine.output(run_id, "o.txt", b"x")})
    engine.task(run_id)
    assert server.folder(run_id).root.exists()
    answer = server.session.delete(f"{server.url}/runs/{run_id}")
    assert (answer.status_code, answer.json()) == (200, {"run_id": run_id})
    assert not server.folder(run_id).root.exists()
    for path in ("", "/status", "/tasks", "/files/outputs/o.txt"):
        is_error(server.get(f"/runs/{run_id}{path}"), 404)


def test_an_active_run_is_not_deleted(server, engine):
    run_id = server.submit({"a.cwl": b"x"}, workflow_url="a.cwl")
    is_error(server.session.delete(f"{server.url}/runs/{run_id}"), 409, "cancel")
    engine.claim()
    engine.state(run_id, State.RUNNING)
    is_error(server.session.delete(f"{server.url}/runs/{run_id}"), 409, "RUNNING", "/cancel")
    assert server.folder(run_id).attachment("a.cwl").read_bytes() == b"x"


# ---- lists


def all_pages(server, path: str, key: str) -> list[Any]:
    found, token = [], None
    for _ in range(1000):
        separator = "&" if "?" in path else "?"
        page = server.get(path + (f"{separator}page_token={token}" if token else "")).json()
        found += page[key]
        token = page["next_page_token"]
        if not token:
            return found
    raise AssertionError("the pages never end")


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 1000])
def test_pages_show_every_run_once_newest_first(own_server, size):
    made = [own_server.submit() for _ in range(6)]
    listed = all_pages(own_server, f"/runs?page_size={size}", "runs")
    assert [run["run_id"] for run in listed] == made[::-1]


def test_a_listing_is_frozen_at_its_first_page(own_server):
    made = [own_server.submit() for _ in range(5)]
    first = own_server.get("/runs?page_size=2").json()
    late = own_server.submit()
    rest = own_server.get(f"/runs?page_size=100&page_token={first['next_page_token']}").json()
    assert [run["run_id"] for run in first["runs"] + rest["runs"]] == made[::-1]
    assert (first["total_runs"], rest["total_runs"]) == (5, 5)
    assert own_server.get("/runs").json()["runs"][0]["run_id"] == late


def test_a_full_last_page_says_so(own_server):
    for _ in range(4):
        own_server.submit()
    assert own_server.get("/runs?page_size=4").json()["next_page_token"] == ""
    assert own_server.get("/runs?page_size=3").json()["next_page_token"] != ""


def test_summaries_have_state_tags_and_name(own_server):
    run_id = own_server.submit(
        tags='{"a": "1"}', workflow_url="https://example.org/x/deep%20sky.cwl?v=2#main"
    )
    (run,) = own_server.get("/runs").json()["runs"]
    assert run == {"run_id": run_id, "state": "QUEUED", "tags": {"a": "1"}, "workflow_name": "deep sky.cwl"}


def test_filters(own_server):
    one = own_server.submit(tags='{"team": "a", "k": "1"}', workflow_url="https://e.org/one.cwl")
    two = own_server.submit(tags='{"team": "b", "k": "1"}', workflow_url="https://e.org/two.cwl")
    three = own_server.submit(workflow_url="https://e.org/one.cwl")
    own_server.post(f"/runs/{three}/cancel")

    def found(query: str) -> set[str]:
        answer = own_server.get(f"/runs?{query}").json()
        assert answer["total_runs"] == len(answer["runs"])
        return {run["run_id"] for run in answer["runs"]}

    assert found("tag=team") == {one, two}
    assert found("tag=team=a") == {one}
    assert found("tag=k=1&tag=team=b") == {two}
    assert found("tag=team=nobody") == set()
    assert found("state=CANCELED") == {three}
    assert found("state=CANCELED&state=QUEUED") == {one, two, three}
    assert found("state=CANCELED,QUEUED") == {one, two, three}
    assert found("workflow_name=one.cwl") == {one, three}
    assert found("workflow_name=one.cwl&state=QUEUED&tag=k") == {one}
    assert found("tag=team%3D%27%20or%201") == set()


def test_filters_hold_on_every_page(own_server):
    wanted = [own_server.submit(tags=json.dumps({"n": str(n % 2)})) for n in range(8)][1::2]
    listed = all_pages(own_server, "/runs?tag=n=1&page_size=3", "runs")
    assert [run["run_id"] for run in listed] == wanted[::-1]


@pytest.mark.parametrize(
    "size", ["0", "-1", "1001", "99999999999999999999", "x", "", "1.5", "1e2", "%20", "%EF%BC%91"]
)
@pytest.mark.parametrize("path", ["/runs", "/runs/{run}/tasks"])
def test_bad_page_sizes(server, engine, size, path):
    run_id = server.submit()
    is_error(server.get(f"{path.format(run=run_id)}?page_size={size}"), 400, "page_size")


@pytest.mark.parametrize("token", ["x", "AAAA", "%00", "'", "a" * 500, "ü", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
@pytest.mark.parametrize("path", ["/runs", "/runs/{run}/tasks"])
def test_bad_page_tokens(server, token, path):
    run_id = server.submit()
    is_error(server.get(f"{path.format(run=run_id)}?page_token={token}"), 400, "page_token")


def test_a_token_is_good_for_its_own_query_only(own_server):
    for _ in range(3):
        own_server.submit(tags='{"a": "1"}')
    token = own_server.get("/runs?page_size=1&tag=a").json()["next_page_token"]
    assert own_server.get(f"/runs?page_size=2&tag=a&page_token={token}").status_code == 200
    is_error(own_server.get(f"/runs?page_token={token}"), 400, "page_token")
    is_error(own_server.get(f"/runs?tag=b&page_token={token}"), 400, "page_token")


@pytest.mark.parametrize(
    "query", ["state=queued", "state=X", "state=", "tag=", "tag==1", "tag=%00", "workflow_name=%00"]
)
def test_bad_filters(server, query):
    is_error(server.get(f"/runs?{query}"), 400)


# ---- service info, errors, pages


def test_service_info(own_server):
    own_server.submit()
    info = own_server.get("/service-info").json()
    assert info["type"] == {"group": "org.ga4gh", "artifact": "wes", "version": "1.1.0"}
    assert info["supported_wes_versions"] == ["1.1.0"]
    assert info["workflow_type_versions"] == {"CWL": {"workflow_type_version": ["v1.0", "v1.1", "v1.2"]}}
    assert list(info["workflow_engine_versions"]) == ["cwltool"]
    assert info["supported_filesystem_protocols"] == ["http", "https", "data"]
    assert info["system_state_counts"]["QUEUED"] == 1
    assert set(info["system_state_counts"]) == {state.value for state in State}
    assert info["tags"]["nodes"] == "local"
    assert info["organization"] == {"name": "wes-bridge", "url": "https://example.org"}
    for name in ("id", "name", "version", "auth_instructions_url"):
        assert info[name]
    for parameter in info["default_workflow_engine_parameters"]:
        assert all(isinstance(value, str) for value in parameter.values())


def test_file_urls_are_announced_where_allowed(server):
    assert "file" in server.get("/service-info").json()["supported_filesystem_protocols"]


@pytest.mark.parametrize("path", ["/nope", "/", "/runs/x/y", "/service-info/x", "/runs/x/logs/stdlog"])
def test_unknown_addresses(server, path):
    is_error(server.get(path), 404)


def test_unknown_addresses_elsewhere(server):
    for path in ("/nope", "/ga4gh", "/ga4gh/wes/v2/runs"):
        is_error(server.session.get(server.root + path, timeout=60), 404)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/runs", {"GET", "HEAD", "POST"}),
        ("DELETE", "/service-info", {"GET", "HEAD"}),
        ("POST", "/runs/x", {"GET", "HEAD", "DELETE"}),
        ("PATCH", "/runs/x/files/a/b/c", {"GET", "HEAD"}),
        ("GET", "/runs/x/cancel", {"POST"}),
    ],
)
def test_wrong_methods(server, method, path, allow):
    answer = server.session.request(method, server.url + path, timeout=60)
    is_error(answer, 405)
    assert set(answer.headers["allow"].split(", ")) == allow


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer x.y.z"},
        {"Authorization": "Basic dXNlcjpwdw=="},
        {"Authorization": "nonsense"},
        {"x-api-key": "k"},
        {"Accept": "text/html"},
        {"Accept": "application/xml"},
    ],
)
def test_credentials_and_accept_headers_are_taken_calmly(server, headers):
    assert server.get("/runs", headers=headers).status_code == 200
    assert server.get("/runs", headers=headers).headers["content-type"] == "application/json"


def test_the_pages_lead_to_the_interface(server):
    home = server.session.get(server.root + "/", timeout=60)
    assert home.status_code == 200
    assert f"{BASE_PATH}/ui/" in home.text
    docs = server.session.get(server.root + "/docs", timeout=60)
    assert docs.status_code == 200
    assert "swagger-ui" in docs.text
    assert server.get("/openapi.json").json()["openapi"].startswith("3.0")


def test_the_interface_needs_nothing_from_elsewhere(server):
    page = server.get("/ui/").text
    for reference in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert not reference.startswith(("http", "//")), reference
        assert server.get(f"/ui/{reference}").status_code == 200


def test_head_works_like_get_without_a_body(server):
    run_id = server.submit()
    for path in ("/service-info", "/runs", f"/runs/{run_id}", f"/runs/{run_id}/status"):
        answer = server.session.head(server.url + path, timeout=60)
        assert (answer.status_code, answer.content) == (200, b"")


def test_links_use_the_public_url(tmp_path):
    config = ServiceConfig(state_dir=tmp_path, public_url="https://wes.example.org/bridge/")
    for server in start(config):
        run_id = server.submit()
        log = server.get(f"/runs/{run_id}").json()
        assert log["task_logs_url"] == f"https://wes.example.org/bridge{BASE_PATH}/runs/{run_id}/tasks"


def test_links_use_the_host_the_client_called(server):
    run_id = server.submit()
    log = server.get(f"/runs/{run_id}", headers={"Host": "wes.test:99"}).json()
    assert log["task_logs_url"].startswith(f"http://wes.test:99{BASE_PATH}/")
    log = server.get(f"/runs/{run_id}", headers={"Host": "a b<script>"}).json()
    assert log["task_logs_url"].startswith(f"{server.url}/")


def test_reading_the_state_does_not_wait_for_writers(server):
    run_id = server.submit()
    with server.database.write():  # another process's transaction
        begun = time.perf_counter()
        for path in ("", "/status", "/tasks"):
            assert server.get(f"/runs/{run_id}{path}").status_code == 200
        assert server.get("/runs").status_code == 200
        assert time.perf_counter() - begun < 12
