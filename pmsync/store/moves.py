"""A move in the stores: the note that each of the two has of it, and the tables that go along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, delete, exists, func, select, update

from pmsync.core.events import instant, rfc3339
from pmsync.owners import is_dead, is_here
from pmsync.store.engine import Store, StoreUnavailable, micros, upsert
from pmsync.store.tables import (
    accounts,
    alert_log,
    configuration,
    cursors,
    due,
    hints,
    leases,
    ledger,
    ledger_containers,
    log,
    metadata,
    moved,
    outbox,
    partitions,
    pending,
    people,
    reads,
    rebuilds,
)

CARRIED: Sequence[Table] = (
    configuration, people, accounts, ledger, ledger_containers, pending, hints, cursors, reads, alert_log, outbox, due
)  # fmt: skip
"""The tables whose rows go along. `state` is folded from the log; leases, troubles, partitions and rebuilds are of those who run."""
CHUNK = 500
SILENT = timedelta(minutes=2)
"""An owner on another host that has not ticked for so long is believed to have ended."""


class Role(StrEnum):
    """What a move has made of a store."""

    leaving = "leaving"  # being carried away
    old = "old"  # carried away: it works no more
    filling = "filling"  # the other end, before the tables are there
    new = "new"  # the other end, at work


AWAY = frozenset({Role.leaving, Role.old})


class Note(NamedTuple):
    """What a store knows of a move."""

    role: Role
    log: str
    place: str
    at: datetime


class Arrival(NamedTuple):
    """What the other store is told besides: its log's identity and partitions, and where all came from."""

    identity: str
    partitions: int
    partition_of: Callable[[str], int]
    log: str
    place: str


class StoreMoved(StoreUnavailable):
    """This store is not to be worked with: it was moved away, or is being filled by a move."""


_WORDS: Mapping[Role, str] = {
    Role.leaving: (
        "`pmsync move` is carrying this installation to {place} since {at} and has not ended: run it again, or stay by "
        "`pmsync move --undo`"
    ),
    Role.old: (
        "this installation was moved to {place} at {at}; if it went on, people would be told twice. Use the configuration "
        "of the new one. To come back, end the new one for good, then run `pmsync move --undo` here"
    ),
    Role.filling: "`pmsync move` is filling this store since {at} and has not ended: run it again, with the old configuration",
}


def note_of(db: Connection) -> Note | None:
    """What this store knows of a move."""
    found = db.execute(select(moved)).one_or_none()
    return Note(Role(found.role), found.log, found.place, instant(found.at)) if found else None


def refuse_moved(db: Connection) -> None:
    """Raise `StoreMoved` if nobody may work with this store."""
    if (note := note_of(db)) and note.role in _WORDS:
        raise StoreMoved(_WORDS[note.role].format(place=note.place, at=rfc3339(note.at)))


def check_moved(store: Store) -> None:
    """The same, of a store."""
    with store.read() as db:
        refuse_moved(db)


class MoveStore:
    """One of the two stores of a move."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def note(self) -> Note | None:
        with self._store.read() as db:
            return note_of(db)

    def is_empty(self) -> bool:
        """Whether nothing was ever put into it, but for the note."""
        with self._store.read() as db:
            tables = (table for table in metadata.sorted_tables if table is not moved)
            return not any(db.scalar(select(exists(select(table)))) for table in tables)

    def running(self) -> Iterator[str]:
        """Who is at work with this store now, and at what."""
        now = micros(self._clock()) or 0
        with self._store.read() as db:
            for lease in db.execute(select(leases).where(leases.c.expires_at > now).order_by(leases.c.source)):
                if not is_dead(lease.owner):
                    yield f"{lease.source} is being read by {lease.owner}"
            for each in db.execute(select(partitions).where(partitions.c.owner != "").order_by(partitions.c.partition)):
                silent = each.ticked_at < (micros(self._clock() - SILENT) or 0)
                if not (is_dead(each.owner) or (silent and not is_here(each.owner))):
                    yield f"partition {each.partition} is being folded by {each.owner}"
            for each in db.execute(select(rebuilds).where(rebuilds.c.expires_at > now).order_by(rebuilds.c.partition)):
                if not is_dead(each.owner):
                    yield f"partition {each.partition} is being rebuilt by {each.owner}"
            # A claim is shorter than that; what is tried again later only bears the name of who tried it last.
            claimed = outbox.c.next_try.between(now, micros(self._clock() + SILENT))
            for owner in db.scalars(select(outbox.c.owner).where(outbox.c.state == "sending", claimed).distinct()):
                if not is_dead(owner):
                    yield f"messages are being sent by {owner}"

    def fill(self, log: str, place: str) -> None:
        """From now on nobody works with this store until the tables are in it."""
        with self._store.write() as db:
            self._write(db, Role.filling, log, place)

    def leave(self, log: str, place: str) -> None:
        """From now on nobody works with this store: whoever still does is fenced off, and nobody gets in any more."""
        with self._store.write() as db:
            self._write(db, Role.leaving, log, place)
            db.execute(update(partitions).values(epoch=partitions.c.epoch + 1))
            db.execute(update(leases).values(epoch=leases.c.epoch + 1, expires_at=0))

    def left(self) -> None:
        """All of it is in the other store now."""
        with self._store.write() as db:
            db.execute(update(moved).where(moved.c.role == Role.leaving).values(role=Role.old.value))

    def come_back(self) -> None:
        """Let this store be worked with again."""
        with self._store.write() as db:
            db.execute(delete(moved).where(moved.c.role.in_(AWAY)))

    def counts(self) -> dict[str, int]:
        """table -> how many rows of it would be carried."""
        with self._store.read() as db:
            return {table.name: db.scalar(select(func.count()).select_from(table)) or 0 for table in CARRIED}

    def carry(self, there: MoveStore, arrival: Arrival) -> Iterator[int]:
        """Put all that is carried into the other store, in one transaction of it; yields the rows done."""
        done = 0
        with self._store.read() as here, there._store.write() as db:
            for table in CARRIED:
                found = here.execute(select(table).execution_options(yield_per=CHUNK))
                for some in found.partitions():
                    upsert(db, table, [_placed(table, row._asdict(), arrival.partition_of) for row in some])
                    done += len(some)
                    yield done
            ticked_at = here.scalar(select(func.max(partitions.c.ticked_at))) or 0
            fresh = {"owner": "", "epoch": 0, "edition": 0, "next_offset": 0, "ticked_at": ticked_at}
            upsert(db, partitions, [{"partition": n, **fresh} for n in range(arrival.partitions)])
            upsert(db, log, [{"only_row": 1, "identity": arrival.identity}])
            there._write(db, Role.new, arrival.log, arrival.place)

    def _write(self, db: Connection, role: Role, log: str, place: str) -> None:
        at = micros(self._clock())
        upsert(db, moved, [{"only_row": 1, "role": role.value, "log": log, "place": place, "at": at}])


def _placed(table: Table, row: dict[str, Any], partition_of: Callable[[str], int]) -> dict[str, Any]:
    """A row as it stands in the other store, which may have another number of partitions, and whose topics for others are
    empty."""
    return {**row, "partition": partition_of(row["project"]), "metrics": ""} if table is due else row
