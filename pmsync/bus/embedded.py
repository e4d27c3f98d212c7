"""The embedded log: SQLite in WAL mode with synchronous=FULL, for one host. What `publish` returned for survives a power loss."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pmsync.bus.port import ALERTS, COMPACTED, EVENTS, BusUnavailable, Delivered, Record, by_partition
from pmsync.core.cloudevents import Headers
from pmsync.owners import is_dead, owner
from pmsync.sqlite import BUSY_SECONDS, write_ahead

PARTITIONS = 8
BATCH_BYTES = 8 << 20
"""So much is read at once, or one record that is larger."""
PROBE_SECONDS = 0.05
"""How long it may take to notice what another process has published."""
SILENCE_SECONDS = 1.5 * BUSY_SECONDS
"""So long after it was last heard of, a member's partitions go to others; those of one that has died, at once."""
NEWEST = {ALERTS: 10_000}
"""Topics that are for others' reading and not kept for ever: so many records of each partition stay."""

_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS log (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, position INTEGER NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
  headers TEXT,
  PRIMARY KEY (topic, partition, position)
) WITHOUT ROWID, STRICT
""",
    "CREATE TABLE IF NOT EXISTS members (name TEXT PRIMARY KEY, heard_at REAL NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS identity (only_row INTEGER PRIMARY KEY CHECK (only_row = 1), id TEXT NOT NULL) STRICT",
    "INSERT OR IGNORE INTO identity VALUES (1, lower(hex(randomblob(16))))",
)
# By the database's clock, which all members share.
_ALIVE = "INSERT OR REPLACE INTO members VALUES (?, julianday('now') * 86400)"
_SILENCE = "SELECT name, julianday('now') * 86400 - heard_at FROM members"


class EmbeddedBus:
    """A `Bus` in one file. Safe to share between threads and between processes of one host.

    `member` names this one among those who share its partitions; `step` is called while a publication is under way, for
    tests that end the process there.
    """

    def __init__(
        self,
        path: Path,
        partitions: int = PARTITIONS,
        member: str | None = None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.partitions = partitions
        self._path = path
        self._member = member or owner()
        self._step = step
        self._joined = False
        self._turn = 0
        self._lock = threading.Lock()
        self._published = threading.Condition()
        try:
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        try:
            write_ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            _prepare(self._db)
        except sqlite3.Error as error:
            self._db.close()
            raise _unusable(path, error) from error

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        with self._transaction() as db:
            for partition, placed in by_partition(records, self.partitions).items():
                end = self._end(db, topic, partition)
                db.executemany(
                    "INSERT INTO log (topic, partition, position, key, value, headers) VALUES (?, ?, ?, ?, ?, ?)",
                    [
                        (topic, partition, end + n, each.key, each.value, _text(each.headers))
                        for n, each in enumerate(placed)
                    ],
                )
                if topic in COMPACTED:
                    _compact(db, topic, partition, {record.key: end + n for n, record in enumerate(placed)})
                if topic in NEWEST:
                    oldest = end + len(placed) - NEWEST[topic]
                    db.execute(_REMOVE, (topic, partition, oldest))
                self._step("sent")
        with self._published:
            self._published.notify_all()

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Delivered]:
        found: list[Delivered] = []
        room = BATCH_BYTES
        with self._reading() as db:
            rows = db.execute(
                "SELECT partition, position, key, value, headers FROM log"
                " WHERE topic = ? AND partition = ? AND position >= ? ORDER BY position LIMIT ?",
                (topic, partition, offset, limit),
            )
            while room > 0 and (row := rows.fetchone()):
                where, place, key, value, text = row
                found.append(Delivered(where, place, key, value, _headers(text) if text else ()))
                room -= len(value)
            rows.close()
        return found

    def poll(self, offsets: Mapping[int, int], limit: int, wait: float) -> Mapping[int, Sequence[Delivered]]:
        deadline = time.monotonic() + wait
        while True:
            # Each in its turn, or a partition that is far behind would keep the others waiting.
            for partition in sorted(offsets, key=lambda each: (each - self._turn) % self.partitions):
                if found := self.read(EVENTS, partition, offsets[partition], limit):
                    self._turn = partition + 1
                    return {partition: found}
            if (left := deadline - time.monotonic()) <= 0:
                return {}
            with self._published:
                self._published.wait(min(left, PROBE_SECONDS))

    def identity(self) -> str:
        with self._reading() as db:
            return str(db.execute("SELECT id FROM identity").fetchone()[0])

    def end_offset(self, topic: str, partition: int) -> int:
        with self._reading() as db:
            return self._end(db, topic, partition)

    def begin_offset(self, topic: str, partition: int) -> int:
        """Where it begins; of events and dead letters nothing is ever removed, unless somebody did so by hand."""
        with self._reading() as db:
            query = "SELECT min(position) FROM log WHERE topic = ? AND partition = ?"
            (first,) = db.execute(query, (topic, partition)).fetchone()
        return int(first or 0)

    def join(self) -> None:
        self._joined = True
        self._hear()

    def assigned(self) -> frozenset[int]:
        """This member's share: partitions are dealt out to the members in the order of their names."""
        if not self._joined:
            return frozenset()
        members = self._hear()
        place = members.index(self._member)
        return frozenset(range(place, self.partitions, len(members)))

    def _hear(self) -> list[str]:
        """Say that this member is alive, if that was not said lately; returns the names of all that are."""
        with self._reading() as db:
            silence = {str(name): float(seconds) for name, seconds in db.execute(_SILENCE)}
        gone = [name for name, seconds in silence.items() if seconds > SILENCE_SECONDS or is_dead(name)]
        if gone or silence.get(self._member, SILENCE_SECONDS) > SILENCE_SECONDS / 3:
            with self._transaction() as db:
                db.executemany("DELETE FROM members WHERE name = ?", [(name,) for name in gone])
                db.execute(_ALIVE, (self._member,))
        return sorted((silence.keys() - set(gone)) | {self._member})

    def joined(self) -> bool:
        return self._joined

    def commit(self, offsets: Mapping[int, int]) -> None:
        """Nobody asks this log."""

    def close(self) -> None:
        if self._joined:
            with suppress(BusUnavailable), self._transaction() as db:  # else the others wait until it is not heard of
                db.execute("DELETE FROM members WHERE name = ?", (self._member,))
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


_REMOVE = "DELETE FROM log WHERE topic = ? AND partition = ? AND position < ?"


def _compact(db: sqlite3.Connection, topic: str, partition: int, newest: Mapping[str, int]) -> None:
    """Remove what a newer record of its key stands for; the partition holds little more than one record per key."""
    db.executemany(
        _REMOVE + " AND key = ?",
        [(topic, partition, position, key) for key, position in newest.items()],
    )


def _prepare(db: sqlite3.Connection) -> None:
    """Make what is not there yet, in one transaction, since several processes may open a log at once; a log made before
    records had headers gets the column for them."""
    db.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        db.execute(statement)
    if "headers" not in {name for _, name, *_ in db.execute("PRAGMA table_info(log)")}:
        db.execute("ALTER TABLE log ADD COLUMN headers TEXT")
    db.execute("COMMIT")


def _text(headers: Headers) -> str | None:
    """Headers as JSON, each byte a character; None for none."""
    return json.dumps([(name, value.decode("latin-1")) for name, value in headers]) if headers else None


def _headers(text: str) -> Headers:
    return tuple((name, value.encode("latin-1")) for name, value in json.loads(text))


def _unusable(path: Path, error: sqlite3.Error) -> BusUnavailable:
    return BusUnavailable(
        f"cannot open the embedded log {path}: {error}; bus.path must be a file of its own, in a folder that is there "
        "and writable"
    )
