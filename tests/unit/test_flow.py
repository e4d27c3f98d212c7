"""Flow times, and why one is missing."""

import math
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from builders import NOW, START, Move, any_items, at, done, item, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.measures import measures
from pmsync.core.measures.flow import (
    CUT,
    NEGATIVE,
    NO_HISTORY,
    NOT_DONE,
    NOT_IN_PROGRESS,
    Elapsed,
    age,
    cycle_time,
    lead_time,
    percentile,
    throughput,
    wip,
)
from pmsync.core.project import Item, item_at, view

DAY = 86_400
TUESDAY, FRIDAY = at("2026-01-06", 9), at("2026-01-09", 9)


def told(*moves: Move, **initial: Any) -> Item:
    return item_at(*item("1", moves, **initial), NOW)


@pytest.mark.parametrize(
    ("subject", "cycle", "lead", "aged"),
    [
        (told(), NOT_DONE, NOT_DONE, NOT_IN_PROGRESS),
        (
            told((TUESDAY, "status_category", "in_progress"), (FRIDAY, "status_category", "done")),
            3 * DAY,
            4 * DAY,
            NOT_IN_PROGRESS,
        ),
        (told((FRIDAY, "status_category", "done")), 0, 4 * DAY, NOT_IN_PROGRESS),
        (told((TUESDAY, "status_category", "in_progress")), NOT_DONE, NOT_DONE, 69 * DAY + 3 * 3600),
        (told((TUESDAY, "status_category", "dropped")), NOT_DONE, NOT_DONE, NOT_IN_PROGRESS),
        (told((TUESDAY, "status_category", "done"), created=FRIDAY), 0, NEGATIVE, NOT_IN_PROGRESS),
        (told(status_category="done", untracked=("status_category",)), NO_HISTORY, NO_HISTORY, NOT_IN_PROGRESS),
        (
            told((FRIDAY, "status_category", "done"), status_category="in_progress", history_cut=True),
            CUT,
            4 * DAY,
            NOT_IN_PROGRESS,
        ),
    ],
)
def test_times(subject: Item, cycle: int | str, lead: int | str, aged: int | str) -> None:
    for found, expected in ((cycle_time(subject), cycle), (lead_time(subject), lead), (age(subject, NOW), aged)):
        assert found == (Elapsed(expected) if isinstance(expected, int) else Elapsed(None, expected))


def test_throughput_goes_by_local_days() -> None:
    items = view(state([done("1", at("2026-01-06", 23)), done("2", at("2026-01-07", 1)), item("3")]), NOW).items
    assert throughput(items, ZoneInfo("Europe/Berlin")) == {date(2026, 1, 7): 2}
    assert throughput(items, ZoneInfo("UTC")) == {date(2026, 1, 6): 1, date(2026, 1, 7): 1}


@given(st.lists(st.integers(), min_size=1), st.integers(1, 100))
def test_a_percentile_is_the_nearest_rank(values: list[int], percent: int) -> None:
    assert percentile(values, percent) == sorted(values)[math.ceil(percent * len(values) / 100) - 1]


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([], 50) is None


def test_wip_is_what_is_in_progress() -> None:
    items = view(state([item("1"), item("2", [(TUESDAY, "status_category", "in_progress")]), done("3", FRIDAY)]), NOW)
    assert [i.key for i in wip(items.items)] == ["APO-2"]


@given(any_items())
def test_a_figure_that_is_missing_says_why(items: Any) -> None:
    known = state(items, deadline="2026-04-01", milestones=[])
    for measure in measures(view(known, NOW)):
        if measure.value is None:
            assert measure.evidence["reason"], measure
        assert not isinstance(measure.value, bool)


def test_measures_of_a_small_project() -> None:
    known = state([done("1", FRIDAY, created=START), item("2", estimate=500)])
    found = {m.name: m.value for m in measures(view(known, at("2026-01-14")))}
    assert found["done_share"] == 0.5
    assert found["done_share_by_estimate"] == 0
    assert found["throughput"] == 1
    assert found["lead_time_p85"] == 4 * DAY
    assert found["wip_age_p50"] is None
