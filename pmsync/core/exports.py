"""Tables for other programs: rows of plain values, the same for everyone who has read the same sources.

Instants are RFC 3339 in UTC, days ISO dates, estimates in the team's unit. No row knows when or where it was processed,
and none carries a person's name. Rows come in the order of the bytes of their keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from pmsync.core.alerts import Alert, alerts
from pmsync.core.dates import Dated
from pmsync.core.events import CalendarEntry, Change, Occurrence, Thing, Worklog, rfc3339
from pmsync.core.measures import Measure, measures, share
from pmsync.core.measures.capacity import Capacity, Tally, capacity
from pmsync.core.measures.flow import cycle_time, lead_time
from pmsync.core.measures.forecast import Forecast, forecast, pace
from pmsync.core.measures.progress import Progress, progress
from pmsync.core.measures.sprints import Course, courses
from pmsync.core.project import Deadline, Item, ProjectState, View, view
from pmsync.core.rules import episodes
from pmsync.core.workdays import Workdays

CAPACITY_WEEKS = 12
"""So many are exported, the present one from today on."""
Row = dict[str, Any]
Column = Callable[["Sight", Any], Any]


@dataclass(frozen=True, slots=True)
class Sight:
    """What all rows of one export look at."""

    state: ProjectState
    view: View
    workdays: Workdays


class Table(NamedTuple):
    """`subjects` gives one value per row, in order; each column reads its value from one."""

    subjects: Callable[[Sight], Iterable[Any]]
    columns: Mapping[str, Column]


def rows(table: str, state: ProjectState, at: datetime, now: datetime) -> Iterator[Row]:
    """The rows of a table as of `at`, for a reader at `now` (which `at` never passes)."""
    yield from rows_of(table, sight(state, min(at, now)))


def sight(state: ProjectState, at: datetime) -> Sight:
    """The project as of an instant, to read several tables from."""
    shown = view(state, at)
    return Sight(state, shown, Workdays.of(shown))


def rows_of(table: str, sight: Sight) -> Iterator[Row]:
    """The rows of a table as they are seen from there."""
    subjects, columns = _TABLES[table]
    for subject in subjects(sight):
        yield {name: read(sight, subject) for name, read in columns.items()}


def delay_days(item: Item, now: datetime, workdays: Workdays) -> int | None:
    """Calendar days from the due date to the local day on which the item was done (early is negative), or to today while
    it is open and past due."""
    if item.due_date is None:
        return None
    if item.done:
        return (workdays.day(item.resolved_at) - item.due_date).days if item.resolved_at else None
    late = (workdays.day(now) - item.due_date).days
    return late if item.open and late > 0 else None


# --- one subject per row, in order ------------------------------------------------------------------------------------


def _changes(sight: Sight) -> Iterator[tuple[Item, Change]]:
    for item in sight.view.items:
        past = (change for change in item.content.history if change.at <= sight.view.at)
        yield from ((item, change) for change in sorted(past, key=lambda change: change.at))


def _worklogs(sight: Sight) -> Iterator[tuple[Item, Worklog]]:
    for item in sight.view.items:
        logged = (each for each in item.content.worklogs if each.created_at <= sight.view.at)
        yield from ((item, each) for each in sorted(logged, key=lambda each: (each.started_at, each.id)))


def _deadlines(sight: Sight) -> Iterator[tuple[Deadline, Progress, Forecast]]:
    shared = pace(sight.view)
    for deadline in sorted(sight.view.deadlines, key=lambda deadline: deadline.thing):
        yield deadline, progress(deadline.items), forecast(sight.view, deadline, shared)


def _sprints(sight: Sight) -> list[Course]:
    return sorted(courses(sight.state, sight.view), key=lambda course: course.thing)


def _occurrences(sight: Sight) -> Iterator[tuple[Thing, CalendarEntry, Occurrence]]:
    for thing, entry in sorted(sight.view.calendar, key=lambda known: known[0]):
        for occurrence in sorted(entry.occurrences, key=lambda o: (_text(o.start) or "", _text(o.end) or "")):
            yield thing, entry, occurrence


class Worked(NamedTuple):
    """What the team, or one person of it, has on a day."""

    found: Capacity
    day: date
    is_working: bool
    person: str | None
    tally: Tally


def _worked(sight: Sight) -> Iterator[Worked]:
    """The team's days; each followed by its persons' where the project asks for it."""
    found = capacity(sight.view, CAPACITY_WEEKS)
    for day in found.days:
        yield Worked(found, day.day, day.is_working, None, day.tally)
        for person, tally in sorted(day.members.items()) if sight.view.project.per_person else ():
            yield Worked(found, day.day, day.is_working, person, tally)


def _alerts(sight: Sight) -> list[Alert]:
    facts = [fact for fact in sight.state.facts if fact.at <= sight.view.at]
    return sorted(alerts(episodes(sight.state, sight.view.at), facts), key=lambda a: (a.fingerprint, a.since))


def _measures(sight: Sight) -> list[Measure]:
    return sorted(measures(sight.view), key=lambda measure: (measure.subject, measure.name))


def _dated(each: Dated) -> Row:
    return {
        "source": each.thing.source,
        "kind": each.thing.kind,
        "id": each.thing.id,
        "container": each.container,
        "title": each.title,
        "due_date": _text(each.due_date),
        "state": "closed" if each.closed else "open",
    }


def _decimal(thousandths: int | None) -> float | None:
    return None if thousandths is None else thousandths / 1000


def _text(when: datetime | date | None) -> str | None:
    if isinstance(when, datetime):
        return rfc3339(when)
    return when.isoformat() if when else None


# --- the tables -------------------------------------------------------------------------------------------------------

_PROJECTS: Mapping[str, Column] = {
    "project": lambda s, _: s.view.project.key,
    "name": lambda s, _: s.view.project.name,
    "time_zone": lambda s, _: s.view.project.time_zone,
    "deadline": lambda s, _: _text(s.view.project.deadline),
    "synced": lambda s, _: s.view.synced,
    "scope": lambda _, p: p.scope,
    "todo": lambda _, p: p.todo,
    "in_progress": lambda _, p: p.in_progress,
    "done": lambda _, p: p.done,
    "dropped": lambda _, p: p.dropped,
    "done_share": lambda _, p: share(p.done, p.scope),
    "estimate": lambda _, p: _decimal(p.estimate),
    "estimate_done": lambda _, p: _decimal(p.estimate_done),
    "unestimated": lambda _, p: p.unestimated,
}

_WORK_ITEMS: Mapping[str, Column] = {
    "source": lambda _, i: i.thing.source,
    "key": lambda _, i: i.key,
    "project": lambda s, _: s.view.project.key,
    "id": lambda _, i: i.thing.id,
    "container": lambda _, i: i.container,
    "type": lambda _, i: i.content.type,
    "title": lambda _, i: i.content.title,
    "url": lambda _, i: i.content.url,
    "status": lambda _, i: i.status,
    "status_category": lambda _, i: i.status_category.value,
    "blocked": lambda _, i: i.blocked,
    "blocked_by": lambda _, i: list(i.blocked_by),
    "assignee": lambda _, i: i.assignee,
    "created_at": lambda _, i: _text(i.content.created_at),
    "started_at": lambda _, i: _text(i.started_at),
    "resolved_at": lambda _, i: _text(i.resolved_at),
    "due_date": lambda _, i: _text(i.due_date),
    "estimate": lambda _, i: _decimal(i.estimate),
    "time_estimate_seconds": lambda _, i: i.time_estimate,
    "time_spent_seconds": lambda _, i: i.time_spent,
    "time_left_seconds": lambda _, i: i.time_left,
    "milestone": lambda _, i: i.milestone,
    "sprint": lambda _, i: i.sprint,
    "lead_time_seconds": lambda _, i: lead_time(i).seconds,
    "cycle_time_seconds": lambda _, i: cycle_time(i).seconds,
    "delay_days": lambda s, i: delay_days(i, s.view.at, s.workdays),
}

_TRANSITIONS: Mapping[str, Column] = {
    "source": lambda _, t: t[0].thing.source,
    "key": lambda _, t: t[0].key,
    "project": lambda s, _: s.view.project.key,
    "field": lambda _, t: t[1].field,
    "from": lambda _, t: t[1].old,
    "to": lambda _, t: t[1].new,
    "at": lambda _, t: _text(t[1].at),
}

_WORKLOGS: Mapping[str, Column] = {
    "source": lambda _, w: w[0].thing.source,
    "key": lambda _, w: w[0].key,
    "project": lambda s, _: s.view.project.key,
    "id": lambda _, w: w[1].id,
    "started_at": lambda _, w: _text(w[1].started_at),
    "seconds": lambda _, w: w[1].seconds,
    "by": lambda _, w: w[1].by,
    "created_at": lambda _, w: _text(w[1].created_at),
}

_MILESTONES: Mapping[str, Column] = {
    "project": lambda s, _: s.view.project.key,
    "source": lambda _, m: m[0].thing.source,
    "kind": lambda _, m: m[0].thing.kind,
    "id": lambda _, m: m[0].thing.id,
    "title": lambda _, m: m[0].title,
    "url": lambda _, m: m[0].url,
    "due_date": lambda _, m: _text(m[0].due_date),
    "dates": lambda _, m: [_dated(each) for each in m[0].dates],
    "dates_differ": lambda _, m: bool(m[0].differing),
    "state": lambda _, m: "closed" if m[0].closed else "open",
    "closed_at": lambda _, m: _text(m[0].closed_at),
    "assumed": lambda _, m: m[0].assumed,
    "scope": lambda _, m: m[1].scope,
    "open": lambda _, m: m[1].open,
    "done": lambda _, m: m[1].done,
    "done_share": lambda _, m: share(m[1].done, m[1].scope),
    "p50": lambda _, m: _text(m[2].p50),
    "p85": lambda _, m: _text(m[2].p85),
    "p95": lambda _, m: _text(m[2].p95),
    "on_time": lambda _, m: _decimal(m[2].on_time),
    "forecast_reason": lambda _, m: m[2].reason or None,
}

_SPRINTS: Mapping[str, Column] = {
    "project": lambda s, _: s.view.project.key,
    "source": lambda _, c: c.thing.source,
    "id": lambda _, c: c.thing.id,
    "sprint": lambda _, c: c.sprint.sprint,
    "container": lambda _, c: c.sprint.container,
    "title": lambda _, c: c.sprint.title,
    "url": lambda _, c: c.sprint.url,
    "goal": lambda _, c: c.sprint.goal or None,
    "state": lambda _, c: c.state,
    "starts_at": lambda _, c: _text(c.sprint.starts_at),
    "ends_at": lambda _, c: _text(c.sprint.ends_at),
    "closed_at": lambda _, c: _text(c.sprint.closed_at) if c.state == "closed" else None,
    "committed": lambda _, c: c.committed,
    "added": lambda _, c: c.added,
    "removed": lambda _, c: c.removed,
    "scope": lambda _, c: c.progress.scope,
    "done": lambda _, c: c.progress.done,
    "dropped": lambda _, c: c.progress.dropped,
    "done_share": lambda _, c: share(c.progress.done, c.progress.scope),
    "estimate": lambda _, c: _decimal(c.progress.estimate),
    "estimate_done": lambda _, c: _decimal(c.progress.estimate_done),
    "unestimated": lambda _, c: c.progress.unestimated,
}

_CHANGE_REQUESTS: Mapping[str, Column] = {
    "source": lambda _, r: r.thing.source,
    "key": lambda _, r: r.content.key,
    "project": lambda s, _: s.view.project.key,
    "id": lambda _, r: r.thing.id,
    "container": lambda _, r: r.container,
    "title": lambda _, r: r.content.title,
    "url": lambda _, r: r.content.url,
    "state": lambda _, r: r.state,
    "milestone": lambda _, r: r.milestone,
    "created_at": lambda _, r: _text(r.content.created_at),
    "review_requested_at": lambda _, r: _text(r.review_requested_at),
    "first_review_at": lambda _, r: _text(r.first_review_at),
    "merged_at": lambda _, r: _text(r.merged_at),
    "closed_at": lambda _, r: _text(r.closed_at),
    "work_items": lambda _, r: list(r.content.work_items),
    "mentions": lambda _, r: [{"key": each.key, "where": each.where} for each in r.content.mentions],
}

_DEPLOYMENTS: Mapping[str, Column] = {
    "source": lambda _, d: d.thing.source,
    "id": lambda _, d: d.thing.id,
    "project": lambda s, _: s.view.project.key,
    "container": lambda _, d: d.content.container,
    "environment": lambda _, d: d.content.environment,
    "ref": lambda _, d: d.content.ref,
    "sha": lambda _, d: d.content.sha,
    "url": lambda _, d: d.content.url,
    "production": lambda _, d: d.content.production,
    "creator": lambda _, d: d.content.creator,
    "created_at": lambda _, d: _text(d.content.created_at),
    "state": lambda _, d: d.state,
    "finished_at": lambda _, d: _text(d.finished_at),
}

_RELEASES: Mapping[str, Column] = {
    "source": lambda _, r: r[0].source,
    "id": lambda _, r: r[0].id,
    "project": lambda s, _: s.view.project.key,
    "container": lambda _, r: r[1].container,
    "key": lambda _, r: r[1].key,
    "title": lambda _, r: r[1].title,
    "url": lambda _, r: r[1].url,
    "created_at": lambda _, r: _text(r[1].created_at),
    "published_at": lambda _, r: _text(r[1].published_at),
    "draft": lambda _, r: r[1].draft,
    "prerelease": lambda _, r: r[1].prerelease,
}

_WORKFLOW_RUNS: Mapping[str, Column] = {
    "source": lambda _, r: r.thing.source,
    "id": lambda _, r: r.thing.id,
    "project": lambda s, _: s.view.project.key,
    "container": lambda _, r: r.content.container,
    "workflow": lambda _, r: r.content.workflow,
    "name": lambda _, r: r.content.name,
    "number": lambda _, r: r.content.number,
    "title": lambda _, r: r.content.title,
    "url": lambda _, r: r.content.url,
    "branch": lambda _, r: r.content.branch,
    "event": lambda _, r: r.content.event,
    "sha": lambda _, r: r.content.sha,
    "created_at": lambda _, r: _text(r.content.created_at),
    "state": lambda _, r: r.state,
    "finished_at": lambda _, r: _text(r.finished_at),
    "attempts": lambda _, r: [
        {
            "number": each.number,
            "started_at": _text(each.started_at),
            "ended_at": _text(each.ended_at),
            "state": each.state,
        }
        for each in r.attempts
    ],
}

_CALENDAR: Mapping[str, Column] = {
    "project": lambda s, _: s.view.project.key,
    "source": lambda _, c: c[0].source,
    "id": lambda _, c: c[0].id,
    "container": lambda _, c: c[1].container,
    "title": lambda _, c: c[1].title,
    "meaning": lambda _, c: c[1].meaning.value,
    "all_day": lambda _, c: not isinstance(c[2].start, datetime),
    "start": lambda _, c: _text(c[2].start),
    "end": lambda _, c: _text(c[2].end),
    "busy": lambda _, c: c[2].busy,
}

_CAPACITY: Mapping[str, Column] = {
    "project": lambda s, _: s.view.project.key,
    "day": lambda _, w: _text(w.day),
    "person": lambda _, w: w.person,
    "working_day": lambda _, w: w.is_working,
    "working_seconds": lambda _, w: w.tally.working,
    "holiday_seconds": lambda _, w: w.tally.holidays,
    "time_off_seconds": lambda _, w: w.tally.time_off,
    "meeting_seconds": lambda _, w: w.tally.meetings if w.found.with_meetings else None,
    "capacity_seconds": lambda _, w: w.tally.capacity,
}

_ALERTS: Mapping[str, Column] = {
    "fingerprint": lambda _, a: a.fingerprint,
    "rule": lambda _, a: a.episode.rule,
    "project": lambda _, a: a.episode.project,
    "subject": lambda _, a: "/".join(a.episode.subject),
    "key": lambda _, a: a.episode.key,
    "title": lambda _, a: a.episode.title,
    "state": lambda _, a: a.state.value,
    "severity": lambda _, a: a.episode.severity,
    "due_date": lambda _, a: _text(a.episode.due),
    "since": lambda _, a: _text(a.since),
    "until": lambda _, a: _text(a.episode.until),
    "by": lambda _, a: a.by,
    "note": lambda _, a: a.note or None,
    "summary": lambda _, a: a.episode.summary,
    "evidence": lambda _, a: dict(a.episode.evidence),
}

_MEASURES: Mapping[str, Column] = {
    "project": lambda s, _: s.view.project.key,
    "subject": lambda _, m: "/".join(m.subject),
    "title": lambda _, m: m.title,
    "name": lambda _, m: m.name,
    "value": lambda _, m: m.value,
    "unit": lambda _, m: m.unit,
    "formula": lambda _, m: m.formula,
    "evidence": lambda _, m: dict(m.evidence),
}

_TABLES: Mapping[str, Table] = {
    "projects": Table(lambda sight: [progress(sight.view.items)], _PROJECTS),
    "work_items": Table(lambda sight: sight.view.items, _WORK_ITEMS),
    "transitions": Table(_changes, _TRANSITIONS),
    "worklogs": Table(_worklogs, _WORKLOGS),
    "milestones": Table(_deadlines, _MILESTONES),
    "sprints": Table(_sprints, _SPRINTS),
    "change_requests": Table(lambda sight: sight.view.requests, _CHANGE_REQUESTS),
    "deployments": Table(lambda sight: sight.view.deployments, _DEPLOYMENTS),
    "releases": Table(lambda sight: sight.view.releases, _RELEASES),
    "workflow_runs": Table(lambda sight: sight.view.runs, _WORKFLOW_RUNS),
    "calendar": Table(_occurrences, _CALENDAR),
    "capacity": Table(_worked, _CAPACITY),
    "alerts": Table(_alerts, _ALERTS),
    "measures": Table(_measures, _MEASURES),
}

TABLES: Mapping[str, tuple[str, ...]] = {name: tuple(table.columns) for name, table in _TABLES.items()}
"""The columns of each table, in order."""

HISTORY: Mapping[str, tuple[str, ...]] = {
    "projects": ("scope", "todo", "in_progress", "done", "dropped", "done_share", "estimate", "estimate_done", "unestimated"),
    "work_items": (
        "key", "container", "status", "status_category", "blocked", "blocked_by", "assignee", "created_at", "started_at",
        "resolved_at", "due_date", "estimate", "time_estimate_seconds", "time_spent_seconds", "time_left_seconds",
        "milestone", "sprint", "lead_time_seconds", "cycle_time_seconds", "delay_days",
    ),
    "transitions": ("source", "key", "project", "field", "from", "to", "at"),
    "worklogs": ("key", "created_at"),
    "milestones": ("scope", "open", "done", "done_share"),
    "sprints": (),
    "change_requests": (
        "container", "state", "milestone", "created_at", "review_requested_at", "first_review_at", "merged_at", "closed_at",
    ),
    "deployments": ("sha", "created_at", "state", "finished_at"),
    "releases": (),
    "workflow_runs": ("number", "event", "sha", "created_at", "state", "finished_at", "attempts"),
    "calendar": (),
    "capacity": (),
    "alerts": (),
    "measures": (),
}  # fmt: skip
"""The columns whose past the sources themselves record (unless a thing says `untracked`): what they show as of T is what
was true at T. Other columns show the present version, or the newest version that was read by T. Alerts and measures of
items follow from tracked columns; those of deadlines also from present or kept dates. Of workflow runs only those are there
that have not left their window."""
