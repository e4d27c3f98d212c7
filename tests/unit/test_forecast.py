"""The forecast: what it counts, that it is steady, and that it never guesses."""

import json
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest
from builders import JIRA, NOW, Item, any_items, at, done, entry, item, milestone, state
from hypothesis import given, settings
from hypothesis import strategies as st

from pmsync.core.events import CONFIGURATION, Meaning, Thing
from pmsync.core.measures.forecast import (
    CLOSED,
    DONE,
    NO_ITEMS,
    NO_THROUGHPUT,
    NO_WORKING_DAYS,
    Forecast,
    forecast,
    pace,
    seed,
)
from pmsync.core.measures.simulation import TRIALS, nearest_rank, simulate
from pmsync.core.project import ProjectState, view

OLD = at("2025-06-02")
TODAY = NOW.date()


def weekdays(n: int) -> list[date]:
    """The last n weekdays before today, newest first."""
    return [day for k in range(1, 2 * n + 7) if (day := TODAY - timedelta(days=k)).weekday() < 5][:n]


def daily(per_day: int = 1, days: int = 60, **initial: Any) -> list[Item]:
    """A steady past: so many items finished on each working day."""
    return [
        done(f"d{n}.{k}", at(day.isoformat()), created=OLD, **initial)
        for n, day in enumerate(weekdays(days))
        for k in range(per_day)
    ]


def work(n: int, mark: str = "w", **initial: Any) -> list[Item]:
    return [item(f"{mark}{k}", created=OLD, **({"milestone": "m1"} | initial)) for k in range(n)]


def told(known: ProjectState, ident: str = "m1") -> Forecast:
    shown = view(known, NOW)
    return forecast(shown, next(d for d in shown.deadlines if d.thing.id == ident))


def test_a_steady_team_ends_on_the_day_that_one_can_count() -> None:
    found = told(state([*daily(), *work(7)], [milestone(due="2026-03-24")]))
    # Monday 16 March is the first of seven working days.
    assert (found.p50, found.p85, found.p95) == (date(2026, 3, 24),) * 3
    assert found.on_time == 1000
    assert told(state([*daily(), *work(7)], [milestone(due="2026-03-23")])).on_time == 0


def test_days_off_are_stepped_over() -> None:
    holidays = [entry("h", Meaning.holiday, date(2026, 3, 17), date(2026, 3, 20))]
    assert told(state([*daily(), *work(3)], [milestone()], holidays)).p50 == date(2026, 3, 23)


def test_what_is_finished_on_a_weekend_counts_on_the_next_working_day() -> None:
    saturday = [done(f"s{n}", at("2026-03-07"), created=OLD) for n in range(60)]
    found = told(state([*saturday, *work(3)], [milestone()]))
    assert found.evidence["finished"] == 60
    assert found.p95 is not None


def test_the_work_of_earlier_deadlines_comes_first_and_counts_once() -> None:
    known = state(
        [
            *daily(),
            *work(4),
            *work(3, "x", milestone="m2"),
            *work(5, "y", milestone="m3"),
            *work(9, "z", milestone="m4"),
        ],
        [
            milestone("m1", "2026-04-10"),
            milestone("m2", "2026-04-01"),
            milestone("m3", "2026-04-20"),
            milestone("m4", "2026-03-20", state="closed", closed_at=OLD),
        ],
    )
    assert told(known).evidence["remaining"] == 7
    assert told(known, "m2").evidence["remaining"] == 3
    assert told(known, "m3").evidence["remaining"] == 12
    assert told(known).evidence["count"] == 4


def test_the_projects_deadline_overlaps_with_its_milestones() -> None:
    known = state([*daily(), *work(4)], [milestone("m1", "2026-04-01")], deadline="2026-05-01")
    assert told(known, "apollo").evidence["remaining"] == 4


def test_scope_growth_is_sampled_and_planning_is_none() -> None:
    late = [item(f"g{n}", created=at(day.isoformat()), milestone="m1") for n, day in enumerate(weekdays(30)[::2])]
    grown = told(state([*daily(), *work(5), *late], [milestone()]))
    planned = told(state([*daily(), *work(20)], [milestone()]))
    assert (grown.evidence["added"], planned.evidence["added"]) == (15, 0)
    assert grown.evidence["remaining"] == planned.evidence["remaining"] == 20
    assert grown.p50
    assert planned.p50
    assert grown.p50 > planned.p50
    sprint = [item(f"g{n}", created=at(day.isoformat()), milestone="m1") for n, day in enumerate(weekdays(4))]
    assert told(state([*daily(), *sprint], [milestone()])).evidence["added"] == 0


def test_an_item_that_moves_into_the_milestone_or_the_project_is_growth() -> None:
    moved = [
        item("a", [(at("2026-03-03"), "milestone", "m1")], created=OLD),
        item("b", [(at("2026-03-04"), "container", "APO")], created=OLD, container="ELSE", milestone="m1"),
        item("c", [(at("2026-03-05"), "container", "APO")], created=OLD, container="BETA", milestone="m1"),
    ]
    ours = {"APO": 1, "BETA": 1}
    known = state([*daily(), *work(3), *moved], [milestone()], mapping={JIRA: ours})
    assert told(known).evidence["added"] == 2


@pytest.mark.parametrize(
    ("items", "versions", "more", "reason"),
    [
        (daily(), [milestone()], {}, NO_ITEMS),
        ([*daily(), done("w", NOW, created=OLD, milestone="m1")], [milestone()], {}, DONE),
        ([*daily(), *work(1)], [milestone(state="closed", closed_at=OLD)], {}, CLOSED),
        (work(3), [milestone()], {}, NO_THROUGHPUT),
        ([*daily(), *work(1)], [milestone()], {"working_days": ()}, NO_WORKING_DAYS),
        ([done("o", at("2025-09-01"), created=OLD), *work(1)], [milestone()], {}, NO_THROUGHPUT),
    ],
)
def test_where_there_is_no_forecast_there_is_a_reason(items: Any, versions: Any, more: Any, reason: str) -> None:
    found = told(state(items, versions, **more))
    assert found.reason == reason
    assert (found.p50, found.p85, found.p95, found.on_time) == (None,) * 4


def test_without_a_due_date_there_are_dates_but_no_chance() -> None:
    found = told(state([*daily(), *work(2)], [milestone()]))
    assert found.p50
    assert (found.on_time, found.reason) == (None, "")


def test_what_takes_more_than_two_years_has_no_date() -> None:
    found = told(state([*daily(days=1), *work(100)], [milestone(due="2026-12-01")]))
    assert (found.p50, found.reason, found.on_time) == (None, "", 0)


def test_what_is_due_later_than_anyone_looks_is_not_called_late() -> None:
    """Placeholder dates (2099-12-31) are common."""
    found = told(state([*daily(days=1), *work(100)], [milestone(due="2036-12-31")]))
    assert (found.p95, found.on_time) == (None, None)
    soon = told(state([*daily(), *work(3)], [milestone(due="2036-12-31")]))
    assert soon.on_time == 1000


def test_the_window_is_no_older_than_the_project() -> None:
    young = at(weekdays(20)[-1].isoformat(), 1)
    items = [done(f"d{n}", at(day.isoformat()), created=young) for n, day in enumerate(weekdays(20))]
    found = told(state([*items, item("w", created=young, milestone="m1")], [milestone()]))
    assert found.evidence["window_days"] == 20
    assert found.p95 == TODAY
    newborn = state([done("d", at("2026-03-13"), created=at("2026-03-12")), item("w", milestone="m1", created=NOW)], [milestone()])  # fmt: skip
    assert told(newborn).evidence["window_days"] == 10


def test_the_same_question_has_the_same_answer_on_a_day_whatever_the_hour() -> None:
    known = state([*daily(2, 30), *work(40)], [milestone(due="2026-04-20")])
    shown = view(known, NOW)
    early = view(known, at("2026-03-16", 1))
    assert forecast(shown, shown.deadlines[0]) == forecast(shown, shown.deadlines[0], pace(shown)) == forecast(early, early.deadlines[0])  # fmt: skip


def test_seeds_differ_by_project_deadline_and_day() -> None:
    thing = Thing(CONFIGURATION, "project", "apollo")
    seeds = {
        seed("apollo", thing, TODAY),
        seed("beacon", thing, TODAY),
        seed("apollo", thing._replace(id="x"), TODAY),
        seed("apollo", thing, TODAY + timedelta(days=1)),
    }
    assert len(seeds) == 4


def test_a_forecast_is_the_quantiles_of_its_own_days_draws() -> None:
    known = state([*daily(2, 30), *work(40)], [milestone(due="2026-04-20")])
    shown = view(known, NOW)
    shared, deadline = pace(shown), shown.deadlines[0]
    taken = simulate(shared.finished, 40, seed("apollo", deadline.thing, TODAY), len(shared.ahead), 100)
    found = forecast(shown, deadline)
    assert found.p50 == shared.ahead[sorted(taken)[499] - 1]
    assert found.p85 == shared.ahead[sorted(taken)[849] - 1]
    due = date(2026, 4, 20)
    assert found.on_time == sum(shared.ahead[n - 1] <= due for n in taken)


def test_quantiles_are_by_nearest_rank() -> None:
    for share in (500, 850, 950):
        assert nearest_rank(np.arange(1, 1001)[::-1], share) == share


def test_the_window_ends_with_its_first_day() -> None:
    days = weekdays(61)
    for day, finished in ((days[-1], 0), (days[-2], 1)):
        items = [done("d", at(day.isoformat()), created=OLD), *work(1)]
        assert told(state(items, [milestone()])).evidence["finished"] == finished


nets = st.lists(st.integers(-3, 6), min_size=1, max_size=60).map(lambda values: np.array(values, np.int64))


@given(nets, st.integers(1, 400), st.integers(0, 100), st.integers(0, 2**64), st.integers(0, 300))
@settings(max_examples=60)
def test_more_work_never_ends_earlier(net: Any, target: int, more: int, start: int, needed: int) -> None:
    less, greater = (np.sort(simulate(net, n, start, 300, needed)) for n in (target, target + more))
    for rank in (499, 849, 949):
        assert less[rank] <= greater[rank]
    assert (less <= needed).sum() >= (greater <= needed).sum()


@given(nets, st.integers(1, 400), st.integers(0, 2**64))
@settings(max_examples=60)
def test_stopping_early_changes_no_answer(net: Any, target: int, start: int) -> None:
    whole, short = (simulate(net, target, start, 200, needed) for needed in (200, 40))
    assert ((whole <= 40) == (short <= 40)).all()
    for rank in (499, 849, 949):
        assert np.sort(whole)[rank] == np.sort(short)[rank]


@given(st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=25)
def test_more_items_never_give_an_earlier_date(n: int, more: int) -> None:
    past = daily(2, 23)
    less, greater = (told(state([*past, *work(k)], [milestone(due="2026-04-20")])) for k in (n, n + more))
    for a, b in ((less.p50, greater.p50), (less.p85, greater.p85), (less.p95, greater.p95)):
        assert a
        assert b
        assert a <= b
    assert less.on_time is not None
    assert greater.on_time is not None
    assert less.on_time >= greater.on_time


def test_the_simulation_agrees_with_a_naive_one() -> None:
    net = np.array([0, 0, 1, 2, 5, -1], np.int64)
    draws = np.random.default_rng(7)
    naive = []
    for _ in range(4000):
        total, steps = 0, 0
        while total < 40:
            total += net[draws.integers(0, len(net))]
            steps += 1
        naive.append(steps)
    fast = simulate(net, 40, 3, 500, 500)
    assert len(fast) == TRIALS
    for share in (0.5, 0.85, 0.95):
        assert abs(np.quantile(naive, share) - np.quantile(fast, share)) <= 2


@given(any_items())
def test_any_history_gives_a_forecast_or_a_reason(items: list[Item]) -> None:
    known = state(items, [milestone("m1", "2026-03-20"), milestone("m2", "2026-05-01")], deadline="2026-04-01")
    shown = view(known, NOW)
    for deadline in shown.deadlines:
        found = forecast(shown, deadline)
        json.dumps(found.evidence)
        if found.reason:
            assert found.p50 is None
            assert found.on_time is None
        else:
            assert found.p85 is None or (found.p50 and found.p50 <= found.p85)
            assert found.on_time is not None
            assert 0 <= found.on_time <= 1000
