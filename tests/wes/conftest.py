"""Servers to test against; see ``wes_server``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from wes_server import Engine, Server, start

from tests.conftest import NewDatabase
from wes_bridge.config import FetchConfig, ServiceConfig


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase) -> Iterator[Server]:
    """One server for all tests that do not need their own; runs of other tests are in its lists."""
    folder = tmp_path_factory.mktemp("wes")
    shared = folder / "shared"
    shared.mkdir()
    fetch = FetchConfig(files=[shared])
    yield from start(ServiceConfig(state_dir=folder / "state", database=new_database(), fetch=fetch))


@pytest.fixture
def own_server(tmp_path: Path, new_database: NewDatabase) -> Iterator[Server]:
    """A server with nothing in it, and small limits."""
    yield from start(
        ServiceConfig(
            state_dir=tmp_path / "state", database=new_database(), max_body=2_000_000, max_attachments=5
        ),
    )


@pytest.fixture(scope="session")
def engine(server: Server) -> Iterator[Engine]:
    """Plays the engine for ``server``."""
    playing = Engine(server)
    yield playing
    playing.close()
