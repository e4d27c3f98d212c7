"""State, offsets, alert log and outbox: what one owner of a partition writes, each time in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, and_, delete, func, or_, select, update

from pmsync.core.alerts import Logged
from pmsync.core.project import Key, Row
from pmsync.store.engine import Store, insert_into, insert_new, micros, moment
from pmsync.store.moves import refuse_moved
from pmsync.store.tables import alert_log, due, escaped, log, outbox, partitions, state, unescaped

ROW = (*Key._fields, *Row._fields)
"""The columns that `state` and `rebuilt` share."""
_KEEP_GREATEST = """
ON CONFLICT (project, source, kind, id, at) DO UPDATE
SET version = excluded.version, gone = excluded.gone, body = excluded.body
WHERE (excluded.version, excluded.gone, excluded.body) > ({0}.version, {0}.gone, {0}.body)
"""
# Written by hand, since this is where a batch spends its time: SQLAlchemy's own way took three times as long on either
# database. SQLite is quickest row by row, PostgreSQL by columns (500 rows: 10 ms, 16 ms as one statement each).
_ON_SQLITE = f"INSERT INTO {{0}} ({{1}}) VALUES ({{2}}) {_KEEP_GREATEST}"  # noqa: S608 - filled from here alone
_ON_POSTGRESQL = f"INSERT INTO {{0}} ({{1}}) SELECT * FROM unnest({{2}}) {_KEEP_GREATEST} RETURNING project"  # noqa: S608
_TYPES = {"at": "int8", "version": "int8", "gone": "bool", "partition": "int4"}
"""PostgreSQL's, of what is not text."""


class Fenced(Exception):
    """Another worker has taken this partition over; this one must drop it."""

    def __init__(self, partition: int, epoch: int) -> None:
        super().__init__(f"partition {partition} has another owner now")
        self.partition, self.epoch = partition, epoch


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One line of the alert log: the `n`-th transition of an alert; `body` is the alert as JSON."""

    fingerprint: str
    n: int
    at: datetime
    state: str
    since: datetime
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """A message to one recipient by one channel. `id` is the same whenever the same thing is told to the same person."""

    id: str
    project: str
    channel: str
    recipient: str
    subject: str
    text: str


class PartitionTransaction:
    """What the owner of a partition may do in one transaction."""

    def __init__(self, db: Connection, partition: int, next_offset: int, ticked_at: datetime | None) -> None:
        self._db = db
        self._partition = partition
        self.next_offset = next_offset
        self.ticked_at = ticked_at

    def save(self, folded: Mapping[Key, Row], next_offset: int) -> None:
        """Fold the rows of a batch into those that stand, of which each is kept that is as great, and move the offset
        past the batch."""
        mark_dirty(self._db, self._partition, keep_greatest(self._db, state, folded), next_offset)
        self._update(next_offset=next_offset)

    def due(self, now: datetime) -> Sequence[str]:
        """The projects that changed since they were last assessed, or whose next moment has come."""
        ripe = or_(due.c.dirty, due.c.next_due <= (micros(now) or 0))
        query = select(due.c.project).where(due.c.partition == self._partition, ripe).order_by(due.c.project)
        return list(self._db.scalars(query))

    def assessed(self, project: str, shown: Iterable[str] | None, next_due: datetime, changed: int) -> None:
        """The project has been looked at as it was at the change `changed`, and need not be again before `next_due`,
        unless there was one since; `shown` is None if it could not be assessed yet."""
        covered = "" if shown is None else json.dumps(sorted(shown))
        values = {"dirty": due.c.changed != changed, "next_due": micros(next_due), "shown": covered}
        self._db.execute(update(due).where(due.c.project == project).values(**values))

    def ticked(self, now: datetime) -> None:
        self._update(ticked_at=micros(now))

    def log(self, project: str, lines: Sequence[LogEntry], letters: Sequence[Letter], now: datetime) -> None:
        """Write down what was decided to be told, and the messages that tell it."""
        rows = [
            {
                "project": project,
                "fingerprint": line.fingerprint,
                "n": line.n,
                "at": micros(line.at),
                "state": line.state,
                "since": micros(line.since),
                "body": json.dumps(line.body, ensure_ascii=False, sort_keys=True),
            }
            for line in lines
        ]
        if rows:
            self._db.execute(alert_log.insert(), rows)
        self._post(project, letters, now)

    def tell(self, letter: Letter, digest: str, now: datetime) -> None:
        """Write a message to others that stands for all earlier ones of its project and recipient: those that nobody has
        begun to send need not be sent any more."""
        same = [outbox.c[name] == getattr(letter, name) for name in ("project", "channel", "recipient")]
        self._db.execute(delete(outbox).where(*same, outbox.c.state == "ready"))
        self._post(letter.project, [letter], now)
        self._db.execute(update(due).where(due.c.project == letter.project).values(metrics=digest))

    def _post(self, project: str, letters: Sequence[Letter], now: datetime) -> None:
        if not letters:
            return
        # A clock that stands still or runs back must not let a later message of a project overtake an earlier one.
        last = self._db.scalar(select(func.max(outbox.c.created_at)).where(outbox.c.project == project))
        created_at = max(micros(now) or 0, (last or 0) + 1)
        posted = [
            {
                "id": letter.id,
                "project": letter.project,
                "channel": letter.channel,
                "recipient": letter.recipient,
                "subject": letter.subject,
                "text": letter.text,
                "created_at": created_at,
                "state": "ready",
                "owner": "",
                "attempts": 0,
                "next_try": 0,
                "error": "",
            }
            for letter in letters
        ]
        insert_new(self._db, outbox, posted)

    def _update(self, **values: Any) -> None:
        self._db.execute(update(partitions).where(partitions.c.partition == self._partition).values(**values))


class Look(NamedTuple):
    """A project at one moment of the database: its rows without the kept versions of before, the containers that its last
    assessment covered (None before the first one), the last line of the alert log for each fingerprint, the digest of what
    others were told last that it is measured at (empty if nothing), and at which offset it changed last."""

    rows: dict[Key, Row]
    shown: frozenset[str] | None
    logged: dict[str, Logged]
    metrics: str
    changed: int


class StateStore:
    """The state in a `Store`: the fence by partition, and reading."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, partition: int, owner: str) -> int:
        """Become the owner of a partition; returns the new epoch, which ends every earlier owner's."""
        with self._store.write() as db:
            first = {"owner": owner, "epoch": 1, "edition": 0, "next_offset": 0, "ticked_at": 0}
            taken = insert_into(db, partitions).values(partition=partition, **first)
            # One statement: two that take it at once get two epochs.
            values = {"owner": owner, "epoch": partitions.c.epoch + 1}
            taken = taken.on_conflict_do_update(index_elements=["partition"], set_=values)
            epoch = int(db.execute(taken.returning(partitions.c.epoch)).scalar_one())
            refuse_moved(db)  # now that the row is locked: whoever leaves the store locks it, too
            return epoch

    @contextmanager
    def owned(self, partition: int, epoch: int) -> Iterator[PartitionTransaction]:
        """A transaction on a partition; raises `Fenced` unless `epoch` is still its owner's."""
        with self._store.write() as db:
            query = select(partitions).where(partitions.c.partition == partition)
            found = db.execute(query.with_for_update()).one_or_none()
            if found is None or found.epoch != epoch:
                raise Fenced(partition, epoch)
            ticked_at = moment(found.ticked_at) if found.ticked_at else None
            yield PartitionTransaction(db, partition, found.next_offset, ticked_at)

    def offsets(self) -> dict[int, int]:
        """partition -> the offset that its state stands at."""
        with self._store.read() as db:
            return {row.partition: row.next_offset for row in db.execute(select(partitions))}

    def log_identity(self) -> str | None:
        """Which log this store is built from; None before it was adopted."""
        with self._store.read() as db:
            return db.scalar(select(log.c.identity))

    def adopt_log(self, identity: str) -> None:
        """Build on this log from now on; the first one that is adopted stays."""
        with self._store.write() as db:
            refuse_moved(db)
            insert_new(db, log, [{"only_row": 1, "identity": identity}])

    def ticked_at(self) -> datetime | None:
        """The instant of the last tick of any partition."""
        with self._store.read() as db:
            last = db.scalar(select(func.max(partitions.c.ticked_at)))
        return moment(last) if last else None

    def projects(self) -> Sequence[str]:
        """The keys of all projects that are configured and not gone."""
        query = select(state.c.project).where(state.c.kind == "project", state.c.at == 0, state.c.gone.is_(False))
        with self._store.read() as db:
            return sorted(set(db.scalars(query)))

    def rows(self, project: str, *, kept: bool = True) -> dict[Key, Row]:
        """The rows of a project: all of them, or without the kept versions of before, for its present."""
        with self._store.read() as db:
            return _rows(db, project, kept=kept)

    def look(self, project: str) -> Look:
        """What there is to know of a project for its assessment."""
        with self._store.read() as db:
            known = db.execute(select(due).where(due.c.project == project)).one_or_none()
            return Look(
                rows=_rows(db, project, kept=False),
                shown=frozenset(json.loads(known.shown)) if known and known.shown else None,
                logged=_logged(db, project),
                metrics=known.metrics if known else "",
                changed=known.changed if known else 0,
            )

    def alert_log(self, project: str) -> Sequence[LogEntry]:
        """The alert log of a project, oldest first."""
        query = select(alert_log).where(alert_log.c.project == project)
        with self._store.read() as db:
            rows = db.execute(query.order_by(alert_log.c.at, alert_log.c.fingerprint, alert_log.c.n)).all()
        return [
            LogEntry(
                row.fingerprint,
                row.n,
                moment(row.at) or _never(),
                row.state,
                moment(row.since) or _never(),
                json.loads(row.body),
            )
            for row in rows
        ]


def _logged(db: Connection, project: str) -> dict[str, Logged]:
    """The last line of the alert log for each fingerprint."""
    last = (
        select(alert_log.c.fingerprint, func.max(alert_log.c.n).label("n"))
        .where(alert_log.c.project == project)
        .group_by(alert_log.c.fingerprint)
        .subquery()
    )
    join = and_(
        alert_log.c.project == project, alert_log.c.fingerprint == last.c.fingerprint, alert_log.c.n == last.c.n
    )
    rows = db.execute(select(alert_log).join(last, join)).all()
    return {row.fingerprint: Logged(row.n, row.state, moment(row.since) or _never()) for row in rows}


def _rows(db: Connection, project: str, *, kept: bool) -> dict[Key, Row]:
    query = select(state).where(state.c.project == project)
    rows = db.execute(query if kept else query.where(state.c.at == 0))
    return {Key(*row[:5]): Row(*row[5:]) for row in rows}


def keep_greatest(db: Connection, table: Table, rows: Mapping[Key, Row], *more: tuple[str, int]) -> list[str]:
    """Put rows into `state` or `rebuilt` in place of those that are less, each with the values of `more` (column, value)
    besides; returns the projects of which some were."""
    if not rows:
        return []
    names, values = (*ROW, *(name for name, _ in more)), tuple(value for _, value in more)
    lines = [(*key, *row, *values) for key, row in rows.items()]
    if db.dialect.name == "sqlite":
        statement = _ON_SQLITE.format(table.name, ", ".join(names), ", ".join("?" * len(names)))
        cursor = db.connection.cursor()
        return sorted({str(line[0]) for line in lines if cursor.execute(statement, line).rowcount})
    columns = ", ".join(f"%b::{_TYPES.get(name, 'text')}[]" for name in names)
    found = [
        [escaped(each) if isinstance(each, str) else each for each in column] for column in zip(*lines, strict=True)
    ]
    statement = _ON_POSTGRESQL.format(table.name, ", ".join(names), columns)
    changed = db.exec_driver_sql(statement, tuple(found)).scalars()
    return sorted(unescaped(each) for each in set(changed))


def mark_dirty(db: Connection, partition: int, projects: Iterable[str], changed: int) -> None:
    """Have the next tick assess these projects, also one that is looking at them now: `changed` is another number at each
    change of a project."""
    first = {"partition": partition, "dirty": True, "changed": changed, "next_due": 0, "shown": ""}
    rows = [{"project": name, **first} for name in sorted(projects)]
    if rows:
        insert = insert_into(db, due)
        values = {"dirty": True, "changed": insert.excluded.changed}
        db.execute(insert.on_conflict_do_update(index_elements=["project"], set_=values), rows)


def _never() -> datetime:
    found = moment(0)
    assert found is not None
    return found
