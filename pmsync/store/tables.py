"""The tables, as SQLAlchemy Core knows them. Migrations (`migrations/`) build them; a test holds the two together.

Instants are µs since 1970 (integers) and text is compared by its bytes, so that SQLite and PostgreSQL order them alike.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData()


def escaped(value: str) -> str:
    """Text as PostgreSQL takes it: it refuses NUL, which an id, a title or a server's answer may hold."""
    return value.replace("\x1b", "\x1b1").replace("\0", "\x1b0") if "\0" in value or "\x1b" in value else value


def unescaped(value: str) -> str:
    """Text as it was before it was `escaped`."""
    return value.replace("\x1b0", "\0").replace("\x1b1", "\x1b") if "\x1b" in value else value


class _PostgresText(TypeDecorator[str]):
    """Text as PostgreSQL has to be told to keep it: escaped, and compared by bytes, whatever the database's own order."""

    impl = Text
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(collation="C")

    def process_bind_param(self, value: str | None, _: Dialect) -> str | None:
        return None if value is None else escaped(value)

    def process_result_value(self, value: Any | None, _: Dialect) -> str | None:
        return None if value is None else unescaped(str(value))


_SHORT = String().with_variant(_PostgresText(), "postgresql")
_LONG = Text().with_variant(_PostgresText(), "postgresql")


def _text(name: str, *, primary_key: bool = False) -> Column[str]:
    return Column(name, _SHORT, primary_key=primary_key, nullable=False)


def _long_text(name: str) -> Column[str]:
    return Column(name, _LONG, nullable=False)


def _number(name: str, *, primary_key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=primary_key, nullable=False, autoincrement=False)


def _row() -> list[Column[Any]]:
    """The columns of a row that events fold into."""
    key: list[Column[Any]] = [_text(name, primary_key=True) for name in ("project", "source", "kind", "id")]
    value: list[Column[Any]] = [_number("version"), Column("gone", Boolean, nullable=False), _long_text("body")]
    return [*key, _number("at", primary_key=True), *value]


state = Table(
    "state",
    metadata,
    *_row(),
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

rebuilt = Table(
    "rebuilt",
    metadata,
    *_row(),
    Column("partition", Integer, nullable=False),
    Index("rebuilt_by_partition", "partition"),
)
"""What a rebuild has folded so far: rows as in `state`, until they take their place there."""

rebuilds = Table(
    "rebuilds",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    _text("owner"),
    _number("since"),
    _number("expires_at"),
    _number("next_offset"),
)
"""Who rebuilds a partition, and up to where its `rebuilt` rows go."""

log = Table(
    "log",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False),
    _text("identity"),
)
"""Which log this store is built from: one row, once something was read or written."""

moved = Table(
    "moved",
    metadata,
    Column("only_row", Integer, primary_key=True, autoincrement=False),
    _text("role"),
    _text("log"),
    _long_text("place"),
    _number("at"),
)
"""That `pmsync move` carried this installation away or is filling this store (`pmsync.store.moves.Role`); `log` is the
identity of the log on the other side, `place` where that is, for people."""

due = Table(
    "due",
    metadata,
    _text("project", primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("dirty", Boolean, nullable=False),
    _number("next_due"),
    _long_text("shown"),
    Column("changed", BigInteger, nullable=False, server_default="0"),
    Column("metrics", _SHORT, nullable=False, server_default=""),
    Index("due_by_partition", "partition"),
)
"""Which projects a tick has to assess: those that changed (last by the batch that ended at the offset `changed`, or by the rebuild that
made the edition `-changed`), and those
whose next moment has come.
`shown` are the containers that its last assessment covered, empty before the first one; `metrics` is the digest of what
others were told of it last, empty if that is nothing."""

alert_log = Table(
    "alert_log",
    metadata,
    _text("project", primary_key=True),
    _text("fingerprint", primary_key=True),
    Column("n", Integer, primary_key=True, autoincrement=False),
    _number("at"),
    _text("state"),
    _number("since"),
    _long_text("body"),
)
"""What was decided to be told, once each: the `n`-th transition of an alert in a project."""

# Written out, not bound: a database must see that it is the condition of the index.
WAITING = text("state IN ('ready', 'sending')")
"""What of the outbox is still on its way."""

outbox = Table(
    "outbox",
    metadata,
    _text("id", primary_key=True),
    _text("project"),
    _text("channel"),
    _text("recipient"),
    _long_text("subject"),
    _long_text("text"),
    _number("created_at"),
    _text("state"),
    _text("owner"),
    Column("attempts", Integer, nullable=False),
    _number("next_try"),
    _long_text("error"),
    Index("outbox_ready", "state", "next_try"),
    Index("outbox_projects", "project", "created_at"),
    Index("outbox_queues", "channel", "recipient", "created_at", "id", sqlite_where=WAITING, postgresql_where=WAITING),
)
"""Messages on their way to people and to topics for others. `state` is ready, sending (by `owner`, until `next_try`), sent or
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
    _long_text("containers"),
    _long_text("told"),
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
    _long_text("projects"),
)
"""What is about to go out and not yet known to have arrived."""

hints = Table(
    "hints",
    metadata,
    _text("source", primary_key=True),
    _text("kind", primary_key=True),
    _text("id", primary_key=True),
    _text("container"),
    _number("at"),
)
"""Things that may have changed (`connectors.webhooks.Hint`), each once, with when that was heard last."""

cursors = Table(
    "cursors",
    metadata,
    _text("source", primary_key=True),
    _text("container", primary_key=True),
    Column("since", BigInteger),
    _long_text("mapped"),
    Column("swept_at", BigInteger),
)
"""A reader's place in each container, for the mappings that it began with."""

reads = Table(
    "reads",
    metadata,
    _text("source", primary_key=True),
    _number("at"),
)
"""When each source was last read to its end."""

troubles = Table(
    "troubles",
    metadata,
    _text("source", primary_key=True),
    _number("since"),
    _number("tries"),
    _text("kind"),
    _long_text("reason"),
)
"""The sources whose last round failed: since when, after how many tries, and why the last of them did."""

configuration = Table(
    "configuration",
    metadata,
    _text("project", primary_key=True),
    _number("version"),
    _long_text("body"),
)
"""The projects as last applied: the source that the configuration's own reader reads."""

people = Table(
    "people",
    metadata,
    _text("id", primary_key=True),
    _text("mail"),
    _long_text("name"),
    UniqueConstraint("mail", name="people_mail"),
)
"""Names and mail addresses live here and nowhere else."""

accounts = Table(
    "accounts",
    metadata,
    _text("source", primary_key=True),
    _text("account", primary_key=True),
    _text("person"),
    _text("how"),
    _number("at"),
    Index("accounts_by_person", "person"),
)
"""Whose the accounts of the sources are, how that is known (`pmsync.store.people.How`), and since when."""
