"""How a sprint went, or goes: what was in it when it began, what came and left since, and what is done of it.

What was in a sprint at an instant is told by the histories of the items, so it is the same whenever it is looked at; when
it began and ended is told by the versions of the sprint that were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from pmsync.core.events import Sprint, Thing, WorkItem
from pmsync.core.measures.progress import Progress, Steps, progress
from pmsync.core.project import ProjectState, View, item_at, shown_containers

CLOSING = timedelta(minutes=1)
"""Jira moves what is left undone out of a sprint at the moment of closing it, a little before the time of closing that it
shows or a little after. So what was in a closed sprint is what was in it this much earlier; whether it was done is looked at
as of the closing itself."""

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


def courses(state: ProjectState, view: View) -> tuple[Course, ...]:
    """The sprints of a project as of the view's instant, the one first that began first; those without a date last."""
    shown, _ = shown_containers(state)
    ever: dict[tuple[str, str], list[Past]] = {}
    for thing, content in state.things["work_item"]:
        past = Past(thing, content, Steps.of(content, "sprint"), Steps.of(content, "container"))
        for ident in {str(value) for value in past.sprint.values if value}:
            ever.setdefault((thing.source, ident), []).append(past)
    ordered = sorted(view.sprints, key=lambda known: (known[1].starts_at or LAST, known[0]))
    return tuple(
        _course(thing, sprint, ever.get((thing.source, sprint.sprint), ()), shown, view.at) for thing, sprint in ordered
    )


LAST = datetime.max.replace(tzinfo=UTC)


class Past(NamedTuple):
    """In which sprint and in which container an item was when, wherever it is now."""

    thing: Thing
    content: WorkItem
    sprint: Steps
    container: Steps

    def was_in(self, sprint: Sprint, shown: set[tuple[str, str]], when: datetime) -> bool:
        """Whether the project had it in a sprint at an instant. What was created later cannot have been."""
        there = self.content.created_at <= when and self.sprint.value(when) == sprint.sprint
        return there and (self.thing.source, self.container.value(when)) in shown


class Stage(NamedTuple):
    """What a sprint is at an instant: as of `inside` it says what is in it, as of `end` what is done of that."""

    state: State
    inside: datetime
    end: datetime


def _course(thing: Thing, sprint: Sprint, ever: Sequence[Past], shown: set[tuple[str, str]], at: datetime) -> Course:
    stage = _stage(sprint, at)
    # Where a source keeps no history of the sprint, nobody knows what was in it when it began.
    is_told = not any("sprint" in each.content.untracked for each in ever)
    began = sprint.starts_at if is_told and stage.state != "future" else None
    inside = [each for each in ever if each.was_in(sprint, shown, stage.inside)]
    now, was = {each.thing for each in inside}, set[Thing]()
    if began is not None:
        was = {each.thing for each in ever if each.was_in(sprint, shown, began)}
    return Course(
        thing=thing,
        sprint=sprint,
        state=stage.state,
        committed=None if began is None else len(was),
        added=None if began is None else len(now - was),
        removed=None if began is None else len(was - now),
        progress=progress(item_at(each.thing, each.content, stage.end) for each in inside),
    )


def _stage(sprint: Sprint, at: datetime) -> Stage:
    """By the dates of the sprint; but one that is active was opened again, whatever date of an end is left of before."""
    ended = sprint.closed_at or (sprint.ends_at if sprint.state == "closed" else None)
    if ended and ended <= at and sprint.state != "active":
        return Stage("closed", ended - CLOSING, ended)
    begun = sprint.state != "future" and sprint.starts_at is not None and sprint.starts_at <= at
    return Stage("active" if begun else "future", at, at)
