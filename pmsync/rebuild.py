"""`pmsync rebuild`: folds partitions from the beginning of the log again, beside live traffic, into their next edition.

It owns nothing that the live owner of a partition needs, and assesses nothing, so that nothing is told again: it gathers
rows in a table of their own, and when it is near, one transaction that holds the owner up for a moment folds the rest
and puts them in the place of the live ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

from pmsync.bus.letters import Burials, Letter
from pmsync.bus.port import EVENTS, Bus, BusUnavailable, partition_of
from pmsync.folding import BATCH, replay
from pmsync.store.engine import StoreUnavailable
from pmsync.store.rebuilds import Difference, Live, RebuildRefused, RebuildStore, RebuildTransaction
from pmsync.store.state import StateStore

NEAR = 4 * BATCH
"""Records that may be folded while the owner waits: about a second."""
TRIES, PAUSE_SECONDS = 5, 5.0
"""How often a partition is gone on with after a log or a database was not to be had, and how long it waits before."""
Progress = Callable[[int, int, int], None]
"""(partition, records folded, records to be folded)"""


class Rebuilt(NamedTuple):
    """What became of a partition; `edition` is None if nothing of it was ever folded, so that nothing is to be done."""

    partition: int
    records: int = 0
    unreadable: int = 0
    difference: Difference = Difference(0, 0)
    edition: int | None = None


class Rebuild:
    """Rebuilds partitions, one after the other. `step` is called between any two steps (tests end it there)."""

    def __init__(
        self,
        bus: Bus,
        state: StateStore,
        store: RebuildStore,
        step: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda *_: None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bus, self._state, self._store = bus, state, store
        self._step, self._progress, self._wait = step, progress, wait
        self._unreadable = 0
        self._burials = Burials(bus)

    def run(self, partitions: Sequence[int], *, dry_run: bool) -> Iterator[Rebuilt]:
        """Rebuild these partitions; a dry run folds and compares, and leaves the live state as it is."""
        self._refuse_shortened(partitions)
        with self._store.claimed(partitions):
            self._step("claimed")
            for partition in partitions:
                yield self._rebuild(partition, dry_run=dry_run)

    def _refuse_shortened(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            if begin := self._bus.begin_offset(EVENTS, partition):
                raise RebuildRefused(
                    f"the log begins at {begin} in partition {partition}: a state built from it would lack what stood "
                    "before. Put a whole log back from its backup (on Kafka keep the topic for ever, as `pmsync topics "
                    "apply` has it), or begin anew with an empty log and an empty store"
                )

    def _rebuild(self, partition: int, *, dry_run: bool) -> Rebuilt:
        if partition not in self._state.offsets():
            return Rebuilt(partition)
        self._store.empty(partition)
        self._step("emptied")
        self._unreadable = 0
        found, failures = None, 0
        # Each round is shorter than the one before, unless the owner folds faster than this process does.
        while found is None:
            try:
                self._gather(partition, dry_run=dry_run)
                found = self._flip(partition, dry_run=dry_run)
            except (BusUnavailable, StoreUnavailable):
                failures += 1
                if failures == TRIES:
                    raise
                self._wait(PAUSE_SECONDS)  # it goes on from where the database says that it stands
        self._step("flipped")
        self._store.empty(partition)
        return found

    def _gather(self, partition: int, *, dry_run: bool) -> None:
        """Fold up to where the owner stands."""
        end = self._state.offsets()[partition]
        with self._store.mine(partition) as ours:
            offset = ours.next_offset
        bury = _nothing if dry_run else self._burials.bury
        for stands, dead in replay(self._bus, partition, offset, end, lambda: self._store.mine(partition), bury):
            self._unreadable += dead
            self._progress(partition, stands, end)
            self._step("gathered")

    def _flip(self, partition: int, *, dry_run: bool) -> Rebuilt | None:
        """Put the rebuilt rows in the place of the live ones; None if the owner has gone too far ahead meanwhile."""
        with self._store.mine(partition) as ours:
            live = ours.live()
            if live.next_offset - ours.next_offset > NEAR:
                return None
            unreadable = self._unreadable + self._rest(partition, ours, live, dry_run=dry_run)

            def is_here(project: str) -> bool:
                return partition_of(project, self._bus.partitions) == partition

            difference = ours.differences(is_here) if dry_run else ours.flip(is_here)
            self._step("replaced")
        return Rebuilt(partition, live.next_offset, unreadable, difference, live.edition + (not dry_run))

    def _rest(self, partition: int, ours: RebuildTransaction, live: Live, *, dry_run: bool) -> int:
        bury = _nothing if dry_run else self._burials.bury
        rest = replay(self._bus, partition, ours.next_offset, live.next_offset, lambda: nullcontext(ours), bury)
        return sum(dead for _, dead in rest)


def _nothing(_: Sequence[Letter]) -> None:
    """A dry run buries nothing."""
