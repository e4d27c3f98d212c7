"""Where the pages get their projects from: a port, and its adapter over the store."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pmsync.bus.port import partition_of
from pmsync.core.people import Account
from pmsync.core.project import ProjectState, load
from pmsync.store.engine import StoreUnavailable
from pmsync.store.freshness import Freshness
from pmsync.store.people import PeopleStore
from pmsync.store.state import StateStore

NOT_YET = "it is still starting; /readyz says what it waits for"


class PortfolioReader(Protocol):
    """The projects that can be shown."""

    def projects(self) -> Sequence[str]:
        """The keys of all projects."""

    def state(self, project: str, *, past: bool) -> ProjectState | None:
        """What is known of a project, for a look at its past or its present; None if there is no such project."""

    def revision(self, project: str) -> Hashable:
        """Differs whenever the state may differ; cheap to ask."""

    def stale(self, now: datetime) -> Mapping[str, datetime]:
        """The sources that stopped being read, and when each was last read to its end."""

    def names(self, persons: Collection[str]) -> Mapping[str, str]:
        """person id -> name, of those who have one just now. Nobody keeps what this says: a person may be forgotten."""

    def owners(self, accounts: Collection[Account]) -> Mapping[Account, str]:
        """account -> the name of whose it is, likewise."""


class Later:
    """Projects of a store that is not there yet."""

    reader: PortfolioReader | None = None

    def projects(self) -> Sequence[str]:
        return self._come().projects()

    def state(self, project: str, *, past: bool) -> ProjectState | None:
        return self._come().state(project, past=past)

    def revision(self, project: str) -> Hashable:
        return self._come().revision(project)

    def stale(self, now: datetime) -> Mapping[str, datetime]:
        return self._come().stale(now)

    def names(self, persons: Collection[str]) -> Mapping[str, str]:
        return self._come().names(persons)

    def owners(self, accounts: Collection[Account]) -> Mapping[Account, str]:
        return self._come().owners(accounts)

    def _come(self) -> PortfolioReader:
        if self.reader is None:
            raise StoreUnavailable(NOT_YET)
        return self.reader


class StoreReader:
    """Projects of the store. `partitions` is the bus's number of them: a state changes only with its partition's offset."""

    def __init__(self, store: StateStore, partitions: int, freshness: Freshness, people: PeopleStore) -> None:
        self._store = store
        self._partitions = partitions
        self._freshness = freshness
        self._people = people

    def projects(self) -> Sequence[str]:
        return self._store.projects()

    def state(self, project: str, *, past: bool) -> ProjectState | None:
        return load(self._store.rows(project, kept=past))

    def revision(self, project: str) -> Hashable:
        return self._store.offsets().get(partition_of(project, self._partitions))

    def stale(self, now: datetime) -> Mapping[str, datetime]:
        return self._freshness.stale(now)

    def names(self, persons: Collection[str]) -> Mapping[str, str]:
        return self._people.names(persons) if persons else {}

    def owners(self, accounts: Collection[Account]) -> Mapping[Account, str]:
        return self._people.owners(accounts) if accounts else {}
