"""Disks that are full: the service stays up, says what is wrong, and works again once there is room."""

from __future__ import annotations

import errno
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.service.conftest import Service, Starter
from tests.service.test_taking_up import SETTINGS, Case, await_true
from wes_bridge.client import WESError

pytestmark = pytest.mark.slow
SIZE = 12 * 1024**2


class Disk:
    """A small file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        folder.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("a small file system cannot be mounted here (root and mount are needed)")

    def fill(self) -> None:
        """Leave no room."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def clear(self) -> None:
        self._ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "small")
    yield made
    made.close()


@pytest.fixture
def large_file() -> Iterator[str]:
    """Where something larger than the disk can be had."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(2 * SIZE))
            self.end_headers()
            self.wfile.write(bytes(2 * SIZE))

        def log_message(self, *args: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/large"
    server.shutdown()
    server.server_close()


def tool(path: Path, script: str, inputs: dict[str, Any] | None = None) -> Path:
    document = {
        "cwlVersion": "v1.2",
        "class": "CommandLineTool",
        "baseCommand": ["sh", "-c", script],
        "inputs": inputs or {},
        "outputs": {"made": {"type": "File", "outputBinding": {"glob": "made"}}},
    }
    path.write_text(json.dumps(document))
    return path


def words(run: dict[str, Any]) -> str:
    return " ".join(run["run_log"]["system_logs"] or []).lower()


def test_the_disk_of_workspace_and_node(
    start_service: Starter, disk: Disk, tmp_path: Path, large_file: str
) -> None:
    node = SETTINGS["nodes"][0] | {"state_dir": str(disk.folder / "node"), "keep_sessions": 1}
    service = start_service(
        workspace=str(disk.folder / "workspace"),
        nodes=[node],
        fetch={"private_hosts": ["127.0.0.0/8"]},
        engine={"lease": 3.0},
    )
    before = {process.pid for process in service.children("wes_bridge.")}
    small = tool(tmp_path / "small.cwl", "echo small > made")

    # an upload
    disk.fill()
    with pytest.raises(WESError, match="no space left") as refused:
        service.client.submit(small, {})
    assert refused.value.status_code == 500
    assert requests.get(f"{service.url}/health", timeout=60).json() == {"status": "ok", "database": "ok"}
    disk.clear()
    well(service, small)

    # what a step writes
    run = service.run(tool(tmp_path / "large.cwl", f"head -c {2 * SIZE} /dev/zero > made"), {})
    assert run["state"] == "EXECUTOR_ERROR"
    assert "no space left" in words(run)
    service.client.delete(run["run_id"])
    well(service, small)

    # what a step reads
    reader = tool(
        tmp_path / "reader.cwl", "wc -c < $0 > made", {"file": {"type": "File", "inputBinding": {}}}
    )
    run = service.run(reader, {"file": {"class": "File", "location": large_file}})
    assert run["state"] == "SYSTEM_ERROR"
    assert "no space left" in words(run)
    service.client.delete(run["run_id"])
    well(service, small)

    # no room for the engine when the step has ended
    greedy = f"echo made > made; head -c {2 * SIZE} /dev/zero > {disk.folder}/ballast; true"
    run = service.run(tool(tmp_path / "greedy.cwl", greedy), {})
    assert run["state"] == "COMPLETE" or "no space left" in words(run), run
    disk.clear()
    well(service, small)
    assert {process.pid for process in service.children("wes_bridge.")} == before


def well(service: Service, workflow: Path) -> None:
    """Room comes as sessions that failed are purged; then a run ends well."""

    def ends_well() -> bool:
        try:
            return bool(service.run(workflow, {})["state"] == "COMPLETE")
        except WESError as error:
            assert "no space left" in error.msg
            return False

    await_true(ends_well, seconds=120)


def test_the_disk_of_the_database(start_service: Starter, disk: Disk, tmp_path: Path) -> None:
    database = f"sqlite:///{disk.folder}/wes.db"
    case = Case(lambda **settings: start_service(database=database, **settings), tmp_path)
    service = case.service
    small = tool(tmp_path / "small.cwl", "echo small > made", {"word": "string"})
    disk.fill()
    with pytest.raises(WESError, match="no space left"):
        service.client.submit(small, {"word": "x" * 1_000_000})
    assert service.client.status(case.run_id) == "RUNNING"
    case.gate.touch()
    await_true(lambda: len(case.lines()) >= 6)
    disk.clear()
    case.check(service)
    assert service.run(small, {"word": "x" * 1_000_000})["state"] == "COMPLETE"
