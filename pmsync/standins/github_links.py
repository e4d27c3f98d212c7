"""Of which issues those of the GitHub stand-in are a part, and what blocks them; across its repositories.

GitHub's documents do not say that a link moves the time of an issue's last change, and people saw that it does not. So
here it never does, which is the harsher.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pmsync.standins.instants import second

if TYPE_CHECKING:
    from pmsync.standins.github import Item, Repository, View

Place = tuple[str, int]
"""A repository's name, and the number of an issue in it."""
Kind = Literal["parent_issue", "blocked_by"]
REVERSE: Mapping[Kind, str] = {"parent_issue": "sub_issue", "blocked_by": "blocking"}
"""What the other issue calls such a link; the events of both are called so, too."""


class Reference(NamedTuple):
    """An issue, as another one names it."""

    repository: Repository
    item: Item

    def is_there(self, when: datetime) -> bool:
        return self.item.gone_at is None or self.item.gone_at > when


@dataclass(slots=True)
class Link:
    """`one` has `other` as its parent, or as what blocks it, from `at` on, until `until`."""

    kind: Kind
    one: Reference
    other: Reference
    at: datetime
    until: datetime | None = None

    def stands(self, when: datetime) -> bool:
        is_told = self.at <= when and (self.until is None or when < self.until)
        return is_told and self.one.is_there(when) and self.other.is_there(when)


@dataclass(slots=True)
class Links:
    """All links of a host. With `known` off it is one that knows neither sub-issues nor dependencies."""

    find: Callable[[Place], Reference]
    tell: Callable[[Reference, datetime, str, Mapping[str, Reference]], None]
    known: bool = True
    _all: list[Link] = field(default_factory=list)

    def add(self, one: Place, at: datetime, kind: Kind, other: Place) -> None:
        """From `at` on `one` has `other` as its parent, or as what blocks it. An issue has one parent at the most."""
        link = Link(kind, self.find(one), self.find(other), second(at))
        if kind == "parent_issue" and self.others(kind, link.one.item, link.at):
            raise ValueError(f"{one} has a parent at {at}")
        self._all.append(link)
        self._tell(link, link.at, "added")

    def remove(self, one: Place, at: datetime, kind: Kind, other: Place) -> None:
        """No longer."""
        wanted = (kind, self.find(one), self.find(other))
        link = next(each for each in self._all if (each.kind, each.one, each.other) == wanted and each.until is None)
        link.until = second(at)
        self._tell(link, link.until, "removed")

    def _tell(self, link: Link, at: datetime, what: str) -> None:
        self.tell(link.one, at, f"{link.kind}_{what}", {link.kind: link.other})
        self.tell(link.other, at, f"{REVERSE[link.kind]}_{what}", {REVERSE[link.kind]: link.one})

    def others(self, kind: Kind, item: Item, when: datetime) -> list[Reference]:
        """Its parent, or what blocks it."""
        return [each.other for each in self._all if each.kind == kind and each.one.item is item and each.stands(when)]

    def ones(self, kind: Kind, item: Item, when: datetime) -> list[Reference]:
        """Its parts, or what it blocks."""
        return [each.one for each in self._all if each.kind == kind and each.other.item is item and each.stands(when)]


def show_links(view: View, item: Item) -> dict[str, Any]:
    """What an issue says of its links. One without a parent has no word of it."""
    links, now = view.repository.links, view.now
    if not links.known:
        return {}
    parents, parts = links.others("parent_issue", item, now), links.ones("parent_issue", item, now)
    blockers, blocked = links.others("blocked_by", item, now), links.ones("blocked_by", item, now)
    done = len(parts) - _open(view, parts)
    shown: dict[str, Any] = {
        "sub_issues_summary": {
            "total": len(parts),
            "completed": done,
            "percent_completed": 100 * done // len(parts) if parts else 0,
        },
        "issue_dependencies_summary": {
            "blocked_by": _open(view, blockers),
            "total_blocked_by": len(blockers),
            "blocking": _open(view, blocked),
            "total_blocking": len(blocked),
        },
    }
    if parents:
        there = view.elsewhere(parents[0].repository)
        shown["parent_issue_url"] = f"{there.url}/issues/{parents[0].item.number}"
    return shown


def show_reference(view: View, reference: Reference) -> dict[str, Any]:
    """The other issue, in an event."""
    there = view.elsewhere(reference.repository)
    state = there.state(reference.item)
    return {
        "number": reference.item.number,
        "title": state.title,
        "state": state.state,
        "state_reason": state.reason,
        "repository": there.show_repository(),
        "issue_type": None,
    }


def _open(view: View, references: Sequence[Reference]) -> int:
    return sum(view.elsewhere(each.repository).state(each.item).state == "open" for each in references)
