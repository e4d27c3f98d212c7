"""The view of a project: what it shows of odd things, and what it must not make up."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from builders import JIRA, NOW, at, done, entry, item, milestone, state

from pmsync.core.events import CONFIGURATION, Meaning, Occurrence, Project, Promise, Thing, body
from pmsync.core.exports import rows
from pmsync.core.project import Key, Row, item_at, load, local_day, segments, view
from pmsync.core.rules import episodes

MAPPING = {JIRA: {"APO": 1}, "elsewhere": {"APO": 1}}


def test_a_promise_stands_for_every_milestone_of_its_title() -> None:
    """Two sources may each have a milestone of the same name."""
    promise = Promise(key="beta", title="Beta", due_date=date(2026, 5, 1))
    milestones = [milestone(ident, "2026-04-01", title=title) for ident, title in (("m1", "Beta"), ("m2", "beta"))]
    shown = view(state([], milestones, promises=[promise]), NOW)
    assert [(d.thing.id, d.due_date) for d in shown.deadlines] == [("m1", promise.due_date), ("m2", promise.due_date)]


def test_rows_of_a_kind_that_only_a_newer_pmsync_knows_are_left_to_it() -> None:
    own = {Key("p", CONFIGURATION, "project", "p", 0): Row(1, False, body(Project(key="p", name="P")))}
    newer = {Key("p", JIRA, "risk_register", "1", at): Row(1, False, '{"what": "it says"}') for at in (0, 1)}
    assert load(own | newer) == load(own) is not None


def test_a_deadline_twice_on_a_day_is_one() -> None:
    thing, content = entry("e", Meaning.deadline, date(2026, 3, 20), recurring=True)
    twice = content.model_copy(
        update={"occurrences": (*content.occurrences, Occurrence(start=NOW.replace(day=20), end=NOW.replace(day=21)))}
    )
    assert [d.thing.id for d in view(state([], [], [(thing, twice)]), NOW).deadlines] == ["e@2026-03-20"]


@pytest.mark.parametrize(
    ("missing", "known"),
    [
        ({}, {"started_at", "resolved_at", "delay_days"}),
        ({"history_cut": True}, {"started_at", "resolved_at", "delay_days"}),
        ({"history_cut": True, "history": ()}, set[str]()),
        ({"untracked": ("status_category",)}, set[str]()),
    ],
)
def test_a_past_that_is_not_whole_is_not_made_up(missing: dict[str, object], known: set[str]) -> None:
    thing, content = item("1", [(NOW, "status_category", "done")], due_date="2026-03-02")
    (row,) = rows("work_items", state([(thing, content.model_copy(update=missing))]), NOW, NOW)
    assert row["status_category"] == "done"
    assert {name for name in ("started_at", "resolved_at", "delay_days") if row[name] is not None} == known


def test_nobody_knows_that_an_untracked_status_is_stale() -> None:
    thing, content = item("1", status_category="in_progress")
    assert [e.rule for e in episodes(state([(thing, content)]), NOW)] == ["stale"]
    untracked = content.model_copy(update={"untracked": ("status_category",)})
    assert episodes(state([(thing, untracked)]), NOW) == ()


def test_what_blocks_an_item_is_judged_as_of_the_view() -> None:
    def by(key: str, since: datetime | None = None, until: datetime | None = None) -> dict[str, object]:
        return {"relation": "blocked_by", "key": key, "since": since, "until": until}

    links = [
        by("APO-2", at("2026-02-02")),
        by("APO-3", at("2026-02-02")),
        by("APO-4", until=at("2026-02-05")),
        by("ZEU-9", at("2026-02-04")),
        {"relation": "relates to", "key": "APO-4"},
    ]
    moved = [(at("2026-02-10"), "key", "APO-3"), (at("2026-02-12"), "status_category", "dropped")]
    items = [
        item("1", links=links),
        done("2", at("2026-02-08")),
        item("3", moved, key="OLD-3"),
        item("4"),
        (Thing("elsewhere", "work_item", "9"), item("9", key="ZEU-9")[1]),
    ]
    seen = {}
    for day in ("2026-02-01", "2026-02-02", "2026-02-05", "2026-02-09", "2026-02-11", "2026-02-13"):
        found = next(i for i in view(state(items, mapping=MAPPING), at(day)).items if i.thing.id == "1")
        seen[day] = (found.blocked_by, found.blockers, found.unknown_blockers)
    assert seen == {
        "2026-02-01": (("APO-4",), ("APO-4",), ()),
        "2026-02-02": (("APO-2", "APO-4", "OLD-3"), ("APO-2", "APO-4", "OLD-3"), ()),
        "2026-02-05": (("APO-2", "OLD-3", "ZEU-9"), ("APO-2", "OLD-3"), ("ZEU-9",)),
        "2026-02-09": (("APO-2", "OLD-3", "ZEU-9"), ("OLD-3",), ("ZEU-9",)),
        "2026-02-11": (("APO-2", "APO-3", "ZEU-9"), ("APO-3",), ("ZEU-9",)),
        "2026-02-13": (("APO-2", "APO-3", "ZEU-9"), (), ("ZEU-9",)),
    }


def test_a_link_that_was_removed_names_an_old_key() -> None:
    renamed = item("2", [(at("2026-02-10"), "key", "NEW-2")], key="OLD-2")
    link = {"relation": "blocked_by", "key": "OLD-2", "since": at("2026-02-02"), "until": at("2026-02-04")}
    (found, _) = view(state([item("1", links=[link]), renamed]), at("2026-02-03")).items
    assert (found.blocked_by, found.blockers) == (("OLD-2",), ("OLD-2",))


def test_a_link_keeps_an_old_key_until_its_own_item_changes() -> None:
    """The other item got a new key since, was moved and done; the one with the link was not touched by that."""
    moves = [
        (at("2026-02-10"), "key", "NEW-2"),
        (at("2026-02-11"), "key", "NEWER-2"),
        (at("2026-02-12"), "status_category", "done"),
    ]
    for key in ("OLD-2", "NEW-2", "NEWER-2"):
        link = {"relation": "blocked_by", "key": key, "since": at("2026-02-02")}
        known = state([item("1", links=[link]), item("2", moves, key="OLD-2")])
        seen = [
            next(i for i in view(known, at(day)).items if i.thing.id == "1") for day in ("2026-02-05", "2026-02-13")
        ]
        assert [(i.blocked_by, i.blockers, i.unknown_blockers) for i in seen] == [
            (("OLD-2",), ("OLD-2",), ()), (("NEWER-2",), (), ()),
        ], key  # fmt: skip


def test_logged_work_cuts_no_life_of_an_item() -> None:
    moves = [(at("2026-02-02", n), "time_spent", n * 60) for n in range(1, 20)]
    thing, content = item("1", [*moves, (at("2026-02-03"), "status_category", "done")])
    assert [part.start for part in segments(item_at(thing, content, NOW), NOW)] == [
        content.created_at,
        at("2026-02-03"),
    ]


@pytest.mark.parametrize(
    ("when", "zone"),
    [(datetime(1, 1, 1, tzinfo=UTC), "America/New_York"), (datetime(9999, 12, 31, 23, tzinfo=UTC), "Asia/Tokyo")],
)
def test_the_ends_of_time_have_a_day(when: datetime, zone: str) -> None:
    """.NET's DateTime.MinValue gets into sources; one such thing must not stop an aggregator."""
    assert local_day(when, ZoneInfo(zone)) == when.date()
