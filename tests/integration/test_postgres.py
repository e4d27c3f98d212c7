"""What is true of PostgreSQL alone: several processes at one row, limits on waiting, a server that goes and comes back.

What the store promises on both databases is in the other tests of this folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text

from connectors.base import Ref
from connectors.pump import LeaseLost, Pending
from pmsync.aggregator import Aggregator
from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import EVENTS
from pmsync.bus.publisher import Publisher
from pmsync.config import Config
from pmsync.core.events import CONFIGURATION, Snapshot, Synced, Thing
from pmsync.core.project import Key, Row
from pmsync.doctor import _store
from pmsync.store.engine import Store, StoreUnavailable
from pmsync.store.ledger import SqlLedger
from pmsync.store.outbox import Outbox, Queue
from pmsync.store.state import Fenced, Letter, StateStore
from pmsync.store.tables import metadata, outbox
from tests.cutting_proxy import CuttingProxy, Side, cutting_proxy
from tests.postgres import PASSWORD, Server
from tests.unit.builders import JIRA, item, project

pytestmark = pytest.mark.integration

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
KEY, ROW = Key("apollo", "jira", "work_item", "1", 0), Row(5, False, "{}")
LETTER = Letter("l1", "apollo", "mail", "ada", "Subject", "Text")
ADA, BO = Queue("mail", "ada"), Queue("mail", "bo")
SHORT = "250ms"


@pytest.fixture
def database() -> str:
    """The fixtures of both databases give this one here."""
    return "postgresql"


def hasty(url: str, limit: str) -> Store:
    """A store whose connections have one limit set short."""
    return Store(f"{url}?options=-c%20{limit}%3D{SHORT}")


# --- limits and order -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lock_timeout", "30s"),
        ("statement_timeout", "1min"),
        ("idle_in_transaction_session_timeout", "1min"),
        ("client_encoding", "UTF8"),
    ],
)
def test_no_connection_waits_for_ever(store: Store, name: str, value: str) -> None:
    with store.write() as db:
        assert db.scalar(text(f"SHOW {name}")) == value


def test_what_the_address_says_of_a_limit_counts(url: str) -> None:
    with closing(hasty(url, "lock_timeout")) as store, store.write() as db:
        assert db.scalar(text("SHOW lock_timeout")) == SHORT
        assert db.scalar(text("SHOW statement_timeout")) == "1min"


def test_every_text_is_compared_by_its_bytes(store: Store) -> None:
    columns = "SELECT table_name, column_name, collation_name FROM information_schema.columns WHERE data_type IN ('text', 'character varying')"
    with store.read() as db:
        found = [tuple(row) for row in db.execute(text(columns)) if row[0] in metadata.tables]
        assert db.scalar(text("SELECT 'B' < 'a'")) is False, "a server that orders by bytes itself would prove nothing"
    assert len(found) > 30
    assert {collation for _, _, collation in found} == {"C"}


def test_reading_writes_nothing(store: Store) -> None:
    with pytest.raises(StoreUnavailable, match="read-only transaction"), store.read() as db:
        db.execute(text("DELETE FROM state"))


# --- two at one row ---------------------------------------------------------------------------------------------------


def test_a_partition_is_not_taken_in_the_middle_of_a_transaction(url: str, store: Store) -> None:
    """Else its old owner could still write after it was fenced."""
    states = StateStore(store)
    epoch = states.take(0, "me")
    with closing(hasty(url, "lock_timeout")) as other:
        with states.owned(0, epoch) as owned:
            with pytest.raises(StoreUnavailable, match=r"lock timeout.*; another process holds it; it is tried again"):
                StateStore(other).take(0, "other")
            owned.save({KEY: ROW}, 7)
        assert StateStore(other).take(0, "other") == epoch + 1
    with pytest.raises(Fenced), states.owned(0, epoch):
        pass
    assert states.offsets() == {0: 7}


def test_a_stopped_owner_does_not_hold_its_partition_for_ever(url: str, store: Store) -> None:
    states = StateStore(store)
    with closing(hasty(url, "idle_in_transaction_session_timeout")) as stopped, ThreadPoolExecutor(1) as pool:
        zombie = StateStore(stopped)
        epoch = zombie.take(0, "stopped")

        def wake_too_late() -> None:
            with zombie.owned(0, epoch) as owned:
                assert pool.submit(states.take, 0, "other").result(timeout=30) == epoch + 1
                owned.save({KEY: ROW}, 7)

        with pytest.raises(StoreUnavailable, match="it is tried again"):
            wake_too_late()
    assert states.offsets() == {0: 0}
    assert states.rows("apollo") == {}


def test_a_source_is_not_taken_over_in_the_middle_of_a_write(url: str, store: Store) -> None:
    ledger = SqlLedger(store, lambda: NOW)
    epoch = ledger.lease("jira", "me")
    with closing(hasty(url, "lock_timeout")) as other:
        late = SqlLedger(other, lambda: NOW + timedelta(minutes=1))
        with ledger._fenced("jira", epoch), pytest.raises(StoreUnavailable, match="lock timeout"):
            late.lease("jira", "other")
        with pytest.raises(LeaseLost):
            SqlLedger(other, lambda: NOW).lease("jira", "other")
        assert late.lease("jira", "other") == epoch + 1
    with pytest.raises(LeaseLost):
        ledger.note("jira", epoch, {Ref("work_item", "1"): Pending(1, frozenset())})


@pytest.mark.parametrize("most", [1, 5])
def test_a_message_that_is_being_claimed_is_passed_over_with_all_behind_it(url: str, store: Store, most: int) -> None:
    states, box = StateStore(store), Outbox(store)
    letters = [LETTER, replace(LETTER, id="l2"), replace(LETTER, id="l3", recipient="bo")]
    for letter in letters:
        with states.owned(0, states.take(0, "me")) as owned:
            owned.log("apollo", [], [letter], NOW)
    with closing(hasty(url, "lock_timeout")) as other:
        with other.write() as db:
            db.execute(select(outbox).where(outbox.c.id == "l1").with_for_update())
            assert box.due(NOW) == [ADA, BO]
            assert box.claim(ADA, "elsewhere/1/1", NOW, NOW, most) == []
            assert [each.id for each in box.claim(BO, "elsewhere/1/1", NOW, NOW, most)] == ["l3"]
        assert [each.id for each in box.claim(ADA, "elsewhere/1/1", NOW, NOW, most)] == ["l1", "l2"][:most]


# --- a server that goes and comes back --------------------------------------------------------------------------------


def test_connections_that_were_cut_cost_no_failure(postgres_server: Server, url: str, store: Store) -> None:
    states = StateStore(store)
    states.take(0, "me")
    assert postgres_server.cut(url.rpartition("/")[2]) >= 1
    assert states.offsets() == {0: 0}


def test_a_server_that_restarts_is_used_again(postgres_server: Server, store: Store) -> None:
    if not postgres_server.ours:
        pytest.skip("the server is not ours to stop")
    states = StateStore(store)
    epoch = states.take(0, "me")
    postgres_server.stop()
    try:
        with pytest.raises(StoreUnavailable, match=r"is the server running, and store\.url right"):
            states.offsets()
    finally:
        postgres_server.start()
    with states.owned(0, epoch) as owned:
        owned.save({KEY: ROW}, 7)
    assert states.offsets() == {0: 7}


@pytest.fixture
def proxy(url: str) -> Iterator[CuttingProxy]:
    with cutting_proxy(url) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: CuttingProxy) -> Iterator[Store]:
    """The store over a way that can be cut."""
    with closing(Store(proxy.url)) as store:
        yield store


class Worker:
    """An aggregator over a log with an overdue item, on a store whose commits can be cut."""

    def __init__(self, bus: EmbeddedBus, store: Store) -> None:
        self.bus, self.states = bus, StateStore(store)
        self.aggregator = Aggregator(bus, self.states, "me", ("mail",))
        self.aggregator.take(range(bus.partitions))
        configured = project().model_copy(update={"mapping": {JIRA: {"APO": 1}}, "leader": "person-1"})
        synced = Synced(container="APO", mapped={"apollo": 1}, listed=0, published=0, dead=0)
        things = (
            (Thing(CONFIGURATION, "project", "apollo"), configured),
            (Thing(JIRA, "synced", "APO"), synced),
            item("1", due_date="2026-03-02"),
        )
        Publisher(bus).publish([Snapshot(project="apollo", thing=t, version=1, content=c) for t, c in things])


@pytest.fixture
def worker(tmp_path: Path, far: Store) -> Iterator[Worker]:
    with closing(EmbeddedBus(tmp_path / "log.db")) as bus:
        yield Worker(bus, far)


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_batch_whose_commit_has_no_answer_is_folded_once(
    proxy: CuttingProxy, worker: Worker, store: Store, side: Side
) -> None:
    """The worker cannot know which of the two it was; it asks the store."""
    proxy.cut(side)
    with pytest.raises(StoreUnavailable, match="it is tried again"):
        worker.aggregator.catch_up()
    assert proxy.has_cut
    done = side == "after"
    assert len(StateStore(store).rows("apollo")) == (4 if done else 0), "a project is a kept kind: two rows"
    before = StateStore(store).rows("apollo")
    worker.aggregator.catch_up()
    rows = StateStore(store).rows("apollo")
    assert len(rows) == 4
    assert before in ({}, rows)
    assert sum(worker.states.offsets().values()) == 3
    assert worker.aggregator.catch_up() == 0


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_tick_whose_commit_has_no_answer_tells_once(
    proxy: CuttingProxy, worker: Worker, store: Store, side: Side
) -> None:
    worker.aggregator.catch_up()
    commits = (
        sorted(worker.aggregator._epochs).index(_partition_of_apollo(worker)) + 3
    )  # the partition, the look at the project, and what came of it
    proxy.cut(side, commits)
    with pytest.raises(StoreUnavailable):
        worker.aggregator.tick(NOW)
    assert Outbox(store).counts() == ({"ready": 1} if side == "after" else {})
    worker.aggregator.tick(NOW)
    worker.aggregator.tick(NOW)
    assert [line.n for line in StateStore(store).alert_log("apollo")] == [1]
    assert Outbox(store).counts() == {"ready": 1}


def _partition_of_apollo(worker: Worker) -> int:
    return next(n for n in range(worker.bus.partitions) if worker.bus.end_offset(EVENTS, n))


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("work", ["note", "lease", "claim"])
def test_what_has_no_answer_can_be_said_again(
    proxy: CuttingProxy, far: Store, store: Store, side: Side, work: str
) -> None:
    ledger, states, box = SqlLedger(far, lambda: NOW), StateStore(store), Outbox(far)
    epoch = ledger.lease("jira", "me")
    with states.owned(0, states.take(0, "me")) as owned:
        owned.log("apollo", [], [LETTER], NOW)
    ref, pending = Ref("work_item", "1"), Pending(1, frozenset({"apollo"}))
    later = NOW + timedelta(minutes=5)
    works: dict[str, Callable[[], object]] = {
        "note": lambda: ledger.note("jira", epoch, {ref: pending}),
        "lease": lambda: ledger.lease("jira", "me"),
        "claim": lambda: box.claim(ADA, "elsewhere/1/1", later, later)[0],
    }
    proxy.cut(side)
    with pytest.raises(StoreUnavailable):
        works[work]()
    again = works[work]()
    if work == "note":
        assert ledger.pending("jira") == {ref: pending}
    elif work == "lease":
        assert again == epoch
    else:
        assert again.maybe_sent is (side == "after"), "it was claimed and never sent: counted as a possible duplicate"


def test_a_store_that_went_back_is_read_again_from_there(worker: Worker, store: Store) -> None:
    """A standby or a backup in its place: what was folded once must not be skipped for that."""
    worker.aggregator.catch_up()
    rows = StateStore(store).rows("apollo")
    with store.write() as db:
        db.execute(text("UPDATE partitions SET next_offset = 0"))
        db.execute(text("DELETE FROM state"))
    assert worker.aggregator.tick(NOW) == 0, "half a log is no picture"
    worker.bus.join()
    worker.aggregator.follow()
    worker.aggregator.catch_up()
    assert StateStore(store).rows("apollo") == rows
    Publisher(worker.bus).publish([Snapshot(project="apollo", thing=t, version=2, content=c) for t, c in [item("2")]])
    with store.write() as db:
        db.execute(text("UPDATE partitions SET next_offset = 0"))
        db.execute(text("DELETE FROM state"))
    worker.aggregator.catch_up()
    assert len(StateStore(store).rows("apollo")) == len(rows) + 1


# --- doctor -----------------------------------------------------------------------------------------------------------


def _without_server(url: str) -> str:
    return url.replace(f":{url.rpartition(':')[2].partition('/')[0]}/", ":1/")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_without_server, "is the server running, and store.url right"),
        (lambda url: url.replace(PASSWORD, "hunter2-wrong"), "mend the user in store.url, or store.password"),
        (lambda url: url.replace(PASSWORD, "hunter@2"), "it is no address; write sqlite:///FILE or postgresql"),
        (
            lambda url: url.replace(f":{PASSWORD}", "") + "?password=hunter2-wrong",
            "mend the user in store.url, or store.password",
        ),
        (lambda url: url.replace(f":{PASSWORD}", ""), "give store.password, as"),
        (lambda url: f"{url}_none", "create it and give it to pmsync's role, or mend store.url"),
        (lambda url: f"{url}?options=-csearch_path%3Dnone", "start `pmsync run` once"),
        (lambda url: url.replace("127.0.0.1", "nohost.invalid"), "is the host in store.url right"),
    ],
    ids=[
        "no server",
        "wrong password",
        "a password that breaks the address",
        "wrong password as a parameter",
        "no password",
        "no database",
        "no tables",
        "no host",
    ],
)
def test_doctor_says_what_to_do(url: str, spoil: Callable[[str], str], says: str) -> None:
    config = Config.model_validate({"store": {"url": spoil(url)}})
    (finding,) = _store(config, lambda: NOW)
    assert not finding.ok
    assert says in finding.words, finding.words
    assert "\n" not in finding.words
    assert "hunter" not in finding.words


def test_doctor_finds_nothing_wrong_with_a_store_that_is_in_order(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", PASSWORD)
    values = {"url": url.replace(f":{PASSWORD}", ""), "password": {"env": "DATABASE_PASSWORD"}}
    assert [finding.ok for finding in _store(Config.model_validate({"store": values}), lambda: NOW)] == [True]
    monkeypatch.delenv("DATABASE_PASSWORD")
    (finding,) = _store(Config.model_validate({"store": values}), lambda: NOW)
    assert "DATABASE_PASSWORD is not set; export it" in finding.words


def test_another_encoding_is_said(postgres_server: Server) -> None:
    name = postgres_server.create("template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    with closing(Store(postgres_server.url(name))) as store:
        assert "the database's encoding is LATIN1; make one with ENCODING 'UTF8'" in str(store.schema_problem())
    postgres_server.drop(name)


def test_a_schema_that_is_not_there_is_said(url: str) -> None:
    homeless = Store(f"{url}?options=-csearch_path%3Dnone")
    words = "create the schema that the role's search_path names"
    with closing(homeless), pytest.raises(StoreUnavailable, match=words):
        homeless.migrate()
