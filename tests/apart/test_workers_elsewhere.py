"""A worker on another machine, and a node that shares no disk: the service serves what the worker signs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet

from tests.apart.conftest import ONLY_WEB
from tests.apart.workflows import found, sh
from tests.node.conftest import Starter as NodeStarter
from tests.postgresql import Cluster
from tests.service.conftest import LoneWorker, Starter
from wes_bridge.cli.flow import reasons

pytestmark = pytest.mark.slow


def test_its_urls_are_good(
    start_service: Starter, start_node: NodeStarter, postgresql: Cluster, tmp_path: Path
) -> None:
    node = start_node(name="only", **ONLY_WEB)
    key = tmp_path / "key"
    key.write_bytes(Fernet.generate_key() + b"\n")
    settings = {
        "database": postgresql.new_database(),
        "workspace": str(tmp_path / "workspace"),
        "delegation": {"key": {"file": str(key)}},
        "nodes": [],
        "brokers": [{"name": "only", "url": node.url, "shares_files": False}],
    }
    service = start_service(**settings, engine={"workers": 0})
    worker = LoneWorker(tmp_path / "worker", settings | {"public_url": service.url})
    try:
        (tmp_path / "in.txt").write_text("hello\n")
        tool = sh('cat "$1" > o', {"f": "File"}, {"o": found("o")})
        (tmp_path / "t.cwl").write_text(json.dumps(tool))
        job = {"f": {"class": "File", "path": str(tmp_path / "in.txt")}}
        run = service.run(tmp_path / "t.cwl", job)
        assert run["state"] == "COMPLETE", list(reasons(service.client, run))
        assert requests.get(run["outputs"]["o"]["location"], timeout=30).text == "hello\n"
    finally:
        worker.stop()
