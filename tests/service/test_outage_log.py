"""A database that is gone for a while is a few lines in the log, whatever waits for it."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.postgresql import Cluster
from tests.service.conftest import Starter
from tests.service.test_taking_up import Case

pytestmark = pytest.mark.slow
OUTAGE = 8.0
"""Seconds: all loops of a service fail several times in it; less than the minute until it is told again."""
PROCESSES = 2
"""The API and the worker: each has its own connections, and tells for itself."""


def test_an_outage_of_the_database(start_service: Starter, postgresql: Cluster, tmp_path: Path) -> None:
    case = Case(functools.partial(start_service, database=postgresql.new_database()), tmp_path)
    service = case.service
    run = f"{service.url}/ga4gh/wes/v1/runs/{case.run_id}"
    before = len(service.log.read_text().splitlines())
    with listening(f"{run}/events"):
        postgresql.stop()
        try:
            until, answers = time.monotonic() + OUTAGE, set()
            while time.monotonic() < until:
                answers.add(requests.get(run, timeout=30).status_code)
                time.sleep(0.1)
        finally:
            postgresql.start()
        case.gate.touch()
        case.check(service)
    said = service.log.read_text().splitlines()[before:]
    said = [line for line in said if "not enforced by node" not in line]  # told once it has been tried
    assert answers == {503}
    begun = [line for line in said if "the database does not answer" in line]
    ended = [line for line in said if "the database answers again" in line]
    assert len(begun) == len(ended) == PROCESSES, "\n".join(said)
    assert said == sorted(begun + ended, key=said.index), "\n".join(said)


@contextlib.contextmanager
def listening(url: str) -> Iterator[None]:
    """Somebody who listens to a run, so that its changes are looked for; the stream has begun."""
    with requests.get(url, stream=True, timeout=120) as answer:
        lines = answer.iter_lines()
        next(lines)

        def read() -> None:
            with contextlib.suppress(requests.RequestException):
                for _ in lines:
                    pass

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        yield
        thread.join(60)
