"""Lists of many runs: tags with their run's owner and number, and names by owner."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Add the columns with what belongs there, and change the indexes."""
    op.add_column("run_tags", sa.Column("owner", sa.String(255), nullable=False, server_default=""))
    op.add_column("run_tags", sa.Column("seq", _KEY, nullable=False, server_default="0"))
    op.add_column("run_tags", sa.Column("head", sa.String(64), nullable=False, server_default=""))
    op.execute(
        "UPDATE run_tags SET head = substr(value, 1, 64),"
        " owner = (SELECT owner FROM runs WHERE runs.run_id = run_tags.run_id),"
        " seq = (SELECT seq FROM runs WHERE runs.run_id = run_tags.run_id)"
    )
    op.drop_index("run_tags_by_key", "run_tags")
    op.create_index("run_tags_by_key", "run_tags", ["owner", "key", "seq"])
    op.create_index("run_tags_by_value", "run_tags", ["owner", "key", "head", "seq"])
    op.drop_index("runs_by_workflow", "runs")
    op.create_index("runs_by_owner_workflow", "runs", ["owner", "workflow_name", "seq"])


def downgrade() -> None:
    """As it was."""
    op.drop_index("runs_by_owner_workflow", "runs")
    op.create_index("runs_by_workflow", "runs", ["workflow_name", "seq"])
    op.drop_index("run_tags_by_value", "run_tags")
    op.drop_index("run_tags_by_key", "run_tags")
    op.create_index("run_tags_by_key", "run_tags", ["key"])
    with op.batch_alter_table("run_tags") as batch:
        for name in ("head", "seq", "owner"):
            batch.drop_column(name)
