"""How the brokers are doing: for service-info, and for a monitoring system at ``/metrics``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from wes_bridge.store.brokers import BrokerRow, list_brokers
from wes_bridge.wes.service import Service

_COUNTS = ("asked", "offered", "refused", "failed", "late", "opened")
_WORST_FIRST = ("open", "probing", "closed")


class BrokerHandlers:
    """What the workers tell of the brokers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def rows(self) -> list[BrokerRow]:
        """What workers told that are alive."""
        age = 2 * self._service.config.engine.lease
        return await self._service.threads.sql(list_brokers, self._service.database, age)

    async def health(self, *, for_admin: bool = True) -> list[dict[str, Any]]:
        """One entry a broker, all workers together; errors may name sessions, so only admins read them."""
        by_name: dict[str, list[BrokerRow]] = {}
        for row in await self.rows():
            by_name.setdefault(row.name, []).append(row)
        entries = [_together(rows) for rows in by_name.values()]
        if not for_admin:
            for entry in entries:
                entry.pop("last_error", None)
        return entries

    async def metrics(self, _request: Request) -> Response:
        """``/metrics``, in the text format of Prometheus."""
        return PlainTextResponse(
            "\n".join(_lines(await self.health())) + "\n", media_type="text/plain; version=0.0.4"
        )


def _together(rows: list[BrokerRow]) -> dict[str, Any]:
    counts = {name: sum(row.report.get(name, 0) for row in rows) for name in _COUNTS}
    circuits = {row.report.get("circuit") for row in rows}
    errors = [row.report["last_error"] for row in rows if row.report.get("last_error")]
    answered = counts["offered"] + counts["refused"]
    seconds = sum(row.report.get("seconds", 0.0) for row in rows)
    entry: dict[str, Any] = {
        "name": rows[0].name,
        "url": rows[0].url,
        "circuit": next((name for name in _WORST_FIRST if name in circuits), "closed"),
        **counts,
        "mean_seconds": round(seconds / answered, 3) if answered else None,
    }
    return entry | ({"last_error": errors[-1]} if errors else {})


def _lines(brokers: Iterable[dict[str, Any]]) -> Iterable[str]:
    known = list(brokers)
    yield "# HELP wes_bridge_broker_requests_total Requests for offers, by what came of them."
    yield "# TYPE wes_bridge_broker_requests_total counter"
    for broker in known:
        for outcome in ("offered", "refused", "failed", "late"):
            labels = f'broker="{broker["name"]}",outcome="{outcome}"'
            yield f"wes_bridge_broker_requests_total{{{labels}}} {broker[outcome]}"
    yield "# HELP wes_bridge_broker_circuit_open Whether a broker is not asked because it failed too often."
    yield "# TYPE wes_bridge_broker_circuit_open gauge"
    for broker in known:
        shut = int(broker["circuit"] != "closed")
        yield f'wes_bridge_broker_circuit_open{{broker="{broker["name"]}"}} {shut}'
    yield "# HELP wes_bridge_broker_answer_seconds Mean time of a good answer."
    yield "# TYPE wes_bridge_broker_answer_seconds gauge"
    for broker in known:
        if broker["mean_seconds"] is not None:
            yield f'wes_bridge_broker_answer_seconds{{broker="{broker["name"]}"}} {broker["mean_seconds"]}'
