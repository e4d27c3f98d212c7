"""What every ledger of a reader promises. A test class inherits `LedgerContract` and gives a fixture `desk`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from connectors.base import Ref
from connectors.pump import WHOLE, Cursor, Entry, Fate, LeaseLost, Ledger, Noted, Pending
from connectors.webhooks import Hint

AT = datetime(2026, 3, 2, 9, 0, 0, 250_000, UTC)
ONE, TWO, SYNCED = Ref("work_item", "1"), Ref("work_item", "2"), Ref("synced", "APO")
ENTRY = Entry("d1", 10, AT, "APO", frozenset({"APO", "BEA"}), {"apollo": 10, "beacon": 9})


STALE: tuple[Callable[[Ledger, int], None], ...] = (
    lambda ledger, epoch: ledger.note("jira", epoch, {ONE: Pending(99, frozenset())}),
    lambda ledger, epoch: ledger.settle("jira", epoch, {TWO: replace(ENTRY, version=99)}),
    lambda ledger, epoch: ledger.move_cursor("jira", epoch, "APO", Cursor(None, {})),
    lambda ledger, epoch: ledger.move_cursor("jira", epoch, "APO", None),
    lambda ledger, epoch: ledger.heed("jira", epoch, ledger.hints("jira", 9)),
)


@dataclass
class Desk:
    """A ledger, and ways to let the leases that are held run out, and a moment go by."""

    ledger: Ledger
    expire: Callable[[], None]
    later: Callable[[], None] = lambda: None


class LedgerContract:
    """Inherit this with a fixture `desk`."""

    @pytest.fixture
    def ledger(self, desk: Desk) -> Ledger:
        return desk.ledger

    @pytest.fixture
    def epoch(self, ledger: Ledger) -> int:
        return ledger.lease("jira", "me")

    # --- the lease ----------------------------------------------------------------------------------------------------

    def test_a_lease_is_kept_by_its_owner(self, ledger: Ledger) -> None:
        assert ledger.lease("jira", "me") == ledger.lease("jira", "me")

    def test_a_held_lease_is_refused_by_name(self, ledger: Ledger, epoch: int) -> None:
        with pytest.raises(LeaseLost, match="jira is being read by me"):
            ledger.lease("jira", "other")
        ledger.note("jira", epoch, {ONE: Pending(1, frozenset())})  # and the holder goes on

    def test_leases_are_by_source(self, ledger: Ledger, epoch: int) -> None:
        assert ledger.lease("gh", "other")

    def test_a_lease_that_ran_out_is_taken_over(self, desk: Desk, epoch: int) -> None:
        desk.expire()
        assert desk.ledger.lease("jira", "other") > epoch
        with pytest.raises(LeaseLost):
            desk.ledger.lease("jira", "me")

    def test_a_lease_that_is_given_up_is_free_at_once(self, ledger: Ledger, epoch: int) -> None:
        ledger.release("jira", epoch)
        other = ledger.lease("jira", "other")
        assert other > epoch
        ledger.release("jira", epoch)  # by then it is not ours to give
        with pytest.raises(LeaseLost):
            ledger.lease("jira", "me")

    def test_who_comes_back_gets_a_new_epoch(self, desk: Desk, epoch: int) -> None:
        desk.expire()
        other = desk.ledger.lease("jira", "other")
        desk.expire()
        assert desk.ledger.lease("jira", "me") > other > epoch

    @pytest.mark.parametrize("write", STALE, ids=["note", "settle", "move the cursor", "forget the cursor", "heed"])
    def test_a_stale_epoch_changes_nothing(self, desk: Desk, epoch: int, write: Callable[[Ledger, int], None]) -> None:
        ledger = desk.ledger
        desk.expire()
        now = ledger.lease("jira", "other")
        ledger.note("jira", now, {TWO: Pending(3, frozenset({"apollo"}))})
        ledger.settle("jira", now, {ONE: ENTRY})
        ledger.move_cursor("jira", now, "APO", Cursor(AT, {"apollo": 1}))
        ledger.hint("jira", [Hint(ONE)])
        before = _contents(ledger)
        with pytest.raises(LeaseLost, match="taken over"):
            write(ledger, epoch)
        assert _contents(ledger) == before

    # --- pending ------------------------------------------------------------------------------------------------------

    def test_pending_notes_stay_until_they_are_settled(self, ledger: Ledger, epoch: int) -> None:
        notes = {ONE: Pending(10, frozenset({"apollo", "beacon"})), TWO: Pending(11, frozenset())}
        ledger.note("jira", epoch, notes)
        assert ledger.pending("jira") == notes
        ledger.settle("jira", epoch, {ONE: ENTRY})
        assert ledger.pending("jira") == {TWO: notes[TWO]}

    def test_the_last_note_counts(self, ledger: Ledger, epoch: int) -> None:
        ledger.note("jira", epoch, {ONE: Pending(10, frozenset({"apollo"}))})
        ledger.note("jira", epoch, {ONE: Pending(12, frozenset({"beacon"}))})
        assert ledger.pending("jira") == {ONE: Pending(12, frozenset({"beacon"}))}

    def test_anyone_may_ask_and_a_note_stands_before_it(self, desk: Desk, epoch: int) -> None:
        """Without the lease; what is under way anyway keeps its note."""
        noted = Pending(10, frozenset({"apollo"}))
        desk.ledger.note("jira", epoch, {ONE: noted})
        desk.ledger.ask("jira", [ONE, TWO])
        desk.ledger.ask("jira", [TWO])
        assert desk.ledger.pending("jira") == {ONE: noted, TWO: Pending(0, frozenset())}
        desk.ledger.settle("jira", epoch, {TWO: ENTRY})
        assert desk.ledger.pending("jira") == {ONE: noted}

    # --- hints --------------------------------------------------------------------------------------------------------

    def test_anyone_may_hint_and_each_thing_waits_once(self, ledger: Ledger, epoch: int) -> None:
        ledger.hint("jira", [Hint(TWO, "APO"), Hint(ONE, "APO"), Hint(TWO, "BEA")])
        ledger.hint("jira", [])
        found = ledger.hints("jira", 9)
        assert {ref: noted.container for ref, noted in found.items()} == {ONE: "APO", TWO: "BEA"}
        ledger.heed("jira", epoch, found)
        assert ledger.hints("jira", 9) == {}

    def test_a_hint_that_came_again_since_is_not_struck(self, ledger: Ledger, epoch: int) -> None:
        """By a clock that stands still, too."""
        ledger.hint("jira", [Hint(ONE), Hint(TWO)])
        fetched = ledger.hints("jira", 9)
        ledger.hint("jira", [Hint(ONE, "APO")])
        ledger.heed("jira", epoch, fetched)
        again = ledger.hints("jira", 9)
        assert {ref: noted.container for ref, noted in again.items()} == {ONE: "APO"}
        assert again[ONE].at > fetched[ONE].at
        ledger.heed("jira", epoch, {ONE: Noted("APO", again[ONE].at)})
        assert ledger.hints("jira", 9) == {}

    def test_those_that_waited_longest_come_first(self, desk: Desk, epoch: int) -> None:
        for ident in ("3", "1", "2", "3"):
            desk.ledger.hint("jira", [Hint(Ref("work_item", ident))])
            desk.later()
        assert [ref.id for ref in desk.ledger.hints("jira", 2)] == ["1", "2"]
        assert [ref.id for ref in desk.ledger.hints("jira", 9)] == ["1", "2", "3"]

    def test_hints_at_whole_containers_wait_apart(self, ledger: Ledger, epoch: int) -> None:
        whole = Ref(WHOLE, "APO")
        ledger.hint("jira", [Hint(whole), Hint(ONE)])
        assert list(ledger.hints("jira", 9)) == [ONE]
        assert (list(ledger.again("jira")), ledger.again("gh")) == ([whole], {})
        ledger.heed("jira", epoch, ledger.again("jira"))
        assert (list(ledger.hints("jira", 9)), ledger.again("jira")) == ([ONE], {})

    def test_more_hints_than_a_statement_holds(self, ledger: Ledger, epoch: int) -> None:
        many = [Hint(Ref("work_item", str(n)), "APO") for n in range(1203)]
        ledger.hint("jira", many)
        found = ledger.hints("jira", 5000)
        assert found.keys() == {each.ref for each in many}
        ledger.heed("jira", epoch, found)
        assert ledger.hints("jira", 5000) == {}

    # --- entries ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "entry",
        [ENTRY, replace(ENTRY, time=None, told={}), replace(ENTRY, fate=Fate.gone, container="", digest=""), replace(ENTRY, fate=Fate.dead)],
    )  # fmt: skip
    def test_an_entry_comes_back_whole(self, ledger: Ledger, epoch: int, entry: Entry) -> None:
        ledger.settle("jira", epoch, {ONE: entry})
        assert ledger.entries("jira", [ONE, TWO]) == {ONE: entry}
        assert ledger.entries("jira", []) == {}

    def test_entries_move_to_higher_versions_only(self, ledger: Ledger, epoch: int) -> None:
        newer, older = replace(ENTRY, version=11, digest="new"), replace(ENTRY, version=9, digest="old")
        ledger.settle("jira", epoch, {ONE: ENTRY})
        ledger.settle("jira", epoch, {ONE: older})
        assert ledger.entries("jira", [ONE]) == {ONE: ENTRY}
        ledger.settle("jira", epoch, {ONE: newer})
        assert ledger.entries("jira", [ONE]) == {ONE: newer}

    def test_the_time_of_an_entry_moves_within_its_version(self, ledger: Ledger, epoch: int) -> None:
        later = replace(ENTRY, time=AT + timedelta(seconds=1))
        ledger.settle("jira", epoch, {ONE: ENTRY})
        ledger.settle("jira", epoch, {ONE: later})
        assert ledger.entries("jira", [ONE]) == {ONE: later}

    def test_more_entries_than_a_statement_holds(self, ledger: Ledger, epoch: int) -> None:
        many = {Ref("work_item", str(n)): replace(ENTRY, version=n + 1) for n in range(1203)}
        ledger.note("jira", epoch, {ref: Pending(1, frozenset()) for ref in many})
        ledger.settle("jira", epoch, many)
        assert ledger.entries("jira", many) == many
        assert ledger.pending("jira") == {}

    def test_what_is_in_a_container_and_what_ever_was(self, ledger: Ledger, epoch: int) -> None:
        moved = replace(ENTRY, container="BEA")
        gone = replace(ENTRY, container="", fate=Fate.gone)
        dead = replace(ENTRY, fate=Fate.dead, containers=frozenset({"APO"}))
        third, fourth = Ref("milestone", "1"), Ref("work_item", "4")
        synced = replace(ENTRY, containers=frozenset({"APO"}))
        ledger.settle("jira", epoch, {ONE: ENTRY, TWO: moved, third: gone, fourth: dead, SYNCED: synced})
        assert ledger.in_container("jira", "APO") == {ONE: ENTRY, fourth: dead, SYNCED: synced}
        assert ledger.in_container("jira", "BEA") == {TWO: moved}
        assert sorted(ledger.ever_in("jira", "APO")) == sorted([ONE, TWO, third, fourth])
        assert sorted(ledger.ever_in("jira", "BEA")) == sorted([ONE, TWO, third])
        assert list(ledger.ever_in("jira", "NONE")) == []

    # --- cursors ------------------------------------------------------------------------------------------------------

    def test_cursors_come_back_whole(self, ledger: Ledger, epoch: int) -> None:
        cursors = {"APO": Cursor(AT, {"apollo": 7, "beacon": 8}, AT + timedelta(hours=1)), "BEA": Cursor(None, {})}
        for container, cursor in cursors.items():
            ledger.move_cursor("jira", epoch, container, cursor)
        assert ledger.cursors("jira") == cursors
        ledger.move_cursor("jira", epoch, "APO", Cursor(None, {"apollo": 7}))
        ledger.move_cursor("jira", epoch, "BEA", None)
        assert ledger.cursors("jira") == {"APO": Cursor(None, {"apollo": 7})}

    def test_any_text_is_an_id(self, ledger: Ledger, epoch: int) -> None:
        odd = Ref("work_item", "a\0b")
        ledger.note("jira", epoch, {odd: Pending(1, frozenset({"a\0"}))})
        assert ledger.pending("jira") == {odd: Pending(1, frozenset({"a\0"}))}
        ledger.settle("jira", epoch, {odd: replace(ENTRY, container="A\0", containers=frozenset({"A\0"}))})
        assert ledger.pending("jira") == {}
        assert ledger.entries("jira", [odd]).keys() == ledger.in_container("jira", "A\0").keys() == {odd}
        assert ledger.ever_in("jira", "A\0") == [odd]

    # --- apart --------------------------------------------------------------------------------------------------------

    def test_sources_do_not_see_each_other(self, ledger: Ledger, epoch: int) -> None:
        ledger.note("jira", epoch, {ONE: Pending(1, frozenset())})
        ledger.settle("jira", epoch, {TWO: ENTRY})
        ledger.move_cursor("jira", epoch, "APO", Cursor(AT, {}))
        ledger.hint("jira", [Hint(ONE)])
        other = ledger.lease("gh", "me")
        assert _contents(ledger, "gh") == ({}, {}, {}, [], {}, {})
        before = _contents(ledger)
        ledger.hint("gh", [Hint(ONE), Hint(TWO)])
        ledger.heed("gh", other, ledger.hints("jira", 9))
        ledger.settle("gh", other, {ONE: replace(ENTRY, version=99)})
        ledger.move_cursor("gh", other, "APO", None)
        assert _contents(ledger) == before


def _contents(ledger: Ledger, source: str = "jira") -> tuple[object, ...]:
    return (
        ledger.pending(source),
        ledger.entries(source, [ONE, TWO]),
        ledger.in_container(source, "APO"),
        sorted(ledger.ever_in(source, "APO")),
        ledger.cursors(source),
        ledger.hints(source, 9),
    )
