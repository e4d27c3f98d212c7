"""GitHub: what was shipped: deployments, with their histories from their statuses, and releases.

Neither list can be asked for what changed since, so a poll looks at its newest page, which mostly has not changed and then
costs no quota; a first reading and each sweep look at all of it. A deployment says when it changed last, its statuses
included: a sweep so finds the old one that became `inactive`, and has it read again. GitHub's GraphQL API would tell the
statuses of many at once, but not their ids, so each deployment that changed costs one request for them.

A token need not be let read either of them. Then they are left out, which `check` says; and what is known already stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from pydantic import ValidationError

from connectors.base import Mark, Read, Ref, Retryable, Withheld, problem
from connectors.github_beside import Listed, Refused
from connectors.github_client import MAX_PAGES, Client, Page, Query
from connectors.github_shapes import Identified, Raw, Time, raw
from connectors.github_taken import Taken, still_listed
from connectors.github_things import Home, stamp, updated_at
from pmsync.core.events import MAX_CHANGES, Change, Deployment, Release

NEWEST, PAGE = 30, 100
"""So many of each list a poll looks at, and so many there are on a page of all. Each poll's answers are kept, and those of
all repositories have to find room (`connectors/conditional.py`): a release comes with its notes and all its assets."""


class Kind(NamedTuple):
    """A kind of things: its list's name in addresses, and GitHub's name of the right to read it."""

    list: str
    right: str


SHIPPED: Mapping[str, Kind] = {
    "deployment": Kind("deployments", "Deployments"),
    "release": Kind("releases", "Contents"),
}


# --- what they mean ---------------------------------------------------------------------------------------------------


class _Deployment(Raw):
    id: int
    environment: str
    ref: str
    sha: str
    created_at: Time
    updated_at: Time
    creator: Identified | None = None
    production_environment: bool | None = None


class _Status(Raw):
    id: int
    state: str
    created_at: Time
    log_url: str | None = None
    environment_url: str | None = None


class _Release(Raw):
    id: int
    tag_name: str
    name: str | None
    html_url: str
    created_at: Time
    published_at: Time | None
    draft: bool
    prerelease: bool


def reference(home: Home, item: Any, kind: str) -> Ref:
    """The reference of a listed item; one without an id shares `?`."""
    ident = item.get("id") if isinstance(item, dict) else None
    return Ref(kind, home.thing(ident) if isinstance(ident, int) else f"{home.id}/?")


def read_deployment(home: Home, deployment: Any, statuses: Sequence[Any]) -> Read:
    """A deployment as read; what cannot be translated says so and keeps what came."""
    ref, time = reference(home, deployment, "deployment"), updated_at(deployment)
    try:
        return Read(ref, time, translate_deployment(home, deployment, statuses))
    except ValidationError as error:
        return Read(ref, time, problem=problem(error), raw=raw({"deployment": deployment, "statuses": statuses}))


def kept(deployment: Any) -> Any:
    """What is read of a deployment: the rest, with the deployer's own payload, is not held while thousands are listed."""
    if not isinstance(deployment, dict):
        return deployment
    found = {name: deployment[name] for name in _Deployment.model_fields if name in deployment}
    creator = found.get("creator")
    return {**found, "creator": {"id": creator.get("id")}} if isinstance(creator, dict) else found


def read_release(home: Home, release: Any) -> Read:
    """A release as read. It has no time: not every GitHub tells when one changed."""
    ref = reference(home, release, "release")
    try:
        return Read(ref, None, translate_release(home, release))
    except ValidationError as error:
        return Read(ref, None, problem=problem(error), raw=raw(release))


def translate_deployment(home: Home, deployment: Any, statuses: Sequence[Any]) -> Deployment:
    """A deployment with its history; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Deployment.model_validate(deployment)
    told = sorted(map(_Status.model_validate, statuses), key=lambda status: status.id)
    changes = list(_changes(told))
    urls = [status.log_url or status.environment_url or "" for status in reversed(told)]
    return Deployment(
        container=home.container,
        environment=found.environment,
        ref=found.ref,
        sha=found.sha,
        url=next(filter(None, urls), ""),
        production=bool(found.production_environment),
        creator=str(found.creator.id) if found.creator else None,
        created_at=found.created_at,
        state=told[-1].state if told else PENDING,
        history=tuple(changes[-MAX_CHANGES:]),
        history_cut=len(changes) > MAX_CHANGES,
    )


PENDING = "pending"
"""What a deployment is before its first status."""


def _changes(statuses: Iterable[_Status]) -> Iterator[Change]:
    state = PENDING
    for status in statuses:
        if status.state != state:
            yield Change(field="state", old=state, new=status.state, at=status.created_at, id=str(status.id))
        state = status.state


def translate_release(home: Home, release: Any) -> Release:
    """A release; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Release.model_validate(release)
    return Release(
        key=found.tag_name,
        container=home.container,
        title=found.name or found.tag_name,
        url=found.html_url,
        created_at=found.created_at,
        published_at=found.published_at,
        draft=found.draft,
        prerelease=found.prerelease,
    )


# --- how they are asked for -------------------------------------------------------------------------------------------


class Shipped:
    """What was shipped from the repositories of one source."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._taken: dict[str, Taken] = {}
        self._refused = Refused()

    def refused(self, container: str) -> Collection[str]:
        """The kinds that the token was not let read when they were last asked for."""
        return self._refused.of(container)

    def check(self, home: Home) -> Iterator[str]:
        """A line for each kind that the token may not read."""
        for kind, each in SHIPPED.items():
            try:
                self.assure(home, kind)
            except Withheld:
                yield (
                    f"{home.container}: its {each.list} cannot be read, and all else can; let the token read "
                    f"{each.right}, or do without them"
                )

    def assure(self, home: Home, kind: str) -> None:
        """Raises `Withheld` where nothing of this kind may be read: that one of them is not to be had means nothing then."""
        if kind in SHIPPED:
            self._first(home, kind, NEWEST)

    def releases(self, home: Home, since: datetime | None) -> list[Read]:
        """The newest releases, or all of them."""
        return [read_release(home, each) for page in self._listed(home, "release", since) for each in page.items]

    def changed(self, home: Home, since: datetime | None) -> list[Listed]:
        """Those of the newest deployments, or of all, that changed at or after `since`, but for what was read as a whole."""
        known = self._taken[home.container] = still_listed(self._taken.get(home.container, {}), since)
        found: dict[str, Listed] = {}
        for page in self._listed(home, "deployment", since):
            for each in map(kept, page.items):
                time = updated_at(each)
                if stamp(each) not in known and (since is None or time is None or time >= since.replace(microsecond=0)):
                    found[stamp(each)] = Listed(each, page.at, partial(self._read, home), known)
        return list(found.values())

    def sweep(self, home: Home) -> Iterator[list[Mark]]:
        """Names all of them, from the lists alone."""
        for kind in SHIPPED:
            for page in self._pages(home, kind):
                timed = kind == "deployment"
                yield [Mark(reference(home, each, kind), updated_at(each) if timed else None) for each in page.items]

    def fetch(self, home: Home, kind: str, ident: int) -> Read:
        """One of them by id; raises `Missing`."""
        found = self._client.get(f"{home.path}/{SHIPPED[kind].list}/{ident}").body
        if kind == "release":
            return read_release(home, found)
        return self._read(home, kept(found))

    def _read(self, home: Home, deployment: Any) -> Read:
        return read_deployment(home, deployment, statuses_of(self._client, home, deployment))

    def _listed(self, home: Home, kind: str, since: datetime | None) -> Iterator[Page]:
        """All pages, or the newest one. What was refused is asked for again with the next sweep: a refusal costs quota."""
        if since is None:
            yield from self._pages(home, kind)
        elif kind not in self.refused(home.container) and (page := self._let(home, kind, NEWEST)):
            yield page

    def _pages(self, home: Home, kind: str) -> Iterator[Page]:
        """All pages of a list; none where the token may not read it."""
        page, asked = self._let(home, kind, PAGE), set[str]()
        for _ in range(MAX_PAGES):
            if page is None:
                return
            yield page
            page = self._client.page(page.next, {}, asked) if page.next else None
        raise Retryable(f"the {SHIPPED[kind].list} of {home.container} do not end after {MAX_PAGES} pages")

    def _let(self, home: Home, kind: str, most: int) -> Page | None:
        """The first page of a list; None where the token may not read it."""
        return self._refused.let(home.container, kind, lambda: self._first(home, kind, most))

    def _first(self, home: Home, kind: str, most: int) -> Page:
        # What a poll asks for is kept; what a sweep asks for would only take its room.
        query: Query = {"per_page": most}
        return self._client.page(f"{home.path}/{SHIPPED[kind].list}", query, set(), again=most == NEWEST)


def statuses_of(client: Client, home: Home, deployment: Any) -> list[Any]:
    """The statuses of a deployment; none where it has no id to ask for them by."""
    ident = deployment.get("id") if isinstance(deployment, dict) else None
    return client.all(f"{home.path}/deployments/{ident}/statuses") if isinstance(ident, int) else []
