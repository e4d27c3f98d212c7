"""Calendars that other programs wrote: none may crash the reader, and what peers agree on must come out the same.

Each file whose occurrences differ from the peers' on purpose is named with its reason.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors.base import Read, Retryable
from connectors.ics import Scope, Window, read_feed
from pmsync.core.events import CalendarEntry, Meaning

DATA = Path(__file__).parents[2].parent / "shared" / "data"
EXPECTED = DATA / "expected_occurrences.json.gz"
AT_LEAST = 30
BARE = b"BEGIN:VCALENDAR\r\n%s\r\nEND:VCALENDAR\r\n"
NEIGHBOUR = b"BEGIN:VEVENT\r\nUID:the-neighbour\r\nDTSTART:20260105T100000Z\r\nEND:VEVENT\r\n"
WINDOW = Window(date(2000, 1, 1), date(2030, 1, 1))

ON_PURPOSE: Mapping[str, str] = {
    "allenporter-ical/compat/testdata/calendar_labs_same_day_dtend.ics": "DTEND = DTSTART is one day, not none",
    "icalendar-tests/calendars/issue_722_missing_VTIMEZONE_custom.ics": "a zone nobody knows is not UTC",
    "node-ical/exchange_whole_day_moved_recurrence_offset_tz.ics": "a zone nobody knows is not UTC",
    "node-ical/music-school-weekly-until.ics": "a zone nobody knows is not UTC",
    "node-ical/test_with_int_tzid.ics": "a zone nobody knows is not UTC",
}

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
