"""Opening the database: the engine, its transactions, its migrations.

A transaction of `write` is alone on SQLite (BEGIN IMMEDIATE). On PostgreSQL it is READ COMMITTED, and each place that
reads before it writes locks the row that it decides by: `FOR UPDATE`, or an insert that yields to the one that was first.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from pmsync.core.events import instant, version_at
from pmsync.sqlite import BUSY_SECONDS, write_ahead

IDLE_SECONDS = 60
"""How long a PostgreSQL transaction may do nothing: a stopped owner must not hold its partition for ever. It is more than
the longest assessment of one project takes between two statements."""
STATEMENT_SECONDS = 60
LONG_SECONDS = 600
"""The same for a migration, and for the moment in which a rebuild puts its rows in the place of others."""
CONNECT_SECONDS = 10
SILENCE_MILLISECONDS = 30_000
"""How long what was sent to PostgreSQL may stay unacknowledged by its host before the connection counts as lost."""
POOL, OVERFLOW = 5, 10
"""Connections kept, and how many more in a rush: some threads of a worker and of its pages."""
MIGRATION_LOCK = 0x706D_7379_6E63
"""The advisory lock under which one of many starters migrates ("pmsync" in ASCII)."""
MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnavailable(Exception):
    """The database cannot be reached, or refuses what pmsync asks of it."""


class StoreUnusable(StoreUnavailable):
    """The address of the database is none: to try again will not help."""


class Store:
    """One database. `write()` and `read()` give a transaction each; nothing else touches the engine."""

    def __init__(self, url: str, password: str | None = None) -> None:
        try:
            self._engine = _engine(_address(url, password))
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise StoreUnusable(f"store.url is not usable: {error}") from error
        self._reader = self._engine
        if self._engine.dialect.name == "postgresql":
            # By default each statement of PostgreSQL sees what was committed when it began.
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, rolled back on any exception.

        `StoreUnavailable` from its end leaves open whether it was committed: what is in the database has to be read.
        """
        with self._spoken(), self._engine.connect().execution_options(pmsync_write=True) as db, db.begin():
            yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the database."""
        with self._spoken(), self._reader.connect() as db, db.begin():
            yield db

    def now(self) -> datetime:
        """What time it is for the database, by which all processes that share it measure leases and claims."""
        query = "SELECT extract(epoch FROM clock_timestamp())"
        if self._engine.dialect.name == "sqlite":
            query = "SELECT (julianday('now') - 2440587.5) * 86400"
        with self.read() as db:
            return datetime.fromtimestamp(float(db.scalar(text(query)) or 0), UTC)

    def migrate(self, step: Callable[[str], None] = lambda _: None) -> None:
        """Bring the tables to this version's shape; does nothing if they have it. Of many that start at once one does it.

        `step` is called after each statement, for tests that end the process there.
        """
        if self._revision() == _head():
            return
        # Alembic is slow to import, and most starts do not need it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write() as db:
            _alone(db)
            known = _revision(db)
            if known and known > _head():
                raise StoreUnavailable(_too_new(known))
            event.listen(db, "after_cursor_execute", lambda *_: step("migrating"))
            config.attributes["connection"] = db
            command.upgrade(config, "head")

    def schema_problem(self, *, running: bool = False) -> str | None:
        """What is wrong with the database and its tables, if anything. Whoever is `running` goes on beside a newer one."""
        with self.read() as db:
            known, encoding = _revision(db), _encoding(db)
        if encoding != "UTF8":
            return f"the database's encoding is {encoding}; make one with ENCODING 'UTF8', or titles will be refused"
        if known == _head():
            return None
        if known and known > _head():
            return None if running else _too_new(known)
        return f"the database is at revision {known or 'none'}, this pmsync needs {_head()}; start `pmsync run` once"

    def is_bare(self) -> bool:
        """Whether there are no tables of pmsync's yet."""
        return self._revision() is None

    def close(self) -> None:
        self._engine.dispose()

    def _revision(self) -> str | None:
        with self.read() as db:
            return _revision(db)

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Put what the database refuses into one line."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:  # of the second kind where the driver is spoken to itself
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            where = self._engine.url.set(query={}).render_as_string(hide_password=True)  # a query may hold secrets, too
            raise StoreUnavailable(f"the database {where} answered: {reason}{_advice(error, reason)}") from error


def upsert(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, replacing those with the same primary key."""
    insert = insert_into(db, table)
    keys = [column.name for column in table.primary_key]
    values = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    if not values:
        insert_new(db, table, rows)
    elif rows:
        # A list of parameters, which psycopg sends in one go: 500 rows of state took 27 ms so, 66 ms as arrays to unnest
        # and 252 ms as one list of VALUES (PostgreSQL 15 on the same machine).
        db.execute(insert.on_conflict_do_update(index_elements=keys, set_=values), list(rows))


def insert_new(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving those alone that are there already by any unique key. Another transaction that is inserting
    the same row is waited for."""
    if rows:
        db.execute(insert_into(db, table).on_conflict_do_nothing(), list(rows))


def replacing(db: Connection, table: Table) -> None:
    """No other transaction writes to this table until this one ends; on SQLite none does anyway."""
    if db.dialect.name == "postgresql":
        db.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def insert_into(db: Connection, table: Table) -> Any:
    """An insert with `on_conflict_…`, which both databases have and SQLAlchemy knows under two names."""
    return (sqlite if db.dialect.name == "sqlite" else postgresql).insert(table)


def micros(when: datetime | None) -> int | None:
    """An instant as the tables keep it: µs since 1970."""
    return None if when is None else version_at(when)


def moment(value: int | None) -> datetime | None:
    """The instant that the tables keep as µs since 1970."""
    return None if value is None else instant(value)


def _address(url: str, password: str | None) -> URL:
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or ""):
            raise ValueError("a part of the password would be taken for the host")
    except (ArgumentError, ValueError):
        # Without the library's words: they may quote a part of the password.
        words = (
            "it is no address; write sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE, and give store.password"
        )
        raise ValueError(words) from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return parsed.set(password=password) if password is not None else parsed


def _engine(url: URL) -> Engine:
    if url.drivername == "postgresql+psycopg":
        return create_engine(
            url,
            connect_args=_postgres_arguments(url),
            pool_size=POOL,
            max_overflow=OVERFLOW,
            pool_timeout=BUSY_SECONDS,
            pool_pre_ping=True,  # a server that restarted costs nobody a failure
        )
    if url.get_backend_name() != "sqlite":
        raise ValueError(f"{url.drivername} is not known; use sqlite:///FILE or postgresql+psycopg://…")
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgres_arguments(url: URL) -> dict[str, Any]:
    """libpq's parameters: every wait has an end. What the address itself says of them counts."""
    limits = {
        "lock_timeout": BUSY_SECONDS,
        "statement_timeout": STATEMENT_SECONDS,
        "idle_in_transaction_session_timeout": IDLE_SECONDS,
    }
    options = [f"-c {name}={seconds}s" for name, seconds in limits.items()]
    theirs = url.query.get("options", "")
    arguments = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 4,
        "tcp_user_timeout": SILENCE_MILLISECONDS,
        "application_name": "pmsync",
    }
    return {
        **{name: value for name, value in arguments.items() if name not in url.query},
        "options": " ".join([*options, theirs if isinstance(theirs, str) else " ".join(theirs)]).strip(),
        "client_encoding": "utf8",
    }


_ADVICE = {
    "password authentication failed": "mend the user in store.url, or store.password",
    "no password supplied": "give store.password, as {env: NAME} or {file: PATH}",
    "does not exist": "create it and give it to pmsync's role, or mend store.url",
    "permission denied": "give pmsync's role the database: ALTER DATABASE … OWNER TO …",
    "no schema has been selected": "create the schema that the role's search_path names, or mend search_path",
    "read-only transaction": "this is a standby, or set read-only; point store.url at the primary",
    "resolve host": "is the host in store.url right?",
    "Is the server running": "is the server running, and store.url right?",
    "timeout expired": "is the server reachable, and store.url right?",
    "no pg_hba.conf entry": "let pmsync's role in from this host in the server's pg_hba.conf",
    "lock timeout": "another process holds it; it is tried again",
    "too many": "raise the server's max_connections, or run fewer workers",
}
"""What to do, by words of PostgreSQL's answer: a failed connection has no code."""


def _advice(error: Exception, reason: str) -> str:
    if "psycopg" in type(getattr(error, "orig", None)).__module__:
        return next((f"; {advice}" for words, advice in _ADVICE.items() if words in reason), "; it is tried again")
    operational = isinstance(error, OperationalError | sqlite3.OperationalError)
    return "; is store.url right, and the place writable?" if operational else ""


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy, not the driver, says BEGIN
    write_ahead(connection)
    for pragma in ("synchronous=FULL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(db: Connection) -> None:
    # A transaction that reads first and writes later could not be upgraded while another one writes.
    write = db.get_execution_options().get("pmsync_write", False)
    db.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def unhurried(db: Connection) -> None:
    """Let this transaction wait and work longer than any other, on PostgreSQL: it replaces a lot at once."""
    if db.dialect.name == "postgresql":
        for limit in ("lock_timeout", "statement_timeout"):
            db.execute(text(f"SET LOCAL {limit} = '{LONG_SECONDS}s'"))


def _alone(db: Connection) -> None:
    """Wait until no other process migrates. On SQLite the transaction itself is alone."""
    unhurried(db)
    if db.dialect.name == "postgresql":
        db.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})


def _encoding(db: Connection) -> str:
    return str(db.scalar(text("SHOW server_encoding"))) if db.dialect.name == "postgresql" else "UTF8"


def _too_new(known: str) -> str:
    return (
        f"the database is at revision {known}, newer than {_head()}, the last that this pmsync knows: run the pmsync that "
        "migrated it, or restore the backup from before"
    )


def _revision(db: Connection) -> str | None:
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _head() -> str:
    """The newest migration; their names sort in order (a test holds this against alembic)."""
    return max(path.stem.split("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))
