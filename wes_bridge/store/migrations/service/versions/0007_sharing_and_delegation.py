"""Groups that may look at a run, the tokens that it acts with, and its secret inputs."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; runs stay whose they are."""
    op.create_table(
        "run_groups",
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("name", sa.String(255), primary_key=True),
    )
    op.create_index("run_groups_by_name", "run_groups", ["name", "run_id"])
    op.create_table(
        "delegations",
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("family", sa.String(64), nullable=False),
        sa.Column("sealed", sa.Text, nullable=False),
        sa.Column("changed", sa.Float, nullable=False),
        sa.Column("busy_until", sa.Float, nullable=False),
    )
    op.create_index("delegations_by_family", "delegations", ["family"])
    op.create_table(
        "run_secrets",
        sa.Column(
            "run_id", sa.String(64), sa.ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("sealed", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("run_secrets")
    op.drop_table("delegations")
    op.drop_index("run_groups_by_name", "run_groups")
    op.drop_table("run_groups")
