"""Flow as the Kanban Guide names it: throughput, cycle and lead time, work in progress and its age.

Times are elapsed calendar seconds. A percentile is by nearest rank: a value that was really seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from pmsync.core.events import StatusCategory
from pmsync.core.project import Item, local_day

NOT_DONE = "not done"
NOT_IN_PROGRESS = "not in progress"
NO_HISTORY = "its source keeps no history of its status"
CUT = "its history is cut, so that its start is not known"
NEGATIVE = "its source dates the end before the start"


class Elapsed(NamedTuple):
    """Seconds, or None and the reason why there are none."""

    seconds: int | None
    reason: str = ""


def cycle_time(item: Item) -> Elapsed:
    """From start to done."""
    if not item.done:
        return Elapsed(None, NOT_DONE)
    return _elapsed(item, item.started_at, item.resolved_at) if not _cut(item) else Elapsed(None, CUT)


def lead_time(item: Item) -> Elapsed:
    """From creation to done."""
    if not item.done:
        return Elapsed(None, NOT_DONE)
    return _elapsed(item, item.content.created_at, item.resolved_at)


def age(item: Item, now: datetime) -> Elapsed:
    """From start to now, of an item in progress."""
    if item.status_category is not StatusCategory.in_progress:
        return Elapsed(None, NOT_IN_PROGRESS)
    return _elapsed(item, item.started_at, now) if not _cut(item) else Elapsed(None, CUT)


def _elapsed(item: Item, start: datetime | None, end: datetime | None) -> Elapsed:
    if start is None or end is None or "status_category" in item.content.untracked:
        return Elapsed(None, NO_HISTORY)
    seconds = int((end - start).total_seconds())
    return Elapsed(seconds) if seconds >= 0 else Elapsed(None, NEGATIVE)


def _cut(item: Item) -> bool:
    """Whether the start lies before what is left of the history."""
    return item.content.history_cut and item.started_at is None


def wip(items: Iterable[Item]) -> tuple[Item, ...]:
    """What has been started and is not finished."""
    return tuple(item for item in items if item.status_category is StatusCategory.in_progress)


def throughput(items: Iterable[Item], zone: ZoneInfo) -> Mapping[date, int]:
    """How many items were resolved as done on each local day that saw any."""
    return Counter(
        local_day(item.resolved_at, zone)
        for item in items
        if item.done and item.resolved_at and "status_category" not in item.content.untracked
    )


def percentile(values: Sequence[int], percent: int) -> int | None:
    """By nearest rank; None of nothing."""
    return sorted(values)[max(-(-percent * len(values) // 100), 1) - 1] if values else None
