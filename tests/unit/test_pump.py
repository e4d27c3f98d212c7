"""The pump, rule by rule: what moves the cursor, what a sweep may believe, what is dead, what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors.base import LONGEST_WAIT, Fatal, Mark, Read, Ref, Retryable, Silent, Withheld
from connectors.pump import (
    BULK_COUNT,
    OVERLAP,
    PAGE,
    REST_PIECE,
    SETTLED,
    WHOLE,
    Counts,
    Cursor,
    Fate,
    LeaseLost,
    Pending,
    Pump,
)
from connectors.testing import MemoryBus, MemoryLedger
from connectors.webhooks import Hint
from pmsync.core.events import Event, Milestone, Snapshot, Sprint, Synced, Tombstone

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
HOUR = timedelta(hours=1)
ROUTES = {"APO": {"apollo": 1}}


def ref(ident: str) -> Ref:
    return Ref("milestone", ident)


def read(ident: str, time: datetime | None = LONG_AGO, title: str = "one", container: str = "APO") -> Read:
    return Read(ref(ident), time, Milestone(key=ident, container=container, title=title))


def sprint(ident: str) -> Read:
    content = Sprint(key=ident, container="APO", sprint=ident, title=ident, state="future")
    return Read(Ref("sprint", ident), content=content)


def dead(ident: str, raw: bytes = b"raw", time: datetime = LONG_AGO) -> Read:
    return Read(ref(ident), time, problem="cannot be read", raw=raw)


@dataclass
class Source:
    """A source in memory. `pages` is what a listing shows (None: what is there, oldest first); `asked` notes each call."""

    things: dict[str, Read] = field(default_factory=dict)
    pages: list[Any] | None = None
    asked: list[Any] = field(default_factory=list)
    withheld: set[str] = field(default_factory=set)
    name: str = "sim"
    time: datetime = NOW

    def put(self, *reads: Read) -> None:
        self.things.update({each.ref.id: each for each in reads})

    def now(self) -> datetime:
        return self.time

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        self.asked.append(("changed", container, since))
        if container in self.withheld:
            raise Withheld(f"{container} is withheld")
        for page in self.pages if self.pages is not None else [self._here(container, since)]:
            if isinstance(page, Exception):
                raise page
            yield page

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        self.asked.append(("sweep", container))
        yield [Mark(each.ref, each.time) for each in self._here(container, None)]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        self.asked.append(("fetch", [each.id for each in refs]))
        if withheld := self.withheld & {each.id for each in refs}:
            raise Withheld(f"{min(withheld)} is withheld")
        return (self.things.get(each.id, Read(each)) for each in refs)

    def _here(self, container: str, since: datetime | None) -> list[Read]:
        here = [r for r in self.things.values() if r.content is None or r.content.container == container]
        found = [r for r in here if since is None or r.time is None or r.time >= since]
        return sorted(found, key=lambda r: (r.time is not None, r.time))


class Broken(Exception):
    """The bus or the process fails here."""


def _break_at(wanted: str, count: int = 1) -> Callable[[str], None]:
    """Ends the reader at the `count`-th step of this name."""
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if seen.count(wanted) == count:
            raise Broken

    return step


class Desk:
    """A source, what its reader remembers, and where it publishes."""

    def __init__(self) -> None:
        self.source, self.ledger, self.bus = Source(), MemoryLedger(), MemoryBus()
        self.now = NOW
        self.steps: list[str] = []

    def sync(self, routes: Any = ROUTES, every: timedelta = timedelta(0), **values: Any) -> Counts:
        pump = Pump(self.source, self.ledger, self.bus, lambda: self.now, "me", self.steps.append)
        for name, value in values.items():
            setattr(pump, name, value)
        return pump.sync(routes, every)

    def hear(self, routes: Any = ROUTES, **values: Any) -> Counts:
        pump = Pump(self.source, self.ledger, self.bus, lambda: self.now, "me", self.steps.append)
        for name, value in values.items():
            setattr(pump, name, value)
        return pump.hear(routes)

    def hint(self, *idents: str, container: str = "APO") -> None:
        self.ledger.hint("sim", [Hint(ref(ident), container) for ident in idents])

    def fetched(self) -> list[str]:
        """What the source was asked for by id since last asked."""
        found, self.source.asked = self.source.asked, []
        return [ident for call in found if call[0] == "fetch" for ident in call[1]]

    def told(self) -> list[Snapshot | Tombstone]:
        """What was published since last asked, but for who is synced."""
        found, self.bus.events = self.bus.events, []
        things = [event for event in found if isinstance(event, Snapshot | Tombstone)]
        return [event for event in things if event.thing.kind != "synced"]

    def cursor(self, container: str = "APO") -> Cursor:
        return self.ledger.cursors("sim")[container]

    def fates(self) -> dict[str, Fate]:
        return {r.id: entry.fate for (_, r), entry in self.ledger._entries.items() if r.kind != "synced"}


@pytest.fixture
def desk() -> Desk:
    return Desk()


# --- the cursor -------------------------------------------------------------------------------------------------------


def test_the_cursor_stays_behind_the_newest_by_the_overlap(desk: Desk) -> None:
    desk.source.put(read("1"), read("2", NOW - HOUR))
    desk.sync()
    assert desk.cursor().since == NOW - HOUR - OVERLAP
    assert timedelta(minutes=2) <= OVERLAP, "Jira's clock counts minutes: twice that, and to spare"


def test_the_cursor_stays_behind_what_may_not_be_listed_yet(desk: Desk) -> None:
    desk.source.put(read("1", NOW + HOUR))
    desk.sync()
    assert desk.cursor().since == NOW - SETTLED - OVERLAP


def test_a_listing_that_lags_is_caught_by_the_overlap(desk: Desk) -> None:
    """A change that gets into the index after a later one was listed is listed by the next poll, without any sweep."""
    desk.source.put(read("1", NOW - HOUR))
    desk.sync()
    desk.told()
    desk.source.put(read("2", NOW - HOUR - timedelta(minutes=1)))
    desk.sync(every=HOUR)
    assert [e.thing.id for e in desk.told()] == ["2"]


def test_the_next_listing_begins_at_the_cursor(desk: Desk) -> None:
    desk.source.put(read("1", NOW - HOUR))
    desk.sync()
    desk.source.asked.clear()
    desk.sync()
    assert desk.source.asked[0] == ("changed", "APO", NOW - HOUR - OVERLAP)


def test_the_cursor_never_goes_back(desk: Desk) -> None:
    desk.source.put(read("1", NOW - HOUR))
    desk.sync()
    desk.source.pages = [[read("1", NOW - 9 * HOUR)]]
    desk.sync()
    assert desk.cursor().since == NOW - HOUR - OVERLAP


def test_an_empty_container_has_a_cursor_too(desk: Desk) -> None:
    desk.sync()
    assert desk.cursor() == Cursor(NOW - SETTLED - OVERLAP, {"apollo": 1}, NOW)


def test_things_without_a_time_move_no_cursor(desk: Desk) -> None:
    desk.source.put(read("1", None))
    desk.sync()
    assert desk.cursor().since is None


@pytest.mark.parametrize("at", ["noted", "published", "settled"])
def test_the_cursor_moves_after_the_page_is_published_and_settled(desk: Desk, at: str) -> None:
    """Ended anywhere before that, the next reader lists from the old place."""
    desk.source.put(read("1", NOW - HOUR))
    with pytest.raises(Broken):
        desk.sync(step=_break_at(at))
    assert desk.cursor().since is None


def test_a_bus_that_fails_leaves_cursor_and_ledger(desk: Desk) -> None:
    class Down(MemoryBus):
        def publish(self, events: Sequence[Event]) -> None:
            raise Broken

    desk.source.put(read("1", NOW - HOUR))
    with pytest.raises(Broken):
        desk.sync(bus=Down())
    assert desk.cursor().since is None
    assert desk.fates() == {}
    assert desk.ledger.pending("sim").keys() == {ref("1")}
    desk.sync()
    assert [e.thing.id for e in desk.told()] == ["1"]
    assert desk.ledger.pending("sim") == {}


def test_each_page_moves_the_cursor_for_itself(desk: Desk) -> None:
    desk.source.pages = [[read("1", NOW - 3 * HOUR)], [read("2", NOW - 2 * HOUR)], Retryable("busy")]
    with pytest.raises(Retryable):
        desk.sync()
    assert desk.cursor().since == NOW - 2 * HOUR - OVERLAP
    assert [e.thing.id for e in desk.told()] == ["1", "2"]


def test_the_order_of_the_steps(desk: Desk) -> None:
    desk.source.put(read("1", NOW - HOUR))
    desk.sync()
    first = desk.steps[: desk.steps.index("settled") + 1]
    assert first[-3:] == ["noted", "published", "settled"]


# --- listed finds, by id decides --------------------------------------------------------------------------------------


def test_what_is_known_is_not_published_again(desk: Desk) -> None:
    desk.source.put(read("1"))
    assert desk.sync().published == 2, "the thing, and that the container is synced"
    assert desk.sync().published == 0


def test_an_old_listing_is_asked_by_id(desk: Desk) -> None:
    desk.source.put(read("1", NOW - HOUR, "new"))
    desk.sync()
    desk.told()
    desk.source.pages = [[read("1", NOW - 2 * HOUR, "old")]]
    desk.sync()
    assert ("fetch", ["1"]) in desk.source.asked
    assert desk.told() == []


def test_of_one_thing_twice_in_a_page_the_newer_counts(desk: Desk) -> None:
    desk.source.pages = [[read("1", NOW - HOUR, "new"), read("1", NOW - 2 * HOUR, "old")]]
    desk.source.put(read("1", NOW - HOUR, "new"))
    desk.sync()
    (event,) = desk.told()
    assert isinstance(event, Snapshot)
    assert event.content.title == "new"  # type: ignore[union-attr]


# --- pending ----------------------------------------------------------------------------------------------------------


def test_what_was_under_way_is_fetched_and_published_whatever_its_digest(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    known = desk.ledger.entries("sim", [ref("1")])[ref("1")]
    desk.told()
    desk.ledger.note("sim", 1, {ref("1"): Pending(known.version + 50, frozenset({"apollo", "beacon"}))})
    desk.sync()
    told = desk.told()
    assert [(e.project, e.thing.id) for e in told] == [("apollo", "1"), ("beacon", "1")]
    assert all(e.version > known.version + 50 for e in told)
    assert desk.ledger.pending("sim") == {}


def test_what_was_under_way_and_is_gone_gets_a_tombstone(desk: Desk) -> None:
    epoch = desk.ledger.lease("sim", "me")
    desk.ledger.note("sim", epoch, {ref("1"): Pending(7, frozenset({"apollo"}))})
    desk.sync()
    (event,) = desk.told()
    assert isinstance(event, Tombstone)
    assert event.version > 7


def test_many_pending_things_are_fetched_in_pages(desk: Desk) -> None:
    epoch = desk.ledger.lease("sim", "me")
    many = {ref(f"{n:04}"): Pending(1, frozenset({"apollo"})) for n in range(2 * PAGE + 1)}
    desk.ledger.note("sim", epoch, many)
    desk.sync()
    sizes = [len(what[1]) for what in desk.source.asked if what[0] == "fetch"]
    assert sizes[:3] == [PAGE, PAGE, 1]


# --- the sweep --------------------------------------------------------------------------------------------------------


def sweeps(desk: Desk) -> int:
    return sum(what[0] == "sweep" for what in desk.source.asked)


@pytest.mark.parametrize(
    ("later", "due"),
    [(timedelta(0), 0), (HOUR - timedelta(seconds=1), 0), (HOUR, 1), (-timedelta(minutes=5), 0), (-HOUR, 1), (-9 * HOUR, 1)],
)  # fmt: skip
def test_when_a_sweep_is_due(desk: Desk, later: timedelta, due: int) -> None:
    """Once an hour; a clock that was set back far must not put it off."""
    desk.sync(every=HOUR)
    assert sweeps(desk) == 1
    desk.now += later
    desk.sync(every=HOUR)
    assert sweeps(desk) == 1 + due


def test_a_sweep_finds_what_no_listing_showed(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.told()
    desk.source.put(read("2", LONG_AGO), read("1", LONG_AGO + HOUR, "touched"))
    desk.source.pages = []
    desk.sync()
    assert {e.thing.id for e in desk.told()} == {"1", "2"}


def test_a_sweep_finds_what_is_gone(desk: Desk) -> None:
    desk.source.put(read("1"), read("2"))
    desk.sync()
    desk.told()
    del desk.source.things["1"]
    counts = desk.sync()
    (event,) = desk.told()
    assert isinstance(event, Tombstone)
    assert counts.gone == 1
    assert desk.fates() == {"1": Fate.gone, "2": Fate.live}
    assert desk.sync().gone == 0


def test_a_thing_that_a_sweep_misses_but_is_there_stays(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.told()

    class Blind(Source):
        def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
            yield []

    desk.source = Blind(desk.source.things)
    desk.sync()
    assert desk.told() == []
    assert desk.fates() == {"1": Fate.live}


def test_synced_names_the_mapping_and_the_counts(desk: Desk) -> None:
    desk.source.put(read("1"), dead("2"))
    desk.sync({"APO": {"apollo": 1, "beacon": 5}})
    found = [e for e in desk.bus.events if isinstance(e, Snapshot) and isinstance(e.content, Synced)]
    assert {e.project for e in found} == {"apollo", "beacon"}
    assert all(e.content == Synced(container="APO", mapped={"apollo": 1, "beacon": 5}, listed=2, published=1, dead=1) for e in found)  # fmt: skip


# --- missing in bulk --------------------------------------------------------------------------------------------------


def emptied(desk: Desk, known: int, missing: int) -> None:
    desk.source.put(*(read(f"{n:04}") for n in range(known)))
    desk.sync()
    desk.told()
    for n in range(missing):
        del desk.source.things[f"{n:04}"]


@pytest.mark.parametrize(("known", "missing"), [(BULK_COUNT, BULK_COUNT), (2000, 100), (30, 1)])
def test_some_missing_things_are_believed(desk: Desk, known: int, missing: int) -> None:
    emptied(desk, known, missing)
    assert desk.sync().gone == missing


@pytest.mark.parametrize(("known", "missing"), [(BULK_COUNT + 1, BULK_COUNT + 1), (400, 21), (2000, 101)])
def test_things_missing_in_bulk_are_not_believed(desk: Desk, known: int, missing: int) -> None:
    emptied(desk, known, missing)
    with pytest.raises(Fatal, match=f"{missing} of {known} milestones of APO .* --accept-missing APO"):
        desk.sync()
    assert desk.told() == []
    assert set(desk.fates().values()) == {Fate.live}


def test_what_goes_in_bulk_of_one_kind_does_not_hold_up_the_other_kinds(desk: Desk) -> None:
    desk.source.put(*(read(f"{n:04}") for n in range(30)))
    desk.source.put(*(sprint(f"s{n}") for n in range(30)))
    desk.sync()
    desk.told()
    for ident in ("0000", "0001", *(f"s{n}" for n in range(25))):
        del desk.source.things[ident]
    with pytest.raises(Fatal, match="sim: 25 of 30 sprints of APO are missing"):
        desk.sync()
    assert [(type(e), e.thing.id) for e in desk.told()] == [(Tombstone, "0000"), (Tombstone, "0001")]


def test_much_of_a_small_kind_is_little_of_a_large_container(desk: Desk) -> None:
    desk.source.put(*(read(f"{n:04}") for n in range(600)))
    desk.source.put(*(sprint(f"s{n}") for n in range(25)))
    desk.sync()
    for n in range(25):
        del desk.source.things[f"s{n}"]
    assert desk.sync().gone == 25


def test_things_missing_in_bulk_can_be_accepted(desk: Desk) -> None:
    emptied(desk, 30, 30)
    with pytest.raises(Fatal):
        desk.sync(accept_missing=frozenset({"BEA"}))
    assert desk.sync(accept_missing=frozenset({"APO"})).gone == 30
    assert all(isinstance(e, Tombstone) for e in desk.told())
    assert desk.sync().gone == 0


# --- dead letters -----------------------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_buried_once_and_the_rest_goes_on(desk: Desk) -> None:
    desk.source.put(dead("1"), read("2"))
    counts = desk.sync()
    (letter,) = desk.bus.letters
    assert (letter.thing.id, letter.reason, letter.raw) == ("1", "cannot be read", b"raw")
    assert (counts.dead, [e.thing.id for e in desk.told()]) == (1, ["2"])
    assert desk.sync().dead == 0
    assert len(desk.bus.letters) == 1


def test_other_bytes_are_another_letter(desk: Desk) -> None:
    desk.source.put(dead("1"))
    desk.sync()
    desk.source.put(dead("1", b"other", LONG_AGO + HOUR))
    desk.sync()
    one, other = desk.bus.letters
    assert one.id != other.id


def test_the_last_readable_version_stays_until_it_can_be_read_again(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.told()
    desk.source.put(dead("1", time=LONG_AGO + HOUR))
    desk.sync()
    assert desk.told() == []
    assert desk.fates() == {"1": Fate.dead}
    desk.source.put(read("1", LONG_AGO + 2 * HOUR))
    desk.sync()
    (event,) = desk.told()
    assert isinstance(event, Snapshot)
    assert desk.fates() == {"1": Fate.live}


def test_text_that_cannot_be_written_down_is_a_dead_letter(desk: Desk) -> None:
    desk.source.put(read("1", title="half \ud83d"), read("2"))
    assert desk.sync().dead == 1
    assert [e.thing.id for e in desk.told()] == ["2"]


# --- versions and counts ----------------------------------------------------------------------------------------------


def test_versions_rise_though_the_clock_runs_back(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    (first,) = desk.told()
    desk.now -= timedelta(days=400)
    desk.source.put(read("1", NOW, "touched"))
    desk.sync()
    (second,) = desk.told()
    assert second.version == first.version + 1


def test_one_read_has_one_version_for_all_its_projects(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync({"APO": {"apollo": 1, "beacon": 1}})
    one, other = desk.told()
    assert {one.project, other.project} == {"apollo", "beacon"}
    assert one.version == other.version


def test_counts(desk: Desk) -> None:
    desk.source.put(read("1"), read("2"), dead("3"))
    assert desk.sync() == Counts(read=4, published=3, dead=1, gone=0)
    del desk.source.things["1"]
    desk.source.pages = []
    assert desk.sync() == Counts(read=2, published=2, dead=0, gone=1)


class Counted(Source):
    """A source that says beforehand how much there is."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[datetime | None] = []
        self.trouble: Exception | None = None

    def count(self, container: str, since: datetime | None) -> int | None:
        self.counted.append(since)
        if self.trouble:
            raise self.trouble
        return len(self._here(container, since))


def test_who_looks_on_is_told_how_much_there_is(desk: Desk) -> None:
    looks: list[tuple[str, str, int, int | None]] = []
    source = Counted()
    for desk.source, total in ((Source(), None), (source, 3)):
        desk.source.put(*map(read, "123"))
        desk.sync(progress=lambda *told: looks.append(told))
        assert looks[-1] == ("sim", "APO", 3, total)
        desk.ledger = MemoryLedger()
    source.trouble = Retryable("busy")  # the listing will say so, if it lasts
    desk.sync(progress=lambda *told: looks.append(told))
    assert looks[-1] == ("sim", "APO", 3, None)
    source.counted.clear()
    desk.sync()
    assert source.counted == [], "nobody looks on, so it costs no request"


def test_a_reader_that_lost_its_lease_stops(desk: Desk) -> None:
    desk.source.put(read("1"))

    def step(name: str) -> None:
        if name == "noted":
            desk.ledger.expired = True
            desk.ledger.lease("sim", "other")

    with pytest.raises(LeaseLost):
        desk.sync(step=step)
    assert desk.fates() == {}


def test_what_was_under_way_and_cannot_be_read_any_more_is_not_under_way(desk: Desk) -> None:
    """Killed after the bus had it; then it cannot be read, then it is gone: whoever may have got it hears of that."""
    desk.source.put(read("1"))
    with pytest.raises(Broken):
        desk.sync(step=_break_at("published"))
    desk.source.put(dead("1", time=NOW))
    desk.sync()
    assert desk.ledger.pending("sim") == {}
    desk.told()
    desk.source.things.clear()
    desk.sync()
    assert [(e.project, type(e)) for e in desk.told()] == [("apollo", Tombstone)]


def test_who_came_to_it_while_it_was_under_way_hears_that_it_is_gone(desk: Desk) -> None:
    """One project has it, a second one comes, and the reader is killed after the bus had it for both."""
    desk.source.put(read("1"))
    desk.sync({"APO": {"apollo": 1}})
    desk.source.put(read("1", NOW))
    both = {"APO": {"apollo": 1, "zeus": 1}}
    with pytest.raises(Broken):
        desk.sync(both, step=_break_at("published"))
    desk.source.put(dead("1", time=NOW))
    desk.sync(both)
    desk.told()
    desk.source.things.clear()
    desk.sync(both)
    assert {(e.project, type(e)) for e in desk.told()} == {("apollo", Tombstone), ("zeus", Tombstone)}


@pytest.mark.parametrize("before", ["new", "gone before"])
def test_what_was_under_way_and_is_gone_before_its_container_s_turn_is_told(desk: Desk, before: str) -> None:
    """Killed after the bus had it; the next reader finds it unreadable and is killed as well; then it is gone."""
    if before == "gone before":
        desk.source.put(read("1"))
        desk.sync()
        desk.source.things.clear()
        desk.sync()
        desk.told()
    desk.source.put(read("1", NOW))
    with pytest.raises(Broken):
        desk.sync(step=_break_at("published"))
    assert [type(e) for e in desk.told()] == [Snapshot]
    desk.source.put(dead("1", time=NOW))
    with pytest.raises(Broken):
        desk.sync(step=_break_at("settled"))
    desk.source.things.clear()
    desk.sync()
    assert {type(e) for e in desk.told()} == {Tombstone}


def test_a_note_on_what_is_known_to_be_unreadable_is_struck(desk: Desk) -> None:
    desk.source.put(dead("1"))
    desk.sync()
    desk.source.put(read("1", NOW))
    with pytest.raises(Broken):
        desk.sync(step=_break_at("noted"))
    desk.source.put(dead("1"))
    desk.sync()
    assert desk.ledger.pending("sim") == {}


@pytest.mark.parametrize("then", ["read", "gone", "other bytes"])
def test_a_letter_of_the_past_is_closed(desk: Desk, then: str) -> None:
    desk.source.put(dead("1"))
    desk.sync()
    (letter,) = desk.bus.letters
    desk.sync()
    assert desk.bus.mended == []
    if then == "gone":
        desk.source.things.clear()
    else:
        desk.source.put(read("1", NOW) if then == "read" else dead("1", b"other", NOW))
    desk.sync()
    assert desk.bus.mended == [("sim", letter.id)]


def test_what_is_asked_for_is_fetched_by_id_and_buried_again_if_it_is_dead(desk: Desk) -> None:
    desk.source.put(dead("1"), read("2"))
    desk.sync()
    desk.told()
    desk.ledger.ask("sim", [ref("1"), ref("2"), ref("3")])
    desk.source.asked.clear()
    desk.sync()
    assert desk.source.asked[0] == ("fetch", ["1", "2", "3"])
    assert [letter.thing.id for letter in desk.bus.letters] == ["1", "1"]
    assert len({letter.id for letter in desk.bus.letters}) == 1
    assert [e.thing.id for e in desk.told()] == ["2"], "nobody is told of what never was"
    assert desk.ledger.pending("sim") == {}


# --- what is withheld -------------------------------------------------------------------------------------------------

BOTH = {"APO": {"apollo": 1}, "BET": {"apollo": 1}}


def test_a_withheld_container_does_not_stop_the_others(desk: Desk) -> None:
    desk.source.put(read("1"), read("2", container="BET"))
    desk.sync(BOTH)
    desk.told()
    desk.source.withheld = {"APO"}
    desk.source.put(read("1", NOW, "new"), read("2", NOW, "new", container="BET"))
    with pytest.raises(Withheld, match="APO is withheld"):
        desk.sync(BOTH)
    assert [e.thing.id for e in desk.told()] == ["2"]
    desk.source.withheld = set()
    desk.sync(BOTH)
    assert [e.thing.id for e in desk.told()] == ["1"]


def test_what_stands_as_it_was_known_keeps_nothing_from_being_read_and_swept_and_is_said(desk: Desk) -> None:
    class Stale(Source):
        said: Sequence[str] = ()

        def complaints(self) -> Iterable[str]:
            return self.said

    desk.source = source = Stale()
    source.put(read("1"), read("2"))
    desk.sync()
    desk.told()
    source.said = ["a board cannot be read"]
    source.put(read("1", NOW, "new"))
    source.things.pop("2")
    with pytest.raises(Withheld, match=r"^a board cannot be read$"):
        desk.sync(BOTH)
    assert {(e.thing.id, type(e)) for e in desk.told()} == {("1", Snapshot), ("2", Tombstone)}
    assert desk.cursor().swept_at == desk.cursor("BET").swept_at == NOW
    source.said = []
    desk.sync(BOTH)


def test_a_withheld_thing_hides_no_other_and_keeps_its_note(desk: Desk) -> None:
    desk.source.put(*(read(ident) for ident in "123"))
    desk.sync()
    desk.told()
    desk.ledger.ask("sim", [ref(ident) for ident in "123"])
    desk.source.withheld = {"2"}
    with pytest.raises(Withheld, match="2 is withheld"):
        desk.sync()
    assert {e.thing.id for e in desk.told()} == {"1", "3"}
    assert desk.ledger.pending("sim").keys() == {ref("2")}
    desk.source.withheld = set()
    desk.sync()
    assert [e.thing.id for e in desk.told()] == ["2"]
    assert desk.ledger.pending("sim") == {}


def test_a_note_that_nobody_can_follow_up_is_struck(desk: Desk) -> None:
    """Never entered, or of a container that nobody maps any more: it must not come up in every round for ever."""
    desk.source.put(read("1"))
    desk.sync()
    desk.told()
    desk.ledger.ask("sim", [ref("1"), ref("9")])
    desk.source.withheld = {"1", "9"}
    desk.sync({"BET": {"apollo": 1}})
    assert desk.ledger.pending("sim") == {}
    assert [(e.thing.id, type(e)) for e in desk.told()] == [("1", Tombstone)]


def test_what_is_neither_listed_nor_given_is_gone(desk: Desk) -> None:
    desk.source.put(read("1"), read("2"))
    desk.sync()
    desk.told()
    desk.source.things.pop("1")
    desk.source.withheld = {"1"}
    desk.sync()
    assert [(e.thing.id, type(e)) for e in desk.told()] == [("1", Tombstone)]


def test_a_new_mapping_asks_for_nothing_that_is_out_of_sight(desk: Desk) -> None:
    desk.source.put(read("1"), read("2"))
    desk.sync()
    desk.source.things.pop("1")
    desk.sync()
    desk.source.asked.clear()
    desk.sync({"APO": {"apollo": 2}})
    assert ("fetch", ["2"]) in desk.source.asked
    assert ("fetch", ["1", "2"]) not in desk.source.asked


def test_what_moved_to_another_container_in_bulk_is_not_missing(desk: Desk) -> None:
    many = [str(n) for n in range(BULK_COUNT + 10)]
    desk.source.put(*(read(ident) for ident in many))
    desk.sync(BOTH)
    desk.told()
    desk.source.put(*(read(ident, LONG_AGO, container="BET") for ident in many))
    desk.sync(BOTH)
    assert {(e.thing.id, type(e)) for e in desk.told()} == {(ident, Snapshot) for ident in many}


def test_a_container_whose_things_name_another_one_is_not_called_synced(desk: Desk) -> None:
    class Renamed(Source):
        def _here(self, container: str, since: datetime | None) -> list[Read]:
            return super()._here("NEW" if container == "APO" else container, since)

    desk.source = Renamed()
    desk.source.put(*(read(str(n), container="NEW") for n in range(BULK_COUNT + 1)))
    with pytest.raises(Withheld, match=f"{BULK_COUNT + 1} of {BULK_COUNT + 1} things listed in APO .* Was it renamed"):
        desk.sync()
    assert not [e for e in desk.bus.events if e.thing.kind == "synced"]


# --- mappings ---------------------------------------------------------------------------------------------------------


def test_a_new_mapping_reads_all_and_an_ended_one_forgets(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.sync({"APO": {"apollo": 1, "beacon": 2}})
    assert ("changed", "APO", None) in desk.source.asked[1:]
    assert "beacon" in {e.project for e in desk.told()}
    desk.sync({})
    gone = desk.told()
    assert {(e.project, type(e)) for e in gone} == {("apollo", Tombstone), ("beacon", Tombstone)}
    assert desk.ledger.cursors("sim") == {}


def test_a_container_that_was_not_come_to_before_its_mapping_ended_is_forgotten(desk: Desk) -> None:
    """A thing of A has moved to C and is published for A's sake; before C's turn the reader is killed and C unmapped."""
    desk.source.put(read("1", container="A"))
    desk.sync({"A": {"apollo": 1}})
    desk.source.put(read("1", NOW, container="C"))
    with pytest.raises(Broken):
        desk.sync({"A": {"apollo": 2}, "C": {"apollo": 2}}, step=_break_at("settled"))
    assert [type(e) for e in desk.told()] == [Snapshot, Snapshot]
    desk.sync({"A": {"apollo": 2}})
    assert [type(e) for e in desk.told()] == [Tombstone]


def test_a_mapping_that_only_loses_a_project_keeps_its_place(desk: Desk) -> None:
    desk.source.put(read("1", NOW - HOUR))
    desk.sync({"APO": {"apollo": 1, "beacon": 1}})
    desk.source.asked.clear()
    desk.sync({"APO": {"apollo": 1}}, every=HOUR)
    assert desk.source.asked[0] == ("changed", "APO", NOW - HOUR - OVERLAP)
    assert sweeps(desk) == 1, "and says anew for whom it is synced"


def test_each_container_is_read_apart(desk: Desk) -> None:
    """Whoever wants to know what a publication came from is told whose turn it is, also if it ends early."""
    turns: list[str] = []
    turn: list[str] = []

    @contextmanager
    def reading(container: str) -> Iterator[None]:
        turn.append(container)
        try:
            yield
        finally:
            turn.clear()

    publish = desk.bus.publish
    desk.bus.publish = lambda events: (turns.extend(turn * len(events)), publish(events))  # type: ignore[method-assign]
    desk.source.put(read("1"), read("2", container="BEA"))
    desk.source.withheld.add("BEA")
    with pytest.raises(Withheld):
        desk.sync({"APO": {"apollo": 1}, "BEA": {"beacon": 1}}, reading=reading)
    desk.source.withheld.clear()
    desk.sync({"APO": {"apollo": 1}, "BEA": {"beacon": 1}}, reading=reading)
    assert turns == ["APO", "APO", "BEA", "BEA"], "what is there, and that it is synced"
    assert turn == []


# --- hints ------------------------------------------------------------------------------------------------------------


def titles(events: Sequence[Snapshot | Tombstone]) -> list[str]:
    return [each.content.title if isinstance(each, Snapshot) else f"no {each.thing.id}" for each in events]  # type: ignore[union-attr]


def test_what_is_hinted_at_is_fetched_once_and_told_if_it_changed(desk: Desk) -> None:
    desk.source.put(read("1"), read("2"))
    desk.sync()
    desk.told(), desk.fetched()
    desk.source.put(read("1", NOW, title="two"))
    for _ in range(20):
        desk.hint("1", "2", "3")
    counts = desk.hear()
    assert sorted(desk.fetched()) == ["1", "2", "3"]
    assert titles(desk.told()) == ["two"]
    assert (counts.published, counts.gone) == (1, 0)
    assert desk.ledger.hints("sim", 9) == {}
    assert desk.hear().read == 0


def test_a_hint_finds_what_is_new_and_what_is_gone(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.told()
    desk.source.things.clear()
    desk.source.put(read("2", NOW, title="new"))
    desk.hint("1", "2")
    desk.hear()
    assert sorted(titles(desk.told())) == ["new", "no 1"]


def test_a_hint_of_a_container_that_nobody_maps_costs_nothing(desk: Desk) -> None:
    desk.hint("1", container="ELSE")
    desk.hear()
    assert desk.fetched() == []
    assert desk.ledger.hints("sim", 9) == {}


@pytest.mark.parametrize(("container", "known"), [("", False), ("ELSE", True)], ids=["unnamed", "left"])
def test_a_hint_that_may_be_ours_is_fetched(desk: Desk, container: str, *, known: bool) -> None:
    """One that names no container, and one of a thing that has left ours."""
    desk.source.put(read("1"))
    if known:
        desk.sync()
        desk.told(), desk.fetched()
        desk.source.put(read("1", NOW, container="ELSE"))
    desk.hint("1", container=container)
    desk.hear()
    assert desk.fetched() == ["1"]
    assert titles(desk.told()) == (["no 1"] if known else ["one"])


def test_a_hint_that_comes_while_its_thing_is_fetched_is_fetched_again(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.hint("1")

    def step(name: str) -> None:
        if name == "fetched":
            desk.hint("1")

    desk.hear(step=step)
    assert list(desk.ledger.hints("sim", 9)) == [ref("1")]


@pytest.mark.parametrize("at", ["fetched", "noted", "published", "settled", "heeded"])
def test_a_kill_loses_no_hint(desk: Desk, at: str) -> None:
    desk.source.put(read("1", NOW, title="two"))
    desk.hint("1")
    with pytest.raises(Broken):
        desk.hear(step=_break_at(at))
    assert (ref("1") in desk.ledger.hints("sim", 9)) is (at != "heeded")
    desk.hear()
    assert "two" in titles(desk.told())
    assert desk.ledger.hints("sim", 9) == {}
    assert desk.ledger.pending("sim") == {}


def test_hints_wait_for_a_source_that_is_busy(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.hint("1")

    def busy(refs: Sequence[Ref]) -> Iterator[Read]:
        raise Retryable("busy", 7)

    desk.source.fetch = busy  # type: ignore[method-assign]
    with pytest.raises(Retryable):
        desk.hear()
    assert list(desk.ledger.hints("sim", 9)) == [ref("1")]


def test_what_happens_now_does_not_wait_for_what_was(desk: Desk) -> None:
    """Neither for the pages of a first reading, nor for those of a sweep."""
    first, second, third = ([read(str(n), LONG_AGO + n * HOUR, title=f"page {n}")] for n in (1, 2, 3))

    class Pages(list[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield first
            desk.source.put(read("9", NOW, title="now"))
            desk.hint("9")
            yield second
            yield third

    desk.source.put(*first, *second, *third)
    desk.source.pages = Pages()
    desk.sync()
    assert titles(desk.told()) == ["page 1", "page 2", "now", "page 3"]
    desk.source.put(read("9", NOW + HOUR, title="later"))

    def sweep(container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(each.ref, each.time) for each in first]
        desk.hint("9")
        yield [Mark(each.ref, each.time) for each in (*second, *third)]
        assert titles(desk.told()) == ["later"]
        yield [Mark(ref("9"), NOW + HOUR)]

    desk.source.sweep, desk.source.pages = sweep, []  # type: ignore[method-assign]
    desk.sync()
    assert desk.told() == []


def test_a_hint_of_something_unreadable_is_of_no_container_s_turn(desk: Desk) -> None:
    """Its own container's turn finds it; in another one's it would be entered there."""
    routes = {"APO": {"apollo": 1}, "BEA": {"beacon": 1}}
    desk.source.put(read("1", container="BEA"))
    desk.source.pages = [[]]
    desk.sync(routes)

    def step(name: str) -> None:
        if name == "before the cursor":
            desk.source.things["7"] = dead("7")
            desk.hint("7")

    desk.sync(routes, step=step)
    entries = desk.ledger.entries("sim", [ref("7")])
    assert not entries or entries[ref("7")].container in routes


@pytest.mark.parametrize("missing", [BULK_COUNT, BULK_COUNT + 1])
def test_many_that_are_suddenly_gone_are_left_to_a_sweep_that_counts(desk: Desk, missing: int) -> None:
    desk.source.put(*(read(str(n)) for n in range(100)))
    desk.sync()
    desk.told()
    for n in range(missing):
        del desk.source.things[str(n)]
    desk.source.put(read("99", NOW, title="two"))
    desk.hint(*(str(n) for n in range(missing)), "99", *(str(n) for n in range(200, 250)))
    desk.hear()
    told = titles(desk.told())
    assert "two" in told
    assert len(told) == (missing + 1 if missing <= BULK_COUNT else 1)


def test_a_withheld_thing_hides_no_other_hint(desk: Desk) -> None:
    desk.source.put(read("1"), read("2"))
    desk.source.withheld = {"1"}
    desk.hint("1", "2")
    desk.hear()
    assert [event.thing.id for event in desk.told()] == ["2"]
    assert desk.ledger.hints("sim", 9) == {}


def test_many_hints_are_fetched_in_pages(desk: Desk) -> None:
    desk.source.put(*(read(str(n)) for n in range(PAGE + 1)))
    desk.hint(*(str(n) for n in range(PAGE + 1)))
    desk.hear()
    assert [len(call[1]) for call in desk.source.asked if call[0] == "fetch"] == [PAGE, 1]
    assert len(desk.told()) == PAGE + 1


def test_a_container_is_read_again_from_its_beginning(desk: Desk) -> None:
    """As after a change of how things are translated: their times are the same, so that no poll and no sweep would do."""
    routes = {"APO": {"apollo": 1}, "BEA": {"apollo": 1}}
    newer = read("3", LONG_AGO + HOUR, container="BEA")  # so that the overlap of a poll does not reach back to "2"
    desk.source.put(read("1"), read("2", container="BEA"), newer)
    desk.sync(routes)
    desk.told()
    desk.source.asked = []
    desk.source.put(read("1", title="otherwise"), read("2", container="BEA", title="otherwise"))
    desk.ledger.hint("sim", [Hint(Ref(WHOLE, "APO")), Hint(Ref(WHOLE, "ELSE"))])
    desk.sync(routes, every=HOUR)
    assert [event.thing.id for event in desk.told()] == ["1"]
    since = {call[1]: call[2] for call in desk.source.asked if call[0] == "changed"}
    assert since["APO"] is None
    assert since["BEA"] is not None
    assert ("sweep", "APO") in desk.source.asked
    assert ("sweep", "BEA") not in desk.source.asked
    assert desk.ledger.again("sim") == {}


@pytest.mark.parametrize("at", ["before the cursor", "after the cursor"])
def test_a_kill_does_not_forget_that_a_container_is_to_be_read_again(desk: Desk, at: str) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.told()
    desk.source.put(read("1", title="otherwise"))
    desk.ledger.hint("sim", [Hint(Ref(WHOLE, "APO"))])
    with pytest.raises(Broken):
        desk.hear(step=_break_at(at))
    desk.sync(every=HOUR)
    assert titles(desk.told()) == ["otherwise"]


# --- a cap on how fast it reads ---------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Time that passes only where somebody waits or `works`; `meanwhile` happens within each wait."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        self.meanwhile()

    def values(self, rate: int | None = 60) -> dict[str, Any]:
        return {"things_per_minute": rate, "wait": self.wait, "monotonic": lambda: self.now}


@dataclass
class Paged(Source):
    """It lists pages of `size` things, each of which takes so many seconds to read; `begun` notes when that began, and
    `listed` what was in them."""

    size: int = 10
    seconds: Sequence[float] = (0,) * 9
    watch: Watch = field(default_factory=Watch)
    begun: list[float] = field(default_factory=list)
    listed: list[list[str]] = field(default_factory=list)

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        here = self._here(container, since)
        for number, start in enumerate(range(0, len(here), self.size)):
            page = here[start : start + self.size]
            self.begun.append(self.watch.now)
            self.listed.append([each.ref.id for each in page])
            self.watch.now += self.seconds[number]
            yield page


def paged(desk: Desk, things: int, **values: Any) -> Paged:
    """A source of so many things, an hour apart."""
    desk.source = source = Paged(**values)
    source.put(*(read(str(n), LONG_AGO + n * HOUR) for n in range(1, things + 1)))
    return source


@pytest.mark.parametrize(
    ("seconds", "begun", "ends", "waited"),
    [
        ((0, 0, 0), [0, 10, 20], 30, 30),
        ((2, 2, 2), [0, 10, 20], 30, 24),
        ((2, 15, 2), [0, 10, 25], 35, 16),
    ],
    ids=["quick", "its own time counts", "slow pages leave nothing over for others"],
)
def test_a_first_reading_stays_below_its_rate(
    desk: Desk, seconds: Sequence[float], begun: list[float], ends: float, waited: float
) -> None:
    source = paged(desk, 30, seconds=seconds)
    desk.sync(**source.watch.values())
    assert (source.begun, source.watch.now, sum(source.watch.waits)) == (begun, ends, waited)
    assert max(source.watch.waits) <= REST_PIECE


def test_a_source_without_a_rate_is_not_waited_for(desk: Desk) -> None:
    source = paged(desk, 30)
    desk.sync(**source.watch.values(None))
    assert (source.begun, source.watch.waits) == ([0, 0, 0], [])


def test_what_is_read_again_is_rested_for_and_a_poll_is_not(desk: Desk) -> None:
    """A poll's first page is of what happens now; where it has more, so much happened that it is rested for."""
    source = paged(desk, 30)
    desk.sync(**source.watch.values(None))
    for wait, again in ((0, False), (30, True)):
        if again:
            desk.ledger.hint("sim", [Hint(Ref(WHOLE, "APO"))])
        source.watch.waits.clear()
        desk.sync(every=HOUR, **source.watch.values())
        assert sum(source.watch.waits) == wait
    source.watch.waits.clear()
    source.put(*(read(str(n), LONG_AGO + n * HOUR) for n in range(31, 55)))
    desk.sync(every=HOUR, **source.watch.values())
    assert [len(page) for page in source.listed[-3:]] == [10, 10, 5]
    assert sum(source.watch.waits) == 15


def test_one_rest_lasts_an_hour_at_most(desk: Desk) -> None:
    source = paged(desk, 70, size=70)
    desk.sync(**source.watch.values(1))
    assert sum(source.watch.waits) == LONGEST_WAIT


@pytest.mark.parametrize("why", ["missed by the listing", "gone", "mapped anew"])
def test_what_is_fetched_by_id_stays_below_its_rate(desk: Desk, why: str) -> None:
    watch, many, routes, begun = Watch(), [read(str(n)) for n in range(2 * PAGE + 1)], dict(ROUTES), list[float]()
    desk.source.put(*many)
    if why == "missed by the listing":
        desk.source.pages = []
    else:
        desk.sync()
    if why == "gone":
        desk.source.things.clear()
    if why == "mapped anew":
        routes, desk.source.pages = {"APO": {"apollo": 2}}, []
    fetch = desk.source.fetch
    desk.source.fetch = lambda refs: begun.append(watch.now) or fetch(refs)  # type: ignore[func-returns-value, method-assign]
    desk.sync(routes, accept_missing=frozenset({"APO"}), **watch.values(60 * PAGE))
    assert (begun, watch.now) == ([0, 1, 2], 2 + 1 / PAGE)


def test_a_hint_does_not_wait_for_the_end_of_a_rest(desk: Desk) -> None:
    source, heard = paged(desk, 20), dict[str, float]()
    publish = desk.bus.publish

    def published(events: Sequence[Event]) -> None:
        heard.update({event.thing.id: source.watch.now for event in events})
        publish(events)

    def meanwhile() -> None:
        if source.watch.now == 3:
            source.put(read("99", NOW))
            desk.hint("99")

    desk.bus.publish, source.watch.meanwhile = published, meanwhile  # type: ignore[method-assign]
    desk.sync(**source.watch.values())
    assert (heard["10"], heard["99"], heard["11"]) == (0, 3, 10)
    assert source.begun[:2] == [0, 10]


def test_who_ends_while_it_rests_reads_no_page_again(desk: Desk) -> None:
    source = paged(desk, 6, size=2)
    with pytest.raises(Broken):
        desk.sync(step=_break_at("resting", 3), **source.watch.values())
    assert source.listed == [["1", "2"], ["3", "4"]]
    source.listed.clear()
    desk.sync(**source.watch.values())
    assert source.listed == [["4", "5"], ["6"]], "from the last one on, by the overlap"


def test_what_is_doubted_counts_and_is_rested_for_once_the_cursor_has_moved(desk: Desk) -> None:
    source, cursors = paged(desk, 2), list[datetime | None]()
    desk.sync()
    desk.ledger.hint("sim", [Hint(Ref(WHOLE, "APO"))])
    source.put(read("2", LONG_AGO + 2 * HOUR, title="otherwise"))
    source.watch.meanwhile = lambda: cursors.append(desk.cursor().since)
    desk.sync(every=HOUR, **source.watch.values())
    assert cursors == [LONG_AGO + 2 * HOUR - OVERLAP] * 3, "two were listed, and one of them asked for by id"


def test_what_comes_back_while_it_rests_is_not_buried(desk: Desk) -> None:
    watch, routes = Watch(), dict(ROUTES)
    desk.source.put(*(read(f"{n:04}") for n in range(PAGE + 1)))
    desk.sync(routes)
    desk.source.things.clear()
    desk.told()

    def meanwhile() -> None:
        if watch.now == REST_PIECE:
            desk.source.put(read("0000", NOW, title="back"))
            desk.hint("0000")

    watch.meanwhile = meanwhile
    desk.sync(routes, accept_missing=frozenset({"APO"}), **watch.values())
    assert desk.fates()["0000"] is Fate.live
    assert [type(event) for event in desk.told() if event.thing.id == "0000"] == [Snapshot]
    assert set(desk.fates().values()) == {Fate.live, Fate.gone}


def test_a_lease_is_kept_while_its_reader_rests(desk: Desk) -> None:
    source, gaps = paged(desk, 200, size=100), list[float]()

    class Written(MemoryLedger):
        at = 0.0

        def _check(self, source_name: str, epoch: int) -> None:
            super()._check(source_name, epoch)
            gaps.append(source.watch.now - self.at)
            self.at = source.watch.now

    desk.ledger = Written()
    desk.sync(**source.watch.values())
    assert source.watch.now == 200
    assert max(gaps) <= REST_PIECE


def test_who_lost_its_lease_rests_no_longer(desk: Desk) -> None:
    source = paged(desk, 20)

    def meanwhile() -> None:
        if source.watch.now == 3:
            desk.ledger.expired = True
            desk.ledger.lease("sim", "other")

    source.watch.meanwhile = meanwhile
    with pytest.raises(LeaseLost):
        desk.sync(**source.watch.values())
    assert source.watch.now == 3


# --- what comes another way than by asking ----------------------------------------------------------------------------


def take(desk: Desk, *reads: Read, whole: Sequence[str] = (), routes: Any = ROUTES) -> Counts:
    pump = Pump(Silent("sim", lambda: NOW), desk.ledger, desk.bus, lambda: desk.now, "me", desk.steps.append)
    return pump.take(reads, routes, whole)


def test_what_is_taken_is_told_once_and_nobody_is_asked(desk: Desk) -> None:
    assert take(desk, read("1"), read("2", title="two")).published == 2
    assert take(desk, read("1"), read("2", title="two")).published == 0
    assert titles(desk.told()) == ["one", "two"]
    assert desk.source.asked == []


@pytest.mark.parametrize("whole", [(), ("APO",)])
@pytest.mark.parametrize(("hours", "is_told"), [(-1, False), (1, True)])
def test_only_what_is_newer_is_taken(desk: Desk, hours: int, is_told: bool, whole: Sequence[str]) -> None:
    desk.source.put(read("1"))
    desk.sync()
    desk.told()
    take(desk, read("1", LONG_AGO + hours * HOUR, title="otherwise"), whole=whole)
    assert [event.thing.id for event in desk.told()] == ["1"] * is_told


@pytest.mark.parametrize(("whole", "is_told"), [((), False), (("APO",), True)])
def test_what_has_no_time_is_only_taken_where_nobody_asks(desk: Desk, whole: Sequence[str], is_told: bool) -> None:
    take(desk, read("1", None), whole=whole)
    desk.told()
    take(desk, read("1", None, title="otherwise"), whole=whole)
    assert [event.thing.id for event in desk.told()] == ["1"] * is_told


def test_what_a_live_source_has_no_more_does_not_come_back(desk: Desk) -> None:
    desk.source.put(read("1"))
    desk.sync()
    del desk.source.things["1"]
    desk.sync()
    desk.told()
    take(desk, read("1"))
    assert desk.told() == []


def test_taking_concludes_nothing_of_what_is_absent(desk: Desk) -> None:
    take(desk, read("1"), read("2"), whole=("APO",))
    desk.told()
    take(desk, read("1"), whole=("APO",))
    assert desk.told() == []
    assert set(desk.ledger.in_container("sim", "APO")) == {ref("1"), ref("2"), Ref("synced", "APO")}


def test_a_container_that_nobody_asks_about_is_called_read(desk: Desk) -> None:
    take(desk, read("1"), read("2"), whole=("APO",))
    synced = [
        event.content for event in desk.bus.events if isinstance(event, Snapshot) and event.thing.kind == "synced"
    ]
    desk.told()
    assert [(each.container, each.listed, each.published, each.mapped) for each in synced] == [
        ("APO", 2, 2, ROUTES["APO"])
    ]
    take(desk, read("3"))
    assert [event.thing.kind for event in desk.bus.events] == ["milestone"]


def test_what_a_kill_left_under_way_is_told_when_it_is_taken_again(desk: Desk) -> None:
    pump = Pump(Silent("sim", lambda: NOW), desk.ledger, desk.bus, lambda: desk.now, "me", _break_at("published"))
    with pytest.raises(Broken):
        pump.take([read("1"), read("2")], ROUTES)
    assert desk.ledger.pending("sim").keys() == {ref("1"), ref("2")}
    desk.told()
    take(desk, read("1"), read("2"), whole=("APO",))
    assert desk.ledger.pending("sim") == {}
    assert {event.thing.id for event in desk.told()} == {"1", "2"}


def test_after_what_was_taken_a_reader_begins_at_the_beginning(desk: Desk) -> None:
    take(desk, read("1"), read("2"))
    desk.source.put(read("1"), read("3"))
    desk.told()
    desk.sync()
    told = {event.thing.id: isinstance(event, Tombstone) for event in desk.told()}
    assert told == {"2": True, "3": False}
