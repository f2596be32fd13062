"""All three kinds of server, as people start them, and a node in a thread that has little patience."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import uvicorn

from tests.aggregator.conftest import AggregatorProcess, brokers
from tests.node.conftest import NodeProcess
from tests.service.conftest import Service
from tests.waiting import until
from wes_bridge.config import NodeConfig
from wes_bridge.node.server import create_app
from wes_bridge.surface.patience import Patience
from wes_bridge.surface.patient import PatientProtocol

Address = tuple[str, int]


@dataclass
class Raw:
    """A server to which bytes are sent.

    Attributes:
        address: where it listens.
        operation: an address that takes a POST.
    """

    address: Address
    operation: str = "/requests"

    def connect(self, seconds: float = 20) -> socket.socket:
        return socket.create_connection(self.address, seconds)

    def say(self, data: bytes, quiet: float = 20) -> bytes:
        """All that is answered to these bytes, until the server closes or is quiet for so long."""
        with self.connect() as connection:
            with contextlib.suppress(OSError):  # it has answered before it had all
                connection.sendall(data)
            connection.settimeout(quiet)
            return everything(connection)

    def health(self) -> int:
        return httpx.get(f"http://{self.address[0]}:{self.address[1]}/health", timeout=20).status_code


def everything(connection: socket.socket) -> bytes:
    """What comes until the connection is closed, or nothing comes any more."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except OSError:
        pass
    return found


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Raw]]:
    """A service, a node and an aggregator, each a process as people start it."""
    folder = tmp_path_factory.mktemp("servers")
    node = NodeProcess(folder / "node", {"name": "raw", "sandbox": "none", "platforms": ["process"]}).start()
    aggregator = AggregatorProcess(folder / "aggregator", {"name": "many", "brokers": brokers(node)}).start()
    service = Service(folder / "service", {"nodes": [], "engine": {"workers": 0}})
    urls = {"node": node.url, "aggregator": aggregator.url, "wes": service.url}
    made = {name: Raw((httpx.URL(url).host, httpx.URL(url).port or 80)) for name, url in urls.items()}
    made["wes"].operation = "/ga4gh/wes/v1/runs"
    try:
        yield made
    finally:
        service.stop()
        aggregator.stop()
        node.stop()


@pytest.fixture(params=["wes", "node", "aggregator"])
def raw(request: pytest.FixtureRequest, servers: dict[str, Raw]) -> Raw:
    """Each of them in turn."""
    return servers[request.param]


@contextmanager
def impatient_node(state: Path, patience: Patience) -> Iterator[Raw]:
    """A node in a thread of this process."""
    protocol = type("Impatient", (PatientProtocol,), {"patience": patience})
    app = create_app(NodeConfig(sandbox="none", platforms=["process"]), state, end_sessions=True)
    server = uvicorn.Server(uvicorn.Config(app, http=protocol, log_level="critical", lifespan="on"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until(lambda: server.started or not thread.is_alive())
    try:
        yield Raw(listening.getsockname())
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@pytest.fixture
def impatient(tmp_path: Path) -> Callable[[Patience], object]:
    """Starts such a node, as a context."""
    return lambda patience: impatient_node(tmp_path / "state", patience)
