"""How each WES server is started. What a peer needed to run here at all is said where it is done."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.client import CallFailed, Client
from harness.environments import EnvironmentFailed, Environments
from harness.processes import Server, uninterrupted

START_SECONDS = 120.0
OURS = "wes-bridge"
_READY = "wes-bridge is ready at "
_WES = "/ga4gh/wes/v1"


class StartFailed(Exception):
    """A server cannot be measured; the text says why."""


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        name: whose it is.
        url: of its WES API.
        server: its processes.
        fields: what it wants to be submitted beside the standard's fields.
    """

    name: str
    url: str
    server: Server
    fields: dict[str, str] = field(default_factory=dict)

    def client(self) -> Client:
        """A client of it."""
        return Client(self.url, self.fields)


@dataclass(frozen=True)
class Place:
    """Where a server lives: a folder of its own, also as home and for temporary files."""

    folder: Path
    environments: Environments

    def environment(self, *programs: Path) -> dict[str, str]:
        """The environment to start a program in.

        Args:
            programs: folders of programs to be found first.
        """
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TZ") if name in os.environ}
        path = [*map(str, programs), os.environ.get("PATH", os.defpath)]
        folders = {name: self._made(name.lower()) for name in ("HOME", "TMPDIR")}
        return {**kept, **folders, "PATH": os.pathsep.join(path)}

    def _made(self, name: str) -> str:
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder)


@contextlib.contextmanager
def ours(place: Place, config: dict[str, Any] | None = None) -> Iterator[Running]:
    """``wes-bridge serve`` as it comes, or with a configuration.

    Raises:
        StartFailed: it does not start.
    """
    program = place.environments.ours().bin / "wes-bridge"
    command = [str(program), "serve", "--host", "127.0.0.1", "--port", "0", "--quiet"]
    environment = place.environment()
    command += ["--state", str(place.folder / "state")]
    if config is not None:
        file = place.folder / "config.yaml"
        file.write_text(yaml.safe_dump(config))
        command += ["--config", str(file)]
    with _stopped(Server(command, place.folder, environment)) as server:
        url = _when_ready(server, lambda: _announced(server))
        yield Running(OURS, url + _WES, server)


@contextlib.contextmanager
def wes_service(place: Place) -> Iterator[Running]:
    """The reference server with its cwl-runner backend, told to run cwltool from its environment."""
    port = _free_port()
    programs = place.environments.peer("wes-service").bin
    runner = place.environments.peer("cwltool").bin / "cwltool"
    command = [str(programs / "wes-server"), "--backend=wes_service.cwl_runner"]
    command += ["--opt", f"runner={runner}", "--port", str(port)]
    with _stopped(Server(command, place.folder, place.environment(programs))) as server:
        url = f"http://127.0.0.1:{port}{_WES}"
        _when_ready(server, lambda: _answers(url))
        yield Running("wes-service", url, server)


_LOCAL_CWLTOOL = """
function run_cwltool() {
    local -a cmd_arr=(env -C "${exe_dir}" cwltool --outdir "${outputs_dir}")
    _append_engine_params cmd_arr
    cmd_arr+=("${wf_url}" "${wf_params}")
    _write_and_run cmd_arr
}

"""
_AFTER_FUNCTIONS = "# Get the run directory from the first argument\n"


@contextlib.contextmanager
def sapporo(place: Place) -> Iterator[Running]:
    """Sapporo with its own run.sh, in which one function calls cwltool here instead of a container."""
    if not shutil.which("jq"):
        raise StartFailed("its run.sh needs jq, which is not installed")
    port = _free_port()
    environment = place.environments.peer("sapporo")
    script = _sapporo_script(environment.path, place.folder / "run.sh")
    runs = place.folder / "runs"
    runs.mkdir(parents=True)  # it does not make it itself
    command = [str(environment.bin / "sapporo"), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--run-dir", str(runs), "--run-sh", str(script)]
    programs = environment.bin, place.environments.peer("cwltool").bin
    with _stopped(Server(command, place.folder, place.environment(*programs))) as server:
        url = f"http://127.0.0.1:{port}"
        _when_ready(server, lambda: _answers(url))
        yield Running("sapporo", url, server, {"workflow_engine": "cwltool"})


def _sapporo_script(environment: Path, script: Path) -> Path:
    found = list(environment.glob("lib/python*/site-packages/sapporo/run.sh"))
    text = found[0].read_text() if found else ""
    if text.count(_AFTER_FUNCTIONS) != 1:
        raise StartFailed("its run.sh has changed: there is no place known where run_cwltool can be replaced")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(text.replace(_AFTER_FUNCTIONS, _LOCAL_CWLTOOL + _AFTER_FUNCTIONS))
    script.chmod(0o755)
    return script


@contextlib.contextmanager
def toil(place: Place) -> Iterator[Running]:
    """``toil server`` without Celery, which one worker process can do; runs on Toil's single machine."""
    port = _free_port()
    programs = place.environments.peer("toil").bin
    environment = place.environment(programs)
    environment["TOIL_COORDINATION_DIR"] = environment["TMPDIR"]
    command = [str(programs / "toil"), "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--bypass_celery", "--workers", "1", "--work_dir", str(place.folder / "workflows")]
    with _stopped(Server(command, place.folder, environment)) as server:
        url = f"http://127.0.0.1:{port}{_WES}"
        _when_ready(server, lambda: _answers(url))
        yield Running("toil", url, server)


SERVERS: dict[str, Callable[[Place], contextlib.AbstractContextManager[Running]]] = {
    OURS: ours,
    "wes-service": wes_service,
    "sapporo": sapporo,
    "toil": toil,
}
FAILURES = (StartFailed, EnvironmentFailed, CallFailed, OSError)
"""What can go wrong with a server without ending the whole measurement."""


@contextlib.contextmanager
def _stopped(server: Server) -> Iterator[Server]:
    try:
        yield server
    finally:
        with uninterrupted():
            server.stop()


def _when_ready(server: Server, probe: Callable[[], str | None]) -> str:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        found = probe()
        if found is not None:
            return found
        if server.exit_code is not None:
            raise StartFailed(f"it ended with exit code {server.exit_code}: {server.tail()}")
        time.sleep(0.1)
    raise StartFailed(f"it is not ready after {START_SECONDS:.0f} s: {server.tail()}")


def _announced(server: Server) -> str | None:
    for line in server.log.read_text(errors="replace").splitlines():
        if line.startswith(_READY):
            return line.removeprefix(_READY).strip()
    return None


def _answers(url: str) -> str | None:
    try:
        with Client(url) as client:
            client.call("GET", "/service-info")
    except (OSError, CallFailed):
        return None
    return url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
