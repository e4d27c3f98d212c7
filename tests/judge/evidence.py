"""What the judge looks at: the whole log, the whole database, and notes that the test's own processes left.

Nothing of `pmsync` is imported here. The database is seen at one moment; a log may have gone on since.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
from kafka import KafkaConsumer, TopicPartition

EVENTS, DEAD_LETTERS = "pmsync.events", "pmsync.dead-letters"
SECONDS = 60.0


class Entry(NamedTuple):
    """A record of the log and where it stands."""

    partition: int
    offset: int
    key: str
    value: bytes


class Key(NamedTuple):
    project: str
    source: str
    kind: str
    id: str
    at: int


class Row(NamedTuple):
    version: int
    gone: bool
    body: str


class Move(NamedTuple):
    """A write to a partition's row, as a trigger in the database saw it. `writer` is the process that wrote, whatever it
    took itself for; `owner` is whom the row names."""

    partition: int
    writer: str
    owner: str
    epoch_before: int
    epoch: int
    offset_before: int
    offset: int


class Read(NamedTuple):
    """A batch that a process got from the log."""

    partition: int
    first: int
    last: int
    count: int


@dataclass(frozen=True)
class Store:
    """The tables, each a list of rows as the database gave them."""

    state: Mapping[Key, Row]
    offsets: Mapping[int, int]
    epochs: Mapping[int, int]
    alert_log: Sequence[tuple[str, str, int, int, str, int]] = ()
    """(project, fingerprint, n, at, state, since)"""
    outbox: Sequence[tuple[str, str, str, str, str]] = ()
    """(id, project, channel, recipient, state)"""
    dirty: Sequence[str] = ()
    ledger: Sequence[tuple[str, str, str, int, str, str]] = ()
    """(source, kind, id, version, told, fate)"""
    pending: Sequence[tuple[str, str, str]] = ()
    moves: Sequence[Move] = ()


@dataclass(frozen=True)
class Evidence:
    """All there is. `acknowledged` are digests of what a publication returned for; `reads` what each process read."""

    events: Sequence[Entry]
    letters: Sequence[Entry]
    partitions: int
    store: Store
    acknowledged: Sequence[str] = ()
    reads: Mapping[str, Sequence[Read]] = field(default_factory=dict)
    finished: bool = True
    """Whether everything had time to end: then nothing may lag behind."""
    delivered: bool = False
    """Whether a notifier was there."""


def digest(topic: str, key: str, value: bytes) -> str:
    """What is remembered of a record that was acknowledged."""
    return hashlib.sha256(b"\0".join([topic.encode(), key.encode(), value])).hexdigest()


# --- the log ----------------------------------------------------------------------------------------------------------


def embedded_log(path: Path, topic: str) -> list[Entry]:
    """A topic of an embedded log."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=SECONDS)) as db:
        query = "SELECT partition, position, key, value FROM log WHERE topic = ? ORDER BY partition, position"
        return [Entry(*row) for row in db.execute(query, (topic,))]


def kafka_log(server: str, topic: str, partitions: int) -> list[Entry]:
    """A topic on Kafka."""
    found: list[Entry] = []
    options = {"enable_auto_commit": False, "auto_offset_reset": "earliest", "allow_auto_create_topics": False}
    places = [TopicPartition(topic, n) for n in range(partitions)]
    with closing(KafkaConsumer(bootstrap_servers=server, **options)) as consumer:
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning(*places)
        deadline = time.monotonic() + SECONDS
        while any(consumer.position(place) < ends[place] for place in places):
            assert time.monotonic() < deadline, f"{topic} could not be read within {SECONDS:g} s"
            for batch in consumer.poll(timeout_ms=500).values():
                found += [Entry(each.partition, each.offset, each.key.decode(), each.value or b"") for each in batch]
    return sorted(found)


# --- the database -----------------------------------------------------------------------------------------------------

_TABLES = {
    "state": "project, source, kind, id, at, version, gone, body",
    "partitions": "partition, epoch, next_offset",
    "alert_log": "project, fingerprint, n, at, state, since",
    "outbox": "id, project, channel, recipient, state",
    "due": "project, dirty",
    "ledger": "source, kind, id, version, told, fate",
    "pending": "source, kind, id",
    "judge_moves": "partition, writer, owner, epoch_before, epoch, offset_before, next_offset",
}
_ORDER = {"judge_moves": "seq"}


def look(url: str) -> Store:
    """The database at one moment."""
    with closing(connect(url)) as db:
        found = {
            table: [_plain(row) for row in db.execute(f"SELECT {columns} FROM {table} ORDER BY {_ORDER.get(table, 1)}")]
            for table, columns in _TABLES.items()
            if table != "judge_moves" or _is_watched(db)
        }
        db.rollback()
    return Store(
        state={Key(*row[:5]): Row(row[5], bool(row[6]), row[7]) for row in found["state"]},
        offsets={row[0]: row[2] for row in found["partitions"]},
        epochs={row[0]: row[1] for row in found["partitions"]},
        alert_log=found["alert_log"],
        outbox=found["outbox"],
        dirty=[row[0] for row in found["due"] if row[1]],
        ledger=found["ledger"],
        pending=found["pending"],
        moves=[Move(*row) for row in found.get("judge_moves", ())],
    )


def connect(url: str) -> Any:
    """A connection whose first statement begins a transaction that sees one moment."""
    if url.startswith("sqlite:///"):
        db = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=SECONDS, isolation_level=None)
        db.execute("BEGIN")
        return db
    there = urlsplit(url)._replace(scheme="postgresql", query="")
    postgres = psycopg.connect(urlunsplit(there), connect_timeout=10)
    postgres.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    return postgres


def _plain(row: Sequence[Any]) -> tuple[Any, ...]:
    """Text of PostgreSQL has a detour for NUL (`docs/adr/0011-text-on-postgresql.md`)."""
    return tuple(
        value.replace("\x1b0", "\0").replace("\x1b1", "\x1b") if isinstance(value, str) and "\x1b" in value else value
        for value in row
    )


# --- watching the fence -----------------------------------------------------------------------------------------------

WRITER = "judge_writer"
"""On SQLite a function of this name, which each process has to bring, says who writes; on PostgreSQL application_name."""

_COLUMNS = (
    "partition INTEGER NOT NULL, writer TEXT NOT NULL, owner TEXT NOT NULL, epoch_before BIGINT NOT NULL, "
    "epoch BIGINT NOT NULL, offset_before BIGINT NOT NULL, next_offset BIGINT NOT NULL"
)
_INTO = "INSERT INTO judge_moves (partition, writer, owner, epoch_before, epoch, offset_before, next_offset) VALUES"
_SQLITE = (
    f"CREATE TABLE judge_moves (seq INTEGER PRIMARY KEY AUTOINCREMENT, {_COLUMNS})",
    (
        "CREATE TRIGGER judge_insert AFTER INSERT ON partitions BEGIN "
        f"{_INTO} (new.partition, {WRITER}(), new.owner, 0, new.epoch, 0, new.next_offset); END"
    ),
    (
        "CREATE TRIGGER judge_update AFTER UPDATE ON partitions BEGIN "
        f"{_INTO} (new.partition, {WRITER}(), new.owner, old.epoch, new.epoch, old.next_offset, new.next_offset); END"
    ),
)
_POSTGRES = (
    f"CREATE TABLE judge_moves (seq BIGSERIAL PRIMARY KEY, {_COLUMNS})",
    (
        "CREATE FUNCTION judge_note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"{_INTO} (NEW.partition, current_setting('application_name'), NEW.owner, COALESCE(OLD.epoch, 0), NEW.epoch, "
        "COALESCE(OLD.next_offset, 0), NEW.next_offset); RETURN NULL; END $$"
    ),
    "CREATE TRIGGER judge_watch AFTER INSERT OR UPDATE ON partitions FOR EACH ROW EXECUTE FUNCTION judge_note()",
)


def watch(url: str) -> None:
    """Have the database itself note every write to `partitions` from now on, in the transaction that makes it."""
    with closing(connect(url)) as db:
        for statement in _SQLITE if url.startswith("sqlite") else _POSTGRES:
            db.execute(statement)
        db.execute("COMMIT") if url.startswith("sqlite") else db.commit()


def _is_watched(db: Any) -> bool:
    catalogue = "sqlite_master WHERE name" if isinstance(db, sqlite3.Connection) else "pg_tables WHERE tablename"
    return bool(db.execute(f"SELECT 1 FROM {catalogue} = 'judge_moves'").fetchall())


# --- what the test's processes noted ----------------------------------------------------------------------------------


class Notes:
    """What one process noted, a line each, in a file that outlives its kill: acknowledged publications and batches."""

    def __init__(self, folder: Path, writer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / f"{writer}.notes").open("a", encoding="utf-8", buffering=1)

    def acknowledged(self, topic: str, records: Iterable[Any]) -> None:
        """Records of a topic, as (key, value, …) each."""
        self._write([{"acknowledged": digest(topic, each[0], each[1])} for each in records])

    def read(self, batch: Sequence[Any]) -> None:
        """A batch of `pmsync.events`, as (partition, offset, …) each."""
        if batch:
            self._write([{"read": [batch[0][0], batch[0][1], batch[-1][1], len(batch)]}])

    def passed(self, step: str) -> None:
        self._write([{"step": step}])

    def _write(self, lines: Iterable[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(line) + "\n" for line in lines))


def noted(folder: Path) -> tuple[list[str], dict[str, list[Read]], dict[str, dict[str, int]]]:
    """(acknowledged, reads by process, how often each step was passed by process)."""
    acknowledged: list[str] = []
    reads: dict[str, list[Read]] = {}
    steps: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for path in sorted(folder.glob("*.notes")):
        for line in _lines(path):
            if "acknowledged" in line:
                acknowledged.append(line["acknowledged"])
            elif "read" in line:
                reads.setdefault(path.stem, []).append(Read(*line["read"]))
            else:
                steps[path.stem][line["step"]] += 1
    return acknowledged, reads, steps


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may have been cut by a kill
            yield json.loads(line)
