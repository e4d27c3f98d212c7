"""GitLab's issues as work items, with the history of their state: a connector of its own, found by pmsync once installed.

A thing's id is PROJECT_ID/IID: neither changes when a project is renamed. What is not read: README.md."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote

import requests
from pydantic import AliasPath, AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError

from connectors import base
from connectors.base import Clock, ConnectorError, Fatal, Mark, Read, Ref, Retryable, SecretRef, Withheld
from pmsync.core.events import Change, WorkItem

TIMEOUT = 30.0
ADVICE: dict[int, tuple[type[Fatal], str]] = {
    301: (Withheld, "the project has another path now; write that one into the configuration"),
    401: (Fatal, "it refuses the token; make a new one and put it where `token` points"),
    403: (Withheld, "the token may not read this; it needs the scope read_api, its owner a role in the project"),
    404: (Withheld, "there is no such project, or the token may not see it; correct the path, or give access"),
}


class GitLabSettings(base.Settings):
    kind: Literal["gitlab"] = "gitlab"
    url: str = Field("https://gitlab.com", pattern=r"^https?://[^\s@?#]+$")
    token: SecretRef
    page_size: int = Field(100, ge=1, le=100)


class Project(BaseModel):
    id: int
    path: str = Field(alias="path_with_namespace")
    issues: str = Field("enabled", alias="issues_access_level")


class Issue(BaseModel):
    iid: int
    created_at: AwareDatetime
    updated_at: AwareDatetime
    title: Any = None  # judged with the work item, as its status is: a bad one costs itself, and not its whole page
    status: Any = Field(None, alias="state")
    type: Any = Field("issue", alias="issue_type")
    url: Any = Field("", alias="web_url")
    labels: tuple[str, ...] = ()
    assignee: str | None = Field(None, validation_alias=AliasPath("assignees", 0, "id"), coerce_numbers_to_str=True)
    due_date: date | None = None
    moved_to_id: int | None = None


class GitLabConnector:
    Settings: ClassVar[type[base.Settings]] = GitLabSettings

    def __init__(self, settings: GitLabSettings, clock: Clock) -> None:
        self.name, self._settings, self._clock, self._session = settings.name, settings, clock, requests.Session()
        self._session.headers["PRIVATE-TOKEN"] = base.usable_token(settings.token.reveal(), "token")

    @classmethod
    def connect(cls, settings: GitLabSettings, clock: Clock) -> Self:
        return cls(settings, clock)

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        for container in containers:
            try:
                next(self._listed(container, None))
            except ConnectorError as problem:
                yield f"{container}: {problem}"

    def now(self) -> datetime:
        return base.http_date(self._get(Any, "version")[1].headers.get("Date")) or self._clock()

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        for project, issues in self._listed(container, since):
            yield [self._read(project, issue) for issue in issues]

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        for project, issues in self._listed(container, None):
            yield [Mark(Ref("work_item", f"{project.id}/{issue.iid}"), issue.updated_at) for issue in issues]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        for ref in refs:
            ident, _, iid = ref.id.partition("/")
            project = self._project(int(ident))  # while that is out of reach, nothing is known to be gone
            found, _ = self._get(list[Issue], f"projects/{project.id}/issues", {"iids[]": iid})
            yield from [self._read(project, issue) for issue in found] or [Read(ref)]

    def _project(self, name: str | int) -> Project:
        project: Project = self._get(Project, f"projects/{quote(str(name), safe='')}")[0]
        if name not in (project.id, project.path):
            raise Withheld(f"GitLab calls {name} {project.path}; write that into the configuration")
        if project.issues == "disabled":  # its list would be empty, as if all were gone
            raise Withheld(f"the issues of {name} are turned off; turn them on, or take it out of the configuration")
        return project

    def _listed(self, container: str, since: datetime | None) -> Iterator[tuple[Project, list[Issue]]]:
        """Each page is asked for from the last time seen: numbered ones shift while issues change, and would hide some."""
        project, page, seen = self._project(container), 1, set[tuple[int, datetime]]()
        while True:
            query = {"order_by": "updated_at", "sort": "asc", "per_page": self._settings.page_size, "page": page}
            after = {"updated_after": since.isoformat()} if since else {}
            issues, answer = self._get(list[Issue], f"projects/{project.id}/issues", query | after)
            yield project, [issue for issue in issues if (issue.iid, issue.updated_at) not in seen]
            if "next" not in answer.links:
                return
            last = issues[-1].updated_at
            page, seen, since = (1, set(), last) if since is None or last > since else (page + 1, seen, since)
            seen |= {(issue.iid, issue.updated_at) for issue in issues if issue.updated_at == last}

    def _read(self, project: Project, issue: Issue) -> Read:
        ref, path = Ref("work_item", f"{project.id}/{issue.iid}"), f"projects/{project.id}/issues/{issue.iid}"
        events, _ = self._get(list[dict[str, Any]], f"{path}/resource_state_events", {"per_page": 100})
        try:
            return Read(ref, issue.updated_at, work_item(project.path, issue, events))
        except ValidationError as error:
            return Read(ref, issue.updated_at, None, base.problem(error), issue.model_dump_json().encode())

    def _get(self, shape: Any, path: str, query: dict[str, Any] | None = None) -> tuple[Any, requests.Response]:
        url = f"{self._settings.url.rstrip('/')}/api/v4/{path}"
        try:  # no redirect is followed: the token would go along
            answer = self._session.get(url, params=query, timeout=TIMEOUT, allow_redirects=False)
            if answer.status_code == 200:
                return TypeAdapter(shape).validate_json(answer.content), answer
        except (requests.RequestException, ValidationError) as error:
            raise Retryable(f"GitLab at {base.unreached(url, error)}") from None
        status, what = answer.status_code, f"GitLab answered {answer.status_code} to {path}"
        if status in (408, 429) or status >= 500:
            raise Retryable(what, base.retry_after(answer.headers.get("Retry-After"), self._clock()))
        kind, advice = ADVICE.get(status, (Fatal, "is the source's url that of a GitLab?"))
        raise kind(f"{what}: {advice}")


def work_item(container: str, issue: Issue, events: Sequence[dict[str, Any]]) -> WorkItem:
    """An issue is closed and opened in turn; a history that does not lead to its present state so is not told."""
    category = {"opened": "todo", "closed": "dropped" if issue.moved_to_id else "done"}
    states = ["opened", *("closed" if event.get("state") == "closed" else "opened" for event in events)]
    whole = states[-1] == issue.status and all(a != b for a, b in pairwise(states)) and len(events) < 100
    history = [
        Change(field=field, old=of[old], new=of[new], at=event["created_at"], id=f"{event['id']}/{field}")
        for event, (old, new) in zip(events, pairwise(states), strict=True)
        for field, of in (("status", {"opened": "opened", "closed": "closed"}), ("status_category", category))
    ]
    return WorkItem.model_validate(issue.model_dump() | {
        "key": f"{container}#{issue.iid}", "container": container, "status_category": category.get(str(issue.status)),
        "blocked": "blocked" in map(str.casefold, issue.labels), "history": history if whole else (),
        "untracked": ("assignee", "due_date", "blocked", *(() if whole else ("status", "status_category"))),
    })  # fmt: skip
