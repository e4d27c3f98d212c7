"""A rebuild in the store: who is at it, the rows that it has folded so far, and the moment when they take their place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, exists, func, select, tuple_, update

from pmsync.core.events import rfc3339
from pmsync.core.project import Key, Row
from pmsync.owners import is_dead
from pmsync.store.engine import Store, StoreUnavailable, insert_into, insert_new, micros, moment, unhurried
from pmsync.store.state import ROW, keep_greatest, mark_dirty
from pmsync.store.tables import partitions, rebuilds, rebuilt, state

CLAIM = timedelta(minutes=3)
"""How long a rebuild that shows no sign of life keeps others off; each batch is a sign of life, and the longest wait
between two of them (for a lock, or a broker) is much shorter."""
REMOVED = 5000
"""Rows that are removed in one transaction, so that nobody waits for long."""


class RebuildRefused(Exception):
    """A rebuild cannot be, or go on; the message says why."""


class Live(NamedTuple):
    """Where the owner of a partition stands."""

    next_offset: int
    edition: int


class Difference(NamedTuple):
    """How many rows a rebuild puts in or replaces, and how many it removes."""

    written: int
    removed: int


class RebuildTransaction:
    """What the one who rebuilds a partition may do in one transaction: a `pmsync.folding.Folding`, and to flip."""

    def __init__(self, db: Connection, partition: int, next_offset: int) -> None:
        self._db = db
        self._partition = partition
        self.next_offset = next_offset

    def save(self, folded: Mapping[Key, Row], next_offset: int) -> None:
        """Fold the rows of a batch into those that are gathered, and move the rebuild's own offset past it."""
        keep_greatest(self._db, rebuilt, folded, ("partition", self._partition))
        here = rebuilds.c.partition == self._partition
        self._db.execute(update(rebuilds).where(here).values(next_offset=next_offset))
        self.next_offset = next_offset

    def live(self) -> Live:
        """Where the live state stands; it stays there until this transaction ends, however long that takes."""
        unhurried(self._db)
        query = select(partitions.c.next_offset, partitions.c.edition).where(partitions.c.partition == self._partition)
        return Live(*self._db.execute(query.with_for_update()).one())

    def differences(self, is_here: Callable[[str], bool]) -> Difference:
        """What a flip would do."""
        written = removed = 0
        for project in self._projects(is_here):
            written += self._db.scalar(select(func.count()).select_from(_other(project).subquery())) or 0
            removed += self._db.scalar(select(func.count()).where(*_surplus(project))) or 0
        return Difference(written, removed)

    def flip(self, is_here: Callable[[str], bool]) -> Difference:
        """The rebuilt rows of the partition's projects (`is_here` says which those are) replace the live ones; every
        project is assessed again at the next tick. Only rows that differ are touched."""
        written = removed = 0
        projects = self._projects(is_here)
        insert = insert_into(self._db, state)
        replaced = {name: insert.excluded[name] for name in Row._fields}
        for project in projects:
            put = insert.from_select(ROW, _other(project))
            put = put.on_conflict_do_update(index_elements=list(Key._fields), set_=replaced)
            written += self._db.execute(put, execution_options={"preserve_rowcount": True}).rowcount
            removed += self._db.execute(delete(state).where(*_surplus(project))).rowcount
        here = partitions.c.partition == self._partition
        flipped = update(partitions).where(here).values(edition=partitions.c.edition + 1)
        edition = self._db.execute(flipped.returning(partitions.c.edition)).scalar_one()
        mark_dirty(self._db, self._partition, projects, -edition)  # offsets are the other changes' numbers
        return Difference(written, removed)

    def remove(self, limit: int) -> bool:
        """Remove some of the gathered rows; says whether there were any."""
        key = [rebuilt.c[name] for name in Key._fields]
        some = select(*key).where(rebuilt.c.partition == self._partition).limit(limit)
        return self._db.execute(delete(rebuilt).where(tuple_(*key).in_(some))).rowcount > 0

    def _projects(self, is_here: Callable[[str], bool]) -> Sequence[str]:
        """The partition's projects, in the state of before or in the rebuilt one."""
        gathered = select(rebuilt.c.project).where(rebuilt.c.partition == self._partition).distinct()
        found = {*self._db.scalars(select(state.c.project).distinct()), *self._db.scalars(gathered)}
        return sorted(filter(is_here, found))


class RebuildStore:
    """Rebuilds in a `Store`. Each write is fenced by the claim on the partition, and renews it."""

    def __init__(self, store: Store, owner: str, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._owner = owner
        self._clock = clock

    @contextmanager
    def claimed(self, wanted: Sequence[int]) -> Iterator[None]:
        """These partitions are this process's to rebuild while the block runs; raises `RebuildRefused` where one is being
        rebuilt by another process. What one that died had done is left to `empty`."""
        now = self._clock()
        with self._store.write() as db:
            for partition in wanted:
                # The row is there before it is locked: of two who are the first, one waits for the other.
                free = {"owner": "", "since": 0, "expires_at": 0, "next_offset": 0}
                insert_new(db, rebuilds, [{"partition": partition, **free}])
                held = db.execute(select(rebuilds).where(rebuilds.c.partition == partition).with_for_update()).one()
                if held.expires_at > (micros(now) or 0) and not is_dead(held.owner) and held.owner != self._owner:
                    since = moment(held.since)
                    raise RebuildRefused(
                        f"partition {partition} is being rebuilt by {held.owner} since {rfc3339(since) if since else '?'}; "
                        "let it end, or end it (what is on another host is believed dead after 3 minutes of silence)"
                    )
                ours = {"owner": self._owner, "since": micros(now), "expires_at": micros(now + CLAIM)}
                db.execute(update(rebuilds).where(rebuilds.c.partition == partition).values(**ours))
        try:
            yield
        finally:
            here = and_(rebuilds.c.partition.in_(wanted), rebuilds.c.owner == self._owner)
            with suppress(StoreUnavailable), self._store.write() as db:  # else it runs out by itself
                db.execute(update(rebuilds).where(here).values(expires_at=0))

    @contextmanager
    def mine(self, partition: int) -> Iterator[RebuildTransaction]:
        """A transaction on a partition's rebuild; raises `RebuildRefused` unless it is still this process's."""
        with self._store.write() as db:
            here = and_(rebuilds.c.partition == partition, rebuilds.c.owner == self._owner)
            renewed = update(rebuilds).where(here).values(expires_at=micros(self._clock() + CLAIM))
            found = db.execute(renewed.returning(rebuilds.c.next_offset)).one_or_none()
            if found is None:
                raise RebuildRefused(
                    f"another process has begun to rebuild partition {partition}; this one has stopped"
                )
            yield RebuildTransaction(db, partition, found.next_offset)

    def empty(self, partition: int) -> None:
        """Remove what was gathered for a partition, by whomever; a rebuild begins at offset 0 then."""
        # The offset goes first: after a kill halfway nobody can take the rest of the rows for all of them.
        with self.mine(partition) as ours:
            ours.save({}, 0)
        removed = True
        while removed:
            with self.mine(partition) as ours:
                removed = ours.remove(REMOVED)


def _other(project: str) -> Select[Any]:
    """The rebuilt rows of a project that the live state has not, or not so."""
    same = exists().where(*(state.c[name] == rebuilt.c[name] for name in ROW))
    return select(*(rebuilt.c[name] for name in ROW)).where(rebuilt.c.project == project, ~same)


def _surplus(project: str) -> Sequence[ColumnElement[bool]]:
    """Tells the live rows of a project that the rebuilt state has not."""
    same_place = exists().where(*(state.c[name] == rebuilt.c[name] for name in Key._fields))
    return state.c.project == project, ~same_place
