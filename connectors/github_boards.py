"""GitHub: how boards (GitHub Projects) are asked for: each whole, now and then.

GitHub cannot be asked what changed on a board since; so all of it is read every few minutes, and compared. Between that what
is known stands, so that a listing, a sweep and a fetch by id agree. A board may show many repositories, so an iteration is
read as a thing of each that has an issue there: its id is `REPOSITORY_ID/BOARD/ITERATION`.

Where a board cannot be read, for want of a right or because GitHub fails at it, what is known of it stands and all else is
read on, which is then said at the end of each round. So it is where a field is not there any more. Where nothing is known of
it, after a start, nothing is read of its source: issues would lose their dates and estimates, and alerts would go and come with
them.

`connectors/github_cards.py` says what the answers mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pydantic import ValidationError

from connectors.base import Clock, ConnectorError, Fatal, Read, Ref, Retryable, Withheld, problem
from connectors.github_cards import (
    PAGE,
    PLAIN,
    QUERY,
    BoardPage,
    Card,
    Plan,
    cards,
    complaints,
    iterations,
    misfits,
    read_sprint,
)
from connectors.github_client import Client
from connectors.github_links import Telling
from connectors.github_taken import Change
from connectors.github_things import Home

PERIOD = timedelta(minutes=5)
"""How long a reading of a board is believed."""
STALE = timedelta(hours=1)
"""How old it may become, while GitHub fails, before that is said."""
MOST_PAGES = 200
MAX_READINGS = 3
AT_ONCE = 200
"""Issues with changed cards that one listing reads, each with requests of its own; the next one goes on with the rest."""
BOARDED = frozenset({"work_item", "sprint"})
"""The kinds of things that boards have a say in."""
_REFUSALS = frozenset({"NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES"})
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class Board(NamedTuple):
    """A board as it was read: its last page, and its cards by repository and number."""

    page: BoardPage
    cards: Mapping[int, Mapping[int, Card]]
    pages: int

    @property
    def places(self) -> set[tuple[int, int]]:
        return {(repository, number) for repository, of in self.cards.items() for number in of}


class Boards:
    """The boards of one source, those first that are named first: an issue on several is read from the first."""

    def __init__(self, client: Client, names: Sequence[str], plan: Plan, clock: Clock) -> None:
        self._client = client
        self._names = names
        self._plan = plan
        self._clock = clock
        self._query = QUERY
        self._known: dict[str, Board] = {}
        self._read_at: dict[str, datetime] = {}
        self._tried_at: dict[str, datetime] = {}
        self._failed: dict[str, ConnectorError] = {}
        self._differing: dict[int, dict[int, datetime]] = {}

    # --- asking

    def refresh(self) -> None:
        """Read those again whose time has come. Raises where nothing is known of one, or GitHub wants to be left alone."""
        for name in self._names:
            now, tried = self._clock(), self._tried_at.get(name)
            # abs: after a clock was set back, the last try may lie in the future.
            if tried and abs(now - tried) < PERIOD:
                if name in self._known:
                    continue
                if isinstance(self._failed.get(name), Withheld):
                    raise Withheld(str(self._failed[name]))
            self._tried_at[name] = now
            try:
                board = self._settled(name)
                self._compare(self._known.get(name), board, now)
            except ConnectorError as error:
                if isinstance(error, Retryable) and error.after is not None:
                    raise
                self._failed[name] = error
                if name not in self._known:
                    raise
                continue
            self._known[name], self._read_at[name] = board, now
            self._failed.pop(name, None)

    def complaints(self) -> Iterator[str]:
        """A line for each board of which what is known is not what it is now, and will not be by itself."""
        for name, at in self._read_at.items():
            error = self._failed.get(name)
            if isinstance(error, Fatal) or (error and self._clock() - at >= STALE):
                yield f"{name} cannot be read, so that what was known of it at {at:%Y-%m-%d %H:%M} UTC stands: {error}"

    def check(self) -> Iterator[str]:
        """A line for each board that cannot be read, and for what does not fit it."""
        for name in self._names:
            try:
                board = self._whole(name, most=1)
            except Fatal as error:
                yield f"board {name}: {error}"
                continue
            yield from (f"board {name}: {line}" for line in complaints(board.page, self._plan))

    def _settled(self, name: str) -> Board:
        """The whole board. While its pages are read an item may be moved from one that was not read to one that was: whatever
        is not there any more is believed to be gone once two readings agree."""
        before, missing = self._known.get(name), None
        board = self._whole(name)
        for _ in range(MAX_READINGS - 1):
            gone = before.places - board.places if before else None
            if board.pages == 1 or gone == set() or (gone is not None and gone == missing):
                break
            before, missing = before or board, gone
            board = self._whole(name)
        return board

    def _whole(self, name: str, most: int = MOST_PAGES) -> Board:
        found: dict[int, dict[int, Card]] = {}
        after: str | None = None
        asked = set[str | None]()
        for number in range(1, MOST_PAGES + 1):
            asked.add(after)
            page = self._page(name, after)
            for repository, issue, card in cards(page.id, page.items.nodes, self._plan):
                found.setdefault(repository, {})[issue] = card
            after = page.items.page.end
            if not page.items.page.more or number == most:
                return Board(page, found, number)
            if after in asked:
                raise Retryable(f"the pages of board {name} go round in a circle")
        raise Withheld(
            f"board {name} has more than {MOST_PAGES * PAGE} items; delete those that nobody needs, or leave it out of boards"
        )

    def _page(self, name: str, after: str | None) -> BoardPage:
        owner, _, number = name.partition("/")
        answer = self._client.ask(
            self._query, {"owner": owner, "number": int(number), "after": after, **self._plan.variables()}
        )
        errors = [error for error in answer.get("errors") or () if isinstance(error, dict)]
        if self._query is QUERY and _is_not_understood(answer, errors):
            self._query = PLAIN
            return self._page(name, after)
        told = _dug(answer, "data", "repositoryOwner", "projectV2")
        kinds = {str(error.get("type")) for error in errors}
        if told is None and (kinds & _REFUSALS or (not errors and "data" in answer)):
            raise Withheld(
                "there is no such project, or the token may not see it; correct the name under boards, or let the token read "
                "Projects (of the organisation; read:project of a classic one)"
            )
        # What of its items this account may not see comes without content; of all else nobody knows what it means.
        if told is None or kinds - _REFUSALS:
            raise Retryable(f"GitHub did not tell of board {name}: {', '.join(sorted(kinds)) or 'no reason'}")
        try:
            return BoardPage.model_validate(told)
        except ValidationError as error:
            raise Retryable(f"GitHub's answer about board {name} is not in its shape: {problem(error)}") from None

    def _compare(self, before: Board | None, after: Board, now: datetime) -> None:
        """Note the issues whose cards are not what they were: their time does not always say so. Raises `Withheld` where a
        field that was there is not: each card would be without its value."""
        if before is None:
            return
        had = misfits(before.page, self._plan)
        if lost := [said for field, said in misfits(after.page, self._plan).items() if field not in had]:
            raise Withheld("; ".join(lost))
        for repository in {*before.cards, *after.cards}:
            old, new = before.cards.get(repository, {}), after.cards.get(repository, {})
            differing = {number for number in {*old, *new} if old.get(number) != new.get(number)}
            self._differing.setdefault(repository, {}).update(dict.fromkeys(differing, now))

    # --- what is known

    def card(self, home: Home, number: int) -> Card | None:
        """The card of an issue."""
        return next(filter(None, (board.cards.get(home.id, {}).get(number) for board in self._boards())), None)

    def changes(self, home: Home, number: int) -> Sequence[Change]:
        """What else than its own change an issue was read for by now."""
        card = self.card(home, number)
        return (Change(card.stamp, card.at),) if card else ()

    def moved(self, home: Home, since: datetime | None, differing: Iterable[int]) -> list[Telling]:
        """The issues whose cards changed at or after `since`, or are not what they were. From the beginning all are read anyway."""
        if since is None:
            return []
        of = {
            number: card for board in reversed(self._boards()) for number, card in board.cards.get(home.id, {}).items()
        }
        waiting = self._differing.get(home.id, {})
        new = [
            Telling(card.at, number, card.stamp)
            for number, card in of.items()
            if card.at >= since.replace(microsecond=0) and number not in waiting
        ]
        # By a name of their own: that its stamp was taken says nothing of a card that changed without it.
        return [*new, *(Telling(_BEGINNING, number, f"board's {number}") for number in differing)]

    def differing(self, home: Home) -> Mapping[int, datetime]:
        """The issues whose cards are not what they were when they were handed on, and when that was found; as many as are read
        at a time, since the name of a column changes thousands."""
        return dict(sorted(self._differing.get(home.id, {}).items())[:AT_ONCE])

    def handed_on(self, home: Home, differing: Mapping[int, datetime]) -> None:
        """These were read since, though not those that were found to differ again meanwhile."""
        waiting = self._differing.get(home.id, {})
        for number, found_at in differing.items():
            if waiting.get(number) == found_at:
                del waiting[number]

    def sprints(self, home: Home) -> dict[Ref, Read]:
        """The iterations of the boards that have an issue of this repository."""
        now = self._clock()
        reads = [
            read_sprint(home.id, home.container, board.page, each, now)
            for board in self._boards()
            if board.cards.get(home.id)
            for each in iterations(board.page, self._plan.fields.sprint)
        ]
        return {read.ref: read for read in reads}

    def _boards(self) -> list[Board]:
        return [self._known[name] for name in self._names if name in self._known]


def _is_not_understood(answer: Mapping[str, Any], errors: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a host knows too little for the query: then it says so before it looks for anything."""
    return "data" not in answer and any(isinstance(_dug(error, "extensions", "code"), str) for error in errors)


def _dug(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value
