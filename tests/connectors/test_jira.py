"""The Jira connector: its pure functions by table and by property, and the whole of it against the stand-in over HTTP."""

from __future__ import annotations

import base64
import copy
import json
import logging
import socket
import traceback
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests import PreparedRequest, Response

from connectors import jira_client, jira_query, jira_things, jira_values
from connectors.base import Connector, ConnectorError, Counting, Fatal, Naming, Read, Ref, Retryable, Withheld
from connectors.jira import JiraConnector, JiraSettings
from connectors.jira_client import Refused
from connectors.jira_query import Query
from connectors.jira_things import CustomField, Issue, Site, Status
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import (
    MAX_CHANGES,
    MAX_LINKS,
    Change,
    Link,
    Milestone,
    Snapshot,
    StatusCategory,
    WorkItem,
    Worklog,
)
from pmsync.standins.jira import HTML, TRUNCATED, Fault, JiraSite, StandinStatus
from pmsync.standins.server import serve
from tests.connectors.jira_stage import T0, TOKEN, Stage

DATA = Path(__file__).parents[2].parent / "shared" / "data"
BERLIN = ZoneInfo("Europe/Berlin")


def connect(url: str, token: Path, **extra: Any) -> JiraConnector:
    auth = {"email": "pmsync@example.com", "token": {"file": token}}
    configured = JiraSettings.model_validate({"name": "j", "kind": "jira", "url": url, "auth": auth} | extra)
    return JiraConnector.connect(configured, lambda: T0)


def connected(stage: Stage, tmp: Path, token: str = TOKEN, **extra: Any) -> JiraConnector:
    (tmp / "token").write_text(token)
    return connect(stage.url, tmp / "token", **extra)


@pytest.fixture(scope="module")
def served() -> Iterator[Stage]:
    stage = Stage()
    with serve(stage) as url:
        stage.url = url
        yield stage


@pytest.fixture
def stage(served: Stage) -> Stage:
    served.fresh()
    return served


def items(connector: JiraConnector, container: str = "APO", since: datetime | None = None) -> dict[str, Read]:
    return {
        read.ref.id: read
        for page in connector.changed(container, since)
        for read in page
        if read.ref.kind == "work_item"
    }


def item(read: Read) -> WorkItem:
    assert isinstance(read.content, WorkItem), read.problem
    return read.content


def pairs(found: WorkItem, field: str) -> list[tuple[Any, Any]]:
    return [(change.old, change.new) for change in found.history if change.field == field]


def minutes(count: float) -> datetime:
    return T0 + timedelta(minutes=count)


# Pure functions


@pytest.mark.parametrize(
    ("container", "since", "zone", "query"),
    [
        ("APO", None, UTC, 'project = "APO" ORDER BY updated ASC, key ASC'),
        ("APO", T0, UTC, 'project = "APO" AND updated >= "2026/03/02 09:00" ORDER BY updated ASC, key ASC'),
        ('A"B\\', None, UTC, 'project = "A\\"B\\\\" ORDER BY updated ASC, key ASC'),
    ],
)
def test_jql(container: str, since: datetime | None, zone: Any, query: str) -> None:
    assert Query(container, since, zone).jql == query


@pytest.mark.parametrize(
    ("since", "zone", "minute"),
    [
        ("2026-03-02T09:00:59.999+00:00", UTC, "2026/03/02 09:00"),
        ("2026-03-02T23:30:00+00:00", BERLIN, "2026/03/03 00:30"),
        ("2026-03-02T09:00:00+00:00", ZoneInfo("Asia/Kathmandu"), "2026/03/02 14:45"),
        ("2026-03-02T09:00:00+00:00", jira_query.EARLIEST_ZONE, "2026/03/01 21:00"),
        ("2026-07-01T12:00:00+05:30", ZoneInfo("America/New_York"), "2026/07/01 02:30"),
        ("2025-10-26T00:30:00+00:00", BERLIN, "2025/10/26 01:30"),  # 02:30 comes twice; this is the first
        ("2025-10-26T01:30:00+00:00", BERLIN, "2025/10/26 02:30"),  # and this the second
        ("2026-03-29T01:00:00+00:00", BERLIN, "2026/03/29 03:00"),  # 02:00 to 03:00 is left out
    ],
)
def test_jql_minute_is_never_later_than_since(since: str, zone: Any, minute: str) -> None:
    assert f'"{minute}"' in Query("APO", datetime.fromisoformat(since), zone).jql


@given(st.integers(0, 5 * 366 * 86_400), st.sampled_from(["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"]))
def test_jql_minute_read_either_way_is_at_most_two_hours_early(seconds: int, name: str) -> None:
    since, zone = T0 + timedelta(seconds=seconds), ZoneInfo(name)
    text = Query("APO", since, zone).jql.split('"')[3]
    for fold in (0, 1):
        bound = datetime.strptime(text, "%Y/%m/%d %H:%M").replace(tzinfo=zone, fold=fold).astimezone(UTC)
        assert timedelta() <= since - bound < timedelta(hours=2, minutes=1)


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (400, Refused, "doctor"), (401, Refused, "token"), (403, Refused, "permission"), (404, Refused, "check the url"),
        (302, Refused, "check the url"), (410, Refused, "update pmsync"), (418, Refused, "check the url"), (408, Retryable, "408"), (429, Retryable, "429"),
        (500, Retryable, "500"), (502, Retryable, "502"), (503, Retryable, "503"),
    ],
)  # fmt: skip
def test_failure(status: int, kind: type[ConnectorError], says: str) -> None:
    response = Response()
    response.status_code, response.request = status, PreparedRequest()
    response.request.prepare("GET", "https://jira.example.com/rest/api/3/search/jql", params={"jql": "private"})
    error = jira_client.failure(response)
    assert type(error) is kind
    assert says in str(error)
    assert "GET /rest/api/3/search/jql" in str(error)
    assert "private" not in str(error)


DATE = {"Date": "Mon, 02 Mar 2026 09:20:00 GMT"}
QUOTA = {"RateLimit-Reason": "jira-quota-tenant-based"}
BURST = {"RateLimit-Reason": "jira-burst-based"}


@pytest.mark.parametrize(
    ("status", "headers", "says", "after"),
    [
        (429, {"Retry-After": "7"} | QUOTA | DATE, "this site in an hour", 7.0),
        (429, QUOTA | DATE | {"X-RateLimit-Reset": "2026-03-02T09:30:00Z"}, "this site in an hour", 600.0),
        (429, QUOTA | DATE | {"X-RateLimit-Reset": "soon"}, "this site in an hour", 2400.0),
        (429, QUOTA | DATE | {"X-RateLimit-Reset": "2026-03-02T09:30:00"}, "this site in an hour", 2400.0),
        (429, QUOTA | DATE | {"X-RateLimit-Reset": "2026-03-02T09:00:00Z"}, "this site in an hour", 1.0),
        (429, QUOTA, "this site in an hour", None),
        (429, {"RateLimit-Reason": "jira-quota-global-based"} | DATE, "all its sites", 2400.0),
        (429, BURST | DATE, "at once", 1.0),
        (429, BURST | {"Retry-After": "3"}, "at once", 3.0),
        (429, {"RateLimit-Reason": "jira-per-issue-on-write"}, "written to", 1.0),
        (429, {"RateLimit-Reason": "of-tomorrow"} | DATE, "429", None),
        (429, DATE, "429", None),
        (429, QUOTA | {"Date": "Fri, 31 Dec 9999 23:59:59 GMT"}, "this site in an hour", 1.0),
        (503, QUOTA | DATE, "503", None),
    ],
)
def test_each_of_jiras_limits_is_told_and_waited_for(
    status: int, headers: dict[str, str], says: str, after: float | None
) -> None:
    response = Response()
    response.status_code, response.request = status, PreparedRequest()
    response.headers.update(headers)
    response.request.prepare("GET", "https://jira.example.com/rest/api/3/status")
    error = jira_client.failure(response)
    assert isinstance(error, Retryable)
    assert says in str(error)
    assert error.after == after


@pytest.mark.parametrize(("path", "kind"), [("project/APO", jira_client.NotFound), ("version/5", jira_client.NotFound), ("project/7/versions", jira_client.NotFound), ("issue/bulkfetch", Refused), ("status", Refused)])  # fmt: skip
def test_only_a_project_or_a_version_can_be_not_there(path: str, kind: type[ConnectorError]) -> None:
    response = Response()
    response.status_code, response.request = 404, PreparedRequest()
    response.request.prepare("GET", f"https://jira.example.com/rest/api/3/{path}")
    assert type(jira_client.failure(response)) is kind
    assert issubclass(jira_client.NotFound, Withheld)


SITE = Site(
    url="https://jira.example.com",
    statuses={
        "1": Status("To Do", StatusCategory.todo),
        "2": Status("Doing", StatusCategory.in_progress),
        "3": Status("Done", StatusCategory.done),
        "7": Status("Limbo", None),
    },
    estimate=(CustomField("customfield_1", "Story Points"), CustomField("customfield_2", "Story point estimate")),
    sprint=(CustomField("customfield_3", "Sprint"),),
    flagged=(CustomField("customfield_4", "Flagged"),),
    dropped=frozenset({"won't do", "duplicate"}),
    containers={"8": "APO", "9": "the other one"},
)
ISSUE: dict[str, Any] = {
    "id": "10042",
    "key": "APO-42",
    "fields": {
        "summary": "A secret title",
        "issuetype": {"name": "Bug"},
        "project": {"id": "8", "key": "NEW"},
        "status": {"id": "2", "name": "In Progress"},
        "assignee": {"accountId": "acc-1"},
        "duedate": "2026-04-01",
        "created": "2026-03-02T10:00:00.000+0100",
        "updated": "2026-03-05T10:00:00.000+0100",
        "fixVersions": [{"id": "200"}, {"id": "30"}],
        "labels": ["zoo", "api", "api"],
        "parent": {"id": "10001", "key": "APO-1"},
        "timeoriginalestimate": 28800,
        "timespent": 7200,
        "timeestimate": 21600,
        "aggregatetimespent": 36000,
        "worklog": {
            "total": 1,
            "worklogs": [
                {
                    "id": "5",
                    "author": {"accountId": "acc-1"},
                    "comment": "a secret deed",
                    "created": "2026-03-04T10:00:00.000+0100",
                    "started": "2026-03-03T10:00:00.000+0100",
                    "timeSpentSeconds": 7200,
                }
            ],
        },
        "issuelinks": [
            {
                "id": "1",
                "type": {"name": "Relates", "inward": "relates to", "outward": "relates to"},
                "outwardIssue": {"id": "10007", "key": "ZEU-7"},
            },
            {
                "id": "2",
                "type": {"name": "Blocks", "inward": "Is  blocked by", "outward": "blocks"},
                "inwardIssue": {"id": "10005", "key": "APO-5"},
            },
            {
                "id": "3",
                "type": {"name": "Blocks", "inward": "is blocked by", "outward": "Blocks"},
                "outwardIssue": {"id": "10006", "key": "APO-6"},
            },
        ],
        "customfield_1": None,
        "customfield_2": 2.5,
        "customfield_3": [{"id": 36, "state": "closed"}, {"id": 37, "state": "active"}, {"id": 38, "state": "future"}],
        "customfield_4": [{"id": "10019", "value": "Impediment"}],
    },
}


def entry(ident: str, day: int, *what: dict[str, Any]) -> dict[str, Any]:
    return {"id": ident, "created": f"2026-03-0{day}T09:00:00.000+0000", "items": list(what)}


def step(field: str, old: str | None, new: str | None, old_text: str | None = None, new_text: str | None = None, **more: Any) -> dict[str, Any]:  # fmt: skip
    return {"field": field, "from": old, "to": new, "fromString": old_text, "toString": new_text} | more


def translated(*changelog: dict[str, Any], **fields: Any) -> WorkItem:
    raw = copy.deepcopy(ISSUE)
    raw["fields"] |= fields
    return jira_things.translate_issue(Issue(raw, changelog), SITE)


def test_translate_issue_present_values() -> None:
    assert translated() == WorkItem(
        key="APO-42",
        container="APO",
        type="Bug",
        title="A secret title",
        url="https://jira.example.com/browse/APO-42",
        created_at=T0,
        status="Doing",
        status_category=StatusCategory.in_progress,
        assignee="acc-1",
        due_date=date(2026, 4, 1),
        estimate=2500,
        time_estimate=28800,
        time_spent=7200,
        time_left=21600,
        milestone="30",
        sprint="37",
        blocked=True,
        parent="APO-1",
        labels=("api", "zoo"),
        links=(
            Link(relation="blocked_by", key="APO-5"),
            Link(relation="blocks", key="APO-6"),
            Link(relation="relates to", key="ZEU-7"),
        ),
        worklogs=(
            Worklog(
                id="5",
                created_at=T0 + timedelta(days=2),
                started_at=T0 + timedelta(days=1),
                seconds=7200,
                by="acc-1",
            ),
        ),
    )


def test_translate_issue_with_nothing_set() -> None:
    empty = {
        name: None
        for name in ISSUE["fields"]
        if name[:3] in ("cus", "ass", "due", "fix", "lab", "par", "tim", "iss", "wor")
    } | {"issuetype": {"name": "Bug"}}
    found = translated(**empty)
    assert (found.assignee, found.due_date, found.estimate, found.milestone, found.sprint) == (None,) * 5
    assert (found.time_estimate, found.time_spent, found.time_left) == (None,) * 3
    assert (found.blocked, found.parent, found.labels, found.links) == (False, None, (), ())
    assert (found.worklogs, found.worklogs_cut) == ((), False)


def test_sprint_is_the_last_where_none_is_active() -> None:
    assert translated(customfield_3=[{"id": 36, "state": "closed"}, {"id": 40, "state": "future"}]).sprint == "40"


HISTORIES = [
    (
        "a status is two changes, named as it is called now",
        [entry("1", 3, step("status", "1", "2", "Open", "In Progress", fieldId="status"))],
        {"status": [("To Do", "Doing")], "status_category": [("todo", "in_progress")]},
    ),
    (
        "two items of one field in one entry",
        [entry("1", 3, step("status", "1", "3", "a", "b"), step("status", "3", "2", "b", "c"))],
        {"status": [("To Do", "Done"), ("Done", "Doing")]},
    ),
    (
        "newest first, and one entry twice",
        [
            entry("12", 4, step("status", "3", "2", "x", "x")),
            entry("9", 4, step("status", "1", "3", "x", "x")),
            entry("9", 4, step("status", "1", "3", "x", "x")),
        ],
        {"status_category": [("todo", "done"), ("done", "in_progress")]},
    ),
    (
        "assignee, due date with a time of midnight",
        [
            entry("1", 3, step("assignee", None, "acc-1"), step("duedate", None, "2026-03-30", "", "2026-03-30 00:00:00.0")),
            entry("2", 4, step("duedate", "2026-03-30", "2026-04-01 00:00:00.0", "", "")),
        ],
        {"assignee": [(None, "acc-1")], "due_date": [(None, "2026-03-30"), ("2026-03-30", "2026-04-01")]},
    ),
    (
        "custom fields by id, and by name where the id is left out; text only",
        [
            entry("1", 3, step("Story point estimate", None, None, None, "1", fieldId="customfield_2", fieldtype="custom")),
            entry("2", 4, step("Story point estimate", None, None, "1", "2.5", fieldtype="custom")),
            entry("3", 4, step("Sprint", "", "36", fieldtype="custom"), step("Sprint", "36", "36, 37", fieldtype="custom")),
        ],
        {"estimate": [(None, 1000), (1000, 2500)], "sprint": [(None, "36"), ("36", "37")]},
    ),
    (
        "the points of the other field are not ours",
        [entry("1", 3, step("Story Points", None, None, "1", "8", fieldId="customfield_1", fieldtype="custom"))],
        {"estimate": []},
    ),
    (
        "flags",
        [
            entry("1", 3, step("Flagged", "", "[10019]", "", "Impediment", fieldtype="custom")),
            entry("2", 4, step("Flagged", "[10019]", "", "Impediment", "", fieldtype="custom")),
            entry("3", 5, step("Flagged", None, "[10019]", None, "Impediment", fieldtype="custom", fieldId="customfield_4")),
        ],
        {"blocked": [(False, True), (True, False), (False, True)]},
    ),
    (
        "work is logged, by id and by name; each time is a field of its own",
        [
            entry("1", 3, step("timeestimate", "28800", "25200", "28800", "25200", fieldId="timeestimate"), step("timespent", None, "3600", None, "3600", fieldId="timespent")),
            entry("2", 4, step("WorklogId", None, None, None, "17"), step("timeestimate", "25200", "21600"), step("timespent", None, None, "3600", "7200")),
            entry("3", 5, step("timeoriginalestimate", None, "28800", "", "8h"), step("aggregatetimespent", "1", "2")),
        ],
        {
            "time_spent": [(None, 3600), (3600, 7200)],
            "time_left": [(28800, 25200), (25200, 21600)],
            "time_estimate": [(None, 28800)],
        },
    ),
    (
        "versions accumulate; the milestone is the first of them; 30 came last but is first by number",
        [
            entry("1", 3, step("Fix Version", None, "100", None, "1.0", fieldId="fixVersions")),
            entry("2", 4, step("Fix Version", None, "200", None, "2.0")),
            entry("3", 5, step("Fix Version", "100", None, "1.0", None), step("Fix Version", None, "30", None, "0.3")),
        ],
        {"milestone": [(None, "100"), ("100", "30")]},
    ),
    (
        "versions of the day of creation have no entry",
        [entry("1", 3, step("Fix Version", "9", None, "0.9", None))],
        {"milestone": [("9", "30")]},
    ),
    (
        "versions of one instant, told out of order",
        [
            entry("10", 3, step("Fix Version", "5", None, "0.5", None)),
            entry("9", 3, step("Fix Version", None, "5", None, "0.5")),
        ],
        {"milestone": [("30", "5"), ("5", "30")]},
    ),
    (
        "a move",
        [entry("1", 3, step("project", "7", "8", "Zeus", "Apollo"), step("Key", None, None, "ZE-U-1", "APO-42"))],
        {"key": [("ZE-U-1", "APO-42")], "container": [("ZE-U", "APO")]},
    ),
    (
        "a move from a project that is known by another name",
        [entry("1", 3, step("project", "9", "8", "Zeus", "Apollo"), step("Key", None, None, "ZE-U-1", "OLD-42"))],
        {"key": [("ZE-U-1", "APO-42")], "container": [("the other one", "APO")]},
    ),
    (
        "a custom field called status is not the status",
        [entry("1", 3, step("status", "1", "3", fieldtype="custom", fieldId="customfield_9"), step("Status", "1", "3", fieldtype="custom"))],
        {"status": []},
    ),
    (
        "seconds since 1970",
        [{"id": "1", "created": 1772614800, "items": [step("assignee", None, "acc-1")]}],
        {"assignee": [(None, "acc-1")]},
    ),
    (
        "what the changelog knows of later than the issue shown is left out",
        [entry("1", 3, step("assignee", None, "acc-1")), entry("2", 6, step("assignee", "acc-1", "acc-2"))],
        {"assignee": [(None, "acc-1")]},
    ),
    (
        "a renamed thing ends at the present value",
        [entry("1", 3, step("Key", None, None, "OLD-1", "OLD-42"))],
        {"key": [("OLD-1", "APO-42")], "container": [("OLD", "APO")]},
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changelog", "expected"), [row[1:] for row in HISTORIES], ids=[row[0] for row in HISTORIES])
def test_history(changelog: list[Any], expected: dict[str, list[tuple[Any, Any]]]) -> None:
    found = translated(*changelog)
    assert {field: pairs(found, field) for field in expected} == expected
    assert list(found.history) == sorted(found.history, key=lambda change: change.at)
    ids = [(change.field, change.id) for change in found.history]
    assert len(set(ids)) == len(ids)


def test_links_are_as_old_as_the_changelog_says() -> None:
    found = translated(
        entry("1", 3, step("Link", None, "APO-5", None, "This issue is blocked by APO-5")),
        entry("2", 3, step("Link", None, "APO-9", None, "This issue Is Blocked by APO-9", fieldId="issuelinks")),
        entry("3", 4, step("Link", "APO-9", None, "This issue is blocked by APO-9", None)),
        entry("4", 4, step("Link", None, None, None, None), step("RemoteIssueLink", None, "1", None, "This issue links to \"x (y)\"")),
        entry("5", 5, step("Link", "APO-8", None, "This issue depends on APO-8", None)),
        entry("6", 6, step("Link", "APO-5", None, "This issue is blocked by APO-5", None)),  # later than the issue shown
    )  # fmt: skip
    on = {number: datetime(2026, 3, number, 9, tzinfo=UTC) for number in (3, 4, 5)}
    assert found.links == (
        Link(relation="blocked_by", key="APO-5", since=on[3]),
        Link(relation="blocks", key="APO-6"),
        Link(relation="relates to", key="ZEU-7"),
        Link(relation="depends on", key="APO-8", until=on[5]),
        Link(relation="blocked_by", key="APO-9", since=on[3], until=on[4]),
    )
    assert not found.links_cut
    assert found.history == ()


def test_of_very_many_links_those_that_stand_are_kept() -> None:
    blocks = {"name": "Blocks", "inward": "is blocked by", "outward": "blocks"}
    standing = [{"type": blocks, "inwardIssue": {"key": f"APO-{n:03}"}} for n in range(MAX_LINKS - 1)]
    removed = [
        entry(str(n), 3 + n, step("Link", f"ZEU-{n}", None, f"This issue blocks ZEU-{n}", None)) for n in range(2)
    ]
    found = translated(*removed, issuelinks=standing)
    assert found.links_cut
    assert [len(found.links), found.links[0].key, found.links[-1].key] == [MAX_LINKS, "APO-000", "ZEU-1"]
    assert not translated(*removed[1:], issuelinks=standing).links_cut


def test_which_links_block_can_be_configured(stage: Stage, tmp_path: Path) -> None:
    one, other = (stage.site.create_issue("APO", T0, title) for title in ("One", "Other"))
    stage.site.link_issue(one, minutes(5), other)
    stage.site.link_issue(one, minutes(5), other, "Duplicate")

    def relations(**settings: Any) -> set[str]:
        return {link.relation for link in item(items(connected(stage, tmp_path, **settings))[other]).links}

    assert relations() == {"blocked_by", "is duplicated by"}
    assert relations(blocking_links=["Is duplicated  BY"]) == {"is blocked by", "blocked_by"}


LINKING = st.lists(
    st.tuples(st.integers(2, 200), st.integers(0, 3), st.integers(0, 3), st.sampled_from("BBRRDu-k")), max_size=20
)
KINDS = {"B": "Blocks", "R": "Relates", "D": "Duplicate"}


def linked(site: JiraSite, operations: list[tuple[int, int, int, str]]) -> None:
    """Issues that are linked, unlinked (u) and deleted (-), in a project that gets other keys (k)."""
    made = [site.create_issue("APO", T0, f"Issue {n}") for n in range(4)]
    at, gone = T0 + timedelta(seconds=10), set[int]()
    for number, (delay, one, other, kind) in enumerate(operations):
        at += timedelta(seconds=delay)
        if kind == "k":
            site.rename_project("APO", at, f"NEW{number}")
        elif one == other or {one, other} & gone:
            continue
        elif kind == "-":
            gone.add(one)
            site.delete_issue(made[one], at)
        elif kind == "u":
            site.unlink_issue(made[one], at, made[other])
        else:
            site.link_issue(made[one], at, made[other], KINDS[kind])


def standing(found: WorkItem, moment: datetime) -> set[tuple[str, str]]:
    """Relations and the numbers of the keys, which a project keeps when it gets another key."""
    return {(link.relation, link.key.rpartition("-")[2]) for link in found.links if link.stands(moment)}


def test_a_link_that_cannot_be_read_costs_only_itself() -> None:
    good = {"type": {"inward": "is blocked by", "outward": "blocks"}, "inwardIssue": {"id": "7", "key": "APO-7"}}
    odd: list[Any] = [
        3,
        None,
        {},
        {"type": {"inward": "blocks"}},
        {"type": {"inward": "x"}, "inwardIssue": {"id": "1"}},
    ]
    past = [
        entry("1", 3, {"field": "Link", "from": 3, "to": [], "fromString": 7, "toString": {}}),
        entry("2", 4, step("Link", None, "APO-7", None, "This issue is blocked by APO-7")),
    ]
    (link,) = translated(*past, issuelinks=[*odd, good]).links
    assert (link.relation, link.key, link.since is None) == ("blocked_by", "APO-7", False)


@pytest.mark.parametrize("created", [1772442000, 1772442000000, "2026-03-02T10:00:00.000+0100", "2026-03-02T09:00:00Z"])
def test_instants_of_a_changelog(created: Any) -> None:
    (found,) = translated({"id": "1", "created": created, "items": [step("assignee", None, "acc-1")]}).history
    assert found.at == T0


def test_a_category_that_nobody_knows_any_more_is_no_history() -> None:
    found = translated(entry("1", 3, step("status", "99", "2", "Deleted", "In Progress")))
    assert pairs(found, "status") == [("Deleted", "Doing")]
    assert pairs(found, "status_category") == []
    assert found.untracked == ("status_category",)


def resolved(old: str | None, new: str | None) -> dict[str, Any]:
    """A change of resolution; the ids are the initials."""
    return step("resolution", old and old[0], new and new[0], old, new, fieldId="resolution")


DONE = {"status": {"id": "3"}, "resolution": {"id": "W", "name": "Won\u2019t  DO"}}
FIXED = DONE | {"resolution": {"id": "F", "name": "Fixed"}}
CLOSED = step("status", "2", "3", "Doing", "Done")
REOPENED = step("status", "3", "2", "Done", "Doing")
RESOLUTIONS = [
    ("no resolution", {}, [], "in_progress", []),
    ("dropped, now called otherwise", DONE, [entry("1", 3, CLOSED, resolved(None, "Wat"))], "dropped", [("in_progress", "dropped")]),
    ("done", FIXED, [entry("1", 3, CLOSED, resolved(None, "Fixed"))], "done", [("in_progress", "done")]),
    (
        "resolved first, closed later",
        DONE,
        [entry("1", 3, resolved(None, "Won't Do")), entry("2", 4, CLOSED)],
        "dropped",
        [("in_progress", "dropped")],
    ),
    (
        "closed first, resolved later",
        DONE,
        [entry("1", 3, CLOSED), entry("2", 4, resolved(None, "Won't Do"))],
        "dropped",
        [("in_progress", "done"), ("done", "dropped")],
    ),
    (
        "dropped, reopened, done",
        FIXED,
        [
            entry("1", 3, resolved(None, "Duplicate"), CLOSED),
            entry("2", 4, REOPENED, resolved("Duplicate", None)),
            entry("3", 5, CLOSED, resolved(None, "Fixed")),
        ],
        "done",
        [("in_progress", "dropped"), ("dropped", "in_progress"), ("in_progress", "done")],
    ),
    (
        "one resolution after another",
        DONE,
        [entry("1", 3, CLOSED, resolved(None, "Fixed")), entry("2", 4, resolved("Fixed", "Won't Do"))],
        "dropped",
        [("in_progress", "done"), ("done", "dropped")],
    ),
    (
        "through two statuses at once",
        DONE,
        [entry("1", 3, step("status", "1", "3"), step("status", "3", "3"), resolved(None, "Won't Do"))],
        "dropped",
        [("todo", "done"), ("done", "dropped")],
    ),
    ("resolved when it was made", DONE, [entry("1", 3, CLOSED)], "dropped", [("in_progress", "dropped")]),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "changelog", "now", "past"), [row[1:] for row in RESOLUTIONS], ids=[row[0] for row in RESOLUTIONS])  # fmt: skip
def test_what_was_closed_without_being_done_is_dropped(
    fields: dict[str, Any], changelog: list[Any], now: str, past: list[tuple[str, str]]
) -> None:
    found = translated(*changelog, **fields)
    assert (found.status_category, pairs(found, "status_category"), found.untracked) == (now, past, ())


@pytest.mark.parametrize(
    ("fields", "changelog", "untracked"),
    [
        (DONE, [entry("1", 3, CLOSED, resolved(None, "Fixed"))], True),  # Won't Do came from nowhere
        (DONE, [entry("1", 3, CLOSED, resolved(None, "Fixed")), entry("2", 4, resolved("Duplicate", "Won't Do"))], True),
        (FIXED, [entry("1", 3, CLOSED, resolved(None, "Duplicate"))], True),
        (FIXED, [entry("1", 3, CLOSED, resolved(None, "Solved"))], False),  # done, either way
    ],
)  # fmt: skip
def test_a_resolution_that_the_changelog_does_not_explain_is_no_history(
    fields: dict[str, Any], changelog: list[Any], untracked: bool
) -> None:
    found = translated(*changelog, **fields)
    assert found.untracked == (("status_category",) if untracked else ())
    assert bool(pairs(found, "status_category")) is not untracked
    assert pairs(found, "status") == [("Doing", "Done")]


def test_which_resolutions_drop_can_be_configured(stage: Stage, tmp_path: Path) -> None:
    made = stage.site.create_issue("APO", T0, "An issue")
    stage.site.change_issue(made, minutes(5), status="Done", resolution="Declined")
    assert item(items(connected(stage, tmp_path))[made]).status_category == "dropped"
    assert item(items(connected(stage, tmp_path, dropped_resolutions=["done"]))[made]).status_category == "done"


def test_how_much_there_is_to_read(stage: Stage, tmp_path: Path) -> None:
    stage.site.add_project("BEA", "Beacon")
    for n, project in enumerate(("APO", "APO", "BEA", "APO")):
        stage.site.create_issue(project, minutes(10 * n), "An issue")
    connector = connected(stage, tmp_path)
    assert isinstance(connector, Counting)
    assert [connector.count("APO", since) for since in (None, minutes(10), minutes(31))] == [3, 2, 0]


@pytest.mark.parametrize("value", ["-1", "2h", "1" * 19, "1" * 5000, "\u0663"])
def test_a_past_time_that_is_no_number_of_seconds_is_a_problem(value: str) -> None:
    with pytest.raises(jira_values.Unreadable, match="a past time is no number of seconds"):
        translated(entry("1", 3, step("timespent", None, value)))


def test_a_long_history_keeps_the_newest() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    changelog = [
        {
            "id": str(n),
            "created": (start + timedelta(seconds=n)).isoformat(),
            "items": [step("assignee", str(n), str(n + 1))],
        }
        for n in range(MAX_CHANGES + 5)
    ]
    found = translated(*changelog)
    assert found.history_cut
    assert [len(found.history), found.history[0].old, found.history[-1].new] == [MAX_CHANGES, "5", "acc-1"]
    assert not translated(*changelog[:MAX_CHANGES]).history_cut


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("id", None, "id is missing"),
        ("key", 7, "key is int, not str"),
        ("fields", [], "fields.status.id"),
        ("fields.status.id", "99", "fields.status"),
        ("fields.status.id", "7", "fields.status"),
        ("fields.status.id", 2, "fields.status.id is int"),
        ("fields.summary", None, "fields.summary is missing"),
        ("fields.updated", "2026-03-05T10:00:00", "fields.updated is no instant"),
        ("fields.created", True, "fields.created"),
        ("fields.assignee", {"displayName": "x"}, "fields.assignee.accountId"),
        ("fields.duedate", "tomorrow", "fields.duedate"),
        ("fields.customfield_2", "A secret title", "the estimate"),
        ("fields.customfield_2", True, "the estimate"),
        ("fields.customfield_2", float("nan"), "the estimate"),
        ("fields.customfield_2", 1e300, "the estimate"),
        ("fields.customfield_2", "1e999999999", "the estimate"),
        ("fields.timespent", -1, "the time spent is no number of seconds"),
        ("fields.timespent", True, "the time spent"),
        ("fields.timespent", 10**18, "the time spent"),
        ("fields.timespent", 3600.5, "the time spent"),
        ("fields.timeestimate", "2h", "the remaining estimate"),
        ("fields.timeoriginalestimate", ["1"], "the original estimate"),
        ("fields.issuelinks", {"id": "1"}, "fields.issuelinks is dict"),
        ("fields.worklog", {"worklogs": [{"id": "1", "comment": "a secret"}]}, "timeSpentSeconds is missing"),
        ("fields.worklog", [{"comment": "a secret"}], "fields.worklog.worklogs is list"),
        ("fields.project.id", 8, "fields.project.id is int"),
        ("fields.resolution", {"id": "1"}, "fields.resolution.name"),
        ("fields.customfield_3", ["x"], "a sprint has no id"),
        ("fields.fixVersions", [{"name": "1.0"}], "id is missing"),
        ("fields.labels", [5], "fields.labels"),
        ("fields.parent", {"id": "1"}, "fields.parent.key"),
        ("fields.summary", "\ud800", "fields.summary holds"),
        ("fields.summary", "a\0b", "fields.summary holds"),
    ],
)
def test_what_cannot_be_translated_says_which_field(path: str, value: Any, says: str) -> None:
    raw = copy.deepcopy(ISSUE)
    *steps, last = path.split(".")
    holder = raw
    for name in steps:
        holder = holder[name]
    holder[last] = value
    read = jira_things.read_issue(Issue(raw, []), SITE)
    assert read.content is None
    assert read.problem is not None
    assert says in read.problem
    assert "secret" not in read.problem
    assert "\n" not in read.problem
    assert json.loads(read.raw)["issue"].keys() == raw.keys()
    assert b"secret deed" not in read.raw


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1", "2026-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "key", "name"]), inner, max_size=2)
    ),
    max_leaves=4,
)


def places(raw: Any) -> list[tuple[Any, Any]]:
    keys = list(raw) if isinstance(raw, dict) else list(range(len(raw))) if isinstance(raw, list) else []
    return [(raw, key) for key in keys] + [place for key in keys for place in places(raw[key])]


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_nothing_that_jira_may_send_raises(data: st.DataObject) -> None:
    changelog = [log for row in HISTORIES for log in row[1][:1]]
    raw = copy.deepcopy({"issue": ISSUE, "changelog": changelog})
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places(raw)))
        holder[key] = data.draw(JSON)
    histories = raw["changelog"] if isinstance(raw["changelog"], list) else []
    read = jira_things.read_issue(Issue(raw["issue"], histories), SITE)
    assert (read.content is None) != (read.problem is None)
    version = jira_things.read_version(raw["issue"], "APO", "https://jira.example.com")
    assert (version.content is None) != (version.problem is None)


def test_what_is_nested_without_measure_is_a_problem_and_nothing_more() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    read = jira_things.read_issue(Issue({"id": "1", "fields": nested}, []), SITE)
    assert (read.problem, read.raw) == ("key is missing", b"")


def test_translate_version() -> None:
    raw = {"id": "7", "name": "2.1", "released": True, "releaseDate": "2026-04-01", "startDate": "2026-03-01"}
    assert jira_things.translate_version(raw, "APO", "https://jira.example.com") == Milestone(
        key="2.1",
        container="APO",
        title="2.1",
        url="https://jira.example.com/projects/APO/versions/7",
        start_date=date(2026, 3, 1),
        due_date=date(2026, 4, 1),
        state="closed",
    )
    assert jira_things.translate_version({"id": "7", "name": "2.1", "archived": True}, "APO", "").state == "closed"
    assert jira_things.translate_version({"id": "7", "name": "2.1"}, "APO", "").state == "open"


@pytest.mark.parametrize("wanted", ["Story Points", "Effort", None])
def test_site_finds_the_fields_by_name(wanted: str | None) -> None:
    fields = [
        {"id": "customfield_5", "name": "Story point estimate", "custom": True},
        {"id": "customfield_6", "name": "Story Points", "custom": True},
        {"id": "customfield_7", "name": "Effort", "custom": True},
        {
            "id": "customfield_8",
            "name": "Vuelta",
            "custom": True,
            "schema": {"custom": "com.pyxis.greenhopper.jira:gh-sprint"},
        },
        {"id": "summary", "name": "Sprint", "custom": False},
    ]
    found = jira_things.site("u", [], fields, wanted)
    expected = {"Story Points": [6], "Effort": [7], None: [6, 5]}[wanted]
    assert [field.id for field in found.estimate] == [f"customfield_{n}" for n in expected]
    assert [field.id for field in found.sprint] == ["customfield_8"]
    assert found.flagged == ()


@pytest.mark.parametrize(
    "url",
    [
        "jira.example.com",
        "ftp://jira.example.com",
        "https://me:pw@jira.example.com",
        "https://",
        "https://jira.example.com/?x=1",
    ],
)
def test_settings_refuse_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"atlassian\.net"):
        JiraSettings.model_validate(
            {"name": "j", "kind": "jira", "url": url, "auth": {"email": "a", "token": {"env": "T"}}}
        )


# Against the stand-in


def test_full_read_over_several_pages(stage: Stage, tmp_path: Path) -> None:
    site = stage.fresh(max_page=3)
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0)
    made = [site.create_issue("APO", minutes(n), f"Issue {n}") for n in range(10)]
    site.create_issue("ZEU", T0, "Elsewhere")
    site.change_issue(made[0], minutes(60), status="Done", fix_version=version, story_points=3, assignee="acc-1")
    pages = list(connected(stage, tmp_path).changed("APO", None))
    assert [(read.ref, read.time) for read in pages[0]] == [(Ref("milestone", version), None)]
    assert [read.ref.id for page in pages[1:] for read in page] == [*made[1:], made[0]]
    assert [len(page) for page in pages[1:]] == [3, 3, 3, 1]
    last = item(pages[-1][0])
    assert pages[-1][0].time == minutes(60)
    assert (last.status_category, last.milestone, last.estimate, last.assignee) == ("done", version, 3000, "acc-1")
    assert pairs(last, "milestone") == [(None, version)]


def test_connect_sends_nothing_and_a_poll_little(stage: Stage, tmp_path: Path) -> None:
    connector: Connector = connected(stage, tmp_path)
    assert stage.site.requests == []
    stage.site.create_issue("APO", T0, "An issue")
    list(connector.changed("APO", None))
    assert [path.removeprefix("/rest/api/3/") for _, path in stage.site.requests] == [
        "project/APO", "status", "field", "project/10001/versions", "/rest/agile/1.0/board", "myself", "search/jql", "changelog/bulkfetch",
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_since_finds_the_same_minute_on_both_sides_of_a_pages_end(zone: str, stage: Stage, tmp_path: Path) -> None:
    site = stage.fresh(max_page=3, time_zone=zone)
    times = [T0, minutes(14), minutes(15.2), minutes(15.5), minutes(15.9), minutes(16)]
    made = [site.create_issue("APO", at, f"at {at}") for at in times]
    connector = connected(stage, tmp_path)
    first, second = list(connector.changed("APO", None))[1:3]
    assert [[read.ref.id for read in page] for page in (first, second)] == [made[:3], made[3:]]
    assert list(items(connector, since=first[-1].time)) == made[2:]
    assert list(items(connector, since=second[0].time)) == made[2:]


def test_since_in_the_hour_that_comes_twice(stage: Stage, tmp_path: Path) -> None:
    site = stage.fresh(time_zone="Europe/Berlin")
    first = datetime(2025, 10, 26, 0, 40, tzinfo=UTC)
    made = site.create_issue("APO", first, "at the first 02:40")
    assert list(items(connected(stage, tmp_path), since=first - timedelta(minutes=10))) == [made]


def test_an_account_without_a_zone_reads_more_rather_than_less(stage: Stage, tmp_path: Path) -> None:
    made = stage.fresh(time_zone="America/New_York").create_issue("APO", T0, "An issue")
    connector = connected(stage, tmp_path)
    stage.site.faults.extend([Fault(status=200, body=b"{}", path="myself")] * 2)
    assert list(items(connector, since=T0)) == [made]
    assert any("time zone" in line for line in connector.check([]))


def test_sweep_names_everything_with_its_time(stage: Stage, tmp_path: Path) -> None:
    site = stage.fresh(max_page=2)
    version = site.add_version("APO", "2.1", at=T0)
    made = [site.create_issue("APO", minutes(n), f"Issue {n}") for n in range(5)]
    site.delete_issue(made[1], minutes(30))
    site.move_issue(made[2], minutes(31), "ZEU")
    site.requests.clear()
    pages = list(connected(stage, tmp_path).sweep("APO"))
    assert [(mark.ref.kind, mark.ref.id, mark.time) for page in pages for mark in page] == [
        ("milestone", version, None),
        *(("work_item", made[n], minutes(n)) for n in (0, 3, 4)),
    ]
    assert not [path for method, path in site.requests if method == "POST"]


def test_fetch_finds_what_moved_and_misses_what_is_gone(stage: Stage, tmp_path: Path) -> None:
    site = stage.site
    version, dropped = site.add_version("APO", "2.1", at=T0), site.add_version("APO", "0.9", at=T0)
    moved, gone = site.create_issue("APO", T0, "Moves"), site.create_issue("APO", T0, "Goes")
    site.move_issue(moved, minutes(5), "ZEU")
    site.delete_issue(gone, minutes(6))
    site.delete_version(dropped, minutes(7))
    refs = [Ref("work_item", gone), Ref("milestone", version), Ref("work_item", moved), Ref("milestone", dropped)]
    reads = {read.ref: read for read in connected(stage, tmp_path).fetch([*refs, refs[0]])}
    assert set(reads) == set(refs)
    assert [ref for ref in refs if reads[ref] == Read(ref)] == [refs[0], refs[3]]
    found = item(reads[refs[2]])
    assert (found.key, found.container, reads[refs[2]].time) == ("ZEU-1", "ZEU", minutes(5))
    assert pairs(found, "container") == [("APO", "ZEU")]
    content = reads[refs[1]].content
    assert isinstance(content, Milestone)
    assert content.container == "APO"


def test_fetch_equals_changed(stage: Stage, tmp_path: Path) -> None:
    site = stage.site
    version = site.add_version("APO", "2.1", date(2026, 4, 1), at=T0)
    made = [site.create_issue("APO", T0, f"Issue {n}") for n in range(130)]
    site.change_issue(made[3], minutes(1), sprint=5, flagged=True, due_date=date(2026, 5, 1))
    connector = connected(stage, tmp_path)
    listed = [read for page in connector.changed("APO", None) for read in page]
    fetched = list(connector.fetch([Ref("work_item", ident) for ident in made] + [Ref("milestone", version)]))
    assert sorted(fetched, key=lambda read: read.ref) == sorted(listed, key=lambda read: read.ref)


def test_a_changelog_longer_than_a_page_is_read_whole(stage: Stage, tmp_path: Path) -> None:
    site = stage.fresh(max_page=4)
    made = [site.create_issue("APO", T0, f"Issue {n}") for n in range(3)]
    for n in range(1, 8):
        for ident in made:
            site.change_issue(ident, minutes(n), assignee=f"acc-{n}")
    for read in items(connected(stage, tmp_path)).values():
        assert [new for _, new in pairs(item(read), "assignee")] == [f"acc-{n}" for n in range(1, 8)]


def test_the_clock_is_jiras(stage: Stage, tmp_path: Path) -> None:
    assert connected(stage, tmp_path).now() == stage.now


def test_check_says_what_is_wrong(stage: Stage, tmp_path: Path) -> None:
    assert list(connected(stage, tmp_path).check(["APO", "ZEU"])) == []
    lines = list(connected(stage, tmp_path).check(["APO", "NO/PE", "APO?x=1"]))
    assert [line.partition(",")[0] for line in lines] == ["Jira has no project NO/PE", "Jira has no project APO?x=1"]
    (line,) = connected(stage, tmp_path, story_points="Effort").check(["APO"])
    assert "Effort" in line
    (line,) = connected(stage, tmp_path, token="wrong").check(["APO"])
    assert "401" in line
    stage.site.faults.append(Fault(status=200, body=b'{"id": "10001", "key": "NEW"}', path="project/APO"))
    (line,) = connected(stage, tmp_path).check(["APO"])
    assert "NEW" in line


def test_a_renamed_project_is_read_on_under_its_configured_name(stage: Stage, tmp_path: Path) -> None:
    site, connector = stage.site, connected(stage, tmp_path)
    version = site.add_version("APO", "2.1", at=T0)
    made = site.create_issue("APO", T0, "An issue", fix_version=version)
    moved = site.create_issue("ZEU", T0, "Moves in")
    site.move_issue(moved, minutes(5), "APO")
    refs = [Ref("milestone", version), Ref("work_item", made), Ref("work_item", moved)]
    before = {read.ref: read for read in connector.fetch(refs)}
    site.rename_project("APO", T0 + timedelta(days=29), "NEW")
    for container in ("APO", "NEW"):  # whichever of them is configured
        connector = connected(stage, tmp_path)
        marks = {mark.ref for page in connector.sweep(container) for mark in page}
        listed = {read.ref: read for page in connector.changed(container, None) for read in page}
        assert marks == set(refs) == set(listed)
        assert {read.content.container for read in listed.values() if read.content} == {container}
        assert {read.ref: read for read in connector.fetch(refs)} == listed
        assert item(listed[refs[1]]).key == "NEW-1"
        assert pairs(item(listed[refs[2]]), "container") == [("ZEU", container)]
        assert {ref: read.time for ref, read in listed.items()} == {ref: read.time for ref, read in before.items()}


@pytest.mark.parametrize("follows", [False, True])
def test_a_renamed_project_loses_nothing(stage: Stage, tmp_path: Path, follows: bool) -> None:
    site, bus, connector = stage.site, MemoryBus(), connected(stage, tmp_path)
    made = [site.create_issue("APO", minutes(n), f"Issue {n}") for n in range(3)]
    pump = Pump(connector, MemoryLedger(), bus, lambda: stage.now, "reader")
    pump.sync({"APO": {"apollo": 1}})
    before = len(bus.events)
    site.rename_project("APO", stage.now, "NEW")
    stage.now += timedelta(hours=1)
    site.change_issue(made[1], stage.now, status="Done")
    pump.sync({"NEW" if follows else "APO": {"apollo": 1}})
    shown: dict[str, Any] = {}
    for event in bus.events[before:]:
        if event.thing.kind == "work_item":
            shown[event.thing.id] = event.content.key if isinstance(event, Snapshot) else None
    assert None not in shown.values(), "something was taken for gone"
    assert shown.items() <= {ident: f"NEW-{n}" for n, ident in enumerate(made, 1)}.items()
    assert made[1] in shown


def test_a_renamed_project_that_is_not_configured_keeps_its_key(stage: Stage, tmp_path: Path) -> None:
    site, connector = stage.site, connected(stage, tmp_path)
    made, version = site.create_issue("ZEU", T0, "An issue"), site.add_version("ZEU", "2.1", at=T0)
    site.rename_project("ZEU", minutes(5), "HERA")
    items(connector)
    reads = connector.fetch([Ref("work_item", made), Ref("milestone", version)])
    assert [read.content and read.content.container for read in reads] == ["HERA", "HERA"]


def test_a_fetch_before_any_listing_knows_the_names_that_it_was_told(stage: Stage, tmp_path: Path) -> None:
    site, connector = stage.site, connected(stage, tmp_path)
    assert isinstance(connector, Naming)
    made, version = site.create_issue("APO", T0, "An issue"), site.add_version("APO", "2.1", at=T0)
    site.rename_project("APO", minutes(5), "NEW")
    connector.expect(["APO", "ZEU", "GONE"])
    for _ in range(2):
        reads = connector.fetch([Ref("work_item", made), Ref("milestone", version)])
        assert [read.content and read.content.container for read in reads] == ["APO", "APO"]
    projects = [path.rpartition("/")[2] for _, path in site.requests if "/project/" in path]
    assert projects == ["APO", "GONE", "ZEU"]
    connector.expect(["NEW"])  # the configuration has followed
    (read,) = connector.fetch([Ref("work_item", made)])
    assert item(read).container == "NEW"


def test_one_project_under_two_names_is_read_under_one(stage: Stage, tmp_path: Path) -> None:
    connector = connected(stage, tmp_path)
    stage.site.rename_project("APO", minutes(5), "NEW")
    connector.expect(["APO", "NEW"])
    items(connector)
    with pytest.raises(Withheld, match="NEW and APO are the same"):
        items(connector, "NEW")
    items(connector)


@pytest.mark.parametrize("container", ["apo", "NOPE"])
def test_a_project_that_is_not_there_is_withheld_and_not_empty(container: str, stage: Stage, tmp_path: Path) -> None:
    stage.site.create_issue("APO", T0, "An issue")
    connector = connected(stage, tmp_path)
    for ask in (lambda: list(connector.changed(container, None)), lambda: list(connector.sweep(container))):
        with pytest.raises(Withheld, match="check the key"):
            ask()


def test_a_project_that_goes_away_is_withheld_and_not_empty(stage: Stage, tmp_path: Path) -> None:
    connector = connected(stage, tmp_path)
    items(connector)
    stage.site.remove_project("APO", minutes(5))
    for ask in (lambda: list(connector.changed("APO", None)), lambda: list(connector.sweep("APO"))):
        with pytest.raises(Withheld):
            ask()
    items(connector, "ZEU")


def test_a_status_made_while_running_is_known_at_the_next_poll(stage: Stage, tmp_path: Path) -> None:
    connector = connected(stage, tmp_path)
    items(connector)
    stage.site.statuses["Testing"] = StandinStatus("55", "indeterminate")
    made = stage.site.create_issue("APO", T0, "An issue", status="Testing")
    assert item(items(connector)[made]).status_category == "in_progress"


def test_one_that_cannot_be_read_does_not_stop_the_page(stage: Stage, tmp_path: Path) -> None:
    stage.site.statuses["Limbo"] = StandinStatus("56", "undefined")
    made = [
        stage.site.create_issue("APO", minutes(n), "An issue", status="Limbo" if n == 1 else "To Do") for n in range(3)
    ]
    reads = items(connected(stage, tmp_path))
    assert [reads[ident].problem is None for ident in made] == [True, False, True]
    assert reads[made[1]].time == minutes(1)


def test_an_issue_that_jira_could_not_give_is_not_gone(stage: Stage, tmp_path: Path) -> None:
    ref = Ref("work_item", "5")
    errors = {"issues": [], "issueErrors": [{"id": "5", "errorMessage": "busy"}]}
    stage.site.faults.append(Fault(status=200, body=json.dumps(errors).encode(), path="issue/bulkfetch"))
    (read,) = connected(stage, tmp_path).fetch([ref])
    assert read.ref == ref
    assert read.problem is not None
    stage.site.faults.append(Fault(status=200, body=b'{"issues": [{"id": 5}]}', path="issue/bulkfetch"))
    with pytest.raises(Retryable, match="gone"):
        list(connected(stage, tmp_path).fetch([ref]))


def everything(connector: JiraConnector) -> list[Any]:
    known = [Ref("work_item", "30001"), Ref("milestone", "20001")]
    return [*connector.changed("APO", T0), *connector.sweep("APO"), *connector.fetch(known), connector.now()]


HTML_ERROR = (HTML, Retryable, None)
ERRORS = [
    (Fault(status=429, headers={"Retry-After": "17"}), Retryable, 17.0),
    (Fault(status=503, headers={"Retry-After": "2"}, body=b"5"), Retryable, 2.0),
    (Fault(status=503, headers={"Retry-After": "Wed, 01 Apr 2026 09:01:30 GMT"}), Retryable, 90.0),
    (Fault(status=500, body=b'{"errorMessages": null}'), Retryable, None),
    (Fault(status=502, body=b"<html>", content_type="text/html"), Retryable, None),
    HTML_ERROR,
    (TRUNCATED, Retryable, None),
    (Fault(status=200, body=b'{"summary": "A secret title'), Retryable, None),
    (Fault(status=200, body=b"x", headers={"Content-Encoding": "gzip"}), Retryable, None),
    (Fault(status=200, body=b""), Retryable, None),
    (Fault(status=200, body=b"[" * 100_000), Retryable, None),
    (Fault(status=302, headers={"Location": "/login"}), Fatal, None),
    (Fault(status=400, body=b'{"errorMessages": ["Unbounded"]}'), Fatal, None),
    (Fault(status=401), Fatal, None),
    (Fault(status=403, body=b"Basic " + TOKEN.encode()), Fatal, None),
    (Fault(status=410), Fatal, None),
]
PATHS = [
    "project/APO", "status", "field", "myself", "/versions", "search/jql", "changelog/bulkfetch", "issue/bulkfetch", "version/", "serverInfo",
]  # fmt: skip


CASES = [(path, *error) for error in ERRORS for path in ("search/jql", "version/")]
CASES += [(path, *error) for error in (ERRORS[0], HTML_ERROR, ERRORS[-1]) for path in PATHS]


@pytest.mark.parametrize(("path", "fault", "kind", "after"), CASES)
def test_errors_say_what_to_do_next_and_no_secret(
    path: str, fault: Fault, kind: type[ConnectorError], after: float | None, stage: Stage, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    site = stage.site
    site.create_issue("APO", T0, "A secret title")
    site.add_version("APO", "2.1", at=T0)
    connector = connected(stage, tmp_path)
    site.faults.append(replace(fault, path=path))
    with caplog.at_level(logging.DEBUG), pytest.raises(kind) as caught:
        everything(connector)
    assert getattr(caught.value, "after", None) == after
    said = "".join(traceback.format_exception(caught.value)) + caplog.text
    for secret in (TOKEN, base64.b64encode(f"pmsync@example.com:{TOKEN}".encode()).decode(), "secret title"):
        assert secret not in said
    assert len(site.faults) == 0
    assert connector.now() == stage.now


@pytest.mark.parametrize("body", [b"5", b"[]", b"{}", b'{"issues": 5}', b'{"issueChangeLogs": [5]}', b"null"])
@pytest.mark.parametrize("path", PATHS)
def test_an_answer_of_another_shape_is_never_taken_for_a_deletion(
    path: str, body: bytes, stage: Stage, tmp_path: Path
) -> None:
    made = stage.site.create_issue("APO", T0, "An issue")
    version = stage.site.add_version("APO", "2.1", at=T0)
    stage.site.faults.append(Fault(status=200, body=body, path=path))
    refs = [Ref("work_item", made), Ref("milestone", version)]
    connector = connected(stage, tmp_path)
    found: list[Read] = []
    with suppress(Retryable):
        found += connector.fetch(refs)
    with suppress(Retryable):
        connector.now()
    with suppress(Retryable):
        found += (read for page in connector.changed("APO", None) for read in page)
    assert all(read.content or read.problem for read in found)


def test_a_wrong_token_and_a_project_that_is_not_there(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"401.*token"):
        items(connected(stage, tmp_path, token="wrong"))
    with pytest.raises(Fatal, match="nothing at"):
        items(connected(stage, tmp_path), "NOPE")


def test_a_quota_is_retryable_and_nothing_is_tried_again(stage: Stage, tmp_path: Path) -> None:
    site = stage.fresh(points_per_hour=3)
    stage.now = T0 + timedelta(minutes=50)
    connector = connected(stage, tmp_path)
    with pytest.raises(Retryable) as caught:
        items(connector)
    assert caught.value.after == 601.0
    sent = len(site.requests)
    with pytest.raises(Retryable):
        connector.now()
    assert len(site.requests) == sent + 1


def test_nobody_there_and_nobody_answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(_: float) -> None:
        pytest.fail("a connector does not wait")

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr(jira_client, "TIMEOUT", (0.1, 0.1))
    (tmp_path / "token").write_text(TOKEN)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Retryable, match="it did not answer in time"):
            connect(url, tmp_path / "token").now()
    with pytest.raises(Retryable, match="it refuses connections; check the address"):
        connect(url, tmp_path / "token").now()


@pytest.mark.parametrize("method", ["changed", "sweep"])
@pytest.mark.parametrize(
    "pages",
    [
        [{"issues": [{"id": "1"}], "nextPageToken": "again"}] * 9,
        [{"issues": [], "nextPageToken": f"{n}"} for n in range(20)],
    ],
    ids=["the token repeats", "empty for ever"],
)
def test_pages_without_an_end_are_broken_off(pages: list[Any], method: str, stage: Stage, tmp_path: Path) -> None:
    stage.site.faults.extend(Fault(200, {}, json.dumps(page).encode(), 1, "search/jql") for page in pages)
    connector = connected(stage, tmp_path)
    with pytest.raises(Retryable, match="come to an end"):
        list(connector.sweep("APO") if method == "sweep" else connector.changed("APO", None))


def test_an_empty_page_with_a_token_is_not_the_end(stage: Stage, tmp_path: Path) -> None:
    pages = [{"issues": [], "nextPageToken": "2"}, {"issues": [], "nextPageToken": "3", "isLast": True}]
    stage.site.faults.extend(Fault(200, {}, json.dumps(page).encode(), 1, "search/jql") for page in pages)
    assert items(connected(stage, tmp_path)) == {}
    assert not stage.site.faults


# As of T

ISSUES = 4
OPERATIONS = st.lists(
    st.tuples(st.integers(2, 200), st.integers(0, ISSUES - 1), st.integers(0, 14), st.integers(0, 2)), max_size=30
)


def world(site: JiraSite, operations: list[tuple[int, int, int, int]]) -> list[str]:
    """Build a random world; returns the ids of its issues. Each step is some seconds after the one before."""
    versions = [site.add_version("APO", f"1.{n}", at=T0) for n in range(3)]
    made = [site.create_issue("APO", T0 + timedelta(seconds=n * 40), f"Issue {n}", **START[n]) for n in range(ISSUES)]
    site.change_issue(made[0], T0 + timedelta(seconds=300), fix_version=versions[1])
    at, gone = T0 + timedelta(seconds=400), set()
    for delay, index, kind, value in operations:
        at += timedelta(seconds=delay)
        ident = made[index]
        if ident in gone:
            continue
        if kind == 10:
            site.move_issue(ident, at, ("APO", "ZEU", "ZEU")[value])
        elif kind == 14:
            site.log_work(ident, at, 1800 * (value + 1))
        elif kind == 11:
            gone.add(ident)
            site.delete_issue(ident, at)
        else:
            site.change_issue(ident, at, **change(kind, value, versions))
    return made


START: list[dict[str, Any]] = [
    {},
    {"story_points": 8, "flagged": True},
    {"status": "Done", "sprint": 4},
    {"assignee": "x", "original_estimate": 7200, "remaining_estimate": 7200},
]


def change(kind: int, value: int, versions: list[str]) -> dict[str, Any]:
    table: list[dict[str, Any]] = [
        {"status": ("To Do", "In Progress", "Done")[value]},
        {"assignee": (None, "acc-1", "acc-2")[value]},
        {"due_date": (None, date(2026, 4, 1), date(2026, 5, 1))[value]},
        {"story_points": (None, 0.5, 13)[value]},
        {"fix_version": (None, versions[1], versions[2])[value]},
        {"fix_version": ((versions[2], versions[1]), (versions[0], versions[2]), (versions[1],))[value]},
        {"sprint": (None, 36, (36, 37))[value]},
        {"flagged": value > 0},
        {"title": f"Title {value}"},
        {"status": ("In Review", "Backlog", "Done")[value], "assignee": "acc-3", "flagged": value == 1},
        {},  # a move
        {},  # a deletion
        {"status": "Done", "resolution": ("Done", "Won't Do", "Duplicate")[value]},
        {"resolution": (None, "Done", "Declined")[value]},
    ]
    return table[kind]


def as_of(found: WorkItem, field: str, moment: datetime) -> Any:
    later = [change.old for change in found.history if change.field == field and change.at > moment]
    return later[0] if later else found.model_dump(mode="json")[field]


def both(connector: JiraConnector) -> dict[str, Read]:
    return items(connector, "APO") | items(connector, "ZEU")


PROPERTY = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@PROPERTY
@given(OPERATIONS, st.integers(0, 3000))
def test_replaying_the_history_back_gives_what_was_read_then(
    served: Stage, tmp_path: Path, operations: list[tuple[int, int, int, int]], seconds: int
) -> None:
    site = served.fresh(max_page=3)
    world(site, operations)
    connector = connected(served, tmp_path)
    last = both(connector)
    moment = served.now = T0 + timedelta(seconds=seconds)
    for ident, read in both(connector).items():
        if ident not in last:
            continue
        then, now = item(read), item(last[ident])
        dumped = then.model_dump(mode="json")
        assert {f: as_of(now, f, moment) for f in WorkItem.TRACKED} == {f: dumped[f] for f in WorkItem.TRACKED}


@PROPERTY
@given(LINKING, st.integers(0, 3000))
def test_links_of_the_past_are_those_that_were_read_then(
    served: Stage, tmp_path: Path, operations: list[tuple[int, int, int, str]], seconds: int
) -> None:
    site = served.fresh(max_page=3)
    linked(site, operations)
    connector = connected(served, tmp_path)
    last = items(connector)
    moment = served.now = T0 + timedelta(seconds=seconds)
    for ident, read in items(connector).items():
        then = item(read)
        assert all(link.since for link in then.links)
        if ident in last:
            assert standing(item(last[ident]), moment) == standing(then, moment)


@PROPERTY
@given(OPERATIONS)
def test_a_history_is_a_chain_that_ends_at_the_present(
    served: Stage, tmp_path: Path, operations: list[tuple[int, int, int, int]]
) -> None:
    world(served.fresh(), operations)
    for read in both(connected(served, tmp_path)).values():
        found = item(read)
        for field in WorkItem.TRACKED:
            chain = pairs(found, field)
            assert [new for _, new in chain[:-1]] == [old for old, _ in chain[1:]]
            assert [new for _, new in chain[-1:]] == [found.model_dump(mode="json")[field]] * bool(chain)
        assert all(isinstance(change, Change) for change in found.history)


@PROPERTY
@given(OPERATIONS, st.integers(0, 3000))
def test_a_lagging_index_shows_whole_things_as_they_were(
    served: Stage, tmp_path: Path, operations: list[tuple[int, int, int, int]], lag: int
) -> None:
    site = served.fresh()
    made = world(site, operations)
    connector = connected(served, tmp_path)
    served.now = T0 + timedelta(seconds=3000)
    alive = {read.ref.id for read in connector.fetch([Ref("work_item", ident) for ident in made]) if read.content}
    site.index_lag = lag
    lagging = both(connector)
    site.index_lag, served.now = 0, served.now - timedelta(seconds=lag)
    punctual = both(connector)
    assert lagging.keys() == punctual.keys()
    assert {i: lagging[i] for i in lagging if i in alive} == {i: punctual[i] for i in punctual if i in alive}


# Real samples


def sample(name: str) -> Any:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"the sample {name} is not here")
    return json.loads(path.read_text())


def test_real_issues_and_statuses() -> None:
    known = jira_things.site(
        "u", sample("go-jira-mocks/all_statuses.json"), sample("go-jira-mocks/all_fields.json"), None
    )
    assert {status.category for status in known.statuses.values()} == {None, *jira_things.CATEGORIES.values()}
    for raw in sample("go-jira-mocks/issues_in_sprint.json")["issues"]:
        fields = [{"id": "customfield_10105", "name": "Story Points", "custom": True}]
        known = jira_things.site("https://jira.example.com", [raw["fields"]["status"]], fields, None)
        # As of 2015 (users had names, not account ids), and with the summary taken out.
        assert jira_things.read_issue(Issue(raw, []), known).problem == "fields.summary is missing"
        raw["fields"]["summary"] = "A summary"
        found = item(jira_things.read_issue(Issue(raw, []), known))
        assert (found.key, found.estimate, found.status_category) == ("AR-86", 13000, "todo")
        assert found.assignee == "mister.morris"


def test_real_versions() -> None:
    reads = [
        jira_things.read_version(raw, "PR", "")
        for raw in sample("jira-samples/airbyte-project-versions.json")["values"]
    ]
    assert [(read.ref.id, read.content.state) for read in reads if isinstance(read.content, Milestone)] == [
        ("1", "closed"),
        ("2", "open"),
    ]
