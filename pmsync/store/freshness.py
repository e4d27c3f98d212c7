"""When each source was last read to its end, and since when and why it cannot be, so that whoever looks at what was read
can see how old it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import delete, select, update

from pmsync.store.engine import Store, insert_new, micros, moment, upsert
from pmsync.store.tables import reads, troubles


class Trouble(NamedTuple):
    """Why a source cannot be read: since when, how many rounds failed, of which kind the last failure was, and what it
    said, which is also what to do."""

    since: datetime
    tries: int
    kind: str
    reason: str


class Freshness:
    """Of these sources, in a `Store`; one that was not read for longer than `allowed` is stale."""

    def __init__(self, store: Store, sources: Sequence[str], allowed: timedelta) -> None:
        self._store = store
        self._sources = sources
        self._allowed = allowed

    def read(self, source: str, at: datetime) -> None:
        """A round over a source has ended well."""
        with self._store.write() as db:
            upsert(db, reads, [{"source": source, "at": micros(at)}])
            db.execute(delete(troubles).where(troubles.c.source == source))

    def failed(self, source: str, at: datetime, kind: str, reason: str) -> None:
        """A round over a source has failed."""
        with self._store.write() as db:
            first = {"source": source, "since": micros(at), "tries": 0, "kind": kind, "reason": reason}
            insert_new(db, troubles, [first])
            values = {"tries": troubles.c.tries + 1, "kind": kind, "reason": reason}
            db.execute(update(troubles).where(troubles.c.source == source).values(values))

    def troubles(self) -> Mapping[str, Trouble]:
        """source -> what is wrong with it, of those whose last round failed."""
        with self._store.read() as db:
            rows = {row.source: row for row in db.execute(select(troubles))}
        return {
            source: Trouble(since, row.tries, row.kind, row.reason)
            for source in self._sources
            if (row := rows.get(source)) and (since := moment(row.since))
        }

    def known(self) -> Mapping[str, datetime]:
        """source -> when it was last read to its end, of those that ever were."""
        with self._store.read() as db:
            found = {row.source: moment(row.at) for row in db.execute(select(reads))}
        return {source: when for source in self._sources if (when := found.get(source))}

    def stale(self, now: datetime) -> Mapping[str, datetime]:
        """The sources that stopped being read, and when they last were."""
        return {source: when for source, when in self.known().items() if now - when > self._allowed}
