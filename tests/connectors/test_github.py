"""The GitHub connector: translation by tables, reading over HTTP from the stand-in, and histories against snapshots."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors import conditional, github_client, github_taken, github_things
from connectors.base import Connector, Counting, Fatal, Naming, Read, Ref, Retryable, SecretRef, Withheld
from connectors.github import GitHubAuth, GitHubConnector, GitHubSettings
from connectors.github_client import Missing, failure, next_page
from connectors.github_things import (
    MAX_MENTIONS,
    Home,
    Parts,
    mentions,
    read_milestone,
    read_thing,
    translate_issue,
    translate_milestone,
    translate_pull,
)
from connectors.pump import Pump
from connectors.testing import MemoryBus, MemoryLedger
from pmsync.core.events import Change, ChangeRequest, Content, Milestone, Snapshot, Tombstone, WorkItem
from pmsync.standins.github import RETRY_AFTER, GitHubHost, Team, User, View
from pmsync.standins.server import serve

REPO = "octo/apollo"
TOKEN = "ghp_very_secret"
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
ANN, BEN = User("ann", 11), User("ben", 12)


def day(number: float) -> datetime:
    return START + timedelta(days=number)


def text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


# --- translation, by tables

HOME = Home(
    7, REPO, REPO, {"2.0": ("7/1", text(day(-9))), "2.1": ("7/2", text(day(-9))), "late": ("7/3", text(day(50)))}
)


def issue(**fields: Any) -> dict[str, Any]:
    base = {
        "id": 70,
        "number": 5,
        "title": "Login fails",
        "html_url": "https://github.com/octo/apollo/issues/5",
        "repository_url": f"https://api.github.com/repos/{REPO}",
        "state": "open",
        "state_reason": None,
        "created_at": text(day(0)),
        "updated_at": text(day(9)),
        "assignees": [],
        "labels": [],
        "milestone": None,
    }
    return base | fields


def pull(**fields: Any) -> dict[str, Any]:
    base = issue(body=None, draft=False, merged_at=None, closed_at=None, user={"id": 11}, head={"ref": "topic"})
    return base | fields


def events(*told: str) -> list[dict[str, Any]]:
    """`closed not_planned`, `assigned 11`, `labeled Blocked`, `milestoned 2.1`…: one a day."""
    return [_event(number, *each.partition(" ")[::2]) for number, each in enumerate(told, 1)]


def _event(number: int, name: str, what: str) -> dict[str, Any]:
    shapes: dict[str, dict[str, Any]] = {
        "closed": {"state_reason": what or None},
        "assigned": {"assignee": {"id": int(what)} if what.isdigit() else None},
        "labeled": {"label": {"name": what}},
        "milestoned": {"milestone": {"title": what}},
    }
    extra = shapes.get(name.removeprefix("un").removeprefix("de"), {})
    return {"id": 900 + number, "event": name, "created_at": text(day(number)), **extra}


CLOSED = {"state": "closed", "state_reason": "completed"}
IN_2_1 = {"milestone": {"number": 2}}


@pytest.mark.parametrize(
    ("told", "present", "expected", "untracked"),
    [
        pytest.param((), {}, [], (), id="nothing ever happened"),
        pytest.param(
            ("closed",),
            CLOSED,
            ["901/status: open > closed", "901/status_category: todo > done"],
            (),
            id="closed",
        ),
        pytest.param(
            ("closed not_planned", "reopened", "closed duplicate"),
            CLOSED | {"state_reason": "duplicate"},
            [
                "901/status: open > closed (not planned)",
                "901/status_category: todo > dropped",
                "902/status: closed (not planned) > open",
                "902/status_category: dropped > todo",
                "903/status: open > closed (duplicate)",
                "903/status_category: todo > dropped",
            ],
            (),
            id="not planned, reopened, a duplicate",
        ),
        pytest.param(
            ("closed", "closed not_planned"),
            CLOSED | {"state_reason": "not_planned"},
            [
                "901/status: open > closed",
                "901/status_category: todo > done",
                "902/status: closed > closed (not planned)",
                "902/status_category: done > dropped",
            ],
            (),
            id="closed again for another reason",
        ),
        pytest.param(
            ("assigned 11", "assigned 12", "unassigned 11", "unassigned 12"),
            {},
            [
                "901/status_category: todo > in_progress",
                "901/assignee: None > 11",
                "903: 11 > 12",
                "904/status_category: in_progress > todo",
                "904/assignee: 12 > None",
            ],
            (),
            id="assigned twice",
        ),
        pytest.param(
            ("labeled bug", "labeled Blocked", "unlabeled bug", "unlabeled Blocked", "labeled BLOCKED"),
            {"labels": [{"name": "BLOCKED"}]},
            ["902: False > True", "904: True > False", "905: False > True"],
            (),
            id="unlabelled, and labelled again in other letters",
        ),
        pytest.param(
            ("milestoned 2.0", "demilestoned 2.0", "milestoned 2.1"),
            IN_2_1,
            ["901: None > 7/1", "902: 7/1 > None", "903: None > 7/2"],
            (),
            id="from one milestone to another",
        ),
        pytest.param(
            ("milestoned 2.0", "milestoned 2.1", "demilestoned 2.0"),
            IN_2_1,
            ["901: None > 7/1", "902: 7/1 > 7/2"],
            (),
            id="the same, told the other way round",
        ),
        pytest.param(
            ("milestoned old", "demilestoned old", "milestoned 2.1"),
            IN_2_1,
            ["901: None > title:old", "902: title:old > None", "903: None > 7/2"],
            (),
            id="a milestone that is no more",
        ),
        pytest.param(("milestoned old",), IN_2_1, ["901: None > 7/2"], (), id="milestone renamed"),
        pytest.param(
            ("milestoned late", "demilestoned late"),
            {},
            ["901: None > title:late", "902: title:late > None"],
            (),
            id="a title that today's milestone did not bear then",
        ),
        pytest.param(("milestoned 2.0",), IN_2_1, [], ("milestone",), id="the present is another milestone"),
        pytest.param(("milestoned 2.0",), {}, [], ("milestone",), id="milestone deleted without an event"),
        pytest.param(("milestoned 2.0", "milestoned 2.1"), IN_2_1, [], ("milestone",), id="never left the first"),
        pytest.param(
            ("milestoned 2.0", "milestoned 2.1", "demilestoned 2.1"), {}, [], ("milestone",), id="left the wrong one"
        ),
        pytest.param(("demilestoned 2.1",), {}, [], ("milestone",), id="left a milestone that it never entered"),
        pytest.param((), CLOSED, [], ("status", "status_category"), id="closed without an event"),
        pytest.param(("reopened",), {}, [], ("status", "status_category"), id="reopened though never closed"),
        pytest.param(
            ("closed",), CLOSED | {"state_reason": "not_planned"}, [], ("status", "status_category"), id="other reason"
        ),
        pytest.param(
            ("unassigned 11", "labeled blocked"),
            {"labels": [{"name": "blocked"}]},
            ["902: False > True"],
            ("status_category", "assignee"),
            id="unassigned though never assigned: the other fields stand",
        ),
        pytest.param(
            ("assigned 11", "assigned 11"),
            {"assignees": [{"id": 11}]},
            [],
            ("status_category", "assignee"),
            id="assigned again though not unassigned",
        ),
        pytest.param(
            ("assigned 11", "assigned 11", "unassigned 11"), {}, [], ("status_category", "assignee"), id="and then left"
        ),
        pytest.param(
            ("milestoned 2.0", "milestoned late", "milestoned 2.1", "demilestoned 2.0", "demilestoned late"),
            IN_2_1,
            [],
            ("milestone",),
            id="three milestones at once",
        ),
        pytest.param(("assigned nobody",), {}, [], ("status_category", "assignee"), id="an assignee without account"),
        pytest.param(
            ("assigned 11", "assigned 12"),
            {"assignees": [{"id": 12}, {"id": 11}]},
            ["901: todo > in_progress"],
            ("assignee",),
            id="in another order: only who is first is in doubt",
        ),
        pytest.param(("unlabeled blocked",), {}, [], ("blocked",), id="unblocked though never blocked"),
        pytest.param(("labeled blocked",), {}, [], ("blocked",), id="the label was renamed"),
        pytest.param(("subscribed", "renamed", "cross-referenced"), {}, [], (), id="events that say nothing to us"),
    ],
)
def test_history_of_an_issue(
    told: Sequence[str], present: Mapping[str, Any], expected: Sequence[str], untracked: Sequence[str]
) -> None:
    item = translate_issue(HOME, issue(**present), events(*told))
    # An event that changes two fields names them in its id; where the other is left out, the name stays.
    shown = [f"{change.id}: {change.old} > {change.new}" for change in item.history]
    if untracked:
        shown = [line.replace(f"/{change.field}", "") for line, change in zip(shown, item.history, strict=True)]
    assert shown == list(expected)
    assert item.untracked == tuple(untracked)
    agrees(item)


def agrees(content: WorkItem | ChangeRequest) -> None:
    """The chain law: each change begins where the last one ended, and the last ends at the present."""
    for name in {change.field for change in content.history}:
        chain = [change for change in content.history if change.field == name]
        assert [change.old for change in chain[1:]] == [change.new for change in chain[:-1]]
        assert chain[-1].new == getattr(content, name)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        ({}, {"status": "open", "status_category": "todo", "type": "issue", "assignee": None, "blocked": False}),
        ({"assignees": [{"id": 12}, {"id": 11}]}, {"status_category": "in_progress", "assignee": "12"}),
        (CLOSED, {"status": "closed", "status_category": "done"}),
        (CLOSED | {"state_reason": None}, {"status": "closed", "status_category": "done"}),
        (CLOSED | {"state_reason": "not_planned"}, {"status": "closed (not planned)", "status_category": "dropped"}),
        (CLOSED | {"state_reason": "duplicate"}, {"status": "closed (duplicate)", "status_category": "dropped"}),
        ({"state_reason": "reopened"}, {"status": "open", "status_category": "todo"}),
        ({"labels": [{"name": "Bug"}, "ui"]}, {"type": "bug", "labels": ("Bug", "ui")}),
        ({"type": {"name": "Feature"}}, {"type": "Feature"}),
        ({"labels": [{"name": "bug"}], "type": {"name": "Feature"}}, {"type": "bug"}),
        ({"labels": [{"name": "BLOCKED"}]}, {"blocked": True}),
        ({"labels": [{"name": "unblocked"}]}, {"blocked": False}),
        (IN_2_1, {"milestone": "7/2", "due_date": None, "estimate": None}),
        ({}, {"key": "octo/apollo#5", "container": REPO, "created_at": day(0), "title": "Login fails"}),
    ],
)
def test_an_issue_s_fields(present: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    item = translate_issue(HOME, issue(**present), [])
    assert {name: getattr(item, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("told", "present", "expected", "untracked"),
    [
        ((), {}, [], ()),
        (("merged", "closed"), {"state": "closed", "merged_at": text(day(1))}, ["901: open > merged"], ()),
        (
            ("closed", "merged"),
            {"state": "closed", "merged_at": text(day(1))},
            ["901: open > closed", "902: closed > merged"],
            (),
        ),
        (("closed", "reopened"), {}, ["901: open > closed", "902: closed > open"], ()),
        ((), {"draft": True}, [], ()),
        (("ready_for_review",), {}, ["901: True > False"], ()),
        (("convert_to_draft", "ready_for_review"), {}, ["901: False > True", "902: True > False"], ()),
        (("converted_to_draft",), {"draft": True}, ["901: False > True"], ()),
        (("ready_for_review",), {"draft": True}, [], ("draft",)),
        (("ready_for_review", "ready_for_review"), {}, [], ("draft",)),
        (("milestoned 2.1",), IN_2_1, ["901: None > 7/2"], ()),
        (("closed",), {"state": "closed", "merged_at": text(day(1))}, [], ("state",)),
        (("assigned 11", "labeled blocked"), {}, [], ()),
    ],
)
def test_history_of_a_pull_request(
    told: Sequence[str], present: Mapping[str, Any], expected: Sequence[str], untracked: Sequence[str]
) -> None:
    request = translate_pull(HOME, Parts(issue(), events(*told), pull(**present)))
    assert [f"{change.id}: {change.old} > {change.new}" for change in request.history] == expected
    assert request.untracked == tuple(untracked)
    agrees(request)


def test_a_pull_request_s_reviews_leave_out_the_unfinished() -> None:
    reviews = [
        {"id": 1, "state": "CHANGES_REQUESTED", "submitted_at": text(day(1)), "user": {"id": 12}},
        {"id": 2, "state": "PENDING", "user": {"id": 12}},
        {"id": 3, "state": "APPROVED", "submitted_at": text(day(2)), "user": None},
    ]
    request = translate_pull(HOME, Parts(issue(), [], pull(), reviews))
    assert [(each.id, each.at, each.state, each.reviewer) for each in request.reviews] == [
        ("1", day(1), "changes_requested", "12"),
        ("3", day(2), "approved", None),
    ]


def asked(*told: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Events and reviews, one a day: `ask 12`, `withdraw team:5`, `review 12`, or `same` for what comes in its second."""
    events, reviews, at = list[dict[str, Any]](), list[dict[str, Any]](), START
    for number, each in enumerate(told):
        step, _, who = each.removeprefix("same ").partition(" ")
        at = at if each.startswith("same ") else at + timedelta(days=1)
        if step == "review":
            user = {"id": int(who)} if who else None
            reviews.append({"id": number, "state": "APPROVED", "submitted_at": text(at), "user": user})
            continue
        event = {"ask": "review_requested", "withdraw": "review_request_removed"}[step]
        key = "requested_team" if who.startswith("team:") else "requested_reviewer"
        whom = {"id": int(who.removeprefix("team:"))} if who else None
        events.append({"id": number, "event": event, "created_at": text(at), key: whom})
    return events, reviews


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param((), [], id="nobody"),
        pytest.param(("ask 12",), ["12 1-"], id="it stands"),
        pytest.param(("ask 12", "review 12"), ["12 1-2"], id="answered"),
        pytest.param(("ask 12", "review 12", "review 12"), ["12 1-2"], id="by the first answer"),
        pytest.param(("review 12", "ask 12"), ["12 2-"], id="not by what came before"),
        pytest.param(("ask 12", "review 11", "review"), ["12 1-"], id="not by somebody else's"),
        pytest.param(("ask 12", "withdraw 12"), ["12 1-2"], id="withdrawn"),
        pytest.param(("ask 12", "withdraw 12", "review 12"), ["12 1-2"], id="and reviewed all the same"),
        pytest.param(("ask 12", "review 12", "withdraw 12"), ["12 1-2"], id="withdrawn after the answer"),
        pytest.param(("withdraw 12",), [], id="withdrawn though never asked"),
        pytest.param(("ask 12", "ask 12"), ["12 1-"], id="asked twice is asked once"),
        pytest.param(("ask 12", "review 12", "ask 12"), ["12 1-2", "12 3-"], id="asked again"),
        pytest.param(("ask 12", "review 12", "ask 12", "review 12"), ["12 1-2", "12 3-4"], id="and answered again"),
        pytest.param(("ask 12", "withdraw 12", "ask 12"), ["12 1-2", "12 3-"], id="withdrawn and asked again"),
        pytest.param(("ask 12", "review 12", "same ask 12"), ["12 1-2", "12 2-"], id="again in the answer's second"),
        pytest.param(("ask 12", "same review 12"), ["12 1-1"], id="answered within the second"),
        pytest.param(("ask 12", "ask 13", "review 13"), ["12 1-", "13 2-3"], id="two of them"),
        pytest.param(("ask 13", "same ask 12"), ["12 1-", "13 1-"], id="two at once"),
        pytest.param(("ask team:5", "review 12"), ["team:5 1-2"], id="a team, by anybody"),
        pytest.param(("ask team:5", "review 11", "review 12"), ["team:5 1-3"], id="a team, not by the author"),
        pytest.param(("ask team:5", "withdraw 5"), ["team:5 1-"], id="a team is no account"),
        pytest.param(("ask team:5", "withdraw team:5", "ask 12"), ["team:5 1-2", "12 3-"], id="a member takes over"),
        pytest.param(("ask", "withdraw"), [], id="an account that is no more"),
    ],
)
def test_who_was_asked_for_a_review(told: Sequence[str], expected: Sequence[str]) -> None:
    events, reviews = asked(*told)
    request = translate_pull(HOME, Parts(issue(), events, pull(), reviews))
    shown = [
        f"{each.reviewer} {(each.at - START).days}-{(each.until - START).days if each.until else ''}"
        for each in request.review_requests
    ]
    assert shown == expected
    assert request.untracked == ()


@pytest.mark.parametrize("broken", [{"requested_reviewer": {"id": "12"}}, {"requested_team": 5}, {"created_at": 5}])
def test_a_request_for_a_review_that_is_not_in_github_s_shape_is_a_problem(broken: Mapping[str, Any]) -> None:
    (event,), _ = asked("ask 12")
    parts = Parts({**issue(), "pull_request": {}}, [event | broken], pull())
    assert next(iter(broken)) in (read_thing(HOME, parts).problem or "")


@pytest.mark.parametrize(
    ("title", "branch", "body", "expected"),
    [
        ("APO-12: mend login", "topic", "", ("APO-12",)),
        ("Mend login (APO-12, APO-3)", "feature/APO-40-login", "see APO-12.", ("APO-12", "APO-3", "APO-40")),
        ("Login", "topic", "Fixes #12, closes: octo/other#7 and resolved #12", ("octo/apollo#12", "octo/other#7")),
        ("Fixed https://github.com/octo/artemis/issues/9", "x", "", ("octo/artemis#9",)),
        ("See #12", "topic", "prefixes #3, the fix is #4", ()),
        ("UTF-8, SHA-256, RFC-9420 and CVE-2024-1234", "apo-12", "X-1, APO-0, APO-12a, 1APO-12, APO-1.5", ()),
        ("Login", "topic", "<!-- Fixes #1 --> text <!-- APO-1", ()),
    ],
)
def test_the_work_items_that_a_pull_request_names(title: str, branch: str, body: str, expected: Sequence[str]) -> None:
    named = mentions(REPO, branch, title, body, ())
    assert tuple(sorted({each.key for each in named})) == expected
    parts = Parts(issue(), [], pull(title=title, body=body, head={"ref": branch}))
    assert translate_pull(HOME, parts).work_items == expected


def test_where_a_pull_request_names_them() -> None:
    commits = [{"commit": {"message": text}} for text in ("APO-3: half of it\n\nfixes #7", "UTF-8", "APO-3, again")]
    shown = pull(title="APO-1: mend", body="for APO-1; closes #7 <!-- APO-9 -->", head={"ref": "ben/APO-2-mend"})
    request = translate_pull(HOME, Parts(issue(), [], shown, (), commits))
    assert request.work_items == ("APO-1", "APO-2", "APO-3", "octo/apollo#7")
    assert [(each.key, each.where) for each in request.mentions] == [
        ("APO-1", "body"),
        ("APO-1", "title"),
        ("APO-2", "branch"),
        ("APO-3", "commit"),
        ("octo/apollo#7", "closing"),
    ]


def test_a_repository_s_name_is_no_key() -> None:
    named = mentions("RFC-tools/x", "topic", "Fixes #1, resolves ISO-9/y#2", "", ())
    assert [each.key for each in named] == ["ISO-9/y#2", "RFC-tools/x#1"]


def test_so_many_are_kept_and_no_more() -> None:
    many = " ".join(f"APO-{n}" for n in range(1, 5000))
    assert len(mentions(REPO, "topic", "", many, ())) == MAX_MENTIONS


MILESTONE = {
    "number": 2,
    "title": "2.1",
    "html_url": "https://github.com/octo/apollo/milestone/2",
    "state": "closed",
    "created_at": text(day(0)),
    "due_on": "2026-12-04T08:00:00Z",
    "closed_at": text(day(3)),
}


def test_a_milestone_s_fields() -> None:
    assert translate_milestone(HOME, MILESTONE) == Milestone(
        key="octo/apollo/milestone/2",
        container=REPO,
        title="2.1",
        url="https://github.com/octo/apollo/milestone/2",
        created_at=day(0),
        due_date=date(2026, 12, 4),
        state="closed",
        closed_at=day(3),
    )


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ({"title": None}, "issue.title: "),
        ({"created_at": 5}, "issue.created_at: "),
        ({"created_at": "yesterday"}, "issue.created_at: "),
        ({"assignees": [{"id": "11"}]}, "issue.assignees.0.id: "),
        ({"state": "locked"}, "issue.state: "),
        ({"number": None}, "issue.number: "),
        ({"title": None, "body": "half a smile \ud83d"}, "issue.title: "),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, "issue.created_at: "),
        ({"updated_at": "9999-12-31T23:59:59-01:00"}, "issue.updated_at: "),
    ],
)
def test_what_is_not_in_github_s_shape_is_a_problem(broken: Mapping[str, Any], line: str) -> None:
    read = read_thing(HOME, Parts(issue(**broken)))
    assert read.content is None
    assert (read.problem or "").startswith(line)
    assert "\n" not in (read.problem or "")
    assert json.loads(read.raw)["issue"] == issue(**broken)


@pytest.mark.parametrize("key", sorted(issue().keys() - {"id", "repository_url", "state_reason"}))
def test_a_missing_key_is_a_problem(key: str) -> None:
    found = issue()
    del found[key]
    assert (read_thing(HOME, Parts(found)).problem or "").startswith(f"issue.{key}: ")


@pytest.mark.parametrize("thing", [None, "text", [], 5, {}])
def test_no_answer_is_too_strange_to_read(thing: Any) -> None:
    assert read_thing(HOME, Parts(thing)).problem
    assert read_thing(HOME, Parts(issue(), [thing] if thing != {} else [{"event": "closed"}])).problem
    assert read_thing(HOME, Parts(issue(pull_request={}), (), thing if thing is not None else 0)).problem
    assert read_milestone(HOME, thing).problem


def test_what_is_nested_without_measure_is_a_problem_and_nothing_more() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    read = read_thing(HOME, Parts(issue(title=nested)))
    assert (read.content, read.raw) == (None, b"")


def test_a_long_history_keeps_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_things, "MAX_CHANGES", 3)
    told = events(*["labeled blocked", "unlabeled blocked"] * 3)
    item = translate_issue(HOME, issue(), told)
    assert ([change.id for change in item.history], item.history_cut) == (["904", "905", "906"], True)
    assert not translate_issue(HOME, issue(labels=[{"name": "blocked"}]), told[:3]).history_cut


# --- answers that are no answers

NOW = {"date": "Mon, 05 Jan 2026 09:00:00 GMT"}
RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(day(0).timestamp()) + 90)}


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "after"),
    [
        (403, NOW | RESET, "", Retryable, 90),
        (429, NOW | RESET, "", Retryable, 90),
        (403, NOW | RESET | {"x-ratelimit-reset": "1"}, "", Retryable, 1),
        (403, NOW | RESET | {"x-ratelimit-reset": "soon"}, "", Retryable, 60),
        (403, RESET, "", Retryable, 80),
        (403, {"retry-after": "7", "x-ratelimit-remaining": "99"}, "", Retryable, 7),
        (403, {"x-ratelimit-remaining": "99"}, "You have exceeded a secondary rate limit.", Retryable, 60),
        (429, {}, "", Retryable, 60),
        (500, {}, "", Retryable, None),
        (503, {"retry-after": "9"}, "", Retryable, 9),
        (408, {}, "", Retryable, None),
        (304, {}, "", Retryable, None),
        (401, {}, "", Fatal, None),
        (403, {"x-ratelimit-remaining": "99"}, "Resource not accessible", Withheld, None),
        (451, {}, "", Withheld, None),
        (403, NOW | RESET | {"x-ratelimit-reset": "999999999999"}, "", Retryable, 3600),
        (429, {"retry-after": "999999999999"}, "", Retryable, 3600),
        (503, NOW | {"retry-after": "Mon, 05 Jan 2026 09:00:30 GMT"}, "", Retryable, 30),
        (404, {}, "", Missing, None),
        (410, {}, "", Missing, None),
        (422, {}, "", Fatal, None),
    ],
)
def test_failures(
    status: int, headers: Mapping[str, str], body: str, kind: type[Exception], after: float | None
) -> None:
    error = failure(status, headers, body, "/repos/octo/apollo", day(0) + timedelta(seconds=10))
    assert type(error) is kind
    assert getattr(error, "after", None) == after


def test_a_refusal_of_everything_is_no_matter_of_one_repository() -> None:
    assert type(failure(403, {}, "", "/rate_limit", day(0))) is Fatal
    assert type(failure(401, {}, "", "/repos/octo/apollo", day(0))) is Fatal
    assert issubclass(Missing, Withheld)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("", None),
        ('<https://api.github.com/x?page=1>; rel="prev"', None),
        ('<https://api.github.com/x?page=1>; rel="prev", <https://api.github.com/x?page=3>; rel="next"', "?page=3"),
    ],
)
def test_the_next_page(link: str, expected: str | None) -> None:
    found = next_page(link, "https://api.github.com")
    assert found is expected is None or str(found).endswith(str(expected))


@pytest.mark.parametrize("host", ["https://evil.example", "http://api.github.com", "https://api.github.com:444"])
def test_a_next_page_elsewhere_is_refused(host: str) -> None:
    with pytest.raises(Fatal, match="another host"):
        next_page(f'<{host}/x?page=2>; rel="next"', "https://api.github.com")


def test_a_next_page_that_is_no_address_is_retryable() -> None:
    with pytest.raises(Retryable, match="address"):
        next_page('<https://[bad>; rel="next"', "https://api.github.com")


@pytest.mark.parametrize(
    "wrong", [{"page_size": 101}, {"page_size": 0}, {"url": "ftp://x"}, {"kind": "jira"}, {"tokn": 1}]
)
def test_settings_refuse_what_is_wrong(wrong: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GitHubSettings.model_validate({"name": "github", "auth": {"token": {"env": "T"}}, **wrong})


# --- over HTTP


class Switch:
    """One server for many hosts."""

    def __init__(self) -> None:
        self.app: ASGIApp
        self.url = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def switch() -> Iterator[Switch]:
    switch = Switch()
    with serve(switch) as switch.url:
        yield switch


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("secrets") / "token"
    path.write_text(TOKEN + "\n")
    return path


Connect = Callable[..., GitHubConnector]


@pytest.fixture(scope="module")
def connect(switch: Switch, secret: Path) -> Connect:
    """A connector to an app (by default to a host that stands at day 30)."""

    def connect(app: ASGIApp, page_size: int = 100, url: str = "") -> GitHubConnector:
        switch.app = app
        auth = GitHubAuth(token=SecretRef(file=secret))
        settings = GitHubSettings(name="github", url=url or switch.url, auth=auth, page_size=page_size)
        return GitHubConnector.connect(settings, lambda: day(30))

    return connect


@dataclass
class World:
    """A host whose clock the test moves."""

    now: datetime = START + timedelta(days=30)
    host: GitHubHost = field(init=False)
    id: int = field(init=False)

    def __post_init__(self) -> None:
        self.host = GitHubHost(lambda: self.now, token=TOKEN)
        self.id = self.host.add_repository(REPO)

    def ref(self, number: int, kind: str = "work_item") -> Ref:
        return Ref(kind, f"{self.id}/{number}")

    def issues(self, *at: float) -> None:
        for when in at:
            self.host.open_issue(REPO, day(when), f"At {when}")


@pytest.fixture
def world() -> World:
    return World()


def numbers(connector: GitHubConnector, since: datetime | None = None) -> list[list[int]]:
    """The pages of issues, without the first one (of milestones)."""
    _, *pages = connector.changed(REPO, since)
    return [[int(read.ref.id.partition("/")[2]) for read in page] for page in pages]


def contents(reads: Sequence[Read]) -> dict[Ref, Content]:
    return {read.ref: read.content for read in reads if read.content}


def everything(connector: GitHubConnector) -> dict[Ref, Content]:
    return contents([read for page in connector.changed(REPO, None) for read in page])


def test_it_is_a_connector(connect: Connect, world: World) -> None:
    connector: Connector = connect(world.host.app)
    assert connector.name == "github"
    assert connector.Settings is GitHubSettings
    assert world.host.requests == []


def test_a_full_read(connect: Connect, world: World) -> None:
    host = world.host
    milestone = host.add_milestone(REPO, "2.1", day(0), due_on=date(2026, 2, 2))
    bug = host.open_issue(REPO, day(1), "Login fails")
    host.assign(REPO, bug, day(2), ANN)
    host.set_milestone(REPO, bug, day(3), milestone)
    mend = host.open_pull(REPO, day(4), "Mend", head="APO-7", body="fixes #1", author=BEN)
    host.review(REPO, mend, day(5), "approved", ANN)
    host.merge(REPO, mend, day(6), BEN)
    first, second = connect(host.app).changed(REPO, None)
    assert [(read.ref, read.time) for read in first] == [(world.ref(1, "milestone"), None)]
    assert [(read.ref, read.time) for read in second] == [
        (world.ref(bug), day(3)),
        (world.ref(mend, "change_request"), day(6)),
    ]
    item, request = (read.content for read in second)
    assert isinstance(item, WorkItem)
    assert (item.assignee, item.milestone, item.status_category) == ("11", f"{world.id}/1", "in_progress")
    assert isinstance(request, ChangeRequest)
    assert (request.state, request.author, request.work_items) == ("merged", "12", ("APO-7", "octo/apollo#1"))
    assert [(each.state, each.reviewer, each.at) for each in request.reviews] == [("approved", "11", day(5))]


def test_how_much_there_is_to_read(connect: Connect, world: World) -> None:
    connector = connect(world.host.app)
    assert isinstance(connector, Counting)
    assert connector.count(REPO, None) == 0
    world.issues(1, 2, 3)
    world.host.open_pull(REPO, day(4), "Mend")
    assert [connector.count(REPO, since) for since in (None, day(3))] == [4, None], "only of all of them"


def test_it_is_github_s_clock(connect: Connect, world: World) -> None:
    world.now = day(3.5)
    assert connect(world.host.app).now() == day(3.5)


def test_long_lists_beside_an_issue_are_read_to_the_end(connect: Connect, world: World) -> None:
    world.issues(1)
    for turn in range(60):
        world.host.label(REPO, 1, day(2 + turn / 10), "blocked")
        world.host.unlabel(REPO, 1, day(2 + turn / 10), "blocked")
    for number in range(3):
        world.host.add_milestone(REPO, f"{number}", day(0))
    connector = connect(world.host.app, page_size=1)
    found = everything(connector)
    assert sorted(ref.kind for ref in found) == ["milestone", "milestone", "milestone", "work_item"]
    item = found[world.ref(1)]
    assert isinstance(item, WorkItem)
    assert (len(item.history), item.untracked) == (120, ())


@pytest.mark.parametrize(
    ("at", "pages"),
    [
        pytest.param((1, 2, 3), [[1, 2], [3]], id="a page each"),
        pytest.param((1, 2, 2, 3), [[1, 2], [3], [4]], id="one second on both sides of a page's end"),
        pytest.param((1, 1, 1, 1, 1, 2, 3), [[1, 2], [3, 4], [5, 6], [7]], id="a second longer than pages"),
        pytest.param((1, 1), [[1, 2]], id="exactly one page"),
        pytest.param((), [[]], id="nothing"),
    ],
)
def test_pages_by_keyset(connect: Connect, world: World, at: Sequence[float], pages: Sequence[Sequence[int]]) -> None:
    world.issues(*at)
    found = numbers(connect(world.host.app, page_size=2))
    assert [number for page in found for number in page] == [number for page in pages for number in page]
    assert all(len(page) <= 2 for page in found)


@pytest.mark.parametrize(("since", "expected"), [(1, [1, 2, 3, 4]), (2, [2, 3, 4]), (2.00002, [4]), (4, [])])
def test_since_counts_the_second_itself(connect: Connect, world: World, since: float, expected: Sequence[int]) -> None:
    world.issues(1, 2, 2, 3)
    found = numbers(connect(world.host.app, page_size=2), day(since))
    assert [number for page in found for number in page] == expected


def test_what_moves_while_we_read_is_not_skipped(connect: Connect, world: World) -> None:
    world.issues(1, 2, 3, 4, 5)
    world.host.comment(REPO, 1, day(31))
    pages = connect(world.host.app, page_size=2).changed(REPO, None)
    next(pages)
    assert [read.ref for read in next(pages)] == [world.ref(1), world.ref(2)]
    world.now = day(32)
    rest = [read.ref for page in pages for read in page]
    assert rest == [world.ref(3), world.ref(4), world.ref(5), world.ref(1)]


def test_a_sweep_names_everything_by_lists_alone(connect: Connect, world: World) -> None:
    world.host.add_milestone(REPO, "2.1", day(0))
    world.issues(*(number / 10 for number in range(103)))
    world.host.open_pull(REPO, day(2), "Mend")
    world.host.close(REPO, 5, day(20))
    connector = connect(world.host.app)
    marks = [mark for page in connector.sweep(REPO) for mark in page]
    assert len(world.host.requests) == 7
    assert {mark.ref: mark.time for mark in marks} == {
        read.ref: read.time for page in connector.changed(REPO, None) for read in page
    }
    assert len(marks) == len({mark.ref for mark in marks}) == 105


def test_fetch_gives_what_a_full_read_gives(connect: Connect, world: World) -> None:
    milestone = world.host.add_milestone(REPO, "2.1", day(0))
    world.issues(1)
    world.host.set_milestone(REPO, 1, day(2), milestone)
    world.host.open_pull(REPO, day(3), "Mend", draft=True)
    connector = connect(world.host.app)
    listed = [read for page in connector.changed(REPO, None) for read in page]
    assert list(connector.fetch([read.ref for read in listed])) == listed


def test_fetch_finds_what_is_gone_empty(connect: Connect, world: World) -> None:
    host = world.host
    host.add_repository("octo/other")
    host.open_issue("octo/other", day(0), "So that the one that moves in keeps its number")
    world.issues(1, 2, 3)
    host.delete(REPO, 1, day(4))
    assert host.transfer(REPO, 2, day(4), "octo/other") == 2
    host.delete_milestone(REPO, host.add_milestone(REPO, "2.1", day(0)), day(4))
    refs = [world.ref(1), world.ref(2), world.ref(99), world.ref(1, "milestone"), Ref("work_item", "nonsense")]
    refs.append(world.ref(3, "change_request"))  # there is an issue 3, and no pull request
    connector = connect(host.app)
    assert list(connector.fetch(refs)) == [Read(ref) for ref in refs]
    assert numbers(connector) == [[3]]
    assert [mark.ref for page in connector.sweep(REPO) for mark in page] == [world.ref(3)]


def test_a_lost_repository_is_no_deletion(connect: Connect, world: World) -> None:
    world.issues(1)
    world.host.remove_repository(REPO, day(2))
    connector = connect(world.host.app)
    with pytest.raises(Withheld, match="the token may not see it"):
        list(connector.fetch([world.ref(1)]))
    with pytest.raises(Withheld, match="the token may not see it"):
        list(connector.changed(REPO, None))


def test_a_lost_repository_withholds_its_own_things_only(connect: Connect, world: World) -> None:
    world.issues(1)
    lost = Ref("work_item", f"{world.host.add_repository('octo/lost')}/1")
    world.host.open_issue("octo/lost", day(1), "Lost")
    world.host.remove_repository("octo/lost", day(2))
    connector = connect(world.host.app)
    assert contents(list(connector.fetch([world.ref(1)])))
    for refs in ([lost], [world.ref(1), lost]):
        with pytest.raises(Withheld):
            list(connector.fetch(refs))


def test_a_repository_lost_while_we_read_is_no_deletion(connect: Connect, world: World) -> None:
    world.issues(1)
    world.host.remove_repository(REPO, day(31))
    world.host.clock = lambda: day(30 if len(world.host.requests) < 2 else 32)
    with pytest.raises(Fatal, match="the token may not see it"):
        list(connect(world.host.app).fetch([world.ref(1)]))


def test_issues_turned_off_are_no_deletion(connect: Connect, world: World) -> None:
    world.id = world.host.add_repository("octo/mute", has_issues=False)
    with pytest.raises(Withheld, match="turned off"):
        list(connect(world.host.app).fetch([world.ref(1)]))


def test_a_renamed_repository_is_read_on_under_its_configured_name(connect: Connect, world: World) -> None:
    world.issues(1)
    connector = connect(world.host.app)
    before = everything(connector)
    world.host.rename_repository(REPO, day(30), "octo/artemis")
    after = everything(connector)
    urls = {"url": "https://github.com/octo/artemis/issues/1"}
    assert after == {ref: content.model_copy(update=urls) for ref, content in before.items()}
    assert contents(list(connector.fetch([world.ref(1)]))) == after
    assert list(connector.check([REPO])) == [
        f"{REPO}: GitHub calls it octo/artemis; write that name in the configuration"
    ]


@pytest.mark.parametrize("container", [REPO, "Octo/Artemis"])
def test_a_fetch_before_any_listing_knows_the_names_that_it_was_told(
    connect: Connect, world: World, container: str
) -> None:
    world.issues(1)
    world.host.rename_repository(REPO, day(2), "octo/artemis")
    connector = connect(world.host.app)
    assert isinstance(connector, Naming)
    connector.expect([container, "octo/gone", "no repository"])
    assert world.host.requests == []
    for _ in range(2):
        (read,) = connector.fetch([world.ref(1)])
        assert read.content
        assert read.content.container == container
    asked = [request.path for request in world.host.requests if request.path.startswith("/repos/")]
    assert sorted(asked) == sorted([f"/repos/{container}", "/repos/octo/gone"])


def test_what_was_under_way_at_a_kill_is_no_deletion_though_the_name_differs(connect: Connect, world: World) -> None:
    class Killed(Exception):
        pass

    def kill(step: str) -> None:
        if step == "published":
            raise Killed

    routes, ledger, bus = {"Octo/Apollo": {"apollo": 1}}, MemoryLedger(), MemoryBus()
    world.issues(1)
    Pump(connect(world.host.app), ledger, bus, lambda: world.now, "reader").sync(routes)
    world.host.close(REPO, 1, world.now - timedelta(minutes=1))
    with pytest.raises(Killed):
        Pump(connect(world.host.app), ledger, bus, lambda: world.now, "reader", step=kill).sync(routes)
    restarted = connect(world.host.app)
    restarted.expect(routes)
    Pump(restarted, ledger, bus, lambda: world.now, "reader").sync(routes)
    assert not [event for event in bus.events if isinstance(event, Tombstone)]


def test_one_repository_under_two_names_is_read_under_one(connect: Connect, world: World) -> None:
    world.issues(1)
    world.host.rename_repository(REPO, day(2), "octo/artemis")
    connector = connect(world.host.app)
    connector.expect([REPO, "octo/artemis"])
    everything(connector)
    with pytest.raises(Withheld, match="are the same"):
        list(connector.changed("octo/artemis", None))
    everything(connector)


# --- the quota


def sync(pump: Pump, world: World) -> int:
    """A minute passes and a round is made; the requests that it cost."""
    world.now += timedelta(minutes=1)
    before = len(world.host.requests)
    pump.sync({REPO: {"apollo": 1}}, timedelta(days=9))
    return len(world.host.requests) - before


def pump_of(connector: GitHubConnector, world: World) -> tuple[Pump, MemoryBus]:
    bus = MemoryBus()
    return Pump(connector, MemoryLedger(), bus, lambda: world.now, "reader"), bus


def test_an_idle_round_costs_no_quota(connect: Connect, world: World) -> None:
    for n in range(3):
        world.host.add_milestone(REPO, f"2.{n}", day(0))
    world.issues(1, 2, 3)
    connector = connect(world.host.app, page_size=2)
    everything(connector)
    since = day(1)
    first = contents([read for page in connector.changed(REPO, since) for read in page])
    world.now += timedelta(minutes=1)
    used, asked = world.host._used.total(), len(world.host.requests)
    assert contents([read for page in connector.changed(REPO, since) for read in page]) == first
    statuses = [request.status for request in world.host.requests[asked:]]
    assert statuses == [304] * len(statuses)
    assert len(statuses) >= 5
    assert world.host._used.total() == used


def test_what_changed_is_read_though_it_was_kept(connect: Connect, world: World) -> None:
    world.issues(1)
    milestone = world.host.add_milestone(REPO, "2.0", day(0))
    connector = connect(world.host.app)
    everything(connector)
    world.host.update_milestone(REPO, milestone, world.now, title="2.1")
    world.host.open_issue(REPO, world.now, "New")
    world.now += timedelta(minutes=1)
    found = everything(connector).values()
    titles = {content.title for content in found if isinstance(content, Milestone | WorkItem)}
    assert titles == {"2.1", "At 1", "New"}


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditional, "MOST_BYTES", 10)
    answers = conditional.Answers()
    for request, text in (("a", "1234"), ("b", "1234"), ("a", "12"), ("c", "1234"), ("huge", "x" * 11)):
        answers.keep(request, {"etag": f"of {text}"}, text)
    assert [bool(answers.get(each)) for each in ("a", "b", "c", "huge")] == [True, True, True, False]
    answers.get("b")
    answers.keep("d", {"etag": "d"}, "1234")
    kept = [(each, found.etag) for each in "abcd" if (found := answers.get(each))]
    assert kept == [("b", "of 1234"), ("d", "d")], "a and c were wanted longest ago"
    answers.keep("b", {}, "1234")
    assert answers.get("b") is None, "without a validator it cannot be asked about"


def test_an_idle_round_costs_a_handful_of_requests(connect: Connect, world: World) -> None:
    for number in range(100):
        open_ = world.host.open_pull if number % 2 else world.host.open_issue
        open_(REPO, day(1), f"Number {number}")
    for number in range(100):  # a bot closes them all within minutes
        world.host.close(REPO, number + 1, day(29) + timedelta(seconds=2 * number))
    pump, bus = pump_of(connect(world.host.app), world)
    assert sync(pump, world) == 16, "what it takes to tell them all at once"
    told = len(bus.events)
    assert [sync(pump, world) for _ in range(5)] == [11, 11, 11, 11, 11], "four go through the last hundred events"
    world.host.comment(REPO, 7, world.now + timedelta(seconds=5))
    world.host.reopen(REPO, 8, world.now + timedelta(seconds=6))
    assert sync(pump, world) == 16, "4 for the pull request and 1 for the issue"
    # Once more, a minute after they changed; then no more. The poll has left the last hundred events behind.
    assert [sync(pump, world) for _ in range(3)] == [13, 8, 8]
    assert len(bus.events) == told + 1


def test_two_changes_within_one_second_are_both_seen(connect: Connect, world: World) -> None:
    world.issues(1)
    pump, bus = pump_of(connect(world.host.app), world)
    for _ in range(3):
        sync(pump, world)
    at = world.now + timedelta(seconds=60)
    world.host.label(REPO, 1, at, "bug")
    sync(pump, world)  # within the same second
    world.host.label(REPO, 1, at, "blocked")
    sync(pump, world)
    (read,) = (event.content for event in bus.events[-1:] if isinstance(event, Snapshot))
    assert isinstance(read, WorkItem)
    assert read.labels == ("bug", "blocked")


@pytest.mark.parametrize(("lost", "again"), [(1, [1, 2, 3]), (2, [3])])
def test_a_page_that_was_not_taken_is_read_again(
    connect: Connect, world: World, lost: int, again: Sequence[int]
) -> None:
    world.issues(1, 2, 3)
    connector = connect(world.host.app, page_size=2)
    listing = connector.changed(REPO, day(0))
    for _ in range(1 + lost):
        next(listing)
    listing.close()  # as when what it gave could not be published
    assert [number for page in numbers(connector, day(0)) for number in page] == again


def test_a_listing_of_everything_leaves_nothing_out(connect: Connect, world: World) -> None:
    world.issues(1, 2)
    connector = connect(world.host.app)
    assert numbers(connector, day(0)) == [[1, 2]]
    assert numbers(connector, day(0)) == [[]]
    assert numbers(connector) == [[1, 2]]
    assert numbers(connector, day(1)) == [[]]


def test_what_does_not_add_up_is_read_again_for_an_hour(connect: Connect, world: World) -> None:
    milestone = world.host.add_milestone(REPO, "2.1", day(0))
    world.issues(1)
    world.host.set_milestone(REPO, 1, day(2), milestone)
    world.host.delete_milestone(REPO, milestone, day(3))  # its issues are without it, which no event tells
    connector = connect(world.host.app)
    world.now = day(3)
    world.host.touch(REPO, 1, day(3))
    for hours, expected in ((0.5, [[1]]), (0.9, [[1]]), (1, [[1]]), (1.1, [[]])):
        world.now = day(3) + timedelta(hours=hours)
        assert numbers(connector, day(1)) == expected


def test_what_is_remembered_as_taken_is_bounded(
    connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(github_taken, "MOST_TAKEN", 2)
    world.issues(1, 2, 3)
    connector = connect(world.host.app)
    everything(connector)
    assert numbers(connector, day(0)) == [[1]]
    assert numbers(connector, day(2.5)) == [[]]
    assert numbers(connector, day(0)) == [[1, 2]], "what no listing showed any more is forgotten"


def test_check_says_what_is_wrong(connect: Connect, world: World) -> None:
    problems = list(connect(world.host.app).check([REPO, "octo/none", "octo", "octo/a/b", "Octo/Apollo"]))
    assert [problem.partition(":")[0] for problem in problems] == ["octo/none", "octo", "octo/a/b", "Octo/Apollo"]


def test_a_lagging_list_is_corrected_by_id(connect: Connect, world: World) -> None:
    world.issues(1)
    world.host.close(REPO, 1, day(2))
    world.now, world.host.index_lag = day(2), 60
    item = everything(connect(world.host.app))[world.ref(1)]
    assert isinstance(item, WorkItem)
    assert (item.status, item.untracked) == ("closed", ())


@pytest.mark.parametrize("moment", range(11))
@pytest.mark.parametrize("kind", ["work_item", "change_request"])
def test_a_change_between_two_requests_tears_nothing(connect: Connect, kind: str, moment: int) -> None:
    host = GitHubHost(lambda: day(2 if len(host.requests) < moment else 3), token=TOKEN)
    host.add_repository(REPO)
    milestone = host.add_milestone(REPO, "2.1", day(0))
    number = (
        host.open_issue(REPO, day(1), "x") if kind == "work_item" else host.open_pull(REPO, day(1), "x", draft=True)
    )
    host.set_milestone(REPO, number, day(3), milestone)
    host.ready_for_review(REPO, number, day(3))
    host.close(REPO, number, day(3))
    found = [content for ref, content in everything(connect(host.app)).items() if ref.kind == kind]
    for content in found:
        assert isinstance(content, WorkItem | ChangeRequest)
        assert content.untracked == ()
        agrees(content)
    assert len(found) == 1


def test_one_bad_thing_spoils_no_page(connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.issues(1, 2, 3)
    show = View.show_issue

    def broken(view: View, *thing: Any) -> dict[str, Any]:
        shown = show(view, *thing)
        return shown if shown["number"] != 2 else {**shown, "title": 5}

    monkeypatch.setattr(View, "show_issue", broken)
    connector = connect(world.host.app)
    _, reads = connector.changed(REPO, None)
    assert [(read.content is None, (read.problem or "").partition(":")[0]) for read in reads] == [
        (False, ""),
        (True, "issue.title"),
        (False, ""),
    ]
    assert json.loads(reads[1].raw)["issue"]["number"] == 2
    (fetched,) = connector.fetch([world.ref(2)])
    assert (fetched.problem, fetched.ref) == (reads[1].problem, reads[1].ref)


def test_what_goes_away_while_we_read_is_left_out(connect: Connect, world: World) -> None:
    world.issues(1, 2, 3)
    world.host.delete(REPO, 1, day(31))
    pages = connect(world.host.app, page_size=2).changed(REPO, None)
    next(pages)
    world.host.requests.clear()
    world.host.clock = lambda: day(30 if len(world.host.requests) < 1 else 32)
    assert [read.ref for page in pages for read in page] == [world.ref(2), world.ref(3)]


@pytest.mark.parametrize("after", range(8))
@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ("primary", 1800),
        ("secondary", RETRY_AFTER),
        ("too_many", RETRY_AFTER),
        ("500", None),
        ("502", None),
        ("html", None),
        ("truncated", None),
    ],
)
def test_trouble_is_worth_another_try(
    connect: Connect, world: World, fault: Any, seconds: float | None, after: int
) -> None:
    world.now += timedelta(minutes=30)
    world.issues(1)
    world.host.open_pull(REPO, day(2), "Mend")
    connector = connect(world.host.app)
    world.host.fail(fault, after=after)
    with pytest.raises(Retryable) as caught:
        everything(connector)
    assert caught.value.after == seconds
    no_secret(caught.value)
    assert len(everything(connector)) == 2


def no_secret(error: BaseException) -> None:
    seen: BaseException | None = error
    while seen is not None:
        assert TOKEN not in repr(seen) + str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


def test_a_real_quota_runs_out(connect: Connect, world: World) -> None:
    world.host.rate_limit = 3
    world.issues(1, 2, 3)
    with pytest.raises(Retryable) as caught:
        everything(connect(world.host.app))
    assert caught.value.after == 3600


def test_a_refused_token_is_fatal_and_not_told(connect: Connect, world: World) -> None:
    world.host.token = "another"
    connector = connect(world.host.app)
    for ask in (connector.now, lambda: list(connector.changed(REPO, None)), lambda: list(connector.sweep(REPO))):
        with pytest.raises(Fatal, match=r"auth\.token") as caught:
            ask()
        no_secret(caught.value)
    (line,) = connector.check([REPO])
    assert "401" in line
    assert TOKEN not in line


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "naïve"])
def test_a_token_that_no_header_can_carry_is_fatal(tmp_path: Path, token: str) -> None:
    (tmp_path / "token").write_text(token)
    auth = GitHubAuth(token=SecretRef(file=tmp_path / "token"))
    with pytest.raises(Fatal, match=r"auth\.token") as caught:
        GitHubConnector.connect(GitHubSettings(name="github", auth=auth), lambda: day(0))
    assert not token or token not in str(caught.value)


def test_nobody_there_is_retryable(connect: Connect, world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connector = connect(world.host.app, url=f"http://127.0.0.1:{port}")
    with pytest.raises(Retryable, match="it refuses connections; check the address"):
        connector.now()


def test_silence_is_retryable(connect: Connect, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(github_client, "TIMEOUT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connector = connect(world.host.app, url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(Retryable, match="it did not answer in time"):
            connector.now()


def strange(link: str, headers: Mapping[str, str] | None = None) -> Starlette:
    """A host whose lists never end as they should."""

    async def answer(request: Request) -> Response:
        if request.url.path.startswith("/repos/"):
            return JSONResponse({"id": 7, "full_name": REPO, "has_issues": True})
        if request.url.path.endswith("/milestones"):
            return JSONResponse([])
        page = link.format(base=str(request.base_url).rstrip("/"), path=request.url.path)
        return JSONResponse([], headers={"link": f'<{page}>; rel="next"', **(headers or {})})

    return Starlette(routes=[Route("/{path:path}", answer)])


@pytest.mark.parametrize(
    ("link", "kind", "message"),
    [
        ("{base}{path}?page=2", Retryable, "circle"),
        ("http://127.0.0.1:1{path}?page=2", Fatal, "another host"),
    ],
)
def test_pages_that_never_end(connect: Connect, link: str, kind: type[Exception], message: str) -> None:
    connector = connect(strange(link))
    with pytest.raises(kind, match=message):
        list(connector.sweep(REPO))
    with pytest.raises(kind, match=message):
        list(connector.changed(REPO, None))


def test_json_that_is_nested_without_measure_is_retryable(connect: Connect) -> None:
    async def answer(_: Request) -> Response:
        return Response("[" * 100_000, media_type="application/json")

    with pytest.raises(Retryable, match="no JSON"):
        connect(Starlette(routes=[Route("/{path:path}", answer)])).now()


@pytest.mark.parametrize("reset", ["soon", "9" * 400])
def test_headers_that_cannot_be_read_are_retryable(connect: Connect, reset: str) -> None:
    connector = connect(strange("{base}{path}?page=2", {"x-ratelimit-reset": reset}))
    with pytest.raises(Retryable, match="headers"):
        list(connector.sweep(REPO))


# --- histories against snapshots

TRACKED = {
    "work_item": ("status", "status_category", "assignee", "milestone", "blocked"),
    "change_request": ("state", "draft", "milestone"),
}
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "open", "pull", "assign", "assign", "assign", "unassign", "label", "unlabel", "milestone", "milestone", "no milestone", "close",
                "reopen", "comment", "merge", "draft", "ready", "ask", "ask", "withdraw", "review", "rename milestone", "delete milestone",
            ]
        ),
        st.integers(0, 3),
        st.integers(0, 3),
        st.sampled_from([0, 0, 1, 7, 3600]),
    ),
    min_size=25,
    max_size=80,
)  # fmt: skip
REASONS = ("completed", "not_planned", "duplicate", "completed")


PEOPLE = (ANN, BEN, User("cid", 13), ANN)


class Story:
    """Plays random steps in a world; remembers which milestone ever bore which title."""

    def __init__(self) -> None:
        self.world = World()
        self.now = START
        self.bearers: dict[str, str] = {}
        self.open: dict[int, str] = {}
        self.miles: list[int] = []
        self.made = 0
        self.disturbed = False

    def play(self, step: str, which: int, what: int, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        host, at = self.world.host, self.now
        if len(self.miles) < 3:
            self.made += 1
            self.miles.append(host.add_milestone(REPO, self.title(self.made), at))
        if not self.open or (step in ("open", "pull") and len(self.open) < 5):
            opened = host.open_pull if step == "pull" else host.open_issue
            self.open[opened(REPO, at, step)] = "pull" if step == "pull" else "issue"
        elif step not in ("open", "pull"):
            self.change(step, sorted(self.open)[which % len(self.open)], what, at)

    def title(self, mile: int) -> str:
        title = f"m{len(self.bearers)}"
        self.bearers[f"title:{title}"] = f"{self.world.id}/{mile}"
        return title

    def change(self, step: str, number: int, what: int, at: datetime) -> None:
        host, user, whom = self.world.host, PEOPLE[what], (*PEOPLE[:3], Team("all", 11, PEOPLE))[what]
        if step in ("ask", "withdraw", "review"):  # which of two came first within a second GitHub does not tell
            self.now = at = at + timedelta(seconds=1)
        mile = self.miles[what % len(self.miles)]
        item = host._repository(REPO).items[number]
        state, is_pull = item.states[-1], item.head is not None
        changes: dict[str, Callable[[], Any]] = {
            "assign": lambda: host.assign(REPO, number, at, user),
            "unassign": lambda: host.unassign(REPO, number, at, user),
            "label": lambda: host.label(REPO, number, at, "blocked" if what else "bug"),
            "unlabel": lambda: host.unlabel(REPO, number, at, "blocked" if what else "bug"),
            "milestone": lambda: host.set_milestone(REPO, number, at, mile),
            "no milestone": lambda: host.set_milestone(REPO, number, at, None),
            "close": lambda: None if is_pull and state.closed_at else host.close(REPO, number, at, REASONS[what]),
            "reopen": lambda: host.reopen(REPO, number, at) if state.closed_at and not state.merged_at else None,
            "comment": lambda: host.comment(REPO, number, at),
            "merge": lambda: host.merge(REPO, number, at) if is_pull and not state.closed_at else None,
            "draft": lambda: host.convert_to_draft(REPO, number, at) if is_pull and not state.draft else None,
            "ready": lambda: host.ready_for_review(REPO, number, at) if is_pull and state.draft else None,
            "ask": lambda: host.ask_review(REPO, number, at, whom) if is_pull else None,
            "withdraw": lambda: host.withdraw_review(REPO, number, at, whom) if is_pull else None,
            "review": lambda: host.review(REPO, number, at, "commented", user) if is_pull else None,
            "rename milestone": lambda: self.rename(mile, at),
            "delete milestone": lambda: self.delete(mile, at),
        }
        self.disturbed |= step in ("rename milestone", "delete milestone")
        changes[step]()

    def asked(self, number: int, at: datetime) -> list[str]:
        """Who was asked for a review then, as the stand-in itself knows it."""
        states = self.world.host._repository(REPO).items[number].states
        state = [state for state in states if state.at <= at][-1]
        return sorted(f"team:{each.id}" if isinstance(each, Team) else str(each.id) for each in state.asked)

    def rename(self, mile: int, at: datetime) -> None:
        self.world.host.update_milestone(REPO, mile, at, title=self.title(mile))

    def delete(self, mile: int, at: datetime) -> None:
        self.world.host.delete_milestone(REPO, mile, at)
        self.miles.remove(mile)


def as_of(content: WorkItem | ChangeRequest, name: str, at: datetime) -> Any:
    after = [change for change in content.history if change.field == name and change.at > at]
    return after[0].old if after else getattr(content, name)


@settings(max_examples=40)
@given(steps=STEPS, part=st.floats(0, 1), page_size=st.integers(1, 4))
def test_replaying_a_history_gives_what_was_seen_then(
    connect: Connect, steps: Sequence[tuple[str, int, int, int]], part: float, page_size: int
) -> None:
    story = Story()
    for step in steps:
        story.play(*step)
    connector, world = connect(story.world.host.app, page_size), story.world
    world.now = story.now
    end = everything(connector)
    assert set(end) == {mark.ref for page in connector.sweep(REPO) for mark in page}
    world.now = START + timedelta(seconds=int((story.now - START).total_seconds() * part))
    for ref, then in everything(connector).items():
        now = end.get(ref)
        if not isinstance(then, WorkItem | ChangeRequest):
            continue
        assert isinstance(now, WorkItem | ChangeRequest)
        agrees(now)
        assert set(now.untracked) <= ({"milestone"} if story.disturbed else set())
        for name in set(TRACKED[ref.kind]) - set(now.untracked):
            expected = as_of(now, name, world.now)
            assert story.bearers.get(expected, expected) == getattr(then, name), (ref, name)
        if isinstance(now, ChangeRequest) and isinstance(then, ChangeRequest):
            told = [each for each in now.review_requests if each.at <= world.now]
            asked = [each.reviewer for each in told if each.until is None or each.until > world.now]
            assert sorted(asked) == sorted(each.reviewer for each in then.review_requests if each.until is None)
            assert sorted(asked) == story.asked(int(ref.id.partition("/")[2]), world.now), ref


def test_changes_are_events_of_the_vocabulary() -> None:
    (change,) = translate_issue(HOME, issue(labels=[{"name": "blocked"}]), events("labeled blocked")).history
    assert change == Change(field="blocked", old=False, new=True, at=day(1), id="901")
