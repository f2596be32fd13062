"""What tests of several rooms share."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable

import pytest

from tests.postgresql import postgresql

__all__ = ["postgresql"]

NewDatabase = Callable[[], str | None]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--database``: of the services under test; ``-m database`` are the tests that it matters to."""
    parser.addoption(
        "--database",
        choices=["sqlite", "postgresql"],
        default="sqlite",
        help="the database of the services that tests start (default: %(default)s)",
    )


def pytest_configure() -> None:
    """Ctrl-C reaches what tests start, also where it is ignored: in the background of a script."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes comes first: all others are done beside it, and nobody waits for it at the end."""
    items.sort(key=lambda item: item.path.name != "test_crashes.py")


@pytest.fixture
def nap() -> str:
    """Seconds, ten minutes, for a command to sleep, by which its process is told from every other test's."""
    return f"600.{secrets.randbelow(10**9):09}"


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest) -> NewDatabase:
    """URLs of empty databases for services; None: what they take by themselves, SQLite in their folder."""
    if request.config.getoption("--database") == "sqlite":
        return lambda: None
    url: NewDatabase = request.getfixturevalue("postgresql").new_database
    return url
