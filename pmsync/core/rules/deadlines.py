"""Rules on the dates of deadlines: near on the ladder, and overdue.

A milestone alarms only while it has open work, a promise or a calendar's deadline without items until its day is over.
Due dates are those of the present version, not of the kept ones, so that a fresh installation has the same episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from pmsync.core.events import CONFIGURATION, Thing
from pmsync.core.measures.progress import named
from pmsync.core.project import Deadline
from pmsync.core.rules.episode import (
    BEGINNING,
    FOREVER,
    Context,
    Episode,
    Severity,
    Stretch,
    ago,
    ahead,
    clip,
    counted,
    ladder,
    merged,
    spoken,
)
from pmsync.core.rules.items import near_severity, told_at

Span = tuple[datetime, datetime]
BY_DAY = "on a rung of the ladder; it carries no items, so its day alone speaks"


class DeadlineRule(NamedTuple):
    """`stretches` says when the date alone would make it true; open work decides the rest."""

    name: str
    label: str
    formula: str
    stretches: Callable[[Deadline, Context], Iterator[Stretch]]
    severity: Callable[[Stretch], Severity]
    tell: Callable[[Stretch, Deadline, Context], str]


def deadline_episodes(deadline: Deadline, key: str, work: Iterable[Span], context: Context) -> Iterator[Episode]:
    """All episodes of one deadline, whose open work lay in these spans."""
    if deadline.due_date is None:
        return
    spans = list(_alive(deadline, work, context))
    for rule in DEADLINE_RULES:
        true = [
            found
            for stretch in rule.stretches(deadline, context)
            for start, stop in spans
            for found in clip(stretch, start, stop)
            if found.start <= context.now
        ]
        yield from (_episode(rule, stretch, deadline, key, context) for stretch in merged(true))


def _alive(deadline: Deadline, work: Iterable[Span], context: Context) -> Iterator[Span]:
    """When a deadline could alarm at all."""
    assert deadline.due_date is not None
    closed_at = (deadline.closed_at or BEGINNING) if deadline.closed else FOREVER
    if by_day_alone(deadline):
        work = [(BEGINNING, context.workdays.deadline(deadline.due_date))]
    whole = merged(Stretch(None, None, start, stop) for start, stop in work)
    yield from ((s.start, s.stop) for stretch in whole for s in clip(stretch, BEGINNING, closed_at))


def by_day_alone(deadline: Deadline) -> bool:
    """Whether nothing but its day can alarm: it carries no items, and what names it is not only a source's milestone, which
    may have been left behind empty."""
    return not deadline.items and any(itemless(each.thing) for each in deadline.dates)


def itemless(thing: Thing) -> bool:
    """Promises and calendar entries carry no items: their day alone speaks."""
    return thing.kind == "calendar_entry" or (thing.source, thing.kind) == (CONFIGURATION, "milestone")


def _episode(rule: DeadlineRule, stretch: Stretch, deadline: Deadline, key: str, context: Context) -> Episode:
    assert stretch.due is not None
    work = [item for item in deadline.items if item.open]
    return Episode(
        rule=rule.name,
        project=context.project,
        subject=deadline.thing,
        key=key,
        title=deadline.title,
        severity=rule.severity(stretch),
        due=stretch.due,
        threshold=stretch.threshold,
        since=stretch.start,
        until=None if stretch.stop > context.now else stretch.stop,
        evidence={
            "formula": BY_DAY if by_day_alone(deadline) else rule.formula,
            "due_date": stretch.due.isoformat(),
            **named(work),
        },
        summary=rule.tell(stretch, deadline, context),
        url=deadline.url,
    )


def _near(deadline: Deadline, context: Context) -> Iterator[Stretch]:
    assert deadline.due_date is not None
    for rung in ladder(deadline.due_date, context):
        yield Stretch(deadline.due_date, rung.days, rung.start, rung.stop)


def _overdue(deadline: Deadline, context: Context) -> Iterator[Stretch]:
    assert deadline.due_date is not None
    yield Stretch(deadline.due_date, None, context.workdays.deadline(deadline.due_date), FOREVER)


def _left(deadline: Deadline) -> str:
    n = sum(item.open for item in deadline.items)
    return "" if by_day_alone(deadline) else f", {counted(n, 'item')} open"


def _tell_near(stretch: Stretch, deadline: Deadline, context: Context) -> str:
    assert stretch.due is not None
    when = ahead(stretch.due, told_at(stretch, context), context.workdays)
    return f"due {spoken(stretch.due)}, {when}{_left(deadline)}"


def _tell_overdue(stretch: Stretch, deadline: Deadline, context: Context) -> str:
    assert stretch.due is not None
    days = context.workdays.between(stretch.due, context.workdays.day(min(stretch.stop, context.now)))
    return f"was due {spoken(stretch.due)}{ago(days)}{_left(deadline)}"


DEADLINE_RULES: Sequence[DeadlineRule] = (
    DeadlineRule("milestone_near", "near", "open work, and on a rung of the ladder", _near, near_severity, _tell_near),
    DeadlineRule(
        "milestone_overdue",
        "overdue",
        "not closed, and open work after the end of the due day",
        _overdue,
        lambda _: "critical",
        _tell_overdue,
    ),
)
