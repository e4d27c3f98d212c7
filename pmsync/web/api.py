"""What the pages show, as JSON for other programs; the names are kept stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any

from pmsync.core.alerts import Alert
from pmsync.core.events import rfc3339
from pmsync.core.measures import Measure
from pmsync.core.measures.builds import Build
from pmsync.core.measures.capacity import Capacity, Tally
from pmsync.core.measures.sprints import Course
from pmsync.core.summary import Due, Series, Summary
from pmsync.web.words import link

Json = dict[str, Any]


def portfolio(rows: Sequence[Summary], at: datetime, stale: Mapping[str, datetime]) -> Json:
    """One short entry per project, worst first."""
    return {"as_of": rfc3339(at), "stale_sources": stale_sources(stale), "projects": [_row(row) for row in rows]}


def stale_sources(stale: Mapping[str, datetime]) -> Json:
    """source -> when it was last read to its end, of those that stopped being read."""
    return {source: rfc3339(when) for source, when in stale.items()}


def project(found: Summary, charts: Series) -> Json:
    """Everything that a project's page shows."""
    return {
        **_row(found),
        "time_zone": found.project.time_zone,
        "headline": found.headline,
        "measures": _measures(found.figures),
        "deadlines": [_due(due) for due in found.deadlines],
        "alerts": [alert(known) for known in found.alerts],
        "resolved": [alert(known) for known in found.resolved],
        "forecast_of_all_open_work": {
            "p50": _day(charts.whole.p50),
            "p85": _day(charts.whole.p85),
            "p95": _day(charts.whole.p95),
            "evidence": {**charts.whole.evidence, **({"reason": charts.whole.reason} if charts.whole.reason else {})},
        },
        "burn_up": [{"day": _day(p.day), "scope": p.scope, "done": p.done} for p in charts.burn_up],
        "throughput": [{"week": _day(w.first), "items": w.items, "whole": w.whole} for w in charts.weeks],
        "cycle_times": [{"key": s.key, "day": _day(s.day), "seconds": s.seconds} for s in charts.cycle_times],
        "ages": [{"key": s.key, "seconds": s.seconds} for s in charts.ages],
        "shipped": [
            {"title": s.title, "url": link(s.url), "what": s.what, "at": rfc3339(s.at)} for s in charts.shipped
        ],
        "builds": [_build(build) for build in charts.builds],
        "sprints": [_sprint(course) for course in charts.sprints],
        "capacity": capacity(charts.capacity),
    }


def capacity(found: Capacity) -> Json:
    """What the team can do, by day and by week; no person's part of it."""
    with_meetings = found.with_meetings
    return {
        "from": _day(found.first),
        "to": _day(found.last),
        "members": found.members,
        "total": _tally(found.tally, with_meetings) if found.tally else None,
        "weeks": [{"week": _day(week.first), **_tally(week.tally, with_meetings)} for week in found.weeks],
        "days": [
            {"day": _day(each.day), "working_day": each.is_working, **_tally(each.tally, with_meetings)}
            for each in found.days
        ],
        "formula": found.formula,
        "evidence": {"reason": found.reason} if found.reason else {"notes": list(found.notes)},
    }


def alert(known: Alert) -> Json:
    """An alert with its evidence."""
    episode = known.episode
    return {
        "fingerprint": known.fingerprint,
        "rule": episode.rule,
        "severity": episode.severity,
        "state": known.state.value,
        "key": episode.key,
        "title": episode.title,
        "summary": episode.summary,
        "since": rfc3339(episode.since),
        "since_at_least": episode.at_least,
        "until": rfc3339(episode.until) if episode.until else None,
        "due": _day(episode.due),
        "by": known.by,
        "note": known.note,
        "url": link(episode.url),
        "evidence": dict(episode.evidence),
    }


def _row(found: Summary) -> Json:
    return {
        "key": found.project.key,
        "name": found.project.name,
        "as_of": rfc3339(found.at),
        "not_read": list(found.unread),
        "nothing_read": found.blank,
        "done_share": _measure(found.figures["done_share"]),
        "next_deadline": _due(found.next) if found.next else None,
        "alerts_firing": dict(found.firing),
        "alerts_acknowledged": dict(found.acknowledged),
        "trend": {"recent": found.trend.recent, "before": found.trend.before, "formula": found.trend.formula},
    }


def _tally(tally: Tally, with_meetings: bool) -> Json:
    return {
        "working_seconds": tally.working,
        "holiday_seconds": tally.holidays,
        "time_off_seconds": tally.time_off,
        "meeting_seconds": tally.meetings if with_meetings else None,
        "capacity_seconds": tally.capacity,
    }


def _sprint(course: Course) -> Json:
    sprint, stand = course.sprint, course.progress
    return {
        "source": course.thing.source,
        "sprint": sprint.sprint,
        "title": sprint.title,
        "goal": sprint.goal,
        "url": link(sprint.url),
        "state": course.state,
        "starts_at": rfc3339(sprint.starts_at) if sprint.starts_at else None,
        "ends_at": rfc3339(sprint.ends_at) if sprint.ends_at else None,
        "committed": course.committed,
        "added": course.added,
        "removed": course.removed,
        "scope": stand.scope,
        "done": stand.done,
    }


def _build(build: Build) -> Json:
    last = build.last
    return {
        "source": build.source,
        "container": build.container,
        "workflow": build.workflow,
        "name": build.name,
        "standing": build.standing,
        "since": rfc3339(build.since) if build.since else None,
        "since_at_least": build.at_least,
        "running": build.newest.finished_at is None,
        "runs": build.runs,
        "failed": build.failed,
        "retried": build.retried,
        "formula": build.formula,
        "evidence": {"run": last.thing.id, "state": last.state, "sha": last.content.sha, "url": link(last.content.url)}
        if last
        else {"reason": "no run has come to success or failure"},
    }


def _due(due: Due) -> Json:
    return {
        "source": due.thing.source,
        "id": due.thing.id,
        "title": due.title,
        "url": link(due.url),
        "due": _day(due.due),
        "closed": due.closed,
        "assumed": due.assumed,
        "late_by_forecast": due.late is not None,
        "dates": [
            {
                "source": each.thing.source,
                "id": each.thing.id,
                "container": each.container,
                "title": each.title,
                "url": link(each.url),
                "due": _day(each.due_date),
                "closed": each.closed,
            }
            for each in due.dates
        ],
        "dates_differ": bool(due.differing),
        "measures": _measures(due.figures),
    }


def _measures(figures: Mapping[str, Measure]) -> Json:
    return {name: _measure(measure) for name, measure in figures.items()}


def _measure(measure: Measure) -> Json:
    return {
        "value": measure.value,
        "unit": measure.unit,
        "formula": measure.formula,
        "evidence": dict(measure.evidence),
    }


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None
