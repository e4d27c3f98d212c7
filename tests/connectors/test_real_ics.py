"""Calendars that other programs wrote: none may crash the reader, and what peers agree on must come out the same.

Each file whose occurrences differ from the peers' on purpose is named with its reason.
"""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from connectors.base import Read, Retryable
from connectors.ics import Scope, Window, read_feed
from pmsync.core.events import CalendarEntry, Meaning

DATA = Path(__file__).parents[2].parent / "shared" / "data"
EXPECTED = DATA / "expected_occurrences.json.gz"
PAGE = Path(__file__).parents[2] / "docs" / "calendars.md"
AT_LEAST = 30
BARE = b"BEGIN:VCALENDAR\r\n%s\r\nEND:VCALENDAR\r\n"
NEIGHBOUR = b"BEGIN:VEVENT\r\nUID:the-neighbour\r\nDTSTART:20260105T100000Z\r\nEND:VEVENT\r\n"
WINDOW = Window(date(2000, 1, 1), date(2030, 1, 1))

ON_PURPOSE: Mapping[str, str] = {
    "allenporter-ical/compat/testdata/calendar_labs_same_day_dtend.ics": "DTEND = DTSTART is one day, not none",
    "icalendar-tests/calendars/issue_722_missing_VTIMEZONE_custom.ics": "a zone that nobody knows is not the reader's own",
    "node-ical/music-school-weekly-until.ics": "(GMT +01:00) says how far it is from UTC",
    "node-ical/test_with_int_tzid.ics": "its zone, named 1 after a blank, is in the file",
}
"""Where both peers are not followed, and why; `docs/calendars.md` says it at length."""

pytestmark = pytest.mark.skipif(not EXPECTED.exists(), reason="the shared data is not here")


def files() -> Iterator[tuple[str, bytes]]:
    for path in sorted(DATA.rglob("*.ics")):
        yield path.relative_to(DATA).as_posix(), path.read_bytes()


def read(body: bytes, window: Window = WINDOW) -> Sequence[Read]:
    return list(read_feed(body, Scope("c", Meaning.meeting, window, ZoneInfo("UTC"), titles=False)))


def test_no_file_crashes_the_reader() -> None:
    """A file that is no feed (some are single components) is `Retryable`; of the others each entry is read or says why."""
    count, entries, whole, reasons = 0, 0, 0, Counter[str]()
    for count, (_, body) in enumerate(files(), start=1):  # noqa: B007
        try:
            reads = read(body)
        except Retryable:
            continue
        whole += 1
        entries += len(reads)
        reasons.update(entry.problem for entry in reads if entry.problem)
        assert all((entry.content is None) != (entry.problem is None) for entry in reads)
    print(f"\n{count} files, {whole} of them feeds, {entries} entries, {reasons.total()} problems:")
    print(*(f"  {number:3} {reason}" for reason, number in reasons.most_common()), sep="\n")
    assert count >= AT_LEAST
    assert whole >= AT_LEAST
    assert entries > 10 * AT_LEAST


def test_whatever_is_in_a_file_its_neighbours_are_read() -> None:
    """Each file's own components after a sound entry, as far as the feed is closed."""
    checked = 0
    for name, body in files():
        if b"BEGIN:VCALENDAR" in body:
            head, _, tail = body.partition(b"BEGIN:VCALENDAR")
            joined = head + b"BEGIN:VCALENDAR\r\n" + NEIGHBOUR + tail.lstrip(b"\r\n")
        else:
            joined = BARE % (NEIGHBOUR + body)
        try:
            reads = read(joined)
        except Retryable:
            continue
        checked += 1
        neighbour = next(entry for entry in reads if entry.ref.id == "c/the-neighbour")
        assert isinstance(neighbour.content, CalendarEntry), name
        assert len(neighbour.content.occurrences) == 1, name
    assert checked >= AT_LEAST


def span(occurrence: Mapping[str, Any]) -> tuple[str, str]:
    start, end = (
        point.get("date") or (point.get("utc") or point["floating"]).rstrip("Z")
        for point in (occurrence["start"], occurrence["end"])
    )
    return start, end


def text(moment: date) -> str:
    return f"{moment:%Y%m%dT%H%M%S}" if isinstance(moment, datetime) else f"{moment:%Y%m%d}"


def test_occurrences_are_those_that_both_peers_expect() -> None:
    answers = json.loads(gzip.decompress(EXPECTED.read_bytes()))["files"]
    agreed = {name: answer for name, answer in answers.items() if answer.get("second_peer") == "agree"}
    differing, compared = [], 0
    for name, answer in agreed.items():
        body = (DATA / name).read_bytes()
        window = Window(*map(date.fromisoformat, answer["window"]))
        reads = read(body if b"BEGIN:VCALENDAR" in body else BARE % body, window)
        got = sorted(
            (text(each.start), text(each.end))
            for entry in reads
            if isinstance(entry.content, CalendarEntry)
            for each in entry.content.occurrences
        )
        compared += len(got)
        if got != sorted(map(span, answer["occurrences"])):
            differing.append(name)
    print(
        f"\n{len(agreed) - len(differing)} of {len(agreed)} files equal, {compared} occurrences compared; on purpose not:"
    )
    print(*(f"  {name}: {reason}" for name, reason in ON_PURPOSE.items()), sep="\n")
    assert len(agreed) >= AT_LEAST
    assert sorted(differing) == sorted(ON_PURPOSE)


class Decision(NamedTuple):
    """Which peer is right where they differ, by which section of RFC 5545; `want` where the first one is not."""

    right: Literal["first", "second", "neither"]
    section: str
    why: str
    want: Sequence[tuple[str, str]] = ()


BARE_ONE = Decision(
    "first", "3.4, 3.6.1", "a component without its calendar is refused as a feed; wrapped, it is what it says"
)
DECIDED: Mapping[str, Decision] = {
    "icalendar-tests/calendars/issue_1231_recurrence.ics": Decision(
        "first", "3.8.4.4", "an occurrence whose series is not in the feed is there all the same"),
    "icalendar-tests/calendars/issue_156_RDATE_with_PERIOD_TZID_khal_2.ics": Decision(
        "first", "3.8.4.4", "with RECURRENCE-ID it is one occurrence; the series that its RDATE would add to is not there"),
    "icalendar-tests/events/event_with_recurrence_exdates_on_different_lines.ics": Decision(
        "first", "3.8.5.1, 3.3.10", "15 Tuesdays up to UNTIL, 08:00Z, which is 10:00 there; less five"),
    "icalendar-tests/events/event_with_unicode_fields.ics": BARE_ONE,
    "icalendar-tests/events/issue_156_RDATE_with_PERIOD.ics": Decision(
        "first", "3.8.5.2", "DTSTART, and the period with its own end; the component is bare"),
    "icalendar-tests/events/issue_157_removes_trailing_semicolon.ics": Decision(
        "first", "3.8.5.3", "DTSTART is the first occurrence, though the rule does not fit it; the component is bare"),
    "icalendar-tests/events/issue_355_url_escaping.ics": BARE_ONE,
    "icalendar-tests/events/issue_53_description_parsed_properly.ics": BARE_ONE,
    "icalendar-tests/events/rfc_9074_example_2.ics": BARE_ONE,
    "icalendar-tests/events/rfc_9074_example_4.ics": BARE_ONE,
    "node-ical/Office-2012-owa.ics": Decision(
        "neither", "3.2.19", "its zones are neither defined nor known, so its times are not known: dead letters"),
    "node-ical/duplicate-uid-sequence.ics": Decision(
        "first", "3.8.7.4", "of two revisions of one UID the one with the higher SEQUENCE counts"),
    "node-ical/sabredav-school-holidays.ics": Decision(
        "second", "3.2.19", "TZID does not apply to dates", [("20180702", "20180811")]),
    "node-ical/tv-show-episode.ics": Decision(
        "neither", "3.3.5, 3.8.4.7", "times without a zone are local to who reads, X-WR-TIMEZONE is no standard; one UID, there twice, is one"),
    "node-ical/windows-quoted-tz-rrule.ics": Decision(
        "neither", "3.2.19", "the zone of its start is neither defined nor known: a dead letter"),
    "node-ical/yearly-recurring-unicode.ics": Decision(
        "second", "3.2.19", "TZID does not apply to dates", [("20120714", "20120715"), ("20130714", "20130715")]),
    "ical.js/multiple_rrules.ics": Decision("first", "3.8.5.3", "the rules together: 18 Mondays and 18 Sundays"),
    "allenporter-ical/examples/testdata/google_calendar_invalid_offset.ics": Decision(
        "first", "3.8.5.1", "EXDATE may be a date whatever DTSTART is, and could not mean but what begins on that day"),
    "allenporter-ical/examples/testdata/recurring_event.ics": Decision(
        "first", "3.8.4.4", "what RECURRENCE-ID names is replaced, not added"),
    "allenporter-ical/parsing/testdata/valid/vcalendar_emoji.ics": BARE_ONE,
    "allenporter-ical/parsing/testdata/valid/vevent.ics": BARE_ONE,
    "allenporter-ical/testdata/rrule-monthly.ics": Decision(
        "first", "3.8.4.4", "with RECURRENCE-ID it is one occurrence, whatever rule it has"),
}  # fmt: skip
"""The same table, for readers: `docs/calendars.md`."""


def occurrences(name: str, answer: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    body = (DATA / name).read_bytes()
    window = Window(*map(date.fromisoformat, answer["window"]))
    reads = read(body if b"BEGIN:VCALENDAR" in body else BARE % body, window)
    contents = [entry.content for entry in reads if isinstance(entry.content, CalendarEntry)]
    return sorted((text(each.start), text(each.end)) for content in contents for each in content.occurrences)


def test_where_the_peers_differ_the_rfc_decides() -> None:
    answers = json.loads(gzip.decompress(EXPECTED.read_bytes()))["files"]
    differing = {name: answer for name, answer in answers.items() if answer.get("second_peer") == "differ"}
    assert set(differing) == set(DECIDED)
    wrong = {}
    for name, answer in differing.items():
        decision, got = DECIDED[name], occurrences(name, answer)
        first = sorted(map(span, answer["occurrences"]))
        if name == "node-ical/tv-show-episode.ics":  # as written, once each
            want = sorted(set(WRITTEN.findall((DATA / name).read_text())))
        else:
            want = first if decision.right == "first" else sorted(decision.want)
        if got != want:
            wrong[name] = (got[:3], want[:3], len(got), len(want))
    assert wrong == {}


WRITTEN = re.compile(r"DTSTART;VALUE=DATE-TIME:(\w+)\s+DTEND;VALUE=DATE-TIME:(\w+)")


def short(name: str) -> str:
    """A file as the page names it: its project, and its own name."""
    return f"{name.partition('/')[0]}: {name.rpartition('/')[2]}"


def test_the_page_says_the_same() -> None:
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.read_text().splitlines() if line[:1] == "|"
    ]
    decided = [[short(name), each.right, each.section, each.why] for name, each in DECIDED.items()]
    assert [row for row in rows if len(row) == 4 and row[1] in {"first", "second", "neither"}] == decided
    assert {row[0] for row in rows if len(row) == 5 and ".ics" in row[0]} == {short(name) for name in ON_PURPOSE}


def test_the_files_that_a_peer_refused_are_read() -> None:
    """Each is read, or refused as no feed; none raises anything else."""
    answers = json.loads(gzip.decompress(EXPECTED.read_bytes()))["files"]
    refused = [name for name, answer in answers.items() if answer["status"] == "error"]
    assert len(refused) == 20
    for name in refused:
        body = (DATA / name).read_bytes()
        reads = read(body if b"BEGIN:VCALENDAR" in body else BARE % body)
        assert all((each.content is None) != (each.problem is None) for each in reads), name
