"""Room for a rebuild beside live traffic, and for the note that a store was moved. Nothing that is there changes: workers of before go on."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

BYTES = sa.Text(collation="C")
STRING = sa.String().with_variant(BYTES, "postgresql")
TEXT = sa.Text().with_variant(BYTES, "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "rebuilt",
        sa.Column("project", STRING, nullable=False),
        sa.Column("source", STRING, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("project", "source", "kind", "id", "at"),
    )
    op.create_index("rebuilt_by_partition", "rebuilt", ["partition"], unique=False)
    op.create_table(
        "rebuilds",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", STRING, nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("partition"),
    )
    op.create_table(
        "moved",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("role", STRING, nullable=False),
        sa.Column("log", STRING, nullable=False),
        sa.Column("place", TEXT, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("only_row"),
    )
