"""Where the pages get their projects from: a port, and its adapter over the store."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from pmsync.bus.port import partition_of
from pmsync.core.project import ProjectState, load
from pmsync.store.state import StateStore


class PortfolioReader(Protocol):
    """The projects that can be shown."""

    def projects(self) -> Sequence[str]:
        """The keys of all projects."""

    def state(self, project: str, *, past: bool) -> ProjectState | None:
        """What is known of a project, for a look at its past or its present; None if there is no such project."""

    def revision(self, project: str) -> Hashable:
        """Differs whenever the state may differ; cheap to ask."""


class StoreReader:
    """Projects of the store. `partitions` is the bus's number of them: a state changes only with its partition's offset."""

    def __init__(self, store: StateStore, partitions: int) -> None:
        self._store = store
        self._partitions = partitions

    def projects(self) -> Sequence[str]:
        return self._store.projects()

    def state(self, project: str, *, past: bool) -> ProjectState | None:
        return load(self._store.rows(project, kept=past))

    def revision(self, project: str) -> Hashable:
        return self._store.offsets().get(partition_of(project, self._partitions))
