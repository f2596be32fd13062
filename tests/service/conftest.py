"""A whole service, as the command starts it: API, engine worker and node, real processes on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest

from tests import ready_made
from tests.conftest import NewDatabase
from wes_bridge import WESClient

ROOT = Path(__file__).parents[2]


class Service:
    """A running service.

    Args:
        state: its folder.
        settings: its configuration; without a database it takes the one it had in this folder.
        prefix: words before the command.
        env: further environment variables.
        port: 0 for a free one.

    Attributes:
        url: where it answers.
        client: for it.
        log: what it and its processes say.
        state: its folder.
    """

    def __init__(
        self,
        state: Path,
        settings: dict[str, Any],
        prefix: Sequence[str] = (),
        env: Mapping[str, str] = MappingProxyType({}),
        port: int = 0,
    ) -> None:
        self.state = state
        config = state.parent / f"{state.name}.yaml"
        if config.exists() and "database" not in settings:
            settings = settings | {"database": json.loads(config.read_text()).get("database")}
        config.write_text(json.dumps(settings))
        serve = ["serve", "--port", str(port or settings.get("port", 0)), "--quiet", "--state", str(state)]
        serve += ["--config", str(config)]
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
        self.log = state.parent / f"{state.name}.log"
        told = inherited | {"PYTHONPATH": str(ROOT)} | dict(env)
        with self.log.open("a") as log:
            self.process: ready_made.Copy | subprocess.Popen[str] = (
                subprocess.Popen(
                    [*prefix, sys.executable, "-m", "wes_bridge.cli.main", *serve],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=told,
                )
                if prefix
                else ready_made.begin("wes_bridge.cli.main", serve, env=told, stderr=log)
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "is ready at" in line, self.log.read_text()
        self.url = line.split()[-1]
        self.client = WESClient(self.url)

    def children(self, module: str) -> list[psutil.Process]:
        """Child processes that run ``module``."""
        return [p for p in psutil.Process(self.process.pid).children() if module in _words(p)]

    def run(self, workflow: str | Path, params: Any = None, **options: Any) -> dict[str, Any]:
        """Submit, wait for the end, and return the run's log."""
        run_id = self.client.submit(workflow, params, **options)
        self.client.wait(run_id, timeout=120)
        return self.client.run(run_id)

    def die(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it without a chance to say so; returns when all it started is gone, too."""
        children = psutil.Process(self.process.pid).children()
        self.process.send_signal(how)
        self.process.wait(timeout=60)
        psutil.wait_procs(children, timeout=60)

    def stop(self) -> None:
        """End it and all it started."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just died
        return ""


class LoneWorker:
    """A ``wes-bridge worker``, with a state folder of its own as on another machine."""

    def __init__(
        self, folder: Path, settings: dict[str, Any], env: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        folder.mkdir()
        config = folder / "worker.yaml"
        config.write_text(json.dumps(settings))
        words = ["worker", "--config", str(config), "--state", str(folder)]
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
        self.log = folder / "log"
        told = inherited | {"PYTHONPATH": str(ROOT)} | dict(env)
        with self.log.open("w") as log:
            self.process = ready_made.begin("wes_bridge.cli.main", words, env=told, stderr=log)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "worker ready\n", self.log.read_text()

    def stop(self) -> None:
        """End it, if it has not ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=120)


Starter = Callable[..., Service]


@contextlib.contextmanager
def starting(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Starter]:
    """Starts services with settings; all are stopped at the end."""
    started: list[Service] = []

    def start(
        *, prefix: Sequence[str] = (), env: Mapping[str, str] = MappingProxyType({}), **settings: Any
    ) -> Service:
        folder = tmp_path_factory.mktemp("service")
        settings.setdefault("nodes", [{"name": "here", "platforms": ["process"]}])
        settings.setdefault("database", new_database())
        service = Service(folder / "state", settings, prefix, env)
        started.append(service)
        return service

    yield start
    for service in started:
        if service.process.poll() is None:
            service.stop()


@pytest.fixture(scope="module")
def start_service(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Starter]:
    """Starts services, which are stopped at the end of the module: each takes a third of a GiB."""
    with starting(tmp_path_factory, new_database) as start:
        yield start


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Service]:
    """One service for all tests that do no harm to it."""
    with starting(tmp_path_factory, new_database) as start:
        yield start(fetch={"private_hosts": ["127.0.0.0/8"]}, engine={"expression_timeout": 40})
