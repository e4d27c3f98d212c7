"""Rules on single work items, evaluated over each item's own history.

Within a segment no tracked field changes, so each rule is true from some instant of it to its end (or, on the ladder,
to the next rung). A project shows an item only while its container is mapped: a move out ends its episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from pmsync.core.events import StatusCategory, Thing, WorkItem, rfc3339
from pmsync.core.measures.progress import NAMED
from pmsync.core.project import Segment, item_at, segments
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


class Life(NamedTuple):
    """A segment in which the project showed the item and it was open. `stop` is its end, or never for the present one;
    `blocked_at` is when the item was blocked, if it is, in whatever segment that was."""

    segment: Segment
    stop: datetime
    blocked_at: datetime | None


class ItemRule(NamedTuple):
    """`stretches` says when it was true in a life; `tell` puts an episode of it into words."""

    name: str
    label: str
    formula: str
    stretches: Callable[[Life, Context], Iterator[Stretch]]
    severity: Callable[[Stretch], Severity]
    tell: Callable[[Stretch, Life, Context], tuple[str, dict[str, Any]]]


def lives(thing: Thing, content: WorkItem, context: Context) -> list[Life]:
    """The open, shown segments of an item up to now."""
    if content.created_at > context.now:
        return []
    found: list[Life] = []
    blocked_at: datetime | None = None
    parts = segments(item_at(thing, content, context.now), context.now)
    for segment in parts:
        item = segment.item
        blocked_at = (blocked_at or segment.start) if item.blocked and item.open else None
        if item.open and (thing.source, item.container) in context.shown:
            found.append(Life(segment, FOREVER if segment is parts[-1] else segment.end, blocked_at))
    return found


def item_episodes(history: Sequence[Life], context: Context) -> Iterator[Episode]:
    """All episodes of one item."""
    for rule in ITEM_RULES:
        true = (found for life in history for found in _within(rule, life, context))
        yield from (_episode(rule, stretch, history, context) for stretch in merged(true))


def _within(rule: ItemRule, life: Life, context: Context) -> Iterator[Stretch]:
    for stretch in rule.stretches(life, context):
        for found in clip(stretch, life.segment.start, life.stop):
            if found.start <= context.now:
                yield found


def _episode(rule: ItemRule, stretch: Stretch, history: Sequence[Life], context: Context) -> Episode:
    last = max((life for life in history if life.segment.start < stretch.stop), key=lambda life: life.segment.start)
    item, content = last.segment.item, last.segment.item.content
    summary, evidence = rule.tell(stretch, last, context)
    return Episode(
        rule=rule.name,
        project=context.project,
        subject=item.thing,
        key=content.key,
        title=content.title,
        severity=rule.severity(stretch),
        due=stretch.due,
        threshold=stretch.threshold,
        since=stretch.start,
        until=None if stretch.stop > context.now else stretch.stop,
        evidence={"formula": rule.formula, "status": item.status, "items": [content.key], "count": 1, **evidence},
        summary=summary,
        url=content.url,
    )


# --- when -------------------------------------------------------------------------------------------------------------


def _near(life: Life, context: Context) -> Iterator[Stretch]:
    due = life.segment.item.due_date
    if due is None:
        return
    alone = _left_alone_from(life, context)
    for rung in ladder(due, context):
        yield from clip(Stretch(due, rung.days, rung.start, rung.stop), alone, FOREVER)


def _left_alone_from(life: Life, context: Context) -> datetime:
    """From when on the item speaks for itself: an item due with its milestone or later is left to it while it is open."""
    item = life.segment.item
    milestone = context.milestones.get(Thing(item.thing.source, "milestone", item.milestone or ""))
    if not milestone or not milestone.due_date or not item.due_date or item.due_date < milestone.due_date:
        return BEGINNING
    return (milestone.closed_at or BEGINNING) if milestone.closed else FOREVER


def _overdue(life: Life, context: Context) -> Iterator[Stretch]:
    due = life.segment.item.due_date
    if due:
        yield Stretch(due, None, context.workdays.deadline(due), FOREVER)


def _blocked(life: Life, context: Context) -> Iterator[Stretch]:
    if life.blocked_at:
        days = context.thresholds.blocked_days
        yield Stretch(None, days, context.workdays.after(life.blocked_at, days), FOREVER)


def _stale(life: Life, context: Context) -> Iterator[Stretch]:
    item = life.segment.item
    # Where the source keeps no history of the status, nobody knows how long ago it changed.
    if item.status_category is StatusCategory.in_progress and "status_category" not in item.content.untracked:
        days = context.thresholds.stale_days
        for moved, again in pairwise([*_movements(life), FOREVER]):
            yield from clip(Stretch(None, days, context.workdays.after(moved, days), FOREVER), BEGINNING, again)


def _movements(life: Life) -> list[datetime]:
    """When something was done about an item in a segment: at its beginning, and whenever work was logged."""
    logged = (each.created_at for each in life.segment.item.content.worklogs)
    return sorted({life.segment.start, *(at for at in logged if life.segment.start < at < life.stop)})


# --- in words ---------------------------------------------------------------------------------------------------------


def near_severity(stretch: Stretch) -> Severity:
    """The last days count more."""
    return "info" if (stretch.threshold or 0) > 3 else "warning"


def told_at(stretch: Stretch, context: Context) -> datetime:
    """The instant that a stretch speaks of: now, or its beginning if it is over."""
    return context.now if stretch.stop > context.now else stretch.start


def _tell_near(stretch: Stretch, life: Life, context: Context) -> tuple[str, dict[str, Any]]:
    assert stretch.due is not None
    when = ahead(stretch.due, told_at(stretch, context), context.workdays)
    status = life.segment.item.status
    return f"due {spoken(stretch.due)}, {when}, and still {status}", {"due_date": stretch.due.isoformat()}


def _tell_overdue(stretch: Stretch, life: Life, context: Context) -> tuple[str, dict[str, Any]]:
    assert stretch.due is not None
    end = min(stretch.stop, context.now)
    days = context.workdays.between(stretch.due, context.workdays.day(end))
    return (
        f"was due {spoken(stretch.due)}{ago(days)}, and is still {life.segment.item.status}",
        {"due_date": stretch.due.isoformat(), "working_days_late": days},
    )


def _tell_blocked(stretch: Stretch, life: Life, context: Context) -> tuple[str, dict[str, Any]]:
    at = life.blocked_at or stretch.start
    days = context.workdays.between(context.workdays.day(at), context.workdays.day(min(stretch.stop, context.now)))
    # Of a stretch that is over nobody asks any more who caused it, and who is open now did not.
    by = context.blockers.get(life.segment.item.thing, ())[:NAMED] if stretch.stop > context.now else ()
    return (
        f"blocked since {spoken(context.workdays.day(at))}, for {counted(days, 'working day')}"
        + (f", by {', '.join(by)}" if by else ""),
        {"blocked_at": rfc3339(at), "working_days": days, **({"blocked_by": list(by)} if by else {})},
    )


def _tell_stale(stretch: Stretch, life: Life, context: Context) -> tuple[str, dict[str, Any]]:
    at = max(moved for moved in _movements(life) if moved <= stretch.start)
    days = context.workdays.between(context.workdays.day(at), context.workdays.day(min(stretch.stop, context.now)))
    status = life.segment.item.status
    return (
        f"{status} without a change since {spoken(context.workdays.day(at))}, for {counted(days, 'working day')}",
        {"changed_at": rfc3339(at), "working_days": days},
    )


ITEM_RULES: Sequence[ItemRule] = (
    ItemRule("deadline_near", "due soon", "open, and on a rung of the ladder", _near, near_severity, _tell_near),
    ItemRule("overdue", "overdue", "open after the end of the due day", _overdue, lambda _: "warning", _tell_overdue),
    ItemRule(
        "blocked", "blocked", "open and blocked for the threshold", _blocked, lambda _: "warning", _tell_blocked
    ),
    ItemRule(
        "stale", "stale", "in progress, no tracked change for the threshold", _stale, lambda _: "info", _tell_stale
    ),
)  # fmt: skip
