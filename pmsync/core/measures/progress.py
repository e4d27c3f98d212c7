"""How far a project is: counts and estimates, now and as of the end of each day."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import accumulate
from typing import Any, NamedTuple

from pmsync.core.events import StatusCategory, Thing, WorkItem
from pmsync.core.project import Item, ProjectState, View, shown_containers
from pmsync.core.workdays import Workdays

NAMED = 20
"""How many items evidence names; it counts them all."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Counts by category, and estimates in thousandths. What was dropped is out of scope."""

    todo: int
    in_progress: int
    done: int
    dropped: int
    estimate: int
    estimate_done: int
    unestimated: int

    @property
    def scope(self) -> int:
        return self.todo + self.in_progress + self.done

    @property
    def open(self) -> int:
        return self.todo + self.in_progress


class BurnUpPoint(NamedTuple):
    """Scope and what of it was done at the end of a local day, by count and by estimate (thousandths)."""

    day: date
    scope: int
    done: int
    scope_estimate: int
    done_estimate: int


def progress(items: Iterable[Item]) -> Progress:
    """Where these items stand."""
    counted: Counter[StatusCategory] = Counter()
    estimate = estimate_done = unestimated = 0
    for item in items:
        counted[item.status_category] += 1
        if item.open or item.done:
            estimate += item.estimate or 0
            estimate_done += (item.estimate or 0) if item.done else 0
            unestimated += item.estimate is None
    todo, in_progress, done, dropped = (counted[category] for category in StatusCategory)
    return Progress(todo, in_progress, done, dropped, estimate, estimate_done, unestimated)


def named(items: Iterable[Item]) -> dict[str, Any]:
    """Items as evidence carries them: the first keys in the order of bytes, and how many there are."""
    keys = sorted(item.key for item in items)
    return {"items": keys[:NAMED], "count": len(keys)}


# --- burn-up: one sweep over all changes, not a view per day ------------------------------------------------------------

Contribution = tuple[int, int, int, int]
NOTHING: Contribution = (0, 0, 0, 0)
_COUNTED = ("container", "status_category", "estimate")


class Steps(NamedTuple):
    """A tracked field as a step function: `values[i]` holds before `at[i]`, the last one after them all."""

    at: list[datetime]
    values: list[Any]

    @classmethod
    def of(cls, content: WorkItem, name: str) -> Steps:
        changes = [change for change in content.history if change.field == name]
        # As of T the `from` of the first change after T counts, in the source's order: so no change acts before one
        # that stands before it.
        return cls(
            list(accumulate((change.at for change in changes), max)),
            [*(change.old for change in changes), getattr(content, name)],
        )

    def value(self, at: datetime) -> Any:
        return self.values[bisect_right(self.at, at)]


def burn_up(state: ProjectState, view: View, days: Iterable[date]) -> tuple[BurnUpPoint, ...]:
    """One point per day in order, as of its end (or as of the view's instant, if that is earlier).

    Each item counts through its own history, moves into and out of the project included.
    """
    workdays = Workdays.of(view)
    wanted = sorted(set(days))
    ends = [min(workdays.deadline(day), view.at) for day in wanted]
    shown, _ = shown_containers(state)
    deltas = [[0, 0, 0, 0] for _ in wanted]
    for thing, content in state.things["work_item"]:
        _count(thing, content, shown, ends, deltas)
    totals = accumulate(deltas, lambda sums, delta: [a + b for a, b in zip(sums, delta, strict=True)])
    return tuple(BurnUpPoint(day, *sums) for day, sums in zip(wanted, totals, strict=True))


def _count(
    thing: Thing, content: WorkItem, shown: set[tuple[str, str]], ends: Sequence[datetime], deltas: list[list[int]]
) -> None:
    """Add to `deltas` what changes at each end of a day because of one item."""
    container, category, estimate = (Steps.of(content, name) for name in _COUNTED)
    born = bisect_left(ends, content.created_at)
    turns = {bisect_left(ends, at) for steps in (container, category, estimate) for at in steps.at}
    before = NOTHING
    for i in sorted({born, *(turn for turn in turns if turn > born)}):
        if i == len(ends):
            return
        visible = (thing.source, container.value(ends[i])) in shown
        after = _contribution(category.value(ends[i]), estimate.value(ends[i])) if visible else NOTHING
        deltas[i] = [d + new - old for d, new, old in zip(deltas[i], after, before, strict=True)]
        before = after


def _contribution(category: str, estimate: int | None) -> Contribution:
    if category == StatusCategory.dropped:
        return NOTHING
    done = category == StatusCategory.done
    return 1, int(done), estimate or 0, (estimate or 0) if done else 0
