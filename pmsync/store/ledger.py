"""Where readers remember (`connectors.pump.Ledger`): leases, pending notes, ledger, cursors. Every write is fenced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, case, delete, select, tuple_, update
from sqlalchemy.engine import Row

from connectors.base import Ref
from connectors.pump import WHOLE, Cursor, Entry, Fate, LeaseLost, Noted, Pending
from connectors.webhooks import Hint
from pmsync.owners import is_dead
from pmsync.store.engine import Store, insert_into, insert_new, micros, moment, upsert
from pmsync.store.moves import refuse_moved
from pmsync.store.tables import cursors, hints, leases, ledger, ledger_containers, pending

LEASE = timedelta(seconds=30)
CHUNK = 500
"""Rows named in one statement; databases limit its parameters."""


class SqlLedger:
    """A `connectors.pump.Ledger` in the store."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def lease(self, source: str, owner: str) -> int:
        now = self._clock()
        expires = micros(now + LEASE)
        with self._store.write() as db:
            # The row is there before it is locked: of two who are the first to ask, one waits for the other.
            insert_new(db, leases, [{"source": source, "owner": "", "epoch": 0, "expires_at": 0}])
            held = db.execute(select(leases).where(leases.c.source == source).with_for_update()).one()
            if held.owner != owner and held.expires_at > (micros(now) or 0) and not is_dead(held.owner):
                raise LeaseLost(f"{source} is being read by {held.owner}; stop it, or wait for its lease to end")
            refuse_moved(db)
            epoch = held.epoch + (held.owner != owner)
            values = {"owner": owner, "epoch": epoch, "expires_at": expires}
            db.execute(update(leases).where(leases.c.source == source).values(values))
            return int(epoch)

    def release(self, source: str, epoch: int) -> None:
        with self._store.write() as db:
            db.execute(update(leases).where(_held(source, epoch)).values(expires_at=0))

    def pending(self, source: str) -> Mapping[Ref, Pending]:
        with self._store.read() as db:
            rows = db.execute(select(pending).where(pending.c.source == source)).all()
        return {Ref(row.kind, row.id): Pending(row.version, frozenset(json.loads(row.projects))) for row in rows}

    def entries(self, source: str, refs: Iterable[Ref]) -> Mapping[Ref, Entry]:
        found: dict[Ref, Entry] = {}
        with self._store.read() as db:
            for some in _chunks(list(refs)):
                here = and_(ledger.c.source == source, tuple_(ledger.c.kind, ledger.c.id).in_(some))
                found.update(_entry(row) for row in db.execute(select(ledger).where(here)))
        return found

    def in_container(self, source: str, container: str) -> Mapping[Ref, Entry]:
        here = and_(ledger.c.source == source, ledger.c.container == container, ledger.c.fate != Fate.gone)
        with self._store.read() as db:
            return dict(_entry(row) for row in db.execute(select(ledger).where(here)))

    def ever_in(self, source: str, container: str) -> Sequence[Ref]:
        here = and_(ledger_containers.c.source == source, ledger_containers.c.container == container)
        with self._store.read() as db:
            rows = db.execute(select(ledger_containers).where(here, ledger_containers.c.kind != "synced")).all()
        return [Ref(row.kind, row.id) for row in rows]

    def cursors(self, source: str) -> Mapping[str, Cursor]:
        with self._store.read() as db:
            rows = db.execute(select(cursors).where(cursors.c.source == source)).all()
        return {row.container: Cursor(moment(row.since), json.loads(row.mapped), moment(row.swept_at)) for row in rows}

    def note(self, source: str, epoch: int, notes: Mapping[Ref, Pending]) -> None:
        with self._fenced(source, epoch) as db:
            upsert(
                db,
                pending,
                [
                    {"source": source, **ref._asdict(), "version": note.version, "projects": json.dumps(sorted(note.projects))}
                    for ref, note in notes.items()
                ],
            )  # fmt: skip

    def ask(self, source: str, refs: Iterable[Ref]) -> None:
        rows = [{"source": source, **ref._asdict(), "version": 0, "projects": "[]"} for ref in refs]
        with self._store.write() as db:
            insert_new(db, pending, rows)

    def hint(self, source: str, heard: Iterable[Hint]) -> None:
        at = micros(self._clock())
        rows = {
            each.ref: {"source": source, **each.ref._asdict(), "container": each.container, "at": at} for each in heard
        }
        with self._store.write() as db:
            refuse_moved(db)
            insert = insert_into(db, hints)
            # A hint that comes again is a newer one, whatever the clock says: what is being fetched may be from before it.
            newer = case((hints.c.at < insert.excluded.at, insert.excluded.at), else_=hints.c.at + 1)
            again = insert.on_conflict_do_update(
                index_elements=hints.primary_key, set_={"container": insert.excluded.container, "at": newer}
            )
            for some in _chunks(sorted(rows)):  # in one order, or two of these could wait for each other
                db.execute(again, [rows[ref] for ref in some])

    def hints(self, source: str, limit: int) -> Mapping[Ref, Noted]:
        mine = select(hints).where(hints.c.source == source, hints.c.kind != WHOLE)
        return self._noted(mine.order_by(hints.c.at, hints.c.kind, hints.c.id).limit(limit))

    def again(self, source: str) -> Mapping[Ref, Noted]:
        return self._noted(select(hints).where(hints.c.source == source, hints.c.kind == WHOLE))

    def _noted(self, query: Select[Any]) -> Mapping[Ref, Noted]:
        with self._store.read() as db:
            return {Ref(row.kind, row.id): Noted(row.container, row.at) for row in db.execute(query)}

    def heed(self, source: str, epoch: int, noted: Mapping[Ref, Noted]) -> None:
        this = [hints.c[name] == bindparam(f"this_{name}") for name in ("kind", "id", "at")]
        rows = [{"this_kind": ref.kind, "this_id": ref.id, "this_at": noted[ref].at} for ref in sorted(noted)]
        with self._fenced(source, epoch) as db:
            if rows:
                db.execute(delete(hints).where(hints.c.source == source, *this), rows)

    def settle(self, source: str, epoch: int, entries: Mapping[Ref, Entry]) -> None:
        with self._fenced(source, epoch) as db:
            for some in _chunks(list(entries)):
                known = and_(ledger.c.source == source, tuple_(ledger.c.kind, ledger.c.id).in_(some))
                versions = {Ref(row.kind, row.id): row.version for row in db.execute(select(ledger).where(known))}
                newer = {ref: entries[ref] for ref in some if entries[ref].version >= versions.get(ref, 0)}
                upsert(db, ledger, [_row(source, ref, entry) for ref, entry in newer.items()])
                upsert(db, ledger_containers, list(_containers(source, newer)))
                struck = and_(pending.c.source == source, tuple_(pending.c.kind, pending.c.id).in_(some))
                db.execute(delete(pending).where(struck))

    def move_cursor(self, source: str, epoch: int, container: str, cursor: Cursor | None) -> None:
        with self._fenced(source, epoch) as db:
            if cursor is None:
                db.execute(delete(cursors).where(cursors.c.source == source, cursors.c.container == container))
                return
            row = {
                "source": source,
                "container": container,
                "since": micros(cursor.since),
                "mapped": json.dumps(dict(cursor.mapped), sort_keys=True),
                "swept_at": micros(cursor.swept_at),
            }
            upsert(db, cursors, [row])

    @contextmanager
    def _fenced(self, source: str, epoch: int) -> Iterator[Connection]:
        """A write that happens only while this epoch holds the lease, and renews it."""
        with self._store.write() as db:
            expires = micros(self._clock() + LEASE)
            renewed = db.execute(update(leases).where(_held(source, epoch)).values(expires_at=expires))
            if renewed.rowcount == 0:
                raise LeaseLost(f"another reader has taken over {source}; this one has stopped")
            yield db


def _held(source: str, epoch: int) -> ColumnElement[bool]:
    """The lease of a source, while this epoch holds it."""
    return and_(leases.c.source == source, leases.c.epoch == epoch)


def _entry(row: Row[Any]) -> tuple[Ref, Entry]:
    return Ref(row.kind, row.id), Entry(
        digest=row.digest,
        version=row.version,
        time=moment(row.time),
        container=row.container,
        containers=frozenset(json.loads(row.containers)),
        told=json.loads(row.told),
        fate=Fate(row.fate),
    )


def _row(source: str, ref: Ref, entry: Entry) -> dict[str, Any]:
    return {
        "source": source,
        "kind": ref.kind,
        "id": ref.id,
        "digest": entry.digest,
        "version": entry.version,
        "time": micros(entry.time),
        "container": entry.container,
        "containers": json.dumps(sorted(entry.containers)),
        "told": json.dumps(dict(entry.told), sort_keys=True),
        "fate": entry.fate.value,
    }


def _containers(source: str, entries: Mapping[Ref, Entry]) -> Iterator[dict[str, str]]:
    for ref, entry in entries.items():
        for container in entry.containers:
            yield {"source": source, "container": container, **ref._asdict()}


def _chunks(refs: Sequence[Ref]) -> Iterator[Sequence[Ref]]:
    return (refs[start : start + CHUNK] for start in range(0, len(refs), CHUNK))
