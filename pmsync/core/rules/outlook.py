"""The rule on forecasts: a deadline that will probably be missed, while there is still time.

`since` is found backwards, from the sources' histories alone: day by day at local midnights while the forecast was late,
then hour by hour within the day before; it is the first change after the last instant at which the forecast was well.
Beyond ten working days it is not looked for: the episode then began at `since` or earlier. Only deadlines that are late
now are looked at, so that the past costs nothing where all is well.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from pmsync.core.events import Thing, rfc3339
from pmsync.core.measures.forecast import Forecast, Pace, forecast, pace
from pmsync.core.measures.progress import NAMED
from pmsync.core.project import Deadline, Item, ProjectState, View, view
from pmsync.core.rules.episode import Context, Episode, Severity, counted, likely, spoken

LABEL = "late by forecast"
FORMULA = "P85 after the due date, or P(on time) below the threshold"
BACK = 10
INSTANT = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


class Moment(NamedTuple):
    """The project as of one instant, ready to forecast."""

    view: View
    pace: Pace
    deadlines: Mapping[Thing, Deadline]


@dataclass(frozen=True, slots=True)
class Past:
    """The project as of instants of the past, each computed once. `changes` are the instants at which anything changed."""

    state: ProjectState
    changes: list[datetime]
    moments: dict[datetime, Moment] = field(default_factory=dict)
    forecasts: dict[tuple[Thing, datetime], Forecast | None] = field(default_factory=dict)

    @classmethod
    def of(cls, state: ProjectState) -> Past:
        instants = {
            at
            for _, item in state.things["work_item"]
            for at in (item.created_at, *(change.at for change in item.history))
        }
        instants |= {m.closed_at for _, m in state.things["milestone"] if m.closed_at}
        instants |= {m.created_at for _, m in state.things["milestone"] if m.created_at}
        return cls(state, sorted(instants))

    def at(self, when: datetime) -> Moment:
        if when not in self.moments:
            shown = view(self.state, when)
            self.moments[when] = Moment(shown, pace(shown), {deadline.thing: deadline for deadline in shown.deadlines})
        return self.moments[when]

    def late(self, thing: Thing, when: datetime, threshold: int) -> bool:
        """Whether the forecast of a deadline was late."""
        found = self.forecast(thing, when)
        return found is not None and is_late(found, threshold)

    def forecast(self, thing: Thing, when: datetime) -> Forecast | None:
        """The forecast of a deadline as it was; None before the deadline was there."""
        if (thing, when) not in self.forecasts:
            moment = self.at(when)
            deadline = moment.deadlines.get(thing)
            self.forecasts[thing, when] = forecast(moment.view, deadline, moment.pace) if deadline else None
        return self.forecasts[thing, when]

    def first_after(self, start: datetime, stop: datetime) -> datetime | None:
        """The first change in `(start, stop]`."""
        i = bisect_right(self.changes, start)
        return self.changes[i] if i < len(self.changes) and self.changes[i] <= stop else None


def is_late(found: Forecast, threshold: int) -> bool:
    """P85 after the due date, or P(on time) below the threshold (thousandths)."""
    if found.reason or found.due_date is None or found.on_time is None:
        return False
    return found.p85 is None or found.p85 > found.due_date or found.on_time < threshold


def outlook_episodes(state: ProjectState, now: View, keys: Mapping[Thing, str], context: Context) -> Iterator[Episode]:
    """An episode for each deadline that is not over, and late by its forecast."""
    shared = pace(now)
    today = context.workdays.day(context.now)
    past: Past | None = None
    for deadline in now.deadlines:
        if deadline.due_date is None or deadline.due_date < today:
            continue
        found = forecast(now, deadline, shared)
        if is_late(found, context.thresholds.on_time):
            past = past or Past.of(state)
            yield _episode(found, deadline, keys.get(deadline.thing, deadline.thing.id), past, context)


def _episode(found: Forecast, deadline: Deadline, key: str, past: Past, context: Context) -> Episode:
    since, at_least = _since(deadline.thing, past, context)
    return Episode(
        rule="forecast_late",
        project=context.project,
        subject=deadline.thing,
        key=key,
        title=deadline.title,
        severity=_severity(found, context),
        due=found.due_date,
        threshold=context.thresholds.on_time,
        since=since,
        until=None,
        evidence={
            **found.evidence,
            "rule": FORMULA,
            "due_date": _iso(found.due_date),
            "on_time": None if found.on_time is None else found.on_time / 1000,
            **{name: _iso(getattr(found, name)) for name in ("p50", "p85", "p95")},
            **_changed(deadline, context),
            **_before(deadline.thing, past, context),
            **({"since_at_least": rfc3339(since)} if at_least else {}),
        },
        summary=_summary(found, context),
        url=deadline.url,
        at_least=at_least,
    )


def _severity(found: Forecast, context: Context) -> Severity:
    """Critical is what is less likely on time than the threshold asks, and by much: with P85 a week of working days late,
    or less than half as likely. A P85 that is late alone is no more than a warning."""
    assert found.due_date is not None
    assert found.on_time is not None
    threshold = context.thresholds.on_time
    late = 5 if found.p85 is None else context.workdays.between(found.due_date, found.p85)
    by_much = late >= 5 or found.on_time * 2 < threshold
    return "critical" if found.on_time < threshold and by_much else "warning"


def _summary(found: Forecast, context: Context) -> str:
    assert found.due_date is not None
    assert found.on_time is not None
    start = f"promised {spoken(found.due_date)}: {likely(found.on_time)} likely on time"
    if found.p85 is None:
        return f"{start}; P85 is more than two years away"
    late = context.workdays.between(found.due_date, found.p85)
    ends = f", {counted(late, 'working day')} late" if late > 0 else ""
    return f"{start}; P85 is {spoken(found.p85)}{ends}"


def _changed(deadline: Deadline, context: Context) -> dict[str, Any]:
    """What a reader asks next: what came in over the last week, and what is stuck."""
    work = [item for item in deadline.items if item.open]
    week = context.now - WEEK
    added = sorted(item.key for item in work if _came_at(item, context.now) > week)
    blocked = sorted(item.key for item in work if item.blocked)
    return {
        "added_last_week": added[:NAMED],
        "added_last_week_count": len(added),
        "blocked": blocked[:NAMED],
        "blocked_count": len(blocked),
    }


def _before(thing: Thing, past: Past, context: Context) -> dict[str, Any]:
    """What the forecast said when yesterday ended, and when that day a week ago did; nothing where there was none.

    The last instant of a day, not the midnight after it: at midnight the forecast is the new day's already.
    """
    today = context.workdays.day(context.now)
    ends = {"yesterday": today, "week_ago": today - timedelta(days=6)}
    found = {name: past.forecast(thing, context.workdays.start(day) - INSTANT) for name, day in ends.items()}
    return {
        name: {"on_time": known.on_time / 1000, "p85": _iso(known.p85)}
        for name, known in found.items()
        if known and not known.reason and known.on_time is not None
    }


def yesterday(evidence: Mapping[str, Any]) -> str:
    """What a late forecast said yesterday, as a remark behind what it says now; nothing if there was none."""
    before = evidence.get("yesterday")
    if before is None:
        return ""
    if all(before[name] == evidence[name] for name in ("on_time", "p85")):
        return " (yesterday: the same)"
    day = spoken(date.fromisoformat(before["p85"])) if before["p85"] else "more than two years away"
    return f" (yesterday: {likely(round(before['on_time'] * 1000))}, {day})"


def _came_at(item: Item, now: datetime) -> datetime:
    """When an item was created or last got its milestone or container."""
    moves = (c.at for c in item.content.history if c.field in {"milestone", "container"} and c.at <= now)
    return max(moves, default=item.content.created_at)


# --- since when -------------------------------------------------------------------------------------------------------


def _since(thing: Thing, past: Past, context: Context) -> tuple[datetime, bool]:
    """When the forecast turned late, and whether that may have been earlier still."""
    threshold = context.thresholds.on_time
    later = context.now
    for midnight in _midnights(context):
        if not past.late(thing, midnight, threshold):
            return _turn(thing, past, midnight, later, context), False
        later = midnight
    return later, True


def _midnights(context: Context) -> Iterator[datetime]:
    """The beginnings of local days, today's first, ten working days back."""
    today = context.workdays.day(context.now)
    last = context.workdays.add(today, -BACK)
    for n in range((today - last).days + 1):
        yield context.workdays.start(today - timedelta(days=n))


def _turn(thing: Thing, past: Past, well: datetime, late: datetime, context: Context) -> datetime:
    """The instant in `(well, late]` at which the forecast turned late, to the hour of its first change.

    A new day turns a forecast at midnight (other draws, another window); within a day only changes do.
    """
    threshold = context.thresholds.on_time
    eve = late - INSTANT
    if context.workdays.day(late) != context.workdays.day(well) and not past.late(thing, eve, threshold):
        return late
    for mark in (well + n * HOUR for n in range(25, 0, -1)):
        change = past.first_after(mark, late)
        if change and not past.late(thing, mark, threshold):
            return change
    return past.first_after(well, late) or late


def _iso(day: date | None) -> str | None:
    return day.isoformat() if day else None
