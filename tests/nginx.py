"""A real nginx on loopback for tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.waiting import until


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@dataclass
class Nginx:
    """One server.

    Attributes:
        url: without a slash at its end.
        files: what it serves, where it serves files.
        log: a line for each request: its status, method and address.
        process: of its master.
    """

    url: str
    files: Path
    log: Path
    process: subprocess.Popen[bytes]

    def said(self) -> list[str]:
        """Lines of the log."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def kill_workers(self) -> None:
        """As a crash does; the master starts others."""
        for child in psutil.Process(self.process.pid).children():
            child.kill()

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)


def start_nginx(folder: Path, location: str, port: int | None = None) -> Nginx:
    """Start one.

    Args:
        folder: for its files.
        location: directives of its one location.
        port: to listen on; None: a free one.
    """
    program = shutil.which("nginx")
    if program is None:
        pytest.skip("nginx is not installed (.ci/run installs it as root)")
    port = port or free_port()
    files = folder / "files"
    files.mkdir(parents=True, exist_ok=True)
    config, log = folder / "nginx.conf", folder / "access.log"
    config.write_text(
        f"""
        {"user root;" if os.getuid() == 0 else ""}
        worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}
        http {{
          log_format short '$status $request_method $request_uri';
          access_log {log} short;
          client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;
          fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
          server {{ listen 127.0.0.1:{port}; location / {{ {location} }} }}
        }}
        """
    )
    process = subprocess.Popen([program, "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
    return Nginx(f"http://127.0.0.1:{port}", files, log, process)


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """It serves files, a few MiB a second, so that a download is under way for a while."""
    server = start_nginx(tmp_path / "nginx", f"root {tmp_path}/nginx/files; limit_rate 4m;")
    yield server
    server.stop()
