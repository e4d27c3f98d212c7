"""Working days of a project: its weekdays less its holidays, counted in its own time zone.

A date-only deadline ends with that day there. Every loop is bounded: a calendar in which each day is a holiday gives
calendar days, not a hang; dates at the ends of time (Jira knows 9999-12-31) give the last instant that can be told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from pmsync.core.events import CalendarEntry, Meaning, Project, Thing
from pmsync.core.project import View, day_end, local_day

LONGEST_HOLIDAY = 366
FIRST, LAST = date(2, 1, 1), date(9998, 12, 31)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Workdays:
    """The working days of a project."""

    zone: ZoneInfo
    weekdays: frozenset[int]
    holidays: frozenset[date]

    @classmethod
    def of(cls, shown: View | Project, calendar: Sequence[tuple[Thing, CalendarEntry]] = ()) -> Workdays:
        """All-day entries that mean a holiday are days off; a view brings its own calendar."""
        project = shown.project if isinstance(shown, View) else shown
        entries = shown.calendar if isinstance(shown, View) else calendar
        days = frozenset(day for _, entry in entries if entry.meaning is Meaning.holiday for day in _days_off(entry))
        return cls(ZoneInfo(project.time_zone), frozenset(project.working_days), days)

    def is_working(self, day: date) -> bool:
        return day.weekday() in self.weekdays and day not in self.holidays

    def day(self, when: datetime) -> date:
        """The local day of an instant."""
        return local_day(when, self.zone)

    def start(self, day: date) -> datetime:
        """The instant (UTC) at which a day begins."""
        return self.deadline(min(max(day, FIRST), LAST) - DAY)

    def deadline(self, day: date) -> datetime:
        """The instant (UTC) at which a day ends."""
        return day_end(min(max(day, FIRST), LAST), self.zone).astimezone(UTC)

    def add(self, day: date, n: int) -> date:
        """The n-th working day after (n < 0: before) `day`; `day` itself for 0."""
        step, left, at = (DAY if n > 0 else -DAY), abs(n), min(max(day, FIRST), LAST)
        # At the worst there is one working day a week, and each holiday falls on one of those.
        for _ in range(7 * (left + len(self.holidays) + 1)):
            if not left:
                return at if n else day
            at = min(max(at + step, FIRST), LAST)
            left -= self.is_working(at)
        return min(max(day, FIRST), LAST) + timedelta(days=n)

    def after(self, when: datetime, n: int) -> datetime:
        """The instant n working days after `when`, at the same time of day; what begins on a day off is counted from
        the beginning of the next working day."""
        local = when.astimezone(self.zone)
        if self.is_working(local.date()):
            day, clock = self.add(local.date(), n), local.time()
        else:
            day, clock = self.add(local.date(), n + 1), time()
        return datetime.combine(day, clock, self.zone).astimezone(UTC)

    def between(self, a: date, b: date) -> int:
        """How many working days lie in (a, b]; of (b, a], negative, if b is before a."""
        if b < a:
            return -self.between(b, a)
        weeks, rest = divmod((b - a).days, 7)
        whole = weeks * len(self.weekdays) + sum((a.weekday() + i) % 7 in self.weekdays for i in range(1, rest + 1))
        return whole - sum(a < day <= b and day.weekday() in self.weekdays for day in self.holidays)


def _days_off(entry: CalendarEntry) -> Iterator[date]:
    """The days of its all-day occurrences; an entry of hours is no day off."""
    for occurrence in entry.occurrences:
        start, end = occurrence.start, occurrence.end
        if not isinstance(start, datetime) and not isinstance(end, datetime):
            for i in range(min(max((end - start).days, 1), LONGEST_HOLIDAY)):
                yield start + i * DAY
