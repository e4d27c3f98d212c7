"""`pmsync move`: carries an installation to another log and another store, while nothing of it runs.

The log goes first, as it is: what the target has of it must be the beginning of what it is to have, byte for byte, so
that a move that was killed goes on where it stopped. Then go the tables, in one transaction; at last the new log is
folded. From the first step on neither installation can be started until the move has ended, and the old one never again
by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pmsync.aggregator import check_log
from pmsync.bus.letters import Burials
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Bus, Delivered, Record, by_partition, partition_of
from pmsync.buses import layout, open_bus, place
from pmsync.config import Config
from pmsync.folding import replay
from pmsync.store.engine import Store
from pmsync.store.moves import AWAY, Arrival, MoveStore, Note, Role
from pmsync.store.state import StateStore

TOPICS = (EVENTS, DEAD_LETTERS)
PAGE = 200
"""Records that are carried at a time: an event may have 4 MiB."""
Progress = Callable[[str, int, int], None]
"""(what, how much of it is done, of how much)"""


class MoveRefused(Exception):
    """The move cannot be, or go on; the message has a line for each reason."""


class Installation(NamedTuple):
    """One end of the move."""

    config: Config
    bus: Bus
    store: Store

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return place(self.config.bus)


@contextmanager
def opened(config: Config) -> Iterator[Installation]:
    """An installation with its log and its store, as far as they are there; nothing is created but embedded files."""
    with closing(Store(config.store.url, config.store.secret())) as store, closing(open_bus(config.bus)) as bus:
        yield Installation(config, bus, store)


@dataclass
class Carried:
    """How many records of each topic there are to carry, and how many of them the target has already."""

    records: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOPICS, 0))
    there: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOPICS, 0))


class Move:
    """A move from one installation to another one. `step` is called between any two steps (tests end it there)."""

    def __init__(
        self,
        old: Installation,
        new: Installation,
        owner: str,
        clock: Callable[[], datetime],
        step: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda *_: None,
    ) -> None:
        self._old, self._new, self._owner = old, new, owner
        self._from, self._into = MoveStore(old.store, clock), MoveStore(new.store, clock)
        self._step, self._progress = step, progress

    # --- looking ------------------------------------------------------------------------------------------------------

    def refusals(self) -> Iterator[str]:
        """Everything that stands in the way; nothing is written."""
        yield from _differences(self._old.config, self._new.config)
        if self._old.config.store.url == self._new.config.store.url:
            yield "both configurations name the same store: a move needs an empty one (store.url)"
            return
        wrong = [each for topics in layout(self._new.config.bus) for each in topics.differences()]
        yield from (f"the topic {each.topic} {each.words}; run `pmsync topics apply` there first" for each in wrong)
        if any(each.new or not each.is_mendable for each in wrong):
            return
        if self._carried_here():
            return
        if StateStore(self._old.store).log_identity() is None:
            yield "nothing was ever read here: does this configuration name the right log (bus) and store (store.url)?"
        yield from (f"{who}: stop it, or wait until its time has run out" for who in self._from.running())
        yield from _shortened(self._old, "log to be carried")
        yield from _shortened(self._new, "log of the target")
        yield from self._occupied()

    def _carried_here(self) -> bool:
        """Whether the tables have been carried to this very target already."""
        note, known = self._from.note(), self._target_note()
        if note is None or known is None or note.role not in AWAY or known.role is not Role.new:
            return False
        return (note.log, known.log) == (self._new.bus.identity(), self._old.bus.identity())

    def _target_note(self) -> Note | None:
        return None if self._new.store.schema_problem() else self._into.note()

    def _occupied(self) -> Iterator[str]:
        """What the target has that is not this move's own unfinished work."""
        note = self._from.note()
        if note and note.role in AWAY and note.log != self._new.bus.identity():
            yield f"this installation was moved to {note.place} already; to come back from there: `pmsync move --undo`"
        if problem := self._new.store.schema_problem():
            if not self._new.store.is_bare():
                yield f"the store of the target: {problem}"
            return
        known = self._into.note()
        if known and known.log != self._old.bus.identity():
            yield f"the store of the target belongs to a move from {known.place}; take an empty one"
        elif not self._into.is_empty():
            yield "the store of the target is not empty; take an empty one (store.url)"

    def look(self) -> list[str]:
        """What would be carried, a line for each kind; raises `MoveRefused` if anything stands in the way."""
        self._check()
        if self._carried_here():
            return [f"already carried to {self._new.place}"]
        carried = self._compare_all()
        lines = [
            f"{topic}: {carried.records[topic]} records, of which {carried.there[topic]} are there already"
            for topic in TOPICS
        ]
        return [*lines, *(f"{table}: {count} rows" for table, count in self._from.counts().items())]

    def _check(self) -> None:
        if reasons := list(self.refusals()):
            raise MoveRefused("\n".join(reasons))
        check_log(self._old.bus, StateStore(self._old.store))

    def _compare_all(self) -> Carried:
        carried = Carried()
        for topic in TOPICS:
            self._carry_topic(topic, carried, write=False)
        return carried

    # --- carrying -----------------------------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Carry everything; returns what was done, in lines."""
        self._check()
        self._new.store.migrate()
        if problem := self._new.store.schema_problem():
            raise MoveRefused(f"the store of the target: {problem}")
        carried_before = self._carried_here()
        if not carried_before:
            self._carry_all()
        self._from.left()
        self._step("old")
        done = f"{'already ' if carried_before else ''}carried to {self._new.place}"
        if carried_before and (at_work := list(self._into.running())):
            return [done, f"in use there, nothing is left to do: {at_work[0]}"]
        return [done, f"{self._fold()} records folded there; start it with the new configuration, and this one no more"]

    def _carry_all(self) -> None:
        new, old = self._new.bus, self._old.bus
        if any(new.end_offset(topic, n) for topic in TOPICS for n in range(new.partitions)):
            self._compare_all()  # before anything is added to a log that is not ours
        here, there = old.identity(), new.identity()
        self._into.fill(here, self._old.place)
        self._step("filling")
        self._from.leave(there, self._new.place)
        self._step("left")
        ends = _ends(old)
        carried = Carried()
        for topic in TOPICS:
            self._carry_topic(topic, carried, write=True)
        if _ends(old) != ends:
            raise MoveRefused(
                "the log has grown while it was carried: stop what still writes to it, and run this again"
            )
        self._step("log-carried")
        arrival = Arrival(there, new.partitions, lambda key: partition_of(key, new.partitions), here, self._old.place)
        total = sum(self._from.counts().values())
        for rows in self._from.carry(self._into, arrival):
            self._progress("tables", rows, total)
            self._step("carrying")
        self._step("carried")

    def _carry_topic(self, topic: str, carried: Carried, *, write: bool) -> None:
        """Compare what the target has of a topic, and append what it has not."""
        spread = self._new.bus.partitions
        ends = {n: self._new.bus.end_offset(topic, n) for n in range(spread)}
        places = dict.fromkeys(ends, 0)
        total = sum(_length(self._old.bus, topic, n) for n in range(self._old.bus.partitions))
        for page in _pages(self._old.bus, topic):
            missing: list[Record] = []
            for n, records in by_partition(
                (Record(each.key, each.value, each.headers) for each in page), spread
            ).items():
                known = max(0, min(len(records), ends[n] - places[n]))
                self._compare(topic, n, places[n], records[:known])
                missing += records[known:]
                places[n] += len(records)
                carried.there[topic] += known
            carried.records[topic] += len(page)
            if write and missing:
                self._new.bus.publish(topic, missing)
                self._step("copied")
            self._progress(topic, carried.records[topic], total)
        if more := [n for n in ends if ends[n] > places[n]]:
            raise _stranger(topic, more[0], places[more[0]])

    def _compare(self, topic: str, partition: int, offset: int, records: Sequence[Record]) -> None:
        end = offset + len(records)
        while offset < end:
            found = self._new.bus.read(topic, partition, offset, end - offset)
            expected = records[len(records) - (end - offset) :]
            if not found or any((a.key, a.value) != (b.key, b.value) for a, b in zip(found, expected, strict=False)):
                raise _stranger(topic, partition, offset)
            offset = found[-1].offset + 1

    def _fold(self) -> int:
        """Fold the new log, so that all is there to see at once. Nothing is assessed."""
        state, bus = StateStore(self._new.store), self._new.bus
        burials, folded = Burials(bus), 0
        for n in range(bus.partitions):
            epoch = state.take(n, self._owner)
            begin, end = state.offsets()[n], bus.end_offset(EVENTS, n)
            for stands, _ in replay(bus, n, begin, end, lambda n=n, e=epoch: state.owned(n, e), burials.bury):  # type: ignore[misc]
                self._progress(f"fold {n}", stands, end)
                self._step("refolded")
            folded += end - begin
        return folded


def _differences(old: Config, new: Config) -> Iterator[str]:
    """Where the two say another thing of what is read and shown: what was read counts for the sources that it was read
    from, and a change of projects is told as one."""
    said = "keep them as they are for the move, and change them after it"
    for name, a, b in (("sources", _sources(old), _sources(new)), ("projects", _projects(old), _projects(new))):
        if differing := sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key)):
            yield f"the two configurations differ in {name}: {', '.join(differing)}; {said}"


def _sources(config: Config) -> dict[str, object]:
    return {source.name: source.model_dump(exclude={"auth"}) for source in config.sources}


def _projects(config: Config) -> dict[str, object]:
    return {project.key: project for project in config.projects}


def _shortened(end: Installation, what: str) -> Iterator[str]:
    for n in range(end.bus.partitions):
        if begin := end.bus.begin_offset(EVENTS, n):
            yield (
                f"the {what} ({end.place}) begins at {begin} in partition {n}: what stood before was removed. Only a whole "
                "log can be carried, into an empty one"
            )


def _stranger(topic: str, partition: int, offset: int) -> MoveRefused:
    return MoveRefused(
        f"the log of the target has something else at {offset} in partition {partition} of {topic} than this move puts "
        "there; take an empty log (bus.path, or bus.prefix and `pmsync topics apply`)"
    )


def _ends(bus: Bus) -> dict[tuple[str, int], int]:
    return {(topic, n): bus.end_offset(topic, n) for topic in TOPICS for n in range(bus.partitions)}


def _length(bus: Bus, topic: str, partition: int) -> int:
    return bus.end_offset(topic, partition) - bus.begin_offset(topic, partition)


def _pages(bus: Bus, topic: str) -> Iterator[Sequence[Delivered]]:
    """A topic whole, partition by partition: an order that is the same at every try."""
    for n in range(bus.partitions):
        offset, end = bus.begin_offset(topic, n), bus.end_offset(topic, n)
        while offset < end and (page := bus.read(topic, n, offset, min(PAGE, end - offset))):
            yield page
            offset = page[-1].offset + 1
