"""The service's tables: runs, their tags, their tasks, what workers know of the brokers, and webhooks.

Times are seconds since the epoch, UTC. ``runs.seq`` orders runs by submission and is what pages are cut by.
``tasks`` is also the run's journal: ``key`` and ``inputs_hash`` say which step with which inputs a task is,
``session_url`` where it was last placed, and ``outcome`` what came of it.
``runs.changed`` counts the changes of a run and its tasks; ``tasks.changed`` is its value at the task's last
change. It is raised under the run's row lock, so who has seen number N has seen all changes up to N.
``runs.cleaned`` is a sum of what was removed of an ended run: 1 its intermediate files, 2 its logs.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from wes_bridge.store.database import Schema

metadata = MetaData()

HEAD = 64
"""Characters of a tag's value that are in an index."""
_Key = BigInteger().with_variant(Integer, "sqlite")

runs = Table(
    "runs",
    metadata,
    Column("seq", _Key, primary_key=True, autoincrement=True),
    Column("run_id", String(64), nullable=False, unique=True),
    Column("owner", String(255), nullable=False),
    Column("state", String(20), nullable=False),
    Column("workflow_name", String(255), nullable=False, default=""),
    Column("request", JSON, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("outputs", JSON),
    Column("exit_code", Integer),
    Column("system_logs", JSON),
    Column("created", Float, nullable=False),
    Column("start_time", Float),
    Column("end_time", Float),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("worker", String(64)),
    Column("lease_until", Float),
    Column("fence", Integer, nullable=False, default=0),
    Column("changed", Integer, nullable=False, default=0, server_default="0"),
    Column("cleaned", Integer, nullable=False, default=0, server_default="0"),
    Index("runs_by_owner", "owner", "seq"),
    Index("runs_by_owner_state", "owner", "state", "seq"),
    Index("runs_by_state", "state"),
    Index("runs_by_owner_workflow", "owner", "workflow_name", "seq"),
    Index("runs_by_end", "end_time"),
    sqlite_autoincrement=True,
)

run_tags = Table(
    "run_tags",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("value", Text, nullable=False),
    Column("owner", String(255), nullable=False, default="", server_default=""),
    Column("seq", _Key, nullable=False, default=0, server_default="0"),
    Column("head", String(HEAD), nullable=False, default="", server_default=""),
    Index("run_tags_by_key", "owner", "key", "seq"),
    Index("run_tags_by_value", "owner", "key", "head", "seq"),
)
"""``owner`` and ``seq`` are the run's, repeated for the indexes; ``head`` is how ``value`` begins, since an
index of PostgreSQL takes no long texts."""

run_groups = Table(
    "run_groups",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(255), primary_key=True),
    Index("run_groups_by_name", "name", "run_id"),
)
"""Groups whose members may look at a run."""

delegations = Table(
    "delegations",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, nullable=False, default=1),
    Column("family", String(64), nullable=False),
    Column("sealed", Text, nullable=False),
    Column("changed", Float, nullable=False),
    Column("busy_until", Float, nullable=False, default=0.0),
    Index("delegations_by_family", "family"),
)
"""The tokens that a run acts with, encrypted; a new version comes with each that is handed in or renewed.
``family`` is a digest that runs of one login share; ``busy_until`` is when a refresh is given up."""

run_secrets = Table(
    "run_secrets",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("sealed", Text, nullable=False),
)
"""Inputs of a run that its workflow calls secret, encrypted; ``runs.request`` has placeholders."""

tasks = Table(
    "tasks",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("task_id", String(64), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("key", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("cmd", JSON, nullable=False),
    Column("node", String(255)),
    Column("session_url", Text),
    Column("placement", JSON),
    Column("stdout", Text),
    Column("stderr", Text),
    Column("exit_code", Integer),
    Column("system_logs", JSON),
    Column("created", Float, nullable=False),
    Column("start_time", Float),
    Column("end_time", Float),
    Column("inputs_hash", String(64)),
    Column("outcome", JSON),
    Column("changed", Integer, nullable=False, default=0, server_default="0"),
    Index("tasks_in_order", "run_id", "seq"),
    Index("tasks_by_change", "run_id", "changed", "seq"),
)

brokers = Table(
    "brokers",
    metadata,
    Column("worker", String(64), primary_key=True),
    Column("name", String(63), primary_key=True),
    Column("url", Text, nullable=False),
    Column("report", JSON, nullable=False),
    Column("seen", Float, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("url", Text, nullable=False),
    Column("secret", Text),
    Column("states", JSON, nullable=False),
    Column("base", Text, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", _Key, primary_key=True, autoincrement=True),
    Column("run_id", String(64), ForeignKey("webhooks.run_id", ondelete="CASCADE"), nullable=False),
    Column("state", String(20), nullable=False),
    Column("created", Float, nullable=False),
    Column("due", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Index("deliveries_by_due", "due"),
    Index("deliveries_by_run", "run_id", "seq"),
    sqlite_autoincrement=True,
)


reuse = Table(
    "reuse",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("used", Float, nullable=False),
    Index("reuse_by_use", "used"),
)
"""Results of steps kept for other runs; ``key`` names their folder, ``size`` is in bytes."""

SERVICE = Schema(metadata=metadata, migrations="service", head="0007")
"""The service's schema."""
