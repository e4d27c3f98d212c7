"""A small GitLab to test a third party's connector against: what it reads of REST v4, as GitLab documents it.

Times are kept in microseconds, compared so, and shown in milliseconds. It refuses what it does not understand: unknown
paths (an unescaped slash in a project's path among them), unknown query parameters, a wrong token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PATH = re.compile(
    r"/api/v4/(?:version|projects/(?P<project>[^/]+)(?P<issues>/issues(?:/(?P<iid>\d+)(?P<events>/resource_state_events))?)?)"
)
PARAMETERS = {"page", "per_page"}
LISTING = PARAMETERS | {"order_by", "sort", "updated_after", "iids[]"}
PAUSE = 7
FAULTS: Mapping[str, tuple[int, Mapping[str, str]]] = {"busy": (429, {"Retry-After": str(PAUSE)}), "error": (500, {})}


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__(status)
        self.status, self.headers = status, headers


@dataclass(slots=True)
class Issue:
    """An issue; `more` is laid over what is shown."""

    iid: int
    created_at: datetime
    updated_at: datetime
    state: str = "opened"
    events: list[dict[str, Any]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Project:
    """A project; `former` are the paths that it had."""

    id: int
    path: str
    issues: dict[int, Issue] = field(default_factory=dict)
    former: set[str] = field(default_factory=set)
    access: str = "enabled"
    made: int = 0


@dataclass(slots=True)
class GitLab:
    """An instance. `faults`: what becomes of the next answers; `journal`: the paths and queries that were asked for."""

    clock: Callable[[], datetime]
    token: str
    projects: list[Project] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    journal: list[str] = field(default_factory=list)

    def add_project(self, path: str) -> Project:
        self.projects.append(Project(len(self.projects) + 4, path))
        return self.projects[-1]

    def open_issue(self, project: Project, at: datetime, **more: Any) -> Issue:
        project.made += 1
        issue = project.issues[project.made] = Issue(project.made, at, at, more={"title": "Add search", **more})
        return issue

    def turn(self, issue: Issue, at: datetime, state: str) -> None:
        """Close or reopen an issue; `state` as the event says it."""
        issue.state, issue.updated_at = "closed" if state == "closed" else "opened", at
        issue.events.append({"id": issue.iid * 1000 + len(issue.events), "created_at": shown(at), "state": state})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        await self._answer(request)(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        self.journal.append(f"{request.scope['raw_path'].decode()}?{request.url.query}")
        fault = self.faults.pop(0) if self.faults else ""
        headers = {"Date": format_datetime(self.clock().astimezone(UTC), usegmt=True)}
        try:
            if fault in FAULTS:
                status, more = FAULTS[fault]
                raise Refusal(status, **more)
            body, link = self._body(request)
        except Refusal as refusal:
            message = json.dumps({"message": f"{refusal.status} refused"})
            return Response(message, refusal.status, {**headers, **refusal.headers}, "application/json")
        text = json.dumps(body)
        return Response(text[: len(text) // 2] if fault == "cut" else text, 200, headers | link, "application/json")

    def _body(self, request: Request) -> tuple[Any, Mapping[str, str]]:
        match = PATH.fullmatch(request.scope["raw_path"].decode())
        if match is None:
            raise Refusal(404)
        if request.headers.get("PRIVATE-TOKEN") != self.token:
            raise Refusal(401)
        query = dict(parse_qsl(request.url.query))
        if query.keys() - (set() if not match["issues"] else PARAMETERS if match["events"] else LISTING):
            raise Refusal(400)
        if match["project"] is None:
            return {"version": "18.5.0", "revision": "0"}, {}
        project = self._project(unquote(match["project"]), match["project"], request)
        if not match["issues"]:
            return {"id": project.id, "path_with_namespace": project.path, "issues_access_level": project.access}, {}
        return self._page(request, query, list(self._found(project, match["iid"], query)))

    def _project(self, name: str, raw: str, request: Request) -> Project:
        for project in self.projects:
            if name in (str(project.id), project.path):
                return project
            if name in project.former:
                raise Refusal(301, Location=str(request.url).replace(raw, str(project.id)))
        raise Refusal(404)

    def _found(self, project: Project, iid: str | None, query: Mapping[str, str]) -> Iterator[dict[str, Any]]:
        if iid is not None:
            if int(iid) not in project.issues:
                raise Refusal(404)
            yield from project.issues[int(iid)].events
            return
        if project.access == "disabled":
            return
        by = query.get("order_by", "created_at")
        issues = sorted(project.issues.values(), key=lambda issue: (getattr(issue, by), -issue.iid))
        after = datetime.fromisoformat(query.get("updated_after", "0001-01-01T00:00:00Z"))
        for issue in issues if query.get("sort") == "asc" else reversed(issues):
            if issue.updated_at >= after and query.get("iids[]") in (None, str(issue.iid)):
                yield self._shown(project, issue)

    def _shown(self, project: Project, issue: Issue) -> dict[str, Any]:
        return {
            "id": project.id * 1000 + issue.iid,
            "iid": issue.iid,
            "project_id": project.id,
            "state": issue.state,
            "issue_type": "issue",
            "created_at": shown(issue.created_at),
            "updated_at": shown(issue.updated_at),
            "labels": [],
            "assignees": [],
            "due_date": None,
            "moved_to_id": None,
            "web_url": f"https://gitlab.example.com/{project.path}/-/issues/{issue.iid}",
            **issue.more,
        }

    def _page(
        self, request: Request, query: Mapping[str, str], found: list[dict[str, Any]]
    ) -> tuple[Any, Mapping[str, str]]:
        page, size = int(query.get("page", "1")), min(int(query.get("per_page", "20")), 100)
        following = request.url.replace(query=urlencode({**query, "page": page + 1}))
        more = len(found) > page * size
        return found[(page - 1) * size : page * size], {"Link": f'<{following}>; rel="next"'} if more else {}


def shown(at: datetime) -> str:
    """A time as GitLab writes it: cut to milliseconds."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
