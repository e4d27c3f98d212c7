"""For tests of connectors, here and elsewhere: a ledger and a bus in memory, and (below) the promises to inherit.

`ConnectorContract` is what `connectors/base.py` promises, as tests. It asks a small world of each connector and proves
the rest through the pump. It needs no test framework but one that collects methods called `test_…`.
"""

from __future__ import annotations

import logging
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from unittest.mock import patch

from connectors.base import Connector, Fatal, Read, Ref, Retryable
from connectors.pump import WHOLE, Cursor, DeadLetter, Entry, Fate, LeaseLost, Noted, Pending, Pump
from connectors.webhooks import Hint
from pmsync.core.events import Event, Snapshot, Synced, Thing, Tombstone, decode, encode


@dataclass
class MemoryLedger:
    """A `connectors.pump.Ledger` in memory; `expired` lets the next reader take the lease over. It passes the same
    suite as the one in the store."""

    expired: bool = False
    _released: set[str] = field(default_factory=set)
    _leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    _entries: dict[tuple[str, Ref], Entry] = field(default_factory=dict)
    _pending: dict[tuple[str, Ref], Pending] = field(default_factory=dict)
    _cursors: dict[tuple[str, str], Cursor] = field(default_factory=dict)
    _hints: dict[tuple[str, Ref], Noted] = field(default_factory=dict)
    _heard: int = 0

    def lease(self, source: str, owner: str) -> int:
        holder, epoch = self._leases.get(source, (owner, 1))
        if holder != owner:
            if not self.expired and source not in self._released:
                raise LeaseLost(f"{source} is being read by {holder}")
            epoch += 1
        self.expired = False
        self._released.discard(source)
        self._leases[source] = (owner, epoch)
        return epoch

    def release(self, source: str, epoch: int) -> None:
        if self._leases.get(source, ("", 0))[1] == epoch:
            self._released.add(source)

    def pending(self, source: str) -> Mapping[Ref, Pending]:
        return {ref: pending for (name, ref), pending in self._pending.items() if name == source}

    def entries(self, source: str, refs: Iterable[Ref]) -> Mapping[Ref, Entry]:
        return {ref: self._entries[source, ref] for ref in refs if (source, ref) in self._entries}

    def in_container(self, source: str, container: str) -> Mapping[Ref, Entry]:
        return {
            ref: entry
            for (name, ref), entry in self._entries.items()
            if name == source and entry.container == container and entry.fate is not Fate.gone
        }

    def ever_in(self, source: str, container: str) -> Sequence[Ref]:
        return [
            ref
            for (name, ref), entry in self._entries.items()
            if name == source and container in entry.containers and ref.kind != "synced"
        ]

    def cursors(self, source: str) -> Mapping[str, Cursor]:
        return {container: cursor for (name, container), cursor in self._cursors.items() if name == source}

    def note(self, source: str, epoch: int, pending: Mapping[Ref, Pending]) -> None:
        self._check(source, epoch)
        self._pending.update({(source, ref): note for ref, note in pending.items()})

    def ask(self, source: str, refs: Iterable[Ref]) -> None:
        for ref in refs:
            self._pending.setdefault((source, ref), Pending(0, frozenset()))

    def hint(self, source: str, heard: Iterable[Hint]) -> None:
        self._heard += 1
        self._hints.update({(source, each.ref): Noted(each.container, self._heard) for each in heard})

    def hints(self, source: str, limit: int) -> Mapping[Ref, Noted]:
        mine = {ref: noted for (name, ref), noted in self._hints.items() if name == source and ref.kind != WHOLE}
        return dict(sorted(mine.items(), key=lambda hint: (hint[1].at, hint[0]))[:limit])

    def again(self, source: str) -> Mapping[Ref, Noted]:
        return {ref: noted for (name, ref), noted in self._hints.items() if name == source and ref.kind == WHOLE}

    def heed(self, source: str, epoch: int, noted: Mapping[Ref, Noted]) -> None:
        self._check(source, epoch)
        for ref, each in noted.items():
            if self._hints.get((source, ref)) == each:
                del self._hints[source, ref]

    def settle(self, source: str, epoch: int, entries: Mapping[Ref, Entry]) -> None:
        self._check(source, epoch)
        for ref, entry in entries.items():
            known = self._entries.get((source, ref))
            if known is None or entry.version >= known.version:
                self._entries[source, ref] = entry
            self._pending.pop((source, ref), None)

    def move_cursor(self, source: str, epoch: int, container: str, cursor: Cursor | None) -> None:
        self._check(source, epoch)
        if cursor is None:
            self._cursors.pop((source, container), None)
        else:
            self._cursors[source, container] = cursor

    def _check(self, source: str, epoch: int) -> None:
        if self._leases[source][1] != epoch:
            raise LeaseLost(f"another reader has taken over {source}")


@dataclass
class MemoryBus:
    """A `connectors.pump.Bus` in memory."""

    events: list[Event] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    mended: list[tuple[str, str]] = field(default_factory=list)

    def publish(self, events: Sequence[Event]) -> None:
        self.events += events

    def bury(self, letters: Sequence[DeadLetter]) -> None:
        self.letters += letters

    def mend(self, source: str, letters: Sequence[str]) -> None:
        self.mended += [(source, letter) for letter in letters]


# --- the promises -----------------------------------------------------------------------------------------------------

TROUBLES = ("busy", "error", "cut", "silent")
"""429 with a time to wait, 500, half an answer, none at all."""
PROJECT = "apollo"
NEVER = timedelta(days=999)


class ConnectorContract(ABC):
    """What every connector promises. A subclass fills the world that follows; each test begins with an empty one.

    A source without any time of change says why in `timeless`: it is then held to giving everything at once, always,
    where others are held to the order of time.
    """

    name: ClassVar[str]
    container: ClassVar[str]
    secrets: ClassVar[tuple[str, ...]]
    """The credentials, in every form in which they travel; the wrong ones begin with the same text."""
    granularity: ClassVar[timedelta] = timedelta(seconds=1)
    """The unit in which the source compares times of change."""
    page_size: ClassVar[int] = 2
    pause: ClassVar[float] = 7.0
    """Seconds that the source asks for when it is busy."""
    timeless: ClassVar[str] = ""
    start: ClassVar[datetime] = datetime(2026, 3, 2, 9, tzinfo=UTC)
    later: ClassVar[datetime] = start + timedelta(days=1)
    latest: ClassVar[datetime] = start + timedelta(days=2)

    # --- the world, for each connector to fill ---

    @abstractmethod
    def connect(self) -> Connector:
        """A connector with pages of `page_size`."""

    @abstractmethod
    def wrong_credentials(self) -> Connector: ...

    @abstractmethod
    def set_time(self, at: datetime) -> None:
        """Show the source as it is at `at`."""

    @abstractmethod
    def create(self, at: datetime) -> Ref: ...

    @abstractmethod
    def change(self, ref: Ref, at: datetime) -> None: ...

    @abstractmethod
    def delete(self, ref: Ref, at: datetime) -> None: ...

    @abstractmethod
    def spoil_one(self, at: datetime) -> Ref:
        """One more thing, which cannot be translated."""

    @abstractmethod
    def break_next(self, kind: str) -> None:
        """Answer the next request with one of `TROUBLES`."""

    @abstractmethod
    def requests(self) -> int:
        """How many requests the source has seen."""

    # --- the tests ---

    def test_it_bears_its_name_and_sends_nothing_before_it_is_asked(self) -> None:
        connector = self.connect()
        assert connector.name == self.name, f"it calls itself {connector.name}"
        assert self.requests() == 0, "connect sent a request"

    def test_a_full_read_gives_everything_once_and_the_oldest_first(self) -> None:
        made = self._fill()
        pages = self._pages()
        reads = [read for page in pages for read in page]
        assert _refs(reads) >= set(made), "something is missing"
        assert len(reads) == len(_refs(reads)), "something came twice"
        times = [read.time for read in reads if read.time is not None]
        assert times == sorted(times), "it is not in the order of time"
        assert {read.content.container for read in reads if read.content} == {self.container}
        assert all(read.time for page in pages[1:] for read in page), "without a time, yet not in the first page"
        if self.timeless:
            assert not times, "it has times after all"
        else:
            assert len(pages) > 2, "the size of a page is not heeded"

    def test_resuming_at_any_page_loses_nothing(self) -> None:
        self._fill()
        pages = self._pages()
        everything, seen = _refs(*pages), set[Ref]()
        for number, page in enumerate(pages, start=1):
            seen |= _refs(page)
            newest = max((read.time for read in page if read.time is not None), default=None)
            if newest is not None:
                lost = everything - seen - _refs(*self._pages(newest))
                assert not lost, f"resumed after page {number}, it loses {sorted(lost)}"

    def test_what_has_no_time_of_change_always_comes_first(self) -> None:
        self._fill()
        timeless = {read.ref for page in self._pages() for read in page if read.time is None}
        first = next(iter(self._pages(self.later)), [])
        assert timeless <= _refs(first), "a poll leaves out what has no time of change"

    def test_a_poll_does_not_read_what_is_older(self) -> None:
        self._fill()
        since = self._time_of(3 * self.page_size)
        old = [
            read.ref
            for page in self._pages(since)
            for read in page
            if read.time and read.time < since - self.granularity
        ]
        assert not old, f"{old} did not change since"

    def test_a_change_while_listing_hides_nothing_else(self) -> None:
        made = self._fill()
        listing, seen = self.connect().changed(self.container, None), list[Read]()
        while not _refs(seen) & set(made):
            seen += next(listing)
        self.change(made[0], self.later)
        self.set_time(self.latest)
        for page in listing:
            seen += page
        assert _refs(seen) >= set(made), f"{sorted(set(made) - _refs(seen))} were passed over"

    def test_what_is_read_again_is_not_published_again(self) -> None:
        self._fill()
        pump, bus = self._pump()
        self._sync(pump)
        told = list(bus.events)
        assert told, "nothing was published"
        self._sync(pump)
        pump.connector = self.connect()
        self._sync(pump)
        assert bus.events == told, "something was published again"

    def test_a_change_is_published_once(self) -> None:
        made = self._fill()
        pump, bus = self._pump()
        self._sync(pump)
        before = len(bus.events)
        self.change(made[1], self.later)
        self.set_time(self.latest)
        self._sync(pump, NEVER)
        self._sync(pump)
        assert [_told(event) for event in bus.events[before:]] == [(Snapshot, made[1])]

    def test_a_deletion_becomes_a_tombstone(self) -> None:
        made = self._fill()
        pump, bus = self._pump()
        self._sync(pump)
        before = len(bus.events)
        self.delete(made[1], self.later)
        self.set_time(self.latest)
        self._sync(pump)
        self._sync(pump)
        assert [_told(event) for event in bus.events[before:] if _told(event)[1].kind != "synced"] == [
            (Tombstone, made[1])
        ]

    def test_a_sweep_names_exactly_what_a_full_read_gives(self) -> None:
        self._fill()
        listed = [(read.ref, read.time) for page in self._pages() for read in page]
        swept = [(mark.ref, mark.time) for page in self.connect().sweep(self.container) for mark in page]
        assert sorted(swept, key=str) == sorted(listed, key=str)

    def test_a_thing_by_id_is_what_was_listed_or_empty(self) -> None:
        made = self._fill()
        listed = {read.ref: read for page in self._pages() for read in page}
        fetched = {read.ref: read for read in self.connect().fetch(sorted(listed))}
        assert fetched == listed
        self.delete(made[1], self.later)
        self.set_time(self.latest)
        assert list(self.connect().fetch([made[1]])) == [Read(made[1])], "what is gone should come back empty"

    def test_a_spoilt_thing_costs_only_itself(self) -> None:
        made = self._fill()
        spoilt = self.spoil_one(self.start)
        pump, bus = self._pump()
        self._sync(pump)
        self._sync(pump)
        assert [letter.thing for letter in bus.letters] == [Thing(self.name, *spoilt)], "not one dead letter"
        assert bus.letters[0].reason, "the dead letter gives no reason"
        assert {_told(event)[1] for event in bus.events} >= set(made), "it cost others"
        listed = sum(map(len, self.connect().sweep(self.container)))
        (synced,) = (
            event.content for event in bus.events if isinstance(event, Snapshot) and isinstance(event.content, Synced)
        )
        assert (synced.listed, synced.published, synced.dead) == (listed, listed - 1, 1)

    def test_trouble_is_worth_another_try(self) -> None:
        made = self._fill()
        for kind in TROUBLES:
            for doing, act in self._acts(made[1]).items():
                self.break_next(kind)
                error = _failure(act, self.connect())
                assert isinstance(error, Retryable), f"{kind} while {doing}: {error!r}"
                assert kind != "busy" or error.after == self.pause, f"the source's wait is not passed on: {error.after}"
        assert _refs(*self._pages()) >= set(made), "it does not recover"

    def test_trouble_between_pages_is_not_the_end(self) -> None:
        made = self._fill()
        listing = self.connect().changed(self.container, None)
        seen = _refs(next(listing))
        if self.timeless:
            assert not list(listing), "without times everything is in the first page"
            return
        self.break_next("error")
        error = _failure(lambda _: list(listing), self.connect())
        assert isinstance(error, Retryable), f"it ended after {len(seen)} of {len(made)} things: {error!r}"

    def test_wrong_credentials_are_fatal_and_check_says_so(self) -> None:
        made = self._fill()
        for doing, act in self._acts(made[1]).items():
            error = _failure(act, self.wrong_credentials())
            assert isinstance(error, Fatal), f"while {doing}: {error!r}"
        assert list(self.wrong_credentials().check([self.container])), "check sees nothing wrong with them"
        assert list(self.connect().check([f"{self.container}-none"])), (
            "check sees nothing wrong with an unknown container"
        )
        assert not list(self.connect().check([self.container])), "check complains although all is well"

    def test_no_secret_is_told(self) -> None:
        made = self._fill()
        self.spoil_one(self.start)
        pump, bus = self._pump()
        told: list[str] = []
        with _overheard() as logged:
            self._sync(pump)
            for connect in (self.connect, self.wrong_credentials):
                told += [repr(connect()), *connect().check([self.container])]
                for kind in TROUBLES:
                    self.break_next(kind)
                    for act in self._acts(made[1]).values():
                        told += _told_by(_failure(act, connect()))
        told += [*logged, *map(repr, bus.letters), *(encode(event).decode() for event in bus.events)]
        assert not [text for text in told for secret in self.secrets if secret in text]

    def test_what_is_read_survives_the_way_over_the_bus(self) -> None:
        self._fill()
        for read in (read for page in self._pages() for read in page):
            assert read.content is not None, read.problem
            event = Snapshot(project=PROJECT, thing=Thing(self.name, *read.ref), version=1, content=read.content)
            assert decode(encode(event)) == event

    def test_it_never_waits_by_itself(self) -> None:
        made = self._fill()
        naps: list[float] = []
        with patch.object(time, "sleep", naps.append):
            for act in self._acts(made[1]).values():
                _failure(act, self.connect())
                for kind in ("busy", "error"):
                    self.break_next(kind)
                    _failure(act, self.connect())
        assert not naps, f"it slept for {naps} s"

    # --- what they are made of ---

    def _time_of(self, n: int) -> datetime:
        """The n-th change: the last of a page and the first of the next are in one unit of the source's clock."""
        unit, place = divmod(n + 1, self.page_size)
        return self.start + self.granularity * (unit + place / (self.page_size + 1))

    def _fill(self) -> list[Ref]:
        """A world of more than three pages."""
        made = [self.create(self._time_of(n)) for n in range(3 * self.page_size + 1)]
        self.set_time(self.later)
        return made

    def _pages(self, since: datetime | None = None) -> list[Sequence[Read]]:
        return list(self.connect().changed(self.container, since))

    def _pump(self) -> tuple[Pump, MemoryBus]:
        bus = MemoryBus()
        return Pump(self.connect(), MemoryLedger(), bus, lambda: self.later, "reader"), bus

    def _sync(self, pump: Pump, sweep_every: timedelta = timedelta(0)) -> None:
        pump.sync({self.container: {PROJECT: 1}}, sweep_every)

    def _acts(self, ref: Ref) -> Mapping[str, Callable[[Connector], object]]:
        return {
            "listing": lambda connector: list(connector.changed(self.container, None)),
            "sweeping": lambda connector: list(connector.sweep(self.container)),
            "fetching": lambda connector: list(connector.fetch([ref])),
        }


def _refs(*pages: Iterable[Read]) -> set[Ref]:
    return {read.ref for page in pages for read in page}


def _told(event: Event) -> tuple[type, Ref]:
    assert isinstance(event, Snapshot | Tombstone)
    return type(event), Ref(*event.thing[1:])


def _failure(act: Callable[[Connector], object], connector: Connector) -> Exception | None:
    try:
        act(connector)
    except Exception as error:
        return error
    return None


def _told_by(error: Exception | None) -> Sequence[str]:
    return [repr(error), *traceback.format_exception(error)] if error else []


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """Everything that is logged, at any level."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
