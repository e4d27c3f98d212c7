"""The store: migrations, the fence, what is saved together, and the outbox."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import and_, event, inspect, select, text

from connectors.pump import LeaseLost
from pmsync.core.events import Project
from pmsync.core.project import Key, Row
from pmsync.owners import owner
from pmsync.store import engine
from pmsync.store.configuration import ConfigurationStore
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.freshness import Freshness
from pmsync.store.ledger import SqlLedger
from pmsync.store.outbox import Claimed, Outbox, Queue
from pmsync.store.state import Fenced, Letter, LogEntry, StateStore
from pmsync.store.tables import WAITING, metadata, outbox, partitions, state

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY, ROW = Key("apollo", "jira", "work_item", "1", 0), Row(5, False, "{}")
LETTER = Letter("l1", "apollo", "mail", "ada", "Subject", "Text")


class Broken(Exception):
    """The process fails here."""


@pytest.fixture
def states(store: Store) -> StateStore:
    return StateStore(store)


def contents(store: Store) -> dict[str, list[tuple[object, ...]]]:
    """Everything in every table."""
    with store.read() as db:
        return {
            table.name: sorted((tuple(row) for row in db.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


# --- migrations -------------------------------------------------------------------------------------------------------


def test_migrations_build_the_tables_that_the_code_knows(store: Store) -> None:
    with store.read() as db:
        assert compare_metadata(MigrationContext.configure(db), metadata) == []


def test_the_newest_migration_is_the_one_head(store: Store) -> None:
    config = Config()
    config.set_main_option("script_location", str(engine.MIGRATIONS))
    heads = ScriptDirectory.from_config(config).get_heads()
    with store.read() as db:
        assert [engine._head()] == list(heads) == list(MigrationContext.configure(db).get_current_heads())
    assert store.schema_problem() is None


def test_migrating_again_changes_nothing(store: Store, states: StateStore) -> None:
    states.take(0, "me")
    before = contents(store)
    store.migrate()
    assert contents(store) == before


def test_a_database_without_tables_is_said(empty_url: str) -> None:
    with closing(Store(empty_url)) as store:
        assert "the database is at revision none" in str(store.schema_problem())


def test_processes_migrate_at_once(empty_url: str) -> None:
    words = "import sys; from pmsync.store.engine import Store; s = Store(sys.argv[1]); s.migrate(); s.close()"
    command = [sys.executable, "-W", "error", "-c", words, empty_url]
    racers = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    said = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0] * 8, said
    with closing(Store(empty_url)) as store:
        assert store.schema_problem() is None


def test_a_migration_that_fails_leaves_nothing_behind(empty_url: str) -> None:
    with closing(Store(empty_url)) as store:
        with store.write() as db:
            db.execute(text("CREATE TABLE people (in_the_way INTEGER)"))
        with pytest.raises(StoreUnavailable, match="people"):
            store.migrate()
        with store.read() as db:
            assert inspect(db).get_table_names() == ["people"]
        with store.write() as db:
            db.execute(text("DROP TABLE people"))
        store.migrate()
        assert store.schema_problem() is None


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("nonsense", "store.url is not usable"),
        ("mysql://localhost/x", "use sqlite:///FILE or postgresql"),
        ("postgresql+psycopg2://localhost/x", "use sqlite:///FILE or postgresql"),
        ("sqlite:////no/such/folder/pmsync.db", "is store.url right, and the place writable"),
    ],
)
def test_an_unusable_database_is_said_with_advice(bad: str, words: str) -> None:
    with pytest.raises(StoreUnavailable, match=words):
        Store(bad).migrate()


def test_no_database(tmp_path: Path) -> None:
    path = tmp_path / "pmsync.db"
    path.write_text("nothing of SQLite's" * 100)
    with closing(Store(f"sqlite:///{path}")) as store, pytest.raises(StoreUnavailable, match="not a database"):
        store.migrate()


def test_a_database_of_a_newer_pmsync_is_refused_at_the_start(store: Store) -> None:
    with store.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "the database is at revision 9999, newer than" in str(store.schema_problem())
    with pytest.raises(StoreUnavailable, match="run the pmsync that migrated it, or restore the backup"):
        store.migrate()


def test_who_runs_already_goes_on_while_a_newer_pmsync_adds_to_the_tables(states: StateStore, store: Store) -> None:
    """Migrations only add, so that replicas can be replaced one by one."""
    epoch = states.take(0, "me")
    with store.write() as db:
        for table in metadata.sorted_tables:
            db.execute(text(f"ALTER TABLE {table.name} ADD COLUMN newer INTEGER NOT NULL DEFAULT 0"))
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with states.owned(0, epoch) as owned:
        owned.save({KEY: ROW}, 7)
        owned.log("apollo", [LogEntry("f", 1, NOW, "firing", NOW, {})], [LETTER], NOW)
    assert states.look("apollo").rows == {KEY: ROW}
    assert states.take(0, "me") == epoch + 1
    assert claimed(Outbox(store)).id == "l1"
    assert [line.fingerprint for line in states.alert_log("apollo")] == ["f"]


def test_a_source_is_stale_once_it_was_not_read_for_too_long(store: Store) -> None:
    freshness = Freshness(store, ["jira", "gh", "never"], timedelta(minutes=10))
    freshness.read("jira", NOW - timedelta(hours=1))
    freshness.read("jira", NOW - timedelta(minutes=10))
    freshness.read("gh", NOW - timedelta(minutes=11))
    freshness.read("of-before", NOW - timedelta(days=9))
    assert freshness.known() == {"jira": NOW - timedelta(minutes=10), "gh": NOW - timedelta(minutes=11)}
    assert freshness.stale(NOW) == {"gh": NOW - timedelta(minutes=11)}


def test_what_is_wrong_with_a_source_is_known_until_it_is_read(store: Store) -> None:
    freshness = Freshness(store, ["jira", "gh"], timedelta(minutes=10))
    freshness.failed("jira", NOW, "retryable", "it is busy")
    freshness.failed("jira", NOW + timedelta(hours=1), "fatal", "check the token; secrets are in «auth» 日本")
    freshness.failed("of-before", NOW, "fatal", "it is gone")
    assert freshness.troubles() == {"jira": (NOW, 2, "fatal", "check the token; secrets are in «auth» 日本")}
    freshness.read("gh", NOW)
    assert freshness.troubles().keys() == {"jira"}
    freshness.read("jira", NOW)
    assert freshness.troubles() == {}
    freshness.failed("jira", NOW, "retryable", "again")
    assert freshness.troubles() == {"jira": (NOW, 1, "retryable", "again")}


def test_who_runs_is_content_with_newer_tables_but_not_with_older_ones(store: Store) -> None:
    with store.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert store.schema_problem(running=True) is None
    with store.write() as db:
        db.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    assert "this pmsync needs" in str(store.schema_problem(running=True))


# --- what both databases do alike -------------------------------------------------------------------------------------

ODD = ("a\0b", "a\x1b0b", "a\x1b1", "\x1b", "\0", "é", "e\u0301", " ", "%_'\"\\", "\U0001f4c5")
"""Text as sources may have it, and what would be mistaken for another one if it were kept carelessly."""
ORDER = sorted(["a", "B", "_", "é", "z", "a b", "ab", "a-c", "Ä", "\U0001f4c5", "\uffee"], key=str.encode)


def test_every_text_comes_back_as_it_was(states: StateStore, store: Store) -> None:
    rows = {Key(odd, odd, odd, odd, 0): Row(1, False, odd) for odd in ODD}
    with states.owned(0, states.take(0, "me")) as owned:
        owned.save(rows, 1)
        for odd in ODD:
            owned.log(odd, [LogEntry(odd, 1, NOW, odd, NOW, {odd: odd})], [Letter(odd, odd, odd, odd, odd, odd)], NOW)
    assert all(states.look(odd).rows == {Key(odd, odd, odd, odd, 0): Row(1, False, odd)} for odd in ODD)
    assert [states.alert_log(odd)[0].body for odd in ODD] == [{odd: odd} for odd in ODD]
    box = Outbox(store)
    found = {claimed(box) for _ in ODD}
    assert {(each.id, each.recipient, each.subject, each.text) for each in found} == {(odd,) * 4 for odd in ODD}
    box.failed([each for each in found if each.id == "\0"], "\0", None)
    assert box.dead() == [("\0", "\0", "\0")]


def test_text_is_put_in_order_by_its_bytes(states: StateStore, store: Store) -> None:
    with states.owned(0, states.take(0, "me")) as owned:
        owned.save({KEY._replace(project=name): ROW for name in reversed(ORDER)}, 1)
        assert owned.due(NOW) == ORDER
        owned.log("apollo", [LogEntry(name, 1, NOW, "firing", NOW, {}) for name in reversed(ORDER)], [], NOW)
        owned.log("apollo", [], [replace(LETTER, id=name) for name in reversed(ORDER)], NOW)
    assert [line.fingerprint for line in states.alert_log("apollo")] == ORDER
    box, told = Outbox(store), []
    while found := claim(box):
        told.append(found.id)
        box.sent([found])
    assert told == ORDER


def test_time_is_the_database_s(store: Store) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert before < store.now() < datetime.now(UTC) + timedelta(seconds=1)
    assert store.now() <= store.now()


def test_a_read_sees_one_moment(states: StateStore, store: Store) -> None:
    epoch = states.take(0, "me")
    query = select(partitions.c.next_offset)
    with store.read() as db:
        assert db.scalar(query) == 0
        with states.owned(0, epoch) as owned:
            owned.save({KEY: ROW}, 7)
        assert (db.scalar(query), db.execute(select(state)).all()) == (0, [])
    assert states.offsets() == {0: 7}


# --- several at once --------------------------------------------------------------------------------------------------

SECONDS = 60.0
ROUNDS = 12
"""How often they meet: a race that a guard is missing for is lost in most of the rounds."""


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each of them returned, all begun at the same moment; a `LeaseLost` is an answer, too."""
    start = threading.Barrier(len(works), timeout=30)

    def one(work: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return work()
        except LeaseLost as lost:
            return lost

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(one, works))


def test_who_takes_a_partition_at_once_gets_an_epoch_each(states: StateStore) -> None:
    for n in range(ROUNDS):
        epochs = at_once([partial(states.take, n, name) for name in "abcd"])
        assert sorted(epochs) == [1, 2, 3, 4]
        assert [epoch for epoch in epochs if _owns(states, n, epoch)] == [4]


def _owns(states: StateStore, partition: int, epoch: int) -> bool:
    with suppress(Fenced), states.owned(partition, epoch):
        return True
    return False


@pytest.mark.parametrize("first", [True, False], ids=["never read before", "its lease ran out"])
def test_one_of_many_readers_gets_the_lease(store: Store, first: bool) -> None:
    for n in range(ROUNDS):
        source = f"source-{n}"
        if not first:
            SqlLedger(store, lambda: NOW - 10 * MINUTE).lease(source, "before")
        ledger = SqlLedger(store, lambda: NOW)
        found = at_once([partial(ledger.lease, source, name) for name in "abcd"])
        assert [each for each in found if isinstance(each, int)] == [1 if first else 2]
        assert sum(isinstance(each, LeaseLost) for each in found) == 3


def test_an_address_gets_one_person_id_whoever_asks_first(store: Store) -> None:
    people = ConfigurationStore(store)
    for n in range(ROUNDS):
        mails = [f"{name}-{n}@example.com" for name in ("ada", "bo", "cy")]
        found = at_once([partial(people.person_ids, mails)] * 4)
        assert all(each == found[0] for each in found)
        assert people.known_person_ids(mails) == found[0]


def test_one_of_several_configurations_is_applied_whole(store: Store) -> None:
    configured = ConfigurationStore(store)
    several = [
        {key: Project(key=key, name=name) for key in keys}
        for name, keys in (("one", ["a", "b", "c"]), ("two", ["c", "d"]), ("three", ["d", "e", "a"]))
    ]
    for n in range(ROUNDS):
        at_once([partial(configured.save, projects, n) for projects in several])
        assert configured.projects() in several


def test_notifiers_at_once_keep_each_recipients_order(states: StateStore, store: Store) -> None:
    letters = [replace(LETTER, id=f"{to}-{n:02}", recipient=to) for n in range(8) for to in ("ada", "bo", "cy")]
    post(states, *letters)
    told: list[str] = []

    def drain(n: int) -> None:
        box = Outbox(store)
        deadline = time.monotonic() + SECONDS
        while box.counts().keys() - {"sent"}:
            assert time.monotonic() < deadline, "some are held by nobody"
            if message := claim(box, who=f"elsewhere/{n}/1"):
                told.append(message.id)
                box.sent([message])

    at_once([partial(drain, n) for n in range(3)])
    assert sorted(told) == sorted(letter.id for letter in letters), "each once"
    for to in ("ada", "bo", "cy"):
        mine = [ident for ident in told if ident.startswith(to)]
        assert mine == sorted(mine)


# --- one transaction, one owner ---------------------------------------------------------------------------------------


def test_taking_a_partition_ends_its_owner(store: Store, states: StateStore) -> None:
    old = states.take(0, "me")
    with states.owned(0, old) as owned:
        owned.save({KEY: ROW}, 7)
        owned.ticked(NOW)
    new = states.take(0, "other")
    assert new > old
    before = contents(store)
    with pytest.raises(Fenced, match="partition 0"), states.owned(0, old) as owned:
        owned.save({KEY: Row(9, False, "{}")}, 8)
    assert contents(store) == before
    with states.owned(0, new) as owned:
        assert (owned.next_offset, owned.ticked_at) == (7, NOW)


def test_partitions_are_fenced_apart(states: StateStore) -> None:
    epoch = states.take(0, "me")
    for _ in range(3):
        states.take(1, "other")
    with states.owned(0, epoch) as owned:
        owned.save({}, 1)
    assert states.offsets() == {0: 1, 1: 0}


def test_a_partition_that_nobody_took_is_nobodys(states: StateStore) -> None:
    with pytest.raises(Fenced), states.owned(3, 0):
        pass


def test_rows_and_offset_are_saved_together_or_not_at_all(store: Store, states: StateStore) -> None:
    epoch = states.take(0, "me")
    before = contents(store)
    with suppress(Broken), states.owned(0, epoch) as owned:
        owned.save({KEY: ROW}, 7)
        raise Broken
    assert contents(store) == before
    with states.owned(0, epoch) as owned:
        owned.save({KEY: ROW}, 7)
    assert states.rows("apollo") == {KEY: ROW}
    assert states.offsets() == {0: 7}


def test_alert_log_and_outbox_are_saved_together_or_not_at_all(store: Store, states: StateStore) -> None:
    epoch = states.take(0, "me")
    line = LogEntry("f", 1, NOW, "firing", NOW, {"why": "é"})
    before = contents(store)
    with suppress(Broken), states.owned(0, epoch) as owned:
        owned.log("apollo", [line], [LETTER], NOW)
        raise Broken
    assert contents(store) == before
    with states.owned(0, epoch) as owned:
        owned.log("apollo", [line], [LETTER], NOW)
    assert states.look("apollo").logged["f"][:2] == (1, "firing")
    assert states.alert_log("apollo") == [line]
    assert Outbox(store).counts() == {"ready": 1}


def test_one_transition_cannot_be_written_twice(states: StateStore) -> None:
    epoch = states.take(0, "me")
    line = LogEntry("f", 1, NOW, "firing", NOW, {})
    with states.owned(0, epoch) as owned:
        owned.log("apollo", [line], [], NOW)
    with pytest.raises(StoreUnavailable, match=r"(?i)unique"), states.owned(0, epoch) as owned:
        owned.log("apollo", [replace(line, state="resolved")], [], NOW)


def test_the_last_line_of_an_alert_is_the_one_that_counts(states: StateStore) -> None:
    epoch = states.take(0, "me")
    lines = [LogEntry("f", n, NOW, f"state {n}", NOW + n * MINUTE, {}) for n in (1, 2, 10)]
    with states.owned(0, epoch) as owned:
        owned.log("apollo", lines, [], NOW)
        owned.log("beacon", [LogEntry("f", 11, NOW, "other", NOW, {})], [], NOW)
    assert states.look("apollo").logged == {"f": (10, "state 10", NOW + 10 * MINUTE)}


def test_more_rows_than_a_statement_holds(states: StateStore) -> None:
    epoch = states.take(0, "me")
    many = {Key("apollo", "jira", "work_item", str(n), 0): Row(n, n % 2 == 0, "{}") for n in range(1203)}
    with states.owned(0, epoch) as owned:
        owned.save(many, 1)
    assert states.rows("apollo") == many


few = st.sampled_from(["apollo", "beacon", "\0"])
some_keys = st.builds(Key, few, few, st.just("work_item"), few, st.just(0))
some_rows = st.builds(Row, st.integers(1, 2), st.booleans(), st.sampled_from(["", "{}", '"é"', '"\U0001f4c5"']))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.dictionaries(some_keys, some_rows, max_size=6), max_size=6))
def test_of_each_row_the_greatest_is_kept(states: StateStore, batches: list[dict[Key, Row]]) -> None:
    """As Python orders rows, whatever the batches; what changes no row makes nothing dirty, so that nothing is assessed
    for a repeat."""
    kept: dict[Key, Row] = {}
    with suppress(Broken), states.owned(0, states.take(0, "me")) as owned:
        for n, batch in enumerate(batches):
            changed = {key.project for key, row in batch.items() if key not in kept or row > kept[key]}
            kept |= {key: max(row, kept.get(key, row)) for key, row in batch.items()}
            owned.save(batch, n)
            assert set(owned.due(NOW)) == changed
            for name in changed:
                owned.assessed(name, None, NOW + MINUTE, n)
        assert {Key(*row[:5]): Row(*row[5:]) for row in owned._db.execute(select(state))} == kept
        raise Broken


def test_what_is_due(states: StateStore) -> None:
    first, other = states.take(0, "me"), states.take(1, "me")
    with states.owned(0, first) as owned:
        owned.save({KEY: ROW, KEY._replace(project="beacon"): ROW}, 1)
        assert owned.due(NOW) == ["apollo", "beacon"]
        owned.assessed("apollo", ["jira/APO"], NOW + MINUTE, 1)
        assert owned.due(NOW) == ["beacon"]
        assert owned.due(NOW + MINUTE) == ["apollo", "beacon"]
        owned.save({KEY: ROW._replace(version=6)}, 2)
        assert owned.due(NOW) == ["apollo", "beacon"], "what changed is due at once"
        owned.assessed("apollo", ["jira/APO"], NOW + MINUTE, 1)
        assert owned.due(NOW) == ["apollo", "beacon"], "what was looked at is not the last that was folded"
    assert states.look("apollo").shown == {"jira/APO"}
    with states.owned(1, other) as owned:
        assert owned.due(NOW + MINUTE) == []


# --- the outbox -------------------------------------------------------------------------------------------------------


def post(states: StateStore, *letters: Letter, now: datetime = NOW) -> None:
    epoch = states.take(0, "me")
    with states.owned(0, epoch) as owned:
        for letter in letters:
            owned.log(letter.project, [], [letter], now)


def claim(box: Outbox, now: datetime = NOW, who: str = "elsewhere/1/1") -> Claimed | None:
    """The oldest message that is due, of whatever queue."""
    runs = (box.claim(queue, who, now, now + 2 * MINUTE) for queue in box.due(now))
    return next((run[0] for run in runs if run), None)


def claimed(box: Outbox, now: datetime = NOW, who: str = "elsewhere/1/1") -> Claimed:
    found = claim(box, now, who)
    assert found
    return found


@pytest.fixture
def box(store: Store) -> Outbox:
    return Outbox(store)


def test_a_message_comes_back_whole(states: StateStore, box: Outbox) -> None:
    post(states, LETTER)
    assert claim(box) == Claimed("l1", "apollo", "mail", "ada", "Subject", "Text", NOW, 1, False, "elsewhere/1/1")
    assert claim(box) is None


def test_messages_to_one_recipient_keep_their_order(states: StateStore, box: Outbox) -> None:
    """A later one waits while an earlier one is on its way or waits for another try; other recipients do not."""
    post(states, LETTER)
    post(states, replace(LETTER, id="a-later"), replace(LETTER, id="b", recipient="bo"), now=NOW + MINUTE)
    first, other = claimed(box), claimed(box)
    assert (first.id, other.id) == ("l1", "b")
    box.sent([other])
    assert claim(box) is None
    box.failed([first], "busy", NOW + 5 * MINUTE)
    assert claim(box, NOW + 4 * MINUTE) is None
    first = claimed(box, NOW + 5 * MINUTE)
    assert first.id == "l1"
    box.sent([first])
    assert claimed(box, NOW + 5 * MINUTE).id == "a-later"


@pytest.mark.parametrize("later", [timedelta(0), -MINUTE], ids=["stands still", "runs back"])
def test_the_order_holds_when_the_clock_does_not_go_on(states: StateStore, box: Outbox, later: timedelta) -> None:
    for n, ident in enumerate("zyxa"):
        post(states, replace(LETTER, id=ident), now=NOW + (later if n else timedelta(0)))
    told = []
    while found := claim(box):
        told.append(found.id)
        box.sent([found])
    assert told == list("zyxa")


def test_a_message_that_is_there_is_not_posted_again(states: StateStore, box: Outbox) -> None:
    post(states, LETTER)
    box.sent([claimed(box)])
    post(states, LETTER)
    assert claim(box) is None
    assert box.counts() == {"sent": 1}


def test_a_failed_message_waits_and_counts(states: StateStore, box: Outbox) -> None:
    post(states, LETTER)
    for n in range(1, 4):
        found = claimed(box, NOW + n * 10 * MINUTE)
        assert (found.attempts, found.maybe_sent) == (n, False)
        box.failed([found], "busy", NOW + (n + 1) * 10 * MINUTE)
        assert box.next_try() == NOW + (n + 1) * 10 * MINUTE
        assert claim(box, NOW + n * 10 * MINUTE + 9 * MINUTE) is None


def test_a_dead_message_lets_the_next_one_pass(states: StateStore, box: Outbox) -> None:
    post(states, LETTER)
    post(states, replace(LETTER, id="l2"), now=NOW + MINUTE)
    box.failed([claimed(box)], "no such mailbox", None)
    assert box.dead() == [("apollo", "ada", "no such mailbox")]
    assert claimed(box, NOW + MINUTE).id == "l2"
    assert box.counts() == {"dead": 1, "sending": 1}


def test_a_claim_runs_out(states: StateStore, box: Outbox) -> None:
    post(states, LETTER)
    claimed(box)
    assert claim(box, NOW + MINUTE) is None
    again = claimed(box, NOW + 2 * MINUTE)
    assert again.maybe_sent
    assert again.attempts == 2


def test_the_claim_of_a_dead_process_is_taken_at_once(states: StateStore, box: Outbox) -> None:
    words = "from pmsync.owners import owner; print(owner())"
    dead = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
    post(states, LETTER)
    claimed(box, who=dead.stdout.strip())
    assert claimed(box, who=owner()).maybe_sent
    assert claim(box, who="elsewhere/1/1") is None, "this process lives"


@pytest.mark.parametrize("same", [True, False], ids=["itself", "another one"])
@pytest.mark.parametrize("done", [True, False], ids=["has been sent", "is being sent"])
@pytest.mark.parametrize("late", ["sent", "sent and not kept", "failed", "given up"])
def test_who_was_too_slow_changes_nothing(
    states: StateStore, store: Store, box: Outbox, late: str, done: bool, same: bool
) -> None:
    """Its claim ran out, and the message was claimed again: what it says now comes too late, whatever that is."""
    post(states, LETTER)
    slow = claimed(box)
    again = claimed(box, NOW + 2 * MINUTE, slow.owner if same else "elsewhere/2/2")
    if done:
        box.sent([again])
    before = contents(store)
    words = {
        "sent": lambda: box.sent([slow]),
        "sent and not kept": lambda: box.sent([slow], keep=False),
        "failed": lambda: box.failed([slow], "timed out", NOW + 3 * MINUTE),
        "given up": lambda: box.failed([slow], "timed out", None),
    }
    words[late]()
    assert contents(store) == before
    assert box.counts() == {"sent" if done else "sending": 1}


# --- runs -------------------------------------------------------------------------------------------------------------

ADA = Queue("mail", "ada")


def posted(states: StateStore, count: int, recipient: str = "ada") -> list[str]:
    """Messages to one recipient, in order."""
    letters = [replace(LETTER, id=f"{recipient}-{n:04}", recipient=recipient) for n in range(count)]
    epoch = states.take(0, "me")
    for start in range(0, count, 100):
        with states.owned(0, epoch) as owned:
            for letter in letters[start : start + 100]:
                owned.log("apollo", [], [letter], NOW)
    return [letter.id for letter in letters]


def run_of(box: Outbox, most: int, now: datetime = NOW, who: str = "elsewhere/1/1") -> list[Claimed]:
    return list(box.claim(ADA, who, now, now + 2 * MINUTE, most))


def ids(run: Sequence[Claimed]) -> list[str]:
    return [each.id for each in run]


def test_a_run_is_the_beginning_of_its_queue(states: StateStore, box: Outbox) -> None:
    told = posted(states, 5)
    posted(states, 3, "bo")
    first = run_of(box, 3)
    assert ids(first) == told[:3]
    assert run_of(box, 3) == [], "what is behind a run waits for it"
    assert box.due(NOW) == [Queue("mail", "bo")]
    box.sent(first[:2])
    assert run_of(box, 3) == []
    box.sent(first[2:])
    assert ids(run_of(box, 3)) == told[3:]


def test_the_queue_that_has_waited_longest_comes_first(states: StateStore, box: Outbox) -> None:
    for to in ("cy", "ada", "bo"):
        posted(states, 2, to)
    assert [queue.recipient for queue in box.due(NOW)] == ["cy", "ada", "bo"]


def test_a_run_that_failed_comes_again_as_it_was(states: StateStore, box: Outbox) -> None:
    told = posted(states, 4)
    box.failed(run_of(box, 3), "away", NOW + 5 * MINUTE)
    assert run_of(box, 10, NOW + 4 * MINUTE) == []
    again = run_of(box, 10, NOW + 5 * MINUTE)
    assert ids(again) == told
    assert [each.attempts for each in again] == [2, 2, 2, 1]
    assert not any(each.maybe_sent for each in again)
    box.failed(again, "no answer", NOW + 6 * MINUTE, maybe_sent=True)
    assert all(each.maybe_sent for each in run_of(box, 10, NOW + 6 * MINUTE))


def test_a_run_ends_where_something_is_not_due(states: StateStore, box: Outbox) -> None:
    told = posted(states, 5)
    run = run_of(box, 5)
    box.failed(run[2:3], "busy", NOW + 9 * MINUTE)
    box.failed(run[:2] + run[3:], "busy", NOW + MINUTE)
    assert ids(run_of(box, 5, NOW + MINUTE)) == told[:2]


def test_what_a_dead_process_held_of_a_run_comes_first(states: StateStore, box: Outbox) -> None:
    words = "from pmsync.owners import owner; print(owner())"
    dead = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
    told = posted(states, 5)
    run = run_of(box, 3, who=dead.stdout.strip())
    box.sent(run[:1], keep=False)
    again = run_of(box, 5, who=owner())
    assert ids(again) == told[1:]
    assert [each.maybe_sent for each in again] == [True, True, False, False]
    assert box.counts() == {"sending": 4}, "what need not be kept is gone"


def test_notifiers_at_once_claim_runs_that_do_not_overlap(states: StateStore, store: Store) -> None:
    told = {to: posted(states, 60, to) for to in ("ada", "bo")}
    sent: list[str] = []

    def drain(n: int) -> None:
        box = Outbox(store)
        deadline = time.monotonic() + SECONDS
        while box.counts().keys() - {"sent"}:
            assert time.monotonic() < deadline, "some are held by nobody"
            for queue in box.due(NOW):
                run = box.claim(queue, f"elsewhere/{n}/1", NOW, NOW + 2 * MINUTE, 7)
                sent.extend(each.id for each in run)
                if run:
                    box.sent(run)

    at_once([partial(drain, n) for n in range(3)])
    assert {to: [ident for ident in sent if ident.startswith(to)] for to in told} == told


def test_a_backlog_costs_a_few_statements_a_run(states: StateStore, store: Store) -> None:
    """Five runs and an empty one: no statement is for one message."""
    told = posted(states, 1000)
    statements: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    box = Outbox(store)
    found = []
    while run := run_of(box, 200):
        found += ids(run)
        box.sent(run, keep=False)
    assert found == told
    assert len(statements) <= 8 * 6, Counter(statements)


def test_the_first_of_a_queue_is_found_by_the_index(store: Store, database: str, states: StateStore) -> None:
    posted(states, 1000)
    with store.write() as db:
        if database == "postgresql":
            db.execute(text("ANALYZE outbox"))
        mine = and_(outbox.c.channel == "mail", outbox.c.recipient == "ada", WAITING)
        head = select(outbox.c.id).where(mine).order_by(outbox.c.created_at, outbox.c.id).limit(1)
        explain = "EXPLAIN QUERY PLAN" if database == "sqlite" else "EXPLAIN"
        statement = head.compile(db.engine, compile_kwargs={"literal_binds": True})
        plan = " ".join(str(row) for row in db.execute(text(f"{explain} {statement}")))
    assert "outbox_queues" in plan
    assert "SORT" not in plan.upper()
    assert "TEMP B-TREE" not in plan


def test_threads_claim_each_message_once(states: StateStore, store: Store) -> None:
    post(states, *(replace(LETTER, id=f"{n:02}", recipient=f"person-{n}") for n in range(20)))

    def drain(n: int) -> list[str]:
        box, found = Outbox(store), []
        while message := claim(box, who=f"elsewhere/{n}/1"):
            found.append(message.id)
        return found

    with ThreadPoolExecutor(3) as pool:
        told = [ident for some in pool.map(drain, range(3)) for ident in some]
    assert sorted(told) == [f"{n:02}" for n in range(20)]
