"""What other programs are told: every transition in order, the newest figures last, and nothing lost for a log that is away."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from bus_contract import read_on
from test_aggregator import DAY, Crash, World

from pmsync.aggregator import Aggregator
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import ALERTS, METRICS, Bus, BusUnavailable, Record, RecordTooLarge
from pmsync.core.events import CONFIGURATION, Thing
from pmsync.core.outputs import AlertTransition, ProjectMetrics
from pmsync.notify.notifier import CLAIM, RETRIES, Notifier
from pmsync.notify.topics import TOPIC, WAITS, TopicSender
from pmsync.outputs import Outputs
from pmsync.store.engine import Store
from pmsync.store.outbox import Outbox, Queue
from tests.unit.builders import NOW, item

pytestmark = pytest.mark.integration

BOTH = (METRICS, ALERTS)
HOUR = timedelta(hours=1)


class Others(World):
    """A world in which other programs are told, and a log that may refuse what they are told."""

    def __init__(self, folder: Path, store: Store, topics: Sequence[str] = BOTH) -> None:
        self.topics = topics
        super().__init__(folder, store)
        self.now = NOW
        self.box = Outbox(store)
        self.refuse: Callable[[str, Sequence[Record]], None] = lambda *_: None
        self.notifier = self.another_notifier()

    def another(self) -> Aggregator:
        aggregator = Aggregator(self.bus, self.state, "me", (), self.step, Outputs(self.topics))
        aggregator.take(range(self.bus.partitions))
        return aggregator

    def another_notifier(self, name: str = "elsewhere/1/1") -> Notifier:
        return Notifier(self.box, {TOPIC: TopicSender(lambda: Refusing(self))}, lambda: self.now, name, self.step)

    def assess(self, hours: float = 1) -> None:
        """A tick, some time after the last one."""
        self.now += hours * HOUR
        self.tick(self.now)

    def said(self, topic: str) -> list[dict[str, Any] | None]:
        """The documents in a topic as they stand there; None where a project ends."""
        return [json.loads(each.value) if each.value else None for each in read_on(self.bus, topic)]

    def metrics(self) -> ProjectMetrics:
        """The one picture that is kept of the project."""
        (document,) = self.said(METRICS)
        assert document
        return ProjectMetrics.model_validate(document["data"])

    def transitions(self) -> list[AlertTransition]:
        return [AlertTransition.model_validate(each["data"]) for each in self.said(ALERTS) if each]


class Refusing:
    """The log, but `world.refuse` is asked before anything is published."""

    def __init__(self, world: Others) -> None:
        self._world = world

    def publish(self, topic: str, records: Sequence[Record]) -> None:
        self._world.refuse(topic, records)
        self._world.bus.publish(topic, records)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._world.bus, name)


@pytest.fixture
def world(tmp_path: Path, store: Store) -> Iterator[Others]:
    world = Others(tmp_path, store)
    world.configure()
    world.synced()
    with closing(world.bus):
        yield world


def away(topic: str, records: Sequence[Record]) -> None:
    raise BusUnavailable("the log is away")


# --- what is told -----------------------------------------------------------------------------------------------------


def test_every_line_of_the_alert_log_is_told_once_and_in_order(world: Others) -> None:
    done, again = (NOW + DAY, "status_category", "done"), (NOW + 2 * DAY, "status_category", "in_progress")
    for moves in ([], [done], [done, again]):
        world.tell(item("1", moves, due_date="2026-03-02"), item("2", moves, due_date="2026-03-02"))
        world.assess(24)
        world.notifier.drain()
    log = world.state.alert_log("apollo")
    assert len(log) == 6
    told = world.transitions()
    assert {(each.fingerprint, each.n, each.state, each.at, each.since) for each in told} == {
        (line.fingerprint, line.n, line.state, line.at, line.since) for line in log
    }
    for fingerprint in {each.fingerprint for each in told}:
        assert [each.n for each in told if each.fingerprint == fingerprint] == [1, 2, 3]
    assert len({each["id"] for each in world.said(ALERTS) if each}) == len(told) == 6
    assert {(each.rule, each.key) for each in told} == {("overdue", "APO-1"), ("overdue", "APO-2")}


def test_the_newest_figures_are_told_when_they_differ(world: Others) -> None:
    world.tell(item("1"))
    world.assess()
    assert world.notifier.drain().sent == 1
    first = world.metrics()
    assert (first.scope, first.assessed_at) == (1, world.now)
    world.assess()
    world.tell(item("1", title="Another title, which no figure shows"))
    world.assess()
    assert world.notifier.drain().tried == 0
    world.tell(item("2"))
    world.assess()
    assert world.notifier.drain().sent == 1
    assert (world.metrics().scope, world.metrics().assessed_at) == (2, world.now)


def test_of_figures_that_nobody_has_sent_only_the_newest_are(world: Others) -> None:
    for n in range(5):
        world.tell(item(str(n)))
        world.assess()
    assert world.box.counts() == {"ready": 1}
    assert world.notifier.drain().sent == 1
    assert world.metrics().scope == 5
    assert world.box.counts() == {}, "what was published need not be kept"


def test_figures_that_come_back_to_what_they_were_end_last(world: Others) -> None:
    for content in (item("1"), item("1", blocked=True, due_date="2026-03-02"), item("1")):
        world.tell(content)
        world.assess()
        world.notifier.drain()
    assert world.metrics().alerts["critical"].firing == 0
    assert world.metrics().assessed_at == world.now


def test_a_project_that_is_gone_is_measured_at_nothing(world: Others) -> None:
    world.assess()
    world.notifier.drain()
    assert world.metrics()
    world.tell((Thing(CONFIGURATION, "project", "apollo"), None))
    world.assess()
    world.assess()
    assert world.notifier.drain().sent == 1
    assert world.said(METRICS) == [None]
    world.configure()
    world.assess()
    world.notifier.drain()
    assert world.metrics().scope == 0


def test_a_project_that_is_not_read_yet_is_not_measured(world: Others) -> None:
    world.configure(mapping={"jira": {"APO": 1, "NEW": 2}})
    world.tell(item("1", due_date="2026-03-02"))
    world.tick(datetime.fromtimestamp(0, NOW.tzinfo))
    assert world.notifier.drain().tried == 0
    assert world.said(METRICS) == world.said(ALERTS) == []
    world.assess()
    world.notifier.drain()
    assert [each.container for each in world.metrics().unread] == ["NEW"]


@pytest.mark.parametrize("topics", [(), (METRICS,), (ALERTS,)], ids=["neither", "metrics", "alerts"])
def test_only_what_is_wanted_is_written(tmp_path: Path, store: Store, topics: tuple[str, ...]) -> None:
    world = Others(tmp_path, store, topics)
    with closing(world.bus):
        world.configure()
        world.tell(item("1", due_date="2026-03-02"))
        world.synced()
        world.assess()
        world.notifier.drain()
        assert tuple(topic for topic in BOTH if world.said(topic)) == topics


def test_a_tick_that_ended_in_the_middle_tells_once(world: Others) -> None:
    world.tell(item("1", due_date="2026-03-02"))
    world.aggregator.catch_up()
    world.crash = "assessed"
    with pytest.raises(Crash):
        world.aggregator.tick(world.now)
    assert world.box.counts() == {}
    world.aggregator = world.another()
    world.assess()
    world.assess()
    assert world.notifier.drain().sent == 2
    assert [each.n for each in world.transitions()] == [1]


# --- a log that is away, or refuses -----------------------------------------------------------------------------------


def test_a_log_that_is_away_is_waited_for_however_long(world: Others) -> None:
    world.tell(item("1", due_date="2026-03-02"), item("2", due_date="2026-03-02"))
    world.assess()
    world.refuse = away
    for _ in range(2 * len(RETRIES)):
        done = world.notifier.drain()
        assert (done.failed, done.dead, done.problem) == (3, 0, "the log is away")
        assert world.notifier.drain().tried == 0, "not before its time"
        world.now += WAITS[-1]
    world.tell(item("1", [(NOW + DAY, "status_category", "done")], due_date="2026-03-02"))
    world.assess(24)
    world.refuse = lambda *_: None
    done = world.notifier.drain()
    assert done.possible_duplicates == 3, "nobody knows whether the log has what it did not acknowledge"
    told = world.transitions()
    assert [(each.key, each.n) for each in told if each.key == "APO-1"] == [("APO-1", 1), ("APO-1", 2)]
    assert world.metrics().done == 1
    assert world.box.counts() == {}


def test_what_a_log_has_without_saying_so_comes_again_with_the_same_id(world: Others) -> None:
    def take_and_break(topic: str, records: Sequence[Record]) -> None:
        world.bus.publish(topic, records)
        raise BusUnavailable("no answer")

    world.tell(item("1", due_date="2026-03-02"))
    world.assess()
    world.refuse = take_and_break
    assert world.notifier.drain().failed == 2
    world.refuse = lambda *_: None
    world.now += WAITS[0]
    assert world.notifier.drain().possible_duplicates == 2
    one, again = world.said(ALERTS)
    assert one == again
    assert world.metrics().scope == 1


def test_what_no_log_takes_is_given_up_and_holds_up_nobody(world: Others) -> None:
    def small(topic: str, records: Sequence[Record]) -> None:
        if any(b"APO-1" in record.value for record in records):
            raise RecordTooLarge("too large")

    world.tell(*(item(str(n), due_date="2026-03-02") for n in range(3)))
    world.assess()
    world.refuse = small
    done = world.notifier.drain()
    assert (done.sent, done.dead) == (3, 1)
    assert sorted(str(each.key) for each in world.transitions()) == ["APO-0", "APO-2"]
    assert world.box.dead() == [("apollo", ALERTS, "too large")]


def test_a_run_is_one_publication(world: Others) -> None:
    calls: list[int] = []
    world.refuse = lambda topic, records: calls.append(len(records))
    world.tell(*(item(str(n), due_date="2026-03-02") for n in range(450)))
    world.assess()
    assert world.notifier.drain().sent == 451
    assert sorted(calls) == [1, 50, 200, 200]


@pytest.mark.parametrize("step", ["claimed", "delivered"])
def test_killed_between_publishing_and_noting_it(world: Others, step: str) -> None:
    """At most the run that was on its way comes twice, with the same ids; nothing is lost and nothing overtaken."""
    world.tell(*(item(str(n), due_date="2026-03-02") for n in range(3)))
    world.assess()
    world.crash = step
    with pytest.raises(Crash):
        world.another_notifier().drain()
    world.notifier = world.another_notifier("elsewhere/2/2")
    world.notifier.drain()
    world.now += CLAIM
    world.notifier.drain()
    ids = [each["id"] for each in world.said(ALERTS) if each]
    assert len(set(ids)) == 3
    assert ids in (ids[:3], ids[:3] * 2)
    assert world.metrics().scope == 3
    assert world.box.counts() == {}


def test_who_woke_too_late_takes_nothing_back(world: Others) -> None:
    """One notifier stands still in the middle; another one sends, and then the first one says that it failed."""
    world.tell(item("1", due_date="2026-03-02"))
    world.assess()
    slow = world.box.claim(Queue(TOPIC, ALERTS), "elsewhere/9/9", world.now, world.now + CLAIM, 10)
    assert len(slow) == 1
    world.now += CLAIM
    world.notifier.drain()
    world.box.failed(slow, "too late", world.now)
    assert world.box.counts() == {}
    assert len(world.transitions()) == 1


def test_the_topics_of_the_log_may_be_read_by_another_process(world: Others, tmp_path: Path) -> None:
    world.assess()
    world.notifier.drain()
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        other: Bus = bus
        (found,) = read_on(other, METRICS)
    assert found.key == "apollo"
