"""The audit log: what can be configured, and the defaults."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class AuditConfig(BaseModel):
    """Who changed what, and who was refused what (docs/audit.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on: bool = Field(True, description="whether there is one")
    path: Path | None = Field(None, description="where it is; default: audit.log in state_dir")
    max_bytes: int = Field(50 * 1024**2, gt=0, description="bytes after which a new one is begun")
    files: int = Field(10, gt=0, description="older ones that are kept")
