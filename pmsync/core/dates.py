"""Which things name one milestone, and whose day counts. Nothing is guessed: titles are the same, or the configuration
says that they mean the same (`also` of a promise); whose day counts is stated, too (`dates` of a project).

Two things of one container with one title are two, whatever others call theirs: which of them would it be? So each stands
by itself, and so does an entry that recurs, which is many days by nature, and one whose title is not read.

Next on the way of an event: `pmsync/core/project.py`, which makes a deadline of each milestone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from pmsync.core.events import CONFIGURATION, Project, Promise, Thing


class Dated(NamedTuple):
    """What one thing says of a milestone. Where its title is not read (`nameless`) another stands in; only what a source
    has as a milestone can be `closed`, or have items."""

    thing: Thing
    container: str
    title: str
    due_date: date | None
    closed: bool = False
    closed_at: datetime | None = None
    url: str = ""
    assumed: bool = False
    nameless: bool = False
    recurring: bool = False

    @property
    def has_items(self) -> bool:
        return self.thing.kind == "milestone" and self.thing.source != CONFIGURATION


Place = tuple[str, int | None]
"""A title, and for what stands by itself its place in what was found."""


class Joined(NamedTuple):
    """One milestone: its title as it is compared (`key`), and what is said of it. The `first` thing is the one that it is
    known by, whatever the dates are: one with items, else the promise, else a calendar's."""

    key: str
    dates: tuple[Dated, ...]

    @property
    def first(self) -> Dated:
        return self.dates[0]

    @property
    def title(self) -> str:
        """What its first thing is called, unless the configuration calls it something else."""
        named = (each.title for each in self.dates if title_key(each.title) == self.key)
        return next(named, self.first.title)


def title_key(title: str) -> str:
    """By what titles are compared: without regard to case and blanks, and nothing cleverer."""
    return " ".join(title.casefold().split())


def joined(found: Sequence[Dated], project: Project) -> list[Joined]:
    """Each milestone of a project once: those with items in the order of `found`, then promises, then calendars'."""
    promises = {title_key(each.title): _promised(each, project) for each in project.milestones}
    meant = {
        (source, title_key(title)): title_key(promise.title)
        for promise in project.milestones
        for source, titles in promise.also.items()
        for title in titles
    }
    seats = [_seat(each) for each in found]
    taken = Counter(seats)
    groups: dict[Place, list[Dated]] = {}
    for n, (each, seat) in enumerate(zip(found, seats, strict=True)):
        source, _, title = seat
        alone = not title or each.recurring or taken[seat] > 1
        groups.setdefault((meant.get((source, title), title), n if alone else None), []).append(each)
    left = dict(promises)
    for place, late in [*_after_the_end(groups)]:
        groups[place].remove(late)
        groups[place[0], found.index(late)] = [late]
    for (key, alone_at), members in groups.items():
        # A promise holds for every milestone of its title, but for a calendar's entry only if no other can be meant.
        if key in promises and (alone_at is None or members[0].has_items):
            members.append(promises[key])
            left.pop(key, None)
    rank = _rank(project)
    alike = [
        Joined(key, tuple(sorted(members, key=lambda each: (_kind(each), rank(each), each.thing))))
        for (key, _), members in (*groups.items(), *(((key, None), [promise]) for key, promise in left.items()))
    ]
    return sorted(alike, key=lambda each: (_kind(each.first), each.first.thing.id if _kind(each.first) == 1 else ""))


def _after_the_end(groups: Mapping[Place, Sequence[Dated]]) -> Iterator[tuple[Place, Dated]]:
    """Days in calendars that come after all else of their title was closed: next year's, and not its own."""
    for place, members in groups.items():
        ends = [each.closed_at for each in members if each.has_items and each.closed]
        if ends and len(ends) == sum(each.has_items for each in members):
            over = max((end.date() for end in ends if end), default=date.min)
            yield from ((place, each) for each in members if not each.has_items and (each.due_date or over) > over)


def _kind(each: Dated) -> int:
    """Milestones with items, promises, calendars."""
    return 0 if each.has_items else 1 if each.thing.source == CONFIGURATION else 2


def by_precedence(dates: Sequence[Dated], project: Project) -> tuple[Dated, ...]:
    """In the order in which days count: what is open before what is closed, unless all is; the stated order of sources; the
    earlier day."""
    if len(dates) == 1:
        return tuple(dates)
    rank = _rank(project)
    part = any(each.has_items and not each.closed for each in dates)
    return tuple(
        sorted(dates, key=lambda each: (part and each.closed, rank(each), each.due_date or date.max, each.thing))
    )


def _rank(project: Project) -> Callable[[Dated], int]:
    """Whose day counts before whose, by source. The configuration comes first unless `dates` puts it elsewhere, since a
    promise is made on purpose; then what `dates` names; then milestones, which have the work; then calendars, which are
    copied into by hand."""
    stated = project.dates if CONFIGURATION in project.dates else (CONFIGURATION, *project.dates)
    places = {source: n for n, source in enumerate(stated)}

    def rank(each: Dated) -> int:
        return places.get(each.thing.source, len(stated) + (not each.has_items))

    return rank


def _seat(each: Dated) -> tuple[str, str, str]:
    """Where there can be one of its title; nothing is the same as what has none."""
    return each.thing.source, each.container, "" if each.nameless else title_key(each.title)


def _promised(promise: Promise, project: Project) -> Dated:
    thing = Thing(CONFIGURATION, "milestone", promise.key)
    return Dated(thing, project.key, promise.title, promise.due_date)


def unmet(project: Project, found: Iterable[Dated]) -> Iterator[tuple[Promise, str, str]]:
    """What a promise says that it is called at a source, where nothing is called so."""
    known = {(each.thing.source, title_key(each.title)) for each in found if not each.nameless}
    for promise in project.milestones:
        for source, titles in promise.also.items():
            yield from ((promise, source, title) for title in titles if (source, title_key(title)) not in known)


def by_day(dates: Sequence[Dated]) -> Mapping[date, list[str]]:
    """Each day with who names it, in the given order: a source, with its container where the source names several."""
    several = Counter(each.thing.source for each in dates)
    found: dict[date, list[str]] = {}
    for each in dates:
        if each.due_date:
            name = each.thing.source if several[each.thing.source] == 1 else f"{each.thing.source} {each.container}"
            found.setdefault(each.due_date, []).append(name)
    return found
