"""Jira, Cloud and Data Center: issues with the whole of their changelog and their worklogs, and the versions and sprints of
their projects.

Search lists what changed; its index lags and its JQL knows whole minutes only, in the zone of the account's profile. So
`changed` repeats the minute of `since`, and what the changelog (read by id, hence newer) says of later times is left out.

Next on the way of an event: `connectors/pump.py`, which drives this class through the port in `connectors/base.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone, tzinfo
from functools import cache, partial
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from connectors import base, jira_consent, jira_webhooks, jira_worklogs, webhooks
from connectors.base import ConnectorError, Fatal, Mark, Names, Profile, Read, Ref, Retryable, Withheld
from connectors.jira_auth import WAYS, JiraAuth, expected, signed_in
from connectors.jira_client import Client, NotFound
from connectors.jira_cloud import Cloud
from connectors.jira_data_center import DataCenter
from connectors.jira_links import BLOCKING
from connectors.jira_query import EARLIEST_ZONE, Query
from connectors.jira_registration import Registration
from connectors.jira_sprints import Sprints
from connectors.jira_things import DROPPED, ESTIMATES, Issue, Site, marks, plain_names, read_issue, read_version, site
from connectors.jira_values import Unreadable, dump, instant, maybe, take, typed

ISSUES_PER_FETCH = 100
"""For so many issues Cloud may be asked by id at a time."""


class JiraSettings(webhooks.HookedSettings):
    """A Jira. `story_points` names the field of the estimate where it is neither of Jira's own two;
    `dropped_resolutions` are the names, in any case of letters, of those that say that nothing was done; `blocking_links`
    the words, likewise, by which an issue says of a link that the other one blocks it. `webhook_register` is the public
    address before `/webhooks/…`, by which Cloud is told to send webhooks."""

    kind: Literal["jira"] = "jira"
    url: str
    deployment: Literal["cloud", "data_center"] = "cloud"
    auth: JiraAuth | None = None
    story_points: str | None = None
    dropped_resolutions: tuple[str, ...] = DROPPED
    blocking_links: tuple[str, ...] = BLOCKING
    page_size: int = Field(default=100, ge=1, le=1000)
    webhook_register: str | None = None

    @model_validator(mode="after")
    def _signs_in(self) -> Self:
        if self.live and self.auth is None:
            raise ValueError(
                f"auth is missing: {expected(self.deployment)}; a site that is only imported has live: false"
            )
        if self.auth and self.auth.keys not in WAYS[self.deployment]:
            raise ValueError(f"with deployment: {self.deployment}, auth is {expected(self.deployment)}")
        if self.webhook_register and not (self.auth and self.auth.consent and self.webhook_token):
            raise ValueError(
                "webhook_register is for who reads by a person's consent and takes unsigned webhooks: give auth: {client_id, "
                "client_secret, consent} and webhook_token"
            )
        return self

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        plain = parts.hostname and not parts.query and not parts.fragment and "@" not in parts.netloc
        if parts.scheme not in ("http", "https") or not plain:
            raise ValueError(
                "the url of a Jira is https://NAME.atlassian.net, or where your own server is, with no password and no "
                "query in it"
            )
        return url.rstrip("/")

    @field_validator("webhook_register")
    @classmethod
    def _public(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "")
        plain = parts.hostname and not parts.query and not parts.fragment and "@" not in parts.netloc
        if url is not None and (parts.scheme != "https" or not plain):
            raise ValueError("webhook_register is the public address of the intake, before /webhooks/: https://HOST")
        return url and url.rstrip("/")


class Deployment(Protocol):
    """What Cloud and Data Center are asked for in ways of their own."""

    type: ClassVar[str]
    """How it calls itself."""

    def count(self, query: Query) -> int: ...

    def search(self, query: Query, fields: Sequence[str], size: int) -> Iterator[list[Issue]]: ...

    def names(self, query: Query) -> Iterator[list[Any]]: ...

    def issues(self, ids: Sequence[str], fields: Sequence[str]) -> tuple[list[Issue], Mapping[str, Read]]: ...

    def profiles(self, ids: Sequence[str]) -> Iterator[Profile]: ...


class Project(NamedTuple):
    """A project; its id stays, its key is the present one."""

    id: str
    key: str


DEPLOYMENTS = {"Cloud": "cloud", "Server": "data_center"}
"""How a Jira calls itself, and how it is called in the configuration."""


class JiraConnector:
    """Reads one Jira."""

    Settings: ClassVar[type[base.Settings]] = JiraSettings
    webhooks: ClassVar[webhooks.Webhooks] = jira_webhooks.WEBHOOKS

    def __init__(self, settings: JiraSettings, client: Client, clock: base.Clock) -> None:
        self.name = settings.name
        self._settings = settings
        self._client = client
        self._deployment: Deployment = (Cloud if settings.deployment == "cloud" else DataCenter)(client)
        self._sprints = Sprints(client, settings.url)
        self._names = Names()
        self._registration: Registration | None = None
        if settings.webhook_register and settings.webhook_token:
            self._registration = Registration(
                settings.name, client, settings.webhook_register, settings.webhook_token, clock
            )

    @classmethod
    def connect(cls, settings: JiraSettings, clock: base.Clock) -> Self:
        if settings.auth is None:
            raise Fatal(f"{settings.name} is not live: what is known of it comes with `pmsync import`")
        server, auth = signed_in(settings.auth, settings.url, clock, settings.name)
        return cls(settings, Client(server, 3 if settings.deployment == "cloud" else 2, auth), clock)

    @classmethod
    def consent(cls, settings: JiraSettings, callback: str, clock: base.Clock) -> jira_consent.Asking:
        auth = settings.auth
        if auth is None or auth.app is None or auth.consent is None:
            raise Fatal(
                f"{settings.name} does not read by a person's consent; for that auth is {{client_id, client_secret, consent}}, "
                "with the id and secret of an OAuth 2.0 app, and the file to keep the consent in"
            )
        scopes = (*jira_consent.READING, *((jira_consent.HOOKING,) if settings.webhook_register else ()))
        return jira_consent.Asking(settings.name, auth.app, auth.consent, settings.url, scopes, callback, clock)

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        try:
            kind = self._client.read(maybe, self._client.get("serverInfo"), "deploymentType", str)
            if kind not in (None, self._deployment.type):
                yield f"this Jira calls itself {kind}; set deployment to {DEPLOYMENTS.get(kind, 'what it is')}"
            if isinstance(self._zone(), timezone):
                yield "Jira does not say the account's time zone; every poll reads up to a day more than it must"
            site = self._site()
            if not site.estimate:
                names = self._settings.story_points or " or ".join(ESTIMATES)
                yield f"Jira has no field called {names}; set story_points to the name of the estimate's field"
            for container in containers:
                yield from self._check_project(container, site)
            if self._registration:
                self.expect(containers)
                yield from self._registration.check(self._there(containers))
        except ConnectorError as error:
            yield str(error)

    def now(self) -> datetime:
        answer = self._client.get("serverInfo")
        return self._client.read(lambda: instant(take(answer, "serverTime", str), "serverTime"))

    def expect(self, containers: Iterable[str]) -> None:
        """Which containers are configured, so that a fetch before any listing knows their names."""
        self._names.expect(containers)

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        project, site = self._project(container), self._site()
        versions = [read_version(raw, container, site.url) for raw in self._versions(project)]
        sprints = (self._sprints.all if since is None else self._sprints.changed)(project.id, container)
        yield [*versions, *sprints.values()]
        self._sprints.note_taken(container, sprints)  # only now: a page that could not be published is asked for again
        query = Query(project.key, since, self._zone())
        for issues in self._deployment.search(query, site.fields, self._settings.page_size):
            yield [self._issue(issue, site) for issue in issues]

    def unseen(self, container: str) -> Collection[str]:
        return {"sprint"} if self._sprints.is_denied(container) else ()

    def count(self, container: str, since: datetime | None) -> int | None:
        return self._deployment.count(Query(self._project(container).key, since, self._zone()))

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        project = self._project(container)
        versions, sprints = self._versions(project), self._sprints.all(project.id, container)
        yield [*self._client.read(marks, "milestone", versions), *(Mark(ref, None) for ref in sprints)]
        for issues in self._deployment.names(Query(project.key, None, self._zone())):
            yield self._client.read(marks, "work_item", issues)

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        self._meet()
        site = self._site()
        ids = list(dict.fromkeys(ref.id for ref in refs if ref.kind == "work_item"))
        for start in range(0, len(ids), ISSUES_PER_FETCH):
            yield from self._issues(ids[start : start + ISSUES_PER_FETCH], site)
        home = cache(partial(self._home, site))
        for ref in refs:
            if ref.kind == "milestone":
                yield self._version(ref, home, site)
        yield from self._sprints.by_id([ref.id for ref in refs if ref.kind == "sprint"], home)

    def accounts(self, ids: Sequence[str]) -> Iterator[Profile]:
        return self._deployment.profiles(ids)

    def register(self, containers: Iterable[str]) -> int:
        """Dynamic webhooks of these projects, in which one that is not to be had would be a fault."""
        return self._registration.keep(self._there(containers)) if self._registration else 0

    def _there(self, containers: Iterable[str]) -> Collection[str]:
        """Those of these that this account is let see."""
        self._meet()
        return set(containers).intersection(self._names.known().values())

    def _meet(self) -> None:
        """Look up each container that is expected and was never looked up."""
        for container in self._names.unmet():
            with suppress(Withheld):
                self._project(container)

    def _home(self, site: Site, project: str) -> str:
        """The container that the project with this id is; one that is not configured is called by its key."""
        if project in site.containers:
            return site.containers[project]
        return self._client.read(take, self._client.get(f"project/{quote(project, safe='')}"), "key", str)

    def _project(self, container: str) -> Project:
        """What Jira calls a container now. Its old keys still lead to it, after a rename too; but not those in other
        case, which JQL alone takes: asked for first, they are no project."""
        answer = self._client.get(f"project/{quote(container, safe='')}")
        project = self._client.read(lambda: Project(take(answer, "id", str), take(answer, "key", str)))
        self._names.learn(project.id, container)
        return project

    def _site(self) -> Site:
        """Read anew for each poll: a workflow may have got a status since."""
        statuses, fields, settings = self._client.get("status"), self._client.get("field"), self._settings
        known = self._client.read(lambda: site(settings.url, statuses, fields, settings.story_points))
        return dataclasses.replace(
            known,
            dropped=plain_names(settings.dropped_resolutions),
            blocking=plain_names(settings.blocking_links),
            containers=self._names.known(),
        )

    def _zone(self) -> tzinfo:
        me = self._client.get("myself")
        try:
            return ZoneInfo(take(me, "timeZone", str))
        except (Unreadable, ZoneInfoNotFoundError, ValueError, OSError):
            return EARLIEST_ZONE

    def _check_project(self, container: str, site: Site) -> Iterator[str]:
        found = self._client.find(f"project/{quote(container, safe='')}")
        if found is None:
            yield f"Jira has no project {container}, or this account may not browse it; check its key and permissions"
            return
        key = self._client.read(lambda: take(found, "key", str))
        if site.sprint:  # else this Jira has no sprints to show
            yield from self._sprints.check(self._client.read(lambda: take(found, "id", str)), container)
        if key != container:
            yield f"project {container} is called {key} now; use that key in the configuration"

    def _versions(self, project: Project) -> list[Any]:
        answer = self._client.get(f"project/{quote(project.id, safe='')}/versions")
        return self._client.read(lambda: typed(answer, list, "the list of versions"))

    def _version(self, ref: Ref, home: Callable[[str], str], site: Site) -> Read:
        """A version names its project by number."""
        raw = self._client.find(f"version/{quote(ref.id, safe='')}")
        if raw is None:
            return Read(ref)
        try:
            project = str(take(raw, "projectId", int))
        except Unreadable as error:
            return Read(ref, problem=str(error), raw=dump(raw))
        return read_version(raw, home(project), site.url)

    def _issues(self, ids: Sequence[str], site: Site) -> Iterator[Read]:
        issues, failed = self._deployment.issues(ids, site.fields)
        reads = [self._issue(issue, site) for issue in issues]
        yield from reads
        missing = set(ids) - {read.ref.id for read in reads}
        if len(issues) + len(missing) > len(ids):
            raise Retryable("Jira answered with issues that were not asked for, so none can be said to be gone")
        yield from (failed.get(ident, Read(Ref("work_item", ident))) for ident in sorted(missing))

    def _issue(self, issue: Issue, site: Site) -> Read:
        """An issue with all of its worklogs; those of one that has more than it shows cost a request of their own."""
        ident = jira_worklogs.lacking(issue.raw)
        if not ident:
            return read_issue(issue, site)

        def page(start: int) -> Any:
            size = str(jira_worklogs.PER_PAGE)
            return self._client.get(f"issue/{quote(ident, safe='')}/worklog", startAt=str(start), maxResults=size)

        with suppress(NotFound):  # it was deleted since, or time is tracked no more: those that it shows must do
            issue = issue._replace(raw=self._client.read(jira_worklogs.with_all, issue.raw, page))
        return read_issue(issue, site)
