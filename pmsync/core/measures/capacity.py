"""What a team can do, day by day: the working hours of those who work on a project, less holidays, time off and, where it is
wished, meetings.

Everything is compared as instants, by each member's own zone, so that a night in which the clocks change is as long as it is;
what overlaps counts once. The hours of a day are those that begin on it, wherever the member is.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import islice, pairwise
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from pmsync.core.events import CalendarEntry, Meaning, Member, Occurrence, Project, Thing
from pmsync.core.project import View
from pmsync.core.workdays import FIRST, LAST, Workdays

WEEKS = 6
"""The present one, from today on, and the five after."""
MOST_WEEKS = 52
THOUSANDTHS = 1000 * 1000
"""Of an hour that is worked, by allocation and by ramp."""
DAY = timedelta(days=1)
MARGIN = 3 * DAY
"""What is looked at before and after the days asked for: nights, and zones."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NOBODY = "nobody is configured to work on it; `projects` under `people` in pmsync.yaml says who does"

Span = tuple[int, int]
"""`[start, end)` in seconds since 1970."""
Known = tuple[Thing, CalendarEntry]


@dataclass(frozen=True, slots=True)
class Tally:
    """Seconds of work: those that would be worked, what holidays, then time off, then meetings take of them, and what is
    left. An hour that two of these take is the first one's."""

    working: int = 0
    holidays: int = 0
    time_off: int = 0
    meetings: int = 0

    @property
    def capacity(self) -> int:
        return self.working - self.holidays - self.time_off - self.meetings

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.working + other.working,
            self.holidays + other.holidays,
            self.time_off + other.time_off,
            self.meetings + other.meetings,
        )


@dataclass(frozen=True, slots=True)
class Day:
    """What the team has on a day. `is_working` is whether it is a working day of the project; others are there where
    somebody has hours on them all the same. `members` are those that have hours, by person id."""

    day: date
    is_working: bool
    tally: Tally
    members: Mapping[str, Tally]


@dataclass(frozen=True, slots=True)
class CapacityWeek:
    """The days of a week, from Monday `first` on, that were asked for."""

    first: date
    tally: Tally


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a team can do on some days; with a `reason` why that is not known there are none. `notes` say what did not count,
    and why."""

    first: date
    last: date
    days: tuple[Day, ...]
    members: int
    with_meetings: bool
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def formula(self) -> str:
        meetings = " less meetings" if self.with_meetings else ""
        return f"working hours of each member less holidays less time off{meetings}, overlaps once, times allocation"

    @property
    def tally(self) -> Tally | None:
        """All days together; None where it is not known."""
        return None if self.reason else _sum(day.tally for day in self.days)

    @property
    def weeks(self) -> tuple[CapacityWeek, ...]:
        """One for each week of which a day was asked for; none where nothing is known."""
        if self.reason:
            return ()
        monday = self.first - self.first.weekday() * DAY
        mondays = [monday + 7 * n * DAY for n in range((self.last - monday).days // 7 + 1)]
        return tuple(
            CapacityWeek(each, _sum(day.tally for day in self.days if each <= day.day < each + 7 * DAY))
            for each in mondays
        )


def capacity(view: View, weeks: int = WEEKS) -> Capacity:
    """The team's capacity from the day of the view on, for so many weeks, the present one among them."""
    workdays = Workdays.of(view)
    first = min(max(workdays.day(view.at), FIRST), LAST - (7 * MOST_WEEKS) * DAY - MARGIN)
    last = first + (7 * weeks - 1 - first.weekday()) * DAY
    project = view.project
    reason = _unknown(view, first, last)
    days = () if reason else tuple(_days(view, workdays, first, last))
    notes = () if reason else tuple(_notes(view, first, last))
    return Capacity(first, last, days, len(project.team), project.count_meetings, reason, notes)


def _unknown(view: View, first: date, last: date) -> str:
    """Why nothing can be said; leave that has not been read is not no leave. It names nobody's calendar: it goes into exports."""
    if not view.project.team:
        return NOBODY
    there = [each for each in view.project.team if (each.leaves or last) >= first and (each.joins or first) <= last]
    missing = {place for member in there for place in _places(member)} - view.shown
    return f"{len(missing)} calendars of its team have not been read yet; `pmsync doctor` says why" if missing else ""


def _places(member: Member) -> Iterator[tuple[str, str]]:
    """The containers that say when a member is there."""
    for found in (member.calendars, member.holidays or {}):
        yield from ((source, container) for source, containers in found.items() for container in containers)


def _days(view: View, workdays: Workdays, first: date, last: date) -> Iterator[Day]:
    window = first - MARGIN, last + MARGIN
    shared = _shared(view)
    away = [(member, _away(view, member, window, shared)) for member in view.project.team]
    for n in range((last - first).days + 1):
        day = first + n * DAY
        tallies = {member.person: tally(member, day, spans) for member, spans in away}
        working = {person: found for person, found in tallies.items() if found.working}
        if working or workdays.is_working(day):
            yield Day(day, workdays.is_working(day), _sum(working.values()), working)


# --- whose an entry is ------------------------------------------------------------------------------------------------


class Away(NamedTuple):
    """When a member is not there, each sorted and merged."""

    holidays: Sequence[Span] = ()
    time_off: Sequence[Span] = ()
    meetings: Sequence[Span] = ()


def _away(view: View, member: Member, window: tuple[date, date], shared: Collection[Thing] | None) -> Away:
    zone = ZoneInfo(member.time_zone)
    known = (*view.calendar, *view.personal)
    return Away(
        holidays=spans(
            (e for each in known if _is_holiday_of(member, each, view) for e in each[1].occurrences), zone, window
        ),
        time_off=spans(_busy(each for each in known if _is_time_off_of(member, each)), zone, window),
        meetings=spans(_busy(each for each in known if _is_meeting_of(member, each, shared)), zone, window),
    )


def _is_holiday_of(member: Member, known: Known, view: View) -> bool:
    thing, entry = known
    if entry.meaning is not Meaning.holiday:
        return False
    if _is_theirs(member, known):
        return True
    if member.holidays is not None:
        return entry.container in member.holidays.get(thing.source, ())
    return entry.container not in view.project.personal.get(thing.source, ())


def _is_time_off_of(member: Member, known: Known) -> bool:
    return known[1].meaning is Meaning.time_off and _is_theirs(member, known)


def _is_meeting_of(member: Member, known: Known, shared: Collection[Thing] | None) -> bool:
    if known[1].meaning is not Meaning.meeting or shared is None:
        return False
    return known[0] in shared or _is_theirs(member, known)


def _shared(view: View) -> Collection[Thing] | None:
    """The meetings of the project's own calendars are everybody's, unless they are somebody's; None where none count."""
    if not view.project.count_meetings:
        return None
    meetings = (each for each in view.calendar if each[1].meaning is Meaning.meeting)
    return {each[0] for each in meetings if _is_nobodys(view.project, each)}


def _is_theirs(member: Member, known: Known) -> bool:
    thing, entry = known
    if entry.whose is not None:
        return entry.whose in member.accounts.get(thing.source, ())
    return entry.container in member.calendars.get(thing.source, ())


def _is_nobodys(project: Project, known: Known) -> bool:
    return known[1].whose is None and not any(_is_theirs(member, known) for member in project.team)


def _busy(entries: Iterable[Known]) -> Iterator[Occurrence]:
    return (each for _, entry in entries for each in entry.occurrences if each.busy)


Why = Literal["unknown", "others", "free"]
WORDS: Mapping[Why, str] = {
    "unknown": "since nothing says whose they are",
    "others": "of others than the team",
    "free": "tentative, or leaving people free",
}


def _notes(view: View, first: date, last: date) -> Iterator[str]:
    """What of the days asked for could not count, and is not guessed."""
    known = (*view.calendar, *view.personal)
    found = Counter(_left_out(view, each, (first, last + DAY)) for each in known)
    for why, words in WORDS.items():
        if found[why]:
            yield f"entries of time off that do not count: {found[why]}, {words}"
    if cut := sum(entry.occurrences_cut for _, entry in known):
        yield f"entries that are not known whole, having too many occurrences: {cut}"
    if not view.synced:
        yield "not all that the project reads has been read yet; holidays and time off in the rest are not known"


def _left_out(view: View, known: Known, window: tuple[date, date]) -> Why | None:
    """Why an entry of time off counts for nobody on these days; None if it counts, or is not of them."""
    entry = known[1]
    if entry.meaning is not Meaning.time_off or not spans(entry.occurrences, view.zone, window):
        return None
    if not spans(_busy([known]), view.zone, window):
        return "free"
    if any(_is_theirs(member, known) for member in view.project.team):
        return None
    return "unknown" if entry.whose is None else "others"


# --- the hours of one member ------------------------------------------------------------------------------------------


def tally(member: Member, day: date, away: Away) -> Tally:
    """What a member has for the project on a day. What is taken is rounded after it is summed, so that the parts add up."""
    left = working(member, day)
    rate = member.allocation * ramp(member, day)
    found = [_scaled(left, rate)]
    for each in away:
        left = without(left, each)
        found.append(_scaled(left, rate))
    return Tally(found[0], *(before - after for before, after in pairwise(found)))


def working(member: Member, day: date) -> Sequence[Span]:
    """The hours that begin on a day, as instants. A wall time that the clocks leave out is told by the offset before, one that
    is there twice is the first."""
    zone = ZoneInfo(member.time_zone)
    return merged((_wall(day, each.start, zone), _wall(day, each.end, zone)) for each in member.hours[day.weekday()])


def ramp(member: Member, day: date) -> int:
    """How many thousandths of what is allocated count on a day."""
    if (member.joins and day < member.joins) or (member.leaves and day > member.leaves):
        return 0
    if member.joins:
        left = (day - member.joins).days
        for step in member.ramp:
            left -= step.days
            if left < 0:
                return step.share
    return 1000


def _scaled(spans: Iterable[Span], rate: int) -> int:
    return sum(end - start for start, end in spans) * rate // THOUSANDTHS


# --- spans of time ----------------------------------------------------------------------------------------------------


def spans(occurrences: Iterable[Occurrence], zone: ZoneInfo, window: tuple[date, date]) -> Sequence[Span]:
    """What of these lies within the days of a window; whole days are those of the zone."""
    bounds = _wall(window[0], 0, zone), _wall(window[1], 0, zone)
    return merged(span for each in occurrences if (span := _span(each, zone, window, bounds)))


def _span(occurrence: Occurrence, zone: ZoneInfo, window: tuple[date, date], bounds: Span) -> Span | None:
    start, end = occurrence.start, occurrence.end
    if isinstance(start, datetime) and isinstance(end, datetime):
        return max(_seconds(start), bounds[0]), min(_seconds(end), bounds[1])
    if isinstance(start, datetime) or isinstance(end, datetime):
        return None
    # One that ends on the day on which it begins means that day, as everywhere.
    days = max(start, window[0]), min(max(end, min(start, LAST) + DAY), window[1])
    return (_wall(days[0], 0, zone), _wall(days[1], 0, zone)) if days[0] < days[1] else None


def merged(spans: Iterable[Span]) -> Sequence[Span]:
    """Sorted, without overlaps; what touches is one, what is empty is none."""
    found: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def without(spans: Sequence[Span], taken: Sequence[Span]) -> Sequence[Span]:
    """What is left of these; both are merged."""
    left: list[Span] = []
    for start, end in spans:
        at = start
        for begin, over in islice(taken, max(bisect(taken, (start, start)) - 1, 0), None):
            if begin >= end:
                break
            if over <= at:
                continue
            if begin > at:
                left.append((at, begin))
            at = over
        if at < end:
            left.append((at, end))
    return left


def _wall(day: date, minutes: int, zone: ZoneInfo) -> int:
    """The instant at which the clocks of a zone show so many minutes after the beginning of a day."""
    days, rest = divmod(minutes, 1440)
    return _seconds(datetime.combine(day + days * DAY, time(*divmod(rest, 60)), zone))


def _seconds(when: datetime) -> int:
    return (when - EPOCH) // SECOND


def _sum(tallies: Iterable[Tally]) -> Tally:
    total = Tally()
    for each in tallies:
        total += each
    return total
