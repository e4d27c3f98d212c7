"""Export rows: the columns that others rely on, as of any instant."""

import json
from datetime import date
from typing import Any

import pytest
from builders import (
    NOW,
    START,
    Item,
    acknowledgement,
    any_items,
    at,
    deployment,
    done,
    entry,
    item,
    milestone,
    release,
    state,
    workflow_run,
)
from hypothesis import given, settings

from pmsync.core.claims import claimed
from pmsync.core.events import Change, ChangeRequest, Meaning, Review, ReviewRequest, Snapshot, Thing, version_at
from pmsync.core.exports import HISTORY, TABLES, rows
from pmsync.core.project import ProjectState, fold
from pmsync.core.rules import episodes

CONTRACT = {
    "work_items": "source key project type title status status_category assignee created_at started_at resolved_at due_date "
    "estimate milestone sprint lead_time_seconds cycle_time_seconds delay_days blocked_by time_estimate_seconds "
    "time_spent_seconds time_left_seconds",
    "transitions": "source key field from to at",
    "worklogs": "project source key id started_at seconds by created_at",
    "change_requests": "source key project state created_at review_requested_at first_review_at merged_at closed_at work_items",
    "deployments": "source id project container environment ref sha url production created_at state finished_at",
    "releases": "source id project container key title url created_at published_at draft prerelease",
    "workflow_runs": (
        "source id project container workflow name number title url branch event sha created_at state finished_at attempts"
    ),
    "alerts": "fingerprint rule project subject state since evidence",
}


def read(table: str, known: ProjectState, when: Any = NOW) -> list[dict[str, Any]]:
    return list(rows(table, known, when, NOW))


@pytest.mark.parametrize("table", CONTRACT)
def test_the_columns_that_others_rely_on(table: str) -> None:
    assert set(CONTRACT[table].split()) <= set(TABLES[table])


def test_columns_with_history_are_columns() -> None:
    assert HISTORY.keys() == TABLES.keys()
    for table, columns in HISTORY.items():
        assert set(columns) <= set(TABLES[table])


def test_a_work_item_as_of_two_instants() -> None:
    known = state(
        [
            item(
                "1",
                [
                    (at("2026-01-06", 9), "status_category", "in_progress"),
                    (at("2026-01-08", 9), "status_category", "done"),
                ],
                due_date="2026-01-05",
                estimate=2500,
            )
        ]
    )
    (now,) = read("work_items", known)
    assert now | {
        "source": "jira", "key": "APO-1", "project": "apollo", "estimate": 2.5, "created_at": "2026-01-05T09:00:00Z",
        "started_at": "2026-01-06T09:00:00Z", "resolved_at": "2026-01-08T09:00:00Z", "due_date": "2026-01-05",
        "cycle_time_seconds": 2 * 86_400, "lead_time_seconds": 3 * 86_400, "delay_days": 3,
    } == now  # fmt: skip
    (then,) = read("work_items", known, at("2026-01-07"))
    assert (then["status_category"], then["resolved_at"], then["delay_days"]) == ("in_progress", None, 2)
    assert (then["lead_time_seconds"], then["cycle_time_seconds"]) == (None, None)
    assert not read("work_items", known, at("2026-01-05", 8))


def test_working_time_as_of_two_instants() -> None:
    logged = [(at("2026-01-08"), "time_spent", 3600), (at("2026-01-08"), "time_left", 1800)]
    known = state([item("1", logged, time_estimate=7200, time_spent=None, time_left=7200)])
    columns = ("time_estimate_seconds", "time_spent_seconds", "time_left_seconds")
    seen = [
        [row[name] for name in columns] for when in (at("2026-01-07"), NOW) for row in read("work_items", known, when)
    ]
    assert seen == [[7200, None, 7200], [7200, 3600, 1800]]


def test_time_counts_from_when_it_was_logged_whenever_it_was_spent() -> None:
    early = {"id": "8", "created_at": at("2026-01-08"), "started_at": at("2026-01-07"), "seconds": 600, "by": "acc-1"}
    late = {"id": "9", "created_at": at("2026-01-12"), "started_at": at("2026-01-06"), "seconds": 60}
    known = state(
        [
            item("2", worklogs=[early]),
            item("1", [(at("2026-01-10"), "key", "APO-9")], key="APO-1", worklogs=[early, late]),
        ]
    )
    days = ("2026-01-07", "2026-01-09", "2026-01-13")
    shown = [[(r["key"], r["id"]) for r in read("worklogs", known, at(day))] for day in days]
    assert shown == [
        [],
        [("APO-1", "8"), ("APO-2", "8")],
        [("APO-2", "8"), ("APO-9", "9"), ("APO-9", "8")],  # by when the work was begun
    ]
    assert read("worklogs", known)[1] == {
        "source": "jira", "key": "APO-9", "project": "apollo", "id": "9", "started_at": "2026-01-06T12:00:00Z", "seconds": 60,
        "by": None, "created_at": "2026-01-12T12:00:00Z",
    }  # fmt: skip


def test_what_an_item_is_blocked_by_as_of_two_instants() -> None:
    link = {"relation": "blocked_by", "key": "ZEU-7", "since": at("2026-01-08"), "until": at("2026-01-10")}
    known = state([item("1", links=[link, link | {"key": "APO-2", "until": None}]), done("2", at("2026-01-12"))])
    days = ("2026-01-07", "2026-01-09", "2026-01-13")
    assert [read("work_items", known, at(day))[0]["blocked_by"] for day in days] == [[], ["APO-2", "ZEU-7"], ["APO-2"]]


@pytest.mark.parametrize(
    ("subject", "delay"),
    [
        (item(due_date="2026-03-16"), None),
        (item(due_date="2026-03-13"), 3),
        (item(), None),
        (done("1", at("2026-03-10", 23), due_date="2026-03-12"), -1),  # already the 11th in Berlin
        (item("1", [(NOW, "status_category", "dropped")], due_date="2026-03-01"), None),
    ],
)
def test_delay_days(subject: Item, delay: int | None) -> None:
    assert read("work_items", state([subject], time_zone="Europe/Berlin"))[0]["delay_days"] == delay


def test_transitions_are_those_that_had_happened() -> None:
    moves = [(at("2026-01-06"), "estimate", 1000), (at("2026-01-07"), "due_date", "2026-02-01")]
    known = state([item("2", moves), item("1", moves[:1])])
    assert [(r["key"], r["field"], r["from"], r["to"], r["at"]) for r in read("transitions", known)] == [
        ("APO-1", "estimate", None, 1000, "2026-01-06T12:00:00Z"),
        ("APO-2", "estimate", None, 1000, "2026-01-06T12:00:00Z"),
        ("APO-2", "due_date", None, "2026-02-01", "2026-01-07T12:00:00Z"),
    ]
    assert len(read("transitions", known, at("2026-01-06", 13))) == 2


def test_milestones_carry_their_forecast_or_why_there_is_none() -> None:
    past = [done(f"d{n}", at(f"2026-03-{n:02}"), created=START) for n in range(2, 7)]
    known = state([*past, item("w", milestone="m1")], [milestone("m2", "2026-06-01"), milestone("m1", "2026-12-01")])
    first, second = read("milestones", known)
    assert first["p85"]
    assert (first["open"], first["done_share"], first["forecast_reason"]) == (1, 0.0, None)
    assert (second["p85"], second["forecast_reason"], second["done_share"]) == (None, "no items", None)


def test_change_requests() -> None:
    request = ChangeRequest(
        key="acme/apollo#1", container="APO", title="Fix", created_at=START, state="merged", merged_at=NOW, closed_at=NOW,
        work_items=("APO-1",), reviews=(Review(id="1", at=at("2026-01-06"), state="approved"),), author="x",
    )  # fmt: skip
    known = state()
    known = ProjectState(
        known.project, {**known.things, "change_request": [(Thing("jira", "change_request", "1"), request)]}
    )
    (row,) = read("change_requests", known)
    assert (row["merged_at"], row["first_review_at"]) == ("2026-03-16T12:00:00Z", "2026-01-06T12:00:00Z")
    assert row["work_items"] == ["APO-1"]


@pytest.mark.parametrize(
    ("then", "since"),
    [
        ("2026-01-05", None),
        ("2026-01-07", "2026-01-06"),
        ("2026-01-09", "2026-01-08"),
        ("2026-01-11", "2026-01-10"),
        ("2026-01-13", None),
    ],
)
def test_since_when_a_change_request_waits_for_its_review(then: str, since: str | None) -> None:
    asked = [("x", "2026-01-06", "2026-01-08"), ("y", "2026-01-08", "2026-01-10"), ("x", "2026-01-10", None)]
    closed = {"field": "state", "from": "open", "to": "closed", "at": at("2026-01-12"), "id": "1"}
    request = ChangeRequest(
        key="acme/apollo#1", container="APO", title="Fix", created_at=START, state="closed", history=(Change.model_validate(closed),),
        review_requests=tuple(
            ReviewRequest(reviewer=who, at=at(day), until=at(end) if end else None) for who, day, end in asked
        ),
    )  # fmt: skip
    known = state()
    known = ProjectState(
        known.project, {**known.things, "change_request": [(Thing("jira", "change_request", "1"), request)]}
    )
    (row,) = read("change_requests", known, at(then))
    assert row["review_requested_at"] == (since and f"{since}T12:00:00Z")


def test_a_deployment_as_of_its_states() -> None:
    states = [
        (at("2026-01-06"), "queued"),
        (at("2026-01-07"), "failure"),
        (at("2026-01-08"), "success"),
        (at("2026-01-09"), "inactive"),
    ]
    known = state(
        deployments=[deployment("2"), deployment("1", states, environment="eu", production=False, creator="7")]
    )

    def seen(day: str) -> list[tuple[Any, ...]]:
        return [(r["id"], r["state"], r["finished_at"]) for r in read("deployments", known, at(day))]

    failed = "2026-01-07T12:00:00Z"
    assert seen("2026-01-04") == []
    assert seen("2026-01-05") == [("1", "pending", None), ("2", "pending", None)]
    assert seen("2026-01-06") == [("1", "queued", None), ("2", "pending", None)]
    assert seen("2026-01-07") == [("1", "failure", failed), ("2", "pending", None)]
    assert seen("2026-01-08") == [("1", "success", failed), ("2", "pending", None)], "it ended first when it failed"
    assert seen("2026-01-09") == [("1", "inactive", failed), ("2", "pending", None)]
    row, _ = read("deployments", known)
    assert row | {
        "container": "APO", "environment": "eu", "ref": "v1", "sha": "5ca1ab1e", "production": False, "creator": "7",
        "created_at": "2026-01-05T09:00:00Z",
    } == row  # fmt: skip


def test_a_release_as_it_was_read_by_then() -> None:
    thing, draft = release("1")
    _, out = release("1", at("2026-01-08"), title="One", prerelease=True)
    known = state(releases=[(thing, out), release("2", at("2026-01-07"), container="elsewhere")])
    kept = {thing: [(version_at(at(day)), each) for day, each in (("2026-01-06", draft), ("2026-01-09", out))]}
    known = ProjectState(known.project, known.things, kept, ())
    shown = [
        [(r["key"], r["title"], r["draft"], r["published_at"]) for r in read("releases", known, at(day))]
        for day in ("2026-01-04", "2026-01-06", "2026-01-09")
    ]
    assert shown == [[], [("v1", "Version 1", True, None)], [("v1", "One", False, "2026-01-08T12:00:00Z")]]


def test_every_version_that_is_read_of_a_release_is_kept() -> None:
    versions = {version_at(at(day)): release("1", out) for day, out in (("2026-01-06", None), ("2026-01-09", NOW))}
    told = [
        Snapshot(project="apollo", thing=thing, version=version, content=content)
        for version, (thing, content) in versions.items()
    ]
    assert sorted(key.at for key in fold(map(claimed, told))) == [0, *versions]


def test_a_release_that_was_read_later_is_there_from_its_publication_on() -> None:
    known = state(releases=[release("1", at("2026-01-08"))])
    assert [len(read("releases", known, at(day))) for day in ("2026-01-07", "2026-01-08")] == [0, 1]


def test_a_workflow_run_as_of_its_attempts() -> None:
    tries = [(at("2026-01-06"), at("2026-01-07"), "failure"), (at("2026-01-08"), None, "waiting")]
    elsewhere = workflow_run("9", (START, None, "queued"), container="elsewhere")
    known = state(runs=[elsewhere, workflow_run("1", *tries, created=at("2026-01-05"), title="Mend it")])

    def seen(day: str) -> list[tuple[Any, ...]]:
        return [
            (
                r["state"],
                r["finished_at"],
                [(each["number"], each["state"], each["ended_at"]) for each in r["attempts"]],
            )
            for r in read("workflow_runs", known, at(day))
        ]

    failed = "2026-01-07T12:00:00Z"
    assert seen("2026-01-04") == []
    assert seen("2026-01-05") == [("queued", None, [])]
    assert seen("2026-01-06") == [("in_progress", None, [(1, "in_progress", None)])]
    assert seen("2026-01-07") == [("failure", failed, [(1, "failure", failed)])]
    assert seen("2026-01-08") == [("waiting", None, [(1, "failure", failed), (2, "waiting", None)])]
    (row,) = read("workflow_runs", known)
    assert row | {
        "container": "APO", "workflow": "7", "name": "CI", "number": 1, "title": "Mend it", "branch": "main",
        "event": "push", "sha": "5ca1ab1e", "created_at": "2026-01-05T12:00:00Z",
    } == row  # fmt: skip


def test_calendar_entries_of_days_and_of_hours() -> None:
    calendar = [
        entry("b", Meaning.holiday, date(2026, 5, 1)),
        entry("a", Meaning.meeting, at("2026-05-04", 9), at("2026-05-04", 10)),
    ]
    assert [
        (r["id"], r["all_day"], r["start"], r["end"], r["title"]) for r in read("calendar", state([], [], calendar))
    ] == [
        ("a", False, "2026-05-04T09:00:00Z", "2026-05-04T10:00:00Z", None),
        ("b", True, "2026-05-01", "2026-05-02", None),
    ]


def test_alerts_know_answers_given_by_then() -> None:
    items = [item("1", due_date="2026-03-11")]
    fingerprint = next(e.fingerprint for e in episodes(state(items), NOW) if e.rule == "overdue")
    known = state(items, facts=[acknowledgement(fingerprint, at("2026-03-13"))])
    then = {r["fingerprint"]: r["state"] for r in read("alerts", known, at("2026-03-12"))}
    now = {r["fingerprint"]: r for r in read("alerts", known)}
    assert (then[fingerprint], now[fingerprint]["state"]) == ("firing", "acknowledged")
    assert now[fingerprint]["subject"] == "jira/work_item/1"
    assert now[fingerprint]["evidence"]["items"] == ["APO-1"]
    assert (now[fingerprint]["by"], now[fingerprint]["note"]) == ("ada", None)


@given(any_items())
@settings(max_examples=30)
def test_rows_are_plain_values_in_an_order_of_their_own(items: list[Item]) -> None:
    due, runs = [milestone("m1", "2026-03-20"), milestone("m2", "2026-05-01")], [deployment("1"), deployment("2")]
    out = [release("1", NOW), release("2", NOW)]
    tried = [workflow_run(ident, (START, NOW, "failure")) for ident in ("1", "2")]
    known = state(items, due, deployments=runs, releases=out, runs=tried)
    shuffled = state(items[::-1], due[::-1], deployments=runs[::-1], releases=out[::-1], runs=tried[::-1])
    for table, columns in TABLES.items():
        found = read(table, known)
        assert json.dumps(found) == json.dumps(read(table, shuffled)), table
        assert all(tuple(row) == columns for row in found)
