"""Servers to test against; see ``wes_server``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wes_server import Engine, Server, start

from wes_bridge.config import FetchConfig, ServiceConfig


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that do not need their own; runs of other tests are in its lists."""
    folder = tmp_path_factory.mktemp("wes")
    shared = folder / "shared"
    shared.mkdir()
    yield from start(ServiceConfig(state_dir=folder / "state", fetch=FetchConfig(files=[shared])))


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A server with nothing in it, and small limits."""
    yield from start(
        ServiceConfig(state_dir=tmp_path / "state", max_body=2_000_000, max_attachments=5),
    )


@pytest.fixture(scope="session")
def engine(server: Server) -> Engine:
    """Plays the engine for ``server``."""
    return Engine(server)
