"""Whose the accounts of the sources are."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# PostgreSQL compares text by the database's language unless it is told to compare bytes.
STRING = sa.String().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table. Who runs without it links no accounts and shows no names."""
    op.create_table(
        "accounts",
        sa.Column("source", STRING, nullable=False),
        sa.Column("account", STRING, nullable=False),
        sa.Column("person", STRING, nullable=False),
        sa.Column("how", STRING, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("source", "account"),
    )
    op.create_index("accounts_by_person", "accounts", ["person"], unique=False)
