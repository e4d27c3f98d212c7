"""GitHub: issues as work items, pull requests as change requests, milestones; with their histories from issue events.

What to ask for, and when, is here; how GitHub is spoken to in `connectors/github_client.py`, what its answers mean in
`connectors/github_things.py`, how many things are told at once in `connectors/github_bulk.py`, and which webhooks are to
be sent again in `connectors/github_deliveries.py`.

Next on the way of an event: `connectors/pump.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from github import Auth
from github.Requester import Requester
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from connectors import base, github_app, github_bulk, github_deliveries, github_webhooks, webhooks
from connectors.base import (
    Clock,
    ConnectorError,
    Fatal,
    Mark,
    Names,
    Read,
    Ref,
    Retryable,
    SecretRef,
    Withheld,
    http_date,
    usable_token,
)
from connectors.conditional import Answers
from connectors.github_client import (
    Answer,
    Missing,
    Page,
    answered_at,
    failure,
    last_page,
    next_page,
    parsed,
    requester_of,
    sent,
)
from connectors.github_things import (
    HISTORIC,
    Home,
    Parts,
    created_at,
    is_at_home,
    read_milestone,
    read_thing,
    reference,
    repository,
    stamp,
    unsettled,
    updated_at,
)

MAX_PAGES = 10_000
MAX_READINGS = 3
SETTLED, UNSETTLED = timedelta(seconds=60), timedelta(hours=1)
"""How long after its last change a thing must have been read to be read as a whole; and one that did not add up then."""
MOST_TAKEN = 10_000
"""Things of one repository that are remembered as taken; a megabyte or two."""
NOT_TO_BE_HAD = (400, 404, 410, 422)
"""Answers to who asks for a delivery that GitHub does not keep any more, or cannot send again."""


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
    webhook_redeliver: bool = False
    """Whether GitHub is asked to send webhooks again that it could not deliver; a token needs another right for it."""

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

    def __init__(self, settings: GitHubSettings, requester: Requester, clock: Clock) -> None:
        self.name = settings.name
        self._settings = settings
        self._requester = requester
        self._clock = clock
        self._page_size = settings.page_size
        self._names = Names()
        self._taken: dict[str, Taken] = {}
        self._told: dict[int, github_bulk.Told] = {}
        self._answers = Answers()
        self._unsettled: dict[str, datetime] = {}

    @classmethod
    def connect(cls, settings: GitHubSettings, clock: Clock) -> Self:
        """A connector for these settings; PyGithub keeps the session, without its own retries and pauses."""
        if settings.auth is None:
            raise Fatal(f"{settings.name} is not live: what is known of it comes with `pmsync import`")
        return cls(settings, requester_of(settings.url, _sign_in(settings, clock)), clock)

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
        if self._settings.webhook_redeliver and (unseen := self._without_hook(found)):
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
        return answered_at(self._get("/rate_limit", {}, accept=(200, 404)).headers, self._clock())

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        """All milestones, then pages of the issues and pull requests that changed at or after `since`.

        The pump asks for its last minutes again each time. What was read as a whole and taken is then left out: to read
        the parts of every such issue, each minute, would eat the quota of a repository in which nothing happens.
        """
        home, milestones = self._with_titles(self._home(container))
        yield [read_milestone(home, milestone) for milestone in milestones]
        known = self._taken[container] = still_listed(self._taken.get(container, {}), since)
        things: int | None = None
        for page in self._updated(home, since):
            new = [issue for issue in page.items if stamp(issue) not in known]
            if things is None:
                things = len(new) if page.next is None else (since is None and self._total(home)) or 0
            # An empty page lets the pump look after what happens meanwhile.
            yield from ([] for _ in self._tell(home, things))
            many = Many(self._told.get(home.id), self._pulls(new))
            reads = [(issue, read) for issue in new for read in self._still_there(home, issue, many)]
            yield [read for _, read in reads]
            # Only now is it taken: a page that could not be published is asked for again.
            note_taken(known, reads, page.at)
        self._told.pop(home.id, None)

    def count(self, container: str, since: datetime | None) -> int | None:
        """How many issues and pull requests; known of all of them only."""
        return None if since else self._total(self._home(container))

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        """Names every milestone, issue and pull request from the lists alone."""
        home = self._home(container)
        for page in self._pages(f"{home.path}/milestones", {"state": "all", "per_page": 100}):
            yield [Mark(reference(home, milestone, "milestone"), None) for milestone in page]
        # In order of creation nothing moves from page to page while it is changed.
        query = {"state": "all", "sort": "created", "direction": "asc", "per_page": 100}
        for page in self._pages(f"{home.path}/issues", query):
            yield [Mark(reference(home, issue), updated_at(issue)) for issue in page]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        """Each thing by id; empty if it was deleted, or moved to another repository."""
        for container in self._names.unmet():
            with suppress(Withheld):
                self._home(container)
        homes: dict[int, Home] = {}
        for ref in refs:
            match = _ID.fullmatch(ref.id)
            if match is None:
                yield Read(ref)
                continue
            repository, number = int(match[1]), int(match[2])
            if repository not in homes:
                homes[repository], _ = self._with_titles(self._home_by_id(repository))
            try:
                read = self._fetch(homes[repository], ref.kind, number)
            except Missing:
                # Not the thing but the whole repository may be out of reach: that is no deletion.
                self._home_by_id(repository)
                read = Read(ref)
            yield read if read.ref == ref else Read(ref)

    def redeliver(self, containers: Iterable[str]) -> int:
        """Have GitHub send again what our webhooks did not take, of these repositories, within bounds."""
        if not self._settings.webhook_redeliver:
            return 0
        homes: list[Home] = []
        for container in containers:
            with suppress(Withheld):  # which the round over it says
                homes.append(self._home(container))
        missed = ((hook, delivery) for hook in self._hooks(homes) for delivery in self._missed(hook))
        return sum(self._is_sent_again(*each) for each in islice(missed, github_deliveries.MOST_ASKED))

    def _hooks(self, homes: Sequence[Home]) -> Iterator[Hook]:
        """The webhooks that lead to us: an App has one for all of its repositories."""
        if (app := self._app()) is None:
            for home in homes:
                yield from self._own_hooks(home)
            return
        with suppress(Withheld):  # it has none
            if webhooks.leads_to(_value(app._get("/app/hook/config").body, "url"), self.name):
                yield Hook(app, "/app/hook", frozenset(home.id for home in homes))

    def _own_hooks(self, home: Home) -> Iterator[Hook]:
        """A repository's; none where they may not be read, which only `check` says: it is no failure of the source."""
        with suppress(Withheld):
            for page in self._pages(f"{home.path}/hooks", {"per_page": 100}, again=True):
                for hook in page:
                    ident, url = _value(hook, "id"), _value(_value(hook, "config"), "url")
                    if isinstance(ident, int) and _value(hook, "active") and webhooks.leads_to(url, self.name):
                        yield Hook(self, f"{home.path}/hooks/{ident}")

    def _without_hook(self, homes: Sequence[Home]) -> str:
        """Whose webhooks cannot be had, for people."""
        if self._app() is not None:
            return "" if any(self._hooks(homes)) else "the App"
        return ", ".join(home.container for home in homes if not any(self._own_hooks(home)))

    def _app(self) -> GitHubConnector | None:
        """Signed in as the App itself, which alone may ask for its deliveries."""
        app = self._settings.auth and self._settings.auth.app
        if not app:
            return None
        own = Auth.AppAuthToken(github_app.signed(app))
        return GitHubConnector(self._settings, requester_of(self._settings.url, own), self._clock)

    def _missed(self, hook: Hook) -> Sequence[github_deliveries.Delivery]:
        """What is to be sent again. It is looked for no further back than there may be news, since each page costs quota."""
        since = self._clock() - github_deliveries.KEPT
        since = max(since, self._unsettled.get(hook.path, since))
        found: list[github_deliveries.Delivery] = []
        pages = hook.reader._pages(f"{hook.path}/deliveries", {"per_page": 100})
        for page in islice(pages, github_deliveries.MOST_PAGES):
            found += github_deliveries.listed(page)
            if found and found[-1].delivered_at < since:
                break
        due = github_deliveries.due(found, since, github_webhooks.HINTS, hook.homes)
        self._unsettled[hook.path] = due.since
        return due.deliveries

    def _is_sent_again(self, hook: Hook, delivery: github_deliveries.Delivery) -> bool:
        path = f"{hook.path}/deliveries/{delivery.id}/attempts"
        status, headers, text = sent(hook.reader._requester, "POST", path, input={})
        if status == 202 or status in NOT_TO_BE_HAD:
            return status == 202
        error = failure(status, headers, text, path, self._clock())
        if status == 403 and not isinstance(error, Retryable):
            raise Fatal("the token may not have webhooks sent again (403); let it write Webhooks")
        raise error

    def _fetch(self, home: Home, kind: str, number: int) -> Read:
        if kind == "milestone":
            return read_milestone(home, self._get(f"{home.path}/milestones/{number}").body)
        return self._read(home, self._issue(home, number))

    def _home(self, container: str) -> Home:
        if not _CONTAINER.fullmatch(container):
            raise Withheld(f"{container!r} is no repository; write it as owner/repo")
        home = repository(self._get(f"/repos/{container}", again=True).body, container)
        self._names.learn(str(home.id), container)
        return home

    def _home_by_id(self, ident: int) -> Home:
        return repository(self._get(f"/repositories/{ident}", again=True).body, self._names.known().get(str(ident)))

    def _with_titles(self, home: Home) -> tuple[Home, list[Any]]:
        pages = self._pages(f"{home.path}/milestones", {"state": "all", "per_page": self._page_size}, again=True)
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
        pull = github_bulk.Pull(None)
        if issue.get("pull_request") is not None:
            pull = (many.pull(number) if many else None) or self._pull(home, number)
        events = many.events(issue) if many else None
        if events is None:
            events = self._all(f"{home.path}/issues/{number}/events")
        return Parts(issue, events, *pull)

    def _pull(self, home: Home, number: int) -> github_bulk.Pull:
        path = f"{home.path}/pulls/{number}"
        return github_bulk.Pull(self._get(path).body, self._all(f"{path}/reviews"), self._all(f"{path}/commits"))

    def _pulls(self, issues: Sequence[Any]) -> Mapping[int, github_bulk.Pull]:
        """Of the pull requests among these listed issues what one query tells of many."""
        found: dict[int, github_bulk.Pull] = {}
        for asked in github_bulk.batches(issues):
            if len(asked) > 1:
                found |= github_bulk.pulls(asked, self._query(github_bulk.PULLS, {"ids": list(asked)}))
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
                page = self._page(*told.following, asked)
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

    def _told_bytes(self) -> int:
        return sum(told.size for told in self._told.values())

    def _total(self, home: Home) -> int | None:
        """How many issues and pull requests there are. The list of them does not say: its pages have no numbers."""
        owner, _, name = home.full_name.partition("/")
        return github_bulk.total(self._query(github_bulk.TOTAL, {"owner": owner, "name": name}))

    def _query(self, query: str, variables: Mapping[str, Any]) -> Any:
        """The answer of the GraphQL API, or nothing: it is there to save requests only. Where GitHub says for how long to
        leave it alone, it means all requests."""
        try:
            status, headers, text = sent(
                self._requester, "POST", self._requester.graphql_url, input={"query": query, "variables": variables}
            )
            answer = parsed(text) if status == 200 else None
        except (ConnectorError, ValueError, RecursionError):
            return None
        if status != 200 and "retry-after" in headers:
            raise failure(status, headers, text, "/graphql", self._clock())
        return answer

    def _doubts(self, status: int) -> None:
        """A token of an hour that is refused within it was withdrawn; the next try asks for another one."""
        if status == 401 and isinstance(self._requester.auth, github_app.Installation):
            self._requester.auth.forget()
            raise Retryable("GitHub refuses the installation's token (401); was the App suspended, or taken off?", 60)

    def _issue(self, home: Home, number: int) -> Any:
        issue = self._get(f"{home.path}/issues/{number}").body
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
            page = self._page(path, query, asked, again=True)
            yield page._replace(items=[issue for issue in page.items if stamp(issue) not in seen])
            if page.next is None:
                return
            last = max((time for time in map(updated_at, page.items) if time), default=None)
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

    def _all(self, path: str) -> list[Any]:
        return [item for page in self._pages(path, {"per_page": 100}) for item in page]

    def _pages(self, path: str, query: Query, *, again: bool = False) -> Iterator[list[Any]]:
        asked = set[str]()
        for _ in range(MAX_PAGES):
            page = self._page(path, query, asked, again=again)
            yield page.items
            if page.next is None:
                return
            path, query = page.next, {}
        raise Retryable(f"{path} does not end after {MAX_PAGES} pages")

    def _page(self, path: str, query: Query, asked: set[str], *, again: bool = False) -> Page:
        answer = self._get(path, query, again=again)
        if not isinstance(answer.body, list):
            raise Retryable(f"GitHub's answer to {urlsplit(path).path} is no list")
        following = next_page(answer.headers.get("link", ""), self._requester.base_url)
        if following is not None:
            if following in asked:
                raise Retryable(f"the pages of {urlsplit(path).path} go round in a circle")
            asked.add(following)
        return Page(
            answer.body, following, last_page(answer.headers.get("link", "")), http_date(answer.headers.get("date"))
        )

    def _get(
        self, path: str, query: Query | None = None, accept: Sequence[int] = (200,), *, again: bool = False
    ) -> Answer:
        """The answer to a GET. `again`: this is what each poll asks for, so it is kept, and asked for conditionally."""
        what, request = urlsplit(path).path, f"{path} {sorted((query or {}).items())}"
        known = self._answers.get(request) if again else None
        condition = {"If-None-Match": known.etag} if known else {}
        options = {"parameters": dict(query or {}), "headers": condition}
        status, headers, text = sent(self._requester, "GET", path, **options)
        if known and status == 304:
            return Answer({**known.headers, **headers}, parsed(known.text))
        if status not in accept:
            self._doubts(status)
            raise failure(status, headers, text, what, self._clock())
        try:
            answer = Answer(headers, parsed(text))
        except (ValueError, RecursionError):
            raise Retryable(f"GitHub's answer to {what} is no JSON: it was cut short, or comes from a proxy") from None
        if again:
            self._answers.keep(request, headers, text)
        return answer


def _sign_in(settings: GitHubSettings, clock: Clock) -> Auth.Auth:
    """How requests are signed: by a token as it is, or by one that an App asks for whenever it needs one."""
    assert settings.auth
    if settings.auth.app is None:
        assert settings.auth.token
        return Auth.Token(usable_token(settings.auth.token.reveal(), "auth.token"))

    def mint(own: Auth.AppAuthToken, path: str) -> github_app.Minted:
        status, headers, text = sent(requester_of(settings.url, own), "POST", path, input={})
        error = failure(status, headers, text, path, clock())
        if status != 201 and isinstance(error, Retryable):
            raise error
        return github_app.Minted(status, text)

    return github_app.Installation(settings.auth.app, mint, clock)


class Hook(NamedTuple):
    """A webhook that leads to us, who may ask about it, and of which repositories it is, if of several."""

    reader: GitHubConnector
    path: str
    homes: frozenset[int] | None = None


def _value(body: Any, key: str) -> Any:
    return body.get(key) if isinstance(body, dict) else None


# --- what a listing has to remember ------------------------------------------------------------------------------------

Query = Mapping[str, Any]
_CONTAINER = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ID = re.compile(r"(\d{1,18})/(\d{1,18})")


Taken = dict[str, datetime]
"""The stamps of what was read as a whole and handed on -> when it changed."""


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


def still_listed(taken: Taken, since: datetime | None) -> Taken:
    """What of it a listing from `since` on may show again. One of everything is meant: nothing may be left out of it."""
    return {} if since is None else {each: at for each, at in taken.items() if at >= since - timedelta(seconds=1)}


def note_taken(taken: Taken, reads: Iterable[tuple[Any, Read]], listed_at: datetime | None) -> None:
    """Remember what was listed so long after its change that it has no younger change in the same second."""
    for issue, read in reads:
        changed_at = updated_at(issue)
        if listed_at and changed_at and listed_at - changed_at >= (UNSETTLED if unsettled(read) else SETTLED):
            taken[stamp(issue)] = changed_at
    while len(taken) > MOST_TAKEN:
        del taken[next(iter(taken))]
