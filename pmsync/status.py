"""Where projects stand, on a terminal and as JSON; the same figures as on the pages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pmsync.core.alerts import Alert
from pmsync.core.events import rfc3339
from pmsync.core.measures.builds import builds
from pmsync.core.measures.capacity import WEEKS, capacity
from pmsync.core.measures.sprints import courses
from pmsync.core.project import ProjectState, local_day, view
from pmsync.core.rules.outlook import yesterday
from pmsync.core.summary import Due, Summary, series, summary, worst_first
from pmsync.web import api
from pmsync.web.words import hours, last_read, moment, shown

_MARKS = {"critical": "[red]■ critical[/]", "warning": "[yellow]▲ warning[/]", "info": "[blue]● info[/]"}
NOTHING = "no projects yet; `pmsync run --once` reads those that pmsync.yaml names"
MOST = 8
"""Alerts shown of one project on the terminal."""
FEW = 3
"""Alerts shown of each, where there are several."""


def show_status(
    console: Console, states: Sequence[ProjectState], at: datetime, stale: Mapping[str, datetime] = MappingProxyType({})
) -> None:
    """A table of all projects, worst first; of one project, its deadlines, sprints, broken builds, capacity and alerts too. Before it,
    what is `stale`."""
    for line in last_read(stale, at):
        console.print(f"[yellow]{escape(line)}[/]; `pmsync doctor` says what is wrong", highlight=False)
    found = sorted((summary(state, at) for state in states), key=worst_first)
    if not found:
        console.print(NOTHING)
        return
    table = Table("project", "done", "first to slip, else next", "P85", "on time", "alerts", box=None, pad_edge=False)
    for row in found:
        table.add_row(*map(escape, _row(row)))
    console.print(table)
    for row in found:
        console.print(f"\n[bold]{escape(row.headline)}[/]", highlight=False)
        for unread in row.unread:
            console.print(f"  not read: {escape(unread)}", highlight=False)
        if len(found) == 1:
            _show_deadlines(console, row)
            _show_sprints(console, states[0], at)
            _show_broken(console, states[0], at)
            _show_capacity(console, row)
        most = MOST if len(found) == 1 else FEW
        for alert in row.alerts[:most]:
            console.print(f"  {_MARKS[alert.episode.severity]} {_words(alert)}", highlight=False)
        if len(row.alerts) > most:
            console.print(f"  and {len(row.alerts) - most} more", highlight=False)


def status_json(
    states: Sequence[ProjectState], at: datetime, stale: Mapping[str, datetime] = MappingProxyType({})
) -> str:
    """Where projects stand, as the API says it: every figure with its formula and evidence."""
    found = [api.project(summary(state, at), series(state, at)) for state in states]
    said = {"as_of": rfc3339(at), "stale_sources": api.stale_sources(stale), "projects": found}
    return json.dumps(said, indent=2, ensure_ascii=False)


def _words(alert: Alert) -> str:
    episode = alert.episode
    return f"{escape(f'{episode.name}: {episode.summary}{yesterday(episode.evidence)}')} ({alert.state})"


def _row(row: Summary) -> tuple[str, ...]:
    name = f"{row.project.name} (not all read)" if row.unread else row.project.name
    done = shown(row.figures["done_share"])
    ahead = row.next
    if ahead is None or ahead.due is None:
        return name, done, "none", "", "", _alerts(row)
    return name, done, f"{ahead.title}, {ahead.due}", *_outlook(ahead), _alerts(row)


def _alerts(row: Summary) -> str:
    firing = [f"{count} {severity}" for severity, count in row.firing.items() if count]
    taken = [f"{count} {severity}, acknowledged" for severity, count in row.acknowledged.items() if count]
    none = "none in what has been read" if row.unread else "none"
    return "; ".join([*([", ".join(firing)] if firing else []), *taken]) or none


def _outlook(due: Due) -> tuple[str, str]:
    p85, likely = due.figures["forecast_p85"], due.figures["on_time"]
    return str(p85.value or "no forecast"), shown(likely) if likely.value is not None else ""


def _show_sprints(console: Console, state: ProjectState, at: datetime) -> None:
    """Those that go on."""
    table = Table("sprint", "ends", "done", "committed", "came since", "left since", box=None, pad_edge=False)
    shown_at = view(state, at)
    for course in courses(state, shown_at):
        if course.state == "active":
            ends = course.sprint.ends_at
            counts = (str(count) for count in (course.committed, course.added, course.removed))
            done = f"{course.progress.done} of {course.progress.scope}"
            day = str(local_day(ends, shown_at.zone)) if ends else "no date"
            table.add_row(*map(escape, (course.sprint.title, day, done, *counts)))
    if table.row_count:
        console.print(table)


def _show_broken(console: Console, state: ProjectState, at: datetime) -> None:
    """Workflows whose runs fail on the default branch."""
    shown_at = view(state, at)
    for build in builds(shown_at):
        if build.standing == "broken" and build.since:
            since = f"{moment(build.since, shown_at.project.time_zone)}{' or earlier' if build.at_least else ''}"
            console.print(f"  broken: {escape(f'{build.name} of {build.container}, since {since}')}", highlight=False)


def _show_capacity(console: Console, row: Summary) -> None:
    """Where somebody is configured to work on it."""
    if row.project.team:
        figure = row.figures["capacity"]
        known = f"{shown(figure)} of work to {figure.evidence['to']}" if figure.value is not None else shown(figure)
        console.print(f"  capacity: {escape(known)}; `pmsync capacity` has more", highlight=False)


def show_capacity(console: Console, states: Sequence[ProjectState], at: datetime, weeks: int = WEEKS) -> None:
    """What each team can do, week by week, and what did not count; or why that is not known."""
    for state in states:
        found = capacity(view(state, at), weeks)
        console.print(f"[bold]{escape(state.project.name)}[/]", highlight=False)
        if found.reason:
            console.print(escape(f"  not known: {found.reason}"), highlight=False)
            continue
        names = ["holidays", "time off", *(["meetings"] if found.with_meetings else []), "left"]
        table = Table("week from", *(Column(name, justify="right") for name in ("working", *names)), box=None)
        for week in found.weeks:
            tally = week.tally
            meetings = [tally.meetings] if found.with_meetings else []
            parts = (tally.working, tally.holidays, tally.time_off, *meetings, tally.capacity)
            table.add_row(str(max(week.first, found.first)), *map(hours, parts))
        console.print(table)
        for note in found.notes:
            console.print(escape(f"  {note}"), highlight=False)
    if not states:
        console.print(NOTHING)


def capacity_json(states: Sequence[ProjectState], at: datetime, weeks: int = WEEKS) -> str:
    """What each team can do, as the API says it."""
    found = [{"key": state.project.key, **api.capacity(capacity(view(state, at), weeks))} for state in states]
    return json.dumps({"as_of": rfc3339(at), "projects": found}, indent=2, ensure_ascii=False)


def _show_deadlines(console: Console, row: Summary) -> None:
    table = Table("deadline", "promised", "P85", "on time", box=None, pad_edge=False)
    for due in row.deadlines:
        if not due.over:
            promised = "; ".join([str(due.due or "none"), *(f"but {day}" for day in due.other_days)])
            table.add_row(*map(escape, (due.title, promised, *_outlook(due))))
    if table.row_count:
        console.print(table)
