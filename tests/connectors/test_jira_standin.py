"""The Jira stand-in: it shows the world as of its clock, is strict, and answers in the shapes of the vendor's document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator

from pmsync.standins.jira import HTML, TRUNCATED, Fault, JiraSite, Person
from pmsync.standins.server import serve

OPENAPI = Path(__file__).parents[2].parent / "shared" / "data" / "jira-openapi" / "platform-swagger.v3.json"
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
APO = 'project = "APO" ORDER BY updated ASC, key ASC'
AUTH = ("pmsync@example.com", "standin-token")


def minutes(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


class Stage:
    """One server for all tests; each puts its own site on it."""

    def __init__(self) -> None:
        self.url, self.session = "", requests.Session()
        self.session.auth = AUTH
        self.fresh()

    def fresh(self, **options: Any) -> JiraSite:
        self.now = minutes(60)
        self.site = JiraSite(lambda: self.now, **options)
        self.site.add_project("APO", "Apollo")
        self.site.add_project("ZEU", "Zeus")
        return self.site

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.site.app(scope, receive, send)

    def get(self, path: str, **params: Any) -> requests.Response:
        return self.session.get(f"{self.url}/rest/api/3/{path}", params=params, timeout=10)

    def post(self, path: str, **body: Any) -> requests.Response:
        return self.session.post(f"{self.url}/rest/api/3/{path}", json=body, timeout=10)

    def search(self, jql: str = APO, **params: Any) -> Any:
        return self.get("search/jql", jql=jql, **params).json()

    def ids(self, jql: str = APO) -> list[str]:
        return [issue["id"] for issue in self.search(jql)["issues"]]

    def issue(self, ident: str, *fields: str) -> Any:
        found = self.post("issue/bulkfetch", issueIdsOrKeys=[ident], fields=list(fields) or ["updated"]).json()[
            "issues"
        ]
        return found[0] if found else None

    def histories(self, ident: str) -> Any:
        logs = self.post("changelog/bulkfetch", issueIdsOrKeys=[ident]).json()["issueChangeLogs"]
        return [history for log in logs for history in log["changeHistories"]]


@pytest.fixture(scope="module")
def served() -> Iterator[Stage]:
    stage = Stage()
    with serve(stage) as url, stage.session:
        stage.url = url
        yield stage


@pytest.fixture
def stage(served: Stage) -> Stage:
    served.fresh()
    return served


# The world as of the clock


def test_the_clock_decides_what_there_is(stage: Stage) -> None:
    made = stage.site.create_issue("APO", T0, "An issue")
    stage.site.change_issue(made, minutes(10), status="Done")
    stage.site.delete_issue(made, minutes(20))
    seen = []
    for at in (-1, 0, 9, 10, 19, 20):
        stage.now = minutes(at)
        found = stage.issue(made, "status", "updated")
        shown = (found["fields"]["status"]["name"], found["fields"]["updated"][11:16]) if found else None
        seen.append((shown, stage.ids() == [made], len(stage.histories(made))))
    todo, done = ("To Do", "09:00"), ("Done", "09:10")
    assert seen == [
        (None, False, 0), (todo, True, 0), (todo, True, 0), (done, True, 1), (done, True, 1), (None, False, 0),
    ]  # fmt: skip


def test_the_index_lags_and_reading_by_id_does_not(stage: Stage) -> None:
    site = stage.fresh(index_lag=300)
    made = site.create_issue("APO", minutes(50), "Old")
    site.change_issue(made, minutes(58), title="New")
    late = site.create_issue("APO", minutes(59), "Late")
    (found,) = stage.search(fields="summary")["issues"]
    assert (found["id"], found["fields"]["summary"]) == (made, "Old")
    assert stage.issue(made, "summary")["fields"]["summary"] == "New"
    assert stage.issue(late) is not None
    assert len(stage.histories(made)) == 1


def test_versions_through_their_life(stage: Stage) -> None:
    site = stage.site
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0)
    site.update_version(version, minutes(5), release_date=date(2026, 4, 8), name="2.1.0")
    site.release_version(version, minutes(10))
    made = site.create_issue("APO", T0, "An issue", fix_version=version)
    site.delete_version(version, minutes(20))
    seen = []
    for at in (-1, 0, 5, 10, 20):
        stage.now = minutes(at)
        answer, listed = stage.get(f"version/{version}"), stage.get("project/APO/versions").json()
        found = answer.json()
        assert listed == ([found] if answer.ok else [])
        seen.append((found["name"], found["releaseDate"], found["released"]) if answer.ok else answer.status_code)
    assert seen == [
        404,
        ("2.1", "2026-04-01", False),
        ("2.1.0", "2026-04-08", False),
        ("2.1.0", "2026-03-02", True),
        404,
    ]
    assert stage.issue(made, "fixVersions")["fields"]["fixVersions"] == []
    (history,) = stage.histories(made)
    assert [(step["field"], step["from"], step["to"]) for step in history["items"]] == [("Fix Version", version, None)]


def test_a_move_gives_a_new_key_and_says_so(stage: Stage) -> None:
    site = stage.site
    version = site.add_version("APO", "2.1", at=T0)
    site.create_issue("ZEU", T0, "There before")
    made = site.create_issue("APO", T0, "Moves", fix_version=version)
    site.move_issue(made, minutes(5), "ZEU")
    assert stage.ids() == []
    assert (found := stage.issue(made, "fixVersions"))["key"] == "ZEU-2"
    assert found["fields"]["fixVersions"] == []
    (history,) = stage.histories(made)
    assert [(step["field"], step["fromString"], step["toString"]) for step in history["items"]] == [
        ("project", "Apollo", "Zeus"),
        ("Key", "APO-1", "ZEU-2"),
        ("Fix Version", "2.1", None),
    ]


def test_work_that_is_logged_is_less_to_do(stage: Stage) -> None:
    made = stage.site.create_issue("APO", T0, "An issue", original_estimate=7200, remaining_estimate=7200)
    bare = stage.site.create_issue("APO", T0, "Another")
    for ident in (made, bare):
        one = stage.site.log_work(ident, minutes(5), 5400)
        other = stage.site.log_work(ident, minutes(6), 3600)
    names = ("timeoriginalestimate", "timespent", "timeestimate")
    assert [list(stage.issue(ident, *names)["fields"].values()) for ident in (made, bare)] == [
        [7200, 9000, 0],
        [None, 9000, None],
    ]
    steps = [(step["field"], step["from"], step["to"]) for h in stage.histories(bare) for step in h["items"]]
    assert steps == [
        ("timespent", None, "5400"),
        ("WorklogId", one, None),
        ("timespent", "5400", "9000"),
        ("WorklogId", other, None),
    ]
    steps = [(step["field"], step["from"], step["to"]) for h in stage.histories(made) for step in h["items"]]
    assert [step for step in steps if step[0] != "WorklogId"] == [
        ("timespent", None, "5400"),
        ("timeestimate", "7200", "1800"),
        ("timespent", "5400", "9000"),
        ("timeestimate", "1800", "0"),
    ]


def test_worklogs_through_their_life(stage: Stage) -> None:
    made = stage.site.create_issue("APO", T0, "An issue", assignee="acc-1")
    one = stage.site.log_work(made, minutes(10), 600, T0)
    other = stage.site.log_work(made, minutes(20), 1200, by="acc-2")
    stage.site.change_worklog(made, minutes(30), one, seconds=900)
    stage.site.delete_worklog(made, minutes(40), other)
    seen = []
    for at in (0, 10, 20, 30, 40):
        stage.now = minutes(at)
        fields = stage.issue(made, "worklog", "timespent", "updated")["fields"]
        shown = [(each["author"]["accountId"], each["timeSpentSeconds"]) for each in fields["worklog"]["worklogs"]]
        assert stage.get(f"issue/{made}/worklog").json()["worklogs"] == fields["worklog"]["worklogs"]
        assert fields["updated"][11:16] == f"09:{at:02}"
        assert fields["worklog"]["total"] == len(shown)
        seen.append((shown, fields["timespent"]))
    assert seen == [
        ([], None), ([("acc-1", 600)], 600), ([("acc-1", 600), ("acc-2", 1200)], 1800),
        ([("acc-1", 900), ("acc-2", 1200)], 2100), ([("acc-1", 900)], 900),
    ]  # fmt: skip


def test_an_issue_shows_twenty_worklogs_and_says_how_many_there_are(stage: Stage) -> None:
    made = stage.site.create_issue("APO", T0, "An issue")
    ids = [stage.site.log_work(made, minutes(n + 1), 60) for n in range(25)]
    shown = stage.issue(made, "worklog")["fields"]["worklog"]
    assert ([each["id"] for each in shown["worklogs"]], shown["total"]) == (ids[:20], 25)
    pages = [stage.get(f"issue/{made}/worklog", startAt=n, maxResults=10).json() for n in (0, 10, 20)]
    assert [each["id"] for page in pages for each in page["worklogs"]] == ids
    assert [stage.get(f"issue/{ident}/worklog").status_code for ident in ("1", f"{made}9")] == [404, 404]


def test_links_are_told_at_both_ends(stage: Stage) -> None:
    site = stage.site
    one, other = (site.create_issue("APO", T0, title) for title in ("One", "Other"))
    hidden = site.create_issue("ZEU", T0, "Hidden")
    site.link_issue(one, minutes(5), other)
    site.link_issue(other, minutes(6), hidden, "Relates")
    site.remove_project("ZEU", minutes(7))
    site.unlink_issue(other, minutes(8), one)
    site.link_issue(one, minutes(9), other, "Duplicate")
    site.delete_issue(one, minutes(10))
    seen = []
    for at in (4, 5, 6, 7, 8, 9, 10):
        stage.now = minutes(at)
        seen.append(
            [
                (link["type"][side], link[f"{side}Issue"]["key"])
                for link in stage.issue(other, "issuelinks")["fields"]["issuelinks"]
                for side in ("inward", "outward")
                if f"{side}Issue" in link
            ]
        )
    blocked, hides = ("is blocked by", "APO-1"), ("relates to", "ZEU-1")
    assert seen == [[], [blocked], [blocked, hides], [blocked], [], [("is duplicated by", "APO-1")], []]
    told = [(step["fromString"], step["to"], step["toString"]) for h in stage.histories(other) for step in h["items"]]
    assert told == [
        (None, "APO-1", "This issue is blocked by APO-1"),
        (None, "ZEU-1", "This issue relates to ZEU-1"),
        ("This issue is blocked by APO-1", None, None),
        (None, "APO-1", "This issue is duplicated by APO-1"),
        ("This issue is duplicated by APO-1", None, None),
    ]


def test_what_does_not_change_leaves_no_trace(stage: Stage) -> None:
    made = stage.site.create_issue("APO", T0, "An issue", status="Done")
    stage.site.change_issue(made, minutes(5), status="Done", assignee=None)
    assert stage.histories(made) == []
    assert stage.issue(made)["fields"]["updated"] == "2026-03-02T09:00:00.000+0000"


def test_the_world_is_written_in_the_order_of_time(stage: Stage) -> None:
    made = stage.site.create_issue("APO", minutes(5), "An issue")
    with pytest.raises(ValueError, match="order of time"):
        stage.site.change_issue(made, minutes(4), status="Done")
    stage.site.delete_issue(made, minutes(6))
    with pytest.raises(ValueError, match="deletion"):
        stage.site.change_issue(made, minutes(7), status="Done")
    with pytest.raises(ValueError, match="no such status"):
        stage.site.create_issue("APO", T0, "An issue", status="Perhaps")


# Strictness


def test_pages_and_their_tokens(stage: Stage) -> None:
    site = stage.fresh(max_page=3)
    made = [site.create_issue("APO", minutes(n // 4), f"Issue {n}") for n in range(8)]
    first = stage.search(maxResults=5000)
    second = stage.search(nextPageToken=first["nextPageToken"], maxResults=2)
    third = stage.search(nextPageToken=second["nextPageToken"])
    assert [[issue["id"] for issue in page["issues"]] for page in (first, second, third)] == [
        made[:3],
        made[3:5],
        made[5:],
    ]
    assert [page["isLast"] for page in (first, second, third)] == [False, False, True]
    assert "nextPageToken" not in third
    assert set(first["issues"][0]) == {"id", "key", "self"}
    other = 'project = "APO" AND updated >= "2026/01/01 00:00" ORDER BY updated ASC, key ASC'
    for token, jql in ((first["nextPageToken"], other), ("made up", APO)):
        assert stage.get("search/jql", jql=jql, nextPageToken=token).status_code == 400


def test_a_deleted_issue_does_not_shift_the_pages(stage: Stage) -> None:
    site = stage.fresh(max_page=2)
    made = [site.create_issue("APO", minutes(n), f"Issue {n}") for n in range(4)]
    token = stage.search()["nextPageToken"]
    site.delete_issue(made[0], minutes(30))
    assert [issue["id"] for issue in stage.search(nextPageToken=token)["issues"]] == made[2:]


@pytest.mark.parametrize(
    "jql",
    [
        "",
        "ORDER BY updated ASC, key ASC",
        "project = APO ORDER BY updated ASC, key ASC",
        'project = "APO"',
        'project = "APO" ORDER BY updated DESC, key ASC',
        'project = "APO" ORDER BY updated ASC',
        'project = "APO" AND updated > "2026/03/02 09:00" ORDER BY updated ASC, key ASC',
        'project = "APO" AND updated >= "2026-03-02 09:00" ORDER BY updated ASC, key ASC',
        'project = "APO" AND updated >= "2026/02/30 09:00" ORDER BY updated ASC, key ASC',
        'project = "APO" OR project = "ZEU" ORDER BY updated ASC, key ASC',
        'project = "APO" AND status = "Done" ORDER BY updated ASC, key ASC',
        'project = "NOPE" ORDER BY updated ASC, key ASC',
        'project = "APO" or "" = " ORDER BY updated ASC, key ASC',
    ],
)
def test_jql_that_is_not_understood_is_refused(jql: str, stage: Stage) -> None:
    answer = stage.get("search/jql", jql=jql)
    assert answer.status_code == 400
    assert answer.json()["errorMessages"]


def test_jql_of_several_projects_and_of_a_time(stage: Stage) -> None:
    site = stage.fresh(time_zone="Asia/Kathmandu")  # UTC+05:45
    site.add_project('A"B\\C', "Quoted")
    first, second = site.create_issue("APO", T0, "First"), site.create_issue("ZEU", minutes(1), "Second")
    third = site.create_issue('A"B\\C', minutes(2), "Third")
    order = "ORDER BY updated ASC, key ASC"
    assert stage.ids(f'project in ("ZEU", "APO") {order}') == [first, second]
    assert stage.ids(f'project = "A\\"B\\\\C" {order}') == [third]
    assert stage.ids(f'project in ("ZEU","APO") AND updated >= "2026/03/02 14:46" {order}') == [second]
    assert stage.ids(f'project in ("ZEU","APO") AND updated >= "2026/03/02 14:47" {order}') == []


def test_an_hour_that_comes_twice_is_taken_for_the_later(stage: Stage) -> None:
    site = stage.fresh(time_zone="Europe/Berlin")
    twice = [datetime(2025, 10, 26, hour, 40, tzinfo=UTC) for hour in (0, 1)]
    made = [site.create_issue("APO", at, "02:40 in Berlin") for at in twice]
    query = 'project = "APO" AND updated >= "2025/10/26 02:30" ORDER BY updated ASC, key ASC'
    assert stage.ids(query) == made[1:]


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("GET", "search/jql", {"jql": APO, "startAt": 0}, 400),
        ("GET", "search/jql", {"jql": APO, "maxResults": "many"}, 400),
        ("GET", "search/jql", {"jql": APO, "maxResults": 0}, 400),
        ("GET", "search/jql", {"jql": APO, "fields": "colour"}, 400),
        ("GET", "search/jql", {"jql": [APO, APO]}, 400),
        ("GET", "search", {"jql": APO}, 410),
        ("POST", "search", {"jql": APO}, 410),
        ("GET", "status", {"expand": "all"}, 400),
        ("GET", "project/NOPE", {}, 404),
        ("GET", "project/NOPE/versions", {}, 404),
        ("GET", "version/1", {}, 404),
        ("GET", "nothing", {}, 404),
        ("POST", "status", {}, 404),
        ("POST", "issue/bulkfetch", {"issueIdsOrKeys": []}, 400),
        ("POST", "issue/bulkfetch", {"issueIdsOrKeys": "1"}, 400),
        ("POST", "issue/bulkfetch", {"issueIdsOrKeys": [1]}, 400),
        ("POST", "issue/bulkfetch", {"issueIdsOrKeys": ["1"] * 101}, 400),
        ("POST", "issue/bulkfetch", {"issueIdsOrKeys": ["30001"], "fields": ["colour"]}, 400),
        ("POST", "issue/bulkfetch", {"issueIdsOrKeys": ["30001"], "ids": []}, 400),
        ("POST", "changelog/bulkfetch", {"issueIdsOrKeys": ["1"] * 1001}, 400),
        ("POST", "changelog/bulkfetch", {"issueIdsOrKeys": ["1"], "since": 1}, 400),
    ],
)
def test_what_is_not_understood_is_refused(method: str, path: str, sent: Any, status: int, stage: Stage) -> None:
    stage.site.create_issue("APO", T0, "An issue")
    answer = stage.get(path, **sent) if method == "GET" else stage.post(path, **sent)
    assert answer.status_code == status
    assert answer.json()["errorMessages"]


def test_older_search_is_gone_too_and_bodies_must_be_json(stage: Stage) -> None:
    assert stage.session.get(f"{stage.url}/rest/api/2/search", timeout=10).status_code == 410
    answer = stage.session.post(f"{stage.url}/rest/api/3/issue/bulkfetch", data=b"{", timeout=10)
    assert answer.status_code == 400


@pytest.mark.parametrize("auth", [None, ("pmsync@example.com", "wrong"), ("else@example.com", "standin-token")])
def test_nothing_without_the_right_token(auth: tuple[str, str] | None, stage: Stage) -> None:
    for path in ("status", "search", "nothing"):
        assert requests.get(f"{stage.url}/rest/api/3/{path}", auth=auth, timeout=10).status_code == 401


# Trouble on demand


def test_faults_come_in_turn_for_as_many_requests(stage: Stage) -> None:
    limited = Fault(status=429, headers={"Retry-After": "7"}, times=2, path="status")
    stage.site.faults.extend([limited, HTML, TRUNCATED])
    answers = [stage.get("status") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [429, 429, 200, 200, 200]
    assert answers[1].headers["Retry-After"] == "7"
    assert answers[2].headers["Content-Type"].startswith("text/html")
    with pytest.raises(ValueError, match="Unterminated"):
        answers[3].json()
    assert answers[4].json()
    stage.site.faults.append(limited)
    assert stage.get("myself").ok


def test_the_quota_begins_anew_with_the_hour(stage: Stage) -> None:
    site = stage.fresh(points_per_hour=20)
    for n in range(8):
        site.create_issue("APO", minutes(n), "An issue")
    stage.now = minutes(115)
    answers = [stage.get("search/jql", jql=APO) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [
        200,
        200,
        200,
    ]  # (1 + 8) twice, and one begun with points left
    refused = stage.get("myself")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "301")
    assert refused.headers["RateLimit-Reason"] == "jira-quota-tenant-based"
    stage.now = minutes(120)
    assert stage.get("myself").ok


def test_every_answer_is_dated_by_the_clock_of_the_site(stage: Stage) -> None:
    stage.site.faults.append(HTML)
    assert [stage.get("myself").headers["Date"] for _ in range(2)] == ["Mon, 02 Mar 2026 10:00:00 GMT"] * 2


def test_the_journal_names_every_request(stage: Stage) -> None:
    stage.get("status")
    stage.post("issue/bulkfetch", issueIdsOrKeys=["1"])
    assert stage.site.requests == [("GET", "/rest/api/3/status"), ("POST", "/rest/api/3/issue/bulkfetch")]


# Shapes


@cache
def openapi() -> Any:
    if not OPENAPI.exists():
        pytest.skip("the vendor's OpenAPI document is not here")
    return json.loads(OPENAPI.read_text())


def of(kind: str) -> Any:
    return {"$ref": f"#/components/schemas/{kind}"}


COVERED = [
    ("status", {"type": "array", "items": of("StatusDetails")}),
    ("field", {"type": "array", "items": of("FieldDetails")}),
    ("myself", of("User")),
    ("serverInfo", of("ServerInformation")),
    ("project/APO", of("Project")),
    ("project/APO/versions", {"type": "array", "items": of("Version")}),
    ("version/20001", of("Version")),
    ("issue/30002/worklog", of("PageOfWorklogs")),
    ("user/bulk?accountId=acc-1&accountId=acc-2&accountId=acc-0", of("PageBeanUser")),
]
TEXT = {"type": ["string", "null"]}
HISTORY = {
    "type": "object",
    "required": ["id", "created", "items"],
    "properties": {"id": {"type": "string"}, "created": {"type": "string"}, "items": {"type": "array"}},
}
UNVERIFIED = {
    "search/jql": {
        "type": "object",
        "required": ["issues"],
        "additionalProperties": False,
        "properties": {
            "issues": {"type": "array", "items": of("IssueBean")},
            "isLast": {"type": "boolean"},
            "nextPageToken": {"type": "string"},
        },
    },
    "issue/bulkfetch": {
        "type": "object",
        "required": ["issues", "issueErrors"],
        "additionalProperties": False,
        "properties": {"issues": {"type": "array", "items": of("IssueBean")}, "issueErrors": {"type": "array"}},
    },
    "changelog/bulkfetch": {
        "type": "object",
        "required": ["issueChangeLogs"],
        "additionalProperties": False,
        "properties": {
            "issueChangeLogs": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["issueId", "changeHistories"],
                    "properties": {
                        "issueId": {"type": "string"},
                        "changeHistories": {"type": "array", "items": HISTORY},
                    },
                },
            },
            "nextPageToken": TEXT,
        },
    },
}
"""The vendor's document is of 2022 and has none of these three: their outer shape is what is publicly told of them."""


def populate(site: JiraSite) -> list[str]:
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0, start_date=date(2026, 3, 1))
    epic = site.create_issue("APO", T0, "An epic", "Epic")
    made = site.create_issue("APO", T0, "An issue", parent=epic, labels=["api"], story_points=2.5)
    site.change_issue(
        made, minutes(5), title="Renamed", type="Bug", status="Done", assignee="acc-1", due_date=date(2026, 4, 1),
        story_points=None, time_spent=3600, original_estimate=7200, remaining_estimate=3600, fix_version=version, sprint=(36, 37), flagged=True, parent=None, labels=("api", "web"),
    )  # fmt: skip
    site.log_work(made, minutes(5), 600)
    site.link_issue(epic, minutes(5), made)
    site.move_issue(made, minutes(6), "ZEU")
    site.people |= {"acc-1": Person("Ada", "ada@example.com"), "acc-2": Person("Bo")}
    return [epic, made]


def problems(answer: requests.Response, schema: Any) -> list[str]:
    assert answer.ok, answer.text
    validator = Draft202012Validator(schema | {"components": openapi()["components"]})
    return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(answer.json())]


@pytest.mark.parametrize(("path", "schema"), COVERED)
def test_answers_are_as_the_vendor_documents(path: str, schema: Any, stage: Stage) -> None:
    populate(stage.site)
    assert problems(stage.get(path), schema) == []


def test_answers_that_the_document_lacks(stage: Stage) -> None:
    documented = openapi()["paths"]
    assert not [path for path in UNVERIFIED if f"/rest/api/3/{path}" in documented]
    ids, fields = populate(stage.site), ["summary", "status", "fixVersions", "parent"]
    answers = {
        "search/jql": stage.get("search/jql", jql=APO, fields=fields, maxResults=1),
        "issue/bulkfetch": stage.post("issue/bulkfetch", issueIdsOrKeys=ids, fields=fields),
        "changelog/bulkfetch": stage.post("changelog/bulkfetch", issueIdsOrKeys=ids),
    }
    assert {path: problems(answer, UNVERIFIED[path]) for path, answer in answers.items()} == {
        path: [] for path in UNVERIFIED
    }


def test_histories_and_the_parts_of_issues_are_as_the_vendor_documents(stage: Stage) -> None:
    _, made = populate(stage.site)
    schema = {"type": "array", "items": of("Changelog")} | {"components": openapi()["components"]}
    histories = stage.histories(made)
    # The document knows no absent value in an item; Jira sends null.
    solid = [
        h | {"items": [{k: v for k, v in step.items() if v is not None} for step in h["items"]]} for h in histories
    ]
    assert [error.message for error in Draft202012Validator(schema).iter_errors(solid)] == []
    assert {step["field"] for step in histories[0]["items"]} == {
        "summary", "issuetype", "status", "assignee", "duedate", "Story point estimate", "Sprint", "Flagged", "labels",
        "IssueParentAssociation", "Fix Version", "timespent", "timeestimate", "timeoriginalestimate",
    }  # fmt: skip
    fields = stage.issue(made, "status", "fixVersions", "issuetype", "issuelinks")["fields"]
    (link,) = fields["issuelinks"]
    for part, kind in (
        (fields["status"], "StatusDetails"),
        (fields["issuetype"], "IssueTypeDetails"),
        (link | {"outwardIssue": {}}, "IssueLink"),  # the document has both ends; an issue shows the other one
    ):
        root = of(kind) | {"components": openapi()["components"]}
        assert [error.message for error in Draft202012Validator(root).iter_errors(part)] == []


# Volume


def test_thousands_of_issues_are_listed_in_seconds(stage: Stage) -> None:
    site = stage.fresh(max_page=1000)
    made = [site.create_issue("APO", T0, f"Issue {n}") for n in range(4000)]
    for n in range(5):
        for ident in made:
            site.change_issue(ident, minutes(n), assignee=f"acc-{n}")
    token: str | None = ""
    start, found = perf_counter(), 0
    while token is not None:
        page = stage.search(fields="updated", maxResults=5000, nextPageToken=token)
        found, token = found + len(page["issues"]), page.get("nextPageToken")
    logs = stage.post("changelog/bulkfetch", issueIdsOrKeys=made[:1000]).json()
    assert found == 4000
    assert logs["nextPageToken"]
    assert perf_counter() - start < 10
