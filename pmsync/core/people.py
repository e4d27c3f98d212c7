"""Which accounts of its sources a state names. Whose they are stands in no state and no event: names and mail addresses are
in the store's own table (`pmsync/store/people.py`), and joined whenever somebody looks."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import NamedTuple

from pmsync.core.events import ChangeRequest, Deployment, Thing, WorkItem
from pmsync.core.project import ProjectState, tracked

TEAM = "team:"
"""What begins the id of a team that was asked for a review: nobody's account."""


class Account(NamedTuple):
    """An account of a source, by the id that the source gives it."""

    source: str
    id: str


def accounts(state: ProjectState) -> frozenset[Account]:
    """Every account that a project's things name now: who has an item, wrote, reviewed, shipped or logged work."""
    return frozenset(
        Account(thing.source, ident)
        for things in state.things.values()
        for thing, content in things
        for ident in _named(content)
        if ident and not ident.startswith(TEAM)
    )


def assignees(state: ProjectState, wanted: Collection[Thing], at: datetime) -> dict[Thing, Account]:
    """thing -> who has it as of an instant, of those that are work items and that somebody has."""
    found = {thing: tracked(content, at)["assignee"] for thing, content in state.things["work_item"] if thing in wanted}
    return {thing: Account(thing.source, ident) for thing, ident in found.items() if ident}


def _named(content: object) -> Iterator[str | None]:
    match content:
        case WorkItem():
            yield content.assignee
            yield from (each.by for each in content.worklogs)
        case ChangeRequest():
            yield content.author
            yield from (each.reviewer for each in content.reviews)
            yield from (each.reviewer for each in content.review_requests)
        case Deployment():
            yield content.creator
