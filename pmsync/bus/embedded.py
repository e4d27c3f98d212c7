"""The embedded log: SQLite in WAL mode with synchronous=FULL, for one host. What `publish` returned for survives a power loss."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pmsync.bus.port import BusUnavailable, Delivered, Record, by_partition
from pmsync.sqlite import BUSY_SECONDS, write_ahead

PARTITIONS = 8

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
  PRIMARY KEY (topic, partition, position)
) WITHOUT ROWID, STRICT;
CREATE TABLE IF NOT EXISTS identity (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), id TEXT NOT NULL) STRICT;
INSERT OR IGNORE INTO identity VALUES (1, lower(hex(randomblob(16))));
"""


class EmbeddedBus:
    """A `Bus` in one file. Safe to share between threads and between processes of one host."""

    def __init__(self, path: Path, partitions: int = PARTITIONS) -> None:
        self.partitions = partitions
        self._path = path
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        try:
            write_ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
        except sqlite3.Error as error:
            self._db.close()
            raise _unusable(path, error) from error

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        with self._transaction() as db:
            for partition, placed in by_partition(records, self.partitions).items():
                end = self._end(db, topic, partition)
                db.executemany(
                    "INSERT INTO log VALUES (?, ?, ?, ?, ?)",
                    [(topic, partition, end + n, record.key, record.value) for n, record in enumerate(placed)],
                )

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Delivered]:
        with self._reading() as db:
            found = db.execute(
                "SELECT partition, position, key, value FROM log"
                " WHERE topic = ? AND partition = ? AND position >= ? ORDER BY position LIMIT ?",
                (topic, partition, offset, limit),
            ).fetchall()
        return [Delivered(*row) for row in found]

    def identity(self) -> str:
        with self._reading() as db:
            return str(db.execute("SELECT id FROM identity").fetchone()[0])

    def end_offset(self, topic: str, partition: int) -> int:
        with self._reading() as db:
            return self._end(db, topic, partition)

    def begin_offset(self, topic: str, partition: int) -> int:
        """Where it begins; nothing is ever removed from this log, unless somebody did so by hand."""
        with self._reading() as db:
            query = "SELECT min(position) FROM log WHERE topic = ? AND partition = ?"
            (first,) = db.execute(query, (topic, partition)).fetchone()
        return int(first or 0)

    def join(self) -> None:
        """Nobody else shares this log's partitions yet."""

    def assigned(self) -> frozenset[int]:
        return frozenset(range(self.partitions))

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Nobody asks this log."""

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @staticmethod
    def _end(db: sqlite3.Connection, topic: str, partition: int) -> int:
        (last,) = db.execute(
            "SELECT max(position) FROM log WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        return 0 if last is None else int(last) + 1

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                raise BusUnavailable(f"the embedded log {self._path} cannot be read: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                finally:
                    # After some failures (a full disk) SQLite has rolled back by itself, after others it has not.
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise BusUnavailable(f"the embedded log {self._path} cannot be written: {error}") from error


def _unusable(path: Path, error: sqlite3.Error) -> BusUnavailable:
    return BusUnavailable(
        f"cannot open the embedded log {path}: {error}; bus.path must be a file of its own, in a folder that is there "
        "and writable"
    )
