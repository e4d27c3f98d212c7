"""The aggregator on a real log and a real store: each event once in effect, each alert once, whatever comes twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pmsync.aggregator import Aggregator
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.letters import MOST_HEADERS, open_letters
from pmsync.bus.port import DEAD_LETTERS, EVENTS, BusUnavailable, Record, partition_of
from pmsync.bus.publisher import Publisher
from pmsync.core.events import (
    CONFIGURATION,
    Acknowledgement,
    Event,
    Fact,
    Promise,
    Snapshot,
    Synced,
    Thing,
    Tombstone,
    encode,
    version_at,
)
from pmsync.core.project import load
from pmsync.dead_letters import replay, show_letter
from pmsync.folding import BATCH
from pmsync.store.engine import Store
from pmsync.store.ledger import SqlLedger
from pmsync.store.outbox import Claimed, Outbox
from pmsync.store.state import Fenced, StateStore
from tests.unit.builders import JIRA, NOW, TRACEPARENT, Item, at, binary, item, project

pytestmark = pytest.mark.integration

APOLLO = partition_of("apollo", 8)
DAY = timedelta(days=1)


class Crash(Exception):
    """The process ended here."""


class World:
    """A log, a store and an aggregator, and short words for what happens to them."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.bus = EmbeddedBus(folder / "log.db")
        self.store = store
        self.state = StateStore(self.store)
        self.version = 0
        self.crash = ""
        self.aggregator = self.another()

    def another(self) -> Aggregator:
        aggregator = Aggregator(self.bus, self.state, "me", ("console", "mail"), self.step)
        aggregator.take(range(self.bus.partitions))
        return aggregator

    def step(self, name: str) -> None:
        if name == self.crash:
            self.crash = ""
            raise Crash

    def tell(self, *things: tuple[Thing, Any], key: str = "apollo") -> None:
        """Publish the present state of some things; None says that one is gone."""
        Publisher(self.bus).publish([self._event(key, thing, content) for thing, content in things])

    def _event(self, key: str, thing: Thing, content: Any) -> Event:
        self.version += 1
        if content is None:
            return Tombstone(project=key, thing=thing, version=self.version)
        return Snapshot(project=key, thing=thing, version=self.version, content=content)

    def configure(self, **values: Any) -> None:
        known = {"mapping": {JIRA: {"APO": 1}}, "leader": "person-1", **values}
        self.tell((Thing(CONFIGURATION, "project", "apollo"), project().model_copy(update=known)))

    def synced(self, container: str = "APO", since: int = 1) -> None:
        content = Synced(container=container, mapped={"apollo": since}, listed=0, published=0, dead=0)
        self.tell((Thing(JIRA, "synced", container), content))

    def tick(self, now: datetime = NOW) -> int:
        self.aggregator.catch_up()
        return self.aggregator.tick(now)

    def log(self) -> list[tuple[str, str, int]]:
        """(rule, state, n) of every line of the alert log, in order; the rule is empty where nothing is left of it."""
        return [(line.body.get("rule", ""), line.state, line.n) for line in self.state.alert_log("apollo")]

    def mails(self) -> list[Claimed]:
        """What waits to be sent by mail, oldest first; each once."""
        box, found = Outbox(self.store), list[Claimed]()
        for queue in box.due(NOW + 999 * DAY):
            run = box.claim(queue, "elsewhere/1/1", NOW + 999 * DAY, NOW + 1000 * DAY, 1000)
            box.sent(run)
            found += run
        return [each for each in found if each.channel == "mail"]

    def letters(self) -> list[dict[str, Any]]:
        return [
            json.loads(each.value)
            for n in range(self.bus.partitions)
            for each in self.bus.read(DEAD_LETTERS, n, 0, 100)
        ]


@pytest.fixture
def world(tmp_path: Path, store: Store) -> Iterator[World]:
    world = World(tmp_path, store)
    with closing(world.bus):
        yield world


@pytest.fixture
def late() -> Item:
    """An item that is overdue at NOW."""
    return item("1", due_date="2026-03-02")


@pytest.fixture
def running(world: World, late: Item) -> World:
    """A project that has been read whole and looked at once: one thing is overdue."""
    world.configure()
    world.tell(late)
    world.synced()
    assert world.tick() == 1
    return world


# --- folding ----------------------------------------------------------------------------------------------------------


def test_events_of_all_projects_are_folded_once(world: World) -> None:
    for key in ("apollo", "beacon", "cirrus"):
        world.tell(item("1"), item("2"), key=key)
    assert world.aggregator.catch_up() == 6
    assert world.aggregator.catch_up() == 0
    assert all(len(world.state.rows(key)) == 2 for key in ("apollo", "beacon", "cirrus"))
    assert sum(world.state.offsets().values()) == 6


def test_a_log_longer_than_a_batch(world: World) -> None:
    world.tell(*(item(str(n)) for n in range(BATCH + 7)))
    assert world.aggregator.catch_up() == BATCH + 7
    assert len(world.state.rows("apollo")) == BATCH + 7


@pytest.mark.parametrize("step", ["read", "folded", "committed"])
def test_ended_in_the_middle_and_begun_again(world: World, step: str) -> None:
    """Wherever a batch is broken off, the next owner folds it whole, or knows that it was."""
    world.tell(item("1"), item("2"))
    world.crash = step
    with pytest.raises(Crash):
        world.aggregator.catch_up()
    done = step == "committed"
    assert (len(world.state.rows("apollo")), world.state.offsets()[APOLLO]) == ((2, 2) if done else (0, 0))
    assert world.another().catch_up() == (0 if done else 2)
    assert (len(world.state.rows("apollo")), world.state.offsets()[APOLLO]) == (2, 2)


def test_offsets_below_the_saved_one_are_skipped(world: World) -> None:
    """A batch that comes again must not be folded again: here its first events would even win, were they looked at."""
    world.tell(item("1", title="first"))
    world.aggregator.catch_up()
    batch = list(world.bus.read(EVENTS, APOLLO, 0, 10))
    forged = batch[0]._replace(
        value=batch[0].value.replace(b'"version":1', b'"version":99').replace(b"first", b"again")
    )
    world.tell(item("2"))
    world.aggregator._apply(APOLLO, [forged, *world.bus.read(EVENTS, APOLLO, 1, 10)], 0)
    bodies = [row.body for row in world.state.rows("apollo").values()]
    assert len(bodies) == 2
    assert not any("again" in body for body in bodies)
    world.aggregator._apply(APOLLO, [forged], 0)
    assert world.state.offsets()[APOLLO] == 2, "the offset never goes back"


def test_a_zombie_changes_nothing(world: World) -> None:
    world.tell(item("1"))
    zombie = world.aggregator
    world.another()
    with pytest.raises(Fenced):
        zombie.catch_up()
    with pytest.raises(Fenced):
        zombie._apply(APOLLO, world.bus.read(EVENTS, APOLLO, 0, 10), 0)
    assert world.state.rows("apollo") == {}
    world.another().catch_up()
    with pytest.raises(Fenced):
        zombie.tick(NOW, patience=timedelta(0))


def test_what_cannot_be_decoded_is_a_dead_letter_and_the_partition_goes_on(world: World) -> None:
    garbage = b"\xff not JSON"
    later = encode(world._event("apollo", *item("9"))).replace(b"work_item.v1", b"work_item.v2")
    world.tell(item("1"))
    world.bus.publish(EVENTS, [Record("apollo", garbage), Record("apollo", later)])
    world.tell(item("2"))
    assert world.aggregator.catch_up() == 4
    assert {key.id for key in world.state.rows("apollo")} == {"1", "2"}
    found = world.letters()
    assert [letter["subject"] for letter in found] == [f"{APOLLO}/1", f"{APOLLO}/2"]
    assert all(letter["stage"] == "fold" and letter["reason"] for letter in found)
    assert "newer pmsync" in found[1]["reason"]
    assert world.aggregator.catch_up() == 0
    assert len(world.letters()) == 2


def test_an_event_in_binary_mode_is_folded_as_any_other(world: World) -> None:
    world.bus.publish(EVENTS, [Record("apollo", *binary(encode(world._event("apollo", *item("1")))))])
    world.aggregator.catch_up()
    assert {key.id for key in world.state.rows("apollo")} == {"1"}
    assert world.letters() == []


def test_a_dead_letter_keeps_headers_and_trace_and_is_replayed_with_them(world: World) -> None:
    value, headers = binary(encode(world._event("apollo", *item("1")), TRACEPARENT))
    headers = [(name, value.replace(b"v1", b"v2") if name == "ce_type" else value) for name, value in headers]
    world.bus.publish(EVENTS, [Record("apollo", value, headers)])
    with capture_logs() as logged:
        world.aggregator.catch_up()
    (letter,) = open_letters(world.bus)
    assert (letter.raw, list(letter.headers), letter.traceparent) == (value, headers, TRACEPARENT)
    said = [{name: each.get(name) for name in ("event", "letter", "place", "traceparent")} for each in logged]
    assert said == [{"event": "record.buried", "letter": letter.id, "place": f"{APOLLO}/0", "traceparent": TRACEPARENT}]
    shown = show_letter(letter)
    assert f"traceparent: {TRACEPARENT}\nheader content-type: application/json\n" in shown
    assert "header ce_type: pmsync.work_item.v2\n" in shown
    replay(world.bus, SqlLedger(world.store, lambda: NOW), [letter])
    (again,) = world.bus.read(EVENTS, APOLLO, 1, 10)
    assert (again.key, again.value, list(again.headers)) == ("apollo", value, headers)


def test_letters_from_before_headers_are_read(world: World) -> None:
    old = {"id": "1", "stage": "fold", "subject": "4/0", "reason": "why", "raw": "AP8="}
    world.bus.publish(DEAD_LETTERS, [Record("apollo", json.dumps(old).encode())])
    (letter,) = open_letters(world.bus)
    assert (letter.key, letter.raw, letter.headers, letter.traceparent) == ("apollo", b"\x00\xff", (), None)


def test_equal_bytes_with_other_headers_are_another_letter(world: World) -> None:
    """In binary mode it is another event. A content type makes none: one log gives records their own, the other none."""
    for headers in ((), [("content-type", b"application/cloudevents+json")], [("ce_id", b"1")], [("ce_id", b"2")]):
        world.bus.publish(EVENTS, [Record("apollo", b"{}", headers)])
    world.aggregator.catch_up()
    assert len(open_letters(world.bus)) == 3


def test_headers_that_no_record_holds_are_cut(world: World) -> None:
    world.bus.publish(
        EVENTS, [Record("apollo", b"", [("x", b"1"), ("y", b"y" * MOST_HEADERS), ("content-type", b"2")])]
    )
    world.aggregator.catch_up()
    (letter,) = open_letters(world.bus)
    assert letter.headers == (("x", b"1"),)
    assert letter.reason.endswith("(of 3 headers 1 are kept)")


def test_an_event_in_the_wrong_partition_is_refused_and_replayed_into_the_right_one(world: World) -> None:
    """Its project is another worker's; two owners of one row would undo each other."""
    told = encode(world._event("apollo", *item("1")))
    stray = next(key for key in map(str, range(99)) if partition_of(key, 8) != APOLLO)
    world.bus.publish(EVENTS, [Record(stray, told)])
    world.aggregator.catch_up()
    assert world.state.rows("apollo") == {}
    (letter,) = open_letters(world.bus)
    assert f"an event of apollo belongs in partition {APOLLO}, not in {partition_of(stray, 8)}" in letter.reason
    replay(world.bus, SqlLedger(world.store, lambda: NOW), [letter])
    world.aggregator.catch_up()
    assert {key.id for key in world.state.rows("apollo")} == {"1"}
    assert open_letters(world.bus) == []


def test_what_a_tick_tells_is_linked_to_the_newest_read(running: World) -> None:
    def tell(ident: str, traceparent: str | None) -> None:
        told = running._event("apollo", *item(ident, due_date="2026-03-02"))
        running.bus.publish(EVENTS, [Record("apollo", encode(told, traceparent))])

    tell("2", TRACEPARENT.replace("4bf9", "aaaa"))
    tell("3", TRACEPARENT)
    tell("4", None)
    assert assessments(running, NOW) == [("apollo", 3, 2, TRACEPARENT)]
    tell("5", None)
    assert assessments(running, NOW) == [("apollo", 1, 2, None)], "a trace is told of once"


def assessments(world: World, now: datetime) -> list[tuple[str, int, int, str | None]]:
    """What the log says of a tick: project, transitions, messages, trace."""
    structlog.reset_defaults()  # a command that ran before may have left debugging out
    structlog.contextvars.clear_contextvars()
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logged:
        world.tick(now)
    return [
        (each["project"], each["transitions"], each["messages"], each.get("traceparent"))
        for each in logged
        if each["event"] == "project.assessed"
    ]


def garbage(*dead: bool) -> list[Record]:
    """Records of Apollo's, of which some cannot be decoded."""
    good = encode(Tombstone(project="apollo", thing=Thing(JIRA, "milestone", "none"), version=1))
    return [Record("apollo", b"garbage %d" % n if each else good) for n, each in enumerate(dead)]


def test_a_partition_stops_at_a_hundred_dead_records_in_a_row(world: World) -> None:
    world.bus.publish(EVENTS, garbage(*[True] * 99, False, *[True] * 101, False))
    assert world.aggregator.catch_up() == 200
    assert world.aggregator.stopped[APOLLO].startswith(
        f"partition {APOLLO} stands still at offset 200: 100 records in a row cannot be decoded. "
    )
    assert len(world.letters()) == 100, "the first page of those that were buried"
    assert world.aggregator.catch_up() == 0, "it stands still"
    assert world.aggregator.tick(NOW) == 0, "and nothing of it is assessed"
    again = world.another()
    assert again.catch_up() == 2, "started again it goes on"
    assert again.stopped == {}


def test_a_partition_stops_where_one_record_in_twenty_is_dead(world: World) -> None:
    world.bus.publish(EVENTS, garbage(*(n % 10 == 0 for n in range(2000))))
    assert world.aggregator.catch_up() == 1001
    assert "100 of its last 1000 records cannot be decoded" in world.aggregator.stopped[APOLLO]


def test_a_few_dead_records_stop_nothing(world: World) -> None:
    world.bus.publish(EVENTS, garbage(*(n % 25 == 0 for n in range(3000))))
    assert world.aggregator.catch_up() == 3000
    assert world.aggregator.stopped == {}


def test_a_dead_letter_is_written_before_its_offset_is_passed(world: World) -> None:
    world.bus.publish(EVENTS, [Record("apollo", b"garbage")])
    world.crash = "buried"
    with pytest.raises(Crash):
        world.aggregator.catch_up()
    assert world.state.offsets()[APOLLO] == 0
    assert len(world.letters()) == 1
    world.another().catch_up()
    assert len(world.letters()) == 2
    assert len({letter["id"] for letter in world.letters()}) == 1, "the same letter has the same id"


def test_a_log_that_was_replaced_is_refused(world: World, tmp_path: Path) -> None:
    world.tell(item("1"))
    world.aggregator.catch_up()
    with closing(EmbeddedBus(tmp_path / "new.db")) as empty:
        stranger = Aggregator(empty, world.state, "me")
        with pytest.raises(BusUnavailable, match=r"ends at 0 .* read it up to 1: the log was lost or replaced"):
            stranger.take(range(8))


# --- assessing --------------------------------------------------------------------------------------------------------


def test_nothing_is_assessed_before_it_has_been_read_whole(world: World, late: Item) -> None:
    world.configure()
    world.tell(late)
    assert world.tick() == 0
    assert world.mails() == []
    world.synced()
    assert world.tick() == 1
    assert world.log() == [("overdue", "firing", 1)]


def test_a_new_project_waits_for_all_its_containers_but_not_for_ever(world: World, late: Item) -> None:
    begun = version_at(NOW)
    world.configure(mapping={JIRA: {"APO": begun, "BEA": begun}})
    world.tell(late)
    world.synced("APO", begun)
    assert world.tick(NOW + timedelta(minutes=5)) == 0
    assert world.mails() == []
    assert world.tick(NOW + timedelta(minutes=20)) == 1
    world.synced("BEA", begun)
    assert world.tick(NOW + timedelta(minutes=21)) == 0
    assert len(world.mails()) == 1


def test_half_a_log_is_no_picture(world: World, late: Item) -> None:
    """A tick leaves a partition alone that has not caught up."""
    world.configure()
    world.synced()
    world.tell(late)
    world.aggregator.catch_up()
    world.tell(item("1", [(NOW - DAY, "status_category", "done")], due_date="2026-03-20"))
    assert world.aggregator.tick(NOW) == 0
    assert world.log() == []
    world.tick()
    assert "overdue" not in {rule for rule, _, _ in world.log()}


def test_a_backlog_is_folded_before_anything_is_assessed_for_a_minute(world: World, late: Item) -> None:
    world.configure()
    world.tell(late)
    world.synced()
    world.aggregator.catch_up()
    beacon = partition_of("beacon", 8)
    assert beacon != APOLLO
    world.tell(item("1"), key="beacon")
    assert world.aggregator.tick(NOW) == 0, "beacon's partition is behind"
    assert world.aggregator.tick(NOW + timedelta(seconds=59)) == 0
    assert world.aggregator.tick(NOW + timedelta(seconds=60)) == 1
    assert world.aggregator.is_behind
    world.aggregator.catch_up()
    assert not world.aggregator.is_behind, "as soon as it is folded, not only at the next tick"


def test_a_partition_that_stands_still_keeps_nobody_waiting(world: World, late: Item) -> None:
    world.configure()
    world.tell(late)
    world.synced()
    world.bus.publish(EVENTS, [record._replace(key="beacon") for record in garbage(*[True] * 101)])
    world.aggregator.catch_up()
    assert world.aggregator.stopped
    assert world.aggregator.tick(NOW) == 1


def test_the_first_assessment_is_one_summary(world: World) -> None:
    world.configure()
    world.tell(*(item(str(n), due_date="2026-03-02") for n in range(30)))
    world.synced()
    assert world.tick() == 30
    (mail,) = world.mails()
    assert "This is the first look: 30 items overdue" in mail.text
    assert mail.recipient == "person-1"


def test_a_first_look_that_finds_nothing_says_so_once(world: World) -> None:
    world.configure()
    world.synced()
    assert [world.tick(), world.tick(NOW + DAY)] == [0, 0]
    (mail,) = world.mails()
    assert "nothing is wrong" in mail.text


def test_a_source_that_cannot_be_read_gives_no_all_clear(world: World) -> None:
    world.configure(mapping={JIRA: {"APO": 1, "BEA": 1}})
    world.synced()
    world.aggregator.catch_up()
    world.aggregator.tick(NOW, timedelta(0))
    (mail,) = world.mails()
    assert "Not read: BEA in jira." in mail.text
    assert "nothing is wrong" not in mail.subject + mail.text


def test_a_container_that_comes_later_makes_no_second_first_look(world: World, late: Item) -> None:
    """What was resolved meanwhile is told, and what goes on being wrong is not called well."""
    world.configure(mapping={JIRA: {"APO": 1, "BEA": 1}})
    world.tell(late, item("2", due_date="2026-03-02"))
    world.synced()
    assert world.tick() == 2
    world.tell(item("2", [(NOW, "status_category", "done")], due_date="2026-03-02"))
    world.synced("BEA")
    assert world.tick(NOW + timedelta(minutes=1)) == 1
    first, second = world.mails()
    assert "This is the first look" in first.text
    assert "first look" not in second.text
    assert "nothing is wrong" not in second.text
    assert "Resolved" in second.text


def test_a_project_that_reads_nothing_is_told_of_its_own_dates(world: World) -> None:
    world.configure(
        mapping={},
        deadline=(NOW + DAY).date(),
        milestones=(Promise(key="m", title="Fair", due_date=(NOW + DAY).date()),),
    )
    assert world.tick() == 1
    assert world.log() == [("milestone_near", "firing", 1)]
    assert world.tick(NOW + timedelta(minutes=1)) == 0
    assert len(world.mails()) == 1


def test_dates_are_told_though_no_source_answers(world: World) -> None:
    world.configure(milestones=(Promise(key="m", title="Fair", due_date=(NOW + DAY).date()),))
    assert world.tick() == 1, "mapped long ago, and never read"
    world.configure(mapping={JIRA: {"APO": 1}})
    assert world.mails()


def test_nothing_is_told_twice(running: World, late: Item) -> None:
    """Not by another tick, nor by a repeat of the events, nor by another owner, nor when the item changes otherwise."""
    assert running.tick(NOW + timedelta(hours=2)) == 0
    running.tell(late)
    assert running.tick(NOW + timedelta(hours=3)) == 0
    running.tell(item("1", due_date="2026-03-02", title="Another title"))
    running.aggregator = running.another()
    assert running.tick(NOW + timedelta(hours=4)) == 0
    assert len(running.mails()) == 1
    assert len(running.log()) == 1


def test_a_tick_that_ended_in_the_middle_tells_once(world: World, late: Item) -> None:
    world.configure()
    world.tell(late)
    world.synced()
    world.aggregator.catch_up()
    world.crash = "assessed"
    with pytest.raises(Crash):
        world.aggregator.tick(NOW)
    assert world.log() == []
    assert Outbox(world.store).counts() == {}
    world.aggregator = world.another()
    assert world.tick() == 1
    assert len(world.mails()) == 1


def test_what_is_folded_while_it_thinks_is_assessed_next(running: World) -> None:
    """Thinking holds no lock, so that another thread may fold meanwhile."""

    def step(name: str) -> None:
        if name == "compared" and news:
            running.tell(news.pop())
            running.aggregator.catch_up()

    news = [item("2", due_date="2026-03-02")]
    running.aggregator._step = step
    running.tell(item("3"))
    assert running.tick(NOW + timedelta(minutes=1)) == 0
    assert news == []
    assert running.tick(NOW + timedelta(minutes=2)) == 1
    assert [state for _, state, _ in running.log()] == ["firing", "firing"]


def test_what_another_thread_leaves_is_dropped_and_taken_anew(world: World, late: Item) -> None:
    """Whoever thinks finds out that the partition is lost; whoever folds may be in the middle of it."""
    world.bus.join()
    world.configure()
    world.tell(late)
    world.synced()
    world.aggregator.catch_up()
    world.another()
    with pytest.raises(Fenced) as fenced:
        world.aggregator.tick(NOW)
    world.aggregator.leave(fenced.value.partition, fenced.value.epoch)
    world.aggregator.leave(APOLLO, -1)  # of an earlier epoch: it was taken anew since
    assert fenced.value.partition in world.aggregator.partitions, "not while it is folded"
    taken, _ = world.aggregator.follow()
    assert taken == {fenced.value.partition}


def test_what_was_thought_before_the_partition_was_lost_is_not_told(world: World, late: Item) -> None:
    def step(name: str) -> None:
        if name == "compared":
            world.another()

    world.configure()
    world.tell(late)
    world.synced()
    world.aggregator.catch_up()
    world.aggregator._step = step
    with pytest.raises(Fenced):
        world.aggregator.tick(NOW)
    assert (world.log(), Outbox(world.store).counts()) == ([], {})


def test_a_tick_that_ended_in_the_middle_does_not_let_the_next_one_go_back(world: World, late: Item) -> None:
    world.configure()
    world.tell(late)
    world.synced()
    world.aggregator.catch_up()
    world.crash = "assessed"
    with pytest.raises(Crash):
        world.aggregator.tick(NOW)
    world.aggregator = world.another()
    assert world.aggregator.tick(NOW - 40 * DAY) == 1, "as at the instant of the broken one"
    (line,) = world.state.alert_log("apollo")
    assert line.at == NOW


def test_what_is_mended_is_told_once_and_what_breaks_again_begins_anew(running: World) -> None:
    done = (NOW + DAY, "status_category", "done")
    again = (NOW + 2 * DAY, "status_category", "in_progress")
    running.tell(item("1", [done], due_date="2026-03-02"))
    assert running.tick(NOW + DAY) == 1
    assert running.tick(NOW + DAY) == 0
    running.tell(item("1", [done, again], due_date="2026-03-02"))
    assert running.tick(NOW + 2 * DAY) == 1
    assert running.log() == [("overdue", "firing", 1), ("overdue", "resolved", 2), ("overdue", "firing", 3)]
    assert len(running.mails()) == 3


def test_time_alone_makes_a_rule_true(world: World) -> None:
    world.configure()
    world.tell(item("1", due_date="2026-03-17"))
    world.synced()
    world.tick(at("2026-02-02"))
    seen = {rule for rule, _, _ in world.log()}
    assert "overdue" not in seen
    assert world.aggregator.tick(at("2026-03-17", 23, 59)) > 0, "near by now"
    assert "overdue" not in {rule for rule, _, _ in world.log()}
    assert world.aggregator.tick(at("2026-03-18", 0, 1)) > 0
    assert ("overdue", "firing", 1) in world.log()


def test_a_local_day_ends_before_the_hour_is_over(world: World) -> None:
    """The next look is due at the end of the project's own day, not only an hour later."""
    world.configure(time_zone="Asia/Kathmandu")  # UTC+05:45
    world.tell(item("1", due_date="2026-03-16"))
    world.synced()
    world.tick(at("2026-03-16", 18, 10))
    assert "overdue" not in {rule for rule, _, _ in world.log()}
    world.aggregator.tick(at("2026-03-16", 18, 15))
    assert ("overdue", "firing", 1) in world.log()


def test_the_instant_of_a_tick_never_runs_back(world: World) -> None:
    world.configure()
    world.tell(item("1", due_date="2026-03-17"))
    world.synced()
    world.tick(at("2026-03-18"))
    lines = world.log()
    world.tell(item("1", due_date="2026-03-17", title="Touched"))
    world.tick(at("2026-03-10"))
    assert world.log() == lines, "a clock that was set back does not mend what is late"
    with world.state.owned(APOLLO, world.state.take(APOLLO, "me")) as owned:
        assert owned.ticked_at == at("2026-03-18")


def test_an_answer_is_logged_once(running: World) -> None:
    (line,) = running.state.alert_log("apollo")
    content = Acknowledgement(fingerprint=line.fingerprint, by="person-1", note="mine")
    Publisher(running.bus).publish([Fact(project="apollo", id="f1", at=NOW + DAY, content=content)] * 2)
    assert running.tick(NOW + DAY) == 1
    assert running.tick(NOW + 2 * DAY) == 0
    assert running.log() == [("overdue", "firing", 1), ("overdue", "acknowledged", 2)]


def test_what_goes_away_at_its_source_is_resolved(running: World, late: Item) -> None:
    running.tell((late[0], None))
    assert running.tick(NOW + DAY) == 1
    assert running.log()[1:] == [("", "resolved", 2)]


def test_a_removed_project_is_silent_and_not_shown(running: World) -> None:
    running.tell((Thing(CONFIGURATION, "project", "apollo"), None))
    assert running.tick(NOW + DAY) == 0
    assert list(running.state.projects()) == []
    assert load(running.state.rows("apollo")) is None
    assert len(running.log()) == 1
    assert running.aggregator.tick(NOW + 30 * DAY) == 0


def test_people_are_told_by_the_channels_that_there_are(world: World, late: Item) -> None:
    world.configure(notify=("person-2", "person-1"))
    world.tell(late)
    world.synced()
    world.tick()
    box = Outbox(world.store)
    assert sorted(box.due(NOW)) == [("console", "console"), ("mail", "person-1"), ("mail", "person-2")]
    assert [len(box.claim(queue, "elsewhere/1/1", NOW, NOW + DAY, 10)) for queue in box.due(NOW)] == [1, 1, 1]
