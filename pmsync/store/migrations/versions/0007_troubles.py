"""Since when each source cannot be read, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

# PostgreSQL compares text by the database's language unless it is told to compare bytes.
STRING = sa.String().with_variant(sa.Text(collation="C"), "postgresql")
TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "troubles",
        sa.Column("source", STRING, nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tries", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("reason", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
