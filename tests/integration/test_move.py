"""A move: the same installation elsewhere, whole or not at all, and nobody is told twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, select
from test_aggregator import APOLLO, Crash, World

from connectors.base import Ref
from connectors.pump import LeaseLost
from connectors.webhooks import Hint
from pmsync.aggregator import Aggregator
from pmsync.app import App
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.letters import closed, open_letters
from pmsync.bus.port import DEAD_LETTERS, EVENTS, Record, partition_of
from pmsync.bus.publisher import Publisher
from pmsync.config import Config
from pmsync.move import TOPICS, Installation, Move, MoveRefused
from pmsync.owners import owner
from pmsync.store import tables
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.ledger import SqlLedger
from pmsync.store.moves import CARRIED, MoveStore, StoreMoved, check_moved
from pmsync.store.outbox import Outbox, Queue
from pmsync.store.state import Fenced, StateStore
from tests.unit.builders import JIRA, NOW, acknowledgement, item

pytestmark = pytest.mark.integration

STEPS = ("filling", "left", "copied", "log-carried", "carrying", "carried", "old", "refolded")
LATER = NOW + timedelta(days=1)
QUEUE = Queue("console", "console")
PARTITIONS = 5
"""Of the target: another number than the old installation's 8."""


def elsewhere() -> str:
    """A key whose partition of the target none of what is carried goes to."""
    taken = {partition_of(key, PARTITIONS) for key in ("apollo", "beacon")}
    return next(key for key in map(str, range(99)) if partition_of(key, PARTITIONS) not in taken)


def forget_the_log(store: Store) -> None:
    """As in a store that was never worked with."""
    with store.write() as db:
        db.execute(delete(tables.log))


class Ends:
    """The two installations of a move, with short words for what happens to them."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        old_url = f"sqlite:///{folder / 'old.db'}"
        self.old_store = Store(old_url)
        self.old_store.migrate()
        self.world = World(folder, self.old_store)  # its log is log.db
        self.world.state.adopt_log(self.world.bus.identity())
        self.new_store = Store(url)
        self.new_bus = EmbeddedBus(folder / "new-log.db", PARTITIONS)
        self.old = Installation(self.config("log.db", old_url), self.world.bus, self.old_store)
        self.new = Installation(self.config("new-log.db", url), self.new_bus, self.new_store)

    def config(self, log: str, url: str, **values: Any) -> Config:
        return Config.model_validate({"bus": {"path": str(self.folder / log)}, "store": {"url": url}, **values})

    def move(self, step: Callable[[str], None] = lambda _: None) -> Move:
        return Move(self.old, self.new, "mover/1/1", lambda: LATER, step)

    def refused(self) -> str:
        with pytest.raises(MoveRefused) as refused:
            self.move().run()
        return str(refused.value)

    def aggregator(self) -> Aggregator:
        found = Aggregator(self.new_bus, StateStore(self.new_store), "other/1/1", ("console", "mail"))
        found.take(range(PARTITIONS))
        return found

    def close(self) -> None:
        for each in (self.world.bus, self.new_bus, self.old_store, self.new_store):
            each.close()


@pytest.fixture
def ends(tmp_path: Path, empty_url: str) -> Iterator[Ends]:
    """An installation with everything in it: alerts that were told, one of them taken on, messages on their way, dead
    letters, a pending note; and a place for it that is empty."""
    with closing(Ends(tmp_path, empty_url)) as ends:
        world = ends.world
        world.configure()
        world.tell(*(item(str(n), due_date="2026-03-02") for n in range(3)))
        world.tell(*(item(str(n)) for n in range(3, 450)))
        world.tell(item("b"), key="beacon")
        world.synced()
        world.bus.publish(EVENTS, [Record("apollo", b"garbage"), Record("beacon", b"rubbish")])
        assert world.tick() == 3
        world.bus.publish(
            DEAD_LETTERS,
            [
                closed(each.key, each.id, "discarded", "a test")
                for each in open_letters(world.bus)
                if each.key == "apollo"
            ],
        )
        fingerprint = world.state.alert_log("apollo")[0].fingerprint
        fact = acknowledgement(fingerprint, NOW).model_copy(update={"project": "apollo"})
        Publisher(world.bus).publish([fact])
        assert world.tick() == 1
        with world.store.write() as db:
            db.execute(insert(tables.people).values(id="person-1", mail="ada@example.com", name="Ada \0"))
            db.execute(insert(tables.pending).values(source=JIRA, kind="work_item", id="7", version=3, projects="[]"))
            values = {"digest": "d", "version": 9, "time": 5, "containers": "[]", "told": "{}", "fate": "live"}
            rows = [
                {"source": JIRA, "kind": "work_item", "id": str(n), "container": "APO", **values} for n in range(1200)
            ]
            db.execute(insert(tables.ledger), rows)
        yield ends


def contents(store: Store, *names: str) -> dict[str, list[dict[str, Any]]]:
    with store.read() as db:
        return {
            table.name: sorted((dict(row) for row in db.execute(select(table)).mappings()), key=repr)
            for table in tables.metadata.sorted_tables
            if table.name in names
        }


def log_of(bus: EmbeddedBus) -> dict[str, dict[str, list[bytes]]]:
    """topic -> key -> what was said of it, in order."""
    found: dict[str, dict[str, list[bytes]]] = {topic: {} for topic in TOPICS}
    for topic, keys in found.items():
        for n in range(bus.partitions):
            for each in bus.read(topic, n, 0, 10**6):
                assert partition_of(each.key, bus.partitions) == n
                keys.setdefault(each.key, []).append(each.value)
    return found


ALIKE = [table.name for table in CARRIED if table is not tables.due]


def is_whole(ends: Ends) -> None:
    """Everything is in the new place, and a tick there tells what it would have told here."""
    assert log_of(ends.new_bus) == log_of(ends.world.bus)
    assert contents(ends.new_store, "state") == contents(ends.old_store, "state")
    assert contents(ends.new_store, *ALIKE) == contents(ends.old_store, *ALIKE)
    shown = {row["project"]: row["shown"] for row in contents(ends.old_store, "due")["due"]}
    due = contents(ends.new_store, "due")["due"]
    assert {row["project"]: row["shown"] for row in due} == shown
    assert all(row["partition"] == partition_of(row["project"], PARTITIONS) for row in due)
    assert [each.key for each in open_letters(ends.new_bus)] == ["beacon"]
    assert StateStore(ends.new_store).ticked_at() == NOW
    before = contents(ends.new_store, "alert_log", "outbox")
    worker = ends.aggregator()
    assert (worker.catch_up(), worker.tick(NOW)) == (0, 0)
    assert contents(ends.new_store, "alert_log", "outbox") == before


def test_every_table_is_carried_or_has_a_reason_not_to_be() -> None:
    left = {
        "state": "folded from the log",
        "partitions": "who folds them, up to where",
        "leases": "who reads",
        "log": "which log the store is built from",
        "rebuilt": "of a rebuild",
        "rebuilds": "of a rebuild",
        "moved": "of the move",
        "troubles": "why a source does not answer: known again at the next try",
    }
    assert {table.name for table in CARRIED} | left.keys() == tables.metadata.tables.keys()
    assert not {table.name for table in CARRIED} & left.keys()


def test_everything_is_carried_and_nothing_is_told_again(ends: Ends) -> None:
    said = ends.move().run()
    end = sum(ends.new_bus.end_offset(EVENTS, n) for n in range(PARTITIONS))
    assert said[0].startswith("carried to the embedded log ")
    assert said[1].startswith(f"{end} records folded there; ")
    is_whole(ends)


def test_run_again_it_says_that_it_is_done(ends: Ends) -> None:
    ends.move().run()
    said = ends.move().run()
    assert said[0].startswith("already carried to ")
    assert said[1].startswith("0 records folded there")
    assert ends.move().look() == [said[0]]
    is_whole(ends)


def test_run_again_while_the_new_one_works_it_takes_nothing_from_it(ends: Ends) -> None:
    ends.move().run()
    worker = Aggregator(ends.new_bus, StateStore(ends.new_store), owner())
    worker.take(range(PARTITIONS))
    assert "in use there, nothing is left to do" in ends.move().run()[1]
    assert worker.catch_up() == 0
    worker.tick(NOW)  # it is not fenced


@pytest.mark.parametrize("step", STEPS)
def test_ended_at_any_step_and_run_again(ends: Ends, step: str) -> None:
    for nth in (1, 2):

        def end(here: str, left: list[int] = [nth]) -> None:  # noqa: B006
            left[0] -= here == step
            if not left[0]:
                raise Crash

        try:
            ends.move(end).run()
        except Crash:
            if step != "filling":
                with pytest.raises(StoreMoved):  # not even by mistake
                    StateStore(ends.old_store).take(0, "me")
    ends.move().run()
    is_whole(ends)


def test_until_it_has_ended_the_new_one_does_not_work_either(ends: Ends) -> None:
    def end(here: str) -> None:
        if here == "log-carried":
            raise Crash

    with pytest.raises(Crash):
        ends.move(end).run()
    with pytest.raises(StoreMoved, match=r"is filling this store since .* run it again, with the old configuration"):
        StateStore(ends.new_store).adopt_log(ends.new_bus.identity())


def test_a_dry_run_writes_nothing(ends: Ends) -> None:
    before = contents(ends.old_store, *tables.metadata.tables)
    said = ends.move().look()
    counts = {topic: sum(map(len, keys.values())) for topic, keys in log_of(ends.world.bus).items()}
    assert said[:2] == [f"{topic}: {counts[topic]} records, of which 0 are there already" for topic in TOPICS]
    assert "ledger: 1200 rows" in said
    assert "alert_log: 4 rows" in said
    assert ends.new_store.is_bare()
    assert log_of(ends.new_bus) == {topic: {} for topic in TOPICS}
    assert contents(ends.old_store, *tables.metadata.tables) == before


# --- the old one stays as it is, and is not started by mistake --------------------------------------------------------


def test_the_old_one_works_no_more_until_that_is_undone(ends: Ends) -> None:
    zombie = ends.world.aggregator
    ledger = SqlLedger(ends.old_store, lambda: NOW)
    lease = ledger.lease(JIRA, "elsewhere/1/1")
    ledger.release(JIRA, lease)
    before = contents(ends.old_store, "state", *ALIKE)
    ends.move().run()
    assert contents(ends.old_store, "state", *ALIKE) == before
    ends.world.tell(item("late"))
    with pytest.raises(Fenced):
        zombie.catch_up()
    with pytest.raises(LeaseLost):
        ledger.settle(JIRA, lease, {})
    now = lambda: NOW  # noqa: E731
    attempts: Mapping[str, Callable[[], Any]] = {
        "fold": lambda: StateStore(ends.old_store).take(0, "me"),
        "read": lambda: ledger.lease(JIRA, "me"),
        "hint": lambda: ledger.hint(JIRA, [Hint(Ref("work_item", "1"))]),
        "send": lambda: Outbox(ends.old_store).claim(QUEUE, "me", LATER, LATER),
        "publish": lambda: StateStore(ends.old_store).adopt_log(ends.world.bus.identity()),
    }
    for attempt in attempts.values():
        with pytest.raises(
            StoreMoved, match=r"was moved to the embedded log .*new-log.db at .*, then run `pmsync move"
        ):
            attempt()
    with closing(App(ends.old.config, now)) as app:
        assert app.state.projects() == ["apollo"], "it can be looked at"
        with pytest.raises(StoreMoved):
            check_moved(app.store)  # as every role does before it begins
        with pytest.raises(StoreMoved):
            app.once()
    MoveStore(ends.old_store, now).come_back()
    for attempt in attempts.values():
        attempt()


def test_what_was_undone_is_not_moved_over_what_is_there(ends: Ends) -> None:
    ends.move().run()
    MoveStore(ends.old_store, lambda: NOW).come_back()
    assert "the store of the target is not empty" in ends.refused()


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda ends: forget_the_log(ends.old_store), "nothing was ever read here: does this configuration name the"),
        (lambda ends: SqlLedger(ends.old_store, lambda: LATER).lease(JIRA, owner()), "jira is being read by "),
        (lambda ends: SqlLedger(ends.old_store, lambda: LATER).lease(JIRA, "other/1/1"), "jira is being read by other/1/1"),
        (lambda ends: StateStore(ends.old_store).take(3, owner()), "partition 3 is being folded by "),
        (lambda ends: ends.world.aggregator.tick(LATER), "partition 0 is being folded by me: stop it"),
        (
            lambda ends: Outbox(ends.old_store).claim(QUEUE, owner(), LATER, LATER + timedelta(minutes=1)),
            "messages are being sent by ",
        ),
        (lambda ends: ends.new_store.migrate() or StateStore(ends.new_store).adopt_log("x"), "target is not empty"),
        (
            lambda ends: ends.new_bus.publish(DEAD_LETTERS, [Record(elsewhere(), b"y")]),
            "the log of the target has something else at 0 in partition ",
        ),
        (
            lambda ends: ends.new_bus.publish(EVENTS, [Record("apollo", b"y")]),
            "the log of the target has something else at 0 in partition ",
        ),
        (
            lambda ends: ends.world.bus._db.execute("DELETE FROM log WHERE topic = ? AND position = 0", (EVENTS,)),
            "begins at 1 in partition ",
        ),
    ],
)  # fmt: skip
def test_what_stands_in_the_way_is_said_and_nothing_is_written(
    ends: Ends, spoil: Callable[[Ends], object], says: str
) -> None:
    spoil(ends)
    before = log_of(ends.new_bus)
    assert says in ends.refused()
    assert log_of(ends.new_bus) == before
    assert contents(ends.old_store, "moved") == {"moved": []}
    with pytest.raises(MoveRefused):
        ends.move().look()


def test_what_ended_long_ago_stands_in_nobodys_way(ends: Ends) -> None:
    SqlLedger(ends.old_store, lambda: NOW).lease(JIRA, "other/1/1")
    StateStore(ends.old_store).take(3, f"{owner().split('/')[0]}/999999999/1")
    Outbox(ends.old_store).claim(QUEUE, "other/1/1", NOW, NOW)
    ends.move().run()


def test_other_sources_or_projects_are_refused(ends: Ends, tmp_path: Path) -> None:
    jira = {"kind": "jira", "url": "https://a.example.com", "auth": {"email": "a@b.c", "token": {"env": "TOKEN"}}}
    elsewhere = {**jira, "auth": {"email": "a@b.c", "token": {"env": "OTHER"}}}
    project = {"key": "apollo", "from": {"one": ["APO"]}}
    old = ends.config("log.db", "sqlite:///a", sources=[{**jira, "name": "one"}], projects=[project])
    ends.old = ends.old._replace(config=old)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"sources": [{**jira, "name": "two"}], "projects": [{"key": "apollo"}]}, "sources: one, two; keep them"),
        ({"sources": [{**jira, "name": "one", "url": "https://b.example.com"}], "projects": [project]}, "sources: one"),
        ({"sources": [{**jira, "name": "one"}], "projects": [{**project, "name": "Apollo"}]}, "projects: apollo"),
    ]
    for values, says in cases:
        ends.new = ends.new._replace(config=ends.config("new-log.db", "sqlite:///b", **values))
        assert f"the two configurations differ in {says}" in ends.refused()
    same = {"sources": [{**elsewhere, "name": "one"}], "projects": [project], "poll": {"every_seconds": 5}}
    ends.new = ends.new._replace(config=ends.config("new-log.db", "sqlite:///b", **same))
    ends.move().run()


def test_one_store_for_both_is_refused(ends: Ends) -> None:
    ends.new = ends.new._replace(config=ends.old.config)
    assert "both configurations name the same store" in ends.refused()


def test_another_target_than_the_one_that_was_begun_is_refused(ends: Ends, tmp_path: Path) -> None:
    ends.move().run()
    with (
        closing(EmbeddedBus(tmp_path / "third.db")) as bus,
        closing(Store(f"sqlite:///{tmp_path / 'third-store.db'}")) as store,
    ):
        ends.new = Installation(ends.config("third.db", "sqlite:///third-store.db"), bus, store)
        assert "this installation was moved to the embedded log " in ends.refused()


def test_what_was_moved_can_be_moved_on(ends: Ends, tmp_path: Path) -> None:
    ends.move().run()
    with (
        closing(EmbeddedBus(tmp_path / "third.db")) as bus,
        closing(Store(f"sqlite:///{tmp_path / 'third-store.db'}")) as store,
    ):
        third = Installation(ends.config("third.db", "sqlite:///third-store.db"), bus, store)
        Move(ends.new, third, "mover/1/1", lambda: LATER).run()
        assert log_of(bus) == log_of(ends.world.bus)
        assert contents(store, "state", *ALIKE) == contents(ends.old_store, "state", *ALIKE)
        with pytest.raises(StoreMoved):
            ends.aggregator()


def test_a_log_that_grows_meanwhile_is_noticed(ends: Ends) -> None:
    def grow(here: str) -> None:
        if here == "copied":
            ends.world.tell(item("late"), key="apollo")

    with pytest.raises(MoveRefused, match="the log has grown while it was carried: stop what still writes to it"):
        ends.move(grow).run()
    assert contents(ends.new_store, "ledger") == {"ledger": []}


def test_the_log_may_stay_where_it_is(tmp_path: Path, empty_url: str) -> None:
    """From one store to another one, on the same log."""
    with closing(Ends(tmp_path, empty_url)) as ends:
        ends.world.configure()
        ends.world.tell(item("1", due_date="2026-03-02"))
        ends.world.synced()
        ends.world.tick()
        with closing(EmbeddedBus(tmp_path / "log.db")) as same:
            ends.new = Installation(ends.config("log.db", empty_url), same, ends.new_store)
            ends.move().run()
        assert contents(ends.new_store, "state", *ALIKE) == contents(ends.old_store, "state", *ALIKE)
        with pytest.raises(StoreUnavailable):
            ends.world.state.take(APOLLO, "me")
