"""Database rows as the standard's JSON. Fields without a value are left out (``task_logs`` is null)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from wes_bridge.data.public_outputs import public_outputs
from wes_bridge.model.states import State
from wes_bridge.model.units import format_second
from wes_bridge.model.wes import Log, RunLog, RunRequest, RunSummary, TaskLog
from wes_bridge.redaction import redacted_json
from wes_bridge.wes.links import Links


def run_summary(row: Row[Any], *, with_owner: bool = False) -> dict[str, Any]:
    """``RunSummary`` of a row of :func:`wes_bridge.store.listing.list_runs`."""
    summary = RunSummary(
        run_id=row.run_id,
        state=State(row.state),
        start_time=_instant(row.start_time),
        end_time=_instant(row.end_time),
        tags=row.tags,
        workflow_name=row.workflow_name,
        owner=row.owner if with_owner else None,
    )
    return summary.model_dump(mode="json", exclude_none=True)


def run_log(row: Row[Any], links: Links) -> dict[str, Any]:
    """``RunLog`` of a whole row of ``runs``."""
    log = Log(
        name=row.workflow_name,
        start_time=_instant(row.start_time),
        end_time=_instant(row.end_time),
        stdout=links.stream(row.run_id, "stdout"),
        stderr=links.stream(row.run_id, "stderr"),
        exit_code=row.exit_code,
        system_logs=redacted_json(row.system_logs or []),
    )
    whole = RunLog(
        run_id=row.run_id,
        request=RunRequest.model_construct(**row.request),
        state=State(row.state),
        run_log=log,
        task_logs_url=links.tasks(row.run_id),
        outputs=public_outputs(row.outputs, row.run_id, links),
    )
    answer = whole.model_dump(mode="json", exclude={"request", "outputs"}, exclude_none=True)
    return answer | {"request": row.request, "outputs": whole.outputs, "task_logs": None}


def task_log(row: Row[Any], links: Links) -> dict[str, Any]:
    """``TaskLog`` of a whole row of ``tasks``."""
    log = TaskLog(
        id=row.task_id,
        name=row.name,
        cmd=redacted_json(row.cmd),
        start_time=_instant(row.start_time),
        end_time=_instant(row.end_time),
        stdout=links.task_stream(row.run_id, row.task_id, "stdout"),
        stderr=links.task_stream(row.run_id, row.task_id, "stderr"),
        exit_code=row.exit_code,
        system_logs=redacted_json(row.system_logs or []),
        state=State(row.state),
        node=row.node,
        session_url=row.session_url,
        placement=redacted_json(row.placement),
    )
    return log.model_dump(mode="json", exclude_none=True)


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else format_second(datetime.fromtimestamp(seconds, UTC))
