"""A project is assessed outside of a transaction; what changes meanwhile shows by the offset of its last change."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; an older pmsync that still runs leaves it at what it is."""
    op.add_column("due", sa.Column("changed", sa.BigInteger(), nullable=False, server_default="0"))
