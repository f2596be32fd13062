"""Numbers of changes, for those who watch runs; webhooks and what is to be delivered to them."""

import sqlalchemy as sa
from alembic import op

revision = "0004_events"
down_revision = "0003"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns and the two tables."""
    op.add_column("runs", sa.Column("changed", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("changed", sa.Integer, nullable=False, server_default="0"))
    op.create_index("tasks_by_change", "tasks", ["run_id", "changed", "seq"])
    op.create_table(
        "webhooks",
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("secret", sa.Text),
        sa.Column("states", sa.JSON, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
    )
    op.create_table(
        "deliveries",
        sa.Column("seq", _KEY, primary_key=True, autoincrement=True),
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("webhooks.run_id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("due", sa.Float, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("deliveries_by_due", "deliveries", ["due"])
    op.create_index("deliveries_by_run", "deliveries", ["run_id", "seq"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("deliveries")
    op.drop_table("webhooks")
    op.drop_index("tasks_by_change", "tasks")
    op.drop_column("tasks", "changed")
    op.drop_column("runs", "changed")
