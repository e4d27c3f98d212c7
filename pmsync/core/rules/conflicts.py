"""The rule on dates in conflict: things that are one milestone, and name more than one day for it.

Since when they differ nobody knows: no source keeps a history of these dates. So the rule is true as if the present ones
had always stood, from half a year ahead on, and anew from the first rung of the ladder, until the last of the days has
passed; whoever has open work then is late by any of them. Other days are another alert: an answer to one is none to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import pairwise

from pmsync.core.dates import by_day
from pmsync.core.project import Deadline
from pmsync.core.rules.episode import Context, Episode, Stretch, spoken

LABEL = "dated differently"
FORMULA = "not closed, and more than one day is named for it; the first in the order of sources counts"
AHEAD = 120
"""Working days before the first of the days from which on it is told: half a year. What lies further away is a plan."""


def conflict_episodes(deadline: Deadline, key: str, context: Context) -> Iterator[Episode]:
    """One for each stretch in which a deadline's dates were in conflict."""
    days = sorted(by_day(deadline.differing))
    if not days:
        return
    rungs = sorted({AHEAD, *_near(context)}, reverse=True)
    starts = [context.workdays.start(context.workdays.add(days[0], -n)) for n in rungs]
    for n, (start, stop) in zip(rungs, pairwise([*starts, context.workdays.deadline(days[-1])]), strict=True):
        if start < stop and start <= context.now:
            yield _episode(Stretch(deadline.due_date, n, start, stop), deadline, key, context)


def _near(context: Context) -> tuple[int, ...]:
    """The first rung of the ladder, if it has one."""
    return (max(context.thresholds.ladder),) if context.thresholds.ladder else ()


def _episode(stretch: Stretch, deadline: Deadline, key: str, context: Context) -> Episode:
    assert stretch.due is not None
    days = by_day(deadline.differing)
    return Episode(
        rule="dates_differ",
        project=context.project,
        subject=deadline.thing,
        key=key,
        title=deadline.title,
        severity="warning" if any((stretch.threshold or 0) <= n for n in _near(context)) else "info",
        due=stretch.due,
        threshold=stretch.threshold,
        since=stretch.start,
        until=None if stretch.stop > context.now else stretch.stop,
        evidence={
            "formula": FORMULA,
            "due_date": stretch.due.isoformat(),
            "used": days[stretch.due],
            "dates": [
                {
                    "source": each.thing.source,
                    "container": each.container,
                    "title": each.title,
                    "due_date": each.due_date.isoformat() if each.due_date else None,
                }
                for each in deadline.differing
            ],
            "what_to_do": _what_to_do(stretch.due, deadline),
        },
        summary=f"{LABEL}: {', '.join(_words(day, names, used=day == stretch.due) for day, names in days.items())}",
        url=deadline.url,
        against=tuple(day for day in sorted(days) if day != stretch.due),
    )


def _words(day: date, names: Sequence[str], *, used: bool) -> str:
    return f"{spoken(day)} ({', '.join(names)}{', used' if used else ''})"


def _what_to_do(used: date, deadline: Deadline) -> str:
    names = [name for day, names in by_day(deadline.differing).items() if day != used for name in names]
    return (
        f"put {spoken(used)} into {' and '.join(names)}, or the right day into all; another order of sources is stated by "
        "the project's `dates`, and what is another milestone needs another title"
    )
