"""Owners of offer sets and sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = ("offersets", "sessions")


def upgrade() -> None:
    """Add the columns; of what is there nobody knows whose it is."""
    for table in _TABLES:
        op.add_column(table, sa.Column("owner", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop them."""
    for table in _TABLES:
        with op.batch_alter_table(table) as batch:
            batch.drop_column("owner")
