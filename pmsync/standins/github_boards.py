"""The boards (GitHub Projects) of the GitHub stand-in: what its GraphQL API tells of them.

What GitHub's documents and people who use it say: to change an item moves its own time and no time of the issue; only a
status leaves an event, and not always (`telling`). Which order items are in nobody needs here: it is that of their coming.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import count
from typing import Any, Literal, NamedTuple

from pmsync.standins.github_links import Place, Reference
from pmsync.standins.instants import second, text

FIELDS: Mapping[str, str] = {
    "Title": "TITLE",
    "Status": "SINGLE_SELECT",
    "Iteration": "ITERATION",
    "Target date": "DATE",
    "Estimate": "NUMBER",
}
OPTIONS = ("Todo", "In Progress", "Done")
Refused = Literal["", "NOT_FOUND", "FORBIDDEN", "INSUFFICIENT_SCOPES", "RATE_LIMITED", "SOMETHING"]


class Iteration(NamedTuple):
    """Days of a board's iteration field."""

    id: str
    title: str
    starts: date
    days: int


class Moved(NamedTuple):
    """An event of an item's status."""

    id: str
    at: datetime
    old: str
    new: str


@dataclass(slots=True, eq=False)
class Item:
    """An issue, a pull request or (None) a draft on a board, with the values of its fields by the field's name."""

    id: str
    of: Reference | None
    states: list[tuple[datetime, Mapping[str, Any]]]
    events: list[Moved] = field(default_factory=list)
    gone_at: datetime | None = None
    archived: bool = False


@dataclass(slots=True, eq=False)
class Board:
    """A board of this owner."""

    id: str
    owner: str
    number: int
    at: datetime
    fields: dict[str, str]
    options: list[str]
    iterations: list[Iteration] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)


@dataclass(slots=True)
class Boards:
    """All boards of a host. With `known` off it is one of before November 2025; `refused` is what it says instead."""

    find: Callable[[Place], Reference]
    known: bool = True
    telling: bool = True
    refused: Refused = ""
    asked: int = 0
    """How many pages it told."""
    _all: list[Board] = field(default_factory=list)
    _ids: Iterator[int] = field(default_factory=lambda: count(1))

    # --- building

    def add(
        self, owner: str, at: datetime, fields: Mapping[str, str] = FIELDS, options: Sequence[str] = OPTIONS
    ) -> Board:
        """A new board."""
        number = sum(each.owner == owner for each in self._all) + 1
        board = Board(f"PVT_{next(self._ids)}", owner, number, second(at), dict(fields), list(options))
        self._all.append(board)
        return board

    def iterate(self, board: Board, title: str, starts: date, days: int = 14) -> str:
        """A new iteration; returns its id. It is there as of any instant."""
        board.iterations.append(Iteration(f"{next(self._ids):08x}", title, starts, days))
        return board.iterations[-1].id

    def put(self, board: Board, place: Place | None, at: datetime, **values: Any) -> Item:
        """Set `status`, `iteration` (its id), `target_date` or `estimate` of an issue, which is added if it is not there."""
        named = {name.replace("_", " ").capitalize(): value for name, value in values.items()}
        if unknown := set(named) - set(board.fields):
            raise ValueError(f"there is no field {sorted(unknown)}")
        reference, at = self.find(place) if place else None, second(at)
        item = next((each for each in board.items if each.gone_at is None and each.of == reference and place), None)
        if item is None:
            item = Item(f"PVTI_{next(self._ids)}", reference, [(at, {})])
            board.items.append(item)
        before = item.states[-1][1]
        item.states.append((at, {**before, **named}))
        old, new = before.get("Status") or "", named.get("Status", before.get("Status")) or ""
        if old != new and self.telling:
            item.events.append(Moved(f"PVTISC_{next(self._ids)}", at, old, new))
        return item

    def remove(self, board: Board, place: Place, at: datetime) -> None:
        """The item is deleted, and its issue is not."""
        next(each for each in board.items if each.of == self.find(place) and each.gone_at is None).gone_at = second(at)

    def rename_field(self, board: Board, old: str, new: str | None) -> None:
        """A field is called otherwise from now on, or deleted (None), as of any instant; no item's time moves by it."""

        def named(values: Mapping[str, Any]) -> dict[str, Any]:
            renamed = {new if name == old else name: value for name, value in values.items()}
            return {name: value for name, value in renamed.items() if name}

        board.fields = named(board.fields)
        for item in board.items:
            item.states = [(at, named(shown)) for at, shown in item.states]

    def rename_option(self, board: Board, old: str, new: str) -> None:
        """A status is called otherwise from now on, as of any instant; no item's time moves by it."""
        board.options[board.options.index(old)] = new
        for item in board.items:
            item.states = [(at, {k: new if v == old else v for k, v in shown.items()}) for at, shown in item.states]

    # --- answering

    def answer(self, asked: Mapping[str, Any], now: datetime) -> dict[str, Any] | None:
        """The answer to a query about a board; None to any other one."""
        words, given = asked["query"].split(), asked.get("variables", {})
        whole, plain = ((_QUERY % parts).split() for parts in (_WHOLE, _PLAIN))
        if words not in (whole, plain):
            return None
        if set(given) != {"owner", "number", "after", "status", "sprint", "due_date", "estimate"}:
            return {
                "errors": [{"message": "a variable was not given, or is not used", "extensions": {"code": "variable"}}]
            }
        if words == whole and not self.known:
            said = "Field 'items' doesn't accept argument 'archivedStates'"
            return {"errors": [{"message": said, "extensions": {"code": "argumentNotAccepted"}}]}
        if self.refused:
            return {"data": {"repositoryOwner": None}, "errors": [{"type": self.refused, "message": "It is refused."}]}
        board = next(
            (each for each in self._all if each.owner == given["owner"] and each.number == given["number"]), None
        )
        if board is None or board.at > now:
            said = f"Could not resolve to a ProjectV2 with the number {given['number']}."
            return {
                "data": {"repositoryOwner": {"projectV2": None}},
                "errors": [{"type": "NOT_FOUND", "message": said}],
            }
        self.asked += 1
        return {"data": {"repositoryOwner": {"projectV2": _show_board(board, given, now, with_moves=words == whole)}}}


def _show_board(board: Board, given: Mapping[str, Any], now: datetime, *, with_moves: bool) -> dict[str, Any]:
    there = [each for each in board.items if _is_there(each, now, archived=with_moves)]
    start = int(given["after"]) if given["after"] else 0
    shown = [_show_item(board, each, given, now, with_moves=with_moves) for each in there[start : start + _PAGE]]
    end = start + len(shown)
    return {
        "id": board.id,
        "url": f"https://github.com/orgs/{board.owner}/projects/{board.number}",
        "fields": {"nodes": [_show_field(board, name, kind, now) for name, kind in board.fields.items()]},
        "items": {
            "pageInfo": {"hasNextPage": end < len(there), "endCursor": str(end) if shown else None},
            "nodes": shown,
        },
    }


def _is_there(item: Item, now: datetime, *, archived: bool) -> bool:
    is_there = item.states[0][0] <= now and (item.gone_at is None or item.gone_at > now)
    return is_there and (archived or not item.archived) and (item.of is None or item.of.is_there(now))


def _show_field(board: Board, name: str, kind: str, now: datetime) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": name, "dataType": kind}
    if kind == "SINGLE_SELECT":
        shown["options"] = [{"name": option} for option in board.options]
    if kind == "ITERATION":
        lists: dict[bool, list[Any]] = {True: [], False: []}
        for each in board.iterations:
            day = {"id": each.id, "title": each.title, "startDate": each.starts.isoformat(), "duration": each.days}
            lists[(now.date() - each.starts).days >= each.days].append(day)
        shown["configuration"] = {"iterations": lists[False], "completedIterations": lists[True]}
    return shown


_VALUES: Mapping[str, tuple[str, str]] = {
    "status": ("SINGLE_SELECT", "name"),
    "sprint": ("ITERATION", "iterationId"),
    "due_date": ("DATE", "date"),
    "estimate": ("NUMBER", "number"),
}


def _show_item(
    board: Board, item: Item, given: Mapping[str, Any], now: datetime, *, with_moves: bool
) -> dict[str, Any]:
    at, values = item.states[bisect_right(item.states, now, key=lambda state: state[0]) - 1]
    shown: dict[str, Any] = {"id": item.id, "updatedAt": text(at), "content": {}}
    for alias, (kind, name) in _VALUES.items():
        value = values.get(given[alias])
        # Of a field of another type than the query asks for, nothing is shown but that it is there.
        fits = board.fields.get(given[alias]) == kind
        plain = value.isoformat() if isinstance(value, date) else value
        shown[alias] = None if value is None else {name: plain} if fits else {}
    if item.of is not None and item.of.item.head is None:
        shown["content"] = {"number": item.of.item.number, "repository": {"databaseId": item.of.repository.id}}
        if with_moves:
            shown["content"]["timelineItems"] = _show_moves(board, item, now)
    return shown


def _show_moves(board: Board, item: Item, now: datetime) -> dict[str, Any]:
    told = [each for each in item.events if each.at <= now]
    nodes = [
        {
            "id": each.id,
            "createdAt": text(each.at),
            "previousStatus": each.old,
            "status": each.new,
            "project": {"id": board.id},
        }
        for each in told[:100]
    ]
    return {"pageInfo": {"hasNextPage": len(told) > 100}, "nodes": nodes}


_PAGE = 50
# In words of its own, not the connector's: a query that is changed there alone is refused here.
_WHOLE = {
    "archived": ", archivedStates: [ARCHIVED, NOT_ARCHIVED]",
    "moves": """
      timelineItems(first: 100, itemTypes: [PROJECT_V2_ITEM_STATUS_CHANGED_EVENT]) {
        pageInfo { hasNextPage }
        nodes { ... on ProjectV2ItemStatusChangedEvent { id createdAt previousStatus status project { id } } }
      }
    """,
}
_PLAIN = {"archived": "", "moves": ""}
_QUERY = """
query(
  $owner: String!, $number: Int!, $after: String,
  $status: String!, $sprint: String!, $due_date: String!, $estimate: String!
) {
  repositoryOwner(login: $owner) {
    ... on ProjectV2Owner {
      projectV2(number: $number) {
        id
        url
        fields(first: 100) {
          nodes {
            ... on ProjectV2FieldCommon { name dataType }
            ... on ProjectV2SingleSelectField { options { name } }
            ... on ProjectV2IterationField {
              configuration {
                iterations { id title startDate duration }
                completedIterations { id title startDate duration }
              }
            }
          }
        }
        items(first: 50, after: $after%(archived)s) {
          pageInfo { hasNextPage endCursor }
          nodes {
            id
            updatedAt
            status: fieldValueByName(name: $status) { ... on ProjectV2ItemFieldSingleSelectValue { name } }
            sprint: fieldValueByName(name: $sprint) { ... on ProjectV2ItemFieldIterationValue { iterationId } }
            due_date: fieldValueByName(name: $due_date) { ... on ProjectV2ItemFieldDateValue { date } }
            estimate: fieldValueByName(name: $estimate) { ... on ProjectV2ItemFieldNumberValue { number } }
            content { ... on Issue { number repository { databaseId }%(moves)s } }
          }
        }
      }
    }
  }
}
"""
