"""The judge finds nothing wrong with an honest run, and finds each kind of violation that is planted in it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from bench.events import NOW, records
from pmsync.aggregator import Aggregator
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Record
from pmsync.store.engine import Store
from pmsync.store.state import StateStore
from tests.judge.checks import CHECKS, judge
from tests.judge.evidence import (
    WRITER,
    Entry,
    Evidence,
    Move,
    Read,
    Row,
    digest,
    embedded_log,
    look,
    watch,
)

pytestmark = pytest.mark.integration

COUNT = 300
DEAD = Record("project-001", b"no event")


@pytest.fixture
def writer() -> Iterator[list[str]]:
    """Who writes, as SQLite's trigger hears it."""
    name = ["one"]

    def bring(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.create_function(WRITER, 0, lambda: name[0])

    event.listen(Engine, "connect", bring)
    yield name
    event.remove(Engine, "connect", bring)


@pytest.fixture
def seen(url: str, tmp_path: Path, writer: list[str]) -> Evidence:
    """An honest run of two owners, one after the other."""
    watch(url)
    log = tmp_path / "log.db"
    written = [*islice(records(COUNT), COUNT - 50), DEAD]
    reads: dict[str, list[Read]] = {}
    with closing(EmbeddedBus(log)) as bus:
        for name, some in (("one", written), ("two", list(islice(records(COUNT), COUNT - 50, None)))):
            bus.publish(EVENTS, some)
            writer[0] = name
            mine = f"{url}?application_name={name}" if url.startswith("postgresql") else url
            with closing(Store(mine)) as store:
                aggregator = Aggregator(_Noting(bus, reads.setdefault(name, [])), StateStore(store), name)
                aggregator.take(range(8))
                aggregator.catch_up()
                aggregator.tick(NOW)
    everything = [*written, *islice(records(COUNT), COUNT - 50, None)]
    return Evidence(
        embedded_log(log, EVENTS),
        embedded_log(log, DEAD_LETTERS),
        8,
        look(url),
        [digest(EVENTS, each.key, each.value) for each in everything],
        reads,
    )


class _Noting:
    """The bus, with notes of what was read."""

    def __init__(self, bus: EmbeddedBus, notes: list[Read]) -> None:
        self._bus, self._notes = bus, notes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def poll(self, *words: Any) -> Any:
        found = self._bus.poll(*words)
        for some in found.values():
            self._notes.append(Read(some[0].partition, some[0].offset, some[-1].offset, len(some)))
        return found


def test_an_honest_run_is_acquitted(seen: Evidence) -> None:
    verdict = judge(seen)
    assert verdict.violations == {}, str(verdict)
    assert verdict.counts["records"] == COUNT + 1
    assert verdict.counts["unreadable"] == 1
    assert verdict.counts["repeated"] == 0
    assert verdict.counts["transitions"] > 3
    assert verdict.counts["epochs"] == 16
    assert {move.writer for move in seen.store.moves} == {"one", "two"}
    assert any(key.at for key in seen.store.state), "kept versions are among it"


# --- what is planted --------------------------------------------------------------------------------------------------


def _without_last_record(seen: Evidence) -> Evidence:
    last = max(seen.events, key=lambda entry: (entry.offset, entry.partition))
    return replace(seen, events=[entry for entry in seen.events if entry != last])


def _first_of_a_partition_gone(seen: Evidence) -> Evidence:
    return replace(seen, events=seen.events[1:])


def _elsewhere(seen: Evidence) -> Evidence:
    first = seen.events[0]
    other = next(entry.key for entry in seen.events if entry.partition != first.partition)
    return replace(seen, events=[first._replace(key=other), *seen.events[1:]])


def _store(seen: Evidence, **values: Any) -> Evidence:
    return replace(seen, store=replace(seen.store, **values))


def _row_missing(seen: Evidence) -> Evidence:
    return _store(seen, state=dict(list(seen.store.state.items())[1:]))


def _row_too_many(seen: Evidence) -> Evidence:
    key = next(iter(seen.store.state))._replace(id="nobody")
    return _store(seen, state={**seen.store.state, key: Row(1, False, "{}")})


def _older_version(seen: Evidence) -> Evidence:
    key, row = next((key, row) for key, row in seen.store.state.items() if key.kind == "work_item")
    return _store(seen, state={**seen.store.state, key: row._replace(version=row.version - 1)})


def _folded_and_not_said_so(seen: Evidence) -> Evidence:
    """Rows saved, and the offset in another transaction that never came."""
    partition, offset = next((n, offset) for n, offset in seen.store.offsets.items() if offset > 60)
    return _store(seen, offsets={**seen.store.offsets, partition: offset - 60})


def _move(seen: Evidence, pick: Callable[[Move], bool], **values: Any) -> Evidence:
    moves = list(seen.store.moves)
    place = next(n for n, move in enumerate(moves) if pick(move))
    moves[place] = moves[place]._replace(**values)
    return _store(seen, moves=moves)


def _moves_on(move: Move) -> bool:
    return move.offset > move.offset_before


def _past_what_was_read(seen: Evidence) -> Evidence:
    name, batches = next(iter(seen.reads.items()))
    longest = max(batches, key=lambda batch: batch.count)
    shorter = longest._replace(last=longest.last - 1, count=longest.count - 1)
    return replace(seen, reads={**seen.reads, name: [shorter if each == longest else each for each in batches]})


def _batch_with_a_hole(seen: Evidence) -> Evidence:
    name, batches = next(iter(seen.reads.items()))
    return replace(seen, reads={**seen.reads, name: [batches[0]._replace(count=batches[0].count - 1), *batches[1:]]})


def _zombie(seen: Evidence) -> Evidence:
    return _move(seen, lambda move: _moves_on(move) and move.writer == "two", writer="one")


def _zombie_ticks(seen: Evidence) -> Evidence:
    last = seen.store.moves[-1]
    return _store(seen, moves=[*seen.store.moves, last._replace(writer="one")])


def _epoch_leaps(seen: Evidence) -> Evidence:
    return _move(seen, lambda move: move.epoch == 2 and move.epoch_before == 1, epoch=3)


def _number_left_out(seen: Evidence) -> Evidence:
    project, fingerprint, n, *rest = seen.store.alert_log[0]
    return _store(seen, alert_log=[(project, fingerprint, n + 1, *rest), *seen.store.alert_log[1:]])


def _told_twice(seen: Evidence) -> Evidence:
    project, fingerprint, n, *rest = seen.store.alert_log[0]
    return _store(seen, alert_log=[*seen.store.alert_log, (project, fingerprint, n + 1, *rest)])


def _resolved_first(seen: Evidence) -> Evidence:
    project, fingerprint, n, at, _, since = seen.store.alert_log[0]
    return _store(seen, alert_log=[(project, fingerprint, n, at, "resolved", since), *seen.store.alert_log[1:]])


def _message_twice(seen: Evidence) -> Evidence:
    return _store(seen, outbox=[*seen.store.outbox, seen.store.outbox[0]])


def _no_message(seen: Evidence) -> Evidence:
    project = seen.store.alert_log[0][0]
    return _store(seen, outbox=[row for row in seen.store.outbox if row[1] != project])


def _not_buried(seen: Evidence) -> Evidence:
    return replace(seen, letters=[])


def _buried_alive(seen: Evidence) -> Evidence:
    place = next(entry for entry in seen.events if entry.value != DEAD.value)
    said = {"id": "x", "stage": "fold", "subject": f"{place.partition}/{place.offset}"}
    letter = Entry(place.partition, len(seen.letters), place.key, json.dumps(said).encode())
    return replace(seen, letters=[*seen.letters, letter])


def _buried_as_two(seen: Evidence) -> Evidence:
    (letter,) = seen.letters
    said = json.dumps({**json.loads(letter.value), "id": "another"}).encode()
    return replace(seen, letters=[letter, letter._replace(offset=1, value=said)])


def _entered(seen: Evidence, difference: int) -> Evidence:
    key, row = next((key, row) for key, row in seen.store.state.items() if key.kind == "work_item")
    told = json.dumps({key.project: row.version + difference})
    return _store(seen, ledger=[(*key[1:4], row.version + difference, told, "live")])


def _entered_and_not_sent(seen: Evidence) -> Evidence:
    return _entered(seen, 1)


def _sent_and_forgotten(seen: Evidence) -> Evidence:
    return _entered(seen, -1)


def _left_lying(seen: Evidence) -> Evidence:
    last = max(seen.events, key=lambda entry: entry.offset)
    return replace(seen, events=[*seen.events, last._replace(offset=last.offset + 1)])


def _never_sent(seen: Evidence) -> Evidence:
    return replace(seen, delivered=True)


PLANTED = (
    ("lost", _without_last_record),
    ("gap", _first_of_a_partition_gone),
    ("misplaced", _elsewhere),
    ("state", _row_missing),
    ("state", _row_too_many),
    ("state", _older_version),
    ("state", _folded_and_not_said_so),
    ("skipped", _past_what_was_read),
    ("skipped", _batch_with_a_hole),
    ("backwards", lambda seen: _move(seen, lambda m: _moves_on(m) and m.writer == "two", offset=0)),
    ("backwards", lambda seen: _move(seen, lambda m: _moves_on(m) and m.writer == "two", offset_before=0)),
    ("stale", _zombie),
    ("stale", _zombie_ticks),
    ("stale", _epoch_leaps),
    ("alert_log", _number_left_out),
    ("alert_log", _told_twice),
    ("alert_log", _resolved_first),
    ("outbox", _message_twice),
    ("outbox", _no_message),
    ("outbox", _never_sent),
    ("dead_letters", _not_buried),
    ("dead_letters", _buried_alive),
    ("dead_letters", _buried_as_two),
    ("ledger", _entered_and_not_sent),
    ("ledger", _sent_and_forgotten),
    ("lag", _left_lying),
    ("lag", lambda seen: _store(seen, dirty=["project-001"])),
    ("lag", lambda seen: _store(seen, pending=[("jira", "work_item", "1")])),
)


def test_what_is_planted_is_found(seen: Evidence) -> None:
    missed = [
        (name, getattr(plant, "__name__", ""), str(judge(plant(seen))))
        for name, plant in PLANTED
        if name not in judge(plant(seen)).violations
    ]
    assert not missed


def test_every_check_has_something_planted() -> None:
    assert {name for name, _ in PLANTED} == {check.__name__ for check in CHECKS}


def test_what_was_entered_and_sent_is_in_order(seen: Evidence) -> None:
    assert judge(_entered(seen, 0)).violations == {}
    published = replace(seen, events=seen.events, finished=False)
    assert judge(_store(published, dirty=["project-001"])).violations == {}, "unless it had time to end"


def test_a_zombie_is_seen_by_the_database_itself(url: str, writer: list[str]) -> None:
    """Whatever the product believes: who wrote is told by the connection."""
    watch(url)
    names = ("one", "two")
    urls = [f"{url}?application_name={name}" if url.startswith("postgresql") else url for name in names]
    with closing(Store(urls[0])) as first, closing(Store(urls[1])) as second:
        StateStore(first).take(0, "one")
        writer[0] = "two"
        epoch = StateStore(second).take(0, "two")
        writer[0] = "one"
        with StateStore(first).owned(0, epoch) as owned:  # with an epoch that is not its own
            owned.save({}, 5)
    violations = judge(Evidence([], [], 8, look(url))).violations
    assert violations == {"stale": ["one wrote to partition 0 at epoch 2, which two had taken"]}
