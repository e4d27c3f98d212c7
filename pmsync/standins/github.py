"""A GitHub to test and try against: the REST answers that pmsync reads, as they were at the clock's instant.

A host holds the whole history of its repositories, so the same world can be read at any moment. It refuses what it
does not understand (unknown paths, unknown query parameters, no token), for a double that nods at everything proves
nothing. Serve `GitHubHost(...).app` with `pmsync.standins.server.serve`.
"""

from __future__ import annotations

import hashlib
import json
import re
from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import count
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pmsync.standins.github_boards import Boards
from pmsync.standins.github_links import Links, Place, Reference, show_links, show_reference
from pmsync.standins.github_runs import Runs, attempts_at, show_run
from pmsync.standins.github_shipped import Shipped, show_deployment, show_release, show_status, statuses_at
from pmsync.standins.instants import second
from pmsync.standins.instants import text as text_of

Fault = Literal["primary", "secondary", "too_many", "500", "502", "html", "truncated"]
KEPT = timedelta(days=3)
"""How long deliveries of webhooks are listed, and sent again on request."""
RETRY_AFTER = 7
"""What the faults `secondary` and `too_many` tell a caller to wait, in seconds."""


class User(NamedTuple):
    """An account."""

    login: str
    id: int


class Shown(NamedTuple):
    """What an account shows to everybody."""

    user: User
    name: str | None = None
    email: str | None = None


class Team(NamedTuple):
    """A team of an organisation, with its members."""

    name: str
    id: int
    members: tuple[User, ...] = ()


GHOST = User("ghost", 10137)
S = TypeVar("S", "State", "MilestoneState")


class Requested(NamedTuple):
    """A line of the journal."""

    path: str
    query: Mapping[str, str]
    status: int


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


@dataclass(frozen=True, slots=True)
class State:
    """An issue or pull request from `at` on."""

    at: datetime
    updated_at: datetime
    title: str
    body: str | None = None
    state: str = "open"
    reason: str | None = None
    assignees: tuple[User, ...] = ()
    labels: tuple[str, ...] = ()
    milestone: int | None = None
    closed_at: datetime | None = None
    closed_by: User | None = None
    merged_at: datetime | None = None
    merged_by: User | None = None
    draft: bool = False
    comments: int = 0
    asked: tuple[User | Team, ...] = ()


@dataclass(frozen=True, slots=True)
class MilestoneState:
    """A milestone from `at` on."""

    at: datetime
    title: str
    due_on: date | None = None
    state: str = "open"
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """An issue event."""

    id: int
    at: datetime
    event: str
    actor: User
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reviewed:
    """A review of a pull request."""

    id: int
    at: datetime
    state: str
    reviewer: User


@dataclass(slots=True, eq=False)
class Item:
    """An issue or pull request with all its states; `head` is the branch of a pull request."""

    id: int
    number: int
    author: User
    created_at: datetime
    states: list[State]
    events: list[Happening] = field(default_factory=list)
    reviews: list[Reviewed] = field(default_factory=list)
    commits: list[tuple[datetime, str]] = field(default_factory=list)
    head: str | None = None
    gone_at: datetime | None = None
    moved_to: tuple[int, int] | None = None


@dataclass(slots=True)
class Mile:
    """A milestone with all its states."""

    id: int
    number: int
    created_at: datetime
    states: list[MilestoneState]
    gone_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver a webhook; all attempts of one have the same `guid`."""

    id: int
    guid: str
    at: datetime
    event: str
    body: Mapping[str, Any]
    status: int
    redelivery: bool = False


@dataclass(slots=True)
class Hook:
    """A webhook: of a repository, of an organisation, or (None) of the App; with its deliveries, the oldest first."""

    id: int
    owner: int | str | None
    url: str
    active: bool = True
    deliveries: list[Delivery] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Repository:
    """A repository; `names` says from when it had which name."""

    id: int
    names: list[tuple[datetime, str]]
    items: dict[int, Item] = field(default_factory=dict)
    milestones: dict[int, Mile] = field(default_factory=dict)
    gone_at: datetime | None = None
    has_issues: bool = True
    shipped: Shipped = field(kw_only=True)
    runs: Runs = field(kw_only=True)
    links: Links = field(kw_only=True)

    def name_at(self, when: datetime) -> str:
        """Its full name then."""
        return self.names[max(0, bisect_right(self.names, when, key=lambda named: named[0]) - 1)][1]


class GitHubHost:
    """The building side first (each change with its `at`, in order for each thing), then the answering side."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        token: str = "token",  # noqa: S107
        max_per_page: int = 100,
        rate_limit: int = 5000,
        index_lag: float = 0,
    ) -> None:
        self.clock = clock
        self.token = token
        self.max_per_page = max_per_page
        self.rate_limit = rate_limit
        self.index_lag = index_lag
        self.receive: Callable[[Hook, Delivery], int] = lambda _hook, _delivery: 502
        """Takes what a webhook sends, and says with which status; by default nobody is there."""
        self.is_app: Callable[[str], bool] = lambda _: False
        """Whether a bearer token is one by which the App itself signs in."""
        self.hooks_refused = self.org_hooks_refused = self.attempts_refused = 0
        """The status by which it is refused to read webhooks, those of organisations, or to have one send again; 0: it is
        not."""
        self.requests: list[Requested] = []
        self.profiles: dict[int, Shown] = {}
        """What accounts show, by their id."""
        self.links = Links(self._refer, self._tell)
        """How its issues are linked, to add to."""
        self.boards = Boards(self._refer)
        """The boards on which its issues are planned, to add to."""
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST"])])
        self._repositories: dict[int, Repository] = {}
        self._hooks: dict[int, Hook] = {}
        self._ids = count(1_000_001)
        self._faults: deque[Fault | None] = deque()
        self._used: Counter[int] = Counter()

    # --- building: repositories and milestones

    def add_repository(self, full_name: str, has_issues: bool = True) -> int:
        """A new repository, there since ever; returns its id."""
        repository = Repository(
            next(self._ids),
            [(datetime.min.replace(tzinfo=UTC), full_name)],
            has_issues=has_issues,
            shipped=Shipped(self._ids, GHOST),
            runs=Runs(self._ids, GHOST),
            links=self.links,
        )
        self._repositories[repository.id] = repository
        return repository.id

    def rename_repository(self, repo: str, at: datetime, full_name: str) -> None:
        """From `at` the old name redirects to the new one."""
        self._repository(repo).names.append((second(at), full_name))

    def remove_repository(self, repo: str, at: datetime) -> None:
        """The repository is deleted, or our access to it ends: GitHub answers 404 to both."""
        self._repository(repo).gone_at = second(at)

    def add_milestone(self, repo: str, title: str, at: datetime, due_on: date | None = None) -> int:
        """A new milestone; returns its number."""
        milestones, at = self._repository(repo).milestones, second(at)
        number = len(milestones) + 1
        milestones[number] = Mile(next(self._ids), number, at, [MilestoneState(at, title, due_on)])
        return number

    def update_milestone(self, repo: str, number: int, at: datetime, **values: Any) -> None:
        """Set `title` or `due_on`. GitHub keeps no trace of it, and the issues' times do not move."""
        states, at = self._repository(repo).milestones[number].states, second(at)
        _in_order(states[-1].at, at)
        states.append(replace(states[-1], at=at, **values))

    def close_milestone(self, repo: str, number: int, at: datetime) -> None:
        """Close it; its issues stay as they are."""
        self.update_milestone(repo, number, at, state="closed", closed_at=second(at))

    def delete_milestone(self, repo: str, number: int, at: datetime) -> None:
        """Its issues are without a milestone from now on; no event tells it (the harsher of what GitHub may do)."""
        self._repository(repo).milestones[number].gone_at = second(at)

    # --- building: issues and pull requests

    def open_issue(
        self,
        repo: str,
        at: datetime,
        title: str,
        *,
        author: User = GHOST,
        body: str | None = None,
        number: int | None = None,
    ) -> int:
        """A new issue; returns its number."""
        return self._open(repo, State(second(at), second(at), title, body), author, None, number).number

    def open_pull(
        self,
        repo: str,
        at: datetime,
        title: str,
        *,
        head: str = "topic",
        body: str | None = None,
        author: User = GHOST,
        draft: bool = False,
        number: int | None = None,
    ) -> int:
        """A new pull request from branch `head`; returns its number."""
        return self._open(repo, State(second(at), second(at), title, body, draft=draft), author, head, number).number

    def assign(self, repo: str, number: int, at: datetime, user: User) -> None:
        """Add an assignee, behind those already there."""
        assignees = self._last(repo, number).assignees
        if user not in assignees:
            extra = {"assignee": user, "assigner": GHOST}
            self._change(repo, number, at, "assigned", extra=extra, assignees=(*assignees, user))

    def unassign(self, repo: str, number: int, at: datetime, user: User) -> None:
        """Take an assignee away."""
        assignees = self._last(repo, number).assignees
        if user in assignees:
            extra, left = {"assignee": user, "assigner": GHOST}, tuple(each for each in assignees if each != user)
            self._change(repo, number, at, "unassigned", extra=extra, assignees=left)

    def label(self, repo: str, number: int, at: datetime, name: str) -> None:
        """Add a label."""
        labels = self._last(repo, number).labels
        if name not in labels:
            extra = {"label": {"name": name, "color": "ededed"}}
            self._change(repo, number, at, "labeled", extra=extra, labels=(*labels, name))

    def unlabel(self, repo: str, number: int, at: datetime, name: str) -> None:
        """Take a label away."""
        labels = self._last(repo, number).labels
        if name in labels:
            extra = {"label": {"name": name, "color": "ededed"}}
            self._change(
                repo, number, at, "unlabeled", extra=extra, labels=tuple(each for each in labels if each != name)
            )

    def set_milestone(self, repo: str, number: int, at: datetime, milestone: int | None) -> None:
        """Change the milestone: two events where one takes the other's place."""
        old = self._view_at(repo, at).milestone_of(self._last(repo, number))
        if old is not None and old.number == milestone:
            return
        if old is not None:
            extra = {"milestone": {"title": _at(old.states, second(at)).title}}
            self._change(repo, number, at, "demilestoned", extra=extra, milestone=None)
        if milestone is not None:
            new = self._repository(repo).milestones[milestone]
            extra = {"milestone": {"title": _at(new.states, second(at)).title}}
            self._change(repo, number, at, "milestoned", extra=extra, milestone=milestone)

    def close(
        self, repo: str, number: int, at: datetime, reason: str | None = "completed", actor: User = GHOST
    ) -> None:
        """Close an issue (for `completed`, `not_planned` or `duplicate`) or a pull request (`reason` is then ignored)."""
        if self._repository(repo).items[number].head is not None:
            reason = None
        closed = {"state": "closed", "reason": reason, "closed_at": second(at), "closed_by": actor}
        told = None if reason == "completed" else reason
        self._change(repo, number, at, "closed", extra={"state_reason": told}, actor=actor, **closed)

    def reopen(self, repo: str, number: int, at: datetime) -> None:
        """Open it again."""
        opened: dict[str, Any] = {"state": "open", "reason": "reopened", "closed_at": None, "closed_by": None}
        self._change(repo, number, at, "reopened", extra={"state_reason": None}, **opened)

    def comment(self, repo: str, number: int, at: datetime, author: User = GHOST) -> None:
        """A comment: only the time moves."""
        comments = self._last(repo, number).comments
        self._change(repo, number, at, actor=author, comments=comments + 1)

    def rename(self, repo: str, number: int, at: datetime, title: str) -> None:
        """A new title."""
        renamed = {"from": self._last(repo, number).title, "to": title}
        self._change(repo, number, at, "renamed", extra={"rename": renamed}, title=title)

    def delete(self, repo: str, number: int, at: datetime) -> None:
        """Delete an issue: GitHub answers 410 from then on."""
        self._repository(repo).items[number].gone_at = second(at)

    def transfer(self, repo: str, number: int, at: datetime, to: str) -> int:
        """Move an issue to another repository, where it gets a new number (returned); the old address redirects."""
        item, at, target = self._repository(repo).items[number], second(at), self._repository(to)
        state = replace(item.states[-1], at=at, updated_at=at, milestone=None)
        moved = self._open(to, state, item.author, item.head, None)
        moved.created_at, moved.events = item.created_at, [*item.events]
        item.gone_at, item.moved_to = at, (target.id, moved.number)
        return moved.number

    def ask_review(self, repo: str, number: int, at: datetime, reviewer: User | Team) -> None:
        """Ask somebody for a review of a pull request."""
        asked = self._last(repo, number).asked
        if reviewer not in asked:
            self._change(repo, number, at, "review_requested", extra=_asking(reviewer), asked=(*asked, reviewer))

    def withdraw_review(self, repo: str, number: int, at: datetime, reviewer: User | Team) -> None:
        """Ask no longer."""
        asked = self._last(repo, number).asked
        if reviewer in asked:
            left = tuple(each for each in asked if each != reviewer)
            self._change(repo, number, at, "review_request_removed", extra=_asking(reviewer), asked=left)

    def review(self, repo: str, number: int, at: datetime, state: str, reviewer: User) -> None:
        """A submitted review: `approved`, `changes_requested` or `commented`. No event tells that nobody is asked now."""
        asked = self._last(repo, number).asked
        left = tuple(
            each for each in asked if each != reviewer and not (isinstance(each, Team) and reviewer in each.members)
        )
        self._change(repo, number, at, actor=reviewer, asked=left)
        item = self._repository(repo).items[number]
        item.reviews.append(Reviewed(next(self._ids), second(at), state.upper(), reviewer))

    def merge(
        self, repo: str, number: int, at: datetime, by: User = GHOST, *, closed_at: datetime | None = None
    ) -> None:
        """Merge a pull request, which closes it as well (GitHub's two clocks may differ by a second)."""
        closing = second(closed_at or at)
        merged: dict[str, Any] = {"merged_at": second(at), "merged_by": by, "closed_by": by}
        self._change(repo, number, at, "merged", actor=by, state="closed", closed_at=second(at), **merged)
        self._change(repo, number, closing, "closed", extra={"state_reason": None}, actor=by, closed_at=closing)

    def push(self, repo: str, number: int, at: datetime, message: str) -> None:
        """One more commit on the branch of a pull request."""
        self._change(repo, number, at)
        self._repository(repo).items[number].commits.append((second(at), message))

    def ready_for_review(self, repo: str, number: int, at: datetime) -> None:
        """No draft any more."""
        self._change(repo, number, at, "ready_for_review", draft=False)

    def convert_to_draft(self, repo: str, number: int, at: datetime) -> None:
        """A draft again."""
        self._change(repo, number, at, "convert_to_draft", draft=True)

    def touch(self, repo: str, number: int, at: datetime) -> None:
        """Something that pmsync does not read moved the time."""
        self._change(repo, number, at)

    def shipped(self, repo: str) -> Shipped:
        """What was shipped from this repository, to add to."""
        return self._repository(repo).shipped

    def runs(self, repo: str) -> Runs:
        """The workflow runs of this repository, to add to."""
        return self._repository(repo).runs

    # --- building: webhooks

    def add_hook(self, of: str | None, url: str, active: bool = True) -> int:
        """A webhook of this repository, of this organisation (a name without a slash), or (None) the App's; returns its id."""
        hook = Hook(next(self._ids), self._repository(of).id if of and "/" in of else of, url, active)
        self._hooks[hook.id] = hook
        return hook.id

    def send(self, hook: int, event: str, body: Mapping[str, Any], at: datetime | None = None) -> str:
        """Deliver a webhook, once; returns its guid."""
        guid = f"{next(self._ids):08d}-242f-11e5-81e1-c7b6966d2516"
        self._attempt(self._hooks[hook], Delivery(next(self._ids), guid, second(at or self.clock()), event, body, 0))
        return guid

    def attempts(self, hook: int, guid: str) -> list[int]:
        """What came of each attempt to deliver it, by status."""
        return [each.status for each in self._hooks[hook].deliveries if each.guid == guid]

    def _attempt(self, hook: Hook, delivery: Delivery) -> None:
        hook.deliveries.append(replace(delivery, status=self.receive(hook, delivery)))

    def fail(self, fault: Fault, times: int = 1, after: int = 0) -> None:
        """Answer the next `times` requests with this fault, once `after` others were answered well."""
        self._faults.extend([None] * after + [fault] * times)

    def _open(self, repo: str, state: State, author: User, head: str | None, number: int | None) -> Item:
        items = self._repository(repo).items
        number = number or max(items, default=0) + 1
        items[number] = Item(next(self._ids), number, author, state.at, [state], head=head)
        return items[number]

    def _change(
        self,
        repo: str,
        number: int,
        at: datetime,
        event: str | None = None,
        *,
        extra: Mapping[str, Any] | None = None,
        actor: User = GHOST,
        **values: Any,
    ) -> None:
        item, at = self._repository(repo).items[number], second(at)
        _in_order(item.states[-1].at, at)
        item.states.append(replace(item.states[-1], at=at, updated_at=at, **values))
        if event is not None:
            item.events.append(Happening(next(self._ids), at, event, actor, extra or {}))

    def _refer(self, place: Place) -> Reference:
        repository = self._repository(place[0])
        return Reference(repository, repository.items[place[1]])

    def _tell(self, of: Reference, at: datetime, event: str, extra: Mapping[str, Reference]) -> None:
        """An event that moves no issue's time."""
        if self.links.known:
            happening = Happening(next(self._ids), at, event, GHOST, extra)
            insort(of.item.events, happening, key=lambda each: each.at)

    def _last(self, repo: str, number: int) -> State:
        return self._repository(repo).items[number].states[-1]

    def _repository(self, repo: str) -> Repository:
        return next(each for each in self._repositories.values() if repo in {name for _, name in each.names})

    def _view_at(self, repo: str, at: datetime) -> View:
        return View(self._repository(repo), second(at), "")

    # --- answering

    async def _answer(self, request: Request) -> Response:
        path, query = request.url.path, dict(request.query_params)
        try:
            response = self._respond(request, path, query, await request.body())
        except Refusal as refusal:
            body = {"message": refusal.message, "documentation_url": "https://docs.github.com/rest"}
            response = _json(body, refusal.status, refusal.headers)
        now = self.clock()
        response.headers["date"] = f"{now.astimezone(UTC):%a, %d %b %Y %H:%M:%S} GMT"
        if "x-ratelimit-limit" not in response.headers:
            response.headers.update(self._quota(now))
        self.requests.append(Requested(path, query, response.status_code))
        return response

    def _respond(self, request: Request, path: str, query: dict[str, str], body: bytes) -> Response:
        fault = self._faults.popleft() if self._faults else None
        now = self.clock()
        if fault in _FAULTS:
            status, message, headers = _FAULTS[fault]
            raise Refusal(status, message, {**self._quota(now), **headers})
        if fault == "html":
            return Response("<html><body>Please sign in to the network</body></html>", media_type="text/html")
        given = request.headers.get("authorization", "")
        if path.startswith("/app/"):
            if not self.is_app(given.removeprefix("Bearer ")):
                raise Refusal(401, "A JSON web token could not be decoded")
        elif given not in (f"token {self.token}", f"Bearer {self.token}"):
            raise Refusal(401, "Bad credentials")
        if request.method == "POST":
            return self._send_again(path) if path.endswith("/attempts") else self._ask(path, body)
        answer = self._route(path, query, str(request.base_url).rstrip("/"))
        etag = f'W/"{hashlib.sha256(answer.body).hexdigest()}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers={"etag": etag})
        if path != "/rate_limit":
            self._spend(now)
        answer.headers["etag"] = etag
        return _cut(answer) if fault == "truncated" else answer

    def _spend(self, now: datetime) -> None:
        window = int(now.timestamp()) // 3600
        if self._used[window] >= self.rate_limit:
            raise Refusal(403, "API rate limit exceeded for user ID 1.")
        self._used[window] += 1

    def _quota(self, now: datetime) -> dict[str, str]:
        window = int(now.timestamp()) // 3600
        used = self._used[window]
        return {
            "x-ratelimit-limit": str(self.rate_limit),
            "x-ratelimit-remaining": str(self.rate_limit - used),
            "x-ratelimit-used": str(used),
            "x-ratelimit-reset": str((window + 1) * 3600),
            "x-ratelimit-resource": "core",
        }

    def _route(self, path: str, query: dict[str, str], base: str) -> Response:
        if path == "/rate_limit":
            _check_query(query, frozenset())
            return _json(self._limits())
        if (account := re.fullmatch(r"/user/([0-9]+)", path)) is not None:
            _check_query(query, _NONE)
            return self._profile(int(account[1]), base)
        if path.startswith("/app/hook/"):
            return self._route_app(path.removeprefix("/app/hook/"), query, base)
        if (found := _ORG_HOOKS.fullmatch(path)) is not None:
            return self._route_org(found["org"], found["hook"], query, base)
        match = _REPOSITORY.fullmatch(path)
        if match is None:
            raise Refusal(404, "Not Found")
        view = View(self._find(match, base), self.clock(), base)
        for pattern, allowed, render in _ROUTES:
            if (found := re.fullmatch(pattern, match["rest"])) is not None:
                _check_query(query, allowed)
                lagging = pattern in ("/issues", "/issues/events")
                return render(self, view.before(self.index_lag) if lagging else view, query, *map(int, found.groups()))
        raise Refusal(404, "Not Found")

    def _profile(self, ident: int, base: str) -> Response:
        if ident not in self.profiles:
            raise Refusal(404, "Not Found")
        shown = self.profiles[ident]
        url = f"{base}/users/{shown.user.login}"
        return _json(
            {
                "login": shown.user.login,
                "id": ident,
                "node_id": f"U_{ident}",
                "url": url,
                **{f"{key}_url": f"{url}/{key}" for key in _USER_URLS},
                "type": "User",
                "name": shown.name,
                "email": shown.email,
            }
        )

    def _route_app(self, rest: str, query: dict[str, str], base: str) -> Response:
        hook = self.hook(None)
        if rest == "config":
            _check_query(query, _NONE)
            return _json({"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": hook.url})
        if rest == "deliveries":
            _check_query(query, _BY_CURSOR)
            return self.list_deliveries(hook, f"{base}/app/hook/deliveries", query)
        raise Refusal(404, "Not Found")

    def _route_org(self, org: str, hook: str | None, query: dict[str, str], base: str) -> Response:
        """The webhooks of an organisation, which are few enough for one page; or what one of them delivered."""
        # As GitHub does, it knows an organisation by its name in whatever case. Of a person there are no such webhooks.
        org = org.casefold()
        if not any(isinstance(each.owner, str) and each.owner == org for each in self._hooks.values()):
            raise Refusal(404, "Not Found")
        url = f"{base}/orgs/{org}/hooks"
        if hook is not None:
            _check_query(query, _BY_CURSOR)
            return self.list_deliveries(self.hook(org, int(hook)), f"{url}/{hook}/deliveries", query)
        _check_query(query, _PAGED)
        return _json([_show_hook(each, f"{url}/{each.id}") for each in self.hooks_of(org)])

    def hook(self, owner: int | str | None, ident: int | None = None) -> Hook:
        """A webhook of this repository, of this organisation, or (None) the App's."""
        found = [hook for hook in self.hooks_of(owner) if ident in (None, hook.id)]
        if not found:
            raise Refusal(404, "Not Found")
        return found[0]

    def hooks_of(self, owner: int | str | None) -> list[Hook]:
        """All its webhooks, for who may read them."""
        refused = self.org_hooks_refused if isinstance(owner, str) else self.hooks_refused
        if refused:
            raise Refusal(refused, "Resource not accessible by personal access token")
        return [hook for hook in self._hooks.values() if hook.owner == owner]

    def list_deliveries(self, hook: Hook, url: str, query: Mapping[str, str]) -> Response:
        """A page of what it delivered, the newest first. A cursor names the delivery that its page begins with."""
        per_page = _number(query, "per_page", 30, self.max_per_page)
        kept = [each for each in reversed(hook.deliveries) if self.clock() - each.at <= KEPT]
        cursors = [f"v1_{each.id}" for each in kept]
        if "cursor" in query and query["cursor"] not in cursors:
            raise Refusal(422, "Validation Failed: cursor")
        start = cursors.index(query["cursor"]) if "cursor" in query else 0
        end = start + per_page
        following = (
            f'<{url}?{urlencode({"per_page": per_page, "cursor": cursors[end]})}>; rel="next"' if cursors[end:] else ""
        )
        shown = [_show_delivery(hook, each) for each in kept[start:end]]
        return _json(shown, headers={"link": following} if following else {})

    def _send_again(self, path: str) -> Response:
        match = _ATTEMPTS.fullmatch(path)
        if match is None:
            raise Refusal(404, "Not Found")
        owner = int(match["id"]) if match["id"] else match["org"]
        hook = self.hook(owner, int(match["hook"]) if owner else None)
        if self.attempts_refused:
            raise Refusal(self.attempts_refused, "Resource not accessible by personal access token")
        now = self.clock()
        known = [each for each in hook.deliveries if str(each.id) == match["delivery"] and now - each.at <= KEPT]
        if not known:
            raise Refusal(404, "Not Found")
        self._spend(now)
        self._attempt(hook, replace(known[0], id=next(self._ids), at=second(now), redelivery=True))
        return _json({}, 202)

    def _ask(self, path: str, body: bytes) -> Response:
        """The GraphQL API, as far as the few queries go that we know; its quota is another one than that of REST."""
        if path != "/graphql":
            raise Refusal(404, "Not Found")
        asked = json.loads(body)
        if (told := self.boards.answer(asked, self.clock())) is not None:
            return _json(told)
        views = [View(each, self.clock(), "") for each in self._repositories.values()]
        if asked["query"].split() == _TOTAL_QUERY.split():
            name = "{owner}/{name}".format_map(asked["variables"])
            found = [[item.head for item, _ in view.items()] for view in views if view.name == name]
            counts = [
                {"totalCount": sum((head is None) is wanted for head in heads)}
                for heads in found
                for wanted in (True, False)
            ]
            return _json({"data": {"repository": dict(zip(("issues", "pullRequests"), counts, strict=False)) or None}})
        if asked["query"].split() != _PULLS_QUERY.split():
            return _json({"errors": [{"type": "undefinedField", "message": "Field doesn't exist on type"}]})
        pulls = {f"PR_{item.id}": view.ask_pull(item) for view in views for item, _ in view.items() if item.head}
        return _json({"data": {"nodes": [pulls.get(ident) for ident in asked["variables"]["ids"]]}})

    def _find(self, match: re.Match[str], base: str) -> Repository:
        now = self.clock()
        for each in self._repositories.values():
            if each.gone_at is not None and each.gone_at <= now:
                continue
            name = each.name_at(now).casefold()
            if str(each.id) == match["id"] or name == (match["name"] or "").casefold():
                return each
            if (match["name"] or "").casefold() in {old.casefold() for at, old in each.names if at <= now}:
                location = f"{base}/repositories/{each.id}{match['rest']}"
                raise Refusal(301, "Moved Permanently", {"location": location})
        raise Refusal(404, "Not Found")

    def _limits(self) -> dict[str, Any]:
        quota = self._quota(self.clock())
        rate = {key: int(quota[f"x-ratelimit-{key}"]) for key in ("limit", "remaining", "reset", "used")}
        return {"resources": {"core": rate, "search": rate}, "rate": rate}

    def list_page(
        self,
        view: View,
        path: str,
        query: Mapping[str, str],
        items: Sequence[Any],
        show: Callable[[Any], Any],
        under: str = "",
    ) -> Response:
        """One page of a list, with its `Link` header; in an object, beside the number of all, where it has a name there."""
        per_page = _number(query, "per_page", 30, self.max_per_page)
        page = _number(query, "page", 1, 1_000_000)
        url = f"{view.base}/repositories/{view.repository.id}{path}"
        last = max(1, -(-len(items) // per_page))
        pages = {"prev": page - 1, "next": page + 1, "last": last, "first": 1}
        wanted = ("next", "last") if page == 1 else ("prev", "first") if page >= last else tuple(pages)
        # GitHub's list of issues has pages by cursor, and so no last one.
        wanted = tuple(rel for rel in wanted if (path, rel) != ("/issues", "last"))
        links = [f'<{url}?{urlencode({**query, "page": pages[rel]})}>; rel="{rel}"' for rel in wanted]
        shown = [show(item) for item in items[(page - 1) * per_page : page * per_page]]
        body = {"total_count": len(items), under: shown} if under else shown
        return _json(body, headers={"link": ", ".join(links)} if last > 1 else {})


@dataclass(frozen=True)
class View:
    """A repository as it was at an instant, in GitHub's JSON; `base` is the URL under which it is served."""

    repository: Repository
    now: datetime
    base: str

    def before(self, lag: float) -> View:
        """What an index that lags shows."""
        return replace(self, now=self.now - timedelta(seconds=lag))

    def elsewhere(self, repository: Repository) -> View:
        """Another repository at the same instant."""
        return replace(self, repository=repository)

    def state(self, item: Item) -> State:
        """What one of its things is."""
        return _at(item.states, self.now)

    @cached_property
    def name(self) -> str:
        return self.repository.name_at(self.now)

    @cached_property
    def url(self) -> str:
        return f"{self.base}/repos/{self.name}"

    @cached_property
    def html(self) -> str:
        return f"https://github.com/{self.name}"

    def items(self) -> Iterator[tuple[Item, State]]:
        """What is there, with its state."""
        for item in self.repository.items.values():
            if item.states[0].at <= self.now and (item.gone_at is None or item.gone_at > self.now):
                yield item, _at(item.states, self.now)

    def item(self, number: int, pull: bool = False) -> tuple[Item, State]:
        """One thing by number; where it is not, the answer that GitHub gives instead."""
        item = self.repository.items.get(number)
        if item is None or item.states[0].at > self.now or (pull and item.head is None):
            raise Refusal(404, "Not Found")
        if item.gone_at is None or item.gone_at > self.now:
            return item, _at(item.states, self.now)
        if item.moved_to is not None:
            repository, moved = item.moved_to
            location = f"{self.base}/repositories/{repository}/issues/{moved}"
            raise Refusal(301, "Moved Permanently", {"location": location})
        raise Refusal(410, "This issue was deleted")

    def milestones(self) -> list[Mile]:
        """The milestones that are there."""
        return [mile for mile in self.repository.milestones.values() if self._has(mile)]

    def _has(self, mile: Mile) -> bool:
        return mile.created_at <= self.now and (mile.gone_at is None or mile.gone_at > self.now)

    def milestone_of(self, state: State) -> Mile | None:
        """The milestone of a thing, unless it was deleted."""
        mile = self.repository.milestones[state.milestone] if state.milestone else None
        return mile if mile is not None and self._has(mile) else None

    @cached_property
    def _counts(self) -> Counter[tuple[int | None, str]]:
        return Counter((state.milestone, state.state) for _, state in self.items())

    def show_user(self, user: User | None) -> dict[str, Any] | None:
        if user is None:
            return None
        urls = {f"{key}_url": f"{self.base}/users/{user.login}/{key}" for key in _USER_URLS}
        return {
            "login": user.login,
            "id": user.id,
            "node_id": f"U_{user.id}",
            "gravatar_id": "",
            "url": f"{self.base}/users/{user.login}",
            "html_url": f"https://github.com/{user.login}",
            **urls,
            "type": "User",
            "site_admin": False,
        }

    def show_team(self, team: Team) -> dict[str, Any]:
        owner = self.name.partition("/")[0]
        url = f"{self.base}/organizations/1/team/{team.id}"
        return {
            "id": team.id,
            "node_id": f"T_{team.id}",
            "name": team.name,
            "slug": team.name,
            "description": None,
            "privacy": "closed",
            "permission": "pull",
            "type": "organization",
            "organization_id": 1,
            "url": url,
            "html_url": f"https://github.com/orgs/{owner}/teams/{team.name}",
            "members_url": f"{url}/members{{/member}}",
            "repositories_url": f"{url}/repos",
            "parent": None,
        }

    def show_milestone(self, mile: Mile) -> dict[str, Any]:
        state = _at(mile.states, self.now)
        url = f"{self.url}/milestones/{mile.number}"
        due_on = (
            datetime(state.due_on.year, state.due_on.month, state.due_on.day, 8, tzinfo=UTC) if state.due_on else None
        )
        return {
            "url": url,
            "html_url": f"{self.html}/milestone/{mile.number}",
            "labels_url": f"{url}/labels",
            "id": mile.id,
            "node_id": f"MI_{mile.id}",
            "number": mile.number,
            "title": state.title,
            "description": None,
            "creator": self.show_user(GHOST),
            "open_issues": self._counts[mile.number, "open"],
            "closed_issues": self._counts[mile.number, "closed"],
            "state": state.state,
            "created_at": text_of(mile.created_at),
            "updated_at": text_of(state.at),
            "due_on": text_of(due_on),
            "closed_at": text_of(state.closed_at),
        }

    def show_label(self, name: str) -> dict[str, Any]:
        ident = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        shown = {"name": name, "color": "ededed", "default": False, "description": None}
        return {"id": ident, "node_id": f"LA_{ident}", "url": f"{self.url}/labels/{ident}", **shown}

    def _shown(self, item: Item, state: State) -> dict[str, Any]:
        mile = self.milestone_of(state)
        return {
            "id": item.id,
            "node_id": f"I_{item.id}" if item.head is None else f"PR_{item.id}",
            "number": item.number,
            "title": state.title,
            "body": state.body,
            "user": self.show_user(item.author),
            "labels": [self.show_label(name) for name in state.labels],
            "state": state.state,
            "locked": False,
            "active_lock_reason": None,
            "assignee": self.show_user(state.assignees[0] if state.assignees else None),
            "assignees": [self.show_user(user) for user in state.assignees],
            "milestone": self.show_milestone(mile) if mile else None,
            "comments": state.comments,
            "comments_url": f"{self.url}/issues/{item.number}/comments",
            "created_at": text_of(item.created_at),
            "updated_at": text_of(state.updated_at),
            "closed_at": text_of(state.closed_at),
            "author_association": "MEMBER",
        }

    def show_issue(self, item: Item, state: State) -> dict[str, Any]:
        kind = "issues" if item.head is None else "pull"
        url, html = f"{self.url}/issues/{item.number}", f"{self.html}/{kind}/{item.number}"
        shown = {
            **self._shown(item, state),
            "url": url,
            "html_url": html,
            "repository_url": self.url,
            "labels_url": f"{url}/labels{{/name}}",
            "events_url": f"{url}/events",
            "timeline_url": f"{url}/timeline",
            "state_reason": state.reason,
        }
        if item.head is None:
            shown |= show_links(self, item)
        else:
            shown["draft"] = state.draft
            shown["pull_request"] = {
                "url": f"{self.url}/pulls/{item.number}",
                "html_url": html,
                "diff_url": f"{html}.diff",
                "patch_url": f"{html}.patch",
                "merged_at": text_of(state.merged_at),
            }
        return shown

    def show_pull(self, item: Item, state: State) -> dict[str, Any]:
        url, html = f"{self.url}/pulls/{item.number}", f"{self.html}/pull/{item.number}"
        links = {**_pull_urls(url), "issue": f"{self.url}/issues/{item.number}", "self": url, "html": html}
        links["comments"], links["statuses"] = f"{links['issue']}/comments", f"{self.url}/statuses/{item.id:040x}"
        urls = {
            f"{key}_url": links[key] for key in ("issue", "commits", "review_comments", "review_comment", "statuses")
        }
        return {
            **self._shown(item, state),
            "url": url,
            "html_url": html,
            "diff_url": f"{html}.diff",
            "patch_url": f"{html}.patch",
            **urls,
            "_links": {key: {"href": href} for key, href in links.items()},
            "draft": state.draft,
            "merged": state.merged_at is not None,
            "merged_at": text_of(state.merged_at),
            "merged_by": self.show_user(state.merged_by),
            "merge_commit_sha": f"{item.id:040x}" if state.merged_at else None,
            "head": self._branch(item, item.head or ""),
            "base": self._branch(item, "main"),
            "requested_reviewers": [self.show_user(each) for each in state.asked if isinstance(each, User)],
            "requested_teams": [self.show_team(each) for each in state.asked if isinstance(each, Team)],
            **_PULL_REST,
        }

    def _branch(self, item: Item, ref: str) -> dict[str, Any]:
        owner = User(self.name.partition("/")[0], 1)
        shown = {"label": f"{owner.login}:{ref}", "ref": ref, "sha": f"{item.id:040x}"}
        return {**shown, "user": self.show_user(owner), "repo": self.show_repository()}

    def show_event(self, happening: Happening) -> dict[str, Any]:
        shows: Mapping[type, Callable[[Any], Any]] = {
            User: self.show_user,
            Team: self.show_team,
            Reference: lambda reference: show_reference(self, reference),
        }
        extra = {key: shows.get(type(value), lambda plain: plain)(value) for key, value in happening.extra.items()}
        return {
            "id": happening.id,
            "node_id": f"E_{happening.id}",
            "url": f"{self.url}/issues/events/{happening.id}",
            "actor": self.show_user(happening.actor),
            "event": happening.event,
            "commit_id": None,
            "commit_url": None,
            "created_at": text_of(happening.at),
            "performed_via_github_app": None,
            **extra,
        }

    def show_review(self, item: Item, review: Reviewed) -> dict[str, Any]:
        pull = f"{self.url}/pulls/{item.number}"
        html = f"{self.html}/pull/{item.number}#pullrequestreview-{review.id}"
        return {
            "id": review.id,
            "node_id": f"PRR_{review.id}",
            "user": self.show_user(review.reviewer),
            "body": "",
            "state": review.state,
            "html_url": html,
            "pull_request_url": pull,
            "_links": {"html": {"href": html}, "pull_request": {"href": pull}},
            "submitted_at": text_of(review.at),
            "commit_id": f"{item.id:040x}",
            "author_association": "MEMBER",
        }

    def show_commit(self, item: Item, at: datetime, message: str) -> dict[str, Any]:
        sha = hashlib.sha256(f"{item.id} {at} {message}".encode()).hexdigest()[:40]
        url, who = f"{self.url}/commits/{sha}", {"name": "ghost", "email": "ghost@example.com", "date": text_of(at)}
        git = f"{self.url}/git"
        commit = {
            "author": who,
            "committer": who,
            "message": message,
            "tree": {"sha": sha, "url": f"{git}/trees/{sha}"},
            "url": f"{git}/commits/{sha}",
            "comment_count": 0,
        }
        shown = {"sha": sha, "node_id": f"C_{sha}", "commit": commit, "url": url, "parents": []}
        links = {"html_url": f"{self.html}/commit/{sha}", "comments_url": f"{url}/comments"}
        return {**shown, **links, "author": self.show_user(item.author), "committer": self.show_user(item.author)}

    def ask_pull(self, item: Item) -> dict[str, Any]:
        """A pull request as the GraphQL API tells it."""
        reviews = [review for review in item.reviews if review.at <= self.now]
        nodes = [
            {
                "fullDatabaseId": str(review.id),
                "state": review.state,
                "submittedAt": text_of(review.at),
                "author": None if review.reviewer == GHOST else {"databaseId": review.reviewer.id},
            }
            for review in reviews[:100]
        ]
        messages = [message for at, message in item.commits if at <= self.now]
        return {
            "id": f"PR_{item.id}",
            "headRefName": item.head,
            "reviews": {"pageInfo": {"hasNextPage": len(reviews) > 100}, "nodes": nodes},
            "commits": {
                "pageInfo": {"hasNextPage": len(messages) > 100},
                "nodes": [{"commit": {"message": message}} for message in messages[:100]],
            },
        }

    def show_repository(self) -> dict[str, Any]:
        owner, _, name = self.name.partition("/")
        return {
            "id": self.repository.id,
            "node_id": f"R_{self.repository.id}",
            "name": name,
            "full_name": self.name,
            "owner": self.show_user(User(owner, 1)),
            "html_url": self.html,
            "url": self.url,
            "has_issues": self.repository.has_issues,
            **{f"{key}_url": f"{self.url}/{key}" for key in _REPOSITORY_URLS},
            **_REPOSITORY_REST,
        }


# --- routes -----------------------------------------------------------------------------------------------------------


def _about(_: GitHubHost, view: View, _query: Mapping[str, str]) -> Response:
    return _json({**view.show_repository(), "network_count": 0, "subscribers_count": 0})


def _issues(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    wanted = _choice(query, "state", ("open", "closed", "all"))
    order = _choice(query, "sort", ("created", "updated", "comments"))
    since = _since(query)
    found = [
        (item, state)
        for item, state in view.items()
        if wanted in ("all", state.state) and (since is None or state.updated_at >= since)
    ]
    keys: Mapping[str, Callable[[tuple[Item, State]], Any]] = {
        "created": lambda pair: (pair[0].created_at, pair[0].number),
        "updated": lambda pair: (pair[1].updated_at, pair[0].number),
        "comments": lambda pair: (pair[1].comments, pair[0].number),
    }
    found.sort(key=keys[order], reverse=_choice(query, "direction", ("desc", "asc")) == "desc")
    return host.list_page(view, "/issues", query, found, lambda pair: view.show_issue(*pair))


def _issue(_: GitHubHost, view: View, _query: Mapping[str, str], number: int) -> Response:
    return _json(view.show_issue(*view.item(number)))


def _events(host: GitHubHost, view: View, query: Mapping[str, str], number: int) -> Response:
    events = [event for event in view.item(number)[0].events if event.at <= view.now]
    return host.list_page(view, f"/issues/{number}/events", query, events, view.show_event)


def _blockers(host: GitHubHost, view: View, query: Mapping[str, str], number: int) -> Response:
    item, _ = view.item(number)
    if not host.links.known:
        raise Refusal(404, "Not Found")

    def show(blocker: Reference) -> dict[str, Any]:
        there = view.elsewhere(blocker.repository)
        return there.show_issue(blocker.item, there.state(blocker.item))

    found = host.links.others("blocked_by", item, view.now)
    return host.list_page(view, f"/issues/{number}/dependencies/blocked_by", query, found, show)


def _all_events(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    told = [(event, pair) for pair in view.items() for event in pair[0].events if event.at <= view.now]
    told.sort(key=lambda each: each[0].id, reverse=True)
    show = lambda each: {**view.show_event(each[0]), "issue": view.show_issue(*each[1])}  # noqa: E731
    return host.list_page(view, "/issues/events", query, told, show)


def _pull(_: GitHubHost, view: View, _query: Mapping[str, str], number: int) -> Response:
    return _json(view.show_pull(*view.item(number, pull=True)))


def _reviews(host: GitHubHost, view: View, query: Mapping[str, str], number: int) -> Response:
    item, _ = view.item(number, pull=True)
    reviews = [review for review in item.reviews if review.at <= view.now]
    show = lambda review: view.show_review(item, review)  # noqa: E731
    return host.list_page(view, f"/pulls/{number}/reviews", query, reviews, show)


def _commits(host: GitHubHost, view: View, query: Mapping[str, str], number: int) -> Response:
    item, _ = view.item(number, pull=True)
    commits = [commit for commit in item.commits if commit[0] <= view.now]
    show = lambda commit: view.show_commit(item, *commit)  # noqa: E731
    return host.list_page(view, f"/pulls/{number}/commits", query, commits, show)


def _milestones(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    wanted = _choice(query, "state", ("open", "closed", "all"))
    found = [mile for mile in view.milestones() if wanted in ("all", _at(mile.states, view.now).state)]
    return host.list_page(view, "/milestones", query, found, view.show_milestone)


def _milestone(_: GitHubHost, view: View, _query: Mapping[str, str], number: int) -> Response:
    mile = next((mile for mile in view.milestones() if mile.number == number), None)
    if mile is None:
        raise Refusal(404, "Not Found")
    return _json(view.show_milestone(mile))


def _deployments(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    found = _let(view, "deployments").deployments_at(view.now)
    return host.list_page(view, "/deployments", query, found, lambda each: show_deployment(view, each))


def _deployment(_: GitHubHost, view: View, _query: Mapping[str, str], ident: int) -> Response:
    return _json(show_deployment(view, _one(_let(view, "deployments").deployments_at(view.now), ident)))


def _statuses(host: GitHubHost, view: View, query: Mapping[str, str], ident: int) -> Response:
    deployment = _one(_let(view, "deployments").deployments_at(view.now), ident)
    show = lambda status: show_status(view, deployment, status)  # noqa: E731
    return host.list_page(view, f"/deployments/{ident}/statuses", query, statuses_at(deployment, view.now), show)


def _releases(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    found = _let(view, "releases").releases_at(view.now)
    return host.list_page(view, "/releases", query, found, lambda each: show_release(view, each))


def _release(_: GitHubHost, view: View, _query: Mapping[str, str], ident: int) -> Response:
    return _json(show_release(view, _one(_let(view, "releases").releases_at(view.now), ident)))


def _runs(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    found = _let_runs(view).search(view.now, query)
    if found is None:
        raise Refusal(422, "Validation Failed: created or exclude_pull_requests")
    show = lambda run: show_run(view, run)  # noqa: E731
    return host.list_page(view, "/actions/runs", query, found, show, "workflow_runs")


def _run(_: GitHubHost, view: View, _query: Mapping[str, str], ident: int) -> Response:
    return _json(show_run(view, _one(_let_runs(view).runs_at(view.now), ident)))


def _attempt(_: GitHubHost, view: View, _query: Mapping[str, str], ident: int, number: int) -> Response:
    run = _one(_let_runs(view).runs_at(view.now), ident)
    count = len(attempts_at(run, view.now))
    if not max(1, count - view.repository.runs.kept_attempts + 1) <= number <= count:
        raise Refusal(404, "Not Found")
    return _json(show_run(view, run, number))


def _let_runs(view: View) -> Runs:
    """The workflow runs, for who may read them."""
    if view.repository.runs.refused:
        raise Refusal(view.repository.runs.refused, "Resource not accessible by personal access token")
    return view.repository.runs


def _let(view: View, what: str) -> Shipped:
    """What was shipped, for who may read it."""
    if status := view.repository.shipped.refused.get(what):
        raise Refusal(status, "Resource not accessible by personal access token")
    return view.repository.shipped


def _one(found: Sequence[Any], ident: int) -> Any:
    for each in found:
        if each.id == ident:
            return each
    raise Refusal(404, "Not Found")


def _hooks(host: GitHubHost, view: View, query: Mapping[str, str]) -> Response:
    show = lambda hook: _show_hook(hook, f"{view.url}/hooks/{hook.id}")  # noqa: E731
    return host.list_page(view, "/hooks", query, host.hooks_of(view.repository.id), show)


def _deliveries(host: GitHubHost, view: View, query: Mapping[str, str], number: int) -> Response:
    url = f"{view.base}/repositories/{view.repository.id}/hooks/{number}/deliveries"
    return host.list_deliveries(host.hook(view.repository.id, number), url, query)


def _show_hook(hook: Hook, url: str) -> dict[str, Any]:
    return {
        "type": "Organization" if isinstance(hook.owner, str) else "Repository",
        "id": hook.id,
        "name": "web",
        "active": hook.active,
        "events": ["issues", "milestone", "pull_request", "pull_request_review"],
        "config": {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": hook.url},
        "updated_at": "2019-06-03T00:57:16Z",
        "created_at": "2019-06-03T00:57:16Z",
        "url": url,
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": {"code": None, "status": "unused", "message": None},
    }


def _show_delivery(hook: Hook, delivery: Delivery) -> dict[str, Any]:
    is_ok = 200 <= delivery.status < 300
    return {
        "id": delivery.id,
        "guid": delivery.guid,
        "delivered_at": text_of(delivery.at),
        "redelivery": delivery.redelivery,
        "duration": 0.27,
        "status": "OK" if is_ok else f"Invalid HTTP Response: {delivery.status}",
        "status_code": delivery.status,
        "event": delivery.event,
        "action": delivery.body.get("action"),
        "installation_id": None if hook.owner else 123,
        "repository_id": hook.owner if isinstance(hook.owner, int) else delivery.body.get("repository", {}).get("id"),
        "throttled_at": None,
    }


_REPOSITORY = re.compile(r"/(?:repos/(?P<name>[^/]+/[^/]+)|repositories/(?P<id>\d+))(?P<rest>/.*|)")
_NONE = frozenset[str]()
_PAGED = frozenset({"per_page", "page"})
_BY_CURSOR = frozenset({"per_page", "cursor"})
_ATTEMPTS = re.compile(
    r"(?:/app/hook|(?:/repositories/(?P<id>\d+)|/orgs/(?P<org>[\w.-]+))/hooks/(?P<hook>\d+))"
    r"/deliveries/(?P<delivery>\d+)/attempts"
)
_ORG_HOOKS = re.compile(r"/orgs/(?P<org>[\w.-]+)/hooks(?:/(?P<hook>\d+)/deliveries)?")
_ROUTES: Sequence[tuple[str, frozenset[str], Callable[..., Response]]] = (
    (r"", _NONE, _about),
    (r"/issues", _PAGED | {"state", "sort", "direction", "since"}, _issues),
    (r"/issues/(\d+)", _NONE, _issue),
    (r"/issues/(\d+)/events", _PAGED, _events),
    (r"/issues/(\d+)/dependencies/blocked_by", _PAGED, _blockers),
    (r"/issues/events", _PAGED, _all_events),
    (r"/pulls/(\d+)", _NONE, _pull),
    (r"/pulls/(\d+)/reviews", _PAGED, _reviews),
    (r"/pulls/(\d+)/commits", _PAGED, _commits),
    (r"/milestones", _PAGED | {"state"}, _milestones),
    (r"/milestones/(\d+)", _NONE, _milestone),
    (r"/deployments", _PAGED, _deployments),
    (r"/deployments/(\d+)", _NONE, _deployment),
    (r"/deployments/(\d+)/statuses", _PAGED, _statuses),
    (r"/actions/runs", _PAGED | {"branch", "created", "exclude_pull_requests"}, _runs),
    (r"/actions/runs/(\d+)", _NONE, _run),
    (r"/actions/runs/(\d+)/attempts/(\d+)", _NONE, _attempt),
    (r"/releases", _PAGED, _releases),
    (r"/releases/(\d+)", _NONE, _release),
    (r"/hooks", _PAGED, _hooks),
    (r"/hooks/(\d+)/deliveries", _BY_CURSOR, _deliveries),
)
# In words of its own, not the connector's: a query that is changed there alone is refused here.
_TOTAL_QUERY = """
query($owner: String!, $name: String!) {
  repository(owner: $owner, name: $name) { issues { totalCount } pullRequests { totalCount } }
}
"""
_PULLS_QUERY = """
query($ids: [ID!]!) {
  nodes(ids: $ids) {
    ... on PullRequest {
      id
      headRefName
      reviews(first: 100) {
        pageInfo { hasNextPage }
        nodes {
          fullDatabaseId
          state
          submittedAt
          author { ... on User { databaseId } ... on Bot { databaseId } ... on Mannequin { databaseId } }
        }
      }
      commits(first: 100) { pageInfo { hasNextPage } nodes { commit { message } } }
    }
  }
}
"""
_LIMITED = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
_FAULTS: Mapping[Fault | None, tuple[int, str, Mapping[str, str]]] = {
    "primary": (403, "API rate limit exceeded for user ID 1.", {"x-ratelimit-remaining": "0"}),
    "secondary": (403, _LIMITED, {"retry-after": str(RETRY_AFTER)}),
    "too_many": (429, _LIMITED, {"retry-after": str(RETRY_AFTER)}),
    "500": (500, "Server Error", {}),
    "502": (502, "Server Error", {}),
}
_USER_URLS = (
    "avatar", "followers", "following", "gists", "starred", "subscriptions", "organizations", "repos", "events",
    "received_events",
)  # fmt: skip
_REPOSITORY_URLS = (
    "archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents",
    "contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags", "hooks",
    "issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones", "notifications",
    "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags", "teams", "trees", "clone",
    "svn", "git", "ssh",
)  # fmt: skip
_REPOSITORY_REST: Mapping[str, Any] = {
    **dict.fromkeys(("description", "mirror_url", "homepage", "language", "license")),
    **dict.fromkeys(("private", "fork", "archived", "disabled", "has_pages", "has_discussions"), False),
    **dict.fromkeys(("has_projects", "has_wiki", "has_downloads"), True),
    **dict.fromkeys(("forks", "forks_count", "stargazers_count", "watchers", "watchers_count", "size"), 0),
    **dict.fromkeys(("open_issues", "open_issues_count"), 0),
    **dict.fromkeys(("pushed_at", "created_at", "updated_at"), "2011-01-26T19:01:12Z"),
    "default_branch": "main",
}
_PULL_REST: Mapping[str, Any] = {
    **dict.fromkeys(("additions", "changed_files", "commits", "deletions", "review_comments"), 0),
    "auto_merge": None,
    "mergeable": None,
    "rebaseable": None,
    "mergeable_state": "unknown",
    "maintainer_can_modify": False,
}


def _pull_urls(url: str) -> dict[str, str]:
    return {
        "commits": f"{url}/commits",
        "review_comments": f"{url}/comments",
        "review_comment": f"{url}/comments{{/number}}",
    }


# --- small print ------------------------------------------------------------------------------------------------------


def _at(states: Sequence[S], when: datetime) -> S:
    return states[max(0, bisect_right(states, when, key=lambda state: state.at) - 1)]


def _asking(reviewer: User | Team) -> Mapping[str, User | Team]:
    kind = "requested_team" if isinstance(reviewer, Team) else "requested_reviewer"
    return {kind: reviewer, "review_requester": GHOST}


def _in_order(last: datetime, at: datetime) -> None:
    if at < last:
        raise ValueError(f"changes of one thing are told in order: {at} comes after {last}")


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(text, status, dict(headers or {}), "application/json; charset=utf-8")


def _cut(answer: Response) -> Response:
    return Response(bytes(answer.body)[: len(answer.body) // 2], media_type="application/json; charset=utf-8")


def _check_query(query: Mapping[str, str], allowed: frozenset[str]) -> None:
    if unknown := sorted(set(query) - allowed):
        raise Refusal(422, f"Validation Failed: unknown {', '.join(unknown)}")


def _choice(query: Mapping[str, str], name: str, values: Sequence[str]) -> str:
    value = query.get(name, values[0])
    if value not in values:
        raise Refusal(422, f"Validation Failed: {name}")
    return value


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    value = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,7}", value) or not 1 <= int(value) <= most:
        raise Refusal(422, f"Validation Failed: {name}")
    return int(value)


def _since(query: Mapping[str, str]) -> datetime | None:
    if "since" not in query:
        return None
    try:
        when = datetime.fromisoformat(query["since"])
    except ValueError:
        raise Refusal(422, "Validation Failed: since") from None
    if when.tzinfo is None:
        raise Refusal(422, "Validation Failed: since")
    return when
