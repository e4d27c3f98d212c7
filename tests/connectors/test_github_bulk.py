"""GitHub in bulk: what is told of many things at once is what each of them tells, or is asked for by itself."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors import github_bulk
from connectors.base import Retryable, SecretRef
from connectors.github import GitHubAuth, GitHubConnector, GitHubSettings
from connectors.github_bulk import PULLS, Told, batches, pulls
from connectors.github_taken import SETTLED
from connectors.github_things import HISTORIC
from pmsync.core.events import Content
from pmsync.standins.github import GHOST, GitHubHost, Team, User
from pmsync.standins.server import serve

REPO = "octo/apollo"
TOKEN = "ghp_very_secret"
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
PEOPLE = (User("ann", 11), User("ben", 12), User("bot", 13))
ASKED = (*PEOPLE, Team("core", 11, PEOPLE))
FIRST = ("/issues/events", {"per_page": 100})
KINDS = ("closed", "assigned", "labeled")
READ_AT = START + timedelta(days=30)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def a_world(things: int, now: Callable[[], datetime], seed: int = 1) -> GitHubHost:
    """Issues and pull requests (three in ten), each with a handful of events, in `things` hours before day 60."""
    host, chance = GitHubHost(now, token=TOKEN, rate_limit=100_000), random.Random(seed)
    host.add_repository(REPO)
    milestones = [host.add_milestone(REPO, f"2.{n}", day(0)) for n in range(3)]
    for hour in range(things):
        at = day(50) - timedelta(hours=things - hour)
        pull = chance.random() < 0.3
        number = (host.open_pull if pull else host.open_issue)(REPO, at, f"Thing {hour}", author=chance.choice(PEOPLE))
        for step in range(chance.randrange(8)):
            _live(host, number, at + timedelta(hours=step + 1), pull, chance, milestones)
    return host


def _live(
    host: GitHubHost, number: int, at: datetime, pull: bool, chance: random.Random, milestones: list[int]
) -> None:
    is_closed = host._last(REPO, number).state == "closed"
    acts: Sequence[Callable[[], Any]] = (
        lambda: host.assign(REPO, number, at, chance.choice(PEOPLE)),
        lambda: host.unassign(REPO, number, at, chance.choice(PEOPLE)),
        lambda: host.label(REPO, number, at, chance.choice(("bug", "blocked"))),
        lambda: host.unlabel(REPO, number, at, "blocked"),
        lambda: host.set_milestone(REPO, number, at, chance.choice(milestones)),
        lambda: (host.reopen if is_closed else host.close)(REPO, number, at),
        lambda: is_closed or host.close(REPO, number, at, "not_planned"),
        lambda: host.comment(REPO, number, at),
    )
    of_pulls: Sequence[Callable[[], Any]] = (
        lambda: host.review(REPO, number, at, "approved", chance.choice((*PEOPLE, GHOST))),
        lambda: host.ask_review(REPO, number, at, chance.choice(ASKED)),
        lambda: host.withdraw_review(REPO, number, at, chance.choice(ASKED)),
        lambda: host.push(REPO, number, at, f"APO-{number}: mend"),
    )
    chance.choice((*acts, *of_pulls) if pull else acts)()


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Any:
    secret = tmp_path_factory.mktemp("secrets") / "token"
    secret.write_text(TOKEN)
    apps: list[ASGIApp] = []

    async def switch(scope: Scope, receive: Receive, send: Send) -> None:
        await apps[-1](scope, receive, send)

    with serve(switch) as url:

        def connect(app: ASGIApp, page_size: int = 100) -> GitHubConnector:
            apps.append(app)
            auth = GitHubAuth(token=SecretRef(file=secret))
            settings = GitHubSettings(name="github", url=url, auth=auth, page_size=page_size)
            return GitHubConnector.connect(settings, lambda: day(60))

        yield connect


Connect = Callable[..., GitHubConnector]


def everything(connector: GitHubConnector, since: datetime | None = None) -> dict[Any, Content | None]:
    return {read.ref: read.content for page in connector.changed(REPO, since) for read in page}


def by_itself(connector: GitHubConnector) -> dict[Any, Content | None]:
    refs = [mark.ref for page in connector.sweep(REPO) for mark in page]
    return {read.ref: read.content for read in connector.fetch(refs)}


def routes(host: GitHubHost) -> Counter[str]:
    """How often what was asked for, without the numbers."""
    paths = [request.path.removeprefix("/repositories/") for request in host.requests]
    return Counter("/".join("N" if part.isdigit() else part for part in path.split("/")) for path in paths)


# --- over HTTP


@pytest.mark.parametrize("seed", range(3))
def test_in_bulk_and_one_by_one_are_the_same(connect: Connect, seed: int) -> None:
    host = a_world(250, lambda: day(60), seed)
    connector = connect(host.app)
    found = everything(connector)
    assert found == by_itself(connector)
    asked = [each for content in found.values() for each in getattr(content, "review_requests", ())]
    assert {each.reviewer.startswith("team:") for each in asked} == {True, False}
    assert {each.until is None for each in asked} == {True, False}


def test_it_costs_a_fraction_of_the_calls(connect: Connect) -> None:
    host = a_world(400, lambda: day(60))
    found = everything(connect(host.app))
    assert len(found) == 403
    asked = routes(host)
    # One by one it would be 400 lists of events, and three times as many answers as there are pull requests.
    # Those that are left: what is no younger than the last page of the list, and reviews by the ghost.
    assert asked["N/issues"] == 5
    assert 5 <= asked["/graphql"] <= 6, "one for each page, and one for how many there are"
    assert sum(asked.values()) < 150, asked


def test_of_few_things_the_list_is_not_read(connect: Connect) -> None:
    host = a_world(400, lambda: day(60))
    changed = sorted(
        {state.updated_at for item in host._repositories[1_000_001].items.values() for state in item.states}
    )
    found = everything(connect(host.app), changed[-90])
    assert 40 < len(found) < github_bulk.MANY
    pages = [request.query["per_page"] for request in host.requests if request.path.endswith("/issues/events")]
    assert set(pages) == {"30"}, "but for links that changed"


def test_a_list_that_costs_more_than_it_saves_is_left(connect: Connect) -> None:
    host = a_world(120, lambda: day(60))
    for n in range(7000):
        (host.unlabel if n % 2 else host.label)(REPO, 120, day(51) + timedelta(seconds=n), "blocked")
    connector = connect(host.app, page_size=20)
    assert everything(connector) == by_itself(connector)
    assert routes(host)["N/issues/events"] == 1, "70 pages for 120 things"


def test_what_changes_meanwhile_is_asked_for_by_itself(connect: Connect) -> None:
    now = day(60)
    host = a_world(300, lambda: now)
    connector = connect(host.app, page_size=50)
    pages = connector.changed(REPO, None)
    read = [next(pages), next(pages)]
    for number in (290, 295, 300):  # which the list of events, read by now, does not know
        host.label(REPO, number, now, "blocked")
    now += timedelta(minutes=5)
    read += list(pages)
    found = {each.ref: each.content for page in read for each in page}
    assert found == by_itself(connector)


def test_what_changed_a_moment_ago_is_asked_for_by_itself(connect: Connect) -> None:
    host = a_world(200, lambda: day(60))
    for number in (7, 8):
        host.comment(REPO, number, day(60) - SETTLED + timedelta(seconds=30))
    connector = connect(host.app)
    everything(connector)
    asked = [request.path for request in host.requests]
    assert {f"/repositories/1000001/issues/{number}/events" for number in (7, 8)} <= set(asked)


def test_a_listing_goes_on_where_it_was_cut_off(connect: Connect) -> None:
    host = a_world(400, lambda: day(60))
    connector = connect(host.app)
    host.fail("secondary", after=10)  # among the pages of the list
    with pytest.raises(Retryable):
        everything(connector)
    assert host.requests[-1].path.endswith("/issues/events")
    before = routes(host)["N/issues/events"]
    found = everything(connector)
    pages = [request.query.get("page", "1") for request in host.requests if request.path.endswith("/issues/events")]
    assert before > 1
    assert Counter(pages).most_common(1) == [(pages[before - 1], 2)], "each page once, but the one that failed"
    assert found == by_itself(connector)
    assert connector._told == {}, "when all was read, the list is let go"


def test_a_list_that_fails_again_and_again_is_left(connect: Connect) -> None:
    host = a_world(150, lambda: day(60))
    whole = by_itself(connect(host.app))
    heavy = lambda request: _answer(request, JSONResponse({"message": "Server Error"}, 502))  # noqa: E731
    connector = connect(Except(host, heavy))
    for _ in range(2):
        with pytest.raises(Retryable):
            everything(connector)
    assert everything(connector) == whole


def _answer(request: Request, answer: Response) -> Response | None:
    return answer if request.url.path.endswith("00001/issues/events") else None


class Except:
    """A host that answers some paths otherwise."""

    def __init__(self, host: GitHubHost, answer: Callable[[Request], Response | None]) -> None:
        self.host, self.answer = host, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        other = self.answer(Request(scope)) if scope["type"] == "http" else None
        await (other or self.host.app)(scope, receive, send)


LIMITED = {"message": "In order to keep the API fast for everyone, pagination is limited for this resource."}


def _limited(request: Request) -> Response | None:
    return _answer(request, JSONResponse(LIMITED, 422)) if int(request.query_params.get("page", "1")) > 3 else None


def _not_found(request: Request) -> Response | None:
    return _answer(request, JSONResponse({"message": "Not Found"}, 404))


def _odd(request: Request) -> Response | None:
    return _answer(request, JSONResponse([{"event": 7}]))


def _graphql(answer: Response) -> Callable[[Request], Response | None]:
    return lambda request: answer if request.url.path == "/graphql" else None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(_limited, id="a list that may be read only so far back"),
        pytest.param(_not_found, id="no such list"),
        pytest.param(_odd, id="a list in another shape"),
        pytest.param(_graphql(JSONResponse({"message": "Not Found"}, 404)), id="no GraphQL"),
        pytest.param(_graphql(JSONResponse({"message": "limit"}, 403)), id="GraphQL is not allowed"),
        pytest.param(_graphql(PlainTextResponse("<html>")), id="GraphQL is a proxy's page"),
        pytest.param(_graphql(JSONResponse({"errors": [{"type": "RATE_LIMITED"}]})), id="GraphQL says so with 200"),
        pytest.param(_graphql(JSONResponse({"data": {"nodes": [None, {}, 7]}})), id="GraphQL tells other things"),
        pytest.param(_graphql(JSONResponse([1])), id="GraphQL is no object"),
        pytest.param(_graphql(Response(status_code=302, headers={"location": "https://x.test/"})), id="redirected"),
    ],
)
def test_without_the_aids_all_is_there(connect: Connect, answer: Callable[[Request], Response | None]) -> None:
    host = a_world(150, lambda: day(60))
    whole = by_itself(connect(host.app))
    assert everything(connect(Except(host, answer))) == whole


def test_where_github_asks_for_a_pause_all_requests_pause(connect: Connect) -> None:
    limited = _graphql(JSONResponse({"message": "You have exceeded a secondary rate limit"}, 403, {"retry-after": "9"}))
    with pytest.raises(Retryable) as caught:
        everything(connect(Except(a_world(150, lambda: day(60)), limited)))
    assert caught.value.after == 9


def test_a_mistake_in_the_list_is_no_dead_letter(connect: Connect) -> None:
    host = a_world(150, lambda: day(60))
    whole = by_itself(connect(host.app))

    def mistaken(request: Request) -> Response | None:
        if not request.url.path.endswith("00001/issues/events"):
            return None
        events = [{"id": n, "event": "labeled", "created_at": text(day(48)), "label": 7} for n in (1, 2)]
        told = [{**event, "issue": {"number": number}} for event in events for number in range(100, 150)]
        return JSONResponse([*told, {"id": 3, "event": "x", "created_at": text(day(0)), "issue": None}])

    assert everything(connect(Except(host, mistaken))) == whole


# --- what the list tells


def event(ident: int, number: int | None, at: float, name: str = "labeled", **more: Any) -> dict[str, Any]:
    issue = None if number is None else {"number": number}
    return {"id": ident, "event": name, "created_at": text(day(at)), "issue": issue, **more}


def told(*pages: Sequence[Any], at: datetime | None = READ_AT, ends: bool = False) -> Told:
    list_ = Told(FIRST, KINDS)
    for n, page in enumerate(pages):
        list_.add(page, at, None if ends and n == len(pages) - 1 else "next")
    return list_


def idents(list_: Told, number: int, created: float = 5, updated: float = 20) -> list[int] | None:
    found = list_.of(number, day(created), day(updated), SETTLED)
    return None if found is None else [each["id"] for each in found]


def test_the_events_of_a_thing_oldest_first() -> None:
    list_ = told([event(9, 1, 9), event(8, 2, 8), event(7, 1, 7)], [event(7, 1, 7), event(6, 1, 6)], [event(4, 3, 4)])
    assert idents(list_, 1) == [6, 7, 9]
    assert idents(list_, 2) == [8]
    assert idents(list_, 4) == [], "nothing ever happened to it"


@pytest.mark.parametrize(
    ("created", "updated", "certain"),
    [
        pytest.param(5, 20, True, id="all its life lies within"),
        pytest.param(4, 20, False, id="as old as the newest event of the last page"),
        pytest.param(3, 20, False, id="older than that"),
        pytest.param(5, 29.999, True, id="it changed a minute and more before the list was read"),
        pytest.param(5, 29.9999, False, id="it changed within that minute"),
        pytest.param(5, 31, False, id="it changed since"),
    ],
)
def test_only_what_is_certain_is_told(created: float, updated: float, certain: bool) -> None:
    list_ = told([event(9, 1, 9)], [event(4, 2, 4), event(3, 3, 1)])
    assert (idents(list_, 1, created, updated) == [9]) is certain
    assert (idents(list_, 1, created, updated) is None) is not certain


def test_a_list_of_one_page_is_whole() -> None:
    assert idents(told([event(9, 1, 9)], ends=True), 1, created=-99) == [9]
    assert idents(told([], ends=True), 1, created=-99) == []
    assert idents(told([event(9, 1, 9)], [event(8, 1, 8)], ends=True), 1, created=-99) is None, "it may have been cut"


@pytest.mark.parametrize(
    ("pages", "at"),
    [
        pytest.param((), day(30), id="nothing was read"),
        pytest.param(([event(9, 1, 9)],), None, id="GitHub does not say when"),
        pytest.param((["no event"],), day(30), id="no events"),
        pytest.param(([event(9, 1, 9), {"id": "9"}],), day(30), id="one of another shape"),
        pytest.param(([event(9, 1, 9, "transferred")], [event(3, 2, 3)]), day(30), id="it came from elsewhere"),
        pytest.param(([event(9, 1, 9, "closed")], [event(3, 2, 3)]), day(30), id="no word on why it was closed"),
    ],
)
def test_nothing_is_told(pages: Sequence[Sequence[Any]], at: datetime | None) -> None:
    assert idents(told(*pages, at=at), 1) is None


def test_why_it_was_closed_is_told() -> None:
    list_ = told([event(9, 1, 9, "closed", state_reason="not_planned")], [event(3, 2, 3)])
    assert list_.of(1, day(5), day(9), SETTLED) == [
        {"id": 9, "event": "closed", "created_at": text(day(9)), "state_reason": "not_planned"}
    ]


def test_a_page_that_cannot_be_read_ends_the_list_before_it() -> None:
    for odd in ([event(3, 1, 3), {"id": 2}], [event(3, 1, 8)]):
        list_ = told([event(9, 1, 9)], [event(4, 2, 4)], odd)
        assert list_.following is None
        assert idents(list_, 1, created=5) == [9]
        assert idents(list_, 1, created=3.5) is None


def test_what_was_brought_from_elsewhere_does_not_make_the_list_longer() -> None:
    """An event that came in with its own old time is listed among the new ones."""
    list_ = told([event(9, 1, 9), event(8, 5, -900)], [event(7, 1, 7)])
    assert idents(list_, 1, created=6) is None
    assert idents(list_, 1, created=8) == [7, 9]


def test_only_what_makes_a_history_is_kept() -> None:
    news = [event(9, 1, 9, "subscribed"), event(8, 1, 8, label={"name": "bug", "color": "red"}, actor={"id": 1})]
    list_ = told(news, [event(1, 2, 1)])
    assert list_.of(1, day(8.5), day(9), SETTLED) == [
        {"id": 8, "event": "labeled", "created_at": text(day(8)), "label": {"name": "bug"}}
    ]
    assert list_.size < 200
    assert idents(told([event(9, None, 9)], [event(3, 2, 3)]), 1) == [], "of a deleted issue nobody asks"


def test_who_was_asked_for_a_review_is_kept() -> None:
    asked = event(8, 1, 8, "review_requested", requested_reviewer={"id": 3, "login": "ann"}, review_requester={"id": 4})
    list_ = Told(FIRST, HISTORIC)
    for page in ([asked], [event(1, 2, 1)]):
        list_.add(page, READ_AT, "next")
    assert list_.of(1, day(7), day(9), SETTLED) == [
        {"id": 8, "event": "review_requested", "created_at": text(day(8)), "requested_reviewer": {"id": 3}}
    ]


def test_so_much_is_kept_and_no_more(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_bulk, "MOST_BYTES", 20_000)
    host = a_world(400, lambda: day(60))
    connector = connect(host.app)
    sizes: list[int] = []
    add = Told.add

    def spy(self: Told, *values: Any) -> None:
        add(self, *values)
        sizes.append(self.size)

    monkeypatch.setattr(Told, "add", spy)
    found = everything(connector)
    assert 20_000 < max(sizes) < 40_000
    assert len(sizes) < 8
    assert found == by_itself(connector)


# --- what the query tells


def listed(number: int, **more: Any) -> dict[str, Any]:
    return {"number": number, "node_id": f"PR_{number}", "pull_request": {"merged_at": None}, "title": "Mend", **more}


def node(number: int, **more: Any) -> dict[str, Any]:
    review = {
        "fullDatabaseId": "4294967297",
        "state": "APPROVED",
        "submittedAt": text(day(1)),
        "author": {"databaseId": 3},
    }
    reviews = {"pageInfo": {"hasNextPage": False}, "nodes": [review]}
    commits = {"pageInfo": {"hasNextPage": False}, "nodes": [{"commit": {"message": "APO-1"}}]}
    return {"id": f"PR_{number}", "headRefName": "topic", "reviews": reviews, "commits": commits} | more


def test_a_pull_request_in_the_shape_of_the_rest_api() -> None:
    (asked,) = batches([listed(7), {"number": 8, "node_id": "I_8"}])
    assert pulls(asked, {"data": {"nodes": [node(7)]}}) == {
        7: (
            {**listed(7), "merged_at": None, "head": {"ref": "topic"}},
            [{"id": 4294967297, "state": "APPROVED", "submitted_at": text(day(1)), "user": {"id": 3}}],
            [{"commit": {"message": "APO-1"}}],
        )
    }


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"id": "PR_9"}, id="another one"),
        pytest.param({"headRefName": None}, id="no branch"),
        pytest.param({"reviews": {"pageInfo": {"hasNextPage": True}, "nodes": []}}, id="more reviews"),
        pytest.param({"commits": {"pageInfo": {"hasNextPage": True}, "nodes": []}}, id="more commits"),
        pytest.param(
            {"reviews": {"pageInfo": {"hasNextPage": False}, "nodes": [{"state": "APPROVED"}]}}, id="half a review"
        ),
        pytest.param(
            {
                "reviews": {
                    "pageInfo": {"hasNextPage": False},
                    "nodes": [{"fullDatabaseId": "4", "state": "APPROVED", "submittedAt": None, "author": None}],
                }
            },
            id="a review of nobody",
        ),
    ],
)
def test_a_pull_request_that_is_not_told_for_certain(other: Mapping[str, Any]) -> None:
    (asked,) = batches([listed(7)])
    assert pulls(asked, {"data": {"nodes": [node(7, **other)]}}) == {}


@pytest.mark.parametrize(
    "issue",
    [
        None,
        {"number": 7},
        listed(7, node_id=7),
        {**listed(7), "number": "7"},
        listed(7, pull_request={}),
        listed(7, pull_request=7),
        listed(7, pull_request=None),
    ],
)
def test_what_is_no_pull_request_to_ask_for(issue: Any) -> None:
    assert list(batches([issue])) == []


def test_so_many_at_once() -> None:
    assert [len(asked) for asked in batches(map(listed, range(120)))] == [50, 50, 20]


def test_the_query_asks_for_nothing_that_changes_something() -> None:
    assert PULLS.split()[0].startswith("query(")
