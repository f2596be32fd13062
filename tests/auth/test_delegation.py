"""Runs act for their owners at brokers, with tokens that a real OIDC provider makes for each broker."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.auth.callers import by_token
from tests.auth.provider import CLIENT, LOGIN_CLIENT, SECRET, Provider, provider
from tests.auth.serving import served
from tests.federation.fake_broker import FakeBroker
from tests.waiting import until
from wes_bridge.auth.exchange import claims
from wes_bridge.config import ServiceConfig
from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE
from wes_bridge.wes.app import create_app

pytestmark = pytest.mark.slow
API = "/ga4gh/wes/v1"
TOOL = json.dumps(
    {"cwlVersion": "v1.2", "class": "CommandLineTool", "baseCommand": "true", "inputs": [], "outputs": []}
)
FILES: list[tuple[str, Any]] = [
    ("workflow_type", (None, "CWL")),
    ("workflow_type_version", (None, "v1.2")),
    ("workflow_url", (None, "tool.cwl")),
    ("workflow_attachment", ("tool.cwl", TOOL)),
]
SECRET_VARIABLE = "WES_BRIDGE_TEST_CLIENT_SECRET"


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    with provider(tmp_path_factory.mktemp("issuer"), ttl=600) as running:
        yield running


@dataclass
class Site:
    """A service with an engine worker, whose two brokers want tokens of users for different audiences."""

    url: str
    state: Path
    config: ServiceConfig
    a: FakeBroker
    b: FakeBroker
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def start_worker(self) -> None:
        path = self.state.parent / "worker.json"
        path.write_text(self.config.model_dump_json())
        self.workers.append(
            subprocess.Popen(
                [sys.executable, "-m", "wes_bridge.engine.worker", "--config-json", f"@{path}"],
                env={**os.environ, SECRET_VARIABLE: SECRET},
                stdin=subprocess.DEVNULL,
                stdout=(self.state.parent / "worker.out").open("ab"),
                stderr=(self.state.parent / "worker.log").open("ab"),
            )
        )

    def kill_worker(self) -> None:
        self.workers[-1].send_signal(signal.SIGKILL)
        self.workers[-1].wait()

    def ask(
        self, tokens: dict[str, Any], method: str, path: str, *, hand_over: bool = False, **options: Any
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        if hand_over:
            headers["X-WES-Bridge-Refresh-Token"] = tokens["refresh_token"]
        self.seen |= {tokens["access_token"], tokens["refresh_token"]}
        return requests.request(method, self.url + API + path, headers=headers, timeout=60, **options)

    def submit(self, tokens: dict[str, Any], **options: Any) -> str:
        answer = self.ask(tokens, "POST", "/runs", files=FILES, **options)
        assert answer.status_code == 200, answer.text
        run_id: str = answer.json()["run_id"]
        return run_id

    def state_of(self, tokens: dict[str, Any], run_id: str) -> str:
        state: str = self.ask(tokens, "GET", f"/runs/{run_id}/status").json()["state"]
        return state

    def words(self, tokens: dict[str, Any], run_id: str) -> str:
        return " ".join(self.ask(tokens, "GET", f"/runs/{run_id}").json()["run_log"]["system_logs"])

    def bearers(self) -> list[str]:
        return [
            headers["authorization"].removeprefix("Bearer ")
            for broker in (self.a, self.b)
            for headers in broker.headers
        ]

    def stored(self) -> int:
        with sqlite3.connect(self.state / "wes-bridge.db") as connection:
            count: int = connection.execute("SELECT count(*) FROM delegations").fetchone()[0]
        return count

    def check_secrecy(self, *answers: str) -> None:
        """No token is in any file of the service, nor in its logs, nor in answers."""
        secrets = [text.encode() for text in (self.seen | set(self.bearers())) if text]
        secrets += [secret.rpartition(b".")[2] for secret in secrets if b"." in secret]
        for path in self.state.parent.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [secret for secret in secrets if secret in content], path
        for answer in answers:
            assert not [secret for secret in secrets if secret.decode() in answer]


@pytest.fixture
def site(tmp_path: Path, issuer: Provider, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv(SECRET_VARIABLE, SECRET)
    a, b = FakeBroker(), FakeBroker()
    config = ServiceConfig.model_validate(
        {
            "state_dir": tmp_path / "site" / "state",
            "nodes": [],
            "brokers": [
                {"name": "a", "url": a.url, "delegation": {"audience": "broker-a"}},
                {
                    "name": "b",
                    "url": b.url,
                    "delegation": {"audience": "broker-b", "scope": "broker-a-service"},
                },
            ],
            "engine": {"lease": 2},
            "delegation": {
                "early": 3,
                "issuers": [
                    {
                        "issuer": issuer.issuer,
                        "client_id": CLIENT,
                        "secret": {"env": SECRET_VARIABLE},
                        "login_client_id": LOGIN_CLIENT,
                    }
                ],
            },
        }
    )
    database = Database(config.database_url, SERVICE)
    with served(by_token(create_app(config, database, lambda: None))) as url:
        made = Site(url, config.state_dir, config, a, b)
        made.start_worker()
        yield made
        for worker in made.workers:
            worker.kill()
            worker.wait()
    database.close()
    issuer.control(life="600", allow="broker-b")
    a.close()
    b.close()


def test_each_broker_gets_a_token_of_its_own(site: Site, issuer: Provider) -> None:
    alice = issuer.login("alice")
    run_id = site.submit(alice, hand_over=True)
    until(lambda: site.state_of(alice, run_id) == "COMPLETE")
    for broker, audience in ((site.a, "broker-a"), (site.b, "broker-b")):
        told = [claims(headers["authorization"].removeprefix("Bearer ")) for headers in broker.headers]
        assert told
        assert {(one["aud"], one["sub"], one["act"]["sub"]) for one in told} == {(audience, "alice", CLIENT)}
    assert site.stored() == 0
    site.check_secrecy(site.ask(alice, "GET", f"/runs/{run_id}").text)


def test_a_run_outlives_its_tokens(site: Site, issuer: Provider) -> None:
    """Three runs of one login: a refresh makes the earlier pair useless, and all go on, also the one that is
    handed that pair afterwards."""
    issuer.control(life="6")
    alice = issuer.login("alice")
    site.a.phases = ["RUNNING"]
    site.b.phases = ["RUNNING"]
    runs = [site.submit(alice, hand_over=True) for _ in range(2)]
    until(lambda: len(site.bearers()) >= 4)
    until(lambda: claims(alice["access_token"])["exp"] < _now(), 30)
    until(lambda: _latest(site) > claims(alice["access_token"])["exp"])  # somebody has renewed it
    runs.append(site.submit(alice, hand_over=True))
    site.a.phases = ["RUNNING", "COMPLETED"]
    site.b.phases = ["RUNNING", "COMPLETED"]
    issuer.control(life="600")
    reader = issuer.login("alice")
    for run_id in runs:
        until(lambda run_id=run_id: site.state_of(reader, run_id) == "COMPLETE")
    site.check_secrecy()


def _latest(site: Site) -> float:
    """The end of the token that lasts longest."""
    return max(float(claims(text)["exp"]) for text in site.bearers())


def _now() -> float:
    import time  # noqa: PLC0415

    return time.time()


def test_a_run_that_may_not_act_is_paused_until_it_may(site: Site, issuer: Provider) -> None:
    issuer.control(forbid="broker-b")
    site.a.refuse = "busy elsewhere"
    alice, bob = issuer.login("alice"), issuer.login("bob")
    run_id = site.submit(alice, hand_over=True)
    until(lambda: site.state_of(alice, run_id) == "PAUSED")
    words = site.words(alice, run_id)
    assert "broker-b" in words
    assert "invalid_target" in words
    assert "authorise" in words
    site.kill_worker()
    site.start_worker()
    until(
        lambda: (
            b"taken up again"
            in (site.state / "workspace" / "runs" / run_id).joinpath("logs", "stderr").read_bytes()
            if (site.state / "workspace" / "runs" / run_id).exists()
            else True
        )
    )
    assert site.state_of(alice, run_id) == "PAUSED"
    issuer.control(allow="broker-b")
    assert site.ask(bob, "POST", f"/runs/{run_id}/authorise").status_code == 404
    fresh = issuer.login("alice")
    answer = site.ask(fresh, "POST", f"/runs/{run_id}/authorise", hand_over=True)
    assert answer.status_code == 200, answer.text
    until(lambda: site.state_of(fresh, run_id) == "COMPLETE")
    assert site.stored() == 0
    site.check_secrecy(words, answer.text)


def test_a_paused_run_can_be_cancelled(site: Site, issuer: Provider) -> None:
    issuer.control(forbid="broker-b")
    site.a.refuse = "busy elsewhere"
    alice = issuer.login("alice")
    run_id = site.submit(alice)
    until(lambda: site.state_of(alice, run_id) == "PAUSED")
    site.ask(alice, "POST", f"/runs/{run_id}/cancel")
    until(lambda: site.state_of(alice, run_id) == "CANCELED", 20)
    assert site.stored() == 0
    again = site.ask(alice, "POST", f"/runs/{run_id}/authorise")
    assert again.status_code == 409
    site.check_secrecy()


def test_nobody_acts_with_anothers_refresh_token(site: Site, issuer: Provider) -> None:
    issuer.control(life="3")
    alice, bob = issuer.login("alice"), issuer.login("bob")
    stolen = alice | {"refresh_token": bob["refresh_token"]}
    run_id = site.submit(stolen, hand_over=True)
    until(lambda: site.state_of(alice, run_id) == "PAUSED")
    assert "somebody else's" in site.words(alice, run_id)
    assert {claims(text).get("sub") for text in site.bearers()} <= {"alice"}


def test_a_plan_names_the_right_that_is_missing(site: Site, issuer: Provider) -> None:
    issuer.control(forbid="broker-b")
    alice = issuer.login("alice")
    answer = site.ask(alice, "POST", "/runs/plan", files=FILES)
    assert answer.status_code == 200, answer.text
    assert "broker-b" in answer.text
    assert "invalid_target" in answer.text
    assert {
        claims(headers["authorization"].removeprefix("Bearer "))["aud"] for headers in site.a.headers
    } == {"broker-a"}
    assert not site.b.headers
    site.check_secrecy(answer.text)


def test_a_broker_that_echoes_the_token_gets_it_into_no_log(site: Site, issuer: Provider) -> None:
    alice = issuer.login("alice")

    def echo(broker: FakeBroker) -> None:
        broker.refuse = "your header was " + broker.headers[-1]["authorization"]

    run_id = site.submit(alice)
    until(lambda: site.state_of(alice, run_id) == "COMPLETE")
    echo(site.a)
    echo(site.b)
    second = site.submit(alice)
    until(lambda: site.state_of(alice, second).endswith("_ERROR"))
    assert "your header was Bearer" in site.words(alice, second)
    for path in ("", "/tasks", "/logs/stderr"):
        site.check_secrecy(site.ask(alice, "GET", f"/runs/{second}{path}").text)
