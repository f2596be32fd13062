"""Real stores on loopback for tests: an S3 gateway (versitygw) and a WebDAV server (wsgidav)."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cheroot.wsgi import Server
from obstore.store import S3Store
from wsgidav.wsgidav_app import WsgiDAVApp

from tests.waiting import until

ACCESS, SECRET = "wb-test", "wb-test-secret"


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class ObjectStore:
    """A gateway whose objects are files below ``folder``/BUCKET."""

    url: str
    folder: Path
    keys: Path

    def put(self, path: str, content: bytes) -> None:
        """An object at BUCKET/KEY."""
        self.client(path.partition("/")[0]).put(path.partition("/")[2], content)

    def get(self, path: str) -> bytes:
        return bytes(self.client(path.partition("/")[0]).get(path.partition("/")[2]).bytes())

    def client(self, bucket: str) -> S3Store:
        return S3Store(
            bucket,
            config={
                "endpoint": self.url,
                "access_key_id": ACCESS,
                "secret_access_key": SECRET,
                "region": "us-east-1",
            },
            client_options={"allow_http": True},
        )

    def settings(self, read: list[str], write: list[str] | None = None) -> dict[str, Any]:
        """As an item of a node's ``s3``."""
        return {
            "endpoint": self.url,
            "read": read,
            "write": write or [],
            "credentials": {"file": str(self.keys)},
        }


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """versitygw with the buckets sky, results and private."""
    program = shutil.which("versitygw")
    if program is None:
        pytest.skip("no versitygw here (.ci/run installs it where there is Go)")
    folder = tmp_path_factory.mktemp("objects")
    for bucket in ("sky", "results", "private"):
        (folder / bucket).mkdir()
    keys = folder.parent / f"{folder.name}-keys"
    keys.write_text(f"[default]\naws_access_key_id = {ACCESS}\naws_secret_access_key = {SECRET}\n")
    port = _free_port()
    environment = {**os.environ, "ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    gateway = subprocess.Popen(
        [program, "--quiet", "--port", f"127.0.0.1:{port}", "posix", str(folder)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: _answers(port))
        yield ObjectStore(f"http://127.0.0.1:{port}", folder, keys)
    finally:
        gateway.terminate()
        gateway.wait(30)


@dataclass
class Dav:
    """A WebDAV server that wants a bearer token, and what it was asked."""

    url: str
    folder: Path
    tokens: set[str]
    asked: list[tuple[str, str]]

    def workspace(self, folder: str = "") -> dict[str, Any]:
        """As a service's ``outputs_store``."""
        token = self.folder.parent / "dav-token"
        token.write_text("good")
        return {"kind": "webdav", "url": self.url + folder, "token": {"file": str(token)}}


@pytest.fixture
def dav(tmp_path: Path) -> Iterator[Dav]:
    """wsgidav for who has the token ``good``."""
    with dav_server(tmp_path / "dav", {"good"}) as found:
        yield found


@contextlib.contextmanager
def dav_server(
    folder: Path, tokens: set[str], allows: Callable[[str, str], int] | None = None
) -> Iterator[Dav]:
    """wsgidav behind a check of tokens, which it does not know itself.

    Args:
        folder: what it serves; made.
        tokens: those that it takes.
        allows: looks at token and path instead, and gives the status: 200, 401 or 403.
    """
    folder.mkdir()
    asked: list[tuple[str, str]] = []
    app = WsgiDAVApp(
        {
            "provider_mapping": {"/": str(folder)},
            "simple_dc": {"user_mapping": {"*": True}},
            "verbose": 0,
            "logging": {"enable": False},
        }
    )

    def status_for(token: str, path: str) -> int:
        return allows(token, path) if allows is not None else 200 if token in tokens else 401

    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        asked.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        token = environ.pop("HTTP_AUTHORIZATION", "").removeprefix("Bearer ")
        status = status_for(token, environ["PATH_INFO"])
        if status != 200:
            start_response(f"{status} No", [("Content-Length", "0")])
            return [b""]
        return app(environ, start_response)

    server = Server(("127.0.0.1", 0), guarded, numthreads=4)
    server.prepare()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield Dav(f"dav://127.0.0.1:{server.bind_addr[1]}/", folder, tokens, asked)
    finally:
        server.stop()
        thread.join(30)
