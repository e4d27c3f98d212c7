"""GitHub: what a listing has to remember, since it is asked again for its last minutes each time. All of it is pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from connectors.base import Read
from connectors.github_things import stamp, unsettled, updated_at

SETTLED, UNSETTLED = timedelta(seconds=60), timedelta(hours=1)
"""How long after its last change a thing must have been read to be read as a whole; and one that did not add up then."""
MOST_TAKEN = 10_000
"""Things of one repository that are remembered as taken; a megabyte or two."""

Taken = dict[str, datetime]
"""The stamps of what was read as a whole and handed on -> when it changed."""


class Change(NamedTuple):
    """Why a thing is read: the stamp of what was listed, and when that happened."""

    stamp: str
    at: datetime | None


def change(item: Any) -> Change:
    """The last one of a listed item."""
    return Change(stamp(item), updated_at(item))


def still_listed(taken: Taken, since: datetime | None) -> Taken:
    """What of it a listing from `since` on may show again. One of everything is meant: nothing may be left out of it."""
    return {} if since is None else {each: at for each, at in taken.items() if at >= since - timedelta(seconds=1)}


def note_taken(taken: Taken, reads: Iterable[tuple[Change, Read]], listed_at: datetime | None) -> None:
    """Remember what was listed so long after its change that it has no younger change in the same second."""
    for (name, changed_at), read in reads:
        if listed_at and changed_at and listed_at - changed_at >= (UNSETTLED if unsettled(read) else SETTLED):
            taken[name] = changed_at
    while len(taken) > MOST_TAKEN:
        del taken[next(iter(taken))]
