"""Every figure of a project, with the formula and the inputs that it rests on (law L7).

No figure is a goal, and none compares teams. What cannot be computed is None and says why; it is never 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

from pmsync.core.events import CONFIGURATION, Thing
from pmsync.core.measures.capacity import WEEKS, capacity
from pmsync.core.measures.flow import Elapsed, age, cycle_time, lead_time, percentile, throughput, wip
from pmsync.core.measures.forecast import Forecast, Pace, forecast, pace
from pmsync.core.measures.progress import Progress, named, progress
from pmsync.core.project import Item, View

Value = int | float | str | None


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure. Counts and seconds are ints, shares are rounded to six significant digits, dates are ISO text; what
    cannot be computed is None, and `evidence` says why."""

    subject: Thing
    title: str
    name: str
    value: Value
    unit: str
    formula: str
    evidence: Mapping[str, Any]


class _Figure(NamedTuple):
    """A measure without its subject."""

    name: str
    value: Value
    unit: str
    formula: str
    evidence: Mapping[str, Any]


def measures(view: View) -> Iterator[Measure]:
    """The figures of the project and of each of its deadlines."""
    project = Thing(CONFIGURATION, "project", view.project.key)
    shared = pace(view)
    for figure in (*_standing(view.items), *_flow(view, shared), _capacity(view)):
        yield Measure(project, view.project.name, *figure)
    for deadline in view.deadlines:
        found = forecast(view, deadline, shared)
        # What the project itself says of its items is not said again of the project's own deadline.
        standing = () if deadline.thing == project else _standing(deadline.items)
        for figure in (*standing, *_outlook(found, shared)):
            yield Measure(deadline.thing, deadline.title, *figure)


def share(part: int, whole: int) -> float | None:
    """Rounded to six significant digits; None of nothing."""
    return float(f"{part / whole:.6g}") if whole else None


COUNTS: Mapping[str, tuple[Callable[[Progress], int], str]] = {
    "scope": (lambda p: p.scope, "items not dropped"),
    "open": (lambda p: p.open, "items to do or in progress"),
    "done": (lambda p: p.done, "items done"),
    "dropped": (lambda p: p.dropped, "items closed without being done; out of scope"),
    "unestimated": (lambda p: p.unestimated, "items in scope without an estimate"),
}


def _standing(items: Sequence[Item]) -> Iterator[_Figure]:
    """Counts, and how much is done."""
    stand = progress(items)
    for name, (count, formula) in COUNTS.items():
        yield _Figure(name, count(stand), "items", formula, {})
    nothing = {} if stand.scope else {"reason": "no items"}
    yield _Figure(
        "done_share",
        share(stand.done, stand.scope),
        "share",
        "done / scope, by count",
        {"done": stand.done, "scope": stand.scope, **nothing},
    )
    nothing = {} if stand.estimate else {"reason": "no estimates"}
    yield _Figure(
        "done_share_by_estimate",
        share(stand.estimate_done, stand.estimate),
        "share",
        "done / scope, by estimate; items without one count nothing",
        {
            "done_thousandths": stand.estimate_done,
            "scope_thousandths": stand.estimate,
            "unestimated": stand.unestimated,
            **nothing,
        },
    )


def _flow(view: View, shared: Pace) -> Iterator[_Figure]:
    """Throughput in the forecast's window, times of what was finished in it, and the age of what is in progress."""
    since = shared.window[0] if shared.window else shared.today
    window = {"from": since.isoformat(), "to": shared.today.isoformat()}
    finished = [
        item for item in view.items if item.done and item.resolved_at and shared.workdays.day(item.resolved_at) >= since
    ]
    count = sum(throughput(finished, view.zone).values())
    yield _Figure("throughput", count, "items", "items finished from the first day of the window to now", window)
    started = wip(view.items)
    yield _Figure("wip", len(started), "items", "items started and not finished", named(started))
    yield from _times("cycle_time", "start to done", map(cycle_time, finished), window)
    yield from _times("lead_time", "creation to done", map(lead_time, finished), window)
    yield from _times("wip_age", "start to now", (age(item, view.at) for item in started), {})


def _times(name: str, what: str, elapsed: Iterable[Elapsed], inputs: Mapping[str, Any]) -> Iterator[_Figure]:
    """Percentiles of elapsed times, with what was left out and why."""
    times = list(elapsed)
    known = [time.seconds for time in times if time.seconds is not None]
    unknown = Counter(time.reason for time in times if time.seconds is None)
    evidence = {**inputs, "count": len(known), **({"left_out": dict(sorted(unknown.items()))} if unknown else {})}
    if not known:
        evidence["reason"] = "no items"
    for percent in (50, 85):
        formula = f"{what}, elapsed; percentile {percent} by nearest rank"
        yield _Figure(f"{name}_p{percent}", percentile(known, percent), "seconds", formula, evidence)


def _capacity(view: View) -> _Figure:
    """The team's working time ahead. Evidence of it counts people and names none."""
    found = capacity(view)
    formula = f"{found.formula}; from today on, in this week and the {WEEKS - 1} after"
    days = {"from": found.first.isoformat(), "to": found.last.isoformat(), "members": found.members}
    if found.tally is None:
        return _Figure("capacity", None, "seconds of work", formula, {**days, "reason": found.reason})
    tally = found.tally
    taken = {"holidays": tally.holidays, "time_off": tally.time_off}
    taken |= {"meetings": tally.meetings} if found.with_meetings else {}
    notes = {"notes": list(found.notes)} if found.notes else {}
    evidence = {**days, "working_seconds": tally.working, "taken_seconds": taken, **notes}
    return _Figure("capacity", tally.capacity, "seconds of work", formula, evidence)


def _outlook(found: Forecast, shared: Pace) -> Iterator[_Figure]:
    """The dates of a forecast, and its distance from the due date."""
    reason = {"reason": found.reason} if found.reason else {}
    evidence = {**found.evidence, **reason}
    beyond = {**evidence, **({} if reason else {"reason": "beyond two years"})}
    formula = str(found.evidence["formula"])
    for name, day in (("p50", found.p50), ("p85", found.p85), ("p95", found.p95)):
        yield _Figure(f"forecast_{name}", _text(day), "date", formula, evidence if day else beyond)
    undated = {**evidence, **({} if found.due_date else {"reason": "no due date"})}
    on_time = None if found.on_time is None else found.on_time / 1000
    yield _Figure("on_time", on_time, "share", formula, undated)
    slack = shared.workdays.between(found.p85, found.due_date) if found.p85 and found.due_date else None
    why = undated if found.due_date is None else evidence if found.p85 else beyond
    yield _Figure("slack", slack, "working days", "working days from P85 to the due date", why)


def _text(day: date | None) -> str | None:
    return day.isoformat() if day else None
