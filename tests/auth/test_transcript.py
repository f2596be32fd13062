"""From sign-in to result, all parts real: two users, a service, and two nodes that take no other tokens."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.auth.provider import CLIENT, LOGIN_CLIENT, SECRET, provider
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service
from tests.waiting import until

API = "/ga4gh/wes/v1"
CANARY = "the-canary-of-alice"
TOOL = json.dumps(
    {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": ["echo", CANARY],
        "inputs": [],
        "stdout": "out.txt",
        "outputs": {"out": "stdout"},
    }
)
FILES: list[tuple[str, Any]] = [
    ("workflow_type", (None, "CWL")),
    ("workflow_type_version", (None, "v1.2")),
    ("workflow_url", (None, "tool.cwl")),
    ("workflow_attachment", ("tool.cwl", TOOL)),
]


@pytest.mark.slow
def test_two_users_two_nodes_two_audiences(tmp_path: Path, start_node: NodeStarter) -> None:
    with provider(_folder(tmp_path), ttl=600) as issuer:
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
                "issuers": [
                    {
                        "issuer": issuer.issuer,
                        "client_id": CLIENT,
                        "secret": {"env": "TEST_CLIENT_SECRET"},
                        "login_client_id": LOGIN_CLIENT,
                    }
                ]
            },
        }
        service = Service(tmp_path / "state", settings, env={"TEST_CLIENT_SECRET": SECRET})
        try:
            alice, bob = issuer.login("alice"), issuer.login("bob")

            def ask(who: dict[str, Any], method: str, path: str, **options: Any) -> requests.Response:
                headers = {"Authorization": f"Bearer {who['access_token']}"}
                return requests.request(
                    method, service.url + API + path, headers=headers, timeout=60, **options
                )

            submitted = ask(alice, "POST", "/runs", files=FILES)
            assert submitted.status_code == 200, submitted.text
            run_id = submitted.json()["run_id"]
            until(lambda: ask(alice, "GET", f"/runs/{run_id}/status").json()["state"] == "COMPLETE")
            assert {"broker-a", "broker-b"} <= set(issuer.exchanges())
            for path in ("", "/status", "/tasks", "/files", "/logs/stderr", "/events"):
                assert ask(bob, "GET", f"/runs/{run_id}{path}").status_code == 404
                assert requests.get(f"{service.url}{API}/runs/{run_id}{path}", timeout=60).status_code == 401
            assert CANARY not in ask(bob, "GET", "/runs", params={"owner": "*"}).text
            [task] = ask(alice, "GET", f"/runs/{run_id}/tasks").json()["task_logs"]
            session = task["session_url"]
            for token in (
                alice["access_token"],
                bob["access_token"],
            ):  # tokens for the service, not for nodes
                answer = requests.get(session, headers={"Authorization": f"Bearer {token}"}, timeout=60)
                assert answer.status_code == 401
            owners: set[str] = set()
            for node in nodes.values():
                with sqlite3.connect(node.state / "node.db") as connection:
                    owners |= {row[0] for row in connection.execute("SELECT owner FROM sessions")}
            assert owners == {f"{issuer.issuer}#alice"}
            audit = [json.loads(line) for line in (service.state / "audit.log").read_text().splitlines()]
            made = [line for line in audit if line.get("made") == run_id]
            assert [line["who"] for line in made] == [f"{issuer.issuer}#alice"]
            secrets = [alice["access_token"], alice["refresh_token"], bob["access_token"]]
            for path in service.state.rglob("*"):
                if path.is_file():
                    content = path.read_bytes()
                    assert not [one for one in secrets if one.encode() in content], path
        finally:
            service.stop()


def _folder(folder: Path) -> Path:
    made = folder / "issuer"
    made.mkdir()
    return made
