"""Jira: an issue's worklogs: when time was spent on it, and by whom. Of what people wrote with them nothing is read.

An issue comes with twenty of them at the most, and says how many there are; all are to be had by issue alone. All of it is
pure: `connectors/jira.py` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from connectors.jira_values import Unreadable, account, identity, instant, maybe, rank, seconds, take
from pmsync.core.events import MAX_WORKLOGS, Worklog

PER_PAGE = 1000
"""So many worklogs are asked for at a time, with the words that come with them; a server may give less, or all."""
MOST_PAGES = 1000


class Logged(NamedTuple):
    """The worklogs of an issue, in the order in which they were logged; `is_cut`: some are missing."""

    kept: tuple[Worklog, ...]
    is_cut: bool


def worklogs(raw: Any) -> Logged:
    """Those that an issue shows. Raises ValueError."""
    listed = maybe(raw, "fields.worklog.worklogs", list)
    if listed is None:
        return Logged((), bool(maybe(raw, "fields.timespent", object)))
    found = {each.id: each for each in map(_worklog, listed)}
    ordered = sorted(found.values(), key=lambda each: (each.created_at, rank(each.id), each.id))
    return Logged(tuple(ordered[-MAX_WORKLOGS:]), _total(raw) > len(found) or len(found) > MAX_WORKLOGS)


def lacking(raw: Any) -> str:
    """The id of an issue that has more worklogs than it shows; empty of any other, and of one that cannot be read."""
    try:
        listed = maybe(raw, "fields.worklog.worklogs", list)
        return identity(raw) if listed is not None and _total(raw) > len(listed) else ""
    except Unreadable:
        return ""


def with_all(raw: Mapping[str, Any], page: Callable[[int], Any]) -> Any:
    """The issue as if it showed all of its worklogs; `page` asks for those from a place in the list on."""
    found: dict[str, Any] = {}
    for _ in range(MOST_PAGES):
        answer = page(len(found))
        new = {identity(each): each for each in take(answer, "worklogs", list)}
        total, known = take(answer, "total", int), len(found)
        found |= new
        # A list that shrinks meanwhile, or that nothing is added to, is at its end.
        if len(found) >= total or len(found) == known:
            break
    return {**raw, "fields": {**raw["fields"], "worklog": {"total": total, "worklogs": list(found.values())}}}


def wordless(raw: Any) -> Any:
    """An issue without its worklogs, since people write what they did with them: to be kept as it came."""
    if not isinstance(raw, dict) or not isinstance(raw.get("fields"), dict):
        return raw
    return {**raw, "fields": {name: value for name, value in raw["fields"].items() if name != "worklog"}}


def _worklog(raw: Any) -> Worklog:
    spent = seconds(take(raw, "timeSpentSeconds", object), "timeSpentSeconds")
    assert spent is not None
    return Worklog(
        id=take(raw, "id", str),
        created_at=instant(take(raw, "created", str), "created of a worklog"),
        started_at=instant(take(raw, "started", str), "started of a worklog"),
        seconds=spent,
        by=account(raw, "author"),
    )


def _total(raw: Any) -> int:
    return maybe(raw, "fields.worklog.total", int) or 0
