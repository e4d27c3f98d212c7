"""State, offsets, alert log and outbox: what one owner of a partition writes, each time in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, func, or_, select, update

from pmsync.core.alerts import Logged
from pmsync.core.project import Key, Row
from pmsync.store.engine import Store, insert_new, micros, moment, upsert
from pmsync.store.tables import alert_log, due, outbox, partitions, state

_BEGINNING = state.c.project, state.c.source, state.c.kind


class Fenced(Exception):
    """Another worker has taken this partition over; this one must drop it."""


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

    def rows(self, keys: Iterable[Key]) -> dict[Key, Row]:
        """The rows with these keys, as far as there are any."""
        return dict(_rows_by_key(self._db, keys))

    def project_rows(self, project: str) -> dict[Key, Row]:
        """The rows of a project's present: without the kept versions of before."""
        return project_rows(self._db, project, kept=False)

    def save(self, changed: Mapping[Key, Row], next_offset: int) -> None:
        """Save what a batch changed and move the offset past it."""
        upsert(self._db, state, [{**key._asdict(), **row._asdict()} for key, row in changed.items()])
        self._mark_dirty(sorted({key.project for key in changed}))
        self._update(next_offset=next_offset)

    def due(self, now: datetime) -> Sequence[str]:
        """The projects that changed since they were last assessed, or whose next moment has come."""
        ripe = or_(due.c.dirty, due.c.next_due <= (micros(now) or 0))
        query = select(due.c.project).where(due.c.partition == self._partition, ripe).order_by(due.c.project)
        return list(self._db.scalars(query))

    def shown(self, project: str) -> frozenset[str] | None:
        """The containers that the project's last assessment covered; None before the first one."""
        found = self._db.scalar(select(due.c.shown).where(due.c.project == project))
        return frozenset(json.loads(found)) if found else None

    def assessed(self, project: str, shown: Iterable[str] | None, next_due: datetime) -> None:
        """The project has been looked at and need not be again before `next_due`, unless it changes; `shown` is None if
        it could not be assessed yet."""
        covered = "" if shown is None else json.dumps(sorted(shown))
        values = {"dirty": False, "next_due": micros(next_due), "shown": covered}
        self._db.execute(update(due).where(due.c.project == project).values(**values))

    def ticked(self, now: datetime) -> None:
        self._update(ticked_at=micros(now))

    def logged(self, project: str) -> dict[str, Logged]:
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
        rows = self._db.execute(select(alert_log).join(last, join)).all()
        return {row.fingerprint: Logged(row.n, row.state, moment(row.since) or _never()) for row in rows}

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

    def _mark_dirty(self, projects: Sequence[str]) -> None:
        known = set(self._db.scalars(select(due.c.project).where(due.c.project.in_(projects))))
        self._db.execute(update(due).where(due.c.project.in_(known)).values(dirty=True))
        new = [
            {"project": name, "partition": self._partition, "dirty": True, "next_due": 0, "shown": ""}
            for name in projects
            if name not in known
        ]
        if new:
            self._db.execute(due.insert(), new)

    def _update(self, **values: Any) -> None:
        self._db.execute(update(partitions).where(partitions.c.partition == self._partition).values(**values))


class StateStore:
    """The state in a `Store`: the fence by partition, and reading."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def take(self, partition: int, owner: str) -> int:
        """Become the owner of a partition; returns the new epoch, which ends every earlier owner's."""
        with self._store.write() as db:
            found = db.execute(select(partitions).where(partitions.c.partition == partition)).one_or_none()
            epoch = found.epoch + 1 if found else 1
            row = {
                "partition": partition,
                "owner": owner,
                "epoch": epoch,
                "edition": found.edition if found else 0,
                "next_offset": found.next_offset if found else 0,
                "ticked_at": found.ticked_at if found else 0,
            }
            upsert(db, partitions, [row])
            return int(epoch)

    @contextmanager
    def owned(self, partition: int, epoch: int) -> Iterator[PartitionTransaction]:
        """A transaction on a partition; raises `Fenced` unless `epoch` is still its owner's."""
        with self._store.write() as db:
            query = select(partitions).where(partitions.c.partition == partition)
            found = db.execute(query.with_for_update()).one_or_none()
            if found is None or found.epoch != epoch:
                raise Fenced(f"partition {partition} has another owner now")
            yield PartitionTransaction(
                db, partition, found.next_offset, moment(found.ticked_at) if found.ticked_at else None
            )

    def offsets(self) -> dict[int, int]:
        """partition -> the offset that its state stands at."""
        with self._store.read() as db:
            return {row.partition: row.next_offset for row in db.execute(select(partitions))}

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
            return project_rows(db, project, kept=kept)

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


def project_rows(db: Connection, project: str, *, kept: bool) -> dict[Key, Row]:
    query = select(state).where(state.c.project == project)
    rows = db.execute(query if kept else query.where(state.c.at == 0))
    return {Key(*row[:5]): Row(*row[5:]) for row in rows}


def _rows_by_key(db: Connection, keys: Iterable[Key]) -> Iterator[tuple[Key, Row]]:
    # SQLite answers a list of whole keys by scanning the table; the beginning of the key leads it to the index.
    groups: dict[tuple[str, str, str], list[Key]] = {}
    for key in keys:
        groups.setdefault(key[:3], []).append(key)
    for beginning, wanted in groups.items():
        here = state.c.id.in_({key.id for key in wanted}) & state.c.at.in_({key.at for key in wanted})
        here &= and_(*(column == value for column, value in zip(_BEGINNING, beginning, strict=True)))
        found = {Key(*row[:5]): Row(*row[5:]) for row in db.execute(select(state).where(here))}
        yield from ((key, found[key]) for key in wanted if key in found)


def _never() -> datetime:
    found = moment(0)
    assert found is not None
    return found
