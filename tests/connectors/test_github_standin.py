"""The GitHub stand-in: its answers have GitHub's published shape, it refuses what it does not know, and it is as of T."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from starlette.types import ASGIApp, Receive, Scope, Send

from pmsync.standins.github import RETRY_AFTER, Delivery, GitHubHost, Hook, Team, User
from pmsync.standins.server import serve

OPENAPI = Path(__file__).parents[2] / "../shared/data/github-openapi/api.github.com.trimmed.json"
REPO, ZEUS = "octo/apollo", "octo/zeus"
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ANN, BEN = User("ann", 11), User("ben", 12)
ASKED = {"Authorization": "token secret"}


def day(number: float) -> datetime:
    return START + timedelta(days=number)


class Clock:
    def __init__(self) -> None:
        self.now = day(30)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(clock: Clock) -> GitHubHost:
    host = GitHubHost(clock, token="secret", rate_limit=1000)
    host.add_repository(REPO)
    milestone = host.add_milestone(REPO, "2.1", day(0), due_on=date(2026, 2, 2))
    issue = host.open_issue(REPO, day(1), "Login fails", author=ANN, body="It does.")
    host.assign(REPO, issue, day(2), BEN)
    host.label(REPO, issue, day(3), "bug")
    host.set_milestone(REPO, issue, day(3), milestone)
    host.close(REPO, issue, day(4), "not_planned", ANN)
    host.reopen(REPO, issue, day(5))
    pull = host.open_pull(REPO, day(2), "Mend login", head="fix-login", body="Fixes #1", author=BEN, draft=True)
    host.push(REPO, pull, day(2.5), "APO-7: mend it")
    for reviewer in (ANN, BEN, Team("core", 21, (ANN,)), Team("docs", 22)):
        host.ask_review(REPO, pull, day(2.6), reviewer)
    host.withdraw_review(REPO, pull, day(2.7), BEN)
    host.review(REPO, pull, day(3), "approved", ANN)
    host.ready_for_review(REPO, pull, day(4))
    host.merge(REPO, pull, day(6), ANN)
    host.close_milestone(REPO, host.add_milestone(REPO, "2.0", day(0)), day(1))
    shipped = host.shipped(REPO)
    for n, (environment, ref) in enumerate((("staging", "v1"), ("staging", "v2"), ("production", "v2"))):
        deployment = shipped.deploy(day(7 + n), environment, ref, creator=ANN)
        shipped.set_status(deployment, day(7.1 + n), "in_progress", log_url="https://ci.example.com/1")
        shipped.set_status(deployment, day(7.2 + n), "success", environment_url="https://example.com")
    draft = shipped.release(day(8), "v2", "Two", draft=True)
    shipped.update_release(draft, day(9), draft=False)
    shipped.release(day(10), "v3-rc1", prerelease=True)
    tried = host.runs(REPO).ran(day(9), day(9.1), "failure")
    host.runs(REPO).try_again(tried, day(9.2))
    host.add_repository(ZEUS)
    host.links.add((REPO, host.open_issue(REPO, day(2), "Part")), day(12), "parent_issue", (REPO, issue))
    host.links.add((REPO, issue), day(12), "blocked_by", (ZEUS, host.open_issue(ZEUS, day(11), "Blocker")))
    hook = host.add_hook(REPO, "https://pm.example.com/webhooks/gh")
    for number in range(5):
        host.send(hook, "issues", {"action": "edited"}, day(29 + number / 10))
    return host


class Client:
    """Asks one host after another through one server."""

    def __init__(self) -> None:
        self.app: ASGIApp
        self.base = ""
        self._session = requests.Session()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        url = path if path.startswith("http") else self.base + path
        return self._session.get(url, headers=ASKED if headers is None else headers, allow_redirects=False, timeout=10)

    def post(self, path: str) -> requests.Response:
        return self._session.post(self.base + path, headers=ASKED, json={}, timeout=10)

    def close(self) -> None:
        self._session.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Client]:
    client = Client()
    with serve(client) as client.base:
        yield client
        client.close()


@pytest.fixture
def client(server: Client, host: GitHubHost) -> Client:
    server.app = host.app
    return server


# --- the published shape


@cache
def openapi() -> Any:
    if not OPENAPI.exists():
        pytest.skip("GitHub's OpenAPI description is not here (shared/data/github-openapi)")
    return as_json_schema(json.loads(OPENAPI.read_text()))


def as_json_schema(node: Any) -> Any:
    """OpenAPI 3.0 says `nullable` where JSON Schema has a type of null."""
    if isinstance(node, list):
        return [as_json_schema(each) for each in node]
    if not isinstance(node, dict):
        return node
    schema = {key: as_json_schema(value) for key, value in node.items() if key != "nullable"}
    return {"anyOf": [schema, {"type": "null"}]} if node.get("nullable") is True else schema


def hook_id(client: Client) -> int:
    return int(client.get(f"/repos/{REPO}/hooks").json()[0]["id"])


def filled(client: Client, path: str) -> str:
    """An address with the ids of the newest hook, deployment and release."""
    for name in ("hook", "deployment", "release"):
        if name.upper() in path:
            path = path.replace(name.upper(), str(client.get(f"/repos/{REPO}/{name}s").json()[0]["id"]))
    return path.replace("RUN", str(run_id(client))) if "RUN" in path else path


def run_id(client: Client) -> int:
    return int(client.get(f"/repos/{REPO}/actions/runs").json()["workflow_runs"][0]["id"])


@pytest.mark.parametrize(
    ("template", "rest"),
    [
        ("", ""),
        ("/issues", "/issues?state=all"),
        ("/issues/{issue_number}", "/issues/1"),
        ("/issues/{issue_number}", "/issues/2"),
        ("/issues/{issue_number}/events", "/issues/1/events"),
        ("/issues/{issue_number}/events", "/issues/2/events"),
        ("/issues/{issue_number}", "/issues/3"),
        ("/issues/{issue_number}/events", "/issues/3/events"),
        ("/issues/{issue_number}/dependencies/blocked_by", "/issues/1/dependencies/blocked_by"),
        ("/pulls/{pull_number}", "/pulls/2"),
        ("/issues/events", "/issues/events"),
        ("/pulls/{pull_number}/reviews", "/pulls/2/reviews"),
        ("/pulls/{pull_number}/commits", "/pulls/2/commits"),
        ("/milestones", "/milestones?state=all"),
        ("/milestones/{milestone_number}", "/milestones/1"),
        ("/deployments", "/deployments"),
        ("/deployments/{deployment_id}", "/deployments/DEPLOYMENT"),
        ("/deployments/{deployment_id}/statuses", "/deployments/DEPLOYMENT/statuses"),
        ("/releases", "/releases"),
        ("/releases/{release_id}", "/releases/RELEASE"),
        ("/actions/runs", "/actions/runs"),
        ("/actions/runs/{run_id}", "/actions/runs/RUN"),
        # An attempt has the shape of a run (the description that we hold has no path for it).
        ("/actions/runs/{run_id}", "/actions/runs/RUN/attempts/1"),
        ("/hooks", "/hooks"),
        ("/hooks/{hook_id}/deliveries", "/hooks/HOOK/deliveries"),
    ],
)
def test_answers_have_the_published_shape(client: Client, template: str, rest: str) -> None:
    operation = openapi()["paths"]["/repos/{owner}/{repo}" + template]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    body = client.get(f"/repos/{REPO}{filled(client, rest)}").json()
    assert body
    Draft202012Validator({**schema, "components": openapi()["components"]}).validate(body)


@pytest.mark.parametrize("rest", ["", "/{hook_id}/deliveries"])
def test_an_organisation_s_webhooks_have_the_published_shape(client: Client, host: GitHubHost, rest: str) -> None:
    hook = host.add_hook("octo", "https://pm.example.com/webhooks/gh")
    host.send(hook, "issues", {"action": "edited", "repository": {"id": 7}}, day(29))
    schema = openapi()["paths"]["/orgs/{org}/hooks" + rest]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    body = client.get(f"/orgs/Octo/hooks{rest.format(hook_id=hook)}").json()
    assert len(body) == 1
    Draft202012Validator({**schema, "components": openapi()["components"]}).validate(body)
    assert client.get("/orgs/someone/hooks").status_code == 404


def test_every_query_parameter_that_is_answered_is_published(client: Client) -> None:
    parameters = openapi()["paths"]["/repos/{owner}/{repo}/issues"]["get"]["parameters"]
    names = {
        each["name"] if "name" in each else each["$ref"].rsplit("/", 1)[1].replace("-", "_") for each in parameters
    }
    assert {"state", "sort", "direction", "since", "per_page", "page"} <= names


def test_rate_limit_has_the_published_shape(client: Client) -> None:
    schema = openapi()["paths"]["/rate_limit"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    body = client.get("/rate_limit").json()
    Draft202012Validator({**schema, "components": openapi()["components"]}).validate(body)


# --- what it refuses


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/repos/octo/other/issues", 404),
        (f"/repos/{REPO}/branches", 404),
        (f"/repos/{REPO}/issues/99", 404),
        (f"/repos/{REPO}/issues/99/dependencies/blocked_by", 404),
        (f"/repos/{REPO}/issues/1/dependencies/blocked_by?state=open", 422),
        (f"/repos/{REPO}/pulls/1", 404),
        (f"/repos/{REPO}/milestones/9", 404),
        ("/user", 404),
        (f"/repos/{REPO}/issues?states=all", 422),
        (f"/repos/{REPO}/issues?state=done", 422),
        (f"/repos/{REPO}/issues?sort=updated_at", 422),
        (f"/repos/{REPO}/issues?per_page=101", 422),
        (f"/repos/{REPO}/issues?page=0", 422),
        (f"/repos/{REPO}/issues?since=yesterday", 422),
        (f"/repos/{REPO}/issues/1?state=all", 422),
        ("/rate_limit?page=1", 422),
        (f"/repos/{REPO}/hooks?cursor=1", 422),
        (f"/repos/{REPO}/hooks/1/deliveries", 404),
        (f"/repos/{REPO}/hooks/HOOK/deliveries?page=2", 422),
        (f"/repos/{REPO}/hooks/HOOK/deliveries?cursor=v1_0", 422),
        (f"/repos/{REPO}/deployments?state=success", 422),
        (f"/repos/{REPO}/deployments/9", 404),
        (f"/repos/{REPO}/deployments/9/statuses", 404),
        (f"/repos/{REPO}/deployments/DEPLOYMENT/statuses?since=1", 422),
        (f"/repos/{REPO}/releases?draft=1", 422),
        (f"/repos/{REPO}/releases/9", 404),
        (f"/repos/{REPO}/releases/latest", 404),
        ("/app/hook/deliveries", 401),
    ],
)
def test_what_it_does_not_know_is_refused(client: Client, path: str, status: int) -> None:
    assert client.get(filled(client, path)).status_code == status


@pytest.mark.parametrize("headers", [{}, {"Authorization": "token wrong"}])
def test_a_token_is_required(client: Client, headers: Mapping[str, str]) -> None:
    assert client.get(f"/repos/{REPO}", headers).status_code == 401


# --- headers


def test_lists_are_paged_by_link(client: Client, host: GitHubHost) -> None:
    for number in range(4):
        host.open_issue(REPO, day(7), f"More {number}")
    url: str | None = f"/repos/{REPO}/issues?state=all&per_page=3&sort=created&direction=asc"
    pages = []
    while url:
        answer = client.get(url)
        pages.append([issue["number"] for issue in answer.json()])
        url = answer.links.get("next", {}).get("url")
    assert pages == [[1, 2, 3], [4, 5, 6], [7]]


def test_the_same_answer_costs_nothing_twice(client: Client) -> None:
    first = client.get(f"/repos/{REPO}/issues")
    again = client.get(f"/repos/{REPO}/issues", {**ASKED, "If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["x-ratelimit-remaining"] == first.headers["x-ratelimit-remaining"] == "999"


def test_the_quota_runs_out_and_comes_back(client: Client, host: GitHubHost, clock: Clock) -> None:
    host.rate_limit = 2
    assert [client.get(f"/repos/{REPO}").status_code for _ in range(3)] == [200, 200, 403]
    assert client.get("/rate_limit").json()["rate"]["remaining"] == 0
    reset = int(client.get("/rate_limit").headers["x-ratelimit-reset"])
    assert 0 < reset - clock().timestamp() <= 3600
    clock.now = datetime.fromtimestamp(reset, UTC)
    assert client.get(f"/repos/{REPO}").status_code == 200


def test_the_date_is_the_clock_s(client: Client) -> None:
    assert client.get("/rate_limit").headers["date"] == "Wed, 04 Feb 2026 09:00:00 GMT"


# --- webhooks


def test_deliveries_are_paged_by_cursor_the_newest_first(client: Client) -> None:
    url: str | None = f"/repos/{REPO}/hooks/{hook_id(client)}/deliveries?per_page=2"
    pages = []
    while url:
        answer = client.get(url)
        pages.append([each["delivered_at"][11:16] for each in answer.json()])
        assert "page=" not in url.replace("per_page=", "")
        url = answer.links.get("next", {}).get("url")
    assert pages == [["18:36", "16:12"], ["13:48", "11:24"], ["09:00"]]


def test_they_are_sent_again_while_they_are_kept(client: Client, host: GitHubHost, clock: Clock) -> None:
    taken: list[tuple[str, bool]] = []

    def receive(_: Hook, delivery: Delivery) -> int:
        taken.append((delivery.guid, delivery.redelivery))
        return 202

    host.receive = receive
    hook = hook_id(client)
    path = f"/repositories/{client.get(f'/repos/{REPO}').json()['id']}/hooks/{hook}/deliveries"
    oldest = client.get(path).json()[-1]
    assert (oldest["status_code"], oldest["status"]) == (502, "Invalid HTTP Response: 502")
    assert client.post(f"{path}/{oldest['id']}/attempts").status_code == 202
    assert taken == [(oldest["guid"], True)]
    again = client.get(path).json()[0]
    assert (again["guid"], again["redelivery"], again["status"]) == (oldest["guid"], True, "OK")
    assert again["id"] != oldest["id"]
    clock.now = day(32.05)
    assert len(client.get(path).json()) == 5, "of six the oldest is not kept any more"
    wrong = oldest["id"], 1, again["id"] + 1
    assert [client.post(f"{path}/{each}/attempts").status_code for each in wrong] == [404, 404, 404]
    assert client.post(f"/repositories/1/hooks/{hook}/deliveries/{again['id']}/attempts").status_code == 404
    assert len(taken) == 1


# --- as of T


@pytest.mark.parametrize(
    ("at", "state", "reason", "labels", "milestone", "events"),
    [
        (1, "open", None, [], None, 0),
        (2, "open", None, [], None, 1),
        (3, "open", None, ["bug"], "2.1", 3),
        (4, "closed", "not_planned", ["bug"], "2.1", 4),
        (5, "open", "reopened", ["bug"], "2.1", 5),
    ],
)
def test_an_issue_is_as_it_was(
    client: Client,
    clock: Clock,
    at: int,
    state: str,
    reason: str | None,
    labels: list[str],
    milestone: str | None,
    events: int,
) -> None:
    clock.now = day(at)
    issue = client.get(f"/repos/{REPO}/issues/1").json()
    assert (issue["state"], issue["state_reason"]) == (state, reason)
    assert [label["name"] for label in issue["labels"]] == labels
    assert (issue["milestone"] or {}).get("title") == milestone
    assert issue["updated_at"] == f"{day(at):%Y-%m-%dT%H:%M:%SZ}"
    assert len(client.get(f"/repos/{REPO}/issues/1/events").json()) == events


@pytest.mark.parametrize(
    ("at", "reviewers", "teams", "events"),
    [
        (2.5, [], [], 0),
        (2.6, ["ann", "ben"], ["core", "docs"], 4),
        (2.7, ["ann"], ["core", "docs"], 5),
        (3, [], ["docs"], 5),
    ],
)
def test_who_is_asked_for_a_review_is_as_it_was(
    client: Client, clock: Clock, at: float, reviewers: list[str], teams: list[str], events: int
) -> None:
    clock.now = day(at)
    pull = client.get(f"/repos/{REPO}/pulls/2").json()
    assert [user["login"] for user in pull["requested_reviewers"]] == reviewers
    assert [team["slug"] for team in pull["requested_teams"]] == teams
    told = [each["event"] for each in client.get(f"/repos/{REPO}/issues/2/events").json()]
    assert sum(each.startswith("review_request") for each in told) == events


def test_links_are_as_they_were_and_move_no_time(client: Client, clock: Clock, host: GitHubHost) -> None:
    blocker, part = (ZEUS, 1), (REPO, 3)
    host.close(*blocker, day(13))
    host.links.remove((REPO, 1), day(14), "blocked_by", blocker)
    host.links.remove(part, day(15), "parent_issue", (REPO, 1))
    seen = {}
    for at in (11.5, 12, 13, 14, 15):
        clock.now = day(at)
        issue, child = (client.get(f"/repos/{REPO}/issues/{number}").json() for number in (1, 3))
        counts = issue["issue_dependencies_summary"]
        shown = [each["number"] for each in client.get(f"/repos/{REPO}/issues/1/dependencies/blocked_by").json()]
        told = [each["event"] for each in client.get(f"/repos/{REPO}/issues/1/events").json()[5:]]
        above = child.get("parent_issue_url", "").rpartition("/repos")[2]
        seen[at] = (above, issue["sub_issues_summary"]["total"], counts["blocked_by"], counts["total_blocked_by"])
        assert len(shown) == counts["total_blocked_by"]
        assert issue["updated_at"] == "2026-01-10T09:00:00Z"
    assert seen == {
        11.5: ("", 0, 0, 0),
        12: (f"/{REPO}/issues/1", 1, 1, 1),
        13: (f"/{REPO}/issues/1", 1, 0, 1),
        14: (f"/{REPO}/issues/1", 1, 0, 0),
        15: ("", 0, 0, 0),
    }
    assert told == ["sub_issue_added", "blocked_by_added", "blocked_by_removed", "sub_issue_removed"]
    events = client.get(f"/repos/{ZEUS}/issues/1/events").json()
    assert [each["event"] for each in events] == ["blocking_added", "closed", "blocking_removed"]
    assert (events[0]["blocking"]["number"], events[0]["blocking"]["repository"]["full_name"]) == (1, REPO)


def test_an_older_host_knows_no_links(client: Client, host: GitHubHost) -> None:
    host.links.known = False
    assert client.get(f"/repos/{REPO}/issues/1/dependencies/blocked_by").status_code == 404
    summaries = {"sub_issues_summary", "issue_dependencies_summary", "parent_issue_url"}
    assert not summaries & client.get(f"/repos/{REPO}/issues/3").json().keys()


def test_a_milestone_is_as_it_was(client: Client, clock: Clock, host: GitHubHost) -> None:
    host.update_milestone(REPO, 1, day(10), title="2.1 (May)", due_on=date(2026, 5, 4))
    host.delete_milestone(REPO, 1, day(20))
    clock.now = day(9)
    assert client.get(f"/repos/{REPO}/milestones/1").json()["due_on"] == "2026-02-02T08:00:00Z"
    clock.now = day(10)
    renamed = client.get(f"/repos/{REPO}/milestones/1").json()
    assert (renamed["title"], renamed["due_on"]) == ("2.1 (May)", "2026-05-04T08:00:00Z")
    assert (renamed["open_issues"], renamed["closed_issues"]) == (1, 0)
    clock.now = day(20)
    assert client.get(f"/repos/{REPO}/milestones/1").status_code == 404
    assert client.get(f"/repos/{REPO}/issues/1").json()["milestone"] is None


@pytest.mark.parametrize(
    ("at", "states"),
    [
        (6, []),
        (7, [("staging", "pending")]),
        (7.1, [("staging", "in_progress")]),
        (8, [("staging", "pending"), ("staging", "success")]),
        (8.2, [("staging", "success"), ("staging", "inactive")]),
        (9.2, [("production", "success"), ("staging", "success"), ("staging", "inactive")]),
    ],
)
def test_deployments_are_as_they_were_the_newest_first(
    client: Client, clock: Clock, at: float, states: list[tuple[str, str]]
) -> None:
    clock.now = day(at)
    found = []
    for each in client.get(f"/repos/{REPO}/deployments").json():
        path = f"/repos/{REPO}/deployments/{each['id']}/statuses"
        statuses = [(status["created_at"], status["state"]) for status in client.get(path).json()]
        assert statuses == sorted(statuses, reverse=True), "the newest first"
        assert each["updated_at"] == (statuses[0][0] if statuses else each["created_at"])
        found.append((each["environment"], statuses[0][1] if statuses else "pending"))
    assert found == states


def test_releases_are_as_they_were(client: Client, clock: Clock, host: GitHubHost) -> None:
    clock.now = day(8)
    assert [
        (each["tag_name"], each["draft"], each["published_at"]) for each in client.get(f"/repos/{REPO}/releases").json()
    ] == [("v2", True, None)]
    clock.now = day(10)
    found = client.get(f"/repos/{REPO}/releases").json()
    assert [(each["tag_name"], each["draft"], each["prerelease"]) for each in found] == [
        ("v3-rc1", False, True),
        ("v2", False, False),
    ]
    host.shipped(REPO).delete_release(found[0]["id"], day(11))
    clock.now = day(11)
    assert client.get(f"/repos/{REPO}/releases/{found[0]['id']}").status_code == 404
    assert len(client.get(f"/repos/{REPO}/releases").json()) == 1


@pytest.mark.parametrize("what", ["deployments", "releases"])
def test_who_may_not_read_it_is_refused(client: Client, host: GitHubHost, what: str) -> None:
    host.shipped(REPO).refused[what] = 403
    assert client.get(f"/repos/{REPO}/{what}").status_code == 403
    assert client.get(f"/repos/{REPO}/issues").status_code == 200


def test_the_list_lags_and_the_issue_does_not(client: Client, clock: Clock, host: GitHubHost) -> None:
    host.index_lag = 60
    clock.now = day(4) + timedelta(seconds=59)
    assert [issue["number"] for issue in client.get(f"/repos/{REPO}/issues?state=open").json()] == [3, 2, 1]
    assert client.get(f"/repos/{REPO}/issues/1").json()["state"] == "closed"
    clock.now = day(4) + timedelta(seconds=60)
    assert [issue["number"] for issue in client.get(f"/repos/{REPO}/issues?state=open").json()] == [3, 2]


def test_since_counts_the_second_itself(client: Client) -> None:
    found = client.get(f"/repos/{REPO}/issues?state=all&since={day(5):%Y-%m-%dT%H:%M:%SZ}").json()
    assert [issue["number"] for issue in found] == [2, 1]
    found = client.get(
        f"/repos/{REPO}/issues?state=all&since={day(5) + timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    ).json()
    assert [issue["number"] for issue in found] == [2]


def test_what_is_gone_says_how(client: Client, clock: Clock, host: GitHubHost) -> None:
    host.add_repository("octo/other")
    moving = host.open_issue(REPO, day(7), "Moves")
    host.delete(REPO, 1, day(10))
    number = host.transfer(REPO, moving, day(10), "octo/other")
    host.rename_repository(REPO, day(10), "octo/artemis")
    clock.now = day(10)
    assert client.get("/repos/octo/artemis/issues/1").status_code == 410
    answer = client.get(f"/repos/octo/artemis/issues/{moving}")
    assert (answer.status_code, answer.headers["location"].endswith(f"/issues/{number}")) == (301, True)
    assert client.get(answer.headers["location"]).json()["title"] == "Moves"
    assert client.get(f"/repos/{REPO}").status_code == 301
    host.remove_repository("octo/artemis", day(11))
    clock.now = day(11)
    assert client.get("/repos/octo/artemis").status_code == 404


# --- faults and the journal


@pytest.mark.parametrize(
    ("fault", "status", "header"),
    [
        ("primary", 403, ("x-ratelimit-remaining", "0")),
        ("secondary", 403, ("retry-after", str(RETRY_AFTER))),
        ("too_many", 429, ("retry-after", str(RETRY_AFTER))),
        ("500", 500, None),
        ("502", 502, None),
        ("html", 200, ("content-type", "text/html; charset=utf-8")),
        ("truncated", 200, None),
    ],
)
def test_faults_on_demand(
    client: Client, host: GitHubHost, fault: Any, status: int, header: tuple[str, str] | None
) -> None:
    host.fail(fault, times=1, after=1)
    assert client.get(f"/repos/{REPO}").json()["full_name"] == REPO
    answer = client.get(f"/repos/{REPO}")
    assert answer.status_code == status
    if header:
        assert answer.headers[header[0]] == header[1]
    if fault in ("html", "truncated"):
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            answer.json()
    assert client.get(f"/repos/{REPO}").json()["full_name"] == REPO


def test_the_journal_holds_every_request(client: Client, host: GitHubHost) -> None:
    client.get(f"/repos/{REPO}/issues?state=all")
    client.get("/nowhere")
    assert [tuple(each) for each in host.requests] == [
        (f"/repos/{REPO}/issues", {"state": "all"}, 200),
        ("/nowhere", {}, 404),
    ]


def test_changes_of_one_thing_are_told_in_order(host: GitHubHost) -> None:
    with pytest.raises(ValueError, match="in order"):
        host.comment(REPO, 1, day(1))
