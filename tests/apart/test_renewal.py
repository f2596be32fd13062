"""Signed URLs that are not good any more when a session's turn comes: others are made, and nobody notices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from tests.apart.conftest import ONLY_WEB
from tests.apart.test_runs import sh
from tests.nginx import free_port, start_nginx
from tests.node.conftest import Request, process
from tests.node.conftest import Starter as NodeStarter
from tests.service.conftest import Service, Starter
from tests.waiting import until
from wes_bridge import WESClient
from wes_bridge.cli.flow import reasons
from wes_bridge.data.handing_out import KEYS
from wes_bridge.federation.ways import SERVED


def direct(service: Service) -> str:
    """Where it answers itself, behind its proxy."""
    return (service.state / SERVED).read_text().split()[1]


def test_a_session_that_waits_for_longer_than_its_urls_are_good(
    start_service: Starter, start_node: NodeStarter, tmp_path: Path, nap: str
) -> None:
    """The service has other keys by the time that the node is free; URLs that expire end in the same way."""
    node = start_node(name="busy", cores=1, max_running=1, **ONLY_WEB)
    blockers = [node.begin(Request(process("sleep", nap))) for _ in range(2)]  # the next in line is staged
    node.until(blockers[0], lambda now: now["phase"] == "RUNNING")
    port = free_port()
    settings: dict[str, Any] = {
        "nodes": [],
        "brokers": [{"name": "busy", "url": node.url, "shares_files": False}],
        "public_url": f"http://127.0.0.1:{port}/",
    }
    service = start_service(**settings)
    (tmp_path / "in.txt").write_text("hello\n")
    (tmp_path / "w.cwl").write_text(json.dumps(sh('cat "$1"', {"f": "File"}, {"o": "stdout"}, stdout="o")))
    job = {"f": {"class": "File", "path": str(tmp_path / "in.txt")}}
    with WESClient(direct(service)) as client:
        run_id = client.submit(tmp_path / "w.cwl", job)
    until(lambda: requests.get(f"{node.url}/health", timeout=30).json()["sessions"]["waiting"] == 2)
    service.stop()
    (service.state / KEYS).unlink()
    later = Service(service.state, settings)
    proxy = start_nginx(tmp_path / "nginx", f"proxy_pass {direct(later)};", port)
    try:
        for blocker in blockers:
            node.update(blocker, "CANCELLED")
        with WESClient(direct(later)) as client:
            client.wait(run_id, timeout=120)
            run = client.run(run_id)
            assert run["state"] == "COMPLETE", list(reasons(client, run))
            (task,) = client.tasks(run_id)
        (first,) = task["placement"]["earlier"]
        assert "HTTP 403" in first["problem"], first
        assert "signature=***" in first["problem"], "it is shown with its signature"
    finally:
        proxy.stop()
        later.stop()
