"""Opening the database: the engine, its transactions, its migrations."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from pmsync.core.events import instant, version_at

BUSY_SECONDS = 30
MIGRATIONS = Path(__file__).parent / "migrations"


class StoreUnavailable(Exception):
    """The database cannot be reached, or refuses what pmsync asks of it."""


class Store:
    """One database. `write()` and `read()` give a transaction each; nothing else touches the engine."""

    def __init__(self, url: str) -> None:
        try:
            self._engine = _engine(url)
        except (SQLAlchemyError, ImportError, ValueError) as error:
            raise StoreUnavailable(f"store.url is not usable: {error}") from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write: committed at the end of the block, rolled back on any exception."""
        with self._spoken(), self._engine.connect().execution_options(pmsync_write=True) as db, db.begin():
            yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment of the database."""
        with self._spoken(), self._engine.connect() as db, db.begin():
            yield db

    def migrate(self) -> None:
        """Bring the tables to this version's shape; does nothing if they have it."""
        with self.read() as db:
            known = _revision(db)
        if known == _head():
            return
        # Alembic is slow to import, and most starts do not need it.
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write() as db:
            config.attributes["connection"] = db
            command.upgrade(config, "head")

    def schema_problem(self) -> str | None:
        """What is wrong with the tables, if anything."""
        with self.read() as db:
            known = _revision(db)
        if known == _head():
            return None
        return f"the database is at revision {known or 'none'}, this pmsync needs {_head()}; start `pmsync run` once"

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Put what the database refuses into one line."""
        try:
            yield
        except SQLAlchemyError as error:
            reason = " ".join(str(getattr(error, "orig", None) or error).split())
            advice = "; is store.url right, and the place writable?" if isinstance(error, OperationalError) else ""
            where = self._engine.url.render_as_string(hide_password=True)
            raise StoreUnavailable(f"the database {where} answered: {reason}{advice}") from error


def upsert(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, replacing those with the same primary key."""
    insert = _insert(db, table)
    keys = [column.name for column in table.primary_key]
    values = {column.name: insert.excluded[column.name] for column in table.columns if column.name not in keys}
    if not values:
        insert_new(db, table, rows)
    elif rows:
        db.execute(insert.on_conflict_do_update(index_elements=keys, set_=values), list(rows))


def insert_new(db: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, leaving those alone whose primary key is there already."""
    if rows:
        db.execute(_insert(db, table).on_conflict_do_nothing(), list(rows))


def _insert(db: Connection, table: Table) -> Any:
    return (sqlite if db.dialect.name == "sqlite" else postgresql).insert(table)


def micros(when: datetime | None) -> int | None:
    """An instant as the tables keep it: µs since 1970."""
    return None if when is None else version_at(when)


def moment(value: int | None) -> datetime | None:
    """The instant that the tables keep as µs since 1970."""
    return None if value is None else instant(value)


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_engine(parsed, pool_pre_ping=True)
    if parsed.get_backend_name() != "sqlite":
        raise ValueError(f"{parsed.get_backend_name()} is not known; use sqlite:///FILE or postgresql+psycopg://…")
    engine = create_engine(parsed, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # SQLAlchemy, not the driver, says BEGIN
    _write_ahead(connection)
    for pragma in ("synchronous=FULL", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to WAL; of several processes that do so at once SQLite refuses some instead of letting them wait."""
    patience = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > patience:
                raise
            time.sleep(0.01)


def _begin_sqlite(db: Connection) -> None:
    # A transaction that reads first and writes later could not be upgraded while another one writes.
    write = db.get_execution_options().get("pmsync_write", False)
    db.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _revision(db: Connection) -> str | None:
    if not inspect(db).has_table("alembic_version"):
        return None
    return db.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _head() -> str:
    """The newest migration; their names sort in order (a test holds this against alembic)."""
    return max(path.stem.split("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))
