"""Runs, tags and tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "runs",
        sa.Column("seq", _KEY, primary_key=True, autoincrement=True),
        sa.Column("run_id", sa.String(64), nullable=False, unique=True),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("workflow_name", sa.String(255), nullable=False),
        sa.Column("request", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("outputs", sa.JSON),
        sa.Column("exit_code", sa.Integer),
        sa.Column("system_logs", sa.JSON),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("start_time", sa.Float),
        sa.Column("end_time", sa.Float),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("lease_until", sa.Float),
        sa.Column("fence", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("runs_by_owner", "runs", ["owner", "seq"])
    op.create_index("runs_by_owner_state", "runs", ["owner", "state", "seq"])
    op.create_index("runs_by_state", "runs", ["state"])
    op.create_index("runs_by_workflow", "runs", ["workflow_name", "seq"])
    op.create_table(
        "run_tags",
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_index("run_tags_by_key", "run_tags", ["key"])
    op.create_table(
        "tasks",
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("task_id", sa.String(64), primary_key=True),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("cmd", sa.JSON, nullable=False),
        sa.Column("node", sa.String(255)),
        sa.Column("session_url", sa.Text),
        sa.Column("placement", sa.JSON),
        sa.Column("stdout", sa.Text),
        sa.Column("stderr", sa.Text),
        sa.Column("exit_code", sa.Integer),
        sa.Column("system_logs", sa.JSON),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("start_time", sa.Float),
        sa.Column("end_time", sa.Float),
    )
    op.create_index("tasks_in_order", "tasks", ["run_id", "seq"])


def downgrade() -> None:
    """Drop the three tables."""
    op.drop_table("tasks")
    op.drop_table("run_tags")
    op.drop_table("runs")
