"""The words of the rules: an episode (a stretch in which a rule was true), and how stretches become episodes.

A rule yields the stretches in which it was true of one subject. Those that touch and mean the same become one, so that
`since` is the last instant at which the rule became true: what was mended and went wrong again is a new episode.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple

from pmsync.core.events import Thing, Thresholds
from pmsync.core.project import Deadline
from pmsync.core.workdays import Workdays

Severity = Literal["info", "warning", "critical"]

FOREVER = datetime.max.replace(tzinfo=UTC)
BEGINNING = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch `[since, until)` in which a rule was true of a subject; `until` None: wrong now.

    `evidence` is JSON: inputs, the formula's name, keys of items; `summary` is one plain sentence. With `at_least` the
    episode began at `since` or earlier. `against` are the days that `due` is in conflict with: others are another alert.
    """

    rule: str
    project: str
    subject: Thing
    key: str
    title: str
    severity: Severity
    due: date | None
    threshold: int | None
    since: datetime
    until: datetime | None
    evidence: Mapping[str, Any]
    summary: str
    url: str = ""
    at_least: bool = False
    against: tuple[date, ...] = ()

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.rule, self.subject, self.due, self.threshold, self.against)

    @property
    def name(self) -> str:
        """What people know the subject by: the key and title of an item, the title of a deadline."""
        return f"{self.key} {self.title}" if self.subject.kind == "work_item" else self.title


def fingerprint(
    rule: str, subject: Thing, due: date | None, threshold: int | None, against: Iterable[date] = ()
) -> str:
    """What an alert is known by: the same in every project that shows the thing."""
    days = [day.isoformat() if day else None for day in (due, *against)]
    text = json.dumps([rule, *subject, days[0], threshold, *days[1:]], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Stretch(NamedTuple):
    """`[start, stop)` in which a rule was true, against a due date or a threshold; a stop after `now` is not yet."""

    due: date | None
    threshold: int | None
    start: datetime
    stop: datetime


class Rung(NamedTuple):
    """One rung of the ladder: the tightest reached from `start` to `stop`."""

    days: int
    start: datetime
    stop: datetime


@dataclass(frozen=True, slots=True)
class Context:
    """What rules look at besides their subject. `milestones` are the deadlines that items belong to, by the milestone that
    these name; `blockers` the keys of what blocks an item now and is open, or not known to be done."""

    project: str
    now: datetime
    thresholds: Thresholds
    workdays: Workdays
    shown: frozenset[tuple[str, str]]
    milestones: Mapping[Thing, Deadline]
    blockers: Mapping[Thing, Sequence[str]] = field(default_factory=dict)
    ladders: dict[date, tuple[Rung, ...]] = field(default_factory=dict)


def ladder(due: date, context: Context) -> tuple[Rung, ...]:
    """The rungs before a due date, each until the next; the last ends with the due day."""
    if due not in context.ladders:
        days = sorted(set(context.thresholds.ladder), reverse=True)
        starts = [context.workdays.start(context.workdays.add(due, -n)) for n in days]
        stops = [*starts[1:], context.workdays.deadline(due)]
        context.ladders[due] = tuple(map(Rung, days, starts, stops))
    return context.ladders[due]


def clip(stretch: Stretch, start: datetime, stop: datetime) -> Iterator[Stretch]:
    """What of a stretch lies in `[start, stop)`, if anything does."""
    start, stop = max(stretch.start, start), min(stretch.stop, stop)
    if start < stop:
        yield stretch._replace(start=start, stop=stop)


def merged(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Stretches of the same meaning that touch, as one."""
    last: Stretch | None = None
    for stretch in sorted(stretches, key=lambda s: (s.due or date.min, s.threshold or 0, s.start)):
        if last and last[:2] == stretch[:2] and stretch.start <= last.stop:
            last = last._replace(stop=max(last.stop, stretch.stop))
        else:
            if last:
                yield last
            last = stretch
    if last:
        yield last


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def spoken(day: date) -> str:
    """A day as people write it, whatever the locale: Fri 4 Dec 2026."""
    return f"{WEEKDAYS[day.weekday()]} {day.day} {MONTHS[day.month - 1]} {day.year}"


def ahead(due: date, when: datetime, workdays: Workdays) -> str:
    """How far ahead of an instant a day lies, in working days; «today» is said on the day itself only."""
    today = workdays.day(when)
    left = workdays.between(today, due)
    return "today" if today == due else f"in {counted(left, 'working day')}" if left > 0 else "no working day left"


def ago(days: int) -> str:
    """How long a day has passed; nothing while no working day has."""
    return f", {counted(days, 'working day')} ago" if days > 0 else ""


def counted(n: int, what: str) -> str:
    """1 item, 2 items."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def percent(share: float) -> str:
    """A share as people read it; only the whole is 100 %, and only nothing is 0 %."""
    if 0 < share < 0.005:
        return "less than 1 %"
    return "more than 99 %" if 0.995 <= share < 1 else f"{(round(share * 1000) + 5) // 10} %"


def likely(thousandths: int) -> str:
    """A probability in words. A thousand trials cannot say never or always."""
    if thousandths < 10:
        return "less than 1 %"
    return "more than 99 %" if thousandths > 990 else f"{(thousandths + 5) // 10} %"
