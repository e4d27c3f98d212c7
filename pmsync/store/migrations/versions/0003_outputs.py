"""What others were told of each project last, and indices that lead to the waiting messages of a queue, and to a project's last."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# PostgreSQL compares text by the database's language unless it is told to compare bytes.
STRING = sa.String().with_variant(sa.Text(collation="C"), "postgresql")
WAITING = sa.text("state IN ('ready', 'sending')")


def upgrade() -> None:
    """Add them. Who writes rows of `due` without the column gets its default."""
    op.add_column("due", sa.Column("metrics", STRING, nullable=False, server_default=""))
    op.create_index("outbox_projects", "outbox", ["project", "created_at"], unique=False)
    op.create_index(
        "outbox_queues",
        "outbox",
        ["channel", "recipient", "created_at", "id"],
        unique=False,
        sqlite_where=WAITING,
        postgresql_where=WAITING,
    )
