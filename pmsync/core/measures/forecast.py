"""When a deadline's work will be done, and how likely that is in time: a Monte Carlo simulation of past throughput.

Each of 1,000 trials walks working day by working day from today. A day brings what a day of the window (drawn with
replacement) brought: the items that the project finished, less those that were added to the work in question. The walk
is done when it has covered what remains: the open items of the deadline and of every open deadline that is due earlier,
since a team works in the order of due dates. The draws depend on project, deadline and day only, so that more remaining
work never gives an earlier date.

The window is the last 60 working days before today, zero days included, but not from before the project's first item
(at least 10 days). What happens on a day off counts on the next working day. Items that join a deadline in its first
five working days are its plan; those that join later are growth.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from pmsync.core.events import Thing
from pmsync.core.measures.flow import throughput
from pmsync.core.measures.progress import named
from pmsync.core.project import Deadline, Item, View
from pmsync.core.workdays import Workdays

FORMULA = "monte_carlo_throughput.v1"
WINDOW = 60
SHORTEST_WINDOW = 10
PLANNING = 5
HORIZON = timedelta(days=731)

NO_ITEMS = "no items"
DONE = "no open items"
CLOSED = "closed"
NO_THROUGHPUT = "no finished item in the window"
NO_WORKING_DAYS = "no working days within two years"


@dataclass(frozen=True, slots=True)
class Forecast:
    """Dates with probabilities. With a `reason` there are no dates; without one, a date of None is beyond two years.

    `on_time` is P(done by the due date) in thousandths, None without a due date, and where that lies so far ahead that
    it cannot be said.
    """

    deadline: Thing
    title: str
    due_date: date | None
    p50: date | None
    p85: date | None
    p95: date | None
    on_time: int | None
    reason: str
    evidence: Mapping[str, Any]


class Work(NamedTuple):
    """A deadline's work: what is open, and the day on which each item joined it (None: as part of the plan)."""

    open: frozenset[Thing]
    joined: Mapping[Thing, date | None]


@dataclass(frozen=True, slots=True)
class Pace:
    """What all forecasts of one view share: the days past and to come, what was finished on the past ones, and the work
    of each deadline that was looked at."""

    workdays: Workdays
    today: date
    window: tuple[date, ...]
    ahead: tuple[date, ...]
    finished: tuple[int, ...]
    works: dict[Thing, Work] = field(default_factory=dict)


def pace(view: View) -> Pace:
    """Compute once what the forecasts of a view share, where several are wanted."""
    workdays = Workdays.of(view)
    today = workdays.day(view.at)
    window = _window(view, workdays, today)
    done = throughput(view.items, workdays.zone)
    return Pace(
        workdays,
        today,
        window,
        _ahead(workdays, today),
        _histogram((day for day, n in done.items() for _ in range(n)), window, workdays),
    )


@lru_cache(maxsize=64)
def _ahead(workdays: Workdays, today: date) -> tuple[date, ...]:
    """The working days from today on, which all instants of a day share, and often many projects."""
    days = (today + timedelta(days=n) for n in range(HORIZON.days))
    return tuple(day for day in days if workdays.is_working(day))


def forecast(view: View, deadline: Deadline, shared: Pace | None = None) -> Forecast:
    """The forecast of one deadline of the view."""
    from pmsync.core.measures.simulation import TRIALS, arrival  # numpy, for which a worker that starts should not wait

    known = shared or pace(view)
    before = [other for other in view.deadlines if _earlier(other, deadline)]
    own = [item for item in deadline.items if item.open]
    works = [_work(view, each, known) for each in (deadline, *before)]
    remaining = len(frozenset[Thing]().union(*(work.open for work in works)))
    added = _histogram(_growth(works), known.window, known.workdays)
    evidence = {
        "formula": FORMULA,
        "remaining": remaining,
        "window": [day.isoformat() for day in (known.window[0], known.window[-1])] if known.window else [],
        "window_days": len(known.window),
        "finished": sum(known.finished),
        "added": sum(added),
        "trials": TRIALS,
        **named(own),
    }
    reason = _reason(deadline, own, known)
    if reason:
        return Forecast(deadline.thing, deadline.title, deadline.due_date, None, None, None, None, reason, evidence)
    in_time = bisect_right(known.ahead, deadline.due_date) if deadline.due_date else None
    found = arrival(
        tuple(finished - more for finished, more in zip(known.finished, added, strict=True)),
        remaining,
        seed(view.project.key, deadline.thing, known.today),
        len(known.ahead),
        in_time,
    )
    p50, p85, p95 = (known.ahead[step - 1] if step <= len(known.ahead) else None for step in found.steps)
    on_time = found.on_time
    if p95 is None and deadline.due_date and deadline.due_date >= known.today + HORIZON:
        on_time = None  # due later than anyone looks: what has not arrived by then may still be in time
    return Forecast(deadline.thing, deadline.title, deadline.due_date, p50, p85, p95, on_time, "", evidence)


def seed(project: str, thing: Thing, day: date) -> int:
    """One stream of draws per project, deadline and local day."""
    text = json.dumps([project, *thing, day.isoformat()], ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16])


def _reason(deadline: Deadline, own: Sequence[Item], known: Pace) -> str:
    """Why there is no forecast, if there is none."""
    checks = (
        (deadline.closed, CLOSED),
        (not deadline.items, NO_ITEMS),
        (not own, DONE),
        (not known.ahead or not known.window, NO_WORKING_DAYS),
        (not any(known.finished), NO_THROUGHPUT),
    )
    return next((reason for holds, reason in checks if holds), "")


def _earlier(other: Deadline, deadline: Deadline) -> bool:
    """Whether the work of `other` comes first. Closed deadlines are no one's work any more."""
    if other.due_date is None or other.closed or other.thing == deadline.thing:
        return False
    return deadline.due_date is None or other.due_date < deadline.due_date


# --- the window -------------------------------------------------------------------------------------------------------


def _window(view: View, workdays: Workdays, today: date) -> tuple[date, ...]:
    """The last working days before today, oldest first; none, if none lie within two years."""
    born = min((workdays.day(item.content.created_at) for item in view.items), default=today)
    days: list[date] = []
    for n in range(1, HORIZON.days):
        day = today - timedelta(days=n)
        if len(days) >= WINDOW or (day < born and len(days) >= SHORTEST_WINDOW):
            break
        if workdays.is_working(day):
            days.append(day)
    return tuple(reversed(days))


def _histogram(days: Iterable[date], window: Sequence[date], workdays: Workdays) -> tuple[int, ...]:
    """How many of `days` fall on each day of the window, a day off counting as the next working day."""
    counts = [0] * len(window)
    since = workdays.add(window[0], -1) if window else date.max
    for day in days:
        if since < day <= window[-1]:
            counts[bisect_left(window, day)] += 1
    return tuple(counts)


def _joined(view: View, deadline: Deadline, workdays: Workdays) -> Mapping[Thing, date | None]:
    """When each item of a deadline joined it after its planning."""
    days = {item.thing: _join_day(view, item, deadline, workdays) for item in deadline.items}
    if not days:
        return {}
    planned = workdays.add(min(days.values()), PLANNING)
    return {thing: day if day > planned else None for thing, day in days.items()}


def _join_day(view: View, item: Item, deadline: Deadline, workdays: Workdays) -> date:
    """The local day on which an item came to its deadline: by creation, by a move into the project, or by its milestone."""
    ours = view.project.mapping.get(item.thing.source, {})
    same = {each.thing.id for each in deadline.dates if each.has_items and each.thing.source == item.thing.source}
    at = item.content.created_at
    for change in item.content.history:
        moved_in = change.field == "container" and change.old not in ours
        # From one to another of several that are one milestone is no news.
        planned = (
            change.field == "milestone" and bool(same) and not (len(same) > 1 and {change.old, change.new} <= same)
        )
        if (moved_in or planned) and at < change.at <= view.at:
            at = change.at
    return workdays.day(at)


def _work(view: View, deadline: Deadline, known: Pace) -> Work:
    if deadline.thing not in known.works:
        still = frozenset(item.thing for item in deadline.items if item.open)
        known.works[deadline.thing] = Work(still, _joined(view, deadline, known.workdays))
    return known.works[deadline.thing]


def _growth(works: Sequence[Work]) -> Iterable[date]:
    """The days on which items were added to all this work; an item counts once, with the first deadline that has it."""
    union: dict[Thing, date | None] = {}
    for work in reversed(works):
        union.update(work.joined)
    return (day for day in union.values() if day)
