"""The reader against a simulated source: whatever happens on the way, the end equals a fresh sync."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from connectors import pump
from connectors.base import Mark, Read, Ref
from connectors.pump import LeaseLost, Pump, _containers
from connectors.testing import MemoryBus, MemoryLedger
from connectors.webhooks import Hint
from pmsync.core.claims import claimed
from pmsync.core.events import Change, Event, StatusCategory, WorkItem
from pmsync.core.project import Key, Row, fold

START = datetime(2026, 1, 5, tzinfo=UTC)
CONTAINERS = ("A", "B", "C")
PROJECTS = ("apollo", "beacon")
PAGE = 2
SPOILT = "spoilt"
"""The title of what cannot be read."""


class Killed(Exception):
    """The process ended here."""


@dataclass
class Item:
    """One thing of the simulated source, with all its past."""

    ident: str
    moments: list[tuple[datetime, str, str]]  # at, container, title; the first is its creation
    deleted_at: datetime | None = None
    absences: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When it was gone before it was there again, under the same id."""

    def container(self, when: datetime) -> str:
        return [container for at, container, _ in self.moments if at <= when][-1]

    def at(self, when: datetime) -> Read | None:
        seen = [moment for moment in self.moments if moment[0] <= when]
        absent = any(start <= when < end for start, end in self.absences)
        if not seen or absent or (self.deleted_at and self.deleted_at <= when):
            return None
        if seen[-1][2] == SPOILT:
            return Read(Ref("work_item", self.ident), seen[-1][0], problem="cannot be read", raw=seen[-1][1].encode())
        moves = [(old, new) for old, new in pairwise(seen) if old[1] != new[1]]
        history = tuple(
            Change(field="container", old=old[1], new=new[1], at=new[0], id=f"{n}")
            for n, (old, new) in enumerate(moves)
        )
        content = WorkItem(
            key=self.ident,
            container=seen[-1][1],
            type="task",
            title=seen[-1][2],
            created_at=seen[0][0],
            status="open",
            status_category=StatusCategory.todo,
            history=history,
            labels=(str(len(seen)),),
        )
        return Read(Ref("work_item", self.ident), time=seen[-1][0], content=content)


@dataclass
class Source:
    """A source whose clock counts seconds and whose index lags by `lag` and repeats itself; by id it is exact."""

    name: str = "sim"
    time: datetime = START
    lag: timedelta = timedelta(0)
    items: dict[str, Item] = field(default_factory=dict)

    def now(self) -> datetime:
        return self.time

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        reads = self._index(container)
        found = [read for read in reads if since is None or (read.time and read.time >= since)]
        for start in range(0, len(found), PAGE):
            yield found[max(0, start - 1) : start + PAGE]  # pages overlap: a listing may repeat itself

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(read.ref, read.time) for read in self._index(container)]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        for ref in refs:
            yield self.items[ref.id].at(self.time) or Read(ref)

    def _index(self, container: str) -> list[Read]:
        then = self.time - self.lag
        here = [read for item in self.items.values() if (read := item.at(then)) and item.container(then) == container]
        return sorted(here, key=lambda read: (str(read.time), read.ref))


Mapping_ = dict[str, dict[str, int]]  # project -> container -> since


def routes(mapping: Mapping_) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {}
    for project, containers in mapping.items():
        for container, since in containers.items():
            table.setdefault(container, {})[project] = since
    return table


def shown(events: Sequence[Event], mapping: Mapping_) -> dict[str, Mapping[str, object]]:
    """What each project could show at any instant: things that are or were in one of its containers."""
    rows = fold(map(claimed, events))
    found: dict[str, Mapping[str, object]] = {}
    for project, containers in mapping.items():
        mine = {key: row for key, row in rows.items() if key.project == project}
        found[project] = {
            key.id: row.body
            for key, row in mine.items()
            if key.kind == "work_item"
            and not row.gone
            and _containers(WorkItem.model_validate_json(row.body)) & containers.keys()
        }
        found[f"{project} synced"] = {
            key.id: True for key, row in mine.items() if key.kind == "synced" and not row.gone and key.id in containers
        }
    return found


@pytest.fixture(autouse=True)
def _short_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds instead of minutes, so that a short history leaves the overlap behind.
    monkeypatch.setattr(pump, "OVERLAP", timedelta(seconds=10))
    monkeypatch.setattr(pump, "SETTLED", timedelta(seconds=4))


class Machine(RuleBasedStateMachine):
    """Changes at the source, a lagging index, kills, zombies, clocks that run back, mappings that come and go."""

    def __init__(self) -> None:
        super().__init__()
        self.source = Source()
        self.ledger = MemoryLedger()
        self.bus = MemoryBus()
        self.mapping: Mapping_ = {}
        self.configured = 0
        self.skew = timedelta(0)
        self.readers = 0
        self.newest: dict[tuple[str, str], int] = {}
        self.rows: dict[Key, Row] = {}
        self.folded = 0

    @initialize()
    def begin(self) -> None:
        self.map_container("apollo", "A")
        self.map_container("beacon", "B")
        self.create("A")

    # --- the source ---------------------------------------------------------------------------------------------------

    @rule(container=st.sampled_from(CONTAINERS))
    def create(self, container: str) -> None:
        ident = str(len(self.source.items))
        self.source.items[ident] = Item(ident, [(self.source.time, container, "new")])

    @rule(n=st.integers(0, 20), title=st.text("xyz", max_size=2))
    def change(self, n: int, title: str) -> None:
        if item := self._live(n):
            item.moments.append((self.source.time, item.moments[-1][1], title))

    @rule(n=st.integers(0, 20), container=st.sampled_from(CONTAINERS))
    def move(self, n: int, container: str) -> None:
        if item := self._live(n):
            item.moments.append((self.source.time, container, item.moments[-1][2]))

    @rule(n=st.integers(0, 20))
    def delete(self, n: int) -> None:
        if item := self._live(n):
            item.deleted_at = self.source.time

    @rule(n=st.integers(0, 20))
    def spoil(self, n: int) -> None:
        """It cannot be read until its next change."""
        self.change(n, SPOILT)

    @rule(n=st.integers(0, 20), container=st.sampled_from(CONTAINERS))
    def recreate(self, n: int, container: str) -> None:
        """What was deleted is there again under its old id, as after a restore; perhaps somewhere else."""
        if item := _nth([item for item in self.source.items.values() if item.deleted_at], n):
            assert item.deleted_at
            item.absences.append((item.deleted_at, self.source.time))
            item.deleted_at = None
            item.moments.append((self.source.time, container, "again"))

    @rule(seconds=st.sampled_from([0, 1, 3, 8, 30, 200]))
    def wait(self, seconds: int) -> None:
        self.source.time += timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([0, 0, 2, 8]))
    def lag(self, seconds: int) -> None:
        self.source.lag = timedelta(seconds=seconds)

    @rule(minutes=st.integers(-500, 500))
    def set_clock(self, minutes: int) -> None:
        self.skew = timedelta(minutes=minutes)

    # --- the configuration --------------------------------------------------------------------------------------------

    @rule(project=st.sampled_from(PROJECTS), container=st.sampled_from(CONTAINERS))
    def map_container(self, project: str, container: str) -> None:
        self.configured += 1
        self.mapping.setdefault(project, {}).setdefault(container, self.configured)

    @rule(project=st.sampled_from(PROJECTS), container=st.sampled_from(CONTAINERS))
    def unmap_container(self, project: str, container: str) -> None:
        self.mapping.get(project, {}).pop(container, None)

    @rule(n=st.integers(0, 20), container=st.sampled_from(CONTAINERS))
    def abandon_container(self, n: int, container: str) -> None:
        """Something moves into a container, is read there, and then nobody maps it any more."""
        self.move(n, container)
        self.sync(sweep=True)
        for project in PROJECTS:
            self.unmap_container(project, container)

    # --- the reader ---------------------------------------------------------------------------------------------------

    @rule(sweep=st.booleans())
    def sync(self, sweep: bool) -> None:
        self._sync(lambda _: None, sweep=sweep)

    @rule()
    def quiet_day(self) -> None:
        """Time passes, every container sees something new, and all cursors leave what was before behind."""
        for _ in range(2):
            self.wait(30)
            for container in CONTAINERS:
                self.create(container)
            self.sync(sweep=True)

    @rule(after=st.integers(1, 12), sweep=st.booleans(), n=st.integers(0, 20), then=st.sampled_from(["", "gone", "B"]))
    def killed(self, after: int, sweep: bool, n: int, then: str) -> None:
        """The reader ends after so many steps; the next one is another process, and finds the world changed."""
        self._sync(_countdown(after, _kill), sweep=sweep)
        self._new_reader()
        if then == "gone":
            self.delete(n)
        elif then:
            self.move(n, then)

    @rule(after=st.integers(1, 12), seconds=st.sampled_from([0, 3, 30]), n=st.integers(0, 20))
    def zombie(self, after: int, seconds: int, n: int) -> None:
        """The reader is stopped mid-way, another one takes over and does its work, the first one wakes and goes on."""

        def meanwhile() -> None:
            self.change(n, "meanwhile")
            self.wait(seconds)
            self._new_reader()
            self._sync(lambda _: None, sweep=True)

        self._sync(_countdown(after, meanwhile), sweep=True)

    @rule(n=st.integers(0, 20), truly=st.booleans())
    def hint(self, n: int, truly: bool) -> None:
        """A webhook, of any thing, at any time; its container is named, was named before, or is not."""
        if item := _nth(list(self.source.items.values()), n):
            container = item.moments[-1][1] if truly else _nth(["", item.moments[0][1]], n) or ""
            self.ledger.hint("sim", [Hint(Ref("work_item", item.ident), container)])

    @rule(after=st.integers(1, 8))
    def hear(self, after: int) -> None:
        """What was hinted at is fetched, apart from any round; the reader may be killed on its way."""
        with suppress(Killed, LeaseLost):
            self._reader(_countdown(after, _kill)).hear(routes(self.mapping))

    @rule(after=st.integers(1, 12), n=st.integers(0, 20), title=st.text("xyz", max_size=2))
    def hinted_while_reading(self, after: int, n: int, title: str) -> None:
        """Something changes in the middle of a round, and is hinted at."""

        def meanwhile() -> None:
            self.change(n, title)
            self.hint(n, truly=True)

        self._sync(_countdown(after, meanwhile), sweep=True)

    def _sync(self, step: Callable[[str], None], *, sweep: bool) -> None:
        with suppress(Killed, LeaseLost):
            self._reader(step).sync(routes(self.mapping), timedelta(0) if sweep else timedelta(days=999))

    def _reader(self, step: Callable[[str], None]) -> Pump:
        name = f"reader-{self.readers}"
        return Pump(self.source, self.ledger, self.bus, lambda: self.source.time + self.skew, name, step)

    def _new_reader(self) -> None:
        self.readers += 1
        self.ledger.expired = True

    def _live(self, n: int) -> Item | None:
        return _nth([item for item in self.source.items.values() if item.deleted_at is None], n)

    @invariant()
    def nothing_runs_backwards(self) -> None:
        """What a project was told of a thing is never followed by something older, not even for a moment."""
        told = fold(map(claimed, self.bus.events[self.folded :]))
        changed = {key: row for key, row in told.items() if key not in self.rows or row > self.rows[key]}
        self.folded = len(self.bus.events)
        self.rows |= changed
        for key, row in changed.items():
            if key.kind == "work_item" and not row.gone:
                known = int(WorkItem.model_validate_json(row.body).labels[0])
                assert known >= self.newest.get((key.project, key.id), 0)
                self.newest[key.project, key.id] = known

    def teardown(self) -> None:
        """After a quiet final sync, what projects can show is what a fresh installation would show.

        All that is there can be read by then: of what cannot, a fresh installation has no last readable version.
        """
        self.source.lag = timedelta(0)
        for item in self.source.items.values():
            if item.moments[-1][2] == SPOILT and item.deleted_at is None:
                item.moments.append((self.source.time + timedelta(seconds=1), item.moments[-1][1], "mended"))
        self.wait(1)
        self._new_reader()
        self._sync(lambda _: None, sweep=True)
        fresh = MemoryBus()
        Pump(self.source, MemoryLedger(), fresh, lambda: self.source.time, "fresh").sync(routes(self.mapping))
        assert shown(self.bus.events, self.mapping) == shown(fresh.events, self.mapping)


def _nth(items: Sequence[Item], n: int) -> Item | None:
    return items[n % len(items)] if items else None


def _kill() -> None:
    raise Killed


def _countdown(after: int, then: Callable[[], None]) -> Callable[[str], None]:
    left = after

    def step(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            then()

    return step


@pytest.mark.parametrize("examples", [400, pytest.param(20_000, marks=pytest.mark.soak)])
def test_the_end_equals_a_fresh_sync(examples: int) -> None:
    run_state_machine_as_test(Machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None))
