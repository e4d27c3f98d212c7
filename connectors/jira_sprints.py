"""Jira: the sprints of a project, by the boards that show it, through the API of Jira Software.

A board may show several projects, so a sprint is read as a thing of each project: its id is `PROJECT/SPRINT`. Where
boards cannot be read, whether for want of a right or because Jira fails at them, what is known of sprints stays, and nothing
else is the worse for it; `doctor` says so.

Next on the way of an event: `connectors/jira.py`, which lists sprints beside versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote

from connectors.base import ConnectorError, Read, Ref, Retryable, Withheld
from connectors.jira_client import Client, NotFound, Refused
from connectors.jira_values import dump, instant, maybe, problem, take
from pmsync.core.events import Instant, Sprint

KIND = "sprint"
PAGE = "50"
MOST_PAGES = 400
UNREADABLE = "unreadable"
OPEN = "active,future"
"""The states of sprints that change from day to day; a board that is years old has hundreds of others."""
KANBAN = "kanban"
"""A kind of board without sprints; of the others, those that have none answer 400."""


class Sprints:
    """The sprints that one Jira shows to an account."""

    def __init__(self, client: Client, url: str) -> None:
        self._client = client
        self._url = url
        self._denied: set[str] = set()
        self._open: dict[str, frozenset[Ref]] = {}

    def is_denied(self, container: str) -> bool:
        """Whether the boards of a container could not be read when they were last asked for."""
        return container in self._denied

    def changed(self, project: str, container: str) -> Mapping[Ref, Read]:
        """The sprints of a project that are not closed, or all of them: the first time, after each sweep, and where one that
        was open when they were taken last is so no more."""
        known = self._open.get(container)
        if known is None:
            return self.all(project, container)
        found = self._let(project, container, state=OPEN)
        return found if known <= found.keys() or self.is_denied(container) else self.all(project, container)

    def note_taken(self, container: str, reads: Mapping[Ref, Read]) -> None:
        """What was listed is published. Where nothing could be listed, nothing is known of what happened meanwhile."""
        if self.is_denied(container):
            self._open.pop(container, None)
        else:
            self._open[container] = frozenset(ref for ref, read in reads.items() if _is_open(read))

    def all(self, project: str, container: str) -> Mapping[Ref, Read]:
        """All sprints of the project with this id, each once, though several boards may show it; none where its boards
        cannot be read: that must not keep its issues."""
        self._open.pop(container, None)
        return self._let(project, container)

    def by_id(self, idents: Sequence[str], home: Callable[[str], str]) -> Iterator[Read]:
        """Each of these as its project sees it now; `home` says which container the project with an id is. Raises
        `Withheld` where its boards cannot be read: then nobody knows."""
        for project, some in groupby(sorted(idents), key=lambda ident: ident.partition("/")[0]):
            found = self._of(project, home(project))
            yield from (found.get(ref, Read(ref)) for ref in (Ref(KIND, ident) for ident in some))

    def check(self, project: str, container: str) -> Iterator[str]:
        """A line for `doctor` where the boards of a project, or their sprints, cannot be read."""
        try:
            self._of(project, container)
        except Withheld as error:
            yield f"the sprints of project {container} are not read, the rest is: {error}"

    def _let(self, project: str, container: str, **query: str) -> Mapping[Ref, Read]:
        try:
            return self._of(project, container, **query)
        except Withheld:
            return {}

    def _of(self, project: str, container: str, **query: str) -> Mapping[Ref, Read]:
        self._denied.discard(container)
        found: dict[Ref, Read] = {}
        try:
            for board in self._boards(project):
                for raw in self._on(board, **query):
                    read = read_sprint(raw, project, container, self._url)
                    found[read.ref] = read
        except ConnectorError as error:
            if isinstance(error, Retryable) and error.after is not None:
                raise  # Jira wants to be left alone, and not only with this
            self._denied.add(container)
            raise Withheld(str(error)) from None
        return found

    def _boards(self, project: str) -> list[str]:
        """The ids of the boards that show the project and may have sprints."""
        found = self._pages("board", projectKeyOrId=project)
        return [
            self._client.read(board_id, raw) for raw in found if self._client.read(maybe, raw, "type", str) != KANBAN
        ]

    def _on(self, board: str, **query: str) -> Iterator[Any]:
        """The sprints of a board; none of one that has none (400), or that went away since it was listed."""
        try:
            yield from self._pages(f"board/{quote(board, safe='')}/sprint", **query)
        except NotFound:
            return
        except Refused as error:
            if error.status != 400:
                raise

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


def _is_open(read: Read) -> bool:
    return isinstance(read.content, Sprint) and read.content.state != "closed"


def _identity(raw: Any) -> str:
    try:
        return str(take(raw, "id", int))
    except ValueError:
        return UNREADABLE
