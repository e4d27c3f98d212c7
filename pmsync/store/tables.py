"""The tables, as SQLAlchemy Core knows them. Migrations (`migrations/`) build them; a test holds the two together.

Instants are µs since 1970 (integers), so that SQLite and PostgreSQL compare them alike.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

metadata = MetaData()


def _text(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, String, primary_key=primary_key, nullable=False)


def _number(name: str, *, primary_key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=primary_key, nullable=False, autoincrement=False)


state = Table(
    "state",
    metadata,
    _text("project", primary_key=True),
    _text("source", primary_key=True),
    _text("kind", primary_key=True),
    _text("id", primary_key=True),
    _number("at", primary_key=True),
    _number("version"),
    Column("gone", Boolean, nullable=False),
    Column("body", Text, nullable=False),
)
"""What events fold into (`pmsync.core.project.Row`). `at` is 0 for the newest version, the version for a kept one."""

partitions = Table(
    "partitions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    _text("owner"),
    _number("epoch"),
    _number("edition"),
    _number("next_offset"),
    _number("ticked_at"),
)
"""Who folds a partition, up to where: the fence and the truth about offsets."""

due = Table(
    "due",
    metadata,
    _text("project", primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("dirty", Boolean, nullable=False),
    _number("next_due"),
    Column("shown", Text, nullable=False),
    Index("due_by_partition", "partition"),
)
"""Which projects a tick has to assess: those that changed, and those whose next moment has come.
`shown` are the containers that its last assessment covered, empty before the first one."""

alert_log = Table(
    "alert_log",
    metadata,
    _text("project", primary_key=True),
    _text("fingerprint", primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    _number("at"),
    _text("state"),
    _number("since"),
    Column("body", Text, nullable=False),
)
"""What was decided to be told, once each: the `n`-th transition of an alert in a project."""

outbox = Table(
    "outbox",
    metadata,
    _text("id", primary_key=True),
    _text("project"),
    _text("channel"),
    _text("recipient"),
    Column("subject", Text, nullable=False),
    Column("text", Text, nullable=False),
    _number("created_at"),
    _text("state"),
    _text("owner"),
    Column("attempts", Integer, nullable=False),
    _number("next_try"),
    Column("error", Text, nullable=False),
    Index("outbox_ready", "state", "next_try"),
)
"""Messages on their way to people. `state` is ready, sending (by `owner`, until `next_try`), sent or
dead."""

leases = Table(
    "leases",
    metadata,
    _text("source", primary_key=True),
    _text("owner"),
    _number("epoch"),
    _number("expires_at"),
)
"""Who is the single reader of a source."""

ledger = Table(
    "ledger",
    metadata,
    _text("source", primary_key=True),
    _text("kind", primary_key=True),
    _text("id", primary_key=True),
    _text("digest"),
    _number("version"),
    Column("time", BigInteger),
    _text("container"),
    Column("containers", Text, nullable=False),
    Column("told", Text, nullable=False),
    _text("fate"),
    Index("ledger_by_container", "source", "container"),
)
"""What a reader has published of each thing (`connectors.pump.Entry`)."""

ledger_containers = Table(
    "ledger_containers",
    metadata,
    _text("source", primary_key=True),
    _text("container", primary_key=True),
    _text("kind", primary_key=True),
    _text("id", primary_key=True),
)
"""Every container that a thing of the ledger is or was in."""

pending = Table(
    "pending",
    metadata,
    _text("source", primary_key=True),
    _text("kind", primary_key=True),
    _text("id", primary_key=True),
    _number("version"),
    Column("projects", Text, nullable=False),
)
"""What is about to go out and not yet known to have arrived."""

cursors = Table(
    "cursors",
    metadata,
    _text("source", primary_key=True),
    _text("container", primary_key=True),
    Column("since", BigInteger),
    Column("mapped", Text, nullable=False),
    Column("swept_at", BigInteger),
)
"""A reader's place in each container, for the mappings that it began with."""

configuration = Table(
    "configuration",
    metadata,
    _text("project", primary_key=True),
    _number("version"),
    Column("body", Text, nullable=False),
)
"""The projects as last applied: the source that the configuration's own reader reads."""

people = Table(
    "people",
    metadata,
    _text("id", primary_key=True),
    _text("mail"),
    Column("name", Text, nullable=False),
    UniqueConstraint("mail", name="people_mail"),
)
"""Names and mail addresses live here and nowhere else."""
