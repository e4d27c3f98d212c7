"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# PostgreSQL compares text by the database's language unless it is told to compare bytes.
BYTES = sa.Text(collation="C")
STRING = sa.String().with_variant(BYTES, "postgresql")
TEXT = sa.Text().with_variant(BYTES, "postgresql")


def upgrade() -> None:
    """Create them."""
    op.create_table(
        "alert_log",
        sa.Column("project", STRING, nullable=False),
        sa.Column("fingerprint", STRING, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", STRING, nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("project", "fingerprint", "n"),
    )
    op.create_table(
        "configuration",
        sa.Column("project", STRING, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_table(
        "cursors",
        sa.Column("source", STRING, nullable=False),
        sa.Column("container", STRING, nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.Column("mapped", TEXT, nullable=False),
        sa.Column("swept_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("source", "container"),
    )
    op.create_table(
        "due",
        sa.Column("project", STRING, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.Column("next_due", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("shown", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("project"),
    )
    op.create_index("due_by_partition", "due", ["partition"], unique=False)
    op.create_table(
        "leases",
        sa.Column("source", STRING, nullable=False),
        sa.Column("owner", STRING, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("expires_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("source"),
    )
    op.create_table(
        "ledger",
        sa.Column("source", STRING, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("digest", STRING, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=True),
        sa.Column("container", STRING, nullable=False),
        sa.Column("containers", TEXT, nullable=False),
        sa.Column("told", TEXT, nullable=False),
        sa.Column("fate", STRING, nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "id"),
    )
    op.create_index("ledger_by_container", "ledger", ["source", "container"], unique=False)
    op.create_table(
        "ledger_containers",
        sa.Column("source", STRING, nullable=False),
        sa.Column("container", STRING, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.PrimaryKeyConstraint("source", "container", "kind", "id"),
    )
    op.create_table(
        "log",
        sa.Column("only_row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("identity", STRING, nullable=False),
        sa.PrimaryKeyConstraint("only_row"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", STRING, nullable=False),
        sa.Column("project", STRING, nullable=False),
        sa.Column("channel", STRING, nullable=False),
        sa.Column("recipient", STRING, nullable=False),
        sa.Column("subject", TEXT, nullable=False),
        sa.Column("text", TEXT, nullable=False),
        sa.Column("created_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", STRING, nullable=False),
        sa.Column("owner", STRING, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("error", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_ready", "outbox", ["state", "next_try"], unique=False)
    op.create_table(
        "partitions",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("owner", STRING, nullable=False),
        sa.Column("epoch", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("edition", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_offset", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("ticked_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("partition"),
    )
    op.create_table(
        "pending",
        sa.Column("source", STRING, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("projects", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("source", "kind", "id"),
    )
    op.create_table(
        "people",
        sa.Column("id", STRING, nullable=False),
        sa.Column("mail", STRING, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("mail", name="people_mail"),
    )
    op.create_table(
        "state",
        sa.Column("project", STRING, nullable=False),
        sa.Column("source", STRING, nullable=False),
        sa.Column("kind", STRING, nullable=False),
        sa.Column("id", STRING, nullable=False),
        sa.Column("at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
        sa.Column("body", TEXT, nullable=False),
        sa.PrimaryKeyConstraint("project", "source", "kind", "id", "at"),
    )
