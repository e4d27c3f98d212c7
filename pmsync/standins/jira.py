"""A stand-in for Jira Cloud over HTTP: the world as it was at `clock()`, from a full history that is written beforehand.

It is strict so that it can stand for the real one in tests: what it does not understand it refuses, and where Jira may
answer in a way that is awkward for a reader (an index that lags, small pages, times of day that come twice) it does.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pmsync.standins.jira_boards import Boards
from pmsync.standins.jira_hooks import DynamicHooks
from pmsync.standins.timeline import Refusal, Timeline, stamp

POINTS_FIELD = "customfield_10016"
SPRINT_FIELD = "customfield_10020"
FLAGGED_FIELD = "customfield_10021"
MAX_ISSUES_PER_FETCH = 100
MAX_ISSUES_PER_CHANGELOG = 1000
WORKLOGS_SHOWN = 20
"""So many worklogs an issue shows at the most."""
WORDS = "What somebody wrote with the time that they logged."


class StandinStatus(NamedTuple):
    """A workflow status: its id and the key of its category."""

    id: str
    category: str


STATUSES: Mapping[str, StandinStatus] = {
    "Backlog": StandinStatus("10000", "new"),
    "To Do": StandinStatus("10001", "new"),
    "In Progress": StandinStatus("3", "indeterminate"),
    "In Review": StandinStatus("10002", "indeterminate"),
    "Done": StandinStatus("10003", "done"),
}
CATEGORY_IDS = {"undefined": 1, "new": 2, "done": 3, "indeterminate": 4}
RESOLUTIONS = {
    "Done": "10000",
    "Won't Do": "10001",
    "Duplicate": "10002",
    "Cannot Reproduce": "10003",
    "Declined": "10004",
}
TYPES = {"Story": "10004", "Task": "10005", "Bug": "10006", "Epic": "10007", "Sub-task": "10008"}
CUSTOM_FIELDS = (
    (POINTS_FIELD, "Story point estimate", "number", "com.pyxis.greenhopper.jira:jsw-story-points"),
    (SPRINT_FIELD, "Sprint", "array", "com.pyxis.greenhopper.jira:gh-sprint"),
    (FLAGGED_FIELD, "Flagged", "array", "com.atlassian.jira.plugin.system.customfieldtypes:multicheckboxes"),
)
LINK_TYPES = {
    "Blocks": {"id": "10000", "name": "Blocks", "inward": "is blocked by", "outward": "blocks"},
    "Duplicate": {"id": "10002", "name": "Duplicate", "inward": "is duplicated by", "outward": "duplicates"},
    "Relates": {"id": "10003", "name": "Relates", "inward": "relates to", "outward": "relates to"},
}
SYSTEM_FIELDS = (
    "summary", "issuetype", "project", "status", "assignee", "duedate", "created", "updated", "fixVersions", "labels", "parent",
    "resolution", "timeoriginalestimate", "timespent", "timeestimate", "issuelinks", "worklog",
)  # fmt: skip


class Person(NamedTuple):
    """Who has an account, as far as they let it be seen."""

    name: str
    mail: str | None = None
    type: str = "atlassian"
    active: bool = True


class Linked(NamedTuple):
    """A link as one of its issues has it; `side` is that of the other one, inward or outward."""

    id: str
    type: str
    side: str
    issue: str


class Logged(NamedTuple):
    """A worklog."""

    id: str
    created: datetime
    updated: datetime
    started: datetime
    seconds: int
    by: str | None


@dataclass(frozen=True, slots=True)
class Fields:
    """What people can set on an issue. Sprints and versions are ids, a parent the id of an issue, times seconds."""

    title: str
    type: str
    status: str = "To Do"
    assignee: str | None = None
    due_date: date | None = None
    story_points: float | None = None
    original_estimate: int | None = None
    time_spent: int | None = None
    remaining_estimate: int | None = None
    fix_versions: tuple[str, ...] = ()
    sprints: tuple[int, ...] = ()
    flagged: bool = False
    parent: str | None = None
    labels: tuple[str, ...] = ()
    resolution: str | None = None
    links: tuple[Linked, ...] = ()
    worklogs: tuple[Logged, ...] = ()


@dataclass(frozen=True, slots=True)
class Revision:
    """An issue from `at` on; `items` and `id` are the changelog's record of how it came to be so."""

    at: datetime
    id: int
    project: str
    key: str
    fields: Fields
    items: tuple[Mapping[str, Any], ...] = ()


@dataclass(slots=True)
class Project:
    """A project. `key` is its first one, by which the world is written; `keys` are those that it got later."""

    id: str
    key: str
    name: str
    at: datetime
    keys: list[tuple[datetime, str]] = field(default_factory=list)
    gone_at: datetime | None = None

    def is_there(self, moment: datetime) -> bool:
        return self.at <= moment and (self.gone_at is None or moment < self.gone_at)

    def keys_until(self, moment: datetime) -> Sequence[str]:
        """All that it ever bore, the present one last."""
        return [self.key, *(key for at, key in self.keys if at <= moment)]

    def shown(self, key: str, moment: datetime) -> str:
        """How an issue's key reads at a moment."""
        return f"{self.keys_until(moment)[-1]}-{key.rpartition('-')[2]}"


class Version(NamedTuple):
    """A version as it was for some time."""

    id: str
    project: str
    name: str
    release_date: date | None = None
    start_date: date | None = None
    released: bool = False
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """An answer given instead of the real one, to the next `times` requests whose path contains `path`."""

    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    times: int = 1
    path: str = ""
    content_type: str = "application/json"


HTML = Fault(status=200, body=b"<!doctype html><title>Log in</title>", content_type="text/html")
TRUNCATED = Fault(status=200, body=b'{"issues": [{"id": "1')


class JiraSite:
    """One Jira site. Writing methods take `at`, and each issue's are called in the order of time.

    `max_page` caps every page; `index_lag` is how many seconds `search/jql` is behind; `points_per_hour` is the quota
    (one for a request and one for each thing in its answer), which begins anew with each hour of `clock`.
    """

    routes: ClassVar[Sequence[tuple[str, str, set[str], Callable[..., Any]]]] = ()

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        email: str = "pmsync@example.com",
        token: str = "standin-token",  # noqa: S107  a stand-in guards nothing
        time_zone: str = "UTC",
        max_page: int = 100,
        index_lag: float = 0.0,
        points_per_hour: int | None = None,
    ) -> None:
        self.clock = clock
        self.time_zone = time_zone
        self.max_page = max_page
        self.index_lag = index_lag
        self.points_per_hour = points_per_hour
        self.statuses: dict[str, StandinStatus] = dict(STATUSES)
        self.boards = Boards()
        self.hooks = DynamicHooks()
        self.people: dict[str, Person] = {}
        self.faults: deque[Fault] = deque()
        self.requests: list[tuple[str, str]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE"])])
        self.credentials = base64.b64encode(f"{email}:{token}".encode()).decode()
        self._caller = ""
        self._projects: dict[str, Project] = {}
        self._versions: dict[str, Timeline] = {}
        self._issues: dict[str, Timeline] = {}
        self._counts: dict[str, int] = {}
        self._spent: tuple[datetime | None, int] = (None, 0)
        self._listed: tuple[tuple[datetime, int], list[tuple[str, Revision]]] | None = None
        self._lock = threading.Lock()

    # The world

    def add_project(self, key: str, name: str, at: datetime | None = None) -> str:
        project = Project(self._next("project", 10000), key, name, at or datetime.min.replace(tzinfo=UTC))
        self._projects[key] = project
        return project.id

    def rename_project(self, project: str, at: datetime, key: str) -> None:
        """A new key. The old ones still lead to it, in JQL and by REST; issues show the new one, in no changelog."""
        self._projects[project].keys.append((at, key))

    def remove_project(self, project: str, at: datetime) -> None:
        """It is deleted, or hidden from this account."""
        self._projects[project].gone_at = at

    def add_version(
        self, project: str, name: str, release_date: date | None = None, *, at: datetime, start_date: date | None = None
    ) -> str:
        ident = self._next("version", 20000)
        timeline = self._versions[ident] = Timeline(ident)
        timeline.add(at, Version(ident, self._projects[project].key, name, release_date, start_date))
        return ident

    def update_version(self, ident: str, at: datetime, **changes: Any) -> None:
        """Changes: name, release_date, start_date, released, archived."""
        timeline = self._versions[ident]
        timeline.add(at, timeline.revisions[-1]._replace(**changes))

    def release_version(self, ident: str, at: datetime, release_date: date | None = None) -> None:
        self.update_version(ident, at, released=True, release_date=release_date or at.date())

    def delete_version(self, ident: str, at: datetime) -> None:
        """Issues lose it at the same moment, with an entry in their changelog."""
        self._versions[ident].deleted = at
        for issue in self._issues.values():
            kept = tuple(v for v in issue.revisions[-1].fields.fix_versions if v != ident)
            if issue.deleted is None and kept != issue.revisions[-1].fields.fix_versions:
                self._revise(issue.id, at, fix_versions=kept)

    def create_issue(self, project: str, at: datetime, title: str, type: str = "Story", **fields: Any) -> str:  # noqa: A002
        """Returns the id. Fields are those of `change_issue`."""
        ident = self._next("issue", 30000)
        timeline = self._issues[ident] = Timeline(ident)
        key = f"{self._projects[project].key}-{self._next(f'issue of {project}', 0)}"
        timeline.add(at, Revision(at, 0, project, key, Fields(title, type, **_plural(fields))))
        self._check(timeline.revisions[-1].fields)
        return ident

    def change_issue(self, ident: str, at: datetime, **fields: Any) -> None:
        """Fields: title, type, status, resolution, assignee, due_date, story_points, original_estimate, time_spent,
        remaining_estimate, flagged, parent, labels, and one or a tuple of `fix_version` and `sprint`. What does not change
        leaves no trace."""
        self._revise(ident, at, **_plural(fields))

    def log_work(
        self, ident: str, at: datetime, seconds: int, started: datetime | None = None, by: str | None = None
    ) -> str:
        """Time spent, by the assignee where nobody else is named; the remaining estimate, if there is one, is the less for
        it. Returns the id of the worklog."""
        now: Fields = self._issues[ident].revisions[-1].fields
        left = None if now.remaining_estimate is None else max(0, now.remaining_estimate - seconds)
        begun = started or at - timedelta(seconds=seconds)
        new = Logged(self._next("worklog", 60000), at, at, begun, seconds, by or now.assignee)
        self._log(ident, at, (*now.worklogs, new), remaining_estimate=left)
        return new.id

    def change_worklog(self, ident: str, at: datetime, worklog: str, **changes: Any) -> None:
        """Changes: started, seconds."""
        logs = self._issues[ident].revisions[-1].fields.worklogs
        self._log(ident, at, tuple(w._replace(updated=at, **changes) if w.id == worklog else w for w in logs))

    def delete_worklog(self, ident: str, at: datetime, worklog: str) -> None:
        logs = self._issues[ident].revisions[-1].fields.worklogs
        self._log(ident, at, tuple(each for each in logs if each.id != worklog))

    def _log(self, ident: str, at: datetime, worklogs: tuple[Logged, ...], **fields: Any) -> None:
        """The time spent is what is logged, and what was set before anything was."""
        now: Fields = self._issues[ident].revisions[-1].fields
        spent = (now.time_spent or 0) + sum(w.seconds for w in worklogs) - sum(w.seconds for w in now.worklogs)
        self._revise(ident, at, time_spent=spent, worklogs=worklogs, **fields)

    def move_issue(self, ident: str, at: datetime, project: str) -> None:
        """To another project: a new key; versions stay behind, since they belong to the old one."""
        before: Revision = self._issues[ident].revisions[-1]
        old, new = self._projects[before.project], self._projects[project]
        key = f"{project}-{self._next(f'issue of {project}', 0)}"
        items = (
            _item("project", "project", old.id, old.name, new.id, new.name),
            _item("Key", None, None, old.shown(before.key, at), None, new.shown(key, at)),
            *self._items(before.fields, replace(before.fields, fix_versions=())),
        )
        fields = replace(before.fields, fix_versions=())
        revision = Revision(at, self._next_number("history", 40000), project, key, fields, items)
        self._issues[ident].add(at, revision)

    def link_issue(self, ident: str, at: datetime, other: str, kind: str = "Blocks") -> None:
        """What is said of it is the outward side of the type: it blocks the other one."""
        number = self._next("link", 50000)
        for one, side, end in ((ident, "outward", other), (other, "inward", ident)):
            links = self._issues[one].revisions[-1].fields.links
            self._revise(one, at, links=(*links, Linked(number, kind, side, end)))

    def unlink_issue(self, ident: str, at: datetime, other: str) -> None:
        """All links between the two are removed."""
        self._unlink(ident, at, other)
        self._unlink(other, at, ident)

    def _unlink(self, ident: str, at: datetime, other: str) -> None:
        links = self._issues[ident].revisions[-1].fields.links
        self._revise(ident, at, links=tuple(link for link in links if link.issue != other))

    def delete_issue(self, ident: str, at: datetime) -> None:
        """Issues that it is linked to lose the links at the same moment, with an entry in their changelogs."""
        for link in self._issues[ident].revisions[-1].fields.links:
            self._unlink(link.issue, at, ident)
        self._issues[ident].deleted = at

    def _revise(self, ident: str, at: datetime, **fields: Any) -> None:
        before: Revision = self._issues[ident].revisions[-1]
        after = replace(before.fields, **fields)
        self._check(after)
        items = self._items(before.fields, after)
        if items:
            number = self._next_number("history", 40000)
            self._issues[ident].add(at, replace(before, at=at, id=number, fields=after, items=items))

    def _check(self, fields: Fields) -> None:
        unknown = {fields.status} - set(self.statuses) | {fields.type} - set(TYPES)
        unknown |= {fields.resolution or "Done"} - set(RESOLUTIONS)
        if unknown or not set(fields.fix_versions) <= set(self._versions):
            raise ValueError(f"no such status, type, resolution or version: {fields}")

    def _items(self, old: Fields, new: Fields) -> tuple[Mapping[str, Any], ...]:
        plain = (
            _item(name, ident, *before, *after)
            for name, ident, side in FACETS
            if (before := side(self, old)) != (after := side(self, new))
        )
        versions = self._version_items(old.fix_versions, new.fix_versions)
        touched = {each.id for each in set(old.worklogs) ^ set(new.worklogs)}
        logs = (_item("WorklogId", None, number, number, None, None) for number in sorted(touched))
        return (*plain, *versions, *self._link_items(old.links, new.links), *logs)

    def _version_items(self, old: Sequence[str], new: Sequence[str]) -> list[Mapping[str, Any]]:
        def name(ident: str) -> str:
            return str(self._versions[ident].revisions[-1].name)

        gone = [_item("Fix Version", "fixVersions", v, name(v), None, None) for v in old if v not in new]
        return gone + [_item("Fix Version", "fixVersions", None, None, v, name(v)) for v in new if v not in old]

    def _link_items(self, old: Sequence[Linked], new: Sequence[Linked]) -> list[Mapping[str, Any]]:
        def words(link: Linked) -> Side:
            key = str(self._issues[link.issue].revisions[-1].key)
            return key, f"This issue {LINK_TYPES[link.type][link.side]} {key}"

        gone = [_item("Link", None, *words(link), None, None) for link in old if link not in new]
        return gone + [_item("Link", None, None, None, *words(link)) for link in new if link not in old]

    def _parent(self, ident: str | None) -> tuple[str | None, str | None]:
        return (ident, self._issues[ident].revisions[-1].key) if ident else (None, None)

    def _next_number(self, kind: str, start: int) -> int:
        self._counts[kind] = self._counts.get(kind, start) + 1
        return self._counts[kind]

    def _next(self, kind: str, start: int) -> str:
        return str(self._next_number(kind, start))

    # The answers

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        with self._lock:
            response = self._respond(request, body)
        response.headers.setdefault("Date", format_datetime(self.clock().astimezone(UTC), usegmt=True))
        return response

    def _respond(self, request: Request, body: bytes) -> Response:
        self.requests.append((request.method, request.url.path))
        fault = next((fault for fault in self.faults if fault.path in request.url.path), None)
        if fault is not None:
            return self._fail(fault)
        try:
            answer = self._dispatch(request, body)
            return Response(status_code=202) if answer is None else JSONResponse(self._charged(answer))
        except Refusal as refusal:
            error = {"errorMessages": [refusal.message], "errors": {}}
            return JSONResponse(error, refusal.status, headers=dict(refusal.headers))

    def _fail(self, fault: Fault) -> Response:
        self.faults.remove(fault)
        if fault.times > 1:
            self.faults.appendleft(replace(fault, times=fault.times - 1))
        return Response(fault.body, fault.status, headers=dict(fault.headers), media_type=fault.content_type)

    def _dispatch(self, request: Request, body: bytes) -> Any:
        self._authorise(request)
        self._afford(1)
        for method, path, names, handler in self.routes:
            match = re.fullmatch(path, request.url.path)
            if match and method == request.method:
                sent = _query(request) if method == "GET" else _json(body)
                unknown = sorted(set(sent) - names)
                if unknown:
                    raise Refusal(400, f"Unknown parameter: {', '.join(unknown)}")
                return handler(self, *match.groups(), **sent)
        if re.fullmatch(r"/rest/api/[23]/search", request.url.path):
            raise Refusal(410, "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.")
        raise Refusal(404, "Not Found")

    def _authorise(self, request: Request) -> None:
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic" or credentials != self.credentials:
            raise Refusal(401, "Client must be authenticated to access this resource.")
        self._caller = request.headers.get("X-Standin-App", "")

    def _afford(self, points: int) -> None:
        now = self.clock()
        hour = now.replace(minute=0, second=0, microsecond=0)
        spent = points + (self._spent[1] if self._spent[0] == hour else 0)
        if self.points_per_hour is not None and spent > self.points_per_hour:
            wait = int((hour + timedelta(hours=1) - now).total_seconds()) + 1
            reason = {"Retry-After": str(wait), "RateLimit-Reason": "jira-quota-tenant-based"}
            raise Refusal(429, "Rate limit exceeded.", reason)
        self._spent = (hour, spent)

    def _charged(self, answer: Any) -> Any:
        things = (
            answer
            if isinstance(answer, list)
            else answer.get("issues", answer.get("issueChangeLogs", answer.get("values", [])))
        )
        hour, spent = self._spent
        self._spent = (hour, spent + len(things))
        return answer

    def _search(
        self,
        jql: str = "",
        fields: Sequence[str] = (),
        maxResults: str = "50",  # noqa: N803
        nextPageToken: str = "",  # noqa: N803
    ) -> Any:
        project, since = self._parse(jql)
        moment = self.clock() - timedelta(seconds=self.index_lag)
        after = _untoken(nextPageToken, jql)
        hits = [
            (ident, revision)
            for ident, revision in self._index(moment)
            if revision.project in project and revision.at >= since and (after is None or _order(revision) > after)
        ]
        page = hits[: self._size(maxResults)]
        issues = [self._issue(ident, revision, fields or ["id"], moment) for ident, revision in page]
        if len(hits) == len(page):
            return {"issues": issues, "isLast": True}
        return {"issues": issues, "isLast": False, "nextPageToken": _token(jql, _order(page[-1][1]))}

    def _approximate_count(self, jql: str = "") -> Any:
        projects, since = self._parse(f"{jql} ORDER BY updated ASC, key ASC")
        moment = self.clock() - timedelta(seconds=self.index_lag)
        found = [one for _, one in self._index(moment) if one.project in projects and one.at >= since]
        return {"count": len(found)}

    def _index(self, moment: datetime) -> list[tuple[str, Revision]]:
        """Every issue at a moment, in the order of the only sorting that is known; kept for the next page."""
        issues = list(self._issues.items())
        stamp = (moment, sum(len(issue.revisions) + (issue.deleted is not None) for _, issue in issues))
        if self._listed is None or self._listed[0] != stamp:
            found = [(ident, revision) for ident, issue in issues if (revision := issue.at(moment))]
            self._listed = stamp, sorted(found, key=lambda hit: _order(hit[1]))
        return self._listed[1]

    def _parse(self, jql: str) -> tuple[set[str], datetime]:
        match = re.fullmatch(JQL, jql)
        if match is None:
            raise Refusal(
                400, "Error in the JQL Query: only a bounded query for projects, by time of change, is known."
            )
        names = {re.sub(r"\\(.)", r"\1", name) for name in re.findall(QUOTED, match["project"])}
        known = {
            key.casefold(): project.key
            for project in self._projects.values()
            if project.is_there(self.clock())
            for key in project.keys_until(self.clock())
        }
        projects = {known.get(name.casefold(), "") for name in names}
        unknown = [name for name in names if name.casefold() not in known]
        if unknown:
            raise Refusal(400, f"The value '{sorted(unknown)[0]}' does not exist for the field 'project'.")
        if match["since"] is None:
            return projects, datetime.min.replace(tzinfo=UTC)
        try:
            naive = datetime.strptime(match["since"], "%Y/%m/%d %H:%M")  # noqa: DTZ007  the zone is the account's
        except ValueError as error:
            raise Refusal(400, f"Date value '{match['since']}' for field 'updated' is invalid.") from error
        # Of an hour that comes twice, the later one: so a reader that did not think of it loses an hour.
        return projects, naive.replace(tzinfo=ZoneInfo(self.time_zone), fold=1).astimezone(UTC)

    def _size(self, asked: str | int) -> int:
        if not str(asked).isdigit() or int(asked) < 1:
            raise Refusal(400, "maxResults must be a positive number.")
        return min(int(asked), self.max_page)

    def _bulk_issues(self, issueIdsOrKeys: Any = (), fields: Any = ("*navigable",)) -> Any:  # noqa: N803
        now = self.clock()
        idents = _strings(issueIdsOrKeys, MAX_ISSUES_PER_FETCH)
        issues = [
            self._issue(ident, revision, _strings(fields, 1000), now)
            for ident in dict.fromkeys(idents)
            if ident in self._issues
            and (revision := self._issues[ident].at(now))
            and self._projects[revision.project].is_there(now)
        ]
        return {"issues": issues, "issueErrors": []}

    def _one_issue(self, ident: str, expand: str = "") -> Any:
        """One issue, as a client without the bulk requests asks for it."""
        now = self.clock()
        found = self._issues.get(ident)
        revision = found.at(now) if found else None
        if found is None or revision is None or not self._projects[revision.project].is_there(now):
            raise Refusal(404, "Issue does not exist or you do not have permission to see it.")
        issue = self._issue(ident, revision, list(self._fields(ident, revision, now)), now)
        if expand != "changelog":
            return issue
        past = [self._history(ident, each.id) for each in reversed(found.until(now)) if each.items]
        return issue | {"changelog": {"startAt": 0, "maxResults": len(past), "total": len(past), "histories": past}}

    def _bulk_changelogs(
        self,
        issueIdsOrKeys: Any = (),  # noqa: N803
        maxResults: Any = 1000,  # noqa: N803
        nextPageToken: str = "",  # noqa: N803
    ) -> Any:
        now = self.clock()
        idents = _strings(issueIdsOrKeys, MAX_ISSUES_PER_CHANGELOG)
        place = json.dumps(idents)
        after = _untoken(nextPageToken, place)
        entries = sorted(
            (_sortable(revision.at), int(ident), revision.id)
            for ident in set(idents)
            if ident in self._issues and self._issues[ident].at(now)
            for revision in self._issues[ident].until(now)
            if revision.items
        )
        rest = [entry for entry in entries if after is None or list(entry) > after]
        page = rest[: self._size(maxResults)]
        shown: dict[str, list[Any]] = {}
        for _, ident, number in page:
            shown.setdefault(str(ident), []).append(self._history(str(ident), number))
        logs = [{"issueId": ident, "changeHistories": histories} for ident, histories in shown.items()]
        return {"issueChangeLogs": logs, "nextPageToken": _token(place, page[-1]) if len(rest) > len(page) else None}

    def _history(self, ident: str, number: int) -> Any:
        revision = next(revision for revision in self._issues[ident].revisions if revision.id == number)
        return {"id": str(number), "created": stamp(revision.at), "items": list(revision.items)}

    def _issue(self, ident: str, revision: Revision, names: Sequence[str], moment: datetime) -> Any:
        known = self._fields(ident, revision, moment)
        unknown = set(names) - set(known) - {"id"}
        if unknown:
            raise Refusal(400, f"Unknown field: {sorted(unknown)[0]}")
        key = self._projects[revision.project].shown(revision.key, moment)
        issue = {"id": ident, "key": key, "self": f"https://jira.example.com/rest/api/3/issue/{ident}"}
        shown = {name: known[name] for name in names if name != "id"}
        return issue | ({"fields": shown} if shown else {})

    def _fields(self, ident: str, revision: Revision, moment: datetime) -> dict[str, Any]:
        fields, project = revision.fields, self._projects[revision.project]
        parent = self._issues[fields.parent].at(moment) if fields.parent else None
        versions = [self._versions[v].at(moment) or self._versions[v].revisions[-1] for v in fields.fix_versions]
        return {
            "summary": fields.title,
            "issuetype": {"id": TYPES[fields.type], "name": fields.type, "subtask": fields.type == "Sub-task"},
            "project": {"id": project.id, "key": project.keys_until(moment)[-1], "name": project.name},
            "resolution": fields.resolution and {"id": RESOLUTIONS[fields.resolution], "name": fields.resolution},
            "status": self._status(fields.status),
            "assignee": fields.assignee and self._user(fields.assignee),
            "duedate": fields.due_date and fields.due_date.isoformat(),
            "created": stamp(self._issues[ident].times[0]),
            "updated": stamp(revision.at),
            "fixVersions": [{"id": v.id, "name": v.name, "released": v.released} for v in versions],
            "labels": list(fields.labels),
            "parent": parent
            and {
                "id": fields.parent,
                "key": self._projects[parent.project].shown(parent.key, moment),
            },
            "timeoriginalestimate": fields.original_estimate,
            "timespent": fields.time_spent,
            "timeestimate": fields.remaining_estimate,
            "issuelinks": [
                {"id": link.id, "type": LINK_TYPES[link.type], f"{link.side}Issue": shown}
                for link in fields.links
                if (shown := self._linked(link.issue, moment))
            ],
            "worklog": self._page_of_worklogs(ident, fields.worklogs, 0, WORKLOGS_SHOWN),
            POINTS_FIELD: fields.story_points,
            SPRINT_FIELD: [
                self.boards.sprint(s, moment)
                or {"id": s, "name": f"Sprint {s}", "state": "active" if s == fields.sprints[-1] else "closed"}
                for s in fields.sprints
            ]
            or None,
            FLAGGED_FIELD: [{"id": "10019", "value": "Impediment"}] if fields.flagged else None,
        }

    def _worklogs(self, ident: str, startAt: str = "0", maxResults: str = "5000") -> Any:  # noqa: N803
        if not startAt.isdigit():
            raise Refusal(404, "startAt must be a number.")
        return self._page_of_worklogs(ident, self._logged(ident), int(startAt), self._size(maxResults))

    def _logged(self, ident: str) -> Sequence[Logged]:
        moment, found = self.clock(), self._issues.get(ident)
        revision = found.at(moment) if found else None
        if revision is None or not self._projects[revision.project].is_there(moment):
            raise Refusal(404, "Issue does not exist or you do not have permission to see it.")
        return tuple(revision.fields.worklogs)

    def _page_of_worklogs(self, ident: str, worklogs: Sequence[Logged], start: int, size: int) -> Any:
        shown = [self._worklog(ident, each) for each in worklogs[start : start + size]]
        return {"startAt": start, "maxResults": size, "total": len(worklogs), "worklogs": shown}

    def _worklog(self, ident: str, log: Logged) -> dict[str, Any]:
        who = log.by and self._user(log.by)
        times = {"created": stamp(log.created), "updated": stamp(log.updated), "started": stamp(log.started)}
        return {
            "self": f"https://jira.example.com/rest/api/3/issue/{ident}/worklog/{log.id}",
            **({"author": who, "updateAuthor": who} if who else {}),
            "comment": self._rich(WORDS),
            **times,
            "timeSpent": f"{log.seconds // 60}m",
            "timeSpentSeconds": log.seconds,
            "id": log.id,
            "issueId": ident,
        }

    def _user(self, ident: str) -> dict[str, Any]:
        return {"accountId": ident, "active": True}

    def _profiles(self, accountId: Sequence[str] = (), startAt: str = "0", maxResults: str = "10") -> Any:  # noqa: N803
        """Those of these accounts that there are."""
        if not accountId:
            raise Refusal(400, "At least one accountId must be given.")
        size, start = self._size(maxResults), int(startAt)
        found = [ident for ident in accountId if ident in self.people]
        users = [self._profile(ident, self.people[ident]) for ident in found[start : start + size]]
        is_last = start + size >= len(found)
        return {"startAt": start, "maxResults": size, "total": len(found), "isLast": is_last, "values": users}

    def _profile(self, ident: str, person: Person) -> dict[str, Any]:
        shown = {"accountId": ident, "accountType": person.type, "displayName": person.name, "active": person.active}
        where = {"self": f"https://jira.example.com/rest/api/3/user?accountId={ident}"}
        return where | shown | ({"emailAddress": person.mail} if person.mail else {})

    def _rich(self, text: str) -> Any:
        """A text as Cloud shows it, in Atlassian's document format."""
        return {
            "type": "doc",
            "version": 1,
            "content": [{"type": "paragraph", "content": [{"type": "text", "text": text}]}],
        }

    def _linked(self, ident: str, moment: datetime) -> Any:
        """An issue as links show it; nothing of one that this account may not see."""
        there = self._issues[ident].at(moment)
        if there is None or not self._projects[there.project].is_there(moment):
            return None
        return {"id": ident, "key": self._projects[there.project].shown(there.key, moment)}

    def _status(self, name: str) -> Any:
        status = self.statuses[name]
        category = {"id": CATEGORY_IDS.get(status.category, 9), "key": status.category, "name": status.category.title()}
        return {"id": status.id, "name": name, "statusCategory": category}

    def _find_project(self, ident: str) -> Project:
        """By id or any of its keys, in the case in which they are written (so does Jira's REST, but not its JQL)."""
        now = self.clock()
        for project in self._projects.values():
            if ident in (project.id, *project.keys_until(now)) and project.is_there(now):
                return project
        raise Refusal(404, f"No project could be found with key '{ident}'.")

    def _project(self, ident: str) -> Any:
        project = self._find_project(ident)
        return {"id": project.id, "key": project.keys_until(self.clock())[-1], "name": project.name}

    def _project_versions(self, ident: str) -> Any:
        key = self._find_project(ident).key
        found = (timeline.at(self.clock()) for timeline in list(self._versions.values()))
        return [self._version_json(version) for version in found if version and version.project == key]

    def _version(self, ident: str) -> Any:
        version = self._versions[ident].at(self.clock()) if ident in self._versions else None
        if version is None or not self._projects[version.project].is_there(self.clock()):
            raise Refusal(404, f"Could not find version for id '{ident}'")
        return self._version_json(version)

    def _version_json(self, version: Version) -> Any:
        dates = {"releaseDate": version.release_date, "startDate": version.start_date}
        return {
            "self": f"https://jira.example.com/rest/api/3/version/{version.id}",
            "id": version.id,
            "name": version.name,
            "archived": version.archived,
            "released": version.released,
            "projectId": int(self._projects[version.project].id),
        } | {name: day.isoformat() for name, day in dates.items() if day}

    def _boards(self, projectKeyOrId: str = "", startAt: str = "0", maxResults: str = "50") -> Any:  # noqa: N803
        project = self._find_project(projectKeyOrId)
        return self.boards.page_of_boards(project.key, self.clock(), startAt, maxResults)

    def _sprints(self, board: str, startAt: str = "0", maxResults: str = "50", state: str = "") -> Any:  # noqa: N803
        return self.boards.page_of_sprints(board, self.clock(), startAt, maxResults, state)

    def _of_app(self) -> str:
        """The app that asks: only those have dynamic webhooks."""
        if not self._caller:
            raise Refusal(403, "Only Connect and OAuth 2.0 apps can use this operation.")
        return self._caller

    def _webhooks(self, startAt: str = "0", maxResults: str = "100") -> Any:  # noqa: N803
        return self.hooks.page(self._of_app(), startAt, maxResults)

    def _register_webhooks(self, url: Any = None, webhooks: Any = None) -> Any:
        now = self.clock()
        keys = (project.keys_until(now) for project in self._projects.values() if project.is_there(now))
        known = frozenset(key for some in keys for key in some)
        return self.hooks.register(self._of_app(), url, webhooks, known, now)

    def _refresh_webhooks(self, webhookIds: Any = None) -> Any:  # noqa: N803
        return self.hooks.refresh(self._of_app(), webhookIds, self.clock())

    def _delete_webhooks(self, webhookIds: Any = None) -> None:  # noqa: N803
        self.hooks.remove(self._of_app(), webhookIds)

    def _failed_webhooks(self, after: str = "0", maxResults: str = "100") -> Any:  # noqa: N803
        self._of_app()
        return self.hooks.failures(after, maxResults)

    def _statuses(self) -> Any:
        return [self._status(name) for name in self.statuses]

    def _field_list(self) -> Any:
        system = [
            {"id": name, "key": name, "name": name.capitalize(), "custom": False, "clauseNames": [name]}
            for name in SYSTEM_FIELDS
        ]
        return system + [
            {
                "id": ident,
                "key": ident,
                "name": name,
                "custom": True,
                "clauseNames": [name],
                "schema": {"type": kind, "custom": custom},
            }
            for ident, name, kind, custom in CUSTOM_FIELDS
        ]

    def _myself(self) -> Any:
        return {"accountId": "reader", "accountType": "atlassian", "active": True, "timeZone": self.time_zone}

    def _server_info(self) -> Any:
        return {"baseUrl": "https://jira.example.com", "deploymentType": "Cloud", "serverTime": stamp(self.clock())}


QUOTED = r'"((?:[^"\\]|\\.)*)"'
JQL = (
    rf"project (?P<project>= {QUOTED}|in \({QUOTED}(?:, ?{QUOTED})*\))"
    r'( AND updated >= "(?P<since>\d{4}/\d\d/\d\d \d\d:\d\d)")? ORDER BY updated ASC, key ASC'
)
BOARDS = (
    ("GET", "/rest/agile/1.0/board", {"projectKeyOrId", "startAt", "maxResults"}, JiraSite._boards),
    ("GET", r"/rest/agile/1.0/board/(\d+)/sprint", {"startAt", "maxResults", "state"}, JiraSite._sprints),
)
JiraSite.routes = (
    ("GET", "/rest/api/3/search/jql", {"jql", "fields", "maxResults", "nextPageToken"}, JiraSite._search),
    ("GET", r"/rest/api/3/issue/(\d+)", {"expand"}, JiraSite._one_issue),
    ("GET", r"/rest/api/3/issue/(\d+)/worklog", {"startAt", "maxResults"}, JiraSite._worklogs),
    ("POST", "/rest/api/3/search/approximate-count", {"jql"}, JiraSite._approximate_count),
    ("POST", "/rest/api/3/issue/bulkfetch", {"issueIdsOrKeys", "fields"}, JiraSite._bulk_issues),
    (
        "POST", "/rest/api/3/changelog/bulkfetch", {"issueIdsOrKeys", "maxResults", "nextPageToken"},
        JiraSite._bulk_changelogs,
    ),
    ("GET", "/rest/api/3/project/([^/]+)/versions", set(), JiraSite._project_versions),
    ("GET", "/rest/api/3/project/([^/]+)", set(), JiraSite._project),
    ("GET", "/rest/api/3/version/([^/]+)", set(), JiraSite._version),
    *BOARDS,
    ("GET", "/rest/api/3/webhook", {"startAt", "maxResults"}, JiraSite._webhooks),
    ("POST", "/rest/api/3/webhook", {"url", "webhooks"}, JiraSite._register_webhooks),
    ("DELETE", "/rest/api/3/webhook", {"webhookIds"}, JiraSite._delete_webhooks),
    ("PUT", "/rest/api/3/webhook/refresh", {"webhookIds"}, JiraSite._refresh_webhooks),
    ("GET", "/rest/api/3/webhook/failed", {"after", "maxResults"}, JiraSite._failed_webhooks),
    ("GET", "/rest/api/3/user/bulk", {"accountId", "startAt", "maxResults"}, JiraSite._profiles),
    ("GET", "/rest/api/3/status", set(), JiraSite._statuses),
    ("GET", "/rest/api/3/field", set(), JiraSite._field_list),
    ("GET", "/rest/api/3/myself", set(), JiraSite._myself),
    ("GET", "/rest/api/3/serverInfo", set(), JiraSite._server_info),
)  # fmt: skip

Side = tuple[str | None, str | None]
FACETS: tuple[tuple[str, str, Callable[[JiraSite, Fields], Side]], ...] = (
    ("summary", "summary", lambda _, f: (None, f.title)),
    ("issuetype", "issuetype", lambda _, f: (TYPES[f.type], f.type)),
    (
        "resolution",
        "resolution",
        lambda _, f: (RESOLUTIONS[f.resolution], f.resolution) if f.resolution else (None, None),
    ),
    ("status", "status", lambda site, f: (site.statuses[f.status].id, f.status)),
    ("assignee", "assignee", lambda _, f: (f.assignee, f.assignee)),
    ("duedate", "duedate", lambda _, f: (f.due_date.isoformat(),) * 2 if f.due_date else (None, None)),
    (
        "Story point estimate",
        POINTS_FIELD,
        lambda _, f: (None, None if f.story_points is None else f"{f.story_points:g}"),
    ),
    (
        "Sprint",
        SPRINT_FIELD,
        lambda _, f: (", ".join(map(str, f.sprints)), ", ".join(f"Sprint {s}" for s in f.sprints)),
    ),
    ("timeoriginalestimate", "timeoriginalestimate", lambda _, f: _seconds(f.original_estimate)),
    ("timespent", "timespent", lambda _, f: _seconds(f.time_spent)),
    ("timeestimate", "timeestimate", lambda _, f: _seconds(f.remaining_estimate)),
    ("Flagged", FLAGGED_FIELD, lambda _, f: ("[10019]", "Impediment") if f.flagged else (None, "")),
    ("labels", "labels", lambda _, f: (None, " ".join(f.labels))),
    ("IssueParentAssociation", "", lambda site, f: site._parent(f.parent)),
)
"""How a changelog names each field, and the id and text that it shows for a value."""


def _item(name: str, ident: str | None, *values: str | None) -> dict[str, Any]:
    """A changelog item from its old id and text and its new id and text."""
    custom = (ident or "").startswith("customfield_")
    sides = dict(zip(("from", "fromString", "to", "toString"), values, strict=True))
    return {"field": name, "fieldtype": "custom" if custom else "jira"} | ({"fieldId": ident} if ident else {}) | sides


def _seconds(value: int | None) -> Side:
    return (None, None) if value is None else (str(value), str(value))


def _plural(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fix_version` and `sprint`, one or several or none, as the tuples that they are kept as."""
    plain = dict(fields)
    for single, several in (("fix_version", "fix_versions"), ("sprint", "sprints")):
        if single in plain:
            value = plain.pop(single)
            plain[several] = () if value is None else tuple(value) if isinstance(value, list | tuple) else (value,)
    if "labels" in plain:
        plain["labels"] = tuple(plain["labels"])
    return plain


def _order(revision: Revision) -> list[Any]:
    project, _, number = revision.key.rpartition("-")
    return [_sortable(revision.at), project, int(number)]


def _sortable(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="microseconds")


def _token(place: str, after: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps([place, list(after)]).encode()).decode()


def _untoken(token: str | None, place: str) -> list[Any] | None:
    """The place that a token of this very query stands for."""
    if not token:
        return None
    try:
        query, after = json.loads(base64.urlsafe_b64decode(token))
    except (ValueError, binascii.Error):
        query, after = None, None
    if query != place:
        raise Refusal(400, "Invalid request payload: the page token belongs to another query.")
    return list(after)


def _query(request: Request) -> dict[str, Any]:
    sent: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if name == "fields":
            sent[name] = [part for value in values for part in value.split(",")]
        elif name == "accountId":
            sent[name] = values
        elif len(values) > 1:
            raise Refusal(400, f"Parameter {name} given twice.")
        else:
            sent[name] = values[0]
    return sent


def _json(body: bytes) -> dict[str, Any]:
    try:
        sent = json.loads(body)
    except ValueError:
        sent = None
    if not isinstance(sent, dict):
        raise Refusal(400, "There was an error parsing JSON. Check that your request body is valid.")
    return sent


def _strings(value: Any, most: int) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= most or not all(isinstance(v, str) for v in value):
        raise Refusal(400, f"Give between 1 and {most} strings.")
    return value
