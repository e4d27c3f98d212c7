"""Jira: the sprints of a project, by the boards that show it, through the API of Jira Software.

A board may show several projects, so a sprint is read as a thing of each project: its id is `PROJECT/SPRINT`. Whoever may
not see boards, or has none, has no sprints, and is told so by `doctor`; nothing else is the worse for it.

Next on the way of an event: `connectors/jira.py`, which lists sprints beside versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any
from urllib.parse import quote

from connectors.base import Mark, Read, Ref, Retryable
from connectors.jira_client import Client, NotFound, Refused
from connectors.jira_things import dump, instant, maybe, problem, take
from pmsync.core.events import Instant, Sprint

KIND = "sprint"
PAGE = "50"
MOST_PAGES = 400
UNREADABLE = "unreadable"
KANBAN = "kanban"
"""A kind of board without sprints; of the others, those that have none answer 400."""
UNSERVED = frozenset({400, 401, 403, 404})
"""No sprints on this board, no scope for boards, no licence for Jira Software, no Jira Software."""


class Sprints:
    """The sprints that one Jira shows to an account."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url

    def of(self, project: str, container: str) -> Mapping[Ref, Read]:
        """All sprints of the project with this id, each once, though several boards may show it."""
        reads = (read_sprint(raw, project, container, self._url) for raw in self._raw(project))
        return {read.ref: read for read in reads}

    def marks(self, project: str) -> list[Mark]:
        """The same as lines of a sweep."""
        return [Mark(ref, None) for ref in self.of(project, "")]

    def by_id(self, idents: Sequence[str], home: Callable[[str], str]) -> Iterator[Read]:
        """Each of these as its project sees it now; `home` says which container the project with an id is."""
        for project, some in groupby(sorted(idents), key=lambda ident: ident.partition("/")[0]):
            found = self.of(project, home(project))
            yield from (found.get(ref, Read(ref)) for ref in (Ref(KIND, ident) for ident in some))

    def denied(self, project: str) -> str | None:
        """Why no sprints of this project are to be had, for `doctor`; None where they are, or where it has none."""
        try:
            self._boards(project)
        except (NotFound, Refused) as error:
            return str(error)
        return None

    def _raw(self, project: str) -> Iterator[Any]:
        boards: list[str] = []
        with _none_where_refused():
            boards = self._boards(project)
        for board in boards:
            with _none_where_refused():
                yield from self._pages(f"board/{quote(board, safe='')}/sprint")

    def _boards(self, project: str) -> list[str]:
        """The ids of the boards that show the project and may have sprints."""
        found = self._pages("board", projectKeyOrId=project)
        return [
            self._client.read(board_id, raw) for raw in found if self._client.read(maybe, raw, "type", str) != KANBAN
        ]

    def _pages(self, path: str, **query: str) -> Iterator[Any]:
        start = 0
        for _ in range(MOST_PAGES):
            answer = self._client.agile(path, startAt=str(start), maxResults=PAGE, **query)
            values = self._client.read(take, answer, "values", list)
            yield from values
            if not values or self._client.read(maybe, answer, "isLast", bool):
                return
            start += len(values)
        raise Retryable(f"Jira's pages of {path} do not come to an end")


@contextmanager
def _none_where_refused() -> Iterator[None]:
    """Take it for nothing that boards or their sprints are not shown, or are not there any more."""
    try:
        yield
    except NotFound:
        pass
    except Refused as error:
        if error.status not in UNSERVED:
            raise


def board_id(raw: Any) -> str:
    """The id of a board."""
    return str(take(raw, "id", int))


def read_sprint(raw: Any, project: str, container: str, url: str) -> Read:
    """A sprint as a read; one that cannot be translated says why."""
    ref = Ref(KIND, f"{project}/{_identity(raw)}")
    try:
        return Read(ref, content=translate_sprint(raw, container, url))
    except (ValueError, OverflowError) as error:
        return Read(ref, problem=problem(error), raw=dump(raw))


def translate_sprint(raw: Any, container: str, url: str) -> Sprint:
    """A sprint as the project `container` sees it, from a board's list or from the field of an issue. Raises ValueError."""
    ident, name = str(take(raw, "id", int)), take(raw, "name", str)
    board = maybe(raw, "originBoardId", int) or maybe(raw, "boardId", int)
    return Sprint.model_validate(
        {
            "key": name,
            "container": container,
            "sprint": ident,
            "title": name,
            "url": "" if board is None else f"{url}/secure/RapidBoard.jspa?rapidView={board}",
            "goal": maybe(raw, "goal", str) or "",
            "state": take(raw, "state", str).lower(),
            # The day on which somebody said that it should begin may differ from the one on which it did.
            "starts_at": _instant(raw, "activatedDate") or _instant(raw, "startDate"),
            "ends_at": _instant(raw, "endDate"),
            "closed_at": _instant(raw, "completeDate"),
        }
    )


def _instant(raw: Any, name: str) -> Instant | None:
    value = maybe(raw, name, object)
    return None if value is None else instant(value, name)


def _identity(raw: Any) -> str:
    try:
        return str(take(raw, "id", int))
    except ValueError:
        return UNREADABLE
