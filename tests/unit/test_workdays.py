"""Working days: weekdays, holidays, zones, and calendars without an end."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from builders import at, entry, project, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.events import Meaning
from pmsync.core.project import view
from pmsync.core.workdays import Workdays

BERLIN = ZoneInfo("Europe/Berlin")
WEEK = frozenset(range(5))
PLAIN = Workdays(ZoneInfo("UTC"), WEEK, frozenset())
EASTER = Workdays(BERLIN, WEEK, frozenset({date(2026, 4, 3), date(2026, 4, 6)}))


@pytest.mark.parametrize(
    ("day", "n", "expected"),
    [
        ("2026-04-02", 1, "2026-04-07"),  # over Good Friday, a weekend and Easter Monday
        ("2026-04-07", -1, "2026-04-02"),
        ("2026-04-02", 0, "2026-04-02"),
        ("2026-04-04", 0, "2026-04-04"),  # a Saturday stays what it is
        ("2026-04-04", 1, "2026-04-07"),
        ("2026-04-04", -1, "2026-04-02"),
        ("2026-03-30", 10, "2026-04-15"),
    ],
)
def test_add(day: str, n: int, expected: str) -> None:
    assert EASTER.add(date.fromisoformat(day), n) == date.fromisoformat(expected)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ("2026-04-02", "2026-04-07", 1),
        ("2026-04-07", "2026-04-02", -1),
        ("2026-04-03", "2026-04-06", 0),
        ("2026-03-02", "2026-03-09", 5),
        ("2026-03-07", "2026-03-08", 0),
    ],
)
def test_between(a: str, b: str, expected: int) -> None:
    assert EASTER.between(date.fromisoformat(a), date.fromisoformat(b)) == expected


days = st.dates(date(2026, 1, 1), date(2026, 12, 31))
calendars = st.builds(Workdays, st.just(BERLIN), st.frozensets(st.integers(0, 6)), st.frozensets(days, max_size=20))


@given(calendars, days, days)
def test_between_counts_the_days_one_by_one(workdays: Workdays, a: date, b: date) -> None:
    low, high = sorted((a, b))
    one_by_one = sum(workdays.is_working(low + timedelta(days=n)) for n in range(1, (high - low).days + 1))
    assert workdays.between(a, b) == (one_by_one if a <= b else -one_by_one)


@given(calendars.filter(lambda w: bool(w.weekdays)), days, st.integers(-30, 30).filter(bool))
def test_add_goes_as_many_working_days_as_asked(workdays: Workdays, day: date, n: int) -> None:
    there = workdays.add(day, n)
    assert workdays.is_working(there)
    counted = workdays.between(day, there) if n > 0 else workdays.between(there, day) - workdays.is_working(day)
    assert counted + (workdays.is_working(there) if n < 0 else 0) == abs(n)


def test_holidays_on_the_only_working_day_of_the_week_are_stepped_over() -> None:
    fridays = Workdays(BERLIN, frozenset({4}), frozenset({date(2026, 12, 25), date(2027, 1, 1)}))
    assert fridays.add(date(2026, 12, 18), 1) == date(2027, 1, 8)
    assert fridays.add(date(2027, 1, 8), -1) == date(2026, 12, 18)


def test_without_working_days_calendar_days_count() -> None:
    never = Workdays(BERLIN, frozenset(), frozenset())
    assert never.add(date(2026, 3, 2), 3) == date(2026, 3, 5)
    assert never.add(date(2026, 3, 2), -3) == date(2026, 2, 27)
    assert never.between(date(2026, 3, 2), date(2026, 4, 2)) == 0
    assert never.after(at("2026-03-02"), 2) > at("2026-03-02")


def test_a_deadline_ends_with_its_day_in_the_zone_over_a_change_of_the_clocks() -> None:
    assert EASTER.deadline(date(2026, 3, 28)) == datetime(2026, 3, 28, 23, tzinfo=UTC)
    assert EASTER.deadline(date(2026, 3, 29)) == datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert EASTER.start(date(2026, 3, 30)) == EASTER.deadline(date(2026, 3, 29))


def test_instants_are_utc_so_that_they_compare_across_a_change_of_the_clocks() -> None:
    assert EASTER.deadline(date(2026, 3, 29)).tzinfo is UTC
    assert EASTER.after(at("2026-03-27"), 1).tzinfo is UTC


@pytest.mark.parametrize("day", [date.min, date(1, 1, 2), date(9999, 12, 31), date(9998, 12, 31)])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_ends_of_time_are_no_error(day: date, zone: str) -> None:
    workdays = Workdays(ZoneInfo(zone), WEEK, frozenset())
    assert workdays.start(day) <= workdays.deadline(day)
    for n in (-14, 0, 14):
        workdays.start(workdays.add(day, n))


@pytest.mark.parametrize(
    ("when", "n", "expected"),
    [
        (at("2026-03-06", 15), 1, at("2026-03-09", 15)),  # Friday to Monday
        (at("2026-03-07", 15), 1, at("2026-03-10", 0)),  # what begins on a Saturday begins on Monday
        (at("2026-03-06", 15), 0, at("2026-03-06", 15)),
    ],
)
def test_after_keeps_the_time_of_day(when: datetime, n: int, expected: datetime) -> None:
    assert PLAIN.after(when, n) == expected


def test_only_all_day_holidays_are_days_off() -> None:
    calendar = [
        entry("a", Meaning.holiday, date(2026, 5, 1)),
        entry("b", Meaning.holiday, date(2026, 5, 14), date(2026, 5, 16)),
        entry("c", Meaning.holiday, at("2026-05-18", 9), at("2026-05-18", 17)),
        entry("d", Meaning.time_off, date(2026, 5, 19)),
        entry("e", Meaning.holiday, date(2026, 6, 1), date(9999, 1, 1)),
    ]
    workdays = Workdays.of(project(time_zone="Europe/Berlin"), calendar)
    in_may = {day for day in workdays.holidays if day.month == 5 and day.year == 2026}
    assert in_may == {date(2026, 5, 1), date(2026, 5, 14), date(2026, 5, 15)}
    assert len(workdays.holidays) < 400
    assert Workdays.of(view(state(calendar=calendar, time_zone="Europe/Berlin"), at("2026-05-01"))) == workdays
