"""GitHub: issues as work items, pull requests as change requests, milestones; with their histories from issue events.

The class does the I/O; everything below it is pure. A thing's id is `REPOSITORY_ID/NUMBER`: both never change, and
it can be fetched through `/repositories/{id}`, after a rename too. GitHub names milestones in its events by title
only, so a title is looked up among the milestones of now; one that no longer exists stays as `title:NAME`.

Next on the way of an event: `connectors/pump.py`.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import requests
from github import Auth, Github
from github.Requester import Requester
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from connectors import base, github_app, github_bulk, github_webhooks, webhooks
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
    bounded_wait,
    http_date,
    problem,
    retry_after,
    unreached,
    usable_token,
)
from connectors.bounded import BoundedAdapter
from connectors.conditional import Answers
from pmsync.core.events import (
    MAX_CHANGES,
    Change,
    ChangeRequest,
    Mention,
    Milestone,
    Review,
    Scalar,
    StatusCategory,
    WorkItem,
)

TIMEOUT_SECONDS = 30
MAX_PAGES = 10_000
MAX_READINGS = 3
API_VERSION = "2022-11-28"
SECONDARY_LIMIT_SECONDS = 60.0
"""How long to wait where GitHub names no time (its documentation: at least one minute)."""
SETTLED, UNSETTLED = timedelta(seconds=60), timedelta(hours=1)
"""How long after its last change a thing must have been read to be read as a whole; and one that did not add up then."""
MAX_MENTIONS = 500
MOST_TAKEN = 10_000
"""Things of one repository that are remembered as taken; a megabyte or two."""


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

    @model_validator(mode="after")
    def _signs_in(self) -> Self:
        if self.live and self.auth is None:
            raise ValueError("auth is missing: {token: {env: NAME}}, or an app; what is only imported has live: false")
        return self


class GitHubConnector:
    """Reads repositories (`owner/repo` as configured is the container)."""

    Settings: ClassVar[type[base.Settings]] = GitHubSettings
    webhooks: ClassVar[webhooks.Webhooks] = github_webhooks.WEBHOOKS

    def __init__(self, name: str, requester: Requester, clock: Clock, page_size: int) -> None:
        self.name = name
        self._requester = requester
        self._clock = clock
        self._page_size = page_size
        self._names = Names()
        self._taken: dict[str, Taken] = {}
        self._told: dict[int, github_bulk.Told] = {}
        self._answers = Answers()

    @classmethod
    def connect(cls, settings: GitHubSettings, clock: Clock) -> Self:
        """A connector for these settings; PyGithub keeps the session, without its own retries and pauses."""
        if settings.auth is None:
            raise Fatal(f"{settings.name} is not live: what is known of it comes with `pmsync import`")
        return cls(settings.name, _requester(settings, _sign_in(settings, clock)), clock, settings.page_size)

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        """What is wrong with the token or these repositories, one line each."""
        for container in containers:
            try:
                home = self._home(container)
            except Fatal as problem:
                yield f"{container}: {problem}"
                continue
            if home.full_name != container:
                yield f"{container}: GitHub calls it {home.full_name}; write that name in the configuration"

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
        told = self._told.setdefault(home.id, github_bulk.Told(first, _STEPS))
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
            status, headers, text = _sent(
                self._requester, "POST", self._requester.graphql_url, input={"query": query, "variables": variables}
            )
            answer = json.loads(text) if status == 200 else None
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
        status, headers, text = _sent(self._requester, "GET", path, **options)
        if known and status == 304:
            return Answer({**known.headers, **headers}, json.loads(known.text))
        if status not in accept:
            self._doubts(status)
            raise failure(status, headers, text, what, self._clock())
        try:
            answer = Answer(headers, json.loads(text))
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
        status, headers, text = _sent(_requester(settings, own), "POST", path, input={})
        error = failure(status, headers, text, path, clock())
        if status != 201 and isinstance(error, Retryable):
            raise error
        return github_app.Minted(status, text)

    return github_app.Installation(settings.auth.app, mint, clock)


def _requester(settings: GitHubSettings, auth: Auth.Auth) -> Requester:
    """PyGithub keeps the session, without its own retries and pauses."""
    client = Github(
        auth=auth,
        base_url=settings.url.rstrip("/"),
        timeout=TIMEOUT_SECONDS,
        user_agent="pmsync",
        api_version=API_VERSION,
        retry=0,
        seconds_between_requests=0,
        seconds_between_writes=0,
    )
    bound(client.requester)
    # At its lowest level it logs whole answers, and so the tokens that an App is given.
    logging.getLogger("github.Requester").setLevel(logging.INFO)
    return client.requester


def _sent(requester: Requester, verb: str, path: str, **options: Any) -> tuple[int, Mapping[str, str], str]:
    """The answer to a request: status, headers, text. What keeps it from coming is a connector's error."""
    what = urlsplit(path).path
    try:
        return requester.requestJson(verb, path, **options)
    except requests.RequestException as error:
        raise Retryable(f"GitHub at {unreached(requester.base_url, error)}") from None
    except (ValueError, OverflowError):
        raise Retryable(f"GitHub's answer to {what} has headers that cannot be read") from None
    except RuntimeError:
        raise Fatal(f"GitHub redirects {what} to another host; correct the source's url") from None


def bound(requester: Requester) -> None:
    """Have its answers bounded. PyGithub's own way to give it other connections is one for the whole process, and makes it
    open a new one for each request."""
    inner: Any = requester._Requester__connectionClass  # type: ignore[attr-defined]

    class Bounded(inner):  # type: ignore[misc]
        def __init__(self, *values: Any, **options: Any) -> None:
            super().__init__(*values, **options)
            self.session.mount(f"{self.protocol}://", BoundedAdapter(max_retries=0))

    requester._Requester__connectionClass = Bounded  # type: ignore[attr-defined]


# --- what the pure functions are about --------------------------------------------------------------------------------

Query = Mapping[str, Any]
_CONTAINER = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
_ID = re.compile(r"(\d{1,18})/(\d{1,18})")


class Missing(Withheld):
    """GitHub says that there is no such thing (404, 410)."""


class Answer(NamedTuple):
    """An answer of GitHub: header names in lower case, the body parsed."""

    headers: Mapping[str, str]
    body: Any


class Page(NamedTuple):
    """One page of a list, the URL of the next one, how many pages there are, and GitHub's clock when it answered (None:
    it did not say)."""

    items: list[Any]
    next: str | None
    last: int | None
    at: datetime | None


Taken = dict[str, datetime]
"""The stamps of what was read as a whole and handed on -> when it changed."""


class Parts(NamedTuple):
    """All answers that make up one issue or pull request, unchecked."""

    issue: Any
    events: Sequence[Any] = ()
    pull: Any = None
    reviews: Sequence[Any] = ()
    commits: Sequence[Any] = ()


class Many(NamedTuple):
    """What was told of many things at once."""

    told: github_bulk.Told | None
    pulls: Mapping[int, github_bulk.Pull]

    def events(self, issue: Any) -> Sequence[Any] | None:
        """The events of a listed issue; None where they are to be asked for."""
        if self.told is None:
            return None
        try:
            listed = _Lived.model_validate(issue)
        except ValidationError:
            return None
        return self.told.of(issue["number"], listed.created_at, listed.updated_at, SETTLED)

    def pull(self, number: int) -> github_bulk.Pull | None:
        """The pull request with its reviews and commits; None where they are to be asked for."""
        return self.pulls.get(number)


@dataclass(frozen=True, slots=True)
class Home:
    """A repository: what its things need to know of it. `titles` is title -> (milestone id, when it was created)."""

    id: int
    full_name: str
    container: str
    titles: Mapping[str, tuple[str, str]]

    @property
    def path(self) -> str:
        return f"/repositories/{self.id}"

    def thing(self, number: int) -> str:
        """The id of the thing with this number."""
        return f"{self.id}/{number}"

    def knowing(self, milestones: Iterable[Any]) -> Home:
        """With the titles of these milestones."""
        known = [
            item for item in milestones if isinstance(item, dict) and {"title", "number", "created_at"} <= set(item)
        ]
        titles = {str(item["title"]): (self.thing(item["number"]), str(item["created_at"])) for item in known}
        return Home(self.id, self.full_name, self.container, titles)

    def milestone(self, title: str, at: datetime) -> str:
        """The id of the milestone that bore this title then, or `title:NAME` where it is none of today's."""
        ident, created_at = self.titles.get(title, ("", ""))
        return ident if ident and created_at <= f"{at:%Y-%m-%dT%H:%M:%SZ}" else f"title:{title}"


def repository(body: Any, container: str | None) -> Home:
    """The repository in an answer; `container` is its configured name, GitHub's own where that is not known."""
    if not isinstance(body, dict) or not isinstance(body.get("id"), int) or not isinstance(body.get("full_name"), str):
        raise Retryable("GitHub's answer about a repository has no id and full_name")
    if body.get("has_issues") is False:
        raise Withheld(
            f"the issues of {body['full_name']} are turned off; turn them on, or take it out of the configuration"
        )
    return Home(body["id"], body["full_name"], container or body["full_name"], {})


# --- answers and failures ---------------------------------------------------------------------------------------------


def failure(status: int, headers: Mapping[str, str], text: str, what: str, now: datetime) -> ConnectorError:
    """What an answer that is not 200 means for us."""
    limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    # The text is only looked at, never repeated: it is the one sign of some secondary limits.
    if status == 429 or (status == 403 and (limited or "rate limit" in text.lower())):
        return Retryable("GitHub's rate limit is reached", pause(headers, now))
    if status in (404, 410):
        return Missing(f"GitHub has no {what}, or the token may not see it; correct the name, or give the token access")
    if status == 401:
        return Fatal("GitHub refuses the token (401); make a new one and put it where auth.token points")
    if status in (403, 451):
        kind = Withheld if "/repos/" in what or "/repositories/" in what else Fatal
        return kind(f"the token may not read {what} ({status}); let it read metadata, issues and pull requests")
    if 400 <= status < 500 and status != 408:
        return Fatal(f"GitHub refuses {what} ({status}); is the source's url that of a GitHub API?")
    return Retryable(f"GitHub answered {status} to {what}", waits(headers, now))


def pause(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds until a rate limit lets us go on, by GitHub's own clock."""
    after = waits(headers, now)
    if after is not None:
        return after
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"[0-9]{1,12}", reset):
        return bounded_wait(int(reset) - answered_at(headers, now).timestamp())
    return SECONDARY_LIMIT_SECONDS


def waits(headers: Mapping[str, str], now: datetime) -> float | None:
    """What `Retry-After` says, by GitHub's own clock."""
    return retry_after(headers.get("retry-after"), answered_at(headers, now))


def answered_at(headers: Mapping[str, str], otherwise: datetime) -> datetime:
    """The `Date` of an answer."""
    return http_date(headers.get("date")) or otherwise


def next_page(link: str, base_url: str) -> str | None:
    """The URL of the next page in a `Link` header (RFC 8288); it must lie on our own host, where the token may go."""
    links = requests.utils.parse_header_links(link) if link else []
    url = next((str(item["url"]) for item in links if item.get("rel") == "next"), None)
    try:
        elsewhere = url is not None and urlsplit(url)[:2] != urlsplit(base_url)[:2]
    except ValueError:
        raise Retryable("GitHub's answer names a next page whose address is none") from None
    if elsewhere:
        raise Fatal("GitHub's next page is on another host; correct the source's url")
    return url


def last_page(link: str) -> int | None:
    """The number of the last page in a `Link` header."""
    links = requests.utils.parse_header_links(link) if link else []
    url = next((str(item["url"]) for item in links if item.get("rel") == "last"), "")
    number = re.search(r"[?&]page=([0-9]{1,6})(?:&|$)", url)
    return int(number[1]) if number else None


def reference(home: Home, item: Any, kind: str = "") -> Ref:
    """The reference of a listed item; one without a number shares `?`."""
    number = item.get("number") if isinstance(item, dict) else None
    pull = isinstance(item, dict) and item.get("pull_request") is not None
    kind = kind or ("change_request" if pull else "work_item")
    return Ref(kind, home.thing(number) if isinstance(number, int) else f"{home.id}/?")


def updated_at(item: Any) -> datetime | None:
    """When a listed item changed last; None where it does not say."""
    try:
        return _Listed.model_validate(item).updated_at
    except ValidationError:
        return None


def stamp(item: Any) -> str:
    """One state of a listed item: its id and time."""
    return f"{item.get('id')}@{item.get('updated_at')}" if isinstance(item, dict) else repr(item)


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


def is_at_home(home: Home, issue: Any, number: int) -> bool:
    """Whether an answer is about the issue that we asked for."""
    if not isinstance(issue, dict):
        return True
    there = issue.get("repository_url")
    elsewhere = isinstance(there, str) and not there.casefold().endswith(f"/repos/{home.full_name}".casefold())
    return issue.get("number") == number and not elsewhere


# --- GitHub's shapes: the fields that we read, and no others ----------------------------------------------------------


def _text(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("should be a date and time as text")
    return value


def _in_utc(when: datetime) -> datetime:
    try:
        return when.astimezone(UTC)
    except OverflowError:
        raise ValueError("should be a time of the years 1 to 9999") from None


_Time = Annotated[AwareDatetime, BeforeValidator(_text), Field(strict=False), AfterValidator(_in_utc)]


class _Raw(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Listed(_Raw):
    updated_at: _Time


class _Lived(_Listed):
    created_at: _Time


class _User(_Raw):
    id: int


class _Named(_Raw):
    name: str


class _Titled(_Raw):
    title: str


class _Numbered(_Raw):
    number: int


class _Head(_Raw):
    ref: str


class _Issue(_Raw):
    number: int
    title: str
    html_url: str
    state: Literal["open", "closed"]
    state_reason: str | None = None
    created_at: _Time
    updated_at: _Time
    assignees: list[_User]
    labels: list[_Named | str]
    milestone: _Numbered | None
    type: _Named | None = None


class _Pull(_Raw):
    number: int
    title: str
    body: str | None
    html_url: str
    state: Literal["open", "closed"]
    draft: bool = False
    created_at: _Time
    merged_at: _Time | None
    closed_at: _Time | None
    user: _User | None
    milestone: _Numbered | None
    head: _Head


class _Review(_Raw):
    id: int
    state: str
    submitted_at: _Time | None = None
    user: _User | None


class _Message(_Raw):
    message: str


class _Commit(_Raw):
    commit: _Message


class _Milestone(_Raw):
    number: int
    title: str
    html_url: str
    state: Literal["open", "closed"]
    created_at: _Time
    due_on: _Time | None
    closed_at: _Time | None


class _Event(_Raw):
    id: int
    event: str
    created_at: _Time
    state_reason: str | None = None
    assignee: _User | None = None
    label: _Named | None = None
    milestone: _Titled | None = None


# --- translation ------------------------------------------------------------------------------------------------------


def read_milestone(home: Home, milestone: Any) -> Read:
    """A milestone as read. It has no time: GitHub's own moves with every issue that joins or leaves it."""
    ref = reference(home, milestone, "milestone")
    try:
        return Read(ref, None, translate_milestone(home, milestone))
    except ValidationError as error:
        return Read(ref, None, problem=problem(error), raw=raw(milestone))


def read_thing(home: Home, parts: Parts) -> Read:
    """An issue or a pull request as read; what cannot be translated says so and keeps what came."""
    ref, time = reference(home, parts.issue), updated_at(parts.issue)
    try:
        if parts.pull is not None:
            content: WorkItem | ChangeRequest = translate_pull(home, parts)
        else:
            content = translate_issue(home, parts.issue, parts.events)
    except ValidationError as error:
        return Read(ref, time, problem=problem(error), raw=raw(parts._asdict()))
    return Read(ref, time, content)


def raw(body: Any) -> bytes:
    """What came, as JSON; in ASCII, since what came may be no text that UTF-8 can hold."""
    try:
        return json.dumps(body, separators=(",", ":")).encode()
    except RecursionError:
        return b""


def unsettled(read: Read) -> bool:
    """Whether the events of a thing do not add up to its present state."""
    return isinstance(read.content, WorkItem | ChangeRequest) and bool(read.content.untracked)


def translate_milestone(home: Home, milestone: Any) -> Milestone:
    """A milestone; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Milestone.model_validate(milestone)
    return Milestone(
        key=f"{home.container}/milestone/{found.number}",
        container=home.container,
        title=found.title,
        url=found.html_url,
        created_at=found.created_at,
        # GitHub keeps the day as midnight of its own zone (07:00 or 08:00 UTC), so the day in UTC is the one meant.
        due_date=found.due_on.date() if found.due_on else None,
        state=found.state,
        closed_at=found.closed_at,
    )


def translate_issue(home: Home, issue: Any, events: Sequence[Any]) -> WorkItem:
    """An issue with its history; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Issue.model_validate(issue)
    labels = tuple(label if isinstance(label, str) else label.name for label in found.labels)
    lanes = {
        "status": (_closed(found.state_reason) if found.state == "closed" else "open",),
        "assignees": tuple(str(user.id) for user in found.assignees),
        "milestones": (home.thing(found.milestone.number),) if found.milestone else (),
        "blocked": tuple(filter(None, map(_blocking, labels))),
    }
    past = history(home, events, lanes, _ISSUE_FIELDS)
    return WorkItem(
        key=f"{home.container}#{found.number}",
        container=home.container,
        type=_type(labels, found.type),
        title=found.title,
        url=found.html_url,
        created_at=found.created_at,
        status=_status(lanes),
        status_category=_category(lanes),
        assignee=_first(lanes["assignees"]),
        milestone=_last(lanes["milestones"]),
        blocked=bool(lanes["blocked"]),
        labels=labels,
        history=past.changes,
        history_cut=past.cut,
        untracked=past.untracked,
    )


def translate_pull(home: Home, parts: Parts) -> ChangeRequest:
    """A pull request with its reviews, commits and history; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Pull.model_validate(parts.pull)
    messages = [each.commit.message for each in map(_Commit.model_validate, parts.commits)]
    named = mentions(home.container, found.head.ref, found.title, found.body or "", messages)
    state: Literal["open", "merged", "closed"] = "merged" if found.merged_at else found.state
    lanes = {
        "status": (state,),
        "draft": ("draft",) if found.draft else (),
        "milestones": (home.thing(found.milestone.number),) if found.milestone else (),
    }
    past = history(home, parts.events, lanes, _PULL_FIELDS)
    return ChangeRequest(
        key=f"{home.container}#{found.number}",
        container=home.container,
        title=found.title,
        url=found.html_url,
        created_at=found.created_at,
        author=str(found.user.id) if found.user else None,
        state=state,
        draft=found.draft,
        milestone=_last(lanes["milestones"]),
        merged_at=found.merged_at,
        closed_at=found.closed_at,
        reviews=tuple(_reviews(parts.reviews)),
        work_items=tuple(sorted({each.key for each in named})),
        mentions=named,
        history=past.changes,
        history_cut=past.cut,
        untracked=past.untracked,
    )


def _reviews(reviews: Sequence[Any]) -> Iterator[Review]:
    for review in map(_Review.model_validate, reviews):
        if review.submitted_at:  # one that is still being written has no time
            reviewer = str(review.user.id) if review.user else None
            yield Review(id=str(review.id), at=review.submitted_at, state=review.state.lower(), reviewer=reviewer)


def _type(labels: Sequence[str], declared: _Named | None) -> str:
    if any(label.lower() == "bug" for label in labels):
        return "bug"
    return declared.name if declared else "issue"


_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_KEY = re.compile(r"(?<![A-Za-z0-9_-])([A-Z][A-Z0-9]{1,9})-([1-9][0-9]{0,6})(?![A-Za-z0-9_]|-[0-9]|\.[0-9])")
_NO_PROJECTS = frozenset({"CVE", "CWE", "FIPS", "HTTP", "IEEE", "ISO", "PEP", "RFC", "SHA", "TLS", "UTF"})
_CLOSES = re.compile(
    r"\b(?:close[sd]?|fix(?:es|ed)?|resolve[sd]?):?[ \t]+"
    r"(?:https?://[^/\s]+/(?P<url>[\w.-]+/[\w.-]+)/issues/|(?P<repo>[\w.-]+/[\w.-]+)?\#)(?P<number>[1-9][0-9]{0,9})\b",
    re.IGNORECASE | re.ASCII,
)


def mentions(container: str, branch: str, title: str, body: str, messages: Iterable[str]) -> tuple[Mention, ...]:
    """The work items that a pull request names, and where: keys like APO-12 anywhere, `owner/repo#12` after a closing
    keyword. The first `MAX_MENTIONS` of them, by key."""
    texts = [("title", title), ("body", _COMMENT.sub("", body)), *(("commit", message) for message in messages)]
    keys = ((match, where) for where, text in (("branch", branch), *texts) for match in _KEY.finditer(text))
    found = {(match[0], where) for match, where in keys if match[1] not in _NO_PROJECTS}
    closed = (match for _, text in texts for match in _CLOSES.finditer(text))
    found |= {(f"{match['url'] or match['repo'] or container}#{match['number']}", "closing") for match in closed}
    return tuple(Mention(key=key, where=where) for key, where in sorted(found)[:MAX_MENTIONS])


# --- history ----------------------------------------------------------------------------------------------------------
# A lane is one independent strand of a thing's state, as a tuple of texts; a field is read off one lane or two.

Lanes = Mapping[str, tuple[str, ...]]


class History(NamedTuple):
    """The changes of the tracked fields, oldest first, and the fields whose events do not add up."""

    changes: tuple[Change, ...]
    untracked: tuple[str, ...]
    cut: bool


class _Gap(Exception):
    """An event that cannot follow on what was there before: part of the history is missing."""


class _Field(NamedTuple):
    lanes: frozenset[str]
    value: Callable[[Lanes], Scalar]


class _Step(NamedTuple):
    lane: str
    act: Callable[[tuple[str, ...], str], tuple[str, ...]]
    value: Callable[[Home, _Event], str | None]


def _first(values: tuple[str, ...]) -> str | None:
    return values[0] if values else None


def _last(values: tuple[str, ...]) -> str | None:
    return values[-1] if values else None


def _status(lanes: Lanes) -> str:
    return lanes["status"][0]


def _category(lanes: Lanes) -> StatusCategory:
    if _status(lanes) == "open":
        return StatusCategory.in_progress if lanes["assignees"] else StatusCategory.todo
    return StatusCategory.done if _status(lanes) == "closed" else StatusCategory.dropped


def _closed(reason: str | None) -> str:
    return {"not_planned": "closed (not planned)", "duplicate": "closed (duplicate)"}.get(reason or "", "closed")


def _blocking(label: str) -> str | None:
    return "blocked" if label.lower() == "blocked" else None


def _add(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if value in values:
        raise _Gap
    return (*values, value)


def _remove(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if value not in values:
        raise _Gap
    return tuple(each for each in values if each != value)


def _enter(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    # A change of milestone is told by two events, whose order GitHub does not promise: for a moment there are two.
    if len(values) > 1:
        raise _Gap
    return _add(values, value)


def _leave(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if values[:1] != (value,):
        raise _Gap
    return values[1:]


def _reopen(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if values == (value,):
        raise _Gap
    return (value,)


def _close(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    # A closed issue may be closed again, for another reason; a merged pull request is told to be closed as well.
    return values if values == ("merged",) else (value,)


def _assignee(_: Home, event: _Event) -> str | None:
    if event.assignee is None:
        raise _Gap
    return str(event.assignee.id)


def _milestone(home: Home, event: _Event) -> str | None:
    if event.milestone is None:
        raise _Gap
    return home.milestone(event.milestone.title, event.created_at)


def _label(_: Home, event: _Event) -> str | None:
    return _blocking(event.label.name) if event.label else None


def _always(value: str) -> Callable[[Home, _Event], str]:
    return lambda _home, _event: value


_STEPS: Mapping[str, _Step] = {
    "closed": _Step("status", _close, lambda _, event: _closed(event.state_reason)),
    "reopened": _Step("status", _reopen, _always("open")),
    "merged": _Step("status", _close, _always("merged")),
    "assigned": _Step("assignees", _add, _assignee),
    "unassigned": _Step("assignees", _remove, _assignee),
    "milestoned": _Step("milestones", _enter, _milestone),
    "demilestoned": _Step("milestones", _leave, _milestone),
    "labeled": _Step("blocked", _add, _label),
    "unlabeled": _Step("blocked", _remove, _label),
    "convert_to_draft": _Step("draft", _add, _always("draft")),
    "converted_to_draft": _Step("draft", _add, _always("draft")),
    "ready_for_review": _Step("draft", _remove, _always("draft")),
}
_ISSUE_FIELDS: Mapping[str, _Field] = {
    "status": _Field(frozenset({"status"}), _status),
    "status_category": _Field(frozenset({"status", "assignees"}), lambda lanes: _category(lanes).value),
    "assignee": _Field(frozenset({"assignees"}), lambda lanes: _first(lanes["assignees"])),
    "milestone": _Field(frozenset({"milestones"}), lambda lanes: _last(lanes["milestones"])),
    "blocked": _Field(frozenset({"blocked"}), lambda lanes: bool(lanes["blocked"])),
}
_PULL_FIELDS: Mapping[str, _Field] = {
    "state": _Field(frozenset({"status"}), _status),
    "draft": _Field(frozenset({"draft"}), lambda lanes: bool(lanes["draft"])),
    "milestone": _Field(frozenset({"milestones"}), lambda lanes: _last(lanes["milestones"])),
}


def history(home: Home, events: Sequence[Any], present: Lanes, fields: Mapping[str, _Field]) -> History:
    """The changes that these events made, from the thing's creation to `present`.

    A field is left out, and named as untracked, where its events do not lead to the present value or one of them
    cannot follow on the one before: then the source's history is not whole, and we do not guess.
    """
    told = [
        _Event.model_validate(event)
        for event in events
        if not isinstance(event, dict) or str(event.get("event")) in _STEPS
    ]
    told = [event for event in told if _STEPS[event.event].lane in present]
    end, gaps, changes = _replay(home, told, _beginning(told, present), fields)
    alias = _renamed(end, present)
    end = {lane: tuple(alias.get(value, value) for value in values) for lane, values in end.items()}
    gaps |= {lane for lane, values in present.items() if sorted(values) != sorted(end[lane])}
    untracked = tuple(
        name for name, field in fields.items() if field.lanes & gaps or field.value(end) != field.value(present)
    )
    kept = [_renaming(change, alias) for change in changes if change.field not in untracked]
    return History(tuple(kept[-MAX_CHANGES:]), untracked, len(kept) > MAX_CHANGES)


def _beginning(events: Sequence[_Event], present: Lanes) -> Lanes:
    """At its creation a thing is open, with nothing set; only a pull request may be a draft from the start."""
    drafts = [event.event for event in events if _STEPS[event.event].lane == "draft"]
    begun: dict[str, tuple[str, ...]] = {**dict.fromkeys(present, ()), "status": ("open",)}
    if "draft" in present:
        begun["draft"] = (("draft",) if drafts[0] == "ready_for_review" else ()) if drafts else present["draft"]
    return begun


def _replay(
    home: Home, events: Sequence[_Event], lanes: Lanes, fields: Mapping[str, _Field]
) -> tuple[Lanes, set[str], list[Change]]:
    gaps, changes = set[str](), list[Change]()
    for event in events:
        step = _STEPS[event.event]
        try:
            value = step.value(home, event)
            after = lanes if value is None else {**lanes, step.lane: step.act(lanes[step.lane], value)}
        except _Gap:
            gaps.add(step.lane)
            continue
        changes += _changes(event, lanes, after, fields)
        lanes = after
    return lanes, gaps, changes


def _changes(event: _Event, before: Lanes, after: Lanes, fields: Mapping[str, _Field]) -> list[Change]:
    pairs = {name: (field.value(before), field.value(after)) for name, field in fields.items()}
    moved = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    ident = "{}" if len(moved) == 1 else "{}/{}"
    return [
        Change(field=name, old=old, new=new, at=event.created_at, id=ident.format(event.id, name))
        for name, (old, new) in moved.items()
    ]


def _renamed(end: Lanes, present: Lanes) -> Mapping[str, str]:
    """The one title that no milestone bears today but that must be the present milestone's: it was renamed."""
    old, new = end.get("milestones", ()), present.get("milestones", ())
    return {old[0]: new[0]} if len(old) == len(new) == 1 and old[0].startswith("title:") else {}


def _renaming(change: Change, alias: Mapping[str, str]) -> Change:
    if change.field != "milestone" or not alias:
        return change
    old, new = (alias.get(str(value), value) for value in (change.old, change.new))
    return change.model_copy(update={"old": old, "new": new})
