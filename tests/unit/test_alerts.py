"""Alerts and the alert log: what is told, once."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from builders import NOW, Item, acknowledgement, any_items, at, item, state
from hypothesis import given, settings
from hypothesis import strategies as st

from pmsync.core.alerts import Alert, AlertState, Logged, Transition, alerts, transitions
from pmsync.core.rules import Episode, episodes

MONDAY, TUESDAY, WEDNESDAY = at("2026-03-09"), at("2026-03-10"), at("2026-03-11")
(EPISODE,) = episodes(state([item(due_date="2026-03-06", created=at("2026-03-08"))]), NOW)
FINGERPRINT = EPISODE.fingerprint


def wrong(since: datetime = TUESDAY, until: datetime | None = None, *, at_least: bool = False) -> Episode:
    return replace(EPISODE, since=since, until=until, at_least=at_least)


def test_an_answer_holds_for_the_episode_that_contains_it() -> None:
    fact = acknowledgement(FINGERPRINT, WEDNESDAY)
    (alert,) = alerts([wrong()], [fact])
    assert (alert.state, alert.by) == (AlertState.acknowledged, "ada")
    assert alerts([wrong()], [acknowledgement("other", WEDNESDAY)])[0].state is AlertState.firing
    assert alerts([wrong()], [acknowledgement(FINGERPRINT, MONDAY)])[0].state is AlertState.firing
    assert alerts([wrong(until=WEDNESDAY)], [fact])[0].state is AlertState.resolved
    before, after = alerts([wrong(MONDAY, TUESDAY), wrong(WEDNESDAY)], [acknowledgement(FINGERPRINT, MONDAY)])
    assert (before.state, after.state) == (AlertState.resolved, AlertState.firing)


def test_the_last_answer_counts_in_whatever_order_they_came() -> None:
    facts = [
        acknowledgement(FINGERPRINT, WEDNESDAY, "ada", "a"),
        acknowledgement(FINGERPRINT, WEDNESDAY, "bob", "b"),
        acknowledgement(FINGERPRINT, TUESDAY, "cyd", "c"),
    ]
    assert {alerts([wrong()], order)[0].by for order in (facts, facts[::-1])} == {"bob"}


def test_an_answer_from_before_what_is_known_of_an_episode_has_run_out() -> None:
    assert alerts([wrong(at_least=True)], [acknowledgement(FINGERPRINT, MONDAY)])[0].state is AlertState.firing
    assert alerts([wrong(at_least=True)], [acknowledgement(FINGERPRINT, TUESDAY)])[0].state is AlertState.acknowledged


FIRING = Alert(wrong(), AlertState.firing)
TAKEN = Alert(wrong(), AlertState.acknowledged, "ada")
OVER = Alert(wrong(until=WEDNESDAY), AlertState.resolved)
AT_LEAST = Alert(wrong(at_least=True), AlertState.firing)


@pytest.mark.parametrize(
    ("last", "alert", "told"),
    [
        (None, FIRING, (1, "firing", TUESDAY)),
        (None, TAKEN, (1, "acknowledged", TUESDAY)),
        (None, OVER, None),
        (Logged(1, "firing", TUESDAY), FIRING, None),
        (Logged(1, "firing", TUESDAY), TAKEN, (2, "acknowledged", TUESDAY)),
        (Logged(2, "acknowledged", TUESDAY), OVER, (3, "resolved", TUESDAY)),
        (Logged(3, "resolved", TUESDAY), OVER, None),
        (Logged(3, "resolved", MONDAY), OVER, None),
        (Logged(3, "resolved", MONDAY), FIRING, (4, "firing", TUESDAY)),
        (Logged(1, "firing", MONDAY), FIRING, (2, "firing", TUESDAY)),
        (Logged(1, "firing", TUESDAY), None, (2, "resolved", TUESDAY)),
        (Logged(2, "resolved", TUESDAY), None, None),
        # Since then or earlier: the log's earlier instant is the same episode, a later one is not.
        (Logged(1, "firing", MONDAY), AT_LEAST, None),
        (Logged(1, "firing", WEDNESDAY), AT_LEAST, (2, "firing", TUESDAY)),
        (Logged(1, "resolved", MONDAY), AT_LEAST, (2, "firing", TUESDAY)),
    ],
)
def test_transitions(last: Logged | None, alert: Alert | None, told: tuple[int, str, datetime] | None) -> None:
    found = transitions({FINGERPRINT: last} if last else {}, [alert] if alert else [], NOW)
    expected = [Transition(FINGERPRINT, told[0], AlertState(told[1]), told[2], NOW, alert)] if told else []
    assert list(found) == expected


def test_the_latest_episode_speaks_for_its_fingerprint() -> None:
    older = Alert(wrong(MONDAY, MONDAY + timedelta(hours=1)), AlertState.resolved)
    for order in ([older, FIRING], [FIRING, older]):
        assert [t.alert for t in transitions({}, order, NOW)] == [FIRING]


@given(any_items(), st.lists(st.integers(0, 80 * 24), max_size=6))
@settings(max_examples=40)
def test_what_was_logged_is_not_told_again(items: list[Item], hours: list[int]) -> None:
    """Ticks at any instants: each adds what differs, and a second tick at the same instant adds nothing."""
    known = state(items)
    log: dict[str, Logged] = {}
    for hour in sorted(hours):
        now = at("2026-01-06") + timedelta(hours=hour)
        current = alerts(episodes(known, now), [])
        moves = transitions(log, current, now)
        for move in moves:
            assert move.n == (log[move.fingerprint].n + 1 if move.fingerprint in log else 1)
            log[move.fingerprint] = Logged(move.n, move.state.value, move.since)
        assert [move.fingerprint for move in moves] == sorted(move.fingerprint for move in moves)
        assert transitions(log, current, now) == ()
        firing = {alert.fingerprint for alert in current if alert.state is AlertState.firing}
        assert firing == {fingerprint for fingerprint, line in log.items() if line.state == "firing"}
