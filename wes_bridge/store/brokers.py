"""What each worker knows of the brokers' health, for the API to show: workers and API are processes apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from wes_bridge.store.database import Database, clock
from wes_bridge.store.tables import brokers


@dataclass(frozen=True)
class BrokerRow:
    """One broker as one worker knows it; ``report`` is :meth:`wes_bridge.federation.health.Health.report`."""

    worker: str
    name: str
    url: str
    report: dict[str, Any]


def put_brokers(
    connection: Connection, worker: str, reports: Mapping[str, tuple[str, dict[str, Any]]], now: float
) -> None:
    """Replace what a worker tells.

    Args:
        connection: in a transaction.
        worker: who tells.
        reports: URL and report by broker's name.
        now: seconds since the epoch.
    """
    connection.execute(delete(brokers).where(brokers.c.worker == worker))
    if reports:
        connection.execute(
            insert(brokers),
            [
                {"worker": worker, "name": name, "url": url, "report": report, "seen": now}
                for name, (url, report) in reports.items()
            ],
        )


def forget_brokers(connection: Connection, before: float) -> None:
    """Drop what workers told that have been silent since ``before`` (seconds since the epoch)."""
    connection.execute(delete(brokers).where(brokers.c.seen < before))


def list_brokers(database: Database, age: float) -> list[BrokerRow]:
    """What workers told in the last ``age`` seconds, by broker's name."""
    query = select(brokers).order_by(brokers.c.name, brokers.c.worker)
    with database.read() as connection:
        query = query.where(brokers.c.seen >= clock(connection) - age)
        return [BrokerRow(row.worker, row.name, row.url, row.report) for row in connection.execute(query)]
