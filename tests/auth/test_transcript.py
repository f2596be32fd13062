"""From sign-in to result, all parts real: two users, a service, and two nodes that take no other tokens.

``pytest -s tests/auth/test_transcript.py`` tells it line by line. The tokens end while the run goes on, and
the run renews them.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.auth.provider import CLIENT, LOGIN_CLIENT, SECRET, Provider, provider
from tests.node.conftest import NodeProcess
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service
from tests.waiting import until
from wes_bridge.auth.exchange import claims

pytestmark = pytest.mark.slow
API = "/ga4gh/wes/v1"
CANARY = "the-canary-of-alice"
LIFE = 6
"""Seconds that the first tokens are good."""
EARLY = 2
"""Seconds before its end that a token is renewed."""


def tell(line: str) -> None:
    """A line of the transcript."""
    print(line, flush=True)


@dataclass
class Site:
    """All of it.

    Attributes:
        issuer: of both users.
        nodes: two, by name; each takes tokens for itself only.
        service: whose brokers they are.
    """

    issuer: Provider
    nodes: dict[str, NodeProcess]
    service: Service

    def ask(self, who: dict[str, Any], method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {who['access_token']}", **options.pop("headers", {})}
        return requests.request(method, self.service.url + API + path, headers=headers, timeout=60, **options)

    def exchanged(self) -> dict[str, int]:
        """How many tokens the issuer has made, by whom they are for."""
        made = self.issuer.exchanges()
        return {audience: made.count(audience) for audience in sorted(set(made))}


@pytest.fixture
def site(tmp_path: Path, start_node: NodeStarter) -> Iterator[Site]:
    (tmp_path / "issuer").mkdir()
    with provider(tmp_path / "issuer", ttl=600) as issuer:
        nodes = {
            name: start_node(
                name=name,
                sandbox="none",
                authentication={"oidc": [{"issuer": issuer.issuer, "audience": [f"broker-{name}"]}]},
            )
            for name in ("a", "b")
        }
        settings = {
            "nodes": [],
            "authentication": {"oidc": [{"issuer": issuer.issuer, "audience": ["wes-bridge"]}]},
            "brokers": [
                {"name": name, "url": node.url, "delegation": {"audience": f"broker-{name}"}}
                for name, node in nodes.items()
            ],
            "delegation": {
                "early": EARLY,
                "issuers": [
                    {
                        "issuer": issuer.issuer,
                        "client_id": CLIENT,
                        "secret": {"env": "TEST_CLIENT_SECRET"},
                        "login_client_id": LOGIN_CLIENT,
                    }
                ],
            },
        }
        service = Service(tmp_path / "state", settings, env={"TEST_CLIENT_SECRET": SECRET})
        try:
            yield Site(issuer, nodes, service)
        finally:
            service.stop()


def test_two_users_two_nodes_two_audiences(site: Site, tmp_path: Path) -> None:
    issuer, gate = site.issuer, tmp_path / "gate"
    bob = issuer.login("bob")
    issuer.control(life=str(LIFE))
    alice = issuer.login("alice")
    ends = claims(alice["access_token"])["exp"]
    tell(f"alice and bob sign in at {issuer.issuer}; the token of alice is good for {LIFE} s")

    hands_over = {"X-WES-Bridge-Refresh-Token": alice["refresh_token"]}
    submitted = site.ask(alice, "POST", "/runs", files=_files(gate), headers=hands_over)
    assert submitted.status_code == 200, submitted.text
    run_id = submitted.json()["run_id"]
    tell(f"alice submits the run {run_id} of two steps, and hands over what renews her token")
    until(lambda: {"broker-a", "broker-b"} <= set(issuer.exchanges()))
    until(lambda: _tasks(site, bob, alice, run_id) == ["RUNNING"])
    first = site.exchanged()
    tell(f"the issuer has made of it tokens for {first}; the first step runs, until the gate opens")

    last = time.time() + LIFE  # no token that was made so far is good for longer
    until(lambda: time.time() > max(ends, last), LIFE + 30)
    issuer.control(life="600")
    fresh = issuer.login("alice")
    assert site.ask(fresh, "GET", f"/runs/{run_id}/status").json()["state"] == "RUNNING"
    tell("the token that alice has submitted the run with has ended; the run is RUNNING")
    gate.touch()
    until(lambda: site.ask(fresh, "GET", f"/runs/{run_id}/status").json()["state"] == "COMPLETE")
    second = site.exchanged()
    assert second["broker-a"] > first["broker-a"]
    assert second["broker-b"] > first["broker-b"]
    tell(f"the gate opens, the second step is placed with renewed tokens ({second}), the run is COMPLETE")

    for path in ("", "/status", "/tasks", "/files", "/logs/stderr", "/events"):
        assert site.ask(bob, "GET", f"/runs/{run_id}{path}").status_code == 404
        assert requests.get(f"{site.service.url}{API}/runs/{run_id}{path}", timeout=60).status_code == 401
    assert CANARY not in site.ask(bob, "GET", "/runs", params={"owner": "*"}).text
    tell("bob gets 404 for the run, its tasks, files, logs and events; who has no token gets 401")

    sessions = [
        task["session_url"] for task in site.ask(fresh, "GET", f"/runs/{run_id}/tasks").json()["task_logs"]
    ]
    assert len(sessions) == 2
    for session in sessions:
        for who in (fresh, bob):  # tokens for the service, not for nodes
            headers = {"Authorization": f"Bearer {who['access_token']}"}
            assert requests.get(session, headers=headers, timeout=60).status_code == 401
    for name, node in site.nodes.items():
        other = issuer.exchange(fresh["access_token"], f"broker-{'b' if name == 'a' else 'a'}")
        headers = {"Authorization": f"Bearer {other}"}
        assert requests.get(f"{node.url}/bookings", headers=headers, timeout=60).status_code == 401
    tell("no node takes a token for the service, nor one for the other node")

    assert _owners(site) == {f"{issuer.issuer}#alice"}
    audit = [json.loads(line) for line in (site.service.state / "audit.log").read_text().splitlines()]
    made = [line for line in audit if line.get("made") == run_id]
    assert [line["who"] for line in made] == [f"{issuer.issuer}#alice"]
    tell("the sessions at the nodes and the line in the audit log are alice's")

    secrets = [who[kind] for who in (alice, fresh, bob) for kind in ("access_token", "refresh_token")]
    for folder in (site.service.state, *(node.state for node in site.nodes.values())):
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [one for one in secrets if one.encode() in content], path
                assert b"eyJhbGciOi" not in content, path
    tell("no token is in any file of the service or of the nodes")


def _files(gate: Path) -> list[tuple[str, Any]]:
    """A submission: a step that waits for a file, and one that needs its output."""
    wait = f'while [ ! -e "{gate}" ]; do sleep 0.1; done; echo {CANARY}'
    tools = {
        "wait": {"baseCommand": ["/bin/sh", "-c", wait], "inputs": [], "outputs": {"out": "stdout"}},
        "copy": {
            "baseCommand": "cat",
            "inputs": {"text": {"type": "File", "inputBinding": {}}},
            "outputs": {"out": "stdout"},
        },
    }
    workflow = {
        "cwlVersion": "v1.2",
        "class": "Workflow",
        "inputs": [],
        "steps": {
            "wait": {"run": {"class": "CommandLineTool", **tools["wait"]}, "in": [], "out": ["out"]},
            "copy": {
                "run": {"class": "CommandLineTool", **tools["copy"]},
                "in": {"text": "wait/out"},
                "out": ["out"],
            },
        },
        "outputs": {"out": {"type": "File", "outputSource": "copy/out"}},
    }
    return [
        ("workflow_type", (None, "CWL")),
        ("workflow_type_version", (None, "v1.2")),
        ("workflow_url", (None, "two.cwl")),
        ("workflow_attachment", ("two.cwl", json.dumps(workflow))),
    ]


def _tasks(site: Site, stranger: dict[str, Any], owner: dict[str, Any], run_id: str) -> list[str]:
    """The states of a run's tasks, which nobody else sees meanwhile."""
    assert site.ask(stranger, "GET", f"/runs/{run_id}/tasks").status_code == 404
    found = site.ask(owner, "GET", f"/runs/{run_id}/tasks").json()["task_logs"]
    return [task["state"] for task in found]


def _owners(site: Site) -> set[str]:
    owners: set[str] = set()
    for node in site.nodes.values():
        with sqlite3.connect(node.state / "node.db") as connection:
            owners |= {row[0] for row in connection.execute("SELECT owner FROM sessions")}
    return owners
