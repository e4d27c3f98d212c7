"""GitHub: what is listed beside the issues and handed on among them: deployments, workflow runs.

Which of them changed is for the module of each kind to find out; in which order they come, and that a token need not be let
read all kinds, is the same for all, and here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from connectors.base import Read, Withheld
from connectors.github_client import Missing
from connectors.github_taken import Taken, change, note_taken
from connectors.github_things import updated_at

AT_ONCE = 50
"""Things that are read before they are handed on."""

T = TypeVar("T")


class Refused:
    """Which kinds of things the token was not let read when they were last asked for, of each repository."""

    def __init__(self) -> None:
        self._kinds: dict[str, set[str]] = {}

    def of(self, container: str) -> frozenset[str]:
        return frozenset(self._kinds.get(container, ()))

    def let(self, container: str, kind: str, ask: Callable[[], T]) -> T | None:
        """What is answered; None, which is remembered, where the token may not read it."""
        refused = self._kinds.setdefault(container, set())
        try:
            answer = ask()
        except Withheld:
            refused.add(kind)
            return None
        refused.discard(kind)
        return answer


class Listed(NamedTuple):
    """A thing that changed: as it was listed, when GitHub answered that, how the whole of it is read (which raises
    `Missing`), and where it is noted that it was."""

    item: Any
    at: datetime | None
    read: Callable[[Any], Read]
    taken: Taken


class Changed:
    """What one listing found, the oldest change first, to be handed on as the listing of the issues gets on."""

    def __init__(self, listed: Sequence[Listed]) -> None:
        timed = [(time, each) for each in listed if (time := updated_at(each.item))]
        self._waiting = deque(sorted(timed, key=lambda each: each[0]))
        self._timeless = [each for each in listed if updated_at(each.item) is None]

    def timeless(self) -> Iterator[Read]:
        """Those that do not say when they changed."""
        for each in self._timeless:
            yield from _still_there(each)

    def until(self, time: datetime) -> Iterator[list[Read]]:
        """Those that changed no later than that, some at a time."""
        while due := self._due(time):
            reads = [(each, read) for each in due for read in _still_there(each)]
            if reads:
                yield [read for _, read in reads]
            # Only now is it taken: what could not be published is listed again.
            for each, read in reads:
                note_taken(each.taken, [(change(each.item), read)], each.at)

    def _due(self, time: datetime) -> list[Listed]:
        found: list[Listed] = []
        while self._waiting and len(found) < AT_ONCE and self._waiting[0][0] <= time:
            found.append(self._waiting.popleft()[1])
        return found


def _still_there(listed: Listed) -> Iterator[Read]:
    """The thing, unless it went away meanwhile (which a sweep will find)."""
    with suppress(Missing):
        yield listed.read(listed.item)
