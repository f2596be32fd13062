"""A service for many: users by an issuer, by passwords, by API keys; strangers get nothing."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from click.testing import CliRunner

from tests.auth.conftest import API, Starter, urls_of
from tests.auth.issuers import AUDIENCE, TestIssuer
from tests.service.conftest import Service
from tests.waiting import until
from wes_bridge.cli.main import cli
from wes_bridge.client import WESClient, WESError

RUNS = f"{API}/runs"
TOOL = "{cwlVersion: v1.2, class: CommandLineTool, baseCommand: echo, inputs: [], outputs: []}"


@pytest.fixture(scope="module")
def issuer() -> Iterator[TestIssuer]:
    made = TestIssuer()
    yield made
    made.close()


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "users.txt"
    for name in ("bob", "carol"):
        done = CliRunner().invoke(cli, ["users", "add", name, "--file", str(file)], input=f"{name}-secret\n")
        assert done.exit_code == 0, done.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "secret" not in file.read_text()
    return file


@pytest.fixture(scope="module")
def site(start_service: Starter, issuer: TestIssuer, users: Path) -> Iterator[Service]:
    authentication = {
        "oidc": [{"issuer": issuer.url, "audience": [AUDIENCE], "instructions": "Ask <Ada>."}],
        "basic": {"file": str(users)},
        "keys": True,
        "admins": ["bob", "group:operators"],
    }
    made = start_service(authentication=authentication, aggregator={"name": "all"})
    yield made
    made.stop()


def get(site: Service, path: str = RUNS, **headers: str) -> httpx.Response:
    return httpx.get(site.url + path, headers=headers)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_to_be_the_same_user_is_not_enough_there(site: Service) -> None:
    for path in (
        "/",
        "/docs",
        "/metrics",
        f"{API}/ui/",
        f"{API}/openapi.json",
        RUNS,
        f"{RUNS}/x",
        "/nowhere",
    ):
        answer = get(site, path)
        assert answer.status_code == 401, path
    answer = get(site)
    assert "/auth" in answer.json()["msg"]
    told = answer.headers.get_list("www-authenticate")
    assert 'Bearer realm="wes-bridge"' in told
    assert 'Basic realm="wes-bridge", charset="UTF-8"' in told
    [ivoa] = [text for text in told if text.startswith("ivoa_bearer ")]
    assert 'standard_id="ivo://ivoa.net/sso#OpenID"' in ivoa
    assert "/.well-known/openid-configuration" in ivoa


def test_strangers_may_read_what_the_service_is_and_how_to_get_in(site: Service) -> None:
    info = get(site, f"{API}/service-info").json()
    assert set(info["system_state_counts"].values()) == {0} and not info["brokers"]
    page = httpx.get(info["auth_instructions_url"])
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert "Ask &lt;Ada&gt;." in page.text and "default-src 'none'" in page.headers["content-security-policy"]
    assert get(site, "/health").json() == {"status": "ok"}
    assert httpx.post(info["auth_instructions_url"]).status_code == 401


def test_three_ways_in(site: Service, issuer: TestIssuer) -> None:
    assert get(site, **bearer(issuer.token())).status_code == 200
    assert httpx.get(site.url + RUNS, auth=("bob", "bob-secret")).status_code == 200
    token = (site.state / "token").read_text().strip()
    assert get(site, **bearer(token)).status_code == 200
    with WESClient(site.url, token=issuer.token()) as client:
        assert list(client.runs()) == []
    with (
        WESClient(site.url, token=issuer.token(aud="x")) as client,
        pytest.raises(WESError, match="audience"),
    ):
        list(client.runs())


def test_no_way_in(site: Service, issuer: TestIssuer) -> None:
    answer = get(site, **bearer(issuer.token(exp=1)))
    assert answer.status_code == 401 and "expired" in answer.json()["msg"]
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    for value in ("Bearer x", "Bearer wbk_x_y", "Basic x", "Digest x", "Bearer", "", "Negotiate x"):
        assert get(site, Authorization=value).status_code == 401, value
    for pair in (("bob", "carol-secret"), ("nobody", "bob-secret"), ("bob", ""), ("local", "x"), ("", "")):
        assert httpx.get(site.url + RUNS, auth=pair).status_code == 401, pair
    query = httpx.get(site.url + RUNS, params={"access_token": issuer.token()})
    assert query.status_code == 401  # what is in a URL is in logs


def test_guessing_passwords_is_slow(site: Service) -> None:
    answers = [httpx.get(site.url + RUNS, auth=("carol", f"guess-{n}")).status_code for n in range(12)]
    assert answers[:10] == [401] * 10 and answers[10:] == [429, 429]
    refused = httpx.get(site.url + RUNS, auth=("carol", "carol-secret"))
    assert refused.status_code == 429 and refused.headers["retry-after"]
    assert httpx.get(site.url + RUNS, auth=("bob", "bob-secret")).status_code == 200


def test_a_password_that_is_taken_away(site: Service, users: Path) -> None:
    def command(*words: str, text: str = "") -> None:
        done = CliRunner().invoke(cli, ["users", *words, "--file", str(users)], input=text)
        assert done.exit_code == 0, done.output

    command("add", "dave", text="dave-secret\n")
    until(lambda: httpx.get(site.url + RUNS, auth=("dave", "dave-secret")).status_code == 200)
    command("remove", "dave")
    until(lambda: httpx.get(site.url + RUNS, auth=("dave", "dave-secret")).status_code == 401)


def test_keys_of_machines(site: Service) -> None:
    def command(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(cli, ["keys", *words, "--state", str(site.state)])
        assert done.exit_code == code, done.output
        return done.stdout

    key = command("create", "nightly", "--group", "robots", "--expires", "P1D").strip()
    assert key not in (site.state / "api-keys.json").read_text()
    assert key.rpartition("_")[2] not in (site.state / "api-keys.json").read_text()
    assert stat.S_IMODE((site.state / "api-keys.json").stat().st_mode) == 0o600
    until(lambda: get(site, **bearer(key)).status_code == 200)
    assert get(site, **bearer(key + "x")).status_code == 401
    assert "nightly" in command("list")
    gone = command("create", "old", "--expires", "PT1S").strip()
    until(lambda: "expired" in get(site, **bearer(gone)).text)
    command("revoke", "nightly")
    begun = time.monotonic()
    until(lambda: get(site, **bearer(key)).status_code == 401)
    assert time.monotonic() - begun < 5
    command("revoke", "nightly", code=1)
    command("create", "no/name", code=2)


def test_names_of_users_cannot_be_taken_by_other_ways(site: Service, users: Path) -> None:
    for name in ("local", "nobody", "a:b", "a\nb", "x#y", "", "https://x"):
        done = CliRunner().invoke(cli, ["users", "add", name, "--file", str(users)], input="long-enough\n")
        assert done.exit_code == 2, name


def test_users_are_who_their_runs_say(site: Service, issuer: TestIssuer) -> None:
    """The principal reaches the handlers: who submits owns the run, and others do not see it."""
    with WESClient(site.url, token=issuer.token(sub="erin")) as erin:
        run_id = erin.submit(TOOL_FILE(site), {})
        erin.wait(run_id, timeout=120)
        assert [run["run_id"] for run in erin.runs()] == [run_id]
    with WESClient(site.url, token=issuer.token(sub="frank")) as frank:
        assert list(frank.runs()) == []
        with pytest.raises(WESError) as found:
            frank.run(run_id)
        assert found.value.status_code == 404


def TOOL_FILE(site: Service) -> Path:
    path = site.state.parent / "tool.cwl"
    path.write_text(TOOL)
    return path


def test_nodes_and_aggregator_of_the_site_know_nobody_but_the_service(
    site: Service, issuer: TestIssuer
) -> None:
    urls = urls_of(site)
    forged = {"Authorization": f"Bearer {issuer.token()}", "X-Forwarded-For": "192.0.2.1"}
    for name in ("here", "all"):
        assert httpx.get(urls[name] + "/sessions/x", headers=forged).status_code == 401
        key = bearer((site.state / "service-key").read_text().strip())
        assert httpx.get(urls[name] + "/sessions/x", headers=key).status_code in (400, 404)
    drain = httpx.post(urls["here"] + "/admin/drain", headers=key)
    assert drain.status_code == 403


# ---- another page decides --------------------------------------------------------------------------------


class PermissionsStandIn:
    """Plays SRCNet's Permissions API, which cannot be had here."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.answer: tuple[int, object] = (200, {"is_authorised": True})
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                stand_in.asked.append({"path": parts.path, **query})
                status, content = stand_in.answer
                body = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def test_the_permissions_api_decides_route_by_route(start_service: Starter, issuer: TestIssuer) -> None:
    api = PermissionsStandIn()
    authentication = {
        "oidc": [{"issuer": issuer.url, "audience": [AUDIENCE]}],
        "permissions": {"url": api.url, "service": "wes", "cache": 0},
    }
    site = start_service(authentication=authentication, log_level="debug")
    token = issuer.token()
    assert get(site, f"{RUNS}/x/tasks", **bearer(token)).status_code == 404
    assert api.asked == [
        {
            "path": "/api/v1/authorise/route/wes",
            "version": "1",
            "route": f"{RUNS}/{{run_id}}/tasks",
            "method": "GET",
            "token": token,
        }
    ]
    assert get(site, **bearer(token)).status_code == 200
    for answer in ((200, {"is_authorised": False}), (403, {}), (500, {}), (200, {}), (200, []), (302, {})):
        api.answer = answer
        refused = get(site, **bearer(token))
        assert refused.status_code == 403, answer
        assert "Permissions API" in refused.json()["msg"]
    api.server.shutdown()
    api.server.server_close()
    assert get(site, **bearer(token)).status_code == 403  # no answer is a no
    site.stop()
    assert token not in site.log.read_text()


def test_a_way_in_of_another_package(tmp_path: Path) -> None:
    """Entry points are found by name, their settings are checked with all others."""
    (tmp_path / "c.yaml").write_text("authentication:\n  plugins:\n    - {name: moon, settings: {}}\n")
    words = ["serve", "--config", str(tmp_path / "c.yaml"), "--print-config"]
    done = subprocess.run(
        [sys.executable, "-m", "wes_bridge.cli.main", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "c.yaml:3: authentication.plugins[0]: no authenticator 'moon' is installed" in done.stderr
    assert "basic, keys, oidc" in done.stderr
