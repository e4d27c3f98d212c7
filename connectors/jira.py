"""Jira Cloud: issues with the whole of their changelog, and the versions of their projects.

Search lists what changed; its index lags and its JQL knows whole minutes only, in the zone of the account's profile. So
`changed` repeats the minute of `since`, and what the changelog (read by id, hence newer) says of later times is left out.
A status is judged by its id, since names differ from team to team and change.

Next on the way of an event: `connectors/pump.py`, which drives this class through the port in `connectors/base.py`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple, ParamSpec, Self, TypeVar
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jira import JIRA
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from requests import RequestException, Response
from requests.exceptions import InvalidURL, JSONDecodeError

from connectors import base, jira_webhooks, webhooks
from connectors.base import (
    ConnectorError,
    Fatal,
    Mark,
    Names,
    Read,
    Ref,
    Retryable,
    Withheld,
    http_date,
    retry_after,
    unreached,
)
from connectors.bounded import BoundedAdapter
from pmsync.core.events import MAX_CHANGES, Change, Milestone, Scalar, StatusCategory, WorkItem

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes of an answer."""
ISSUES_PER_FETCH = 100
IDS_PER_PAGE = 5000
HISTORIES_PER_PAGE = 1000
MAX_PAGES = 20_000
MAX_EMPTY_PAGES = 5
SKEW = timedelta(seconds=1)
"""Jira stamps a change and the issue's `updated` a few milliseconds apart, in either order."""
MOST_POINTS = 10**9

ESTIMATES = ("Story Points", "Story point estimate")
ISSUE_FIELDS = (
    "summary", "issuetype", "project", "status", "assignee", "duedate", "created", "updated", "fixVersions", "labels", "parent",
    "resolution",
)  # fmt: skip
CATEGORIES: Mapping[str, StatusCategory] = {
    "new": StatusCategory.todo,
    "indeterminate": StatusCategory.in_progress,
    "done": StatusCategory.done,
}
DROPPED = (
    "won't do", "won't fix", "wont do", "wont fix", "will not do", "will not fix", "duplicate", "cannot reproduce",
    "could not reproduce", "declined", "rejected", "invalid", "incomplete", "not a bug", "not an issue", "obsolete",
    "abandoned", "withdrawn", "canceled", "cancelled",
)  # fmt: skip
"""Resolutions that say of something closed that it was not done: Jira's own, and what teams commonly add."""
UNWRITABLE = re.compile("[\\0\ud800-\udfff]")
"""What JSON can hold and UTF-8 or a database cannot."""
EARLIEST_ZONE = timezone(timedelta(hours=-12))
"""A time of day written in this zone is never later than meant, whichever zone Jira reads it in."""


class JiraAuth(BaseModel):
    """An Atlassian account and its API token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str
    token: base.SecretRef


class JiraSettings(webhooks.HookedSettings):
    """A Jira Cloud site. `story_points` names the field of the estimate where it is neither of Jira's own two;
    `dropped_resolutions` are the names, in any case of letters, of those that say that nothing was done."""

    kind: Literal["jira"] = "jira"
    url: str
    auth: JiraAuth | None = None
    story_points: str | None = None
    dropped_resolutions: tuple[str, ...] = DROPPED
    page_size: int = Field(default=100, ge=1, le=1000)

    @model_validator(mode="after")
    def _signs_in(self) -> Self:
        if self.live and self.auth is None:
            raise ValueError(
                "auth is missing: {email: …, token: {env: NAME}}; a site that is only imported has live: false"
            )
        return self

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = parts.hostname and not parts.query and not parts.fragment and "@" not in parts.netloc
        if parts.scheme not in ("http", "https") or not plain:
            raise ValueError(
                "the url of a Jira site is https://NAME.atlassian.net, with no password and no query in it"
            )
        return url.rstrip("/")


class Unreadable(ValueError):
    """Something that Jira sent is not what it should be; the message names the field and holds no content."""


class Status(NamedTuple):
    """What a status id means today; `category` is None where Jira's category is none of ours."""

    name: str
    category: StatusCategory | None


class CustomField(NamedTuple):
    """A custom field; its id differs from site to site."""

    id: str
    name: str


class Project(NamedTuple):
    """A project; its id stays, its key is the present one."""

    id: str
    key: str


@dataclass(frozen=True, slots=True)
class Site:
    """What must be known of a Jira site to read its issues. Several fields may bear one name."""

    url: str
    statuses: Mapping[str, Status]
    estimate: tuple[CustomField, ...] = ()
    sprint: tuple[CustomField, ...] = ()
    flagged: tuple[CustomField, ...] = ()
    dropped: frozenset[str] = frozenset(DROPPED)
    containers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """id -> configured name, of the projects whose configured name is known."""

    @property
    def fields(self) -> list[str]:
        """The fields to ask for."""
        return [*ISSUE_FIELDS, *(field.id for field in self.estimate + self.sprint + self.flagged)]


class JiraConnector:
    """Reads one Jira Cloud site. The client must not retry by itself; `connect` makes one that does not."""

    Settings: ClassVar[type[base.Settings]] = JiraSettings
    webhooks: ClassVar[webhooks.Webhooks] = jira_webhooks.WEBHOOKS

    def __init__(self, settings: JiraSettings, client: JIRA) -> None:
        self.name = settings.name
        self._settings = settings
        self._client = client
        self._names = Names()

    @classmethod
    def connect(cls, settings: JiraSettings, clock: base.Clock) -> Self:  # noqa: ARG003  Jira's own clock is read
        if settings.auth is None:
            raise Fatal(f"{settings.name} is not live: what is known of it comes with `pmsync import`")
        auth = (settings.auth.email, settings.auth.token.reveal())
        # logging=False: the library would log whole answers that it cannot read.
        client = JIRA(
            settings.url,
            options={"rest_api_version": "3"},
            basic_auth=auth,
            get_server_info=False,
            max_retries=0,
            timeout=TIMEOUT,
            logging=False,
        )
        client.deploymentType = "Cloud"
        # No aliases: the library would take a field's id for the name of another field, and ask Jira for all names first.
        client._fields_cache_value = {"": ""}
        client._session.hooks["response"] = [_refuse]
        for scheme in ("http://", "https://"):
            client._session.mount(scheme, BoundedAdapter(max_retries=0))
        return cls(settings, client)

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        try:
            if isinstance(self._zone(), timezone):
                yield "Jira does not say the account's time zone; every poll reads up to a day more than it must"
            site = self._site()
            if not site.estimate:
                names = self._settings.story_points or " or ".join(ESTIMATES)
                yield f"Jira has no field called {names}; set story_points to the name of the estimate's field"
            for container in containers:
                yield from self._check_project(container)
        except ConnectorError as error:
            yield str(error)

    def now(self) -> datetime:
        answer = self._get("serverInfo")
        return self._read(lambda: _instant(_take(answer, "serverTime", str), "serverTime"))

    def expect(self, containers: Iterable[str]) -> None:
        """Which containers are configured, so that a fetch before any listing knows their names."""
        self._names.expect(containers)

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        project, site = self._project(container), self._site()
        yield [read_version(raw, container, site.url) for raw in self._versions(project)]
        query = jql(project.key, since, self._zone())
        for issues in self._search(query, site.fields, self._settings.page_size):
            yield self._reads(issues, site)

    def count(self, container: str, since: datetime | None) -> int | None:
        query = jql(self._project(container).key, since, self._zone())
        answer = self._post("search/approximate-count", {"jql": query.partition(" ORDER BY ")[0]})
        return self._read(lambda: _take(answer, "count", int))

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        project = self._project(container)
        versions = self._versions(project)
        yield self._read(marks, "milestone", versions)
        for issues in self._search(jql(project.key, None, UTC), ["updated"], IDS_PER_PAGE):
            yield self._read(marks, "work_item", issues)

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        for container in self._names.unmet():
            with suppress(Withheld):
                self._project(container)
        site = self._site()
        ids = list(dict.fromkeys(ref.id for ref in refs if ref.kind == "work_item"))
        for start in range(0, len(ids), ISSUES_PER_FETCH):
            yield from self._issues(ids[start : start + ISSUES_PER_FETCH], site)
        keys: dict[str, str] = {}
        for ref in refs:
            if ref.kind == "milestone":
                yield self._version(ref, keys, site)

    def _project(self, container: str) -> Project:
        """What Jira calls a container now. Its old keys still lead to it, after a rename too; but not those in other
        case, which JQL alone takes: asked for first, they are no project."""
        answer = self._get(f"project/{quote(container, safe='')}")
        project = self._read(lambda: Project(_take(answer, "id", str), _take(answer, "key", str)))
        self._names.learn(project.id, container)
        return project

    def _site(self) -> Site:
        """Read anew for each poll: a workflow may have got a status since."""
        statuses, fields, settings = self._get("status"), self._get("field"), self._settings
        known = self._read(lambda: site(settings.url, statuses, fields, settings.story_points))
        return dataclasses.replace(known, dropped=dropped_names(settings), containers=self._names.known())

    def _zone(self) -> tzinfo:
        me = self._get("myself")
        try:
            return ZoneInfo(_take(me, "timeZone", str))
        except (Unreadable, ZoneInfoNotFoundError, ValueError):
            return EARLIEST_ZONE

    def _check_project(self, container: str) -> Iterator[str]:
        found = self._find(f"project/{quote(container, safe='')}")
        if found is None:
            yield f"Jira has no project {container}, or this account may not browse it; check its key and permissions"
            return
        key = self._read(lambda: _take(found, "key", str))
        if key != container:
            yield f"project {container} is called {key} now; use that key in the configuration"

    def _versions(self, project: Project) -> list[Any]:
        answer = self._get(f"project/{quote(project.id, safe='')}/versions")
        return self._read(lambda: _typed(answer, list, "the list of versions"))

    def _version(self, ref: Ref, keys: dict[str, str], site: Site) -> Read:
        """A version names its project by number; `keys` remembers those of projects that are not configured."""
        raw = self._find(f"version/{quote(ref.id, safe='')}")
        if raw is None:
            return Read(ref)
        try:
            project = str(_take(raw, "projectId", int))
        except Unreadable as error:
            return Read(ref, problem=str(error), raw=_dump(raw))
        if project not in site.containers and project not in keys:
            answer = self._get(f"project/{project}")
            keys[project] = self._read(_take, answer, "key", str)
        return read_version(raw, site.containers.get(project) or keys[project], site.url)

    def _issues(self, ids: Sequence[str], site: Site) -> Iterator[Read]:
        answer = self._post("issue/bulkfetch", {"issueIdsOrKeys": list(ids), "fields": site.fields})
        issues, failed = self._read(lambda: (_take(answer, "issues", list), failures(answer)))
        reads = self._reads(issues, site)
        yield from reads
        missing = set(ids) - {read.ref.id for read in reads}
        if len(issues) + len(missing) > len(ids):
            raise Retryable("Jira answered with issues that were not asked for, so none can be said to be gone")
        yield from (failed.get(ident, Read(Ref("work_item", ident))) for ident in sorted(missing))

    def _reads(self, issues: Sequence[Any], site: Site) -> list[Read]:
        changelogs = self._changelogs([ident for issue in issues if (ident := _identity(issue))])
        return [read_issue(issue, changelogs.get(_identity(issue), []), site) for issue in issues]

    def _changelogs(self, ids: Sequence[str]) -> Mapping[str, list[Any]]:
        found: defaultdict[str, list[Any]] = defaultdict(list)
        if not ids:
            return found
        body = {"issueIdsOrKeys": list(ids), "maxResults": HISTORIES_PER_PAGE}
        for page in self._pages(
            lambda token: self._post("changelog/bulkfetch", body | ({"nextPageToken": token} if token else {})),
            "issueChangeLogs",
        ):
            for log in page:
                found[self._read(_take, log, "issueId", str)] += self._read(_take, log, "changeHistories", list)
        return found

    def _search(self, query: str, fields: Sequence[str], size: int) -> Iterator[list[Any]]:
        def page(token: str | None) -> Any:
            search = self._client.enhanced_search_issues
            return self._read(search, query, token, size, list(fields), json_result=True)

        return self._pages(page, "issues")

    def _pages(self, page: Callable[[str | None], Any], items: str) -> Iterator[list[Any]]:
        """Follow page tokens to the end; a chain that goes round or nowhere is broken off, never taken for the end."""
        token: str | None = None
        seen: set[str] = set()
        empty = 0
        while len(seen) < MAX_PAGES:
            answer = page(token)
            found, token = self._read(_take, answer, items, list), self._read(next_token, answer)
            yield found
            empty = 0 if found else empty + 1
            if token is None:
                return
            if token in seen or empty > MAX_EMPTY_PAGES:
                break
            seen.add(token)
        raise Retryable(f"Jira's pages of {items} do not come to an end")

    def _get(self, path: str) -> Any:
        return self._read(lambda: self._client._session.get(self._url(path)).json())

    def _find(self, path: str) -> dict[str, Any] | None:
        """The thing at `path`, or None where Jira says that there is none."""
        try:
            answer = self._get(path)
        except NotFound:
            return None
        return self._read(_typed, answer, dict, "the answer")

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self._read(lambda: self._client._session.post(self._url(path), data=json.dumps(body)).json())

    def _url(self, path: str) -> str:
        return f"{self._settings.url}/rest/api/3/{path}"

    def _read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `read`; whatever else than an answer comes of it becomes one of our errors, without the original's text."""
        try:
            return read(*args, **kwargs)
        except Unreadable as error:
            raise Retryable(f"Jira's answer is not as documented: {error}") from None
        except InvalidURL:
            raise Fatal("the url of this Jira is not one that can be called; check `url`") from None
        except JSONDecodeError:
            raise Retryable("Jira's answer is no JSON: it was cut short, or comes from a proxy") from None
        except RequestException as error:
            raise Retryable(f"Jira at {unreached(self._settings.url, error)}") from None
        except (ValueError, RecursionError) as error:
            raise Retryable(f"Jira did not answer in full ({type(error).__name__})") from None


class NotFound(Withheld):
    """Jira has no such project or version, or none that this account may see."""


def jql(container: str, since: datetime | None, zone: tzinfo) -> str:
    """The query for a project's issues by time of change. JQL has whole minutes, in the account's zone: rounded down."""
    project = container.replace("\\", "\\\\").replace('"', '\\"')
    bound = "" if since is None else f' AND updated >= "{_local(since, zone):%Y/%m/%d %H:%M}"'
    return f'project = "{project}"{bound} ORDER BY updated ASC, key ASC'


def _local(when: datetime, zone: tzinfo) -> datetime:
    """`when` in `zone`; in the hour that comes twice in autumn, one that is not later however it is read."""
    local = when.astimezone(zone)
    twice = (local.utcoffset() or timedelta()) - (local.replace(fold=1).utcoffset() or timedelta())
    return (when - max(twice, timedelta())).astimezone(zone)


def failure(response: Response) -> Retryable | Fatal:
    """The error that an answer other than 2xx stands for."""
    status, doing = response.status_code, f"{response.request.method} {urlsplit(response.request.url or '').path}"
    if status in (408, 425, 429) or status >= 500:
        wait = retry_after(response.headers.get("Retry-After"), http_date(response.headers.get("Date")))
        return Retryable(f"Jira answered {status} to {doing}", wait)
    if status == 404 and re.search("/(project|version)/", doing):
        return NotFound(f"Jira has nothing at {doing}, or this account may not see it; check the key and permissions")
    advice = {
        400: "a project in the configuration may be gone or hidden from this account; run `pmsync doctor`",
        401: "check auth.email and the API token, which may have expired",
        403: "give this account the permission to browse the project",
        410: "this way into Jira was removed; update pmsync",
    }.get(status, "check the url and the account")
    return Fatal(f"Jira answered {status} to {doing}: {advice}")


def _refuse(response: Response, *_args: Any, **_kwargs: Any) -> None:
    """A response hook, since the library's own reading of errors fails on bodies that are not as it expects.

    A redirect is not followed: what its target lacks would look as if it were gone from Jira.
    """
    if not response.ok or response.is_redirect:
        response.close()
        raise failure(response)


def next_token(answer: Any) -> str | None:
    """The token of the next page; None at the end, which Jira says in two ways."""
    return None if _maybe(answer, "isLast", bool) else _maybe(answer, "nextPageToken", str) or None


def site(url: str, statuses: Any, fields: Any, story_points: str | None) -> Site:
    """What Jira's lists of statuses and fields say about reading its issues."""
    custom = [raw for raw in _typed(fields, list, "the list of fields") if _maybe(raw, "custom", bool)]
    sprint = [
        _take(raw, "name", str) for raw in custom if str(_maybe(raw, "schema.custom", str)).endswith(":gh-sprint")
    ]
    return Site(
        url=url,
        statuses=dict(_status(raw) for raw in _typed(statuses, list, "the list of statuses")),
        estimate=_called(custom, (story_points,) if story_points else ESTIMATES),
        sprint=_called(custom, sprint or ("Sprint",)),
        flagged=_called(custom, ("Flagged",)),
    )


def dropped_names(settings: JiraSettings) -> frozenset[str]:
    """The resolutions that say that nothing was done, as names are compared."""
    return frozenset(map(_plain_name, settings.dropped_resolutions))


def _called(custom: Iterable[Any], names: Sequence[str]) -> tuple[CustomField, ...]:
    """The custom fields of these names, in the order of the names."""
    found = [CustomField(_take(raw, "id", str), _take(raw, "name", str)) for raw in custom]
    return tuple(sorted((f for f in found if f.name in names), key=lambda f: (names.index(f.name), f.id)))


def _status(raw: Any) -> tuple[str, Status]:
    category = CATEGORIES.get(_maybe(raw, "statusCategory.key", str) or "")
    return _take(raw, "id", str), Status(_take(raw, "name", str), category)


def marks(kind: str, things: Iterable[Any]) -> list[Mark]:
    """Lines of a sweep."""
    return [Mark(Ref(kind, _take(raw, "id", str)), updated_at(raw)) for raw in things]


def updated_at(raw: Any) -> datetime | None:
    """None where it cannot be read: an issue is then fetched and looked at; a version has none."""
    try:
        return _instant(_take(raw, "fields.updated", str), "fields.updated")
    except Unreadable:
        return None


def failures(answer: Any) -> dict[str, Read]:
    """The issues that Jira has but could not give; those that are gone are merely absent from its answer."""
    return {
        ident: Read(Ref("work_item", ident), problem="Jira has this issue but could not give it", raw=_dump(error))
        for error in _maybe(answer, "issueErrors", list) or []
        if (ident := _identity(error))
    }


def read_version(raw: Any, container: str, url: str) -> Read:
    """A version as a read; one that cannot be translated says why."""
    ref = Ref("milestone", _identity(raw) or "unreadable")
    try:
        return Read(ref, content=translate_version(raw, container, url))
    except (ValueError, OverflowError) as error:
        return Read(ref, problem=_problem(error), raw=_dump(raw))


def translate_version(raw: Any, container: str, url: str) -> Milestone:
    """A version of the project `container`. Raises ValueError."""
    ident, name = _take(raw, "id", str), _take(raw, "name", str)
    closed = _maybe(raw, "released", bool) or _maybe(raw, "archived", bool)
    return Milestone(
        key=name,
        container=container,
        title=name,
        url=f"{url}/projects/{container}/versions/{ident}",
        start_date=_day(_maybe(raw, "startDate", str), "startDate"),
        due_date=_day(_maybe(raw, "releaseDate", str), "releaseDate"),
        state="closed" if closed else "open",
    )


def read_issue(raw: Any, changelog: Sequence[Any], site: Site) -> Read:
    """An issue and its histories as a read; one that cannot be translated says why."""
    ref, time = Ref("work_item", _identity(raw) or "unreadable"), updated_at(raw)
    try:
        return Read(ref, time, content=translate_issue(raw, changelog, site))
    except (ValueError, OverflowError) as error:
        return Read(ref, time, problem=_problem(error), raw=_dump({"issue": raw, "changelog": list(changelog)}))


def translate_issue(raw: Any, changelog: Sequence[Any], site: Site) -> WorkItem:
    """An issue with the histories of its changelog, as they stood when it was last changed. Raises ValueError."""
    _take(raw, "id", str)
    key, status = _take(raw, "key", str), site.statuses.get(_take(raw, "fields.status.id", str))
    if status is None or status.category is None:
        raise Unreadable("fields.status has an id or a category that Jira's list of statuses does not explain")
    updated = _instant(_take(raw, "fields.updated", str), "fields.updated")
    entries = [entry for entry in _entries(changelog) if entry.at < updated + SKEW]
    chosen = [_chosen(fields, raw, entries) for fields in (site.estimate, site.sprint, site.flagged)]
    versions = [_take(version, "id", str) for version in _maybe(raw, "fields.fixVersions", list) or []]
    resolution = _resolution(raw, site)
    project = _take(raw, "fields.project.key", str)
    item = WorkItem(
        key=key,
        container=site.containers.get(_maybe(raw, "fields.project.id", str) or "", project),
        type=_take(raw, "fields.issuetype.name", str),
        title=_take(raw, "fields.summary", str),
        url=f"{site.url}/browse/{key}",
        created_at=_instant(_take(raw, "fields.created", str), "fields.created"),
        status=status.name,
        status_category=_resolved(status.category, resolution),
        assignee=_assignee(raw),
        due_date=_day(_maybe(raw, "fields.duedate", str), "fields.duedate"),
        estimate=_points(_custom(raw, chosen[0]), "the estimate"),
        milestone=_first(versions),
        sprint=_sprint(_custom(raw, chosen[1])),
        blocked=bool(_custom(raw, chosen[2])),
        parent=_take(raw, "fields.parent.key", str) if _maybe(raw, "fields.parent", dict) else None,
        labels=tuple(
            sorted({_typed(label, str, "fields.labels") for label in _maybe(raw, "fields.labels", list) or []})
        ),
    )
    changes = _changes(entries, _readers(site, chosen), site.containers)
    past = _categories(changes, entries, status.category, resolution, site)
    return _with_history(item, _milestones(past.changes, entries, versions), past.is_whole)


class Entry(NamedTuple):
    """One history of a changelog: the items that were changed together, each with the name of its field."""

    at: datetime
    id: str
    items: Sequence[tuple[str, Any]]


def _entries(changelog: Sequence[Any]) -> list[Entry]:
    """Oldest first, each once: Jira promises neither of one issue's histories."""
    found = {}
    for raw in changelog:
        ident = _take(raw, "id", str)
        at = _instant(_take(raw, "created", object), "created of a changelog entry")
        found[ident] = Entry(at, ident, [(_name(item), item) for item in _take(raw, "items", list)])
    return sorted(found.values(), key=lambda entry: _place(entry.at, entry.id))


def _place(at: datetime, ident: str) -> tuple[datetime, float, str]:
    return at, _number(ident), ident


Values = Callable[[Any, Any], Scalar]
"""(id, text) of one side of a changelog item -> the value of our field."""
Readers = Mapping[str, Sequence[tuple[str, Values]]]


def _readers(site: Site, chosen: Sequence[CustomField | None]) -> Readers:
    """For each name by which a changelog calls a field: which of ours it is, and how its values are read."""
    known = site.statuses
    readers: dict[str, Sequence[tuple[str, Values]]] = {
        "status": (
            ("status", lambda ident, text: known[ident].name if ident in known else _typed(text, str, "a past status")),
            ("status_category", lambda ident, _: known[ident].category if ident in known else None),
        ),
        "assignee": (("assignee", lambda ident, _: ident),),
        "duedate": (("due_date", lambda ident, text: _iso(_day(ident or text, "a past due date"))),),
        "key": (("key", lambda _, text: _key(text)), ("container", lambda _, text: _key(text).rpartition("-")[0])),
    }
    readers["issuekey"] = readers["key"]
    ours: tuple[tuple[str, Values], ...] = (
        ("estimate", lambda ident, text: _points(text or ident, "a past estimate")),
        ("sprint", lambda ident, _: (ident or "").rpartition(",")[2].strip() or None),
        ("blocked", lambda ident, text: bool(ident or text)),
    )
    for field, reader in zip(chosen, ours, strict=True):
        if field is not None:
            readers[field.id] = readers[f"custom {field.name.lower()}"] = (reader,)
    return readers


def _name(item: Any) -> str:
    """How a changelog item calls its field; ids are often left out, of custom fields above all."""
    ident, name = _maybe(item, "fieldId", str), (_maybe(item, "field", str) or "").lower()
    custom = _maybe(item, "fieldtype", str) == "custom"
    return (ident if custom else ident and ident.lower()) or (f"custom {name}" if custom else name)


def _changes(entries: Iterable[Entry], readers: Readers, containers: Mapping[str, str]) -> list[Change]:
    changes: list[Change] = []
    for entry in entries:
        times: defaultdict[str, int] = defaultdict(int)
        homes = _homes(entry, containers)
        for name, item in entry.items:
            for field, values in readers.get(name, ()):
                ident = f"{entry.id}.{times[field]}" if times[field] else entry.id
                times[field] += 1
                old, new = (values(*_side(item, *names)) for names in SIDES)
                if field == "container":
                    old, new = homes[0] or old, homes[1] or new
                changes.append(Change(field=field, old=old, new=new, at=entry.at, id=ident))
    return changes


SIDES = (("from", "fromString"), ("to", "toString"))


def _homes(entry: Entry, containers: Mapping[str, str]) -> tuple[str | None, ...]:
    """The configured names of the projects that a move was from and to: keys of the past may be other ones."""
    moved = [item for name, item in entry.items if name == "project"]
    ids = [_maybe(moved[0], name, str) if moved else None for name, _ in SIDES]
    return tuple(containers.get(ident or "") for ident in ids)


def _side(item: Any, ident: str, text: str) -> tuple[str | None, str | None]:
    return _maybe(item, ident, str) or None, _maybe(item, text, str) or None


class Resolution(NamedTuple):
    """Why an issue is closed; `id` is None where it has none."""

    id: str | None
    is_dropped: bool


class Categories(NamedTuple):
    """Changes of all fields, those of the category as the resolutions of their time have it."""

    changes: Sequence[Change]
    is_whole: bool


def _categories(
    changes: Sequence[Change], entries: Sequence[Entry], category: StatusCategory, present: Resolution, site: Site
) -> Categories:
    """Let each resolution say whether what was closed was done, from today's backwards. Where the changelog does not
    lead to today's (`is_whole`), and it matters, there is no history of the category."""
    steps: defaultdict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if change.field == "status_category":
            steps[change.id.partition(".")[0]].append(change)
    found = [change for change in changes if change.field != "status_category"]
    now: Scalar = category
    after, is_whole, matters = present, True, present.is_dropped
    for entry in reversed(entries):
        before = after
        for item in reversed([item for name, item in entry.items if name == "resolution"]):
            old, new = (_past_resolution(*_side(item, *names), present, site) for names in SIDES)
            is_whole &= new.id == before.id
            matters |= old.is_dropped or new.is_dropped
            before = old
        # Status and resolution mostly change together; a resolution alone may change the category too.
        own = [(change.old, change.new, change.id) for change in steps[entry.id]]
        for number, (was, became, ident) in enumerate(own or [(now, now, entry.id)], 1):
            step = _resolved(was, before), _resolved(became, after if number >= len(own) else before)
            if own or step[0] != step[1]:
                found.append(Change(field="status_category", old=step[0], new=step[1], at=entry.at, id=ident))
        after, now = before, own[0][0] if own else now
    return Categories(found, is_whole or not matters)


def _milestones(changes: Sequence[Change], entries: Sequence[Entry], versions: Iterable[str]) -> list[Change]:
    """Add the milestone's changes. A changelog tells only versions added and removed, and nothing of those that the
    issue was created with: so from today's set backwards."""
    found, after = list(changes), set(versions)
    for entry in reversed(entries):
        moved = [item for name, item in entry.items if name in ("fixversions", "fix version")]
        before = set(after) if moved else after
        for item in reversed(moved):
            before.discard(_maybe(item, "to", str) or "")
            before |= {ident for ident in (_maybe(item, "from", str),) if ident}
        if moved and _first(before) != _first(after):
            found.append(Change(field="milestone", old=_first(before), new=_first(after), at=entry.at, id=entry.id))
        after = before
    return sorted(found, key=lambda change: _place(change.at, change.id.partition(".")[0]))


def _with_history(item: WorkItem, changes: Sequence[Change], is_whole: bool) -> WorkItem:
    """A category that nobody knows any more (its status was deleted) is no history: the field is then untracked."""
    lost = any(None in (change.old, change.new) for change in changes if change.field == "status_category")
    untracked = ("status_category",) if lost or not is_whole else ()
    kept = _agreeing(item, [change for change in changes if change.field not in untracked])
    return item.model_copy(
        update={"history": tuple(kept[-MAX_CHANGES:]), "history_cut": len(kept) > MAX_CHANGES, "untracked": untracked}
    )


def _agreeing(item: WorkItem, changes: Iterable[Change]) -> list[Change]:
    """The last change of a field ends at the present value: renaming and deleting leave no trace in a changelog."""
    present, agreed = item.model_dump(mode="json"), list(changes)
    last = {change.field: index for index, change in enumerate(agreed)}
    for field, index in last.items():
        if agreed[index].new != present[field]:
            agreed[index] = agreed[index].model_copy(update={"new": present[field]})
    return agreed


def _chosen(fields: Sequence[CustomField], raw: Any, entries: Sequence[Entry]) -> CustomField | None:
    """Of several fields of one meaning: the one with a value, else one with a past, else the first."""
    if len(fields) < 2:
        return next(iter(fields), None)
    past = {name for entry in entries for name, _ in entry.items}
    return max(fields, key=lambda f: (_custom(raw, f) is not None, bool(past & {f.id, f"custom {f.name.lower()}"})))


def _custom(raw: Any, field: CustomField | None) -> Any:
    return None if field is None else _maybe(raw, f"fields.{field.id}", object)


def _assignee(raw: Any) -> str | None:
    """The account's id; Data Center has none, and keys that stay when a user is renamed (old ones names alone)."""
    if _maybe(raw, "fields.assignee", dict) is None:
        return None
    keys = (_maybe(raw, f"fields.assignee.{name}", str) for name in ("accountId", "key", "name"))
    return next((key for key in keys if key), None) or _take(raw, "fields.assignee.accountId", str)


def _plain_name(name: str) -> str:
    """A resolution's name as names are compared."""
    return " ".join(name.replace("\u2019", "'").casefold().split())


def _resolution(raw: Any, site: Site) -> Resolution:
    if _maybe(raw, "fields.resolution", dict) is None:
        return Resolution(None, False)
    name = _plain_name(_take(raw, "fields.resolution.name", str))
    return Resolution(_maybe(raw, "fields.resolution.id", str) or name, name in site.dropped)


def _past_resolution(ident: str | None, text: str | None, present: Resolution, site: Site) -> Resolution:
    """As it was called then; the present one as it is called now."""
    is_dropped = present.is_dropped if ident == present.id else _plain_name(text or "") in site.dropped
    return Resolution(ident, is_dropped and ident is not None)


def _resolved(category: T, resolution: Resolution) -> T | Literal[StatusCategory.dropped]:
    """The category of a status together with a resolution."""
    return StatusCategory.dropped if category == StatusCategory.done and resolution.is_dropped else category


def _sprint(value: Any) -> str | None:
    """The active sprint, else the last; the list holds the closed ones that the issue was in, too."""
    sprints = _typed([] if value is None else value, list, "the sprints")
    active = [sprint for sprint in sprints if _maybe(sprint, "state", str) == "active"]
    return str(_take((active or sprints)[-1], "id", int)) if sprints else None


def _first(versions: Iterable[str]) -> str | None:
    return min(versions, key=lambda ident: (_number(ident), ident), default=None)


def _points(value: Any, what: str) -> int | None:
    """Milli-points, from a number or its text."""
    if value is None:
        return None
    with suppress(ArithmeticError):
        points = Decimal("NaN" if isinstance(value, bool) else str(value))
        if points.is_finite() and abs(points) <= MOST_POINTS:
            return int((points * 1000).to_integral_value())
    raise Unreadable(f"{what} is no number of points")


def _day(value: str | None, what: str) -> date | None:
    """A day, also where the changelog adds a time of midnight to it."""
    try:
        return date.fromisoformat(value[:10]) if value else None
    except ValueError:
        raise Unreadable(f"{what} is no date") from None


def _key(text: Any) -> str:
    return _typed(text, str, "a past key")


def _iso(day: date | None) -> str | None:
    return day.isoformat() if day else None


def _instant(value: Any, what: str) -> datetime:
    """An instant from ISO text; the documentation of the bulk changelog also shows seconds since 1970."""
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value / 1000 if value > 10**11 else value, UTC)
        when = datetime.fromisoformat(_typed(value, str, what))
        if when.tzinfo is not None:
            return when.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise Unreadable(f"{what} is no instant")


def _number(ident: str) -> float:
    return int(ident) if ident.isascii() and ident.isdigit() else math.inf


def _identity(raw: Any) -> str:
    """The id of a thing, empty where it cannot be read."""
    try:
        return _maybe(raw, "id", str) or ""
    except Unreadable:
        return ""


def _typed(value: Any, kind: type[T], what: str) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise Unreadable(f"{what} is {type(value).__name__}, not {kind.__name__}")
    if isinstance(value, str) and UNWRITABLE.search(value):
        raise Unreadable(f"{what} holds characters that are no text")
    return value


def _take(raw: Any, path: str, kind: type[T]) -> T:
    """The value at a dotted path, of this type; raises `Unreadable` naming the path."""
    value = raw
    for step in path.split("."):
        if not isinstance(value, dict) or value.get(step) is None:
            raise Unreadable(f"{path} is missing")
        value = value[step]
    return _typed(value, kind, path)


def _maybe(raw: Any, path: str, kind: type[T]) -> T | None:
    """The value at a dotted path, None where it or what should hold it is absent or null."""
    value = raw
    for step in path.split("."):
        if not isinstance(value, dict):
            _typed(value, dict, path)
        value = value.get(step)
        if value is None:
            return None
    return _typed(value, kind, path)


def _problem(error: Exception) -> str:
    """One line that names the field and holds no content."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors(include_input=False)[:3])
    return str(error)


def _dump(raw: Any) -> bytes:
    try:
        return json.dumps(raw).encode()
    except RecursionError:
        return b""
