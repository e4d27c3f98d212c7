"""A rebuild: the state of a fresh fold, beside live traffic, and nobody hears of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import delete, func, insert, select, update
from test_aggregator import APOLLO, Crash, World

from pmsync import rebuild
from pmsync.bus.apache_kafka import KafkaBus
from pmsync.bus.cluster import Cluster
from pmsync.bus.letters import closed, open_letters
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Record, partition_of
from pmsync.bus.topics import Layout, wanted
from pmsync.core.claims import read as claim
from pmsync.core.project import Key, Row, fold
from pmsync.owners import owner
from pmsync.rebuild import Rebuild, Rebuilt
from pmsync.store import tables
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.rebuilds import Difference, RebuildRefused, RebuildStore
from tests.unit.builders import item

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BEACON = partition_of("beacon", 8)
STEPS = ("claimed", "emptied", "gathered", "replaced", "flipped")
WALL = datetime(2026, 3, 16, 12, tzinfo=UTC)


@pytest.fixture
def world(tmp_path: Path, store: Store) -> Iterator[World]:
    world = World(tmp_path, store)
    with closing(world.bus):
        yield world


@pytest.fixture
def told(world: World) -> World:
    return tell(world)


def tell(world: World) -> World:
    """Two projects with alerts that were told; one of them has more than a batch of things."""
    world.configure()
    world.tell(*(item(str(n), due_date="2026-03-02") for n in range(3)))
    world.tell(*(item(str(n)) for n in range(3, 700)))
    world.tell(item("3", title="changed"), item("4", title="changed"))
    world.tell(item("b"), key="beacon")
    world.synced()
    assert world.tick() == 3
    return world


def spoil(world: World) -> None:
    """What a fault in an older pmsync, or a hand in the database, may leave: rows that are wrong, missing, too many."""
    with world.store.write() as db:
        state = tables.state
        db.execute(
            update(state)
            .where(state.c.id == "5")
            .values(body=func.replace(state.c.body, "Item 5", "?"), version=10**15)
        )
        good = db.scalar(select(state.c.body).where(state.c.id == "7"))
        db.execute(delete(state).where(state.c.id == "6"))
        for project in ("apollo", stranger()):
            row = {
                "source": "jira",
                "kind": "work_item",
                "id": "ghost",
                "at": 0,
                "version": 9,
                "gone": False,
                "body": good,
            }
            db.execute(insert(state).values(project=project, **row))


def stranger() -> str:
    """A project that was never configured, whose place is Apollo's partition."""
    return next(name for name in map(str, range(999)) if partition_of(name, 8) == APOLLO)


def work(world: World, name: str = "me", step: Callable[[str], None] = lambda _: None, now: datetime = WALL) -> Rebuild:
    return Rebuild(world.bus, world.state, RebuildStore(world.store, name, lambda: now), step)


def rebuilt(
    world: World, *partitions: int, dry_run: bool = False, step: Callable[[str], None] = lambda _: None
) -> dict[int, Rebuilt]:
    every = partitions or range(8)
    return {each.partition: each for each in work(world, step=step).run(every, dry_run=dry_run)}


def rows(world: World, table: Any = tables.state) -> dict[Key, Row]:
    columns = [table.c[name] for name in (*Key._fields, *Row._fields)]
    with world.store.read() as db:
        return {Key(*row[:5]): Row(*row[5:]) for row in db.execute(select(*columns))}


def folded(world: World) -> dict[Key, Row]:
    """What the log folds to, by the law alone."""
    everything = [
        claim(each.value)
        for n in range(8)
        for each in world.bus.read(EVENTS, n, 0, 10**6)
        if each.value.startswith(b"{")
    ]
    return fold(everything)


def column(world: World, name: str) -> dict[int, int]:
    with world.store.read() as db:
        return {row.partition: getattr(row, name) for row in db.execute(select(tables.partitions))}


def decided(world: World) -> list[Any]:
    """The alert log and the outbox."""
    with world.store.read() as db:
        found = [list(db.execute(select(table))) for table in (tables.alert_log, tables.outbox)]
    return [sorted(map(tuple, each)) for each in found]


def test_the_state_becomes_that_of_a_fresh_fold(told: World) -> None:
    before, epochs = decided(told), column(told, "epoch")
    spoil(told)
    found = rebuilt(told)
    assert rows(told) == folded(told)
    assert found[APOLLO].difference == Difference(written=2, removed=2)
    assert found[APOLLO].records == told.bus.end_offset(EVENTS, APOLLO)
    assert found[BEACON].difference == Difference(0, 0)
    assert decided(told) == before
    assert column(told, "edition") == dict.fromkeys(range(8), 1)
    assert column(told, "epoch") == epochs, "its owner stays the owner"
    assert rows(told, tables.rebuilt) == {}
    assert told.tick() == 0, "assessed again, and nothing is told again"
    assert decided(told) == before


def test_what_was_rebuilt_is_assessed_again(told: World) -> None:
    with told.store.write() as db:
        db.execute(delete(tables.state).where(tables.state.c.id == "2"))
        db.execute(update(tables.due).values(dirty=True))
    assert told.tick() == 1, "an all-clear, by a state that is wrong"
    rebuilt(told)
    assert told.tick() == 1
    assert [line[1] for line in told.log()].count("firing") == 4


def test_only_the_partitions_that_were_named(told: World) -> None:
    spoil(told)
    assert rebuilt(told, BEACON).keys() == {BEACON}
    assert rows(told) != folded(told)
    assert {n for n, edition in column(told, "edition").items() if edition} == {BEACON}


def test_a_partition_that_nobody_ever_took_has_nothing_to_rebuild(tmp_path: Path, store: Store) -> None:
    world = World.__new__(World)
    World.__init__(world, tmp_path, store)
    with closing(world.bus):
        with store.write() as db:
            db.execute(delete(tables.partitions).where(tables.partitions.c.partition == 0))
        assert rebuilt(world, 0)[0].edition is None


def test_a_dry_run_says_what_is_wrong_and_leaves_it(told: World) -> None:
    spoil(told)
    before = rows(told)
    found = rebuilt(told, dry_run=True)
    assert found[APOLLO].difference == Difference(written=2, removed=2)
    assert found[APOLLO].edition == 0
    assert rows(told) == before
    assert rows(told, tables.rebuilt) == {}
    with told.store.read() as db:
        assert db.scalar(select(func.max(tables.partitions.c.edition))) == 0


def test_beside_an_owner_who_goes_on(told: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step the log grows and its owner folds it, more than may be folded while it waits."""
    monkeypatch.setattr(rebuild, "NEAR", 2)
    spoil(told)
    busy = 3

    def live(step: str) -> None:
        nonlocal busy
        if step == "gathered" and busy:
            busy -= 1
            many = range(5, 9 if busy else 6)  # the last time so few that they are folded while the owner waits
            told.tell(*(item(str(n), title=f"live {busy}") for n in many))
            told.aggregator.catch_up()
        elif step == "flipped":
            told.tell(item("8", title="after the flip"))
            told.aggregator.catch_up()

    rebuilt(told, APOLLO, step=live)
    assert busy == 0
    assert rows(told) == folded(told)
    told.tell(item("9", title="later"))
    assert told.tick() == 0
    assert rows(told) == folded(told)


def test_beside_an_owner_in_another_thread(told: World) -> None:
    """The two at once, as fast as they can: neither waits for ever, and nothing is lost between them."""
    stop, failed = threading.Event(), []

    def go_on() -> None:
        n = 0
        try:
            while not stop.is_set():
                n += 1
                told.tell(*(item(str(i), title=f"{n}") for i in range(n % 50 + 3, n % 50 + 23)))
                told.aggregator.catch_up()
        except Exception as error:
            failed.append(error)

    spoil(told)
    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        for _ in range(3):
            rebuilt(told, APOLLO)
    finally:
        stop.set()
        thread.join(60)
    assert not failed
    assert told.tick() == 0
    assert rows(told) == folded(told)
    assert column(told, "edition")[APOLLO] == 3


def test_what_the_owner_has_not_folded_is_not_folded_for_it(told: World) -> None:
    """The state goes exactly up to the offset that stands beside it: what follows is assessed only once it is folded."""
    expected = folded(told)
    told.tell(item("1", title="not yet"))
    rebuilt(told)
    assert rows(told) == expected
    assert told.aggregator.catch_up() == 1
    assert rows(told) == folded(told)


@pytest.mark.parametrize("step", STEPS)
def test_ended_at_any_step_and_run_again(told: World, step: str) -> None:
    spoil(told)
    before = rows(told)

    def end(here: str) -> None:
        if here == step:
            raise Crash

    with pytest.raises(Crash):
        rebuilt(told, APOLLO, step=end)
    assert rows(told) == (folded(told) if step == "flipped" else before), "whole at all times"
    told.tell(item("5", title="meanwhile"))
    told.aggregator.catch_up()
    rebuilt(told, APOLLO)
    assert rows(told) == folded(told)
    assert rows(told, tables.rebuilt) == {}


def test_what_a_dead_rebuild_left_is_not_taken_for_ones_own(told: World) -> None:
    """A row that was gathered and that the log does not hold any more would outlive its removal."""
    with told.store.write() as db:
        ghost = {"project": "apollo", "source": "jira", "kind": "work_item", "id": "ghost", "at": 0, "version": 10**15}
        db.execute(insert(tables.rebuilt).values(**ghost, gone=False, body="{}", partition=APOLLO))
    rebuilt(told)
    assert rows(told) == folded(told)


def test_the_second_of_two_is_refused(told: World) -> None:
    said: list[str] = []

    def another(step: str) -> None:
        if step == "gathered":
            with pytest.raises(RebuildRefused) as refused:
                next(work(told, "elsewhere/1/1").run([BEACON, APOLLO], dry_run=False))
            said.append(str(refused.value))

    spoil(told)
    rebuilt(told, APOLLO, step=another)
    assert said
    assert said[0].startswith(f"partition {APOLLO} is being rebuilt by me since 2026-03-16T12:00:00Z; ")
    assert rows(told) == folded(told)
    assert next(work(told, "elsewhere/1/1").run([APOLLO], dry_run=False)).edition == 2, "once it has ended, another may"


@pytest.mark.parametrize(("name", "later"), [(f"{owner().split('/')[0]}/999999999/1", 0), ("elsewhere/1/1", 5)])
def test_a_dead_one_is_taken_over_and_does_nothing_more(told: World, name: str, later: int) -> None:
    """On this host at once, on another one after some silence; should it live after all, it stops."""
    spoil(told)
    zombie = work(told, name, lambda step: over() if step == "gathered" and not taken else None)
    taken: list[Rebuilt] = []

    def over() -> None:
        taken.extend(work(told, owner(), now=WALL + timedelta(minutes=later)).run([APOLLO], dry_run=False))

    with pytest.raises(RebuildRefused, match=f"another process has begun to rebuild partition {APOLLO}; this one has"):
        next(zombie.run([APOLLO], dry_run=False))
    assert [each.edition for each in taken] == [1]
    assert column(told, "edition")[APOLLO] == 1
    assert rows(told) == folded(told)


def test_a_database_that_went_back_is_gathered_again_from_there(told: World) -> None:
    def lose(step: str) -> None:
        nonlocal lost
        if step == "gathered" and not lost:
            lost = True
            with told.store.write() as db:
                db.execute(delete(tables.rebuilt))
                db.execute(update(tables.rebuilds).values(next_offset=0))

    lost = False
    spoil(told)
    rebuilt(told, APOLLO, step=lose)
    assert rows(told) == folded(told)


@pytest.mark.parametrize(("step", "often"), [("gathered", 2), ("replaced", 4)])
def test_a_part_that_is_away_for_a_while_is_waited_for(
    told: World, step: str, often: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pmsync.folding.BATCH", 2)
    waited: list[float] = []

    def fail(here: str) -> None:
        if here == step and len(waited) < often:
            raise StoreUnavailable("gone for a while")

    spoil(told)
    told.bus.publish(EVENTS, [Record("apollo", b"garbage")])
    told.aggregator.catch_up()
    patient = Rebuild(told.bus, told.state, RebuildStore(told.store, "me", lambda: WALL), fail, wait=waited.append)
    (found,) = patient.run([APOLLO], dry_run=False)
    assert (found.unreadable, len(waited)) == (1, often)
    assert rows(told) == folded(told)


def test_what_stays_away_is_not_waited_for_for_ever(told: World) -> None:
    def fail(here: str) -> None:
        if here == "replaced":
            raise StoreUnavailable("gone")

    store = RebuildStore(told.store, "me", lambda: WALL)
    with pytest.raises(StoreUnavailable):
        list(Rebuild(told.bus, told.state, store, fail, wait=lambda _: None).run([APOLLO], dry_run=False))


def test_what_was_discarded_does_not_come_back_and_what_is_new_is_buried(told: World) -> None:
    told.bus.publish(EVENTS, [Record("apollo", b"garbage")])
    told.aggregator.catch_up()
    (letter,) = open_letters(told.bus)
    told.bus.publish(DEAD_LETTERS, [closed(letter.key, letter.id, "discarded", "a test")])
    assert rebuilt(told)[APOLLO].unreadable == 1
    assert open_letters(told.bus) == []
    # What an older pmsync could read, and this one cannot, was never buried.
    told.bus.publish(EVENTS, [Record("apollo", b"older"), Record("apollo", b"older")])
    with told.store.write() as db:
        end = told.bus.end_offset(EVENTS, APOLLO)
        db.execute(update(tables.partitions).where(tables.partitions.c.partition == APOLLO).values(next_offset=end))
    assert rebuilt(told, dry_run=True)[APOLLO].unreadable == 3
    assert open_letters(told.bus) == []
    assert rebuilt(told)[APOLLO].unreadable == 3
    assert [each.raw for each in open_letters(told.bus)] == [b"older"]


def test_a_log_that_lost_its_beginning_is_refused(told: World) -> None:
    told.bus._db.execute("DELETE FROM log WHERE topic = ? AND position < 5", (EVENTS,))
    before = rows(told)
    with pytest.raises(RebuildRefused, match=rf"the log begins at 5 in partition {APOLLO}: .* back from its backup"):
        rebuilt(told)
    assert rows(told) == before


def test_on_kafka(tmp_path: Path, store: Store, broker: str, prefix: str) -> None:
    cluster = Cluster((broker,))
    layout = Layout(cluster, wanted(8, 1, prefix))
    layout.mend(layout.differences())
    world = World(tmp_path, store)
    world.bus.close()
    with closing(KafkaBus(cluster, 8, prefix=prefix)) as bus:
        world.bus = bus  # type: ignore[assignment]
        world.aggregator = world.another()
        tell(world)
        spoil(world)
        found = rebuilt(world)
        assert found[APOLLO].difference == Difference(written=2, removed=2)
        assert rows(world) == fold(map(claim, _values(bus)))
        assert world.tick() == 0


def _values(bus: KafkaBus) -> Iterable[bytes]:
    for n in range(8):
        offset = 0
        while page := bus.read(EVENTS, n, offset, 500):
            yield from (each.value for each in page)
            offset = page[-1].offset + 1


# --- the command ------------------------------------------------------------------------------------------------------


class Command:
    """`pmsync` in processes of their own, on a world's files."""

    def __init__(self, folder: Path, url: str) -> None:
        self._file = folder / "pmsync.yaml"
        self._file.write_text(yaml.safe_dump({"bus": {"path": str(folder / "log.db")}, "store": {"url": url}}))

    def __call__(self, *words: str, crash: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "pmsync", "-c", str(self._file), *words]
        environment = {**os.environ, "PMSYNC_CRASH_AT": crash}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
        )


@pytest.fixture
def pmsync(told: World, tmp_path: Path) -> Command:
    return Command(tmp_path, f"sqlite:///{tmp_path / 'pmsync.db'}")


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_killed_at_any_step_and_run_again(told: World, pmsync: Command) -> None:
    spoil(told)
    before = decided(told)
    for step in STEPS:
        ended = pmsync("rebuild", "--partition", str(APOLLO), crash=f"{step}:1")
        assert ended.returncode == -9, (step, ended.stderr)
        assert rows(told).keys() & {Key(stranger(), "jira", "work_item", "ghost", 0)} or step == "flipped"
        told.tell(item("7", title=step))
        assert told.tick() == 0
    ended = pmsync("rebuild")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    end = told.bus.end_offset(EVENTS, APOLLO)
    assert lines[APOLLO] == f"partition {APOLLO}: {end} records folded; rows written 0, removed 0; edition 2"
    assert len(lines) == 8
    assert ended.stderr == ""
    assert rows(told) == folded(told)
    assert told.tick() == 0
    assert decided(told) == before


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_command_says_what_is_wrong(told: World, pmsync: Command) -> None:
    spoil(told)
    ended = pmsync("rebuild", "--partition", "8")
    assert (ended.returncode, ended.stderr.split(" (")[0]) == (2, "pmsync: there is no partition 8; they are 0 to 7")
    said = pmsync("rebuild", "--partition", str(APOLLO), "--dry-run")
    assert "rows would be written 2, removed 2; edition 0" in said.stdout
    with RebuildStore(told.store, "elsewhere/1/1", lambda: datetime.now(UTC)).claimed([APOLLO]):
        ended = pmsync("rebuild")
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"pmsync: partition {APOLLO} is being rebuilt by elsewhere/1/1 since ")
    assert len(ended.stderr.splitlines()) == 1


def test_it_is_json_that_is_gathered(told: World) -> None:
    """The rows of a rebuild are those of state, byte for byte; a second rebuild finds nothing to change."""
    rebuilt(told)
    assert {found.difference for found in rebuilt(told).values()} == {Difference(0, 0)}
    assert all(json.loads(row.body) for row in rows(told).values() if row.body)
