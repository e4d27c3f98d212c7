"""What must hold (I1 to I8 and I10 of the invariants), each as a check that yields what is wrong, in words.

Repeats on the log are no violation: a kill before an acknowledgement was heard makes them. They are counted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, pairwise
from typing import NamedTuple

from tests.judge.evidence import DEAD_LETTERS, EVENTS, Evidence, Row, digest
from tests.judge.fold import Unreadable, claims, reference

SHOWN = 5
"""So many violations of one kind are told; of more, how many."""


class Verdict(NamedTuple):
    """`violations` by check, in words, and what was counted."""

    violations: Mapping[str, list[str]]
    counts: Mapping[str, int]

    def __str__(self) -> str:
        lines = [f"{name}: {said}" for name, found in self.violations.items() for said in found[:SHOWN]]
        more = {name: len(found) - SHOWN for name, found in self.violations.items() if len(found) > SHOWN}
        return "\n".join([*lines, *(f"{name}: and {n} more" for name, n in more.items()), f"{dict(self.counts)}"])


def lost(seen: Evidence) -> Iterator[str]:
    """I1: what was acknowledged is in the log, at least as often as it was acknowledged."""
    there = _digests(seen)
    for each, times in Counter(seen.acknowledged).items():
        if there[each] < times:
            yield f"acknowledged {times} times, and {there[each]} times in the log: record {each[:12]}"


def gap(seen: Evidence) -> Iterator[str]:
    """Offsets of a partition rise by one from 0."""
    for topic, entries in ((EVENTS, seen.events), (DEAD_LETTERS, seen.letters)):
        places = sorted((entry.partition, entry.offset) for entry in entries)
        for partition, found in groupby(places, key=lambda place: place[0]):
            offsets = [offset for _, offset in found]
            if offsets != list(range(len(offsets))):
                yield f"{topic} {partition} has offsets {offsets[0]} to {offsets[-1]}, and {len(offsets)} records"


def misplaced(seen: Evidence) -> Iterator[str]:
    """A project's records are in its partition."""
    for entry in (*seen.events, *seen.letters):
        wanted = int.from_bytes(hashlib.sha256(entry.key.encode()).digest()[:8]) % seen.partitions
        if entry.partition != wanted:
            yield f"{entry.key} stands in partition {entry.partition}, not in {wanted}"


def state(seen: Evidence) -> Iterator[str]:
    """I2 and I3: the state is the reference fold of the log up to each partition's offset, row by row."""
    wanted, _ = reference(seen.events, seen.store.offsets)
    for key in sorted(wanted.keys() | seen.store.state.keys()):
        a, b = wanted.get(key), seen.store.state.get(key)
        if a != b:
            yield f"{'/'.join(map(str, key))}: the log says {_row(a)}, the state {_row(b)}"


def skipped(seen: Evidence) -> Iterator[str]:
    """Nobody moves an offset past what they have not read; batches have no holes."""
    had: dict[str, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
    for writer, batches in seen.reads.items():
        for batch in batches:
            if batch.last - batch.first + 1 != batch.count:
                yield f"{writer} got {batch.count} records as {batch.first} to {batch.last} of {batch.partition}"
            had[writer][batch.partition].update(range(batch.first, batch.last + 1))
    for move in seen.store.moves if seen.reads else ():
        unread = set(range(move.offset_before, move.offset)) - had[move.writer][move.partition]
        if unread:
            yield f"{move.writer} moved {move.partition} past {min(unread)}, which it had not read ({len(unread)} such)"


def backwards(seen: Evidence) -> Iterator[str]:
    """I4: an offset never goes back, and each move begins where the one before ended."""
    for partition, moves in _moves(seen).items():
        for move in moves:
            if move.offset < move.offset_before:
                yield f"partition {partition} went back from {move.offset_before} to {move.offset}"
        for before, after in pairwise(moves):
            if after.offset_before != before.offset:
                yield f"partition {partition} ended a move at {before.offset} and began the next at {after.offset_before}"
        if moves and moves[-1].offset != seen.store.offsets[partition]:
            yield f"partition {partition} stands at {seen.store.offsets[partition]}, its last move ended at {moves[-1].offset}"


def stale(seen: Evidence) -> Iterator[str]:
    """I4: epochs rise by one, and only who took the present epoch moves the offset or the tick."""
    for partition, moves in _moves(seen).items():
        taker = ""
        for move in moves:
            if move.epoch == move.epoch_before + 1:
                taker = move.writer
            elif move.epoch != move.epoch_before:
                yield f"the epoch of partition {partition} leapt from {move.epoch_before} to {move.epoch}"
            if move.epoch != move.epoch_before and move.offset != move.offset_before:
                yield f"{move.writer} moved partition {partition} while it took it"
            if move.writer != taker:
                yield f"{move.writer} wrote to partition {partition} at epoch {move.epoch}, which {taker} had taken"


def alert_log(seen: Evidence) -> Iterator[str]:
    """I5: the transitions of an alert are numbered from 1 without a gap, and no two in a row say the same."""
    told: dict[tuple[str, str], list[tuple[int, str, int]]] = defaultdict(list)
    for project, fingerprint, n, _, what, since in seen.store.alert_log:
        told[project, fingerprint].append((n, what, since))
    for (project, fingerprint), lines in told.items():
        lines.sort()
        if [n for n, *_ in lines] != list(range(1, len(lines) + 1)):
            yield f"{project} {fingerprint} has the numbers {[n for n, *_ in lines]}"
        if lines[0][1] == "resolved":
            yield f"{project} {fingerprint} was resolved before it was told"
        for before, after in pairwise(lines):
            if before[1:] == after[1:]:
                yield f"{project} {fingerprint} says {after[1]} twice, as {before[0]} and {after[0]}"


def outbox(seen: Evidence) -> Iterator[str]:
    """I6: each message once; with a notifier that had time each is sent or dead. Who was told of has a message."""
    for ident, times in Counter(row[0] for row in seen.store.outbox).items():
        if times > 1:
            yield f"message {ident} is there {times} times"
    ends = {"sent", "dead"} if seen.delivered else {"ready", "sending", "sent", "dead"}
    for ident, _, _, recipient, what in seen.store.outbox:
        if what not in ends:
            yield f"message {ident} to {recipient} is {what}"
    messages = Counter(project for _, project, *_ in seen.store.outbox)
    for project, ticks in _ticks(seen).items():
        if messages[project] < ticks:
            yield f"{project} was told of in {ticks} ticks, and has {messages[project]} messages"


def dead_letters(seen: Evidence) -> Iterator[str]:
    """I7: what lies below an offset is folded or a dead letter, never both, never neither."""
    _, unreadable = reference(seen.events, seen.store.offsets)
    buried: dict[tuple[int, int], set[str]] = defaultdict(set)
    for entry in seen.letters:
        said = json.loads(entry.value)
        if said.get("stage") == "fold":
            partition, _, offset = said["subject"].partition("/")
            buried[int(partition), int(offset)].add(said["id"])
    passed = {place for place in buried if place[1] < seen.store.offsets.get(place[0], 0)}
    for place in sorted(unreadable - passed):
        yield f"record {place} cannot be read, was passed, and is no dead letter"
    for place in sorted(passed - unreadable):
        yield f"record {place} can be read, and is a dead letter"
    for place, idents in sorted(buried.items()):
        if len(idents) > 1:
            yield f"record {place} is {len(idents)} letters"


def ledger(seen: Evidence) -> Iterator[str]:
    """I8: the ledger and the log agree on the newest version of a thing that each project was told."""
    newest: dict[tuple[str, str, str, str], int] = {}
    for entry in seen.events:
        try:
            (key, row), *_ = claims(entry.value)
        except Unreadable:
            continue
        place = key[:4]
        newest[place] = max(row.version, newest.get(place, 0))
    under_way = set(seen.store.pending)
    for source, kind, ident, _, told, fate in seen.store.ledger:
        for project, version in json.loads(told).items() if fate != "dead" else ():
            there = newest.get((project, source, kind, ident), 0)
            if there < version:
                yield f"the ledger says that {project} was told {source}/{kind}/{ident} of {version}, the log has {there}"
            elif there > version and (source, kind, ident) not in under_way:
                yield f"{project} was told {source}/{kind}/{ident} of {there}, the ledger knows {version} and nothing pending"


def lag(seen: Evidence) -> Iterator[str]:
    """I10: in the end all is folded, assessed, and nothing is under way."""
    if not seen.finished:
        return
    ends = Counter(entry.partition for entry in seen.events)
    for partition, end in sorted(ends.items()):
        if seen.store.offsets.get(partition, 0) != end:
            yield f"partition {partition} stands at {seen.store.offsets.get(partition, 0)} of {end}"
    yield from (f"{project} was not assessed" for project in seen.store.dirty)
    yield from (f"{'/'.join(thing)} is still under way" for thing in seen.store.pending)


CHECKS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    lost, gap, misplaced, state, skipped, backwards, stale, alert_log, outbox, dead_letters, ledger, lag,
)  # fmt: skip


def judge(seen: Evidence) -> Verdict:
    """Everything that is wrong, and what was counted."""
    violations = {check.__name__: found for check in CHECKS if (found := list(check(seen)))}
    _, unreadable = reference(seen.events, seen.store.offsets)
    there, acknowledged = _digests(seen), Counter(seen.acknowledged)
    counts = {
        "records": len(seen.events),
        "rows": len(seen.store.state),
        "unreadable": len(unreadable),
        "acknowledged": len(seen.acknowledged),
        # A producer may say one thing several times; what is there more often than it was acknowledged is a repeat.
        "repeated": sum(max(0, times - max(1, acknowledged[each])) for each, times in there.items()),
        "moves": len(seen.store.moves),
        "epochs": sum(seen.store.epochs.values()),
        "transitions": len(seen.store.alert_log),
        "messages": len(seen.store.outbox),
    }
    return Verdict(violations, counts)


def _digests(seen: Evidence) -> Counter[str]:
    topics = ((EVENTS, seen.events), (DEAD_LETTERS, seen.letters))
    return Counter(digest(topic, entry.key, entry.value) for topic, entries in topics for entry in entries)


def _moves(seen: Evidence) -> dict[int, list]:
    found: dict[int, list] = defaultdict(list)
    for move in seen.store.moves:
        found[move.partition].append(move)
    return found


def _ticks(seen: Evidence) -> Counter[str]:
    return Counter(project for project, _ in {(project, at) for project, _, _, at, *_ in seen.store.alert_log})


def _row(row: Row | None) -> str:
    return "nothing" if row is None else f"{row.version}{' gone' if row.gone else ''} {row.body[:60]}"
