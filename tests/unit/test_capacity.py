"""What a team can do: tables whose answers are worked out by hand, and what holds of any calendar.

Unless a case says otherwise, Ada works from 9 to 17 on weekdays in Berlin, which is UTC+1 before 29 March 2026, UTC+2 until
25 October, and UTC+1 then; New York is UTC-5, but UTC-4 from 8 March to 1 November.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from builders import NOW, at, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.events import CalendarEntry, Meaning, Member, Occurrence, Shift, Step, Thing
from pmsync.core.measures.capacity import NOBODY, Capacity, Tally, capacity, merged, without
from pmsync.core.project import ProjectState, view
from pmsync.core.summary import unread

HOUR = 3600
BERLIN, NEW_YORK, KOLKATA = "Europe/Berlin", "America/New_York", "Asia/Kolkata"
NIGHT = ((22 * 60, 30 * 60),)
"""From 22:00 to 06:00 on the next day."""

Known = tuple[Thing, CalendarEntry]


def member(
    person: str = "ada", shifts: Sequence[tuple[int, int]] = ((540, 1020),), days: int = 5, **values: Any
) -> Member:
    """Somebody with these hours on the first so many days of the week; their calendar is the container of their name."""
    day = tuple(Shift(start=start, end=end) for start, end in shifts)
    known = {"time_zone": BERLIN, "calendars": {"calendar": (person,)}, **values}
    return Member(person=person, hours=(day,) * days + ((),) * (7 - days), **known)


def known(*members: Member, calendar: Iterable[Known] = (), **values: Any) -> ProjectState:
    """A project with this team, of which each calendar has been read. The project's own calendar is `team`."""
    theirs = {container for each in members for container in each.calendars.get("calendar", ())}
    theirs |= {container for each in members for container in (each.holidays or {}).get("calendar", ())}
    personal = {"calendar": tuple(sorted(theirs - {"team"}))}
    mapping = {"calendar": dict.fromkeys(sorted({"team", *theirs}), 1)}
    project: dict[str, Any] = {"time_zone": BERLIN, "mapping": mapping, "personal": personal, **values}
    return state(calendar=calendar, team=members, **project)


def off(
    container: str,
    start: date | str,
    end: date | str | None = None,
    *,
    meaning: Meaning = Meaning.time_off,
    busy: bool = True,
    whose: str | None = None,
) -> Known:
    """Time off, or what else it means, in somebody's calendar; `YYYY-MM-DD HH:MM` are instants in UTC, and without an end it is
    of a day."""
    first = _moment(start)
    last = _moment(end) if end is not None else first + timedelta(days=1)
    occurrence = Occurrence(start=first, end=last, busy=busy)
    content = CalendarEntry(container=container, meaning=meaning, whose=whose, occurrences=(occurrence,))
    return Thing("calendar", "calendar_entry", f"{container}/{first}/{last}/{meaning}"), content


def _moment(text: date | str) -> date:
    if not isinstance(text, str):
        return text
    return datetime.fromisoformat(f"{text}+00:00").astimezone(UTC) if " " in text else date.fromisoformat(text)


def of_day(found: Capacity, day: str) -> Tally | None:
    return next((each.tally for each in found.days if each.day == date.fromisoformat(day)), None)


def hours(tally: Tally | None) -> tuple[float, ...] | None:
    """Working hours, what holidays, time off and meetings take of them, and what is left."""
    if tally is None:
        return None
    parts = (tally.working, tally.holidays, tally.time_off, tally.meetings, tally.capacity)
    return tuple(seconds / HOUR for seconds in parts)


def looked_at(whom: ProjectState, day: str) -> tuple[float, ...] | None:
    """The hours of a day, looked at from its week's Monday or the day itself."""
    when = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(hours=12)
    return hours(of_day(capacity(view(whom, when), 2), day))


# --- tables -----------------------------------------------------------------------------------------------------------

HOLIDAY, MEETING = Meaning.holiday, Meaning.meeting
TABLE: dict[str, tuple[ProjectState, str, tuple[float, ...] | None]] = {
    "a day like any other": (known(member()), "2026-03-17", (8, 0, 0, 0, 8)),
    "a day on which nobody works": (known(member()), "2026-03-21", None),
    "a holiday of the project": (known(member(), calendar=[off("team", "2026-03-17", meaning=HOLIDAY)]), "2026-03-17", (8, 8, 0, 0, 0)),
    "the day after a holiday": (known(member(), calendar=[off("team", "2026-03-17", meaning=HOLIDAY)]), "2026-03-18", (8, 0, 0, 0, 8)),
    # Christmas Eve is off from noon (11:00 UTC): 5 hours of 8.
    "half a holiday": (known(member(), calendar=[off("team", "2026-12-24 11:00", "2026-12-24 23:00", meaning=HOLIDAY)]), "2026-12-24", (8, 5, 0, 0, 3)),
    "all of a day off": (known(member(), calendar=[off("ada", "2026-03-17")]), "2026-03-17", (8, 0, 8, 0, 0)),
    "an entry of no days is one day": (known(member(), calendar=[off("ada", "2026-03-17", "2026-03-17")]), "2026-03-17", (8, 0, 8, 0, 0)),
    "the end of an entry is not part of it": (known(member(), calendar=[off("ada", "2026-03-16", "2026-03-17")]), "2026-03-17", (8, 0, 0, 0, 8)),
    # From 13:00 there (12:00 UTC), to midnight: 13 to 17 is 4 hours.
    "half a day off": (known(member(), calendar=[off("ada", "2026-03-17 12:00", "2026-03-17 23:00")]), "2026-03-17", (8, 0, 4, 0, 4)),
    # From 20:00 on the 16th to 10:00 on the 17th there: one hour of the 17th.
    "over midnight, the day before": (known(member(), calendar=[off("ada", "2026-03-16 19:00", "2026-03-17 09:00")]), "2026-03-16", (8, 0, 0, 0, 8)),
    "over midnight, the day after": (known(member(), calendar=[off("ada", "2026-03-16 19:00", "2026-03-17 09:00")]), "2026-03-17", (8, 0, 1, 0, 7)),
    "before and after the hours takes nothing": (known(member(), calendar=[off("ada", "2026-03-17 04:00", "2026-03-17 08:00"), off("ada", "2026-03-17 16:00", "2026-03-17 20:00")]), "2026-03-17", (8, 0, 0, 0, 8)),
    "lunch is no work": (known(member(shifts=((540, 720), (780, 1080)))), "2026-03-17", (8, 0, 0, 0, 8)),
    # Off from 11:00 to 14:00: 11 to 12, and 13 to 14.
    "time off over lunch": (known(member(shifts=((540, 720), (780, 1080))), calendar=[off("ada", "2026-03-17 10:00", "2026-03-17 13:00")]), "2026-03-17", (8, 0, 2, 0, 6)),
    # 9 to 12 and 11 to 15 (UTC+1) are 9 to 15.
    "two that overlap count once": (known(member(), calendar=[off("ada", "2026-03-17 08:00", "2026-03-17 11:00"), off("ada", "2026-03-17 10:00", "2026-03-17 14:00")]), "2026-03-17", (8, 0, 6, 0, 2)),
    "time off on a holiday is the holiday's": (known(member(), calendar=[off("team", "2026-03-17", meaning=HOLIDAY), off("ada", "2026-03-16", "2026-03-21")]), "2026-03-17", (8, 8, 0, 0, 0)),
    "beside the holiday it is time off": (known(member(), calendar=[off("team", "2026-03-17", meaning=HOLIDAY), off("ada", "2026-03-16", "2026-03-21")]), "2026-03-18", (8, 0, 8, 0, 0)),
    # Off until noon, and half a holiday from 11:00: 11 to 17 is the holiday's, 9 to 11 remains of the time off.
    "time off and half a holiday": (known(member(), calendar=[off("team", "2026-03-17 10:00", "2026-03-17 23:00", meaning=HOLIDAY), off("ada", "2026-03-17 08:00", "2026-03-17 11:00")]), "2026-03-17", (8, 6, 2, 0, 0)),
    "tentative or free": (known(member(), calendar=[off("ada", "2026-03-17", busy=False)]), "2026-03-17", (8, 0, 0, 0, 8)),
    "a holiday is one whatever it shows": (known(member(), calendar=[off("team", "2026-03-17", meaning=HOLIDAY, busy=False)]), "2026-03-17", (8, 8, 0, 0, 0)),
    "time off of whom nobody knows": (known(member(), calendar=[off("team", "2026-03-17")]), "2026-03-17", (8, 0, 0, 0, 8)),
    "time off of somebody else": (known(member(), member("bo"), calendar=[off("bo", "2026-03-17")]), "2026-03-17", (16, 0, 8, 0, 8)),
    "whose it is by account": (known(member(accounts={"calendar": ("a1",)}), calendar=[off("team", "2026-03-17", whose="a1")]), "2026-03-17", (8, 0, 8, 0, 0)),
    "by an account of another source": (known(member(accounts={"jira": ("a1",)}), calendar=[off("team", "2026-03-17", whose="a1")]), "2026-03-17", (8, 0, 0, 0, 8)),
    # --- meetings
    "meetings are not asked for": (known(member(), calendar=[off("ada", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING)]), "2026-03-17", (8, 0, 0, 0, 8)),
    "a meeting": (known(member(), count_meetings=True, calendar=[off("ada", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING)]), "2026-03-17", (8, 0, 0, 1, 7)),
    "a meeting that is tentative": (known(member(), count_meetings=True, calendar=[off("ada", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING, busy=False)]), "2026-03-17", (8, 0, 0, 0, 8)),
    "two meetings at once are one": (known(member(), count_meetings=True, calendar=[off("ada", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING), off("ada", "2026-03-17 09:30", "2026-03-17 10:30", meaning=MEETING)]), "2026-03-17", (8, 0, 0, 1.5, 6.5)),
    "a meeting while one is off": (known(member(), count_meetings=True, calendar=[off("ada", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING), off("ada", "2026-03-17")]), "2026-03-17", (8, 0, 8, 0, 0)),
    "a meeting of the project is everybody's": (known(member(), member("bo"), count_meetings=True, calendar=[off("team", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING)]), "2026-03-17", (16, 0, 0, 2, 14)),
    "a meeting of one is not the other's": (known(member(), member("bo"), count_meetings=True, calendar=[off("bo", "2026-03-17 09:00", "2026-03-17 10:00", meaning=MEETING)]), "2026-03-17", (16, 0, 0, 1, 15)),
    # --- zones and clocks
    # 9 to 17 there is 13:00 to 21:00 UTC on 17 March; an entry from 12:00 to 15:00 UTC takes two hours there, and 13 to 16 of Berlin's, three.
    "each by their own zone": (known(member(), member("bo", time_zone=NEW_YORK), calendar=[off(who, "2026-03-17 12:00", "2026-03-17 15:00") for who in ("ada", "bo")]), "2026-03-17", (16, 0, 5, 0, 11)),
    # 2 to 13 March: on the 6th New York is UTC-5 (9:00 is 14:00 UTC), on the 9th UTC-4 (13:00 UTC).
    "before the clocks change in New York": (known(member(time_zone=NEW_YORK), calendar=[off("ada", "2026-03-06 13:00", "2026-03-06 15:00")]), "2026-03-06", (8, 0, 1, 0, 7)),
    "after the clocks change in New York": (known(member(time_zone=NEW_YORK), calendar=[off("ada", "2026-03-09 13:00", "2026-03-09 15:00")]), "2026-03-09", (8, 0, 2, 0, 6)),
    # The 29th is a Sunday: 22:00 on the 28th (UTC+1, 21:00 UTC) to 06:00 (UTC+2, 04:00 UTC) is seven hours.
    "a night in which an hour is missing": (known(member(shifts=NIGHT, days=7)), "2026-03-28", (7, 0, 0, 0, 7)),
    "the night before": (known(member(shifts=NIGHT, days=7)), "2026-03-27", (8, 0, 0, 0, 8)),
    # 22:00 on 24 October (UTC+2, 20:00 UTC) to 06:00 (UTC+1, 05:00 UTC) is nine hours.
    "a night in which an hour is there twice": (known(member(shifts=NIGHT, days=7)), "2026-10-24", (9, 0, 0, 0, 9)),
    # New York, 7 March 22:00 (03:00 UTC) to 06:00 (10:00 UTC), and 31 October 22:00 (02:00 UTC) to 06:00 (11:00 UTC).
    "a short night in New York": (known(member(shifts=NIGHT, days=7, time_zone=NEW_YORK)), "2026-03-07", (7, 0, 0, 0, 7)),
    "a long night in New York": (known(member(shifts=NIGHT, days=7, time_zone=NEW_YORK)), "2026-10-31", (9, 0, 0, 0, 9)),
    # All of the 28th is off, so of the night that begins on it 22:00 to midnight is; all of the 29th: the five hours to 6:00.
    "the day of a short night off": (known(member(shifts=NIGHT, days=7), calendar=[off("ada", "2026-03-28")]), "2026-03-28", (7, 0, 2, 0, 5)),
    "the day after a short night off": (known(member(shifts=NIGHT, days=7), calendar=[off("ada", "2026-03-29")]), "2026-03-28", (7, 0, 5, 0, 2)),
    # From 02:30 to 06:00: 02:30 is not there; by the offset before (UTC+1) it is 01:30 UTC, to 04:00 UTC.
    "hours that begin in the missing hour": (known(member(shifts=((150, 360),), days=7)), "2026-03-29", (2.5, 0, 0, 0, 2.5)),
    "hours within the missing hour": (known(member(shifts=((150, 190),), days=7)), "2026-03-29", None),
    # All of 17 March is, in Kolkata (UTC+5:30), 18:30 UTC on the 16th to 18:30 UTC on the 17th; 9 to 17 lies in it.
    "all of a day is the person's own day": (known(member(time_zone=KOLKATA, shifts=((0, 1440),)), calendar=[off("ada", "2026-03-17")]), "2026-03-17", (24, 0, 24, 0, 0)),
    "and no part of the day before": (known(member(time_zone=KOLKATA, shifts=((0, 1440),)), calendar=[off("ada", "2026-03-17")]), "2026-03-16", (24, 0, 0, 0, 24)),
    # --- allocation and ramp
    "half of somebody": (known(member(allocation=500)), "2026-03-17", (4, 0, 0, 0, 4)),
    "half of somebody, half a day off": (known(member(allocation=500), calendar=[off("ada", "2026-03-17 12:00", "2026-03-17 23:00")]), "2026-03-17", (4, 0, 2, 0, 2)),
    "before the first day": (known(member(joins=date(2026, 3, 18))), "2026-03-17", (0, 0, 0, 0, 0)),
    "the first day": (known(member(joins=date(2026, 3, 17))), "2026-03-17", (8, 0, 0, 0, 8)),
    "the last day": (known(member(leaves=date(2026, 3, 17))), "2026-03-17", (8, 0, 0, 0, 8)),
    "after the last day": (known(member(leaves=date(2026, 3, 16))), "2026-03-17", (0, 0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_the_hours_of_a_day(case: str) -> None:
    whom, day, expected = TABLE[case]
    assert looked_at(whom, day) == expected


def test_a_joiner_comes_in_by_steps() -> None:
    """A quarter for seven days from Wednesday the 18th on, half for seven more, then all: 2, 4 and 8 hours."""
    steps = (Step(days=7, share=250), Step(days=7, share=500))
    found = capacity(view(known(member(joins=date(2026, 3, 18), ramp=steps)), NOW), 4)
    days = ("2026-03-17", "2026-03-18", "2026-03-24", "2026-03-25", "2026-03-31", "2026-04-01")
    assert [hours(of_day(found, day)) for day in days] == [(h, 0, 0, 0, h) for h in (0, 2, 2, 4, 4, 8)]


def test_somebody_on_three_projects_is_split() -> None:
    """1/3 cannot be told in thousandths: 333, 333 and 334 of eight hours with one of them off (7 h = 25200 s) are 8391, 8391
    and 8416 s. What is rounded is lost, and never doubled."""
    leave = [off("ada", "2026-03-17 12:00", "2026-03-17 13:00")]
    shares = (333, 333, 334)
    found = [capacity(view(known(member(allocation=share), calendar=leave), NOW)) for share in shares]
    tallies = [of_day(each, "2026-03-17") for each in found]
    assert [tally.capacity for tally in tallies if tally] == [8391, 8391, 8416]
    assert sum(tally.working for tally in tallies if tally) == 9590 + 9590 + 9619 <= 8 * HOUR


def test_each_has_the_holidays_of_where_they_are() -> None:
    """The 17th is a holiday in Ireland alone, the 20th in the project's own calendar. Bo keeps Ireland's and nothing else."""
    calendar = [off("IE", "2026-03-17", meaning=HOLIDAY), off("team", "2026-03-20", meaning=HOLIDAY)]
    whom = known(member(), member("bo", holidays={"calendar": ("IE",)}), calendar=calendar)
    found = capacity(view(whom, NOW))
    assert hours(of_day(found, "2026-03-17")) == (16, 8, 0, 0, 8)
    assert hours(of_day(found, "2026-03-20")) == (16, 8, 0, 0, 8)
    assert [day.is_working for day in found.days if day.day in {date(2026, 3, 17), date(2026, 3, 20)}] == [True, False]
    (day,) = (each for each in found.days if each.day == date(2026, 3, 17))
    assert {person: hours(tally) for person, tally in day.members.items()} == {
        "ada": (8, 0, 0, 0, 8),
        "bo": (8, 8, 0, 0, 0),
    }


def test_weeks_are_from_today_on() -> None:
    """From Wednesday the 18th on: three days, five days less one off."""
    whom = known(member(), calendar=[off("ada", "2026-03-24")])
    found = capacity(view(whom, at("2026-03-18")), 2)
    assert [(week.first.isoformat(), hours(week.tally)) for week in found.weeks] == [
        ("2026-03-16", (24, 0, 0, 0, 24)),
        ("2026-03-23", (40, 0, 8, 0, 32)),
    ]
    assert hours(found.tally) == (64, 0, 8, 0, 56)


def test_who_works_on_a_day_off_of_the_project_counts_on_it() -> None:
    """Sunday to Thursday: the 22nd is a Sunday, the 20th a Friday without anybody."""
    week = tuple(() if day in {4, 5} else (Shift(start=540, end=1020),) for day in range(7))
    found = capacity(view(known(member().model_copy(update={"hours": week})), NOW), 1)
    assert [(day.day.day, day.is_working, hours(day.tally)) for day in found.days][-2:] == [
        (20, True, (0, 0, 0, 0, 0)),
        (22, False, (8, 0, 0, 0, 8)),
    ]


# --- what is not known ------------------------------------------------------------------------------------------------


def test_without_a_team_nothing_is_known() -> None:
    found = capacity(view(known(), NOW))
    assert (found.reason, found.tally, found.days, found.weeks) == (NOBODY, None, (), ())


def test_while_a_calendar_is_not_read_nothing_is_known() -> None:
    whole = known(member(), calendar=[off("ada", "2026-03-17")])
    synced = [each for each in whole.things["synced"] if each[0].id != "ada"]
    found = capacity(view(ProjectState(whole.project, {**whole.things, "synced": synced}), NOW))
    assert (found.reason, found.tally) == (
        "1 calendars of its team have not been read yet; `pmsync doctor` says why",
        None,
    )


def test_who_is_not_there_keeps_nobody_from_being_counted() -> None:
    gone = member("bob", leaves=date(2026, 3, 1)), member("eve", joins=date(2027, 3, 1))
    whole = known(member(), *gone)
    synced = [each for each in whole.things["synced"] if each[0].id not in {"bob", "eve"}]
    found = capacity(view(ProjectState(whole.project, {**whole.things, "synced": synced}), NOW))
    assert (found.reason, found.tally is not None) == ("", True)


def test_whose_an_entry_is_goes_before_whose_the_calendar_is() -> None:
    """One calendar of absences may be under the calendars of one, and have entries that are said to be another's."""
    ada = member(calendars={"calendar": ("absences",)})
    bob = member("bob", calendars={}, accounts={"calendar": ("b1",)})
    found = known(ada, bob, calendar=[off("absences", "2026-03-17", whose="b1")])
    assert looked_at(found, "2026-03-17") == (16, 0, 8, 0, 8)


def test_a_calendar_of_the_team_that_is_not_read_is_the_capacitys_matter_alone() -> None:
    """It is private: its name is in no message, and the project is assessed without it."""
    whole = known(member())
    synced = [each for each in whole.things["synced"] if each[0].id != "ada"]
    assert unread(ProjectState(whole.project, {**whole.things, "synced": synced})) == ()
    assert unread(ProjectState(whole.project, {**whole.things, "synced": []})) == ("team in calendar",)


def test_what_does_not_count_is_said() -> None:
    calendar = [
        off("team", "2026-03-17"),
        off("team", "2026-03-18", whose="somebody"),
        off("ada", "2026-03-19", busy=False),
        off("ada", "2026-03-20"),
        off("team", "2025-03-20"),
    ]
    assert capacity(view(known(member(), calendar=calendar), NOW)).notes == (
        "entries of time off that do not count: 1, since nothing says whose they are",
        "entries of time off that do not count: 1, of others than the team",
        "entries of time off that do not count: 1, tentative, or leaving people free",
    )


def test_entries_of_a_persons_calendar_say_nothing_of_the_project() -> None:
    """Neither its days off nor its deadlines; nor are they in its table of entries."""
    calendar = [off("ada", "2026-03-17", meaning=HOLIDAY), off("ada", "2026-03-20", meaning=Meaning.deadline)]
    shown = view(known(member(), calendar=calendar), NOW)
    assert (shown.calendar, shown.deadlines) == ((), ())
    assert {thing for thing, _ in shown.personal} == {thing for thing, _ in calendar}
    assert of_day(capacity(shown), "2026-03-17") == Tally(8 * HOUR, 8 * HOUR)


@pytest.mark.parametrize("when", ["0001-01-01", "9999-12-31"])
def test_the_ends_of_time(when: str) -> None:
    occurrences = (
        Occurrence(start=date.min, end=date.max),
        Occurrence(start=date.max, end=date.max),
        Occurrence(start=datetime.min.replace(tzinfo=UTC), end=datetime.max.replace(tzinfo=UTC)),
    )
    thing, content = off("ada", "2026-03-17")
    whom = known(member(), calendar=[(thing, content.model_copy(update={"occurrences": occurrences}))])
    tally = capacity(view(whom, datetime.fromisoformat(f"{when}T12:00:00+00:00")), 52).tally
    assert tally is not None
    assert (tally.capacity, tally.working > 0) == (0, True)


# --- what holds of any calendar ---------------------------------------------------------------------------------------

_FIRST = at("2026-03-28", 0)
"""A Saturday; the clocks of Berlin change in the night after it. Few days, so that entries often meet."""
_SHORT = st.tuples(st.integers(0, 4 * 48), st.integers(0, 24)).map(lambda half: (half[0], half[0] + half[1]))
_LONG = st.tuples(st.integers(0, 4 * 48), st.integers(0, 4 * 48)).map(sorted)
_INSTANTS = st.one_of(_SHORT, _LONG).map(lambda span: tuple(_FIRST + timedelta(minutes=30 * half) for half in span))
_DAYS = st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted)
_SPANS = st.one_of(
    _INSTANTS, _INSTANTS, _DAYS.map(lambda days: tuple(_FIRST.date() + timedelta(days=day) for day in days))
)
_MEANINGS = st.sampled_from([Meaning.time_off, Meaning.time_off, Meaning.holiday, Meaning.meeting])
_WHOSE = st.sampled_from(["ada", "ada", "team"])


@st.composite
def _entries(draw: st.DrawFn, least: int = 2, most: int = 6) -> list[Known]:
    busy = st.sampled_from([True, True, True, False])
    spans = draw(st.lists(st.tuples(_SPANS, _MEANINGS, _WHOSE, busy), min_size=least, max_size=most))
    return [off(whose, span[0], span[1], meaning=meaning, busy=busy) for span, meaning, whose, busy in spans]


@st.composite
def _shifts(draw: st.DrawFn) -> tuple[tuple[int, int], ...]:
    cuts = sorted(draw(st.sets(st.integers(0, 48), min_size=2, max_size=4)))
    return tuple((a * 30, b * 30) for a, b in zip(cuts[::2], cuts[1::2], strict=False))


@st.composite
def _teams(draw: st.DrawFn) -> tuple[Member, ...]:
    """Ada, with any hours anywhere, and Bo, who has the project's entries alone."""
    zones = st.sampled_from([BERLIN, NEW_YORK, KOLKATA, "Pacific/Apia", "Australia/Lord_Howe"])
    hours = st.one_of(st.just(((0, 1440),)), st.just(NIGHT), _shifts())
    joins = draw(st.sampled_from([None, None, date(2026, 3, 29)]))
    allocation = draw(st.sampled_from([1000, 1000, 333, 1, 0]))
    ramp = (Step(days=1, share=250),) if joins else ()
    ada = member("ada", draw(hours), 7, time_zone=draw(zones), allocation=allocation, joins=joins, ramp=ramp)
    return ada, member("bo", draw(hours), 7, time_zone=draw(zones))


def seen(team: Sequence[Member], calendar: Sequence[Known]) -> Capacity:
    return capacity(view(known(*team, calendar=calendar, count_meetings=True), _FIRST), 2)


def everybody(found: Capacity) -> dict[tuple[date, str], Tally]:
    return {(day.day, person): tally for day in found.days for person, tally in day.members.items()}


@given(_teams(), _entries(), _entries(1, 2))
def test_more_of_anything_never_raises_capacity(team: tuple[Member, ...], some: list[Known], more: list[Known]) -> None:
    before, after = everybody(seen(team, some)), everybody(seen(team, [*some, *more]))
    assert before.keys() == after.keys()
    assert all(after[key].capacity <= before[key].capacity for key in before)


@given(_teams(), _entries())
def test_capacity_lies_between_nothing_and_the_working_hours(team: tuple[Member, ...], some: list[Known]) -> None:
    found = seen(team, some)
    for tally in [*everybody(found).values(), *(day.tally for day in found.days)]:
        assert 0 <= tally.capacity <= tally.working
        assert min(tally.holidays, tally.time_off, tally.meetings) >= 0
    assert found.tally is not None
    assert found.tally == sum((tally for tally in everybody(found).values()), Tally())
    assert sum((week.tally for week in found.weeks), Tally()) == found.tally


@given(_teams(), _entries(), st.randoms(use_true_random=False))
def test_the_order_of_entries_does_not_matter(team: tuple[Member, ...], some: list[Known], dice: Any) -> None:
    other = [*some, *some]
    dice.shuffle(other)
    found, again = seen(team, some), seen(team, other)
    assert (found.days, found.first, found.last) == (again.days, again.first, again.last)


@given(_teams(), _entries(), st.integers(0, 4 * 48).map(lambda half: _FIRST + timedelta(minutes=30 * half)))
def test_two_that_adjoin_are_as_good_as_one(team: tuple[Member, ...], some: list[Known], cut: datetime) -> None:
    halves = [
        (thing, content.model_copy(update={"occurrences": part}))
        for thing, content in some
        for part in _cut(content, cut)
    ]
    assert seen(team, some).days == seen(team, halves).days


def _cut(content: CalendarEntry, cut: datetime) -> Iterable[tuple[Occurrence, ...]]:
    (whole,) = content.occurrences
    where = cut if isinstance(whole.start, datetime) else cut.date()
    if not whole.start < where < whole.end:  # type: ignore[operator]
        return [content.occurrences]
    return [(whole.model_copy(update={"end": where}),), (whole.model_copy(update={"start": where}),)]


_SECONDS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=8)


@given(_SECONDS, _SECONDS)
def test_spans_are_sets_of_seconds(some: list[tuple[int, int]], taken: list[tuple[int, int]]) -> None:
    def seconds(spans: Iterable[tuple[int, int]]) -> set[int]:
        return {second for start, end in spans for second in range(start, end)}

    found = without(merged(some), merged(taken))
    assert seconds(found) == seconds(some) - seconds(taken)
    assert list(found) == list(merged(found))
