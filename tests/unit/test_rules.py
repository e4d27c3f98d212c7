"""Episodes: when each rule is true, since when, and what it says."""

import json
import random
from collections import Counter
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from builders import NOW, START, Item, any_items, at, done, entry, item, milestone, state
from hypothesis import given, settings
from hypothesis import strategies as st

from pmsync.core.events import Meaning, StatusCategory, Thing, version_at
from pmsync.core.measures.forecast import Forecast, forecast
from pmsync.core.project import ProjectState, view
from pmsync.core.rules import RULES, Episode, _context, episodes, outlook
from pmsync.core.rules.episode import likely, spoken
from pmsync.core.rules.outlook import is_late

OLD = at("2025-06-02")
BERLIN = "Europe/Berlin"


def said(known: ProjectState, rule: str = "", now: datetime = NOW) -> list[Episode]:
    return [episode for episode in episodes(known, now) if episode.rule.startswith(rule)]


def spans(found: list[Episode]) -> list[tuple[int | None, datetime, datetime | None]]:
    return [(e.threshold, e.since, e.until) for e in sorted(found, key=lambda e: e.since)]


# --- items ------------------------------------------------------------------------------------------------------------


def test_the_ladder_has_one_rung_at_a_time_and_ends_when_the_item_is_done() -> None:
    finished = at("2026-02-12", 10)
    known = state([done("1", finished, due_date="2026-02-13")])  # a Friday
    assert spans(said(known, "deadline_near")) == [
        (14, at("2026-01-26", 0), at("2026-02-04", 0)),
        (7, at("2026-02-04", 0), at("2026-02-10", 0)),
        (3, at("2026-02-10", 0), at("2026-02-12", 0)),
        (1, at("2026-02-12", 0), finished),
    ]
    assert not said(known, "overdue")


def test_an_item_that_is_created_late_starts_on_its_rung() -> None:
    known = state([item(created=at("2026-03-16", 9), due_date="2026-03-18")])
    assert spans(said(known)) == [(3, at("2026-03-16", 9), None)]


def test_a_day_ends_in_the_projects_zone() -> None:
    known = state([item(due_date="2026-03-13")], time_zone=BERLIN)
    assert spans(said(known, "overdue")) == [(None, at("2026-03-13", 23), None)]
    assert said(known, "deadline_near")[-1].until == at("2026-03-13", 23)


def test_reopening_is_a_new_episode_and_other_changes_are_not() -> None:
    known = state(
        [
            item(
                "1",
                [
                    (at("2026-02-02"), "assignee", "x"),
                    (at("2026-02-03"), "status_category", "done"),
                    (at("2026-02-04"), "status_category", "todo"),
                    (at("2026-02-05"), "estimate", 5),
                ],
                due_date="2026-01-30",
                assignee=None,
            )
        ]
    )
    found = said(known, "overdue")
    assert spans(found) == [
        (None, at("2026-01-31", 0), at("2026-02-03")),
        (None, at("2026-02-04"), None),
    ]
    assert len({e.fingerprint for e in found}) == 1


def test_what_is_done_at_this_very_instant_is_over() -> None:
    known = state([done("1", NOW, due_date="2026-03-13")])
    assert spans(said(known, "overdue")) == [(None, at("2026-03-14", 0), NOW)]


def test_another_due_date_is_another_alert() -> None:
    known = state([item("1", [(at("2026-03-02"), "due_date", "2026-03-11")], due_date="2026-02-27")])
    first, second = said(known, "overdue")
    assert (first.due, first.until) == (date(2026, 2, 27), at("2026-03-02"))
    assert (second.due, second.since) == (date(2026, 3, 11), at("2026-03-12", 0))
    assert first.fingerprint != second.fingerprint


def test_a_move_out_of_the_project_ends_an_episode_and_a_move_back_begins_one() -> None:
    known = state(
        [
            item(
                "1",
                [(at("2026-03-03"), "container", "ELSE"), (at("2026-03-05"), "container", "APO")],
                due_date="2026-02-27",
            )
        ]
    )
    assert spans(said(known, "overdue")) == [
        (None, at("2026-02-28", 0), at("2026-03-03")),
        (None, at("2026-03-05"), None),
    ]


def test_a_move_between_containers_of_the_project_is_no_event() -> None:
    moved = item("1", [(at("2026-03-03"), "container", "BETA")], due_date="2026-02-27")
    known = state([moved], mapping={"jira": {"APO": 1, "BETA": 1}})
    assert spans(said(known, "overdue")) == [(None, at("2026-02-28", 0), None)]


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        # Thursday to Monday: two working days, whatever else changes in between.
        ([("2026-03-12", "blocked", True), ("2026-03-13", "assignee", "x")], [(2, at("2026-03-16"), None)]),
        ([("2026-03-13", "blocked", True)], []),
        ([("2026-03-02", "blocked", True), ("2026-03-06", "blocked", False)], [(2, at("2026-03-04"), at("2026-03-06"))]),
        ([("2026-03-02", "blocked", True), ("2026-03-03", "status_category", "done")], []),
        (
            # Closed while blocked, and open again: it is blocked anew.
            [("2026-03-02", "blocked", True), ("2026-03-03", "status_category", "done"), ("2026-03-10", "status_category", "todo")],
            [(2, at("2026-03-12"), None)],
        ),
    ],
)  # fmt: skip
def test_blocked(moves: list[Any], expected: list[Any]) -> None:
    told = [(at(day), field, value) for day, field, value in moves]
    assert spans(said(state([item("1", told, assignee=None)]), "blocked")) == expected


def test_logged_work_is_a_sign_of_life() -> None:
    """By when it was logged, whenever it was done; and only in the stretch in which it was."""

    def log(ident: str, logged: datetime) -> dict[str, Any]:
        return {"id": ident, "created_at": logged, "started_at": START, "seconds": 60, "by": "x"}

    began = at("2026-01-12")
    worklogs = [log("1", at("2026-01-20")), log("2", at("2026-02-20")), log("3", at("2026-01-06"))]
    known = state([item("1", [(began, "status_category", "in_progress")], worklogs=worklogs)])
    assert spans(said(known, "stale")) == [(10, at("2026-02-03"), at("2026-02-20")), (10, at("2026-03-06"), None)]
    (first, last) = [found for found in episodes(known, NOW) if found.rule == "stale"]
    assert (first.evidence["changed_at"], last.evidence["changed_at"]) == (
        "2026-01-20T12:00:00Z",
        "2026-02-20T12:00:00Z",
    )
    assert "without a change since Fri 20 Feb 2026" in last.summary
    then = episodes(known, at("2026-02-19"))
    assert [(found.rule, found.until) for found in then] == [("stale", None)]


def test_stale_counts_from_the_last_tracked_change() -> None:
    moves = [(at("2026-02-02"), "status_category", "in_progress"), (at("2026-02-27"), "estimate", 1000)]
    known = state([item("1", moves)])
    assert spans(said(known, "stale")) == [(10, at("2026-02-16"), at("2026-02-27")), (10, at("2026-03-13"), None)]
    assert not said(state([item("1")]), "stale")


def test_thresholds_are_the_projects_own() -> None:
    known = state(
        [item("1", [(at("2026-03-12"), "blocked", True)], due_date="2026-03-20")],
        thresholds={"ladder": (5,), "blocked_days": 1},
    )
    assert {(e.rule, e.threshold) for e in said(known)} == {("deadline_near", 5), ("blocked", 1)}


# --- deadlines --------------------------------------------------------------------------------------------------------


def test_a_milestone_alarms_while_it_has_open_items() -> None:
    known = state([done("1", at("2026-03-12", 10), milestone="m1")], [milestone("m1", "2026-03-13")])
    assert spans(said(known, "milestone"))[-1] == (1, at("2026-03-12", 0), at("2026-03-12", 10))
    assert not said(state([], [milestone("m1", "2026-03-13")]))


def test_overdue_milestones() -> None:
    late = [item("1", milestone="m1"), done("2", at("2026-03-12"), milestone="m1")]
    (found,) = said(state(late, [milestone("m1", "2026-03-13")]), "milestone_overdue")
    assert (found.since, found.until, found.severity, found.key) == (at("2026-03-14", 0), None, "critical", "M1")
    assert found.evidence["items"] == ["APO-1"]
    closed = milestone("m1", "2026-03-11", state="closed", closed_at=at("2026-03-13"))
    assert spans(said(state(late, [closed]), "milestone_overdue")) == [(None, at("2026-03-12", 0), at("2026-03-13"))]
    unknown = milestone("m1", "2026-03-11", state="closed")
    assert not said(state(late, [unknown]), "milestone")


def test_an_item_that_is_added_reopens_the_milestone() -> None:
    known = state(
        [done("1", at("2026-03-10"), milestone="m1"), item("2", [(at("2026-03-15"), "milestone", "m1")])],
        [milestone("m1", "2026-03-13")],
    )
    assert spans(said(known, "milestone_overdue")) == [(None, at("2026-03-15"), None)]


def test_the_projects_own_deadline() -> None:
    known = state([item()], deadline="2026-03-13")
    (late,) = [e for e in said(known) if e.until is None]
    assert (late.rule, late.key, late.title) == ("milestone_overdue", "apollo", "Apollo")


def test_a_promise_needs_no_items_and_is_over_with_its_day() -> None:
    known = state(promises=[{"key": "beta", "title": "Beta", "due_date": "2026-03-18"}])
    assert spans([e for e in said(known) if e.until is None]) == [(3, at("2026-03-13", 0), None)]
    assert all(e.until for e in said(known, now=at("2026-03-19", 1)))


def test_a_calendars_deadline_needs_no_items_and_is_over_with_its_day() -> None:
    known = state([], [], [entry("d", Meaning.deadline, date(2026, 3, 16), title="Audit")])
    (today,) = [e for e in said(known) if e.until is None]
    assert (today.threshold, today.title, today.since) == (0, "Audit", at("2026-03-16", 0))
    assert all(e.until for e in said(known, now=at("2026-03-17", 1)))


def test_holidays_move_the_ladder() -> None:
    holiday = entry("h", Meaning.holiday, date(2026, 3, 17), date(2026, 3, 19))
    known = state([item(due_date="2026-03-20")], [], [holiday])
    assert [e.threshold for e in said(known) if e.until is None] == [3]


@pytest.mark.parametrize(
    ("due", "release", "more", "alone"),
    [
        ("2026-03-18", "2026-03-18", {}, False),
        ("2026-03-20", "2026-03-18", {}, False),
        ("2026-03-17", "2026-03-18", {}, True),
        ("2026-03-18", None, {}, True),
        ("2026-03-18", "2026-03-18", {"state": "closed", "closed_at": at("2026-03-16", 11)}, True),
    ],
)
def test_an_item_due_with_its_milestone_is_left_to_it(due: str, release: str | None, more: Any, alone: bool) -> None:
    known = state([item(due_date=due, milestone="m1")], [milestone("m1", release, **more)])
    assert bool([e for e in said(known, "deadline_near") if e.until is None]) is alone
    if release and not more:
        assert [e for e in said(known, "milestone_near") if e.until is None]


# --- forecasts --------------------------------------------------------------------------------------------------------


def steady(per_day: int = 1) -> list[Item]:
    days = [NOW.date() - timedelta(days=k) for k in range(1, 95)]
    return [
        done(f"d{day}.{n}", at(day.isoformat(), 12), created=OLD)
        for day in days
        if day.weekday() < 5
        for n in range(per_day)
    ]


def test_a_forecast_turns_late_with_the_item_that_was_too_much() -> None:
    added = at("2026-03-12", 10, 30)
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(6)]
    more = [item(f"x{n}", created=added, milestone="m1") for n in range(9)]
    known = state([*steady(), *work, *more], [milestone("m1", "2026-03-26")])
    (late,) = said(known, "forecast_late")
    assert (late.since, late.until, late.at_least) == (added, None, False)
    assert late.evidence["added_last_week_count"] == 9
    assert late.evidence["remaining"] == 15
    assert late.summary.startswith("promised Thu 26 Mar 2026: ")
    assert "late" in late.summary
    for hour in (0, 5, 23):
        assert said(known, "forecast_late", at("2026-03-16", hour, 59))[0].since == added
    assert said(known, "forecast_late", at("2026-03-12", 11))[0].since == added
    assert not said(known, "forecast_late", at("2026-03-12", 10))


def test_a_forecast_that_was_always_late_says_at_least() -> None:
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(90)]
    (late,) = said(state([*steady(), *work], [milestone("m1", "2026-03-26")]), "forecast_late")
    assert late.at_least
    assert late.since == at("2026-03-02", 0)
    assert late.evidence["since_at_least"] == "2026-03-02T00:00:00Z"
    assert late.severity == "critical"


def test_day_by_day_alone_a_forecast_turns_at_midnight() -> None:
    # Nothing changes but the days that pass.
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(8)]
    past = [i for i in steady() if i[1].history[0].at < at("2026-03-06")]
    known = state([*past, *work], [milestone("m1", "2026-03-20")])
    (late,) = said(known, "forecast_late")
    assert not late.at_least
    assert (late.since.hour, late.since.minute) == (0, 0)
    assert not said(known, "forecast_late", late.since - timedelta(seconds=1))
    assert said(known, "forecast_late", late.since)
    # A change on the evening before that changed nothing of it is not what turned it.
    other = item("o", [(late.since - timedelta(hours=5, minutes=30), "assignee", "x")], created=OLD, assignee=None)
    again = state([*past, *work, other], [milestone("m1", "2026-03-20")])
    assert said(again, "forecast_late")[0].since == late.since


@pytest.mark.parametrize("minute", [0, 30, 59])
def test_a_forecast_that_turns_in_the_first_hour_of_a_day(minute: int) -> None:
    added = at("2026-03-12", 0, minute)
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(3)]
    more = [item(f"x{n}", created=added, milestone="m1") for n in range(30)]
    known = state([*steady(), *work, *more], [milestone("m1", "2026-03-26")])
    for now in (NOW, at("2026-03-12", 14), at("2026-03-13", 0)):
        assert said(known, "forecast_late", now)[0].since == added


def test_a_forecast_that_was_mended_for_a_while_turned_late_anew() -> None:
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(3)]
    burst = [
        item(f"x{n}", [(at("2026-03-12", 13), "milestone", None), (at("2026-03-12", 15), "milestone", "m1")],
             created=at("2026-03-12", 9), milestone="m1")
        for n in range(30)
    ]  # fmt: skip
    known = state([*steady(), *work, *burst], [milestone("m1", "2026-03-26")])
    assert said(known, "forecast_late", at("2026-03-12", 12))[0].since == at("2026-03-12", 9)
    assert not said(known, "forecast_late", at("2026-03-12", 14))
    for now in (at("2026-03-12", 16), NOW):
        assert said(known, "forecast_late", now)[0].since == at("2026-03-12", 15)


def test_a_forecast_is_late_by_its_date_or_by_its_chance() -> None:
    thing = Thing("jira", "milestone", "m1")
    due = date(2026, 4, 1)
    well = Forecast(thing, "m1", due, due, due, due, 850, "", {})
    for threshold, found, late in (
        (700, well, False),
        (850, well, False),
        (851, well, True),
        (700, replace(well, p85=date(2026, 4, 2)), True),
        (700, replace(well, p85=None), True),
        (700, replace(well, p85=None, reason="no items"), False),
        (700, replace(well, due_date=None, on_time=None), False),
    ):
        assert is_late(found, threshold) is late


@pytest.mark.parametrize(
    ("p85", "on_time", "severity"),
    [
        (date(2026, 4, 8), 810, "warning"),
        (date(2026, 4, 8), 690, "critical"),
        (date(2026, 4, 7), 690, "warning"),
        (date(2026, 4, 2), 340, "critical"),
        (None, 700, "warning"),
        (None, 699, "critical"),
    ],
)
def test_how_bad_a_late_forecast_is(p85: date | None, on_time: int, severity: str) -> None:
    known = state(deadline="2026-04-01")
    found = Forecast(Thing("jira", "milestone", "m1"), "m1", date(2026, 4, 1), None, p85, None, on_time, "", {})
    assert outlook._severity(found, _context(known, view(known, NOW))) == severity


def test_a_late_forecast_knows_what_it_was_yesterday() -> None:
    added = at("2026-03-16", 9)
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(6)]
    more = [item(f"x{n}", created=added, milestone="m1") for n in range(9)]
    known = state([*steady(), *work, *more], [milestone("m1", "2026-03-26")])
    (late,) = said(known, "forecast_late")
    evening = view(known, at("2026-03-15", 23, 59))
    then = forecast(evening, evening.deadlines[0])
    assert then.on_time is not None
    assert then.p85 is not None
    assert late.evidence["yesterday"] == {"on_time": then.on_time / 1000, "p85": then.p85.isoformat()}
    assert late.evidence["yesterday"]["on_time"] > late.evidence["on_time"]
    assert outlook.yesterday(late.evidence) == f" (yesterday: {likely(then.on_time)}, {spoken(then.p85)})"
    week = view(known, at("2026-03-09", 23, 59))
    assert late.evidence["week_ago"]["on_time"] == (forecast(week, week.deadlines[0]).on_time or 0) / 1000


def test_yesterday_ends_with_its_last_instant_and_not_with_the_new_day() -> None:
    days = [at("2026-03-17") - timedelta(days=k) for k in range(1, 95)]
    uneven = [done(f"u{k}.{n}", day, created=OLD) for k, day in enumerate(days) for n in range(k % 3)]
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(14)]
    known = state([*uneven, *work], [milestone("m1", "2026-03-26")])
    (late,) = said(known, "forecast_late", at("2026-03-17"))
    told = []
    for when in (at("2026-03-16", 23, 59), at("2026-03-17", 0)):
        shown = view(known, when)
        told.append((forecast(shown, shown.deadlines[0]).on_time or 0) / 1000)
    assert told[0] != told[1], "a new day draws anew"
    assert late.evidence["yesterday"]["on_time"] == told[0]


def test_nothing_is_said_of_yesterday_where_there_was_no_forecast() -> None:
    work = [item(f"w{n}", created=at("2026-03-16", 9), milestone="m1") for n in range(30)]
    (late,) = said(state([*steady(), *work], [milestone("m1", "2026-03-26")]), "forecast_late")
    assert not {"yesterday", "week_ago"} & set(late.evidence)
    assert outlook.yesterday(late.evidence) == ""
    same = {"on_time": 0.5, "p85": None}
    assert outlook.yesterday({**same, "yesterday": same}) == " (yesterday: the same)"


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("2026-03-12", "due Sun 15 Mar 2026, in 1 working day"),
        ("2026-03-13", "due Sun 15 Mar 2026, no working day left"),
        ("2026-03-14", "due Sun 15 Mar 2026, no working day left"),
        ("2026-03-15", "due Sun 15 Mar 2026, today"),
    ],
)
def test_today_is_said_on_the_day_itself_only(now: str, words: str) -> None:
    known = state([item(due_date="2026-03-15")], promises=[{"key": "b", "title": "B", "due_date": "2026-03-15"}])
    found = [e for e in said(known, now=at(now)) if e.until is None and e.rule.endswith("_near")]
    assert [e.summary for e in found] == [words, f"{words}, and still todo"]


def test_a_blocked_item_says_since_when_it_is_blocked() -> None:
    known = state([item("1", [(at("2026-03-10"), "blocked", True)])])
    (found,) = said(known, "blocked")
    assert (found.since, found.summary) == (at("2026-03-12"), "blocked since Tue 10 Mar 2026, for 4 working days")


def test_a_blocked_item_names_what_blocks_it_now() -> None:
    links = [{"relation": "blocked_by", "key": key, "since": START} for key in ("APO-2", "APO-3", "ZEU-1")]
    waits = item("1", [(at("2026-03-10"), "blocked", True)], links=links)
    others = [item("2"), done("3", at("2026-03-11"))]
    (found,) = said(state([waits, *others]), "blocked")
    assert found.summary.endswith("for 4 working days, by APO-2, ZEU-1")
    assert found.evidence["blocked_by"] == ["APO-2", "ZEU-1"]
    over = item("1", [(at("2026-03-10"), "blocked", True), (NOW, "blocked", False)], links=links)
    (past,) = said(state([over, *others]), "blocked")
    assert past.until == NOW
    assert "blocked_by" not in past.evidence


def test_a_deadline_without_items_has_a_formula_of_its_own() -> None:
    known = state(
        [item(milestone="m1")], [milestone("m1", "2026-03-18")], [entry("d", Meaning.deadline, date(2026, 3, 18))]
    )
    formulas = {e.subject.kind: e.evidence["formula"] for e in said(known, "milestone_near")}
    assert "open work" in formulas["milestone"]
    assert "open work" not in formulas["calendar_entry"]


def test_after_the_due_date_the_forecast_is_silent() -> None:
    known = state([*steady(), item("w", created=OLD, milestone="m1")], [milestone("m1", "2026-03-13")])
    assert not said(known, "forecast_late")
    assert said(known, "milestone_overdue")


def test_kept_versions_do_not_matter() -> None:
    work = [item(f"w{n}", created=OLD, milestone="m1") for n in range(90)]
    known = state([*steady(), *work], [milestone("m1", "2026-03-26")])
    thing, present = known.things["milestone"][0]
    other = present.model_copy(update={"due_date": date(2027, 9, 1)})
    kept = {thing: [(version_at(OLD), other), (version_at(NOW), present)]}
    assert episodes(ProjectState(known.project, known.things, kept), NOW) == episodes(known, NOW)


# --- whatever the history ---------------------------------------------------------------------------------------------

RELEASES = [milestone("m1", "2026-03-20"), milestone("m2", "2026-02-27")]


@given(any_items(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_the_order_of_things_does_not_matter(items: list[Item], chance: random.Random) -> None:
    shuffled, releases = chance.sample(items, len(items)), chance.sample(RELEASES, 2)
    assert episodes(state(items, RELEASES, deadline="2026-04-01"), NOW) == episodes(
        state(shuffled, releases, deadline="2026-04-01"), NOW
    )


@given(any_items())
@settings(max_examples=60)
def test_what_holds_of_all_episodes(items: list[Item]) -> None:
    known = state(items, RELEASES, deadline="2026-04-01")
    found = episodes(known, NOW)
    shown = {i.thing: i for i in view(known, NOW).items}
    now = [e for e in found if e.until is None]
    for e in found:
        json.dumps(e.evidence)
        assert e.rule in {rule.name for rule in RULES}
        assert e.since <= NOW
        assert e.until is None or e.since < e.until <= NOW
    for e in now:
        if e.subject.kind == "work_item":
            assert shown[e.subject].status_category not in {StatusCategory.done, StatusCategory.dropped}
    ladders = Counter((e.subject, e.rule) for e in now if e.rule.endswith("_near"))
    assert all(n == 1 for n in ladders.values())
    assert len({e.fingerprint for e in now}) == len(now)
    for a, b in pairwise(sorted(found, key=lambda e: (e.fingerprint, e.since))):
        assert a.fingerprint != b.fingerprint or (a.until is not None and a.until < b.since)


@given(any_items(most=3), st.integers(0, 70 * 24))
@settings(max_examples=60)
def test_the_past_is_seen_now_as_it_was_seen_then(items: list[Item], hours: int) -> None:
    """What was wrong at an instant is an episode that contains it, seen from later (but for forecasts)."""
    known = state(items)
    then = START + timedelta(hours=hours, minutes=30)
    was = {(e.fingerprint, e.since) for e in episodes(known, then) if e.until is None}
    holds = {(e.fingerprint, e.since) for e in episodes(known, NOW) if e.since <= then and (e.until is None or e.until > then)}  # fmt: skip
    assert was == (holds if then < NOW else was)


def test_a_title_of_any_kind_makes_a_fingerprint() -> None:
    known = state([item("\ud83d\ude80".encode("utf-16", "surrogatepass").decode("utf-16"), due_date="2026-03-13")])
    assert all(len(e.fingerprint) == 16 for e in said(known))
