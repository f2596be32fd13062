"""One real service: API, worker and node, as ``wes-bridge serve`` starts them."""

import importlib.util
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import ready_made
from wes_bridge.cli.embedded import READY

ROOT = Path(__file__).parents[2]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """For child processes: this tree's package, nodes without containers."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("WES_BRIDGE_")}
    env["PYTHONPATH"] = str(ROOT)
    env["WES_BRIDGE_NODES"] = json.dumps([{"name": "here", "platforms": ["process"]}])
    return env


@pytest.fixture(scope="session")
def service_url(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running service that shares files."""
    for module in ("wes_bridge.wes.app", "wes_bridge.node.main", "wes_bridge.engine.worker"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not here")
    state = tmp_path_factory.mktemp("service")
    words = ["serve", "--port=0", f"--state={state}", "--log-level=warning", "--quiet", "--exit-with-parent"]
    shared = {"WES_BRIDGE_FETCH__FILES": "/", "WES_BRIDGE_FETCH__PRIVATE_HOSTS": "any"}
    env = environment | shared
    with ready_made.begin("wes_bridge.cli.main", words, stdin=subprocess.PIPE, env=env) as service:
        assert service.stdout is not None
        line = service.stdout.readline()
        assert line.startswith(READY)
        yield line.removeprefix(READY).strip()
        service.terminate()


@pytest.fixture
def command(environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs ``wes-bridge`` or ``wes-bridge-runner`` in a folder of its own."""

    def run(name: str, *arguments: str, timeout: float = 120, **env: str) -> subprocess.CompletedProcess[str]:
        module = {"wes-bridge": "wes_bridge.cli.main", "runner": "wes_bridge.cli.runner"}[name]
        return ready_made.run(module, arguments, env=environment | env, cwd=tmp_path, timeout=timeout)

    return run
