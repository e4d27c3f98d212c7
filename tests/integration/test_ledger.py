"""The ledger in the store and the one in memory keep the same promises."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger_contract import ONE, Desk, LedgerContract

from connectors.pump import Fate, LeaseLost, Pending
from connectors.testing import MemoryLedger
from pmsync.owners import is_dead, owner
from pmsync.store.engine import Store
from pmsync.store.ledger import LEASE, SqlLedger
from pmsync.store.tables import pending

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def desk(self) -> Desk:
        ledger = MemoryLedger()

        def expire() -> None:
            ledger.expired = True

        return Desk(ledger, expire)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(store: Store, clock: Clock) -> SqlLedger:
    return SqlLedger(store, clock)


class TestSqlLedger(LedgerContract):
    @pytest.fixture
    def desk(self, store: Store, clock: Clock) -> Desk:
        def expire() -> None:
            clock.now += LEASE + timedelta(seconds=1)

        def later() -> None:
            clock.now += timedelta(seconds=1)

        return Desk(SqlLedger(store, clock), expire, later)


def test_every_write_renews_the_lease(ledger: SqlLedger, clock: Clock) -> None:
    epoch = ledger.lease("jira", "me")
    for _ in range(4):
        clock.now += LEASE * 2 / 3
        ledger.note("jira", epoch, {ONE: Pending(1, frozenset())})
    with pytest.raises(LeaseLost):
        ledger.lease("jira", "other")


def test_a_dead_owner_is_not_waited_for(ledger: SqlLedger) -> None:
    words = "from pmsync.owners import owner; print(owner())"
    dead = subprocess.run([sys.executable, "-c", words], cwd=ROOT, capture_output=True, text=True, check=True)
    epoch = ledger.lease("jira", dead.stdout.strip())
    assert ledger.lease("jira", owner()) == epoch + 1


def test_a_live_owner_is_waited_for(ledger: SqlLedger) -> None:
    ledger.lease("jira", owner())
    with pytest.raises(LeaseLost, match="stop it, or wait for its lease to end"):
        ledger.lease("jira", "other")


@pytest.mark.parametrize(
    ("name", "dead"),
    [(owner(), False), (f"elsewhere/{2**22 + 1}/1", False), ("me", False), (owner().rpartition("/")[0] + "/1", True)],
    ids=["this process", "another host", "no process", "another process of the same number"],
)
def test_who_is_dead(name: str, dead: bool) -> None:
    assert is_dead(name) is dead


def test_a_write_is_whole_or_not_at_all(store: Store, ledger: SqlLedger) -> None:
    """A connection lost in the middle leaves neither half of a note."""
    ledger.lease("jira", "me")
    with suppress(ConnectionError), store.write() as db:
        db.execute(pending.insert().values(source="jira", kind="work_item", id="1", version=1, projects="[]"))
        raise ConnectionError
    assert ledger.pending("jira") == {}


def test_fates_are_words() -> None:
    """They stand in databases: a renamed one would orphan every row."""
    assert {fate.value for fate in Fate} == {"live", "gone", "dead"}
