"""Offer sets and sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the two tables."""
    op.create_table(
        "offersets",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("offersets_by_age", "offersets", ["created"])
    op.create_table(
        "sessions",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("offerset", sa.String(36), nullable=False),
        sa.Column("phase", sa.String(20), nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float),
        sa.Column("ended", sa.Float),
        sa.Column("stop", sa.String(20)),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("sessions_by_offerset", "sessions", ["offerset"])
    op.create_index("sessions_by_phase", "sessions", ["phase", "created"])
    op.create_index("sessions_by_end", "sessions", ["ended"])


def downgrade() -> None:
    """Drop the two tables."""
    op.drop_table("sessions")
    op.drop_table("offersets")
