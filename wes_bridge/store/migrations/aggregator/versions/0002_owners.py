"""Owners of offer sets."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what is there nobody knows whose it is."""
    op.add_column("offersets", sa.Column("owner", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop it."""
    with op.batch_alter_table("offersets") as batch:
        batch.drop_column("owner")
