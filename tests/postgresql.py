"""A PostgreSQL server of our own for tests: in a temporary folder, on a free port, gone at the end."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

_numbers = itertools.count(1)


def _programs() -> Path | None:
    """The folder of ``postgres`` and ``initdb``; Debian does not put it into PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists()), None)


class Cluster:
    """A running server.

    Raises:
        pytest.skip.Exception: there is none here, or no driver for it.
    """

    def __init__(self) -> None:
        self._psycopg = pytest.importorskip("psycopg", reason="the extra postgresql is not installed")
        programs = _programs()
        if programs is None:
            pytest.skip("no PostgreSQL here (Debian: apt-get install postgresql)")
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="wb-pg-"))
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            nobody = pwd.getpwnam("nobody")
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        with socket.create_server(("127.0.0.1", 0)) as sock:
            self.port = int(sock.getsockname()[1])
        options = ["-D", self._folder / "data", "-U", "wes", "-A", "trust", "-E", "UTF8", "--no-sync"]
        try:
            self._call([programs / "initdb", *options])
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def _call(self, command: list[Any]) -> None:
        done = subprocess.run(
            command, **self._as, cwd="/", capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start the server; return when it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._folder,
            "max_connections": 200,
            "fsync": "off",
        }
        words = [f"-c{name}={value}" for name, value in settings.items()]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._folder / "data", *words],
            **self._as,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "log").open("a"),
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            log = self._folder / "log"
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self._psycopg.connect(self._address("postgres"), connect_timeout=5).close()
        except self._psycopg.OperationalError:
            return False
        return True

    def _address(self, database: str) -> str:
        return f"postgresql://wes@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The server's first process."""
        return self._process.pid

    def stop(self) -> None:
        """End the server at once, as a crash would."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(timeout=60)

    def freeze(self) -> None:
        """Have the server hang: connections stay, nothing is answered."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        """Have it go on."""
        for process in reversed(self._processes()):
            process.resume()

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Have it hang for a while."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def _processes(self) -> list[psutil.Process]:
        whole = psutil.Process(self._process.pid)
        return [whole, *whole.children(recursive=True)]

    def new_database(self) -> str:
        """SQLAlchemy URL of an empty database: a schema of its own, since that is made at once."""
        name = f"test{next(_numbers)}"
        with self._psycopg.connect(self._address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        address = self._address("postgres").replace("postgresql:", "postgresql+psycopg:")
        return f"{address}?options=-csearch_path%3D{name}"

    def close(self) -> None:
        """End the server and remove its folder."""
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    """One server for all tests of a session, or skipped with words."""
    cluster = Cluster()
    yield cluster
    cluster.close()
