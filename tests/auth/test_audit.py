"""The audit log of all three servers: changes and refusals, one JSON object a line, no secrets, rotated."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.auth.callers import believing, header
from tests.auth.serving import served
from tests.node.conftest import Request, shell
from tests.waiting import until
from wes_bridge.aggregator.server import create_app as create_aggregator
from wes_bridge.auth.acting import HEADER
from wes_bridge.config import AggregatorConfig, NodeConfig, ServiceConfig
from wes_bridge.model.audit import AuditConfig
from wes_bridge.node.server import create_app as create_node
from wes_bridge.store.database import Database
from wes_bridge.store.tables import SERVICE
from wes_bridge.surface.audit import Audited, AuditLog, audited
from wes_bridge.wes.app import create_app as create_wes

API = "/ga4gh/wes/v1"
RUN = {"workflow_type": "CWL", "workflow_type_version": "v1.2", "workflow_url": "https://example.org/w.cwl"}


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "audit.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_who_did_what_at_the_service(tmp_path: Path) -> None:
    config = ServiceConfig(state_dir=tmp_path / "state")
    database = Database(config.database_url, SERVICE)
    app = believing(create_wes(config, database, lambda: None))
    with served(audited(app, config.audit, config.state_dir, "wes")) as url:
        made = httpx.post(f"{url}{API}/runs", data=RUN, headers=header("alice")).json()["run_id"]
        assert httpx.get(f"{url}{API}/runs/{made}?x=CANARY", headers=header("alice")).status_code == 200
        assert httpx.get(f"{url}{API}/runs/{made}?x=CANARY", headers=header("bob")).status_code == 404
        secret = {"Authorization": "Bearer CANARY"}
        httpx.post(f"{url}{API}/runs/{made}/cancel", headers=header("bob") | secret)
        httpx.post(f"{url}{API}/runs/{made}/cancel", headers=header("alice") | secret)
        until(lambda: len(lines(config.state_dir)) >= 4)
    database.close()
    told = [(one["who"], one["method"], one["path"], one["status"]) for one in lines(config.state_dir)]
    assert told == [
        ("alice", "POST", f"{API}/runs", 200),
        ("bob", "GET", f"{API}/runs/{made}", 404),
        ("bob", "POST", f"{API}/runs/{made}/cancel", 404),
        ("alice", "POST", f"{API}/runs/{made}/cancel", 200),
    ]
    first = lines(config.state_dir)[0]
    assert first["made"] == made
    assert first["address"] == "127.0.0.1"
    assert first["server"] == "wes"
    path = config.state_dir / "audit.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "CANARY" not in path.read_text()


@pytest.mark.parametrize("kind", ["node", "aggregator"])
def test_for_whom_a_service_did_what_at_a_broker(tmp_path: Path, kind: str) -> None:
    node_config = NodeConfig.model_validate({"name": "n1", "sandbox": "none"})
    with served(believing(create_node(node_config, tmp_path / "n", end_sessions=True))) as node:
        app: Any = believing(create_node(node_config, tmp_path / "own", end_sessions=True))
        if kind == "aggregator":
            brokers = [{"name": "n1", "url": node}]
            config = AggregatorConfig.model_validate({"name": "site", "brokers": brokers})
            app = believing(create_aggregator(config, tmp_path / "own"))
        with served(audited(app, AuditConfig(), tmp_path, kind)) as url:
            body = Request(shell("true")).body
            answer = httpx.post(f"{url}/direct", json=body, headers={HEADER: "alice"}, timeout=30)
            session = answer.json()["meta"]["uuid"]
            httpx.get(f"{url}/sessions/{session}", headers=header("mallory"))
            until(lambda: len(lines(tmp_path)) >= 2)
    made, refused = lines(tmp_path)
    assert (made["who"], made["for"], made["path"], made["made"]) == ("wes", "alice", "/direct", session)
    assert (refused["who"], refused["path"], refused["status"]) == ("mallory", f"/sessions/{session}", 404)


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 403, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def scope_of(path: str) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": path, "client": ("::1", 1), "headers": []}


async def _sent(message: Any) -> None:
    del message


def ask(app: Audited, path: str) -> None:
    """One request, without a server in between that would refuse such a path."""
    work = app(scope_of(path), None, _sent)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        work.send(None)


@pytest.mark.parametrize("evil", ["\n{}", "\r\n", '"}\n{"who":"root"', "\u2028x", "\x1b[2J", "\ud800", "\0"])
def test_nobody_writes_lines_of_their_own(tmp_path: Path, evil: str) -> None:
    log = AuditLog(AuditConfig(), tmp_path)
    ask(Audited(nothing, log, "wes"), f"/runs/{evil}")
    log.close()
    content = (tmp_path / "audit.log").read_bytes()
    assert content.count(b"\n") == 1
    assert all(32 <= byte < 127 for byte in content[:-1])
    assert lines(tmp_path)[0]["path"] == f"/runs/{evil}"


def test_a_long_path_is_shortened(tmp_path: Path) -> None:
    log = AuditLog(AuditConfig(), tmp_path)
    ask(Audited(nothing, log, "wes"), "/" + "x" * 100_000)
    log.close()
    assert (tmp_path / "audit.log").stat().st_size < 1000


def test_it_is_rotated(tmp_path: Path) -> None:
    log = AuditLog(AuditConfig(max_bytes=1000, files=3), tmp_path)
    for number in range(200):
        log.write(json.dumps({"number": number, "x": "x" * 80}))
        if number % 5 == 0:  # as requests come: not all at once
            until(log._lines.empty)
    log.close()
    assert {path.name for path in tmp_path.iterdir()} == {"audit.log"} | {f"audit.log.{n}" for n in (1, 2, 3)}
    assert lines(tmp_path)[-1]["number"] == 199


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("canary")
    (tmp_path / "audit.log").symlink_to(target)
    log = AuditLog(AuditConfig(), tmp_path)
    log.write("{}")
    log.close()
    assert target.read_text() == "canary"


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    assert audited(nothing, AuditConfig(on=False), tmp_path, "wes") is nothing


def test_it_is_quick(tmp_path: Path) -> None:
    log = AuditLog(AuditConfig(), tmp_path)
    app = Audited(nothing, log, "wes")
    ask(app, "/warm")
    best = 1.0
    for _ in range(5):
        begun = time.thread_time()
        for _ in range(1000):
            ask(app, "/runs/0123456789abcdef/cancel")
        best = min(best, (time.thread_time() - begun) / 1000)
    log.close()
    assert best < 60e-6, f"{best * 1e6:.1f} us"
