"""Both databases: each test of a ``url`` runs on SQLite and, where there is one, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Urls = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Urls:
    """Gives URLs of databases that are empty."""
    if request.param == "postgresql":
        url: Urls = request.getfixturevalue("postgresql").new_database
        return url
    numbers = iter(range(1000))
    return lambda: f"sqlite:///{tmp_path}/{next(numbers)}.db"


@pytest.fixture
def url(new_url: Urls) -> str:
    """An empty database."""
    return new_url()
