"""Offer sets, the sessions offered in them, and links."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the three tables."""
    op.create_table(
        "offersets",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("seen", sa.Float, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("accepted", sa.String(36)),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("offersets_by_seen", "offersets", ["seen"])
    op.create_index("offersets_by_state", "offersets", ["state"])
    op.create_table(
        "sessions",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("offerset", sa.String(36), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("broker", sa.String(63), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("sessions_by_offerset", "sessions", ["offerset"])
    op.create_table(
        "links",
        sa.Column("uuid", sa.String(36), primary_key=True),
        sa.Column("session", sa.String(36), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
    )
    op.create_index("links_by_session", "links", ["session"])


def downgrade() -> None:
    """Drop the three tables."""
    for table in ("links", "sessions", "offersets"):
        op.drop_table(table)
