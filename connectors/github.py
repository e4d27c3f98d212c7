"""GitHub: issues as work items, pull requests as change requests, milestones; with their histories from issue events;
deployments and releases; workflow runs.

What to ask for, and when, is here; how GitHub is spoken to in `connectors/github_client.py`, what its answers mean in
`connectors/github_things.py`, how many things are told at once in `connectors/github_bulk.py`, what was shipped in
`connectors/github_shipped.py`, whether it builds in `connectors/github_runs.py`, how issues are linked in
`connectors/github_links.py`, what boards add to them in `connectors/github_boards.py`, and how webhooks are had sent again in
`connectors/github_redelivery.py`.

Next on the way of an event: `connectors/pump.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from github import Auth
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from connectors import base, github_app, github_bulk, github_webhooks, webhooks
from connectors.base import (
    Clock,
    Fatal,
    Mark,
    Names,
    Profile,
    Read,
    Ref,
    Retryable,
    SecretRef,
    Withheld,
    http_date,
    usable_token,
)
from connectors.github_beside import Changed
from connectors.github_boards import AT_ONCE, BOARDED, Boards
from connectors.github_cards import BoardFields, Card, plan
from connectors.github_client import MAX_PAGES, Client, Missing, Page, Query, answered_at, failure
from connectors.github_links import Telling, has_blockers, telling
from connectors.github_redelivery import Redelivery
from connectors.github_runs import KIND as RUN
from connectors.github_runs import Runs
from connectors.github_shipped import SHIPPED, Shipped
from connectors.github_taken import SETTLED, Change, Taken, change, note_taken, still_listed
from connectors.github_things import (
    HISTORIC,
    Home,
    Parts,
    created_at,
    is_at_home,
    read_at,
    read_milestone,
    read_profile,
    read_thing,
    reference,
    repository,
    stamp,
    unsettled,
    updated_at,
)
from pmsync.core.events import StatusCategory

MAX_READINGS = 3
LINK_EVENTS = 30
"""So many of the newest events each poll looks through; they come with their issues, and the answer is kept."""
BEGINNING, END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class GitHubAuth(BaseModel):
    """How to sign in: a token that may read metadata, issues and pull requests, or a GitHub App that may."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretRef | None = None
    app: github_app.GitHubApp | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.token is None) == (self.app is None):
            raise ValueError("sign in with {token: …} or with {app: {id: …, installation: …, private_key: …}}")
        return self


class GitHubSettings(webhooks.HookedSettings):
    """A GitHub, or a GitHub Enterprise Server with `url: https://HOST/api/v3`."""

    kind: Literal["github"] = "github"
    url: str = Field("https://api.github.com", pattern=r"^https?://[^/\s]+")
    auth: GitHubAuth | None = None
    page_size: int = Field(100, ge=1, le=100)
    workflow_run_days: int = Field(30, ge=1, le=400)
    """For how long a workflow run is read and shown from its creation on. A busy repository has many."""
    webhook_redeliver: bool = False
    """Whether GitHub is asked to send webhooks again that it could not deliver; a token needs another right for it."""
    boards: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+/[1-9][0-9]{0,8}$")], ...] = ()
    """GitHub Projects in which these issues are planned, as owner/number."""
    board_fields: BoardFields = BoardFields()
    board_statuses: Mapping[str, StatusCategory] = {}
    """Where a status of these boards stands, beyond what is usual."""

    @model_validator(mode="after")
    def _signs_in(self) -> Self:
        if self.live and self.auth is None:
            raise ValueError("auth is missing: {token: {env: NAME}}, or an app; what is only imported has live: false")
        return self

    @model_validator(mode="after")
    def _takes_what_is_sent_again(self) -> Self:
        if self.webhook_redeliver and self.webhook_secret is None and self.webhook_token is None:
            raise ValueError("webhook_redeliver is for who takes webhooks: give webhook_secret or webhook_token")
        return self


class GitHubConnector:
    """Reads repositories (`owner/repo` as configured is the container)."""

    Settings: ClassVar[type[base.Settings]] = GitHubSettings
    webhooks: ClassVar[webhooks.Webhooks] = github_webhooks.WEBHOOKS

    def __init__(self, settings: GitHubSettings, client: Client, clock: Clock) -> None:
        self.name = settings.name
        self._client = client
        self._clock = clock
        self._page_size = settings.page_size
        self._names = Names()
        self._taken: dict[str, Taken] = {}
        self._told: dict[int, github_bulk.Told] = {}
        self._shipped = Shipped(client)
        self._runs = Runs(client, settings.workflow_run_days, clock)
        self._boards = Boards(client, settings.boards, plan(settings.board_fields, settings.board_statuses), clock)
        self._redelivery: Redelivery | None = None
        if settings.webhook_redeliver:
            self._redelivery = Redelivery(settings.name, client, _as_app(settings, clock), clock)

    @classmethod
    def connect(cls, settings: GitHubSettings, clock: Clock) -> Self:
        """A connector for these settings; PyGithub keeps the session, without its own retries and pauses."""
        if settings.auth is None:
            raise Fatal(f"{settings.name} is not live: what is known of it comes with `pmsync import`")
        return cls(settings, Client(settings.url, _sign_in(settings, clock), clock), clock)

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        """What is wrong with the token or these repositories, one line each."""
        found: list[Home] = []
        for container in containers:
            try:
                home = self._home(container)
            except Fatal as problem:
                yield f"{container}: {problem}"
                continue
            found.append(home)
            if home.full_name != container:
                yield f"{container}: GitHub calls it {home.full_name}; write that name in the configuration"
        for home in found:
            yield from self._shipped.check(home)
            yield from self._runs.check(home)
        if found:
            yield from self._boards.check()
        if self._redelivery and (unseen := self._redelivery.without_hook(found)):
            yield (
                f"no webhook of {unseen} that leads to /webhooks/{self.name} can be read, so GitHub is not asked to send "
                "again what failed; correct the webhook's address, or the token's rights (Webhooks, read and write), or "
                "leave webhook_redeliver out"
            )

    def expect(self, containers: Iterable[str]) -> None:
        """Which containers are configured, so that a fetch before any listing knows their names."""
        self._names.expect(containers)
        self._told = {home: told for home, told in self._told.items() if str(home) in self._names.known()}

    def now(self) -> datetime:
        """GitHub's clock: the `Date` header of an answer that costs no quota."""
        # An Enterprise Server with rate limits off answers 404 here, with a Date all the same.
        return answered_at(self._client.get("/rate_limit", {}, accept=(200, 404)).headers, self._clock())

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        """All milestones, iterations and releases, then pages of the issues, pull requests, deployments and workflow runs that
        changed at or after `since`. Of releases, deployments and runs the newest are listed, but from the beginning on all.

        The pump asks for its last minutes again each time. What was read as a whole and taken is then left out: to read
        the parts of every such issue, each minute, would eat the quota of a repository in which nothing happens.
        """
        home, milestones = self._with_titles(self._home(container))
        self._boards.refresh()
        beside = Changed([*self._shipped.changed(home, since), *self._runs.changed(home, since)])
        releases, left = self._shipped.releases(home, since), self._runs.left(home)
        yield [
            *(read_milestone(home, milestone) for milestone in milestones),
            *self._boards.sprints(home).values(),
            *releases,
            *left,
            *beside.timeless(),
        ]
        self._runs.note_left(home)
        known = self._taken[container] = still_listed(self._taken.get(container, {}), since)
        differing = self._boards.differing(home)
        told = [*self._links_told(home, since), *self._boards.moved(home, since, differing)]
        waiting = sorted(each for each in told if each.stamp not in known)
        held: list[Found] = []
        things: int | None = None
        for page in self._updated(home, since):
            new = [issue for issue in page.items if stamp(issue) not in known]
            if things is None:
                things = len(new) if page.next is None else (since is None and self._total(home)) or 0
            # An empty page lets the pump look after what happens meanwhile.
            yield from ([] for _ in self._tell(home, things))
            many = Many(self._told.get(home.id), self._pulls(new))
            newest = END if page.next is None else latest(page.items) or BEGINNING
            held += self._listed(home, new, many, page.at)
            listed = {each.read.ref for each in held}
            waiting = [each for each in waiting if each.at > newest or home.issue(each.number) not in listed]
            is_more = True
            # Thousands may have changed on a board after all issues.
            while is_more:
                due = [each for each in waiting[:AT_ONCE] if each.at <= newest]
                waiting = waiting[len(due) :]
                held += self._relinked(home, due, newest, page.at)
                # What changed on a board after that would move the cursor beyond what is not listed yet: it waits for its time.
                until = min([newest, *(each.at for each in waiting[:1])])
                held.sort(key=lambda each: by_time(each.read))
                ready = sum(is_by(each.read, until) for each in held)
                taken, held = held[: min(ready, AT_ONCE)], held[min(ready, AT_ONCE) :]
                is_more = len(due) == AT_ONCE or ready > AT_ONCE
                found = [each.read for each in taken]
                last = found[-1].time if found else None
                yield from among(found, beside, (last or BEGINNING) if is_more else newest)
                # Only now is it taken: a page that could not be published is asked for again.
                for each in taken:
                    note_taken(known, [(why, each.read) for why in each.changes], each.at)
        self._told.pop(home.id, None)
        self._boards.handed_on(home, differing)

    def count(self, container: str, since: datetime | None) -> int | None:
        """How many issues and pull requests, which is most of it; known of all of them only."""
        return None if since else self._total(self._home(container))

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        """Names every milestone, iteration, release, deployment, workflow run, issue and pull request from the lists alone."""
        home = self._home(container)
        self._boards.refresh()
        yield [Mark(ref, None) for ref in self._boards.sprints(home)]
        for page in self._client.pages(f"{home.path}/milestones", {"state": "all", "per_page": 100}):
            yield [Mark(reference(home, milestone, "milestone"), None) for milestone in page]
        yield from self._shipped.sweep(home)
        yield from self._runs.sweep(home)
        # In order of creation nothing moves from page to page while it is changed.
        query = {"state": "all", "sort": "created", "direction": "asc", "per_page": 100}
        for page in self._client.pages(f"{home.path}/issues", query):
            yield [Mark(reference(home, issue), read_at(issue, self._card(home, issue))) for issue in page]

    def accounts(self, ids: Sequence[str]) -> Iterator[Profile]:
        """What these accounts show to everybody. GitHub does not say whether it has verified the address among it."""
        for ident in ids:
            found = self._profile(ident)
            yield found if found and found.account == ident else Profile(ident)

    def _profile(self, ident: str) -> Profile | None:
        if not _ACCOUNT.fullmatch(ident):
            return None
        try:
            return read_profile(self._client.get(f"/user/{ident}").body)
        except Missing:
            return None

    def unseen(self, container: str) -> Collection[str]:
        """The kinds that the token may not read here."""
        return {*self._shipped.refused(container), *self._runs.refused(container)}

    def complaints(self) -> Iterable[str]:
        """The boards that stand as they were known."""
        return self._boards.complaints()

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        """Each thing by id; empty if it was deleted, or moved to another repository."""
        for container in self._names.unmet():
            with suppress(Withheld):
                self._home(container)
        homes: dict[int, Home] = {}
        for ref in refs:
            match = (_SPRINT_ID if ref.kind == "sprint" else _ID).fullmatch(ref.id)
            if match is None:
                yield Read(ref)
                continue
            repository = int(match[1])
            if repository not in homes:
                homes[repository], _ = self._with_titles(self._home_by_id(repository))
            if ref.kind in BOARDED:
                self._boards.refresh()
            if ref.kind == "sprint":
                yield self._boards.sprints(homes[repository]).get(ref, Read(ref))
                continue
            try:
                read = self._fetch(homes[repository], ref.kind, int(match[2]))
            except Missing:
                # Not the thing but the whole repository, or all of a kind, may be out of reach: that is no deletion.
                self._home_by_id(repository)
                self._assure(homes[repository], ref.kind)
                read = Read(ref)
            yield read if read.ref == ref else Read(ref)

    def redeliver(self, containers: Iterable[str]) -> int:
        """Have GitHub send again what our webhooks did not take, of these repositories, within bounds."""
        if self._redelivery is None:
            return 0
        homes: list[Home] = []
        for container in containers:
            with suppress(Withheld):  # which the round over it says
                homes.append(self._home(container))
        return self._redelivery.ask(homes)

    def _fetch(self, home: Home, kind: str, number: int) -> Read:
        if kind in SHIPPED:
            return self._shipped.fetch(home, kind, number)
        if kind == RUN:
            return self._runs.fetch(home, number)
        if kind == "milestone":
            return read_milestone(home, self._client.get(f"{home.path}/milestones/{number}").body)
        return self._read(home, self._issue(home, number))

    def _assure(self, home: Home, kind: str) -> None:
        """Raises `Withheld` where nothing of this kind may be read."""
        if kind == RUN:
            self._runs.assure(home)
        self._shipped.assure(home, kind)

    def _home(self, container: str) -> Home:
        if not _CONTAINER.fullmatch(container):
            raise Withheld(f"{container!r} is no repository; write it as owner/repo")
        answer = self._client.get(f"/repos/{container}", again=True)
        home = repository(answer.body, container, http_date(answer.headers.get("date")))
        self._names.learn(str(home.id), container)
        return home

    def _home_by_id(self, ident: int) -> Home:
        answer = self._client.get(f"/repositories/{ident}", again=True)
        return repository(answer.body, self._names.known().get(str(ident)), http_date(answer.headers.get("date")))

    def _with_titles(self, home: Home) -> tuple[Home, list[Any]]:
        pages = self._client.pages(f"{home.path}/milestones", {"state": "all", "per_page": self._page_size}, again=True)
        milestones = [milestone for page in pages for milestone in page]
        return home.knowing(milestones), milestones

    def _still_there(self, home: Home, issue: Any, many: Many) -> Iterator[Read]:
        """The thing behind a listed issue, unless it went away meanwhile (which a sweep will find)."""
        try:
            read = read_thing(home, self._parts(home, issue, many))
            # What was told of many at once is asked for by itself where it does not do.
            yield self._read(home, issue) if read.problem else self._settled(home, issue, read)
        except Missing:
            return

    def _read(self, home: Home, issue: Any) -> Read:
        """The whole thing behind an issue."""
        return self._settled(home, issue, read_thing(home, self._parts(home, issue)))

    def _settled(self, home: Home, issue: Any, read: Read) -> Read:
        """The thing may change between two of the requests that make it up. Where its events do not add up it is read
        again from the start, and believed once two such readings agree.
        """
        for _ in range(MAX_READINGS):
            if not unsettled(read):
                break
            again = read_thing(home, self._parts(home, self._issue(home, issue["number"])))
            if again.content == read.content:
                return again
            read = again
        return read

    def _parts(self, home: Home, issue: Any, many: Many | None = None) -> Parts:
        if not isinstance(issue, dict) or not isinstance(issue.get("number"), int):
            return Parts(issue)
        number = issue["number"]
        pull, card = github_bulk.Pull(None), self._card(home, issue)
        if issue.get("pull_request") is not None:
            pull = (many.pull(number) if many else None) or self._pull(home, number)
        # Before the events, which find out if it is gone meanwhile.
        blockers = self._blockers(home, number) if pull.pull is None and has_blockers(issue) else None
        events = many.events(issue) if many else None
        if events is None:
            events = self._client.all(f"{home.path}/issues/{number}/events")
        return Parts(issue, events, *pull, blockers, card)

    def _card(self, home: Home, issue: Any) -> Card | None:
        """What a board shows of a listed thing; of a pull request nothing."""
        number = issue.get("number") if isinstance(issue, dict) else None
        return self._boards.card(home, number) if isinstance(number, int) else None

    def _blockers(self, home: Home, number: int) -> Sequence[Any] | None:
        """What blocks an issue; None where GitHub has no such list after all."""
        with suppress(Missing):
            return self._client.all(f"{home.path}/issues/{number}/dependencies/blocked_by")
        return None

    def _pull(self, home: Home, number: int) -> github_bulk.Pull:
        path = f"{home.path}/pulls/{number}"
        return github_bulk.Pull(
            self._client.get(path).body, self._client.all(f"{path}/reviews"), self._client.all(f"{path}/commits")
        )

    def _pulls(self, issues: Sequence[Any]) -> Mapping[int, github_bulk.Pull]:
        """Of the pull requests among these listed issues what one query tells of many."""
        found: dict[int, github_bulk.Pull] = {}
        for asked in github_bulk.batches(issues):
            if len(asked) > 1:
                found |= github_bulk.pulls(asked, self._client.query(github_bulk.PULLS, {"ids": list(asked)}))
        return found

    def _tell(self, home: Home, things: int) -> Iterator[None]:
        """Read the repository's list of events, where so many things are listed that it costs less than half of asking
        them one by one. Yields now and then: it takes a while, and hints are not to wait for it."""
        if things < github_bulk.MANY and home.id not in self._told:
            return
        first = f"{home.path}/issues/events", {"per_page": 100}
        told = self._told.setdefault(home.id, github_bulk.Told(first, HISTORIC))
        told.worth = max(told.worth, min(things // 2, github_bulk.MOST_PAGES))
        asked = set[str]()
        while told.following and told.pages < told.worth and self._told_bytes() < github_bulk.MOST_BYTES:
            try:
                page = self._client.page(*told.following, asked)
            except Fatal:  # so far back and no further (422); what else it may mean, the things by themselves will say
                break
            except Retryable as error:
                if error.after is None and told.fails():
                    break  # it may be too heavy for GitHub; whatever holds up all requests, the next one says
                raise
            told.add(page.items, page.at, page.next)
            if page.last and page.last > told.worth:
                break
            if told.pages % github_bulk.PAGES_AT_ONCE == 0:
                yield
        told.end()

    def _links_told(self, home: Home, since: datetime | None) -> list[Telling]:
        """The events since then that tell of links. A link moves no issue's time, so no listing of issues
        shows it. From the beginning all of them are read anyway."""
        found = list[Telling]()
        if since is None:
            return found
        with suppress(Fatal):  # so far back and no further (422); what else it may mean, the listing says
            for events in self._client.pages(f"{home.path}/issues/events", {"per_page": LINK_EVENTS}, again=True):
                found += telling(events)
                if any(at < since for at in map(created_at, events) if at):
                    break
        return [each for each in found if each.at >= since]

    def _relinked(self, home: Home, due: Iterable[Telling], newest: datetime, at: datetime | None) -> Iterator[Found]:
        """The issues that these tell of, each once, but for those that are listed later."""
        reasons: dict[int, list[Change]] = {}
        for each in due:
            reasons.setdefault(each.number, []).append(Change(each.stamp, each.at))
        for number, changes in reasons.items():
            with suppress(Missing):
                issue = self._issue(home, number)
                changed_at = updated_at(issue)
                if changed_at is None or changed_at <= newest:
                    yield Found((*changes, *self._boards.changes(home, number)), self._read(home, issue), at)

    def _listed(self, home: Home, issues: Iterable[Any], many: Many, at: datetime | None) -> Iterator[Found]:
        """These listed issues and pull requests, read whole."""
        for issue in issues:
            card = self._card(home, issue)
            changes = (change(issue), *(self._boards.changes(home, issue["number"]) if card else ()))
            yield from (Found(changes, read, at) for read in self._still_there(home, issue, many))

    def _told_bytes(self) -> int:
        return sum(told.size for told in self._told.values())

    def _total(self, home: Home) -> int | None:
        """How many issues and pull requests there are. The list of them does not say: its pages have no numbers."""
        owner, _, name = home.full_name.partition("/")
        return github_bulk.total(self._client.query(github_bulk.TOTAL, {"owner": owner, "name": name}))

    def _issue(self, home: Home, number: int) -> Any:
        issue = self._client.get(f"{home.path}/issues/{number}").body
        # A transferred issue redirects to its new repository, and PyGithub follows.
        if not is_at_home(home, issue, number) and not is_at_home(self._home_by_id(home.id), issue, number):
            raise Missing("the issue is in another repository now")
        return issue

    def _updated(self, home: Home, since: datetime | None) -> Iterator[Page]:
        """The issues list by keyset: after each page it is asked again from the last second seen.

        Pages by number would skip what moves while we read; only within one second that is longer than a page is
        `Link` followed.
        """
        path, query = f"{home.path}/issues", self._since(since)
        newest, seen, asked = since, frozenset[str](), set[str]()
        for _ in range(MAX_PAGES):
            page = self._client.page(path, query, asked, again=True)
            yield page._replace(items=[issue for issue in page.items if stamp(issue) not in seen])
            if page.next is None:
                return
            last = latest(page.items)
            if last is not None and (newest is None or last > newest):
                newest, seen = last, frozenset(stamp(issue) for issue in page.items if updated_at(issue) == last)
                path, query = f"{home.path}/issues", self._since(last)
            else:
                seen |= {stamp(issue) for issue in page.items}
                path, query = page.next, {}
        raise Retryable(f"the issues of {home.container} do not end after {MAX_PAGES} pages")

    def _since(self, since: datetime | None) -> Query:
        query = {"state": "all", "sort": "updated", "direction": "asc", "per_page": self._page_size}
        return query if since is None else {**query, "since": f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"}


def _sign_in(settings: GitHubSettings, clock: Clock) -> Auth.Auth:
    """How requests are signed: by a token as it is, or by one that an App asks for whenever it needs one."""
    assert settings.auth
    if settings.auth.app is None:
        assert settings.auth.token
        return Auth.Token(usable_token(settings.auth.token.reveal(), "auth.token"))

    def mint(own: Auth.AppAuthToken, path: str) -> github_app.Minted:
        status, headers, text = Client(settings.url, own, clock).post(path, {})
        error = failure(status, headers, text, path, clock())
        if status != 201 and isinstance(error, Retryable):
            raise error
        return github_app.Minted(status, text)

    return github_app.Installation(settings.auth.app, mint, clock)


def _as_app(settings: GitHubSettings, clock: Clock) -> Callable[[], Client] | None:
    """How to sign in as the App itself, if it is one."""
    app = settings.auth and settings.auth.app
    return (lambda: Client(settings.url, Auth.AppAuthToken(github_app.signed(app)), clock)) if app else None


# --- small print ------------------------------------------------------------------------------------------------------

_CONTAINER = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ID = re.compile(r"(\d{1,18})/(\d{1,18})")
_ACCOUNT = re.compile(r"[0-9]{1,18}")
_SPRINT_ID = re.compile(r"(\d{1,18})/([A-Za-z0-9_=-]{1,100}/[A-Za-z0-9_?-]{1,64})")


def latest(items: Iterable[Any]) -> datetime | None:
    """When the last of these listed items changed."""
    return max((time for time in map(updated_at, items) if time), default=None)


def is_by(read: Read, time: datetime | None) -> bool:
    """Whether a thing changed no later than that."""
    return read.time is None or (time is not None and read.time <= time)


def by_time(read: Read) -> tuple[bool, datetime | None]:
    """The key by which the oldest change comes first."""
    return read.time is not None, read.time


def among(reads: Sequence[Read], beside: Changed, time: datetime) -> Iterator[Sequence[Read]]:
    """These, which are in order, with what is beside them up to then."""
    for others in beside.until(time):
        at = others[-1].time
        yield sorted([*others, *(read for read in reads if is_by(read, at))], key=by_time)
        reads = [read for read in reads if not is_by(read, at)]
    yield reads


class Found(NamedTuple):
    """A thing that was read: for which changes, and when these were listed."""

    changes: Sequence[Change]
    read: Read
    at: datetime | None


class Many(NamedTuple):
    """What was told of many things at once."""

    told: github_bulk.Told | None
    pulls: Mapping[int, github_bulk.Pull]

    def events(self, issue: Any) -> Sequence[Any] | None:
        """The events of a listed issue; None where they are to be asked for."""
        if self.told is None:
            return None
        return self.told.of(issue["number"], created_at(issue), updated_at(issue), SETTLED)

    def pull(self, number: int) -> github_bulk.Pull | None:
        """The pull request with its reviews and commits; None where they are to be asked for."""
        return self.pulls.get(number)
