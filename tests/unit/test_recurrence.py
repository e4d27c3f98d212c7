"""What a feed's entries expand to: tables whose answers were worked out by hand, and rules that mean harm."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import date, datetime
from itertools import takewhile
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from dateutil.rrule import rrulestr  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from connectors.base import Read
from connectors.ics import (
    ENTRY_STEPS,
    MAX_OCCURRENCES,
    OCCURRENCE_STEPS,
    Meter,
    Pattern,
    Scope,
    Window,
    horizon,
    metered,
    read_feed,
)
from pmsync.core.events import CalendarEntry, Meaning

YEAR = Window(date(2026, 1, 1), date(2027, 1, 1))
OURS = """BEGIN:VTIMEZONE
TZID:Ours
BEGIN:STANDARD
DTSTART:19700101T000000
TZOFFSETFROM:+0330
TZOFFSETTO:+0330
END:STANDARD
END:VTIMEZONE
"""
SUMMER = """BEGIN:VTIMEZONE
TZID:Summery
BEGIN:STANDARD
DTSTART:19701025T030000
RRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:19700329T020000
RRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
END:DAYLIGHT
END:VTIMEZONE
"""


def event(text: str, kind: str = "VEVENT") -> str:
    return f"BEGIN:{kind}\nUID:one\n{text.strip()}\nEND:{kind}\n"


def read(*components: str, window: Window = YEAR, zone: str = "UTC") -> Sequence[Read]:
    body = f"BEGIN:VCALENDAR\n{''.join(components)}END:VCALENDAR\n".encode()
    return list(read_feed(body, Scope("team", Meaning.meeting, window, ZoneInfo(zone), False)))


PATTERNS = (
    Pattern(title="release *", category="public", means=Meaning.deadline),
    Pattern(title="*STAND?UP*", means="nothing"),
    Pattern(category="vacation*", means=Meaning.time_off),
    Pattern(title="[draft] *", means=Meaning.milestone),
    Pattern(title="", means=Meaning.holiday),
)
DAY = "DTSTART;VALUE=DATE:20260105"


@pytest.mark.parametrize(
    ("lines", "means"),
    [
        ("SUMMARY:Release 2.1\nCATEGORIES:Public", Meaning.deadline),
        ("SUMMARY:RELEASE 2.1\nCATEGORIES:Internal,PUBLIC", Meaning.deadline),
        ("SUMMARY:Release 2.1\nCATEGORIES:Internal\nCATEGORIES: public ", Meaning.deadline),
        ("SUMMARY:Release 2.1", Meaning.meeting),  # both must fit
        ("SUMMARY:The release 2.1\nCATEGORIES:Public", Meaning.meeting),  # a pattern is of the whole title
        ("SUMMARY:Our stand-up", None),
        ("SUMMARY:Our standup", Meaning.meeting),
        ("SUMMARY:Ada\nCATEGORIES:Vacations", Meaning.time_off),
        ("SUMMARY:Ada\nCATEGORIES:Team\\,Vacation", Meaning.time_off),  # a comma in a name is taken for one between two
        ("SUMMARY:Stand-up\nCATEGORIES:Vacation", None),  # the first that fits
        ("SUMMARY:[Draft] 2.2", Meaning.milestone),
        ("SUMMARY:D 2.2", Meaning.meeting),
        ("SUMMARY:Stand-up\nCATEGORIES;LANGUAGE=de;:Vacation", None),  # what is no valid line says nothing
        (f"SUMMARY:Elsewhere\nCATEGORIES:{'x' * 70_000}", Meaning.meeting),
        ("SUMMARY:Elsewhere", Meaning.meeting),
        ("LOCATION:Nowhere", Meaning.holiday),  # it has no title
    ],
)
def test_patterns_say_what_an_entry_means(lines: str, means: Meaning | None) -> None:
    one = event(f"{DAY}\n{lines}")
    body = f"BEGIN:VCALENDAR\n{one}END:VCALENDAR\n".encode()
    scope = Scope("team", Meaning.meeting, YEAR, ZoneInfo("UTC"), patterns=PATTERNS)
    reads = list(read_feed(body, scope))
    assert [read.problem for read in reads if read.problem] == []
    found = [read.content for read in reads]
    assert [each.meaning for each in found if isinstance(each, CalendarEntry)] == ([means] if means else [])
    assert all(each.title is None for each in found if isinstance(each, CalendarEntry)), "only patterns see titles"


def test_a_hostile_title_costs_a_pattern_nothing() -> None:
    """Time that grows with the power of its stars would not end here."""
    hostile = event(f"{DAY}\nSUMMARY:{'a' * 5000}")
    body = f"BEGIN:VCALENDAR\n{hostile}END:VCALENDAR\n".encode()
    stars = Pattern(title="*a" * 40 + "*b", means=Meaning.deadline)
    scope = Scope("team", Meaning.meeting, YEAR, ZoneInfo("UTC"), patterns=(stars,))
    (read,) = read_feed(body, scope)
    assert isinstance(read.content, CalendarEntry)
    assert read.content.meaning is Meaning.meeting


def brief(moment: date) -> str:
    return f"{moment:%m-%d %H:%MZ}" if isinstance(moment, datetime) else f"{moment:%Y-%m-%d}"


def spans(*components: str, **more: object) -> list[str]:
    """`start > end` of each occurrence, the end only where it differs."""
    (entry,) = read(*components, **more)  # type: ignore[arg-type]
    assert entry.problem is None
    if entry.content is None:
        return []
    pairs = [(brief(each.start), brief(each.end)) for each in entry.content.occurrences]  # type: ignore[union-attr]
    return [start if start == end else f"{start} > {end}" for start, end in pairs]


class Case(NamedTuple):
    name: str
    parts: Sequence[str]
    want: list[str]
    zone: str = "UTC"


DAILY = "DTSTART:20260105T100000Z\nRRULE:FREQ=DAILY;COUNT=4"
CASES = [
    Case("spring in Berlin", [event("DTSTART;TZID=Europe/Berlin:20260323T100000\nRRULE:FREQ=WEEKLY;COUNT=2")],
         ["03-23 09:00Z", "03-30 08:00Z"]),
    Case("autumn in Berlin", [event("DTSTART;TZID=Europe/Berlin:20261019T100000\nRRULE:FREQ=WEEKLY;COUNT=2")],
         ["10-19 08:00Z", "10-26 09:00Z"]),
    Case("spring in New York", [event("DTSTART;TZID=America/New_York:20260302T090000\nRRULE:FREQ=WEEKLY;COUNT=2")],
         ["03-02 14:00Z", "03-09 13:00Z"]),
    Case("an hour that does not exist", [event("DTSTART;TZID=Europe/Berlin:20260328T023000\nRRULE:FREQ=DAILY;COUNT=3")],
         ["03-28 01:30Z", "03-29 01:30Z", "03-30 00:30Z"]),
    Case("an hour that comes twice", [event("DTSTART;TZID=Europe/Berlin:20261024T023000\nRRULE:FREQ=DAILY;COUNT=3")],
         ["10-24 00:30Z", "10-25 00:30Z", "10-26 01:30Z"]),
    Case("a Windows zone", [event('DTSTART;TZID="W. Europe Standard Time":20260701T100000')], ["07-01 08:00Z"]),
    Case("a globally unique zone", [event("DTSTART;TZID=/example.org/Europe/Berlin:20260701T100000")], ["07-01 08:00Z"]),
    Case("a zone of its own", [OURS, event("DTSTART;TZID=Ours:20260701T100000")], ["07-01 06:30Z"]),
    Case("a zone of its own, with a blank before its name",
         [OURS.replace("Ours", " 1"), event("DTSTART;TZID= 1:20260701T100000")], ["07-01 06:30Z"]),
    Case("the same, in quotes", [OURS.replace("Ours", " 1"), event('DTSTART;TZID=" 1":20260701T100000')], ["07-01 06:30Z"]),
    Case("an offset, with blanks around it", [event('DTSTART;TZID=" UTC+01 ":20260701T100000')], ["07-01 09:00Z"]),
    Case("a zone of its own, whatever offset its name says",
         [SUMMER.replace("Summery", "UTC+01"), event("DTSTART;TZID=UTC+01:20260701T100000")], ["07-01 08:00Z"]),
    Case("a zone of its own, after its use", [event("DTSTART;TZID=Ours:20260701T100000"), OURS], ["07-01 06:30Z"]),
    Case("a zone of its own with summer time",
         [SUMMER, event("DTSTART;TZID=Summery:20260323T100000\nRRULE:FREQ=WEEKLY;COUNT=2")],
         ["03-23 09:00Z", "03-30 08:00Z"]),
    Case("a floating time", [event("DTSTART:20260105T100000")], ["01-05 09:00Z"], "Europe/Berlin"),
    Case("floating over spring", [event("DTSTART:20260323T100000\nRRULE:FREQ=WEEKLY;UNTIL=20260330T100000")],
         ["03-23 09:00Z", "03-30 08:00Z"], "Europe/Berlin"),
    Case("with an end", [event("DTSTART:20260105T100000Z\nDTEND:20260105T113000Z")], ["01-05 10:00Z > 01-05 11:30Z"]),
    Case("with a duration", [event("DTSTART:20260105T100000Z\nDURATION:PT45M")], ["01-05 10:00Z > 01-05 10:45Z"]),
    Case("all day", [event("DTSTART;VALUE=DATE:20260105\nDTEND;VALUE=DATE:20260107")], ["2026-01-05 > 2026-01-07"]),
    Case("all day, no end", [event("DTSTART;VALUE=DATE:20260105")], ["2026-01-05 > 2026-01-06"]),
    Case("all day, end not exclusive", [event("DTSTART;VALUE=DATE:20260105\nDTEND;VALUE=DATE:20260105")],
         ["2026-01-05 > 2026-01-06"]),
    Case("all day in a zone", [event("DTSTART;VALUE=DATE:20260105")], ["2026-01-05 > 2026-01-06"], "Asia/Tokyo"),
    Case("all day but one", [event("DTSTART;VALUE=DATE:20260105\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE;VALUE=DATE:20260106")],
         ["2026-01-05 > 2026-01-06", "2026-01-07 > 2026-01-08"]),
    Case("EXDATE", [event(f"{DAILY}\nEXDATE:20260106T100000Z,20260108T100000Z")], ["01-05 10:00Z", "01-07 10:00Z"]),
    Case("EXDATE in another zone", [event(f"{DAILY}\nEXDATE;TZID=Europe/Berlin:20260106T110000")],
         ["01-05 10:00Z", "01-07 10:00Z", "01-08 10:00Z"]),
    Case("EXDATE of the first", [event(f"{DAILY}\nEXDATE:20260105T100000Z")],
         ["01-06 10:00Z", "01-07 10:00Z", "01-08 10:00Z"]),
    Case("RDATE", [event("DTSTART:20260105T100000Z\nRDATE:20260301T120000Z,20260201T120000Z,20260301T120000Z")],
         ["01-05 10:00Z", "02-01 12:00Z", "03-01 12:00Z"]),
    Case("RDATE with a period", [event("DTSTART:20260105T100000Z\nRDATE;VALUE=PERIOD:20260201T120000Z/PT2H")],
         ["01-05 10:00Z", "02-01 12:00Z > 02-01 14:00Z"]),
    Case("UNTIL is inclusive", [event("DTSTART:20260105T100000Z\nRRULE:FREQ=DAILY;UNTIL=20260107T100000Z")],
         ["01-05 10:00Z", "01-06 10:00Z", "01-07 10:00Z"]),
    Case("UNTIL of an all-day entry", [event("DTSTART;VALUE=DATE:20260105\nRRULE:FREQ=DAILY;UNTIL=20260106")],
         ["2026-01-05 > 2026-01-06", "2026-01-06 > 2026-01-07"]),
    Case("COUNT counts before the window", [event("DTSTART:20251230T100000Z\nRRULE:FREQ=DAILY;COUNT=4")],
         ["01-01 10:00Z", "01-02 10:00Z"]),
    Case("every second week, two days", [event("DTSTART:20260105T100000Z\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,WE;COUNT=4")],
         ["01-05 10:00Z", "01-07 10:00Z", "01-19 10:00Z", "01-21 10:00Z"]),
    Case("last Friday", [event("DTSTART:20260130T100000Z\nRRULE:FREQ=MONTHLY;BYDAY=-1FR;COUNT=3")],
         ["01-30 10:00Z", "02-27 10:00Z", "03-27 10:00Z"]),
    Case("20th Monday of the year", [event("DTSTART:20260518T100000Z\nRRULE:FREQ=YEARLY;BYDAY=20MO")], ["05-18 10:00Z"]),
    Case("only months with a 31st", [event("DTSTART:20260131T100000Z\nRRULE:FREQ=MONTHLY;COUNT=3")],
         ["01-31 10:00Z", "03-31 10:00Z", "05-31 10:00Z"]),
    Case("last working day", [event("DTSTART:20260130T100000Z\nRRULE:FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=3")],
         ["01-30 10:00Z", "02-27 10:00Z", "03-31 10:00Z"]),
    Case("a day that never comes", [event("DTSTART:20260105T100000Z\nRRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30")],
         ["01-05 10:00Z"]),
    Case("over the window's edges", [event("DTSTART:20251231T230000Z\nDURATION:PT2H\nRDATE:20261231T230000Z")],
         ["12-31 23:00Z > 01-01 01:00Z", "12-31 23:00Z > 01-01 01:00Z"]),
    Case("up to the window", [event("DTSTART:20251231T230000Z\nDURATION:PT1H")], []),
    Case("after the window", [event("DTSTART:20270101T000000Z\nDURATION:PT1H")], []),
    Case("one moved", [event(DAILY), event("RECURRENCE-ID:20260106T100000Z\nDTSTART:20260109T080000Z")],
         ["01-05 10:00Z", "01-07 10:00Z", "01-08 10:00Z", "01-09 08:00Z"]),
    Case("one moved, override first", [event("RECURRENCE-ID:20260106T100000Z\nDTSTART:20260109T080000Z"), event(DAILY)],
         ["01-05 10:00Z", "01-07 10:00Z", "01-08 10:00Z", "01-09 08:00Z"]),
    Case("one moved into the window", [event("DTSTART:20251201T100000Z\nRRULE:FREQ=DAILY;COUNT=2"),
                                       event("RECURRENCE-ID:20251202T100000Z\nDTSTART:20260302T080000Z")], ["03-02 08:00Z"]),
    Case("one cancelled", [event(DAILY), event("RECURRENCE-ID:20260106T100000Z\nDTSTART:20260106T100000Z\nSTATUS:CANCELLED")],
         ["01-05 10:00Z", "01-07 10:00Z", "01-08 10:00Z"]),
    Case("the rest later", [event(DAILY), event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260107T100000Z\nDTSTART:20260107T113000Z")],
         ["01-05 10:00Z", "01-06 10:00Z", "01-07 11:30Z", "01-08 11:30Z"]),
    Case("the rest cancelled", [event(DAILY), event("RECURRENCE-ID;RANGE=THISANDFUTURE:20260107T100000Z\n"
                                                    "DTSTART:20260107T100000Z\nSTATUS:CANCELLED")],
         ["01-05 10:00Z", "01-06 10:00Z"]),
    Case("only an override", [event("RECURRENCE-ID:20260106T100000Z\nDTSTART:20260109T080000Z")], ["01-09 08:00Z"]),
    Case("the higher sequence", [event("DTSTART:20260105T100000Z\nSEQUENCE:2"), event("DTSTART:20260109T100000Z\nSEQUENCE:1")],
         ["01-05 10:00Z"]),
    Case("a to-do by date", [event("DTSTART;VALUE=DATE:20260101\nDUE;VALUE=DATE:20260105", "VTODO")], ["2026-01-05 > 2026-01-06"]),
    Case("a to-do by time", [event("DUE;TZID=Europe/Berlin:20260105T180000", "VTODO")], ["01-05 17:00Z"]),
    Case("folded, with blank lines and old line ends", ["BEGIN:VEVENT\r\nUID:o\r\n ne\r\n\r\nDTSTART:2026\r\n\t0105\rEND:VEVENT\r"],
         ["2026-01-05 > 2026-01-06"]),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_expands(case: Case) -> None:
    assert spans(*case.parts, zone=case.zone) == case.want


@pytest.mark.parametrize(
    "parts",
    [
        [event("DTSTART:20260105T100000Z\nSTATUS:CANCELLED")],
        [event(f"{DAILY}\nSTATUS:cancelled"), event("RECURRENCE-ID:20260106T100000Z\nDTSTART:20260109T080000Z")],
        [event("RECURRENCE-ID:20260106T100000Z\nDTSTART:20260106T100000Z\nSTATUS:CANCELLED")],
        [event("SUMMARY:some day", "VTODO")],
        [event("DTSTART:20260105T100000Z", "VJOURNAL")],
    ],
    ids=["one", "a series", "the only override", "a to-do that is never due", "a journal"],
)
def test_is_absent(parts: Sequence[str]) -> None:
    assert read(*parts) == []


@pytest.mark.parametrize(("cancelled", "present"), [(1, True), (3, False)])
def test_the_master_with_the_highest_sequence_says_whether_it_is_cancelled(cancelled: int, present: bool) -> None:
    gone = event(f"DTSTART:20260105T100000Z\nSEQUENCE:{cancelled}\nSTATUS:CANCELLED")
    assert bool(read(gone, event("DTSTART:20260105T100000Z\nSEQUENCE:2"))) is present


def test_an_entry_outside_the_window_is_there_without_occurrences() -> None:
    (entry,) = read(event("DTSTART:20200105T100000Z"))
    assert entry.content is not None
    assert entry.content.occurrences == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rule", "recurring"), [("", False), ("RRULE:FREQ=DAILY", True), ("RDATE:20260201T100000Z", True)]
)
def test_says_whether_it_recurs(rule: str, recurring: bool) -> None:
    (entry,) = read(event(f"DTSTART:20260105T100000Z\n{rule}"))
    assert entry.content.recurring is recurring  # type: ignore[union-attr]


def test_the_same_uid_twice_gives_unique_occurrences() -> None:
    assert spans(event("DTSTART:20260105T100000Z"), event("DTSTART:20260105T100000Z")) == ["01-05 10:00Z"]


@pytest.mark.parametrize(("hours", "cut"), [(MAX_OCCURRENCES, False), (MAX_OCCURRENCES + 1, True)])
def test_the_first_occurrences_are_kept_and_the_cut_is_flagged(hours: int, cut: bool) -> None:
    """Exceptions and overrides must not use up the places of those that follow."""
    rule = f"DTSTART:20260101T000000Z\nRRULE:FREQ=HOURLY;COUNT={hours + 2}\nEXDATE:20260101T010000Z,20260101T020000Z"
    moved = event("RECURRENCE-ID:20260101T030000Z\nDTSTART:20260101T003000Z")
    (entry,) = read(event(rule), moved)
    occurrences = entry.content.occurrences  # type: ignore[union-attr]
    assert entry.content.occurrences_cut is cut  # type: ignore[union-attr]
    assert len(occurrences) == MAX_OCCURRENCES
    assert [brief(each.start) for each in occurrences[:3]] == ["01-01 00:00Z", "01-01 00:30Z", "01-01 04:00Z"]
    assert brief(occurrences[-1].start) == "03-25 09:00Z"  # 2001 hours after midnight of 1 January


HOSTILE = [
    "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=MONTHLY;BYMONTH=4;BYMONTHDAY=31",
    "FREQ=YEARLY;BYWEEKNO=53;BYMONTH=6",
    "FREQ=YEARLY;BYYEARDAY=366;BYMONTH=1",
    "FREQ=WEEKLY;BYDAY=MO;BYSETPOS=300",
    "FREQ=DAILY;INTERVAL=7;BYDAY=WE",
    "FREQ=DAILY;BYSETPOS=366",
    "FREQ=DAILY;UNTIL=99991231T000000Z;BYMONTH=2;BYMONTHDAY=30",
    "FREQ=DAILY;COUNT=999999999",
    "FREQ=YEARLY;BYSETPOS=" + ",".join(map(str, range(336, 367))),
    "FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24))) + ";BYMINUTE=" + ",".join(map(str, range(60))),
]


@pytest.mark.parametrize("start", ["20260105T100000Z", "19000101T000000", "00010101T000000"])
@pytest.mark.parametrize("rule", HOSTILE, ids=lambda rule: rule[:40])
def test_a_hostile_rule_does_not_hold_up_the_feed(rule: str, start: str) -> None:
    """dateutil alone follows the first of these for seconds before it yields anything or ends."""
    neighbour = "BEGIN:VEVENT\nUID:two\nDTSTART:20260105T100000Z\nEND:VEVENT\n"
    begun = time.thread_time()
    reads = read(event(f"DTSTART:{start}\nRRULE:{rule}"), neighbour)
    assert time.thread_time() - begun < 2
    assert reads[1].content is not None
    assert reads[0].content is not None or reads[0].problem == "RRULE needs too many steps from its start"


def test_the_budget_of_a_feed_holds_over_its_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.ics.FEED_STEPS", 3 * ENTRY_STEPS)
    entries = [f"BEGIN:VEVENT\nUID:{i}\nDTSTART:00010101T000000\nRRULE:FREQ=DAILY\nEND:VEVENT\n" for i in range(5)]
    begun = time.thread_time()
    reasons = [entry.problem for entry in read(*entries)]
    assert time.thread_time() - begun < 5
    assert reasons[0] == "RRULE needs too many steps from its start"
    assert reasons[4] == "the rules of the feed need too many steps together"


def test_many_occurrences_spend_the_budget_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.ics.FEED_STEPS", 365 * OCCURRENCE_STEPS + 2 * 365 + 2000)
    entries = [f"BEGIN:VEVENT\nUID:{i}\nDTSTART:20260101\nRRULE:FREQ=DAILY\nEND:VEVENT\n" for i in range(2)]
    assert [entry.problem for entry in read(*entries)] == [None, "the rules of the feed need too many steps together"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("FREQ=DAILY;INTERVAL=0", "RRULE has an INTERVAL outside 1 to 10000"),
        ("FREQ=DAILY;INTERVAL=-1", "RRULE has an INTERVAL outside 1 to 10000"),
        ("FREQ=DAILY;INTERVAL=99999", "RRULE has an INTERVAL outside 1 to 10000"),
        ("FREQ=SECONDLY", "RRULE has a FREQ that is not supported"),
        ("freq=minutely;count=2", "RRULE has a FREQ that is not supported"),
        ("COUNT=2", "RRULE has a FREQ that is not supported"),
        ("FREQ=DAILY;FREQ=DAILY", "RRULE names a part twice"),
        ("FREQ=DAILY;BYHOUR=" + "1," * 200 + "1;BYMINUTE=" + "1," * 60 + "1", "RRULE has more than 10000 combinations"),
        ("FREQ=YEARLY;BYSETPOS=" + ",".join(map(str, range(1, 33))), "RRULE has more than 31 BYSETPOS"),
        ("FREQ=DAILY;COUNT=x", "RRULE is no valid rule"),
        ("FREQ=DAILY\nEXRULE:FREQ=WEEKLY", "EXRULE is not supported (RFC 5545 has deprecated it)"),
    ],
    ids=lambda text: text[:30],
)
def test_a_rule_is_refused_before_it_is_expanded(rule: str, reason: str) -> None:
    (entry,) = read(event(f"DTSTART:20260105T100000Z\nRRULE:{rule}"))
    assert (entry.content, entry.problem) == (None, reason)


@pytest.mark.parametrize("rule", ["FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=DAILY", "FREQ=SECONDLY"])
def test_a_hostile_zone_is_an_unknown_one(rule: str) -> None:
    begun = time.thread_time()
    zone = SUMMER.replace("FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU", rule).replace("Summery", "Bad")
    bad, good = read(
        zone, event("DTSTART;TZID=Bad:20260105T100000"), event("DTSTART:20260105T100000Z").replace("one", "2")
    )
    assert time.thread_time() - begun < 2
    assert bad.problem == "DTSTART: the time zone Bad is unknown"
    assert good.content is not None


def test_a_zone_is_known_to_its_own_feed_only() -> None:
    mine = event("DTSTART;TZID=Ours:20260701T100000")
    assert spans(OURS, mine) == ["07-01 06:30Z"]
    (entry,) = read(mine)
    assert entry.problem == "DTSTART: the time zone Ours is unknown"


FIRST, LAST = datetime(2015, 1, 1), datetime(2027, 1, 1)  # noqa: DTZ001
days = st.sampled_from(["MO", "TU", "WE", "TH", "FR", "SA", "SU"])
PARTS = {
    "INTERVAL": st.integers(1, 40).map(str),
    "BYMONTH": st.lists(st.integers(1, 12).map(str), min_size=1, max_size=3).map(",".join),
    "BYMONTHDAY": st.lists(st.integers(1, 31).map(str) | st.integers(-31, -1).map(str), min_size=1, max_size=3).map(",".join),
    "BYDAY": st.lists(days, min_size=1, max_size=3).map(",".join),
    "BYHOUR": st.lists(st.integers(0, 23).map(str), min_size=1, max_size=2).map(",".join),
    "BYSETPOS": st.integers(-3, 3).filter(bool).map(str),
    "WKST": days,
    "COUNT": st.integers(1, 50).map(str),
}  # fmt: skip


@given(
    freq=st.sampled_from(["HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"]),
    parts=st.fixed_dictionaries({}, optional=PARTS),
    start=st.datetimes(FIRST, LAST),
)
def test_the_meter_and_the_horizon_change_no_answer(freq: str, parts: dict[str, str], start: datetime) -> None:
    """As with a horizon three times as far: what is cut off lies beyond the window."""
    if freq == "HOURLY":
        start = start.replace(year=2026, day=1)
    text = ";".join([f"FREQ={freq}", *(f"{name}={value}" for name, value in parts.items())])
    try:
        near, far = rrulestr(text, dtstart=start), rrulestr(text, dtstart=start)
    except ValueError:
        return  # dateutil proves of some rules that they are empty
    days = horizon(near, LAST)
    got = takewhile(lambda moment: moment <= LAST, metered(near, Meter(10**9), days))
    want = takewhile(lambda moment: moment <= LAST, metered(far, Meter(10**9), 3 * days))
    assert list(got) == list(want)


# ---- rules, worked out from RFC 5545 without a computer ----


class Rule(NamedTuple):
    """A recurrence set and why it is that: `lines` of the entry, the starts that are wanted, and the RFC's reason."""

    lines: str
    want: str
    why: str
    zone: str = "UTC"
    more: Sequence[str] = ()


def day(start: str, rule: str, *more: str) -> str:
    return "\n".join((f"DTSTART;VALUE=DATE:{start}", f"RRULE:{rule}", *more))


def at(start: str, rule: str, *more: str, zone: str = "") -> str:
    return "\n".join((f"DTSTART{zone and f';TZID={zone}'}:{start}", f"RRULE:{rule}", *more))


BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
DECADES = Window(date(1990, 1, 1), date(2040, 1, 1))
"""Facts that the answers rest on: 1 January is a Wednesday in 1997, a Monday in 2024, a Wednesday in 2025, a Thursday in 2026, a
Friday in 2027, a Saturday in 2028; 2000, 2024 and 2028 are leap years."""
BY_HAND = [
    # FREQ, INTERVAL, COUNT, UNTIL
    Rule(day("20260105", "FREQ=DAILY;COUNT=3"), "2026-01-05 2026-01-06 2026-01-07", "DTSTART is the first that COUNT counts (3.3.10)"),
    Rule(day("20260105", "FREQ=DAILY;INTERVAL=10;COUNT=5"), "2026-01-05 2026-01-15 2026-01-25 2026-02-04 2026-02-14",
         "every tenth day; January has 31"),
    Rule(day("20260105", "FREQ=DAILY;UNTIL=20260107"), "2026-01-05 2026-01-06 2026-01-07", "UNTIL is inclusive (3.3.10)"),
    Rule(day("20280228", "FREQ=DAILY;COUNT=3"), "2028-02-28 2028-02-29 2028-03-01", "2028 is a leap year"),
    Rule(day("20260106", "FREQ=WEEKLY;COUNT=3"), "2026-01-06 2026-01-13 2026-01-20", "without BYDAY the day of DTSTART (3.3.10)"),
    Rule(at("20260105T100000Z", "FREQ=WEEKLY;UNTIL=20260118T000000Z"), "2026-01-05T10:00 2026-01-12T10:00", "the 19th is after UNTIL"),
    Rule(at("20260105T200000", "FREQ=DAILY;UNTIL=20260107T010000Z", zone=NEW_YORK), "2026-01-06T01:00 2026-01-07T01:00",
         "20:00 at -5 h is 01:00Z of the next day, the second just at UNTIL, which is in UTC (3.3.10)"),
    Rule(at("20260105T090000Z", "FREQ=HOURLY;INTERVAL=3;UNTIL=20260105T170000Z"), "2026-01-05T09:00 2026-01-05T12:00 2026-01-05T15:00",
         "18:00 is after UNTIL; an example of 3.8.5.3"),
    Rule(day("20260131", "FREQ=MONTHLY;COUNT=4"), "2026-01-31 2026-03-31 2026-05-31 2026-07-31",
         "dates that do not exist are ignored, and not counted (3.3.10)"),
    Rule(day("20240229", "FREQ=YEARLY;COUNT=3"), "2024-02-29 2028-02-29 2032-02-29", "the same, in years without a 29 February"),
    # BYMONTH, BYMONTHDAY
    Rule(day("20260129", "FREQ=DAILY;BYMONTH=1,3;COUNT=5"), "2026-01-29 2026-01-30 2026-01-31 2026-03-01 2026-03-02",
         "BYMONTH limits DAILY (table of 3.3.10)"),
    Rule(day("20260131", "FREQ=DAILY;BYMONTHDAY=-1;COUNT=3"), "2026-01-31 2026-02-28 2026-03-31", "-1 is the last day of the month"),
    Rule(day("20260129", "FREQ=MONTHLY;BYMONTHDAY=-3;COUNT=3"), "2026-01-29 2026-02-26 2026-03-29", "31, 30, 29; 28, 27, 26"),
    Rule(day("20260101", "FREQ=MONTHLY;BYMONTHDAY=-31;COUNT=3"), "2026-01-01 2026-03-01 2026-05-01",
         "the 31st from the end is the first of the months that have 31"),
    Rule(day("20260129", "FREQ=MONTHLY;BYMONTHDAY=29,30,31;COUNT=6"),
         "2026-01-29 2026-01-30 2026-01-31 2026-03-29 2026-03-30 2026-03-31", "February 2026 has none of them"),
    Rule(day("19970910", "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15"),
         "1997-09-10 1997-09-11 1997-09-12 1997-09-13 1997-09-14 1997-09-15 1999-03-10 1999-03-11 1999-03-12 1999-03-13",
         "18 months after September 1997 is March 1999; an example of 3.8.5.3"),
    Rule(day("20260101", "FREQ=YEARLY;BYMONTHDAY=1;COUNT=3"), "2026-01-01 2026-02-01 2026-03-01",
         "BYMONTHDAY expands YEARLY: the first of each month (table of 3.3.10)"),
    Rule(day("20240229", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=-1;COUNT=3"), "2024-02-29 2025-02-28 2026-02-28", "the last of February"),
    # BYDAY, with and without a number
    Rule(day("20260105", "FREQ=DAILY;BYDAY=MO,FR;COUNT=4"), "2026-01-05 2026-01-09 2026-01-12 2026-01-16", "5 January is a Monday"),
    Rule(day("20260213", "FREQ=DAILY;BYMONTHDAY=13;BYDAY=FR;COUNT=3"), "2026-02-13 2026-03-13 2026-11-13",
         "a 13th is a Friday where the first is a Sunday: February, March and November 2026"),
    Rule(day("20260202", "FREQ=WEEKLY;BYMONTH=2;BYDAY=MO;COUNT=5"), "2026-02-02 2026-02-09 2026-02-16 2026-02-23 2027-02-01",
         "BYMONTH limits WEEKLY; 1 February 2027 is a Monday"),
    Rule(day("20260102", "FREQ=MONTHLY;BYDAY=1FR;COUNT=3"), "2026-01-02 2026-02-06 2026-03-06", "the first Friday of each month"),
    Rule(day("20260330", "FREQ=MONTHLY;BYDAY=5MO;COUNT=3"), "2026-03-30 2026-06-29 2026-08-31",
         "months with five Mondays begin with Sunday (March, of 31), Monday (June), Saturday (August, of 31)"),
    Rule(day("20260104", "FREQ=MONTHLY;INTERVAL=2;BYDAY=1SU,-1SU;COUNT=6"),
         "2026-01-04 2026-01-25 2026-03-01 2026-03-29 2026-05-03 2026-05-31", "first and last Sunday of every second month"),
    Rule(day("19970913", "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13;COUNT=3"), "1997-09-13 1997-10-11 1997-11-08",
         "BYDAY limits where BYMONTHDAY is there (note 1 of 3.3.10); an example of 3.8.5.3"),
    Rule(day("20261126", "FREQ=YEARLY;BYMONTH=11;BYDAY=4TH;COUNT=2"), "2026-11-26 2027-11-25",
         "with BYMONTH the number counts within the month (note 2 of 3.3.10); Novembers begin on Sunday and Monday"),
    Rule(day("20261225", "FREQ=YEARLY;BYDAY=-1FR;COUNT=3"), "2026-12-25 2027-12-31 2028-12-29",
         "without it, within the year; 31 December is a Thursday, a Friday, a Sunday"),
    Rule(day("19970519", "FREQ=YEARLY;BYDAY=20MO;COUNT=3"), "1997-05-19 1998-05-18 1999-05-17", "an example of 3.8.5.3"),
    Rule(day("19970313", "FREQ=YEARLY;BYMONTH=3;BYDAY=TH;UNTIL=19970331"), "1997-03-13 1997-03-20 1997-03-27", "an example of 3.8.5.3"),
    Rule(day("19961105", "FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8;COUNT=3"),
         "1996-11-05 2000-11-07 2004-11-02", "the Tuesday after the first Monday; an example of 3.8.5.3"),
    # BYYEARDAY, BYWEEKNO
    Rule(day("19970101", "FREQ=YEARLY;INTERVAL=3;COUNT=5;BYYEARDAY=1,100,200"),
         "1997-01-01 1997-04-10 1997-07-19 2000-01-01 2000-04-09", "the 100th day is a day earlier in a leap year; of 3.8.5.3"),
    Rule(day("20241231", "FREQ=YEARLY;BYYEARDAY=366;COUNT=2"), "2024-12-31 2028-12-31", "only leap years have it"),
    Rule(day("20240301", "FREQ=YEARLY;BYYEARDAY=-306;COUNT=3"), "2024-03-01 2025-03-01 2026-03-01",
         "306 days from 1 March to the end, in every year; 3.3.10 says so"),
    Rule(day("19970512", "FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO;COUNT=3"), "1997-05-12 1998-05-11 1999-05-17", "an example of 3.8.5.3"),
    Rule(day("20201228", "FREQ=YEARLY;BYWEEKNO=53;BYDAY=MO;COUNT=2"), "2020-12-28 2026-12-28",
         "a year has a week 53 if it begins with Thursday, or, a leap year, with Wednesday"),
    Rule(day("20251222", "FREQ=YEARLY;BYWEEKNO=-1;BYDAY=MO;COUNT=2"), "2025-12-22 2026-12-28", "the last weeks are 52 and 53"),
    Rule(day("20241230", "FREQ=YEARLY;BYWEEKNO=1;BYDAY=MO;COUNT=2"), "2024-12-30 2025-12-29",
         "week 1 is the first with four days in its year, so it may begin in the year before"),
    # WKST
    Rule(day("19970805", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO"), "1997-08-05 1997-08-10 1997-08-19 1997-08-24",
         "the Sunday ends the week of the Tuesday before; an example of 3.8.5.3"),
    Rule(day("19970805", "FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU"), "1997-08-05 1997-08-17 1997-08-19 1997-08-31",
         "it begins the week of the Tuesday after; the same example"),
    Rule(day("19970901", "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971001;WKST=SU;BYDAY=MO,WE,FR"),
         "1997-09-01 1997-09-03 1997-09-05 1997-09-15 1997-09-17 1997-09-19 1997-09-29 1997-10-01", "every other week, of 3.8.5.3"),
    # BYSETPOS
    Rule(day("20260109", "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=2"), "2026-01-09 2026-01-16", "the last of a week"),
    Rule(day("20260101", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=1;COUNT=3"), "2026-01-01 2026-02-02 2026-03-02",
         "the first working day; 1 February and 1 March are Sundays"),
    Rule(day("19970904", "FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3"), "1997-09-04 1997-10-07 1997-11-06", "of 3.8.5.3"),
    Rule(day("19970929", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2;COUNT=3"), "1997-09-29 1997-10-30 1997-11-27", "of 3.8.5.3"),
    Rule(day("20260105", "FREQ=YEARLY;BYMONTH=1,7;BYDAY=MO;BYSETPOS=1,-1;COUNT=4"), "2026-01-05 2026-07-27 2027-01-04 2027-07-26",
         "first and last of all Mondays of both months, since the set is the year's"),
    # hours and minutes
    Rule(at("20260105T090000Z", "FREQ=DAILY;BYHOUR=9,17;COUNT=4"), "2026-01-05T09:00 2026-01-05T17:00 2026-01-06T09:00 2026-01-06T17:00",
         "BYHOUR expands DAILY"),
    Rule(at("20260105T173000Z", "FREQ=DAILY;BYHOUR=9,17;BYMINUTE=0,30;BYSETPOS=-1;COUNT=2"), "2026-01-05T17:30 2026-01-06T17:30",
         "the last of the four of each day"),
    Rule(at("20260105T090000Z", "FREQ=HOURLY;BYHOUR=9,10;COUNT=3"), "2026-01-05T09:00 2026-01-05T10:00 2026-01-06T09:00",
         "BYHOUR limits HOURLY"),
    # zones: hours that do not exist, or twice
    Rule(at("20260328T023000", "FREQ=DAILY;COUNT=3", zone=BERLIN), "2026-03-28T01:30 2026-03-29T01:30 2026-03-30T00:30",
         "02:30 of 29 March does not exist: it is told with the offset before the gap (3.3.5)"),
    Rule(at("20260307T023000", "FREQ=DAILY;COUNT=3", zone=NEW_YORK), "2026-03-07T07:30 2026-03-08T07:30 2026-03-09T06:30", "the same"),
    Rule(at("20261024T023000", "FREQ=DAILY;COUNT=3", zone=BERLIN), "2026-10-24T00:30 2026-10-25T00:30 2026-10-26T01:30",
         "02:30 of 25 October comes twice: the first is meant (3.3.5)"),
    Rule(at("20261031T013000", "FREQ=DAILY;COUNT=3", zone=NEW_YORK), "2026-10-31T05:30 2026-11-01T05:30 2026-11-02T06:30", "the same"),
    Rule(at("20260329T010000", "FREQ=HOURLY;COUNT=4", zone=BERLIN), "2026-03-29T00:00 2026-03-29T01:00 2026-03-29T02:00",
         "02:00 with the offset before is the instant of 03:00, and a set has each instant once"),
    # zones that are named by their offset; east of UTC is plus
    Rule(at("20260105T100000", "FREQ=DAILY;COUNT=1", zone="UTC+01"), "2026-01-05T09:00", "an hour before UTC's, as Exchange writes it"),
    Rule(at("20260705T100000", "FREQ=DAILY;COUNT=1", zone='"(GMT -03:30)"'), "2026-07-05T13:30", "west of it, in summer too"),
    Rule(at("20260105T100000", "FREQ=DAILY;COUNT=1", zone="UTC-02"), "2026-01-05T12:00", "a zone of Windows, with the same sign"),
    Rule(at("20260105T100000", "FREQ=DAILY;COUNT=1", zone="Etc/GMT+1"), "2026-01-05T11:00", "tzdata's own name has POSIX's sign"),
    # floating times
    Rule(at("20260105T100000", "FREQ=DAILY;UNTIL=20260106T100000"), "2026-01-05T01:00 2026-01-06T01:00",
         "a time without a zone is local to who reads it (3.3.5), and so is its UNTIL", zone="Asia/Tokyo"),
    Rule(at("20260328T120000", "FREQ=DAILY;COUNT=2"), "2026-03-28T11:00 2026-03-29T10:00", "noon there, whatever the offset", zone=BERLIN),
    Rule(day("20260328", "FREQ=DAILY;COUNT=2"), "2026-03-28 2026-03-29", "a day has no zone (3.3.4)", zone=BERLIN),
    # RDATE, EXDATE
    Rule(day("20260105", "FREQ=DAILY;COUNT=2", "RDATE;VALUE=DATE:20260106,20260301"), "2026-01-05 2026-01-06 2026-03-01",
         "RRULE and RDATE together; what both have is there once (3.8.5.2)"),
    Rule(day("20260105", "FREQ=DAILY;COUNT=3", "EXDATE;VALUE=DATE:20260106"), "2026-01-05 2026-01-07",
         "exceptions are taken out of the whole set, so COUNT counts them (3.8.5.1)"),
    Rule(day("20260105", "FREQ=DAILY;COUNT=1", "RDATE;VALUE=DATE:20260301,20260302", "EXDATE;VALUE=DATE:20260301"),
         "2026-01-05 2026-03-02", "an EXDATE is stronger than an RDATE (3.8.5.1)"),
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=3", "EXDATE;TZID=America/New_York:20260106T050000"), "2026-01-05T10:00 2026-01-07T10:00",
         "05:00 at -5 h is the same instant"),
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=2", "EXDATE:20260106T100001Z"), "2026-01-05T10:00 2026-01-06T10:00",
         "a second later is another instant"),
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=1", "RDATE;VALUE=PERIOD:20260201T120000Z/PT2H"), "2026-01-05T10:00 2026-02-01T12:00",
         "a period's start is the occurrence (3.8.5.2)"),
    # RECURRENCE-ID
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=3"), "2026-01-05T10:00 2026-01-07T10:00 2026-01-09T08:00",
         "the occurrence that RECURRENCE-ID names is replaced (3.8.4.4)",
         more=["RECURRENCE-ID:20260106T100000Z\nDTSTART:20260109T080000Z"]),
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=4"), "2026-01-05T10:00 2026-01-06T11:30 2026-01-07T11:30 2026-01-08T11:30",
         "THISANDFUTURE moves those after it by as much (3.2.13)",
         more=["RECURRENCE-ID;RANGE=THISANDFUTURE:20260106T100000Z\nDTSTART:20260106T113000Z"]),
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=4"), "2026-01-05T10:00 2026-01-06T11:30 2026-01-07T12:00 2026-01-08T12:00",
         "of two, the later one from its own occurrence on",
         more=["RECURRENCE-ID;RANGE=THISANDFUTURE:20260107T100000Z\nDTSTART:20260107T120000Z",
               "RECURRENCE-ID;RANGE=THISANDFUTURE:20260106T100000Z\nDTSTART:20260106T113000Z"]),
    Rule(at("20260105T100000Z", "FREQ=DAILY;COUNT=4"), "2026-01-05T10:00 2026-01-06T11:30 2026-01-07T08:00 2026-01-08T11:30",
         "one that is moved for itself within those",
         more=["RECURRENCE-ID;RANGE=THISANDFUTURE:20260106T100000Z\nDTSTART:20260106T113000Z",
               "RECURRENCE-ID:20260107T100000Z\nDTSTART:20260107T080000Z"]),
]  # fmt: skip


def told(moment: date) -> str:
    return f"{moment:%Y-%m-%dT%H:%M}" if isinstance(moment, datetime) else f"{moment:%Y-%m-%d}"


@pytest.mark.parametrize("rule", BY_HAND, ids=lambda rule: rule.lines.replace("\n", " ")[:80])
def test_a_rule_means_what_the_rfc_says(rule: Rule) -> None:
    assert len(BY_HAND) >= 40
    (entry,) = read(event(rule.lines), *map(event, rule.more), window=DECADES, zone=rule.zone)
    assert isinstance(entry.content, CalendarEntry), entry.problem
    assert " ".join(told(each.start) for each in entry.content.occurrences) == rule.want, rule.why
