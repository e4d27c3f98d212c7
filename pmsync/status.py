"""Where projects stand, on a terminal and as JSON; the same figures as on the pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pmsync.core.alerts import Alert
from pmsync.core.events import rfc3339
from pmsync.core.project import ProjectState
from pmsync.core.summary import Due, Summary, series, summary, worst_first
from pmsync.web import api
from pmsync.web.words import shown

_MARKS = {"critical": "[red]■ critical[/]", "warning": "[yellow]▲ warning[/]", "info": "[blue]● info[/]"}
MOST = 8
"""Alerts shown of one project on the terminal."""


def show_status(console: Console, states: Sequence[ProjectState], at: datetime) -> None:
    """A table of all projects, worst first; of one project, its deadlines and alerts too."""
    found = sorted((summary(state, at) for state in states), key=worst_first)
    if not found:
        console.print("no projects yet; `pmsync run --once` reads those that pmsync.yaml names")
        return
    table = Table("project", "done", "next deadline", "P85", "on time", "alerts", box=None, pad_edge=False)
    for row in found:
        table.add_row(*_row(row))
    console.print(table)
    for row in found:
        console.print(f"\n[bold]{row.project.name}[/] {row.headline}", highlight=False)
        for unread in row.unread:
            console.print(f"  not read yet: {unread}")
        if len(found) == 1:
            _show_deadlines(console, row)
        for alert in row.alerts[: MOST if len(found) == 1 else 3]:
            console.print(f"  {_MARKS[alert.episode.severity]} {_words(alert)}", highlight=False)


def status_json(states: Sequence[ProjectState], at: datetime) -> str:
    """Where projects stand, as the API says it: every figure with its formula and evidence."""
    found = [api.project(summary(state, at), series(state, at)) for state in states]
    return json.dumps({"as_of": rfc3339(at), "projects": found}, indent=2, ensure_ascii=False)


def _words(alert: Alert) -> str:
    episode = alert.episode
    name = escape(episode.title if episode.key == episode.title else f"{episode.key} {episode.title}")
    return f"{name}: {escape(episode.summary)} ({alert.state})"


def _row(row: Summary) -> tuple[str, ...]:
    firing = ", ".join(f"{count} {severity}" for severity, count in row.firing.items() if count) or "none"
    done = shown(row.figures["done_share"])
    ahead = row.next
    if ahead is None or ahead.due is None:
        return row.project.name, done, "none", "", "", firing
    return row.project.name, done, f"{ahead.title}, {ahead.due}", *_outlook(ahead), firing


def _outlook(due: Due) -> tuple[str, str]:
    p85, likely = due.figures["forecast_p85"], due.figures["on_time"]
    return str(p85.value or "no forecast"), shown(likely) if likely.value is not None else ""


def _show_deadlines(console: Console, row: Summary) -> None:
    table = Table("deadline", "promised", "P85", "on time", box=None, pad_edge=False)
    for due in row.deadlines:
        if not due.over:
            table.add_row(due.title, str(due.due or "none"), *_outlook(due))
    console.print(table)
