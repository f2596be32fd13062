"""Results of steps kept for other runs, and how far an ended run has been cleaned up."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004_events"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, add the column."""
    op.create_table(
        "reuse",
        sa.Column("key", sa.String(64), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("used", sa.Float, nullable=False),
    )
    op.create_index("reuse_by_use", "reuse", ["used"])
    op.add_column("runs", sa.Column("cleaned", sa.Integer, nullable=False, server_default="0"))
    op.create_index("runs_by_end", "runs", ["end_time"])


def downgrade() -> None:
    """Drop both."""
    op.drop_index("runs_by_end", "runs")
    with op.batch_alter_table("runs") as batch:
        batch.drop_column("cleaned")
    op.drop_table("reuse")
