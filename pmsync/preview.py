"""`pmsync calendar preview`: what the entries of a calendar would be read as, before anything rests on it.

The source is asked; nothing is published or kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from connectors.base import Calendars, Read
from pmsync.core.events import CalendarEntry, rfc3339
from pmsync.core.project import local_day
from pmsync.core.rules.episode import spoken


class Day(NamedTuple):
    """An occurrence: the day on which it begins in the zone of who looks, the last one that it touches, and how it is
    read."""

    container: str
    day: date
    last: date
    start: datetime | date
    end: datetime | date
    means: str
    recurring: bool
    title: str | None


class Preview(NamedTuple):
    """The occurrences of the days that were asked for, how many entries there are of each meaning, and, by its reason, how
    many cannot be read."""

    days: tuple[Day, ...]
    entries: Mapping[str, int]
    problems: Mapping[str, int]


def preview(calendars: Calendars, containers: Sequence[str], first: date, days: int, zone: ZoneInfo) -> Preview:
    """What is in these calendars, and what of it falls on `days` days from `first` on. Raises what the reader raises."""
    reads = [read for container in containers for read in calendars.entries(container)]
    entries = [read.content for read in reads if isinstance(read.content, CalendarEntry)]
    last = first + timedelta(days=days)
    shown = (each for entry in entries for each in _days(entry, zone) if each.day < last and first <= each.last)
    return Preview(
        days=tuple(sorted(shown, key=lambda each: (each.day, rfc_text(each.start), each.container))),
        entries=dict(sorted(Counter(entry.meaning.value for entry in entries).items())),
        problems=dict(sorted(Counter(_problem(read) for read in reads if read.problem).items())),
    )


def show(console: Console, found: Preview, zone: ZoneInfo) -> None:
    """A line for each day, and what it comes to."""
    table = Table("day", "from", "to", "read as", "calendar", "title", box=None, pad_edge=False)
    for each in found.days:
        read_as = f"{each.means}, recurring" if each.recurring else each.means
        cells = (spoken(each.day), *_hours(each, zone), read_as, each.container, each.title or "")
        table.add_row(*map(escape, cells))
    if table.row_count:
        console.print(table)
    counted = ", ".join(f"{count} {meaning}" for meaning, count in found.entries.items())
    console.print(f"entries in all, past ones too: {counted or 'none'}", highlight=False)
    for reason, count in found.problems.items():
        console.print(escape(f"{count} cannot be read: {reason}"), highlight=False)


def _hours(each: Day, zone: ZoneInfo) -> tuple[str, str]:
    """From when to when, where it is not the whole day; the last day of several."""
    if isinstance(each.start, datetime) and isinstance(each.end, datetime):
        start, end = each.start.astimezone(zone), each.end.astimezone(zone)
        return f"{start:%H:%M}", f"{end:%H:%M}" if end.date() == start.date() else f"{spoken(end.date())}, {end:%H:%M}"
    return "", spoken(each.last) if each.last > each.day else ""


def as_json(source: str, found: Preview) -> dict[str, Any]:
    """A preview for other programs."""
    days = [
        {
            "container": each.container,
            "day": each.day.isoformat(),
            "start": rfc_text(each.start),
            "end": rfc_text(each.end),
            "means": each.means,
            "recurring": each.recurring,
            "title": each.title,
        }
        for each in found.days
    ]
    return {"source": source, "days": days, "entries": dict(found.entries), "problems": dict(found.problems)}


def rfc_text(when: datetime | date) -> str:
    """A day as ISO text, an instant in RFC 3339."""
    return rfc3339(when) if isinstance(when, datetime) else when.isoformat()


def _days(entry: CalendarEntry, zone: ZoneInfo) -> Iterator[Day]:
    for occurrence in entry.occurrences:
        start, end = occurrence.start, occurrence.end
        day, last = local_day(start, zone), local_day(end, zone)
        if not isinstance(end, datetime):  # exclusive, as a day
            last = max(day, last - timedelta(days=1))
        yield Day(entry.container, day, last, start, end, entry.meaning.value, entry.recurring, entry.title)


def _problem(read: Read) -> str:
    return f"{read.ref.id.partition('/')[0]}: {read.problem}"
