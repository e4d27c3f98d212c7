"""When each source was last read to its end, so that whoever looks at what was read can see how old it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import select

from pmsync.store.engine import Store, micros, moment, upsert
from pmsync.store.tables import reads


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

    def known(self) -> Mapping[str, datetime]:
        """source -> when it was last read to its end, of those that ever were."""
        with self._store.read() as db:
            found = {row.source: moment(row.at) for row in db.execute(select(reads))}
        return {source: when for source in self._sources if (when := found.get(source))}

    def stale(self, now: datetime) -> Mapping[str, datetime]:
        """The sources that stopped being read, and when they last were."""
        return {source: when for source, when in self.known().items() if now - when > self._allowed}
