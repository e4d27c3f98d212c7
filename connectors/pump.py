"""The pump: drives one connector and publishes what it reads, so that nothing is lost and nothing old wins.

Under a lease the pump (1) fetches again whatever a killed reader had under way, (2) lists what changed, (3) sweeps each
container for what the listing missed; and at any moment of these, or by itself (`hear`), it fetches what was hinted at. Every publication is noted as pending before it is sent and entered in the
ledger after the bus has acknowledged it; the cursor moves last. A listed read that is not newer than what the ledger
knows is never trusted: the thing is fetched by id (listed finds, by id decides).

Next on the way of an event: `pmsync/core/events.py`, the vocabulary of what is published.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from connectors.base import (
    LONGEST_WAIT,
    Clock,
    Complaining,
    ConnectorError,
    Counting,
    Mark,
    Naming,
    Partial,
    Read,
    Reader,
    Ref,
    Withheld,
)
from connectors.webhooks import Hint
from pmsync.core.events import Content, Event, Snapshot, Synced, Thing, Tombstone, body, digest, version_at

OVERLAP = timedelta(minutes=5)
"""How far a poll reaches back before its cursor: twice the coarsest clock of a source (Jira's minute) and to spare."""
SETTLED = timedelta(seconds=60)
"""Changes younger than this may still be on their way into a source's index; the cursor stays behind them."""
BULK_SHARE, BULK_COUNT = 0.05, 20
"""A sweep that misses more than this share of a container, and more than this many things, is not believed."""
DEAD = ""
"""Stands for the dead letters among the projects to be told."""
PAGE = 200
"""Things fetched and published together; bounds memory and what a kill has to do again."""


WHOLE = "container"
"""The kind of a hint at a whole container: to read it from its beginning."""
HINT_PAGES = 50
"""Pages of hints that are taken one after the other before what is under way goes on."""
REST_PIECE = 1.0
"""Seconds that it rests at a time: no hint waits longer, and a lease lasts thirty of these."""


class Fate(StrEnum):
    """What became of a thing: published and there, gone, or dead (there, but unreadable)."""

    live = "live"
    gone = "gone"
    dead = "dead"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the ledger knows of a thing. `told[project]` is the version that the project was last told; `containers`
    are all that the thing is or was in, `container` the present one; `time` is the source's own."""

    digest: str
    version: int
    time: datetime | None
    container: str
    containers: frozenset[str]
    told: Mapping[str, int]
    fate: Fate = Fate.live


@dataclass(frozen=True, slots=True)
class Pending:
    """A publication under way: the version it carries and the projects that may have got it."""

    version: int
    projects: frozenset[str]


class Noted(NamedTuple):
    """A hint as it is kept: the container that its source named (or ""), and when it was heard last, in µs."""

    container: str
    at: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """A reader's place in a container. `mapped` (project -> version of the configuration that began the mapping) tells
    for whom it has been reading."""

    since: datetime | None
    mapped: Mapping[str, int]
    swept_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be translated, and why. `id` is the same whenever the same bytes are met again."""

    id: str
    thing: Thing
    reason: str
    raw: bytes


class LeaseLost(Exception):
    """Another reader has taken this source over; this one must stop at once."""


class Ledger(Protocol):
    """Where a reader remembers. Writes are fenced: with a stale epoch they raise `LeaseLost` and change nothing."""

    def lease(self, source: str, owner: str) -> int:
        """Take or renew the lease; returns its epoch. Raises `LeaseLost` while another live reader holds it."""

    def release(self, source: str, epoch: int) -> None:
        """Give the lease up, if this epoch still holds it."""

    def pending(self, source: str) -> Mapping[Ref, Pending]: ...
    def entries(self, source: str, refs: Iterable[Ref]) -> Mapping[Ref, Entry]: ...
    def in_container(self, source: str, container: str) -> Mapping[Ref, Entry]:
        """The entries, live or dead, whose present container this is."""

    def ever_in(self, source: str, container: str) -> Sequence[Ref]:
        """All things that are or were in this container."""

    def cursors(self, source: str) -> Mapping[str, Cursor]: ...
    def note(self, source: str, epoch: int, pending: Mapping[Ref, Pending]) -> None: ...
    def ask(self, source: str, refs: Iterable[Ref]) -> None:
        """Have these things fetched by id in the reader's next round; no lease is needed for that."""

    def hint(self, source: str, heard: Iterable[Hint]) -> None:
        """Keep these until the reader has fetched them, each thing once; no lease is needed for that."""

    def hints(self, source: str, limit: int) -> Mapping[Ref, Noted]:
        """So many of the hints at things, those that have waited longest."""

    def again(self, source: str) -> Mapping[Ref, Noted]:
        """The hints at whole containers (of the kind `WHOLE`)."""

    def heed(self, source: str, epoch: int, noted: Mapping[Ref, Noted]) -> None:
        """Strike these hints, but for those that were heard again since."""

    def settle(self, source: str, epoch: int, entries: Mapping[Ref, Entry]) -> None:
        """Enter what was acknowledged and strike its pending notes. Entries only move to higher versions."""

    def move_cursor(self, source: str, epoch: int, container: str, cursor: Cursor | None) -> None:
        """Save a cursor; None forgets it."""


class Bus(Protocol):
    """Where a reader publishes; each call returns once everything is acknowledged."""

    def publish(self, events: Sequence[Event]) -> None: ...
    def bury(self, letters: Sequence[DeadLetter]) -> None: ...
    def mend(self, source: str, letters: Sequence[str]) -> None:
        """The letters of these ids are of the past: what they are about can be read again, or is gone."""


Routes = Mapping[str, Mapping[str, int]]
"""container -> project -> the version of the configuration that began to map it."""


@dataclass(slots=True)
class Counts:
    """What one round did."""

    read: int = 0
    published: int = 0
    dead: int = 0
    gone: int = 0


Progress = Callable[[str, str, int, int | None], None]
"""Told (source, container, things read so far, about how many there are) as a round goes on."""


@dataclass(slots=True)
class Pump:
    """Drives one connector. `step` is called with a name between any two steps; tests end a reader there. `reading` is
    entered with the name of each container while that one is read. `wait` may end early, where the next step ends the
    reader; how long it rested, `monotonic` says, since `clock` may be set back."""

    connector: Reader
    ledger: Ledger
    bus: Bus
    clock: Clock
    owner: str
    step: Callable[[str], None] = lambda _: None
    progress: Progress | None = None
    accept_missing: frozenset[str] = frozenset()
    reading: Callable[[str], AbstractContextManager[object]] = lambda _: nullcontext()
    things_per_minute: int | None = None
    wait: Callable[[float], object] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    counts: Counts = field(default_factory=Counts)
    _epoch: int = 0
    _routes: Routes = field(default_factory=dict)
    _here: str = ""
    _withheld: list[str] = field(default_factory=list)

    @property
    def _source(self) -> str:
        return self.connector.name

    def sync(self, routes: Routes, sweep_every: timedelta = timedelta(0)) -> Counts:
        """One round over all containers of `routes`: what is pending, mappings that ended, changes, sweeps that are due.

        Raises what the connector, the bus or the ledger raises; the next round carries on where this one stopped. What is
        withheld does not stop the rest: `Withheld` is raised at the end, and says all of it.
        """
        cursors = self._begin(routes)
        for container in sorted(cursors.keys() - routes.keys()):
            self._forget(container)
        for container in sorted(routes):
            self._here = container
            try:
                with self.reading(container):
                    self._read_container(container, cursors.get(container), sweep_every)
            except Withheld as problem:
                self._withheld.append(str(problem))
        if isinstance(self.connector, Complaining):
            self._withheld += self.connector.complaints()
        if self._withheld:
            raise Withheld("; ".join(dict.fromkeys(self._withheld)))
        return self.counts

    def hear(self, routes: Routes) -> Counts:
        """Fetch what was hinted at since the last round, and what was under way before: a round without its listings.

        Raises what the connector, the bus or the ledger raises; the hints then wait for the next round.
        """
        self._begin(routes)
        return self.counts

    def take(self, reads: Sequence[Read], routes: Routes, whole: Collection[str] = ()) -> Counts:
        """Publish what came another way than by asking. Nothing is concluded of what is not among it, and the source is
        not asked: of what the ledger knows, only what is newer counts.

        `whole` are containers that nobody asks about, so that there will be no more of them than this: they are called
        read, and what has no time of change is taken as it came last.
        """
        self._lead(routes)
        waiting = self.ledger.pending(self._source)
        for start in range(0, len(reads), PAGE):
            page = reads[start : start + PAGE]
            known = self.ledger.entries(self._source, [read.ref for read in page])
            news = [read for read in page if _is_later(read, known.get(read.ref), whole)]
            self._publish(news, {read.ref: waiting[read.ref] for read in news if read.ref in waiting})
            if self.progress:
                self.progress(self._source, "files", start + len(page), len(reads))
        counts = replace(self.counts)
        for container in sorted(whole):
            self._say_synced(container, len(self._things_in(container)))
        return counts

    def _begin(self, routes: Routes) -> Mapping[str, Cursor]:
        """Take the lease, and do what waits for no container's turn; returns the cursors that there were."""
        cursors = self._lead(routes)
        self._publish_pending()
        self._take_hints()
        return {**cursors, **self._begin_again(cursors)}

    def _lead(self, routes: Routes) -> Mapping[str, Cursor]:
        """Take the lease, and note which containers are mapped; returns the cursors that there were."""
        self.counts = Counts()
        self._routes, self._here, self._withheld = routes, "", []
        self._epoch = self.ledger.lease(self._source, self.owner)
        self.step("leased")
        if isinstance(self.connector, Naming):
            self.connector.expect(routes)
        cursors = self.ledger.cursors(self._source)
        # Before anything of a container is published, or a kill and the end of its mapping would leave it unforgotten.
        for container in sorted(routes.keys() - cursors.keys()):
            self._move(container, Cursor(since=None, mapped={}))
        return cursors

    def _begin_again(self, cursors: Mapping[str, Cursor]) -> Mapping[str, Cursor]:
        """Forget how far those containers were read that are to be read again."""
        if not (noted := self.ledger.again(self._source)):
            return {}
        begun = {
            ref.id: Cursor(since=None, mapped=cursors[ref.id].mapped) for ref in sorted(noted) if ref.id in cursors
        }
        for container, cursor in begun.items():
            self._move(container, cursor)
        self.ledger.heed(self._source, self._epoch, noted)
        return begun

    def _read_container(self, container: str, known: Cursor | None, sweep_every: timedelta) -> None:
        cursor = self._changes(container, self._cursor(container, known))
        now = self.clock()
        if self._is_sweep_due(container, cursor.swept_at, now, sweep_every):
            self._sweep(container)
            self._move(container, replace(cursor, swept_at=now))

    def release(self) -> None:
        """Let another reader begin at once."""
        if self._epoch:
            self.ledger.release(self._source, self._epoch)

    # --- mappings -----------------------------------------------------------------------------------------------------

    def _cursor(self, container: str, cursor: Cursor | None) -> Cursor:
        """The cursor to go on from: from the beginning if somebody maps this container who did not before."""
        mapped = self._routes[container]
        if cursor and cursor.mapped == mapped:
            return cursor
        if cursor and mapped.items() <= cursor.mapped.items():
            cursor = replace(cursor, mapped=mapped, swept_at=None)
        else:
            cursor = Cursor(since=None, mapped=mapped)
            # Things that were here once and have moved on concern the new project too, and no listing shows them; what
            # is out of sight is so for everyone.
            self._fetch_many(self._live(self.ledger.ever_in(self._source, container)))
        self._move(container, cursor)
        return cursor

    def _forget(self, container: str) -> None:
        """Nobody maps this container any more: what is in it is out of sight, as a fresh installation would have it."""
        for refs in _pages(list(self.ledger.in_container(self._source, container))):
            self._publish([Read(ref) for ref in refs])
        self._move(container, None)

    def _move(self, container: str, cursor: Cursor | None) -> None:
        self.step("before the cursor")
        self.ledger.move_cursor(self._source, self._epoch, container, cursor)
        self.step("after the cursor")

    # --- reading ------------------------------------------------------------------------------------------------------

    def _changes(self, container: str, cursor: Cursor) -> Cursor:
        """Publish what changed since the cursor, page by page, moving the cursor after each."""
        horizon = self.connector.now() - SETTLED
        read, total = 0, self._count(container, cursor.since)
        began = self.monotonic()
        for number, page in enumerate(self.connector.changed(container, cursor.since)):
            asked = self._settle_listed(page)
            self._take_hints()
            read += len(page)
            if self.progress:
                self.progress(self._source, container, read, total)
            times = [item.time for item in page if item.time is not None]
            since = min(max(times), horizon) - OVERLAP if times else None
            if since and (cursor.since is None or since > cursor.since):
                cursor = replace(cursor, since=since)
                self._move(container, cursor)
            # Only now, so that who ends while it rests reads nothing again. The first page of what was swept before is a
            # poll: of what happens now, and not much.
            if number or cursor.swept_at is None:
                self._rest(len(page) + asked, began)
            began = self.monotonic()
        if cursor.since is None and read == 0:
            cursor = replace(cursor, since=horizon - OVERLAP)
        return cursor

    def _count(self, container: str, since: datetime | None) -> int | None:
        """About how much there is to read; asked only where somebody looks on."""
        if self.progress is None or not isinstance(self.connector, Counting):
            return None
        with suppress(ConnectorError):  # if it means something, the listing says so, too
            return self.connector.count(container, since)
        return None

    def _settle_listed(self, page: Sequence[Read]) -> int:
        """Publish a listed page; what is not newer than the ledger and yet differs is asked for by id. Returns how many
        things that were."""
        known = self.ledger.entries(self._source, [read.ref for read in page])
        doubtful = {read.ref for read in page if _is_doubtful(read, known.get(read.ref))}
        self._publish([read for read in page if read.ref not in doubtful])
        self._fetch(doubtful)
        return len(doubtful)

    def _fetch(self, refs: Iterable[Ref]) -> None:
        for some in _pages(sorted(refs)):
            reads, withheld = self._by_id(some)
            self._withheld += withheld.values()
            self._publish(reads)
            self._take_hints()

    def _fetch_many(self, refs: Iterable[Ref]) -> None:
        """Fetch by id what may be much, with a rest after each page."""
        for some in _pages(sorted(refs)):
            began = self.monotonic()
            self._fetch(some)
            self._rest(len(some), began)

    def _rest(self, things: int, began: float) -> None:
        """Wait until so many things may have been read since `began`. What happens meanwhile does not wait."""
        if self.things_per_minute is None:
            return
        until = began + min(60 * things / self.things_per_minute, LONGEST_WAIT)
        while (left := until - self.monotonic()) > 0:
            self.wait(min(left, REST_PIECE))
            self.step("resting")
            self.ledger.heed(self._source, self._epoch, {})  # every write renews the lease
            self._take_hints()

    def _take_hints(self) -> None:
        """Fetch what was hinted at, a page at a time. Called between the pages of all that takes long, so that what
        happens now does not wait for it."""
        here, self._here = self._here, ""  # a hint is of no container's turn
        for _ in range(HINT_PAGES):
            noted = self.ledger.hints(self._source, PAGE)
            if noted:
                self._publish(self._hinted(noted))
                self.ledger.heed(self._source, self._epoch, noted)
                self.step("heeded")
            if len(noted) < PAGE:
                break
        self._here = here

    def _hinted(self, noted: Mapping[Ref, Noted]) -> list[Read]:
        """These things as they are now. What is withheld is left to its container's own turn, and so is a page in which
        suddenly much is missing: only a sweep, which counts, is believed then."""
        known = self.ledger.entries(self._source, noted)
        ours = [ref for ref, each in noted.items() if ref in known or each.container in {"", *self._routes}]
        reads, _ = self._by_id(ours)
        missing = {read.ref for read in reads if read.content is None and read.problem is None}
        many = sum(ref in known and known[ref].fate is not Fate.gone for ref in missing) > BULK_COUNT
        return [read for read in reads if not (many and read.ref in missing)]

    def _by_id(self, refs: Sequence[Ref]) -> tuple[list[Read], dict[Ref, str]]:
        """These things as they are now, and why others of them are withheld, which must not hide the rest."""
        try:
            return list(self.connector.fetch(refs)), {}
        except Withheld as problem:
            if len(refs) == 1:
                return [], {refs[0]: str(problem)}
        reads, withheld = list[Read](), dict[Ref, str]()
        for ref in refs:
            found, none = self._by_id([ref])
            reads += found
            withheld |= none
        return reads, withheld

    def _sweep(self, container: str) -> None:
        """Compare what is there with the ledger, fetch by id whatever differs, and say that the container is synced."""
        there: dict[Ref, Mark] = {}
        for page in self.connector.sweep(container):
            there |= {mark.ref: mark for mark in page}
            self._take_hints()
        known = self._things_in(container)
        self._fetch_many(mark.ref for mark in there.values() if _differs(mark, known.get(mark.ref)))
        self._bury_missing(container, sorted(known.keys() - there.keys()), Counter(ref.kind for ref in known))
        known = self._things_in(container)
        self._doubt_name(container, len(there), len(there.keys() - known.keys()))
        self._say_synced(container, len(there))

    def _say_synced(self, container: str, listed: int) -> None:
        known = self._things_in(container)
        dead = sum(entry.fate is Fate.dead for entry in known.values())
        synced = Synced(
            container=container,
            mapped=self._routes[container],
            listed=listed,
            published=len(known) - dead,
            dead=dead,
        )
        self._publish([Read(Ref("synced", container), content=synced)])

    def _bury_missing(self, container: str, missing: Sequence[Ref], known: Mapping[str, int]) -> None:
        """What a container does not list any more has moved, or is gone: by id decides. What its source neither lists
        nor gives by id is gone too, however it says so; but not of a kind of which suddenly much is (`known` counts each)."""
        gone = dict[Ref, Entry | None]()
        for some in _pages(missing):
            began, entries = self.monotonic(), self.ledger.entries(self._source, some)
            reads, withheld = self._by_id(some)
            there = [read for read in reads if read.content is not None or read.problem is not None]
            self._publish(there)
            absent = ({read.ref for read in reads} | withheld.keys()) - {read.ref for read in there}
            gone |= {ref: entries.get(ref) for ref in sorted(absent)}
            self._rest(len(some), began)
        count = Counter(ref.kind for ref in gone)
        is_doubted = container not in self.accept_missing and _is_much(len(gone), sum(known.values()))
        doubtful = [kind for kind in count if is_doubted and _is_much(count[kind], known[kind])]
        for some in _pages([ref for ref in gone if ref.kind not in doubtful]):
            entries = self.ledger.entries(self._source, some)
            # What a hint told of while it rested was looked at later.
            self._publish([Read(ref) for ref in some if entries.get(ref) == gone[ref]])
        if doubtful:
            said = ", ".join(f"{count[kind]} of {known[kind]} {kind.replace('_', ' ')}s" for kind in doubtful)
            raise Withheld(
                f"{self._source}: {said} of {container} are missing at the source; none of them was removed. If they were "
                f"really deleted, run once with --accept-missing {container}"
            )

    def _is_sweep_due(self, container: str, swept_at: datetime | None, now: datetime, every: timedelta) -> bool:
        # abs: after a clock was set back, the last sweep may lie in the future.
        return swept_at is None or abs(now - swept_at) >= every or not self._is_synced(container)

    def _is_synced(self, container: str) -> bool:
        ref = Ref("synced", container)
        entry = self.ledger.entries(self._source, [ref]).get(ref)
        return entry is not None and entry.fate is Fate.live

    def _things_in(self, container: str) -> dict[Ref, Entry]:
        """What is known of a container, but for what its source does not let us see."""
        return seen(self.connector, container, self.ledger.in_container(self._source, container))

    def _doubt_name(self, container: str, listed: int, elsewhere: int) -> None:
        """What is listed in a container and says that it is in another one: some have just moved, many are misread."""
        if _is_much(elsewhere, listed):
            raise Withheld(
                f"{self._source}: {elsewhere} of {listed} things listed in {container} say that they are in another "
                "container, so none of them can be shown. Was it renamed? Write its present name into the configuration"
            )

    # --- publishing ---------------------------------------------------------------------------------------------------

    def _publish_pending(self) -> None:
        """Fetch again, and publish whatever its digest, all that was under way when a reader stopped, or is asked for."""
        pending = self.ledger.pending(self._source)
        for refs in _pages(sorted(pending)):
            # What a killed reader called synced is called unsynced again, until its sweep has been repeated.
            synced = [ref for ref in refs if ref.kind == "synced"]
            reads, withheld = self._by_id([ref for ref in refs if ref.kind != "synced"])
            known = self.ledger.entries(self._source, withheld)
            kept = {ref for ref in withheld if ref in known and known[ref].container in self._routes}
            self._withheld += [withheld[ref] for ref in sorted(kept)]
            # What is withheld and was never entered, or is of a container that nobody maps, can only be out of sight.
            gone = [*synced, *sorted(withheld.keys() - kept)]
            self._publish([*reads, *(Read(ref) for ref in gone)], pending)

    def _live(self, refs: Sequence[Ref]) -> Iterator[Ref]:
        for some in _pages(refs):
            known = self.ledger.entries(self._source, some)
            yield from (ref for ref in some if ref in known and known[ref].fate is not Fate.gone)

    def _publish(self, reads: Sequence[Read], pending: Mapping[Ref, Pending] | None = None) -> None:
        """Publish what is new in these reads and enter it in the ledger; with `pending`, whatever its digest."""
        pending = pending or {}
        checked = [_writable(read) for read in reads]
        latest = {read.ref: read for read in sorted(checked, key=lambda read: (read.time is not None, read.time))}
        known = self.ledger.entries(self._source, latest)
        entries: dict[Ref, Entry] = {}
        notes: dict[Ref, Pending] = {}
        events: list[Event] = []
        letters: list[DeadLetter] = []
        mended: list[str] = []
        for ref, read in latest.items():
            self.counts.read += 1
            before = known.get(ref)
            entry, news = self._entry(read, before, pending.get(ref))
            if entry is None:
                continue
            entries[ref] = entry
            if before and before.fate is Fate.dead and before.digest != entry.digest:
                mended.append(_letter_id(Thing(self._source, *ref), before.digest))
            if entry.fate is Fate.dead and news:
                letters.append(self._letter(read, entry.digest))
            elif news:
                notes[ref] = Pending(entry.version, frozenset(news))
                events += self._events(read, entry, news)
        self.step("fetched")
        if mended:
            self.bus.mend(self._source, mended)
        self._send(entries, notes, events, letters, "republished" if pending else "published")

    def _send(
        self,
        entries: Mapping[Ref, Entry],
        notes: Mapping[Ref, Pending],
        events: Sequence[Event],
        letters: Sequence[DeadLetter],
        done: str,
    ) -> None:
        if notes:
            self.ledger.note(self._source, self._epoch, notes)
            self.step("noted")
        if letters:
            self.bus.bury(letters)
        if events:
            self.bus.publish(events)
            self.step(done)
        if entries:
            self.ledger.settle(self._source, self._epoch, entries)
            self.step("settled")
        self.counts.published += len(notes)
        self.counts.dead += len(letters)

    def _entry(self, read: Read, known: Entry | None, pending: Pending | None) -> tuple[Entry | None, set[str]]:
        """The ledger's new entry for a read (None: nothing to remember), and the projects to be told of it."""
        last = max(known.version if known else 0, pending.version if pending else 0)
        version = max(last + 1, version_at(self.clock()))
        told = dict(known.told) if known else {}
        # In which container something unreadable is, only the one that is being read can tell. Where none can, it is out of
        # sight: no sweep would find out that it is gone. Its container's own turn will find that it is there.
        where = (known.container if known else "") or self._here
        if read.problem is not None and where:
            return self._dead_entry(read, known, pending, version, where)
        container = read.content.container if read.content is not None else ""
        if read.content is None or container not in self._routes:
            return self._gone_entry(read, known, pending, version)
        containers = _containers(read.content)
        projects = {project for name in containers for project in self._routes.get(name, ())}
        content_digest = digest(read.content)
        if known and not pending and _is_known(known, content_digest, projects):
            return (replace(known, time=read.time) if known.time != read.time else None), set()
        news = projects | (set(pending.projects) if pending else set())
        return (
            Entry(
                digest=content_digest,
                version=version,
                time=read.time,
                container=container,
                containers=containers,
                told={**told, **dict.fromkeys(news, version)},
            ),
            news,
        )

    def _gone_entry(
        self, read: Read, known: Entry | None, pending: Pending | None, version: int
    ) -> tuple[Entry | None, set[str]]:
        if known is None and pending is None:
            return None, set()
        if known and known.fate is Fate.gone and not pending:
            return None, set()
        self.counts.gone += 1
        told = {**(known.told if known else {}), **dict.fromkeys(pending.projects if pending else (), 0)}
        return (
            Entry(
                digest="",
                version=version,
                time=read.time or (known.time if known else None),
                container="",
                containers=known.containers if known else frozenset(),
                told=dict.fromkeys(told, version),
                fate=Fate.gone,
            ),
            set(told),
        )

    def _dead_entry(
        self, read: Read, known: Entry | None, pending: Pending | None, version: int, container: str
    ) -> tuple[Entry | None, set[str]]:
        """The last readable version stays in place; the ledger remembers that what is there now cannot be read."""
        content_digest = f"dead:{hashlib.sha256(read.raw).hexdigest()[:32]}"
        base = known or Entry("", version, read.time, "", frozenset(), {})
        buried = base.digest == content_digest
        if buried and not pending:
            return None, set()
        maybe = dict.fromkeys(pending.projects, pending.version) if pending else {}
        entry = Entry(
            digest=content_digest,
            version=version,
            time=read.time,
            container=container,
            containers=base.containers,
            told={**base.told, **maybe},
            fate=Fate.dead,
        )
        return entry, set() if buried and not pending else {DEAD}

    def _events(self, read: Read, entry: Entry, projects: Iterable[str]) -> Iterator[Event]:
        thing = Thing(self._source, *read.ref)
        for project in sorted(projects):
            if entry.fate is Fate.gone or read.content is None:
                yield Tombstone(project=project, thing=thing, version=entry.version)
            else:
                yield Snapshot(project=project, thing=thing, version=entry.version, content=read.content)

    def _letter(self, read: Read, content_digest: str) -> DeadLetter:
        thing = Thing(self._source, *read.ref)
        return DeadLetter(_letter_id(thing, content_digest), thing, read.problem or "", read.raw)


def _is_much(count: int, of: int) -> bool:
    return count > BULK_COUNT and count > BULK_SHARE * of


def seen(reader: Reader, container: str, known: Mapping[Ref, Entry]) -> dict[Ref, Entry]:
    """Those of the known things of a container that a sweep names if they are there."""
    left_out = {"synced", *(reader.unseen(container) if isinstance(reader, Partial) else ())}
    return {ref: entry for ref, entry in known.items() if ref.kind not in left_out}


def _letter_id(thing: Thing, content_digest: str) -> str:
    """The same for the same bytes, and known from the ledger alone."""
    return hashlib.sha256("\0".join([*thing, content_digest]).encode()).hexdigest()[:32]


def _is_doubtful(read: Read, known: Entry | None) -> bool:
    """Whether a listed read may be older than what was published."""
    if known is None or read.time is None or known.time is None or read.time > known.time:
        return False
    return read.content is None or known.digest != digest(read.content)


def _is_later(read: Read, known: Entry | None, whole: Collection[str]) -> bool:
    """Whether a read that came by itself is to be believed beside what is known."""
    if known is None or (read.time and known.time and read.time > known.time):
        return True
    is_older = read.time is not None and known.time is not None and read.time < known.time
    return read.content is not None and read.content.container in whole and not is_older


def _is_known(known: Entry, content_digest: str, projects: Iterable[str]) -> bool:
    """Whether every project was told exactly this."""
    same = known.fate is Fate.live and known.digest == content_digest
    return same and all(known.told.get(project) == known.version for project in projects)


def _writable(read: Read) -> Read:
    """The read, as a problem if it holds text that cannot be written down: it must not stop the rest."""
    try:
        if read.content is not None:
            body(read.content).encode()
    except UnicodeEncodeError:
        return Read(read.ref, read.time, problem="it holds half a character (a lone surrogate)", raw=read.raw)
    return read


def _differs(mark: Mark, known: Entry | None) -> bool:
    return known is None or (mark.time is not None and mark.time != known.time)


def _containers(content: Content) -> frozenset[str]:
    """Every container that a thing is or was in, by its source's own history."""
    history = getattr(content, "history", ())
    moves = [value for change in history if change.field == "container" for value in (change.old, change.new)]
    return frozenset({content.container, *(str(value) for value in moves if value)})


def _pages(refs: Sequence[Ref]) -> Iterator[Sequence[Ref]]:
    return (refs[start : start + PAGE] for start in range(0, len(refs), PAGE))
