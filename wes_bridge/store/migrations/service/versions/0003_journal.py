"""Tasks remember which inputs they had and what came of them, so that a run can be taken up again."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("tasks", sa.Column("inputs_hash", sa.String(64)))
    op.add_column("tasks", sa.Column("outcome", sa.JSON))


def downgrade() -> None:
    """Drop the columns."""
    op.drop_column("tasks", "outcome")
    op.drop_column("tasks", "inputs_hash")
