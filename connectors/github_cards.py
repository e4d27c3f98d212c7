"""GitHub: what boards (GitHub Projects) say of an issue: its status, iteration, date and estimate. All of it is pure.

None of these is a field of the issue, and to change one moves no time of the issue. What a board shows of an issue is called
its card here; it has a time of its own. GitHub keeps the history of a card's status alone, in the issue's time line, and not
without gaps. `docs/adr/0030-a-board-is-read-whole.md` says what follows from that.

`connectors/github_boards.py` does the asking.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.base import Read, Ref, problem
from connectors.github_shapes import Raw, Time, raw
from pmsync.core.events import Sprint, StatusCategory

PAGE = 50
"""Items on a page, each with its status' history: a point of the 5,000 that GraphQL has an hour."""
MOST_POINTS = 1e9
MOVED = "moved on a board"
"""What the change of a card's status is called among the events of an issue; GitHub's lists of events have no such kind."""
UNTOLD = ("due_date", "estimate", "sprint")
"""The fields of which boards keep no history."""

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
_MOVES = """
  timelineItems(first: 100, itemTypes: [PROJECT_V2_ITEM_STATUS_CHANGED_EVENT]) {
    pageInfo { hasNextPage }
    nodes { ... on ProjectV2ItemStatusChangedEvent { id createdAt previousStatus status project { id } } }
  }
"""
QUERY = _QUERY % {"archived": ", archivedStates: [ARCHIVED, NOT_ARCHIVED]", "moves": _MOVES}
PLAIN = _QUERY % {"archived": "", "moves": ""}
"""For a host of before November 2025, which knows neither; archived items are then whatever it takes them for."""


# --- what the configuration says --------------------------------------------------------------------------------------


class BoardFields(BaseModel):
    """What the fields of boards are called there; None: not read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: str | None = "Status"
    sprint: str | None = "Iteration"
    due_date: str | None = "Target date"
    estimate: str | None = "Estimate"


TYPES: Mapping[str, str] = {"status": "SINGLE_SELECT", "sprint": "ITERATION", "due_date": "DATE", "estimate": "NUMBER"}
"""What GitHub calls the type that each of these fields must have."""
_NAMES: Mapping[StatusCategory, str] = {
    StatusCategory.todo: "todo, to do, backlog, new, open, ready, planned, up next, next, triage, icebox, no status",
    StatusCategory.in_progress: "in progress, doing, started, active, in development, in review, review, blocked, "
    "in testing, testing, qa, on hold, waiting",
    StatusCategory.done: "done, closed, complete, completed, finished, resolved, shipped, released, merged",
    StatusCategory.dropped: "cancelled, canceled, dropped, rejected, abandoned, duplicate, not planned, wont do, wont fix",
}
_CATEGORIES: Mapping[str, StatusCategory] = {
    name: category for category, names in _NAMES.items() for name in names.split(", ")
}


def plainly(name: str) -> str:
    """A status without what decorates it: `🏗 In progress` and `in-progress` are the same, and so are `Won't do` and
    `wont do`."""
    return " ".join(re.findall(r"[^\W_]+", name.casefold().replace("'", "").replace("’", "")))


class Plan(NamedTuple):
    """How the cards of a source are to be read. `categories`: a status, plainly -> its category, before what is usual."""

    fields: BoardFields
    categories: Mapping[str, StatusCategory]

    def category(self, status: str) -> StatusCategory | None:
        """Where a status stands; None where nobody says."""
        return self.categories.get(plainly(status), _CATEGORIES.get(plainly(status)))

    def variables(self) -> Mapping[str, str]:
        """The names that the query asks for. One that is not wanted is asked for all the same, and not read."""
        usual = BoardFields().model_dump()
        return {name: given or usual[name] for name, given in self.fields.model_dump().items()}


def plan(fields: BoardFields, categories: Mapping[str, StatusCategory]) -> Plan:
    return Plan(fields, {plainly(name): category for name, category in categories.items()})


# --- GitHub's shapes --------------------------------------------------------------------------------------------------

Day = Annotated[date, Field(strict=False)]


class _Iteration(Raw):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    title: str
    start: Annotated[Day, Field(lt=date(9900, 1, 1))] = Field(alias="startDate")
    duration: Annotated[int, Field(ge=1, le=3660)]


class _Configuration(Raw):
    iterations: list[Any]
    completed: list[Any] = Field(alias="completedIterations")


class _Option(Raw):
    name: str


class BoardField(Raw):
    """A field of a board; iterations have a configuration, statuses have options."""

    name: str = ""
    type: str = Field("", alias="dataType")
    options: tuple[_Option, ...] = Field((), strict=False)
    configuration: _Configuration | None = None


class _Fields(Raw):
    nodes: list[BoardField]


class _PageInfo(Raw):
    more: bool = Field(alias="hasNextPage")
    end: str | None = Field(None, alias="endCursor")


class _Items(Raw):
    page: _PageInfo = Field(alias="pageInfo")
    nodes: list[Any]


class BoardPage(Raw):
    """A board with one page of its items, which are looked at one by one."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_=-]{1,100}$")]
    url: str
    fields: _Fields
    items: _Items


class _Repository(Raw):
    id: int = Field(alias="databaseId")


class _Issue(Raw):
    number: int
    repository: _Repository


class _Placed(Raw):
    id: str
    content: _Issue


class _Name(Raw):
    name: str | None = None


class _In(Raw):
    iteration: str | None = Field(None, alias="iterationId")


class _Date(Raw):
    date: Day | None = None


class _Number(Raw):
    number: Annotated[float, Field(ge=-MOST_POINTS, le=MOST_POINTS)] | None = None


class _Project(Raw):
    id: str


class _Move(Raw):
    id: str
    created_at: str = Field(alias="createdAt")
    old: str | None = Field(alias="previousStatus")
    new: str | None = Field(alias="status")
    project: _Project | None


class _Moves(Raw):
    page: _PageInfo = Field(alias="pageInfo")
    nodes: list[_Move]


class _Content(Raw):
    moves: _Moves | None = Field(None, alias="timelineItems")


class _Card(Raw):
    updated_at: Time = Field(alias="updatedAt")
    status: _Name | None = None
    sprint: _In | None = None
    due_date: _Date | None = None
    estimate: _Number | None = None
    content: _Content


# --- translation ------------------------------------------------------------------------------------------------------


class Card(NamedTuple):
    """An issue's item on the board with this id, as it came. `at` is when it changed last, if that can be read."""

    board: str
    at: datetime
    node: Any
    plan: Plan

    @property
    def stamp(self) -> str:
        """One state of it."""
        return f"card {self.node.get('id')}@{self.node.get('updatedAt')}"


class Planned(NamedTuple):
    """What a card says. `moves` are the changes of its status, as events of its issue; None where these are not all."""

    plan: Plan
    status: str | None
    sprint: str | None
    due_date: date | None
    estimate: int | None
    moves: Sequence[Any] | None


def cards(board: str, nodes: Iterable[Any], plan: Plan) -> Iterator[tuple[int, int, Card]]:
    """The issues among the items of a board: repository, number, card. Drafts, pull requests and what this account may not see
    have none."""
    for node in nodes:
        try:
            placed = _Placed.model_validate(node).content
        except ValidationError:
            continue
        yield placed.repository.id, placed.number, Card(board, _changed_at(node), node, plan)


def _changed_at(node: Any) -> datetime:
    try:
        return _Listed.model_validate(node).updated_at
    except ValidationError:  # which its translation says
        return datetime.min.replace(tzinfo=UTC)


class _Listed(Raw):
    updated_at: Time = Field(alias="updatedAt")


def planned(card: Card) -> Planned:
    """What a card says; raises `ValidationError` if it is not in GitHub's shape."""
    found, fields = _Card.model_validate(card.node), card.plan.fields
    iteration = found.sprint.iteration if found.sprint and fields.sprint else None
    number = found.estimate.number if found.estimate and fields.estimate else None
    return Planned(
        plan=card.plan,
        status=(found.status.name or None) if found.status and fields.status else None,
        sprint=sprint_id(card.board, iteration) if iteration else None,
        due_date=found.due_date.date if found.due_date and fields.due_date else None,
        estimate=None if number is None else int((Decimal(str(number)) * 1000).to_integral_value()),
        moves=_moves(card.board, found.content.moves) if fields.status else (),
    )


def _moves(board: str, told: _Moves | None) -> Sequence[Any] | None:
    if told is None or told.page.more:
        return None
    return [
        {"id": move.id, "event": MOVED, "created_at": move.created_at, "left": move.old or "", "column": move.new or ""}
        for move in told.nodes
        if move.project is not None and move.project.id == board
    ]


def sprint_id(board: str, iteration: str) -> str:
    """The id by which issues name an iteration: that of the iteration alone is not said to be one in all GitHub."""
    return f"{board}/{iteration}"


def iterations(page: BoardPage, name: str | None) -> Iterator[Any]:
    """The iterations of the board's field of this name, those that are over first."""
    for field in page.fields.nodes:
        if field.name == name and field.configuration:
            yield from (*field.configuration.completed, *field.configuration.iterations)


def read_sprint(repository: int, container: str, page: BoardPage, iteration: Any, now: datetime) -> Read:
    """An iteration as a repository sees it; what cannot be translated says so. It has no time."""
    ident = iteration.get("id") if isinstance(iteration, dict) else None
    ref = Ref("sprint", f"{repository}/{page.id}/{ident if isinstance(ident, str) else '?'}")
    try:
        return Read(ref, None, translate_sprint(container, page, iteration, now))
    except ValidationError as error:
        return Read(ref, None, problem=problem(error), raw=raw(iteration))


def translate_sprint(container: str, page: BoardPage, iteration: Any, now: datetime) -> Sprint:
    """An iteration; raises `ValidationError` if it is not in GitHub's shape. GitHub has days without a zone for it, and no
    other end than the planned one; whether it is over the days say."""
    found = _Iteration.model_validate(iteration)
    starts = datetime(found.start.year, found.start.month, found.start.day, tzinfo=UTC)
    ends = starts + timedelta(days=found.duration)
    return Sprint(
        key=found.title,
        container=container,
        sprint=sprint_id(page.id, found.id),
        title=found.title,
        url=page.url,
        state="future" if now < starts else "active" if now < ends else "closed",
        starts_at=starts,
        ends_at=ends,
        closed_at=ends if ends <= now else None,
    )


def misfits(page: BoardPage, plan: Plan) -> dict[str, str]:
    """Which of the fields that are wanted a board does not have, and what to do."""
    found = {field.name: field for field in page.fields.nodes}
    known = ", ".join(sorted(filter(None, found)))
    said: dict[str, str] = {}
    for name, wanted in plan.fields.model_dump().items():
        if wanted is None:
            continue
        if wanted not in found:
            said[name] = (
                f"it has no field {wanted!r}, but {known}; write the right one, or null, under board_fields.{name}"
            )
        elif found[wanted].type != TYPES[name]:
            kind = TYPES[name].lower().replace("_", " ")
            said[name] = f"its field {wanted!r} is no {kind}; write another one, or null, under board_fields.{name}"
    return said


def complaints(page: BoardPage, plan: Plan) -> Iterator[str]:
    """What of the configuration does not fit a board."""
    yield from misfits(page, plan).values()
    options = [each.name for field in page.fields.nodes if field.name == plan.fields.status for each in field.options]
    unknown = [name for name in options if plan.category(name) is None]
    if unknown:
        yield (
            f"nobody says whether {', '.join(map(repr, unknown))} is todo, in_progress, done or dropped; "
            "write it under board_statuses"
        )
