"""Things of sources that may have changed, by their webhooks or by `pmsync reread`."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

# PostgreSQL compares text by the database's language unless it is told to compare bytes.
STRING = sa.String().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "hints",
        sa.Column("source", STRING, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("container", STRING, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "id"),
    )
