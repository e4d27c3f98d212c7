"""How a sprint went, or goes: what was in it when it began, what came and left since, and what is done of it.

What was in a sprint at an instant is told by the histories of the items, so it is the same whenever it is looked at; when
it began and ended is told by the versions of the sprint that were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pmsync.core.events import Sprint, Thing
from pmsync.core.measures.progress import Progress, Steps, progress
from pmsync.core.project import Item, View, item_at

CLOSING = timedelta(minutes=1)
"""Jira moves what is left undone out of a sprint at the moment of closing it, a little before the time of closing that it
shows or a little after. So what was in a closed sprint is what was in it this much earlier."""

State = Literal["future", "active", "closed"]


@dataclass(frozen=True, slots=True)
class Course:
    """A sprint as of an instant, or as of its end if that came before.

    `committed`, `added` and `removed` count items: in it when it began; in it at the end or now, but not when it began; the
    other way round. They are None before it has begun, or where nobody knows when it did. `progress` is of what is in it.
    """

    thing: Thing
    sprint: Sprint
    state: State
    committed: int | None
    added: int | None
    removed: int | None
    progress: Progress


def courses(view: View) -> tuple[Course, ...]:
    """The sprints of a project as of the view's instant, the one first that began first; those without a date last."""
    ever: dict[tuple[str, str], list[tuple[Item, Steps]]] = {}
    for item in view.items:
        steps = Steps.of(item.content, "sprint")
        for ident in {str(value) for value in steps.values if value}:
            ever.setdefault((item.thing.source, ident), []).append((item, steps))
    ordered = sorted(view.sprints, key=lambda known: (known[1].starts_at or LAST, known[0]))
    return tuple(
        _course(thing, sprint, ever.get((thing.source, sprint.sprint), ()), view.at) for thing, sprint in ordered
    )


LAST = datetime.max.replace(tzinfo=UTC)


def _course(thing: Thing, sprint: Sprint, ever: Sequence[tuple[Item, Steps]], at: datetime) -> Course:
    state, end = _stage(sprint, at)
    began = None if state == "future" else sprint.starts_at
    inside = _inside(sprint, ever, end)
    now, was = {item.thing for item in inside}, set[Thing]()
    if began is not None:
        was = {item.thing for item in _inside(sprint, ever, began)}
    return Course(
        thing=thing,
        sprint=sprint,
        state=state,
        committed=None if began is None else len(was),
        added=None if began is None else len(now - was),
        removed=None if began is None else len(was - now),
        progress=progress(item if end == at else item_at(item.thing, item.content, end) for item in inside),
    )


def _inside(sprint: Sprint, ever: Sequence[tuple[Item, Steps]], when: datetime) -> list[Item]:
    """What was in it at an instant. What was created later cannot have been."""
    return [item for item, steps in ever if item.content.created_at <= when and steps.value(when) == sprint.sprint]


def _stage(sprint: Sprint, at: datetime) -> tuple[State, datetime]:
    """What a sprint is at an instant, by its dates, and the instant as of which to look at its items."""
    closed = sprint.closed_at or (sprint.ends_at if sprint.state == "closed" else None)
    if closed and closed <= at:
        return "closed", closed - CLOSING
    begun = sprint.state != "future" and sprint.starts_at is not None and sprint.starts_at <= at
    return "active" if begun else "future", at
