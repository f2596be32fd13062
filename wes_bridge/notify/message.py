"""What a webhook is sent: the body, and the headers that say which message it is and who sent it. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from wes_bridge.data.public_outputs import public_outputs
from wes_bridge.model.finite import finite_json
from wes_bridge.model.states import State
from wes_bridge.model.units import format_second
from wes_bridge.model.webhooks import signature

MAX_BODY = 256 * 1024
"""Bytes; the outputs of a run that would make it larger are left out."""


class _Links:
    def __init__(self, base: str) -> None:
        self.base = base

    def file(self, run_id: str, path: str) -> str:
        """Where a file of a run can be downloaded."""
        return f"{self.base}/runs/{run_id}/files/{quote(path)}"


def message_id(run_id: str, state: str) -> str:
    """The same for each attempt: a run comes to a state once."""
    return f"{run_id}.{state.lower()}"


def body(delivery: Any) -> bytes:
    """The JSON for a row of :func:`wes_bridge.store.webhooks.claim_deliveries`; the same for each attempt.

    Args:
        delivery: the row.
    """
    links = _Links(delivery.base)
    told: dict[str, Any] = {
        "type": "run.state",
        "run_id": delivery.run_id,
        "state": delivery.state,
        "time": _instant(delivery.created),
        "run_url": f"{links.base}/runs/{delivery.run_id}",
        "workflow_name": delivery.workflow_name,
        "tags": delivery.tags,
    }
    if State(delivery.state).is_final:
        told |= {
            "start_time": _instant(delivery.start_time),
            "end_time": _instant(delivery.end_time),
            "exit_code": delivery.exit_code,
            "system_logs": (delivery.system_logs or [])[:10],
            "outputs": public_outputs(delivery.outputs, delivery.run_id, links),
        }
    whole = _json(told)
    if len(whole) > MAX_BODY:
        whole = _json(told | {"outputs": None, "system_logs": [], "truncated": True})
    return whole


def headers(delivery: Any, content: bytes, now: int) -> dict[str, str]:
    """The headers for one attempt at ``now`` (seconds since the epoch)."""
    name = message_id(delivery.run_id, delivery.state)
    found = {
        "Content-Type": "application/json",
        "User-Agent": "wes-bridge",
        "webhook-id": name,
        "webhook-timestamp": str(now),
    }
    if delivery.secret:
        found["webhook-signature"] = signature(delivery.secret, name, now, content)
    return found


def _json(value: Any) -> bytes:
    return finite_json(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else format_second(datetime.fromtimestamp(seconds, UTC))
