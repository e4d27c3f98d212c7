"""GitHub: of which issue an issue is a part, and what blocks it; since when and until when. All of it is pure.

An issue shows its present parent, and how many issues block it; which these are is a list of its own. When a link was made
and removed its events tell. None of that moves the time of its last change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from pydantic import Field, ValidationError

from connectors.github_shapes import Raw, Time
from pmsync.core.events import BLOCKED_BY, Link

PART_OF = "sub-issue of"
Key = Callable[[str, int], str]
"""What the issue of this repository (its full name) with this number is called."""


class _Step(NamedTuple):
    relation: str
    made: bool


_STEPS: Mapping[str, _Step] = {
    "parent_issue_added": _Step(PART_OF, made=True),
    "parent_issue_removed": _Step(PART_OF, made=False),
    "blocked_by_added": _Step(BLOCKED_BY, made=True),
    "blocked_by_removed": _Step(BLOCKED_BY, made=False),
}
LINKING = frozenset(_STEPS)
"""The kinds of issue events that tell of links, at the issue that is a part, or is blocked."""
_REPOSITORY = re.compile(r"/repos/([A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+)$")
_ISSUE = re.compile(rf"{_REPOSITORY.pattern[:-1]}/issues/([0-9]{{1,18}})$")


class Named(NamedTuple):
    """A link as the issue has it: this issue *relation* the issue *key*."""

    relation: str
    key: str


class Telling(NamedTuple):
    """What tells that an issue changed although its time did not move: an event of a link, say."""

    at: datetime
    number: int
    stamp: str


# --- GitHub's shapes --------------------------------------------------------------------------------------------------


class _Repository(Raw):
    full_name: str


class _Reference(Raw):
    number: int
    repository: _Repository


class _Event(Raw):
    event: str
    created_at: Time
    parent_issue: _Reference | None = None
    blocked_by: _Reference | None = None


class _Blocker(Raw):
    number: int
    repository_url: Annotated[str, Field(pattern=_REPOSITORY.pattern)]


class _Summary(Raw):
    total_blocked_by: int = 0


class _Issue(Raw):
    parent_issue_url: Annotated[str, Field(pattern=_ISSUE.pattern)] | None = None
    issue_dependencies_summary: _Summary | None = None

    @property
    def blockers(self) -> int:
        return self.issue_dependencies_summary.total_blocked_by if self.issue_dependencies_summary else 0


class _Numbered(Raw):
    number: int


class _Told(Raw):
    id: int
    created_at: Time
    issue: _Numbered


# --- translation ------------------------------------------------------------------------------------------------------


def has_blockers(issue: Any) -> bool:
    """Whether there is a list of what blocks it to ask for. A host that knows no dependencies says nothing of them."""
    try:
        return _Issue.model_validate(issue).blockers > 0
    except ValidationError:  # which its translation says
        return False


def parent(key: Key, issue: Any) -> str | None:
    """The issue that this one is a part of; raises `ValidationError` if it is not in GitHub's shape."""
    url = _Issue.model_validate(issue).parent_issue_url
    found = _ISSUE.search(url) if url else None
    return key(found[1], int(found[2])) if found else None


def links(key: Key, issue: Any, events: Sequence[Any], blockers: Sequence[Any] | None) -> list[Link]:
    """All that is known of an issue's links: those that stand, then those that are gone, the last one first. `blockers` is
    the list of what blocks it, None where that was not to be had: then the events are believed
    if they come to as many as the issue counts. Raises `ValidationError` if something is not in GitHub's shape."""
    made, gone = _replay(key, events)
    present = {Named(PART_OF, above)} if (above := parent(key, issue)) else set[Named]()
    if blockers is None:
        told = {link for link in made if link.relation == BLOCKED_BY}
        present |= told if len(told) == _Issue.model_validate(issue).blockers else set()
    else:
        present |= {Named(BLOCKED_BY, _blocker(key, each)) for each in blockers}
    standing = [Link(**link._asdict(), since=made.get(link)) for link in present]
    return sorted(standing, key=lambda link: (link.relation, link.key)) + gone[::-1]


def telling(events: Iterable[Any]) -> list[Telling]:
    """Those of a repository's events that tell of links; one that is not in GitHub's shape tells nothing."""
    found = list[Telling]()
    for event in events:
        if _tells(event):
            try:
                told = _Told.model_validate(event)
            except ValidationError:
                continue
            found.append(Telling(told.created_at, told.issue.number, f"event {told.id}"))
    return found


def _replay(key: Key, events: Sequence[Any]) -> tuple[dict[Named, datetime], list[Link]]:
    """The links that these events leave, with since when, and those that they ended, in the order of their ends. What they
    call by no name is the other issue that this account may not see."""
    made, gone = dict[Named, datetime](), list[Link]()
    for event in map(_Event.model_validate, filter(_tells, events)):
        step = _STEPS[event.event]
        other = event.blocked_by if step.relation == BLOCKED_BY else event.parent_issue
        if other is None:
            continue
        link = Named(step.relation, key(other.repository.full_name, other.number))
        if step.made:
            made[link] = event.created_at
        else:
            gone.append(Link(**link._asdict(), since=made.pop(link, None), until=event.created_at))
    return made, gone


def _tells(event: Any) -> bool:
    return isinstance(event, dict) and str(event.get("event")) in LINKING


def _blocker(key: Key, blocker: Any) -> str:
    found = _Blocker.model_validate(blocker)
    match = _REPOSITORY.search(found.repository_url)
    assert match  # the shape's own pattern
    return key(match[1], found.number)
