"""The GA4GH WES 1.1.0 data model. Field names and meaning are the standard's."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from wes_bridge.model.states import State


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class RunRequest(_Model):
    """What a client submits (``RunRequest``)."""

    workflow_params: dict[str, Any] = Field(default_factory=dict)
    workflow_type: str
    workflow_type_version: str
    tags: dict[str, str] = Field(default_factory=dict)
    workflow_engine_parameters: dict[str, str] = Field(default_factory=dict)
    workflow_engine: str | None = None
    workflow_engine_version: str | None = None
    workflow_url: str


class Log(_Model):
    """Log of a run (``Log``). Times are ``%Y-%m-%dT%H:%M:%SZ``; stdout and stderr are absolute URLs."""

    name: str | None = None
    cmd: list[str] | None = None
    start_time: str | None = None
    end_time: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    exit_code: int | None = None
    system_logs: list[str] | None = None


class TaskLog(Log):
    """Log of one task (``TaskLog``). ``state``, ``node``, ``placement`` and ``session_url`` are additions."""

    id: str
    name: str
    tes_uri: str | None = None
    state: State | None = None
    node: str | None = None
    session_url: str | None = None
    placement: dict[str, Any] | None = None


class RunStatus(_Model):
    """``RunStatus``."""

    run_id: str
    state: State


class RunSummary(RunStatus):
    """``RunSummary``. ``workflow_name`` is an addition, and so is ``owner``, in lists of others' runs."""

    start_time: str | None = None
    end_time: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    workflow_name: str | None = None
    owner: str | None = None


class RunListResponse(_Model):
    """``RunListResponse``. ``total_runs`` is an addition: how many match, whatever the page size."""

    runs: list[RunSummary]
    next_page_token: str = ""
    total_runs: int | None = None


class RunLog(_Model):
    """``RunLog``. ``outputs`` is always an object; ``task_logs`` is deprecated by the standard and null."""

    run_id: str
    request: RunRequest
    state: State
    run_log: Log
    task_logs_url: str
    task_logs: list[TaskLog] | None = None
    outputs: dict[str, Any] = Field(default_factory=dict)


class TaskListResponse(_Model):
    """``TaskListResponse``."""

    task_logs: list[TaskLog]
    next_page_token: str = ""


class ErrorResponse(_Model):
    """``ErrorResponse``: the body of every error."""

    msg: str
    status_code: int
