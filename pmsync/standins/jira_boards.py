"""The boards and sprints of the stand-in for Jira: what the API of Jira Software shows of them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from pmsync.standins.timeline import Refusal, Timeline, stamp

MOST = 50
IN_ISSUES = ("id", "name", "state", "goal", "startDate", "endDate", "completeDate")
"""What the field of an issue shows of a sprint, beside its board."""
STATES = ("closed", "active", "future")
"""In the order in which a board lists its sprints."""


class Board(NamedTuple):
    """A board, and the keys of the projects that it shows."""

    id: int
    name: str
    type: str
    projects: frozenset[str]


class Sprint(NamedTuple):
    """A sprint as it was for some time; `board` is the one that it was made on."""

    id: int
    board: int
    name: str
    goal: str = ""
    starts: datetime | None = None
    ends: datetime | None = None
    activated: datetime | None = None
    completed: datetime | None = None

    @property
    def state(self) -> str:
        return "closed" if self.completed else "active" if self.activated else "future"


class Boards:
    """All boards of a site."""

    def __init__(self) -> None:
        self._boards: dict[int, Timeline] = {}
        self._sprints: dict[int, Timeline] = {}

    # The world

    def add(self, name: str, projects: Collection[str], at: datetime, kind: str = "scrum") -> int:
        """Returns its id; `kind` is scrum, simple (sprints may be switched on) or kanban."""
        ident = len(self._boards) + 1
        self._boards[ident] = Timeline(str(ident))
        self._boards[ident].add(at, Board(ident, name, kind, frozenset(projects)))
        return ident

    def plan(
        self, board: int, name: str, at: datetime, starts: datetime | None = None, ends: datetime | None = None,
        goal: str = "",
    ) -> int:  # fmt: skip
        """A future sprint; returns its id."""
        ident = len(self._sprints) + 1
        self._sprints[ident] = Timeline(str(ident))
        self._sprints[ident].add(at, Sprint(ident, board, name, goal, starts, ends))
        return ident

    def change(self, sprint: int, at: datetime, **changes: Any) -> None:
        """Changes: name, goal, starts, ends."""
        self._sprints[sprint].add(at, self._sprints[sprint].revisions[-1]._replace(**changes))

    def start(self, sprint: int, at: datetime) -> None:
        self.change(sprint, at, activated=at, starts=at)

    def complete(self, sprint: int, at: datetime) -> None:
        """What is left undone in it is moved by whoever writes the world."""
        self.change(sprint, at, completed=at)

    def delete(self, sprint: int, at: datetime) -> None:
        self._sprints[sprint].deleted = at

    # The answers

    def sprint(self, ident: int, moment: datetime) -> Any | None:
        """A sprint as the field of an issue shows it; None where no such sprint was planned."""
        found = self._sprints[ident].at(moment) if ident in self._sprints else None
        if found is None:
            return None
        shown = _sprint(found)
        return {"boardId": found.board} | {name: shown[name] for name in IN_ISSUES if name in shown}

    def page_of_boards(self, project: str, moment: datetime, start: str, most: str) -> Any:
        known = (timeline.at(moment) for timeline in self._boards.values())
        found = [board for board in known if board and project in board.projects]
        return _page([{"id": b.id, "name": b.name, "type": b.type} for b in found], start, most)

    def page_of_sprints(self, board: str, moment: datetime, start: str, most: str, states: str) -> Any:
        wanted = states.split(",") if states else STATES
        if unknown := set(wanted).difference(STATES):
            raise Refusal(400, f"The state must be closed, active or future, and not {min(unknown)!r}.")
        found = self._boards[int(board)].at(moment) if int(board) in self._boards else None
        if found is None:
            raise Refusal(404, "Requested board cannot be viewed because it either does not exist or you do not have permission to view it.")  # fmt: skip
        if found.type == "kanban":
            raise Refusal(400, "The board does not support sprints")
        sprints = [sprint for timeline in self._sprints.values() if (sprint := timeline.at(moment))]
        shown = [sprint for sprint in sprints if self._is_on(sprint, found, moment) and sprint.state in wanted]
        shown.sort(key=lambda sprint: (STATES.index(sprint.state), sprint.id))
        return _page([_sprint(sprint) for sprint in shown], start, most)

    def _is_on(self, sprint: Sprint, board: Board, moment: datetime) -> bool:
        """Its own board shows it, and so do those of the same projects."""
        own = self._boards[sprint.board].at(moment)
        return own is not None and bool(own.projects & board.projects)


def _sprint(sprint: Sprint) -> dict[str, Any]:
    dates = {"startDate": sprint.starts, "endDate": sprint.ends, "completeDate": sprint.completed, "activatedDate": sprint.activated}  # fmt: skip
    return {
        "id": sprint.id,
        "self": f"https://jira.example.com/rest/agile/1.0/sprint/{sprint.id}",
        "state": sprint.state,
        "name": sprint.name,
        "originBoardId": sprint.board,
        "goal": sprint.goal,
    } | {name: stamp(when) for name, when in dates.items() if when}


def _page(values: list[Any], start: str, most: str) -> Any:
    if not (start.isdigit() and most.isdigit() and int(most)):
        raise Refusal(400, "startAt and maxResults must be positive numbers.")
    first, size = int(start), min(int(most), MOST)
    shown = values[first : first + size]
    return {
        "maxResults": size, "startAt": first, "total": len(values), "isLast": first + size >= len(values), "values": shown,
    }  # fmt: skip
