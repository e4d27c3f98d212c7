"""What a page, a row of the portfolio and the terminal say of a project."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from io import StringIO

from builders import JIRA, NOW, Item, acknowledgement, at, deployment, done, entry, item, milestone, release, state
from rich.console import Console

from pmsync.answers import show_alerts
from pmsync.core.events import Meaning
from pmsync.core.project import ProjectState
from pmsync.core.rules import episodes
from pmsync.core.summary import Summary, at_a_glance, series, summary, worst_first
from pmsync.status import FEW, MOST, show_status

OLD = at("2025-06-02")
AUDIT = entry("d", Meaning.deadline, date(2026, 3, 18), title="Audit")


def steady() -> list[Item]:
    days = [NOW.date() - timedelta(days=k) for k in range(1, 95)]
    return [done(f"d{day}", at(day.isoformat()), created=OLD) for day in days if day.weekday() < 5]


def work(n: int, release: str) -> list[Item]:
    return [item(f"{release}.{k}", created=OLD, milestone=release) for k in range(n)]


def shown(known: ProjectState) -> Summary:
    return summary(known, NOW)


def printed(states: Iterable[ProjectState]) -> str:
    out = StringIO()
    show_status(Console(file=out, width=200), list(states), NOW)
    return out.getvalue()


SLIPS = state(
    [*steady(), *work(2, "m1"), *work(40, "m2")],
    [milestone("m1", "2026-03-27"), milestone("m2", "2026-04-10")],
    [AUDIT],
)
WELL = state([*steady(), *work(2, "m1")], [milestone("m1", "2026-03-27")], [AUDIT], key="well", name="Well")


def test_the_deadline_that_slips_comes_first() -> None:
    found = shown(SLIPS)
    assert found.next
    assert found.next.title == "Release m2"
    assert found.headline.startswith("Apollo · Release m2 is promised for Fri 10 Apr 2026; ")
    assert f"likely on time (yesterday {found.next.yesterday}); P85 is " in found.headline


def test_else_the_earliest_with_a_forecast_else_the_earliest_else_the_last_missed() -> None:
    for known, title in (
        (WELL, "Release m1"),
        (state([], [], [AUDIT]), "Audit"),
        (state(work(1, "m3"), [milestone("m3", "2026-03-03")]), "Release m3"),
    ):
        ahead = shown(known).next
        assert ahead
        assert (ahead.title, ahead.late, ahead.yesterday) == (title, None, "")
    assert shown(state([])).next is None


def test_an_acknowledgement_makes_no_project_look_better() -> None:
    (critical,) = [e for e in episodes(SLIPS, NOW) if e.rule == "forecast_late"]
    assert critical.severity == "critical"
    taken = state(
        SLIPS.things["work_item"], SLIPS.things["milestone"], [AUDIT], [acknowledgement(critical.fingerprint, NOW)]
    )
    before, after = shown(SLIPS), shown(taken)
    assert worst_first(before) == worst_first(after)
    assert (before.firing["critical"], before.acknowledged["critical"]) == (1, 0)
    assert (after.firing["critical"], after.acknowledged["critical"]) == (0, 1)
    assert "1 critical, acknowledged" in printed([taken])
    assert at_a_glance([after]) == "1 of 1 project has a deadline that is late by forecast"


def test_the_portfolio_in_one_sentence() -> None:
    missed = state(work(1, "m3"), [milestone("m3", "2026-03-03")])
    blind = ProjectState(missed.project, {**missed.things, "synced": missed.things["synced"][1:]}, {}, ())
    rows = [shown(known) for known in (SLIPS, SLIPS, WELL, missed)]
    assert at_a_glance(rows) == "2 of 4 projects have a deadline that is late by forecast; 1 has missed one"
    assert at_a_glance([shown(blind)]).endswith("; 1 is not read whole")
    assert at_a_glance([shown(WELL)]).startswith("0 of 1 project have")


def test_rungs_that_gave_way_are_not_resolved_lately() -> None:
    known = state(
        [
            item("1", due_date="2026-03-13"),
            done("2", at("2026-03-12"), due_date="2026-03-13"),
        ],
        [],
        [entry("d", Meaning.deadline, date(2026, 3, 12), title="Audit")],
    )
    found = [(alert.episode.key, alert.episode.threshold) for alert in shown(known).resolved]
    assert len([e for e in episodes(known, NOW) if e.until]) > 8
    assert sorted(found) == [("APO-2", 1), ("d", 0)]


def test_status_says_each_thing_once_and_what_is_left_out() -> None:
    late = [item(f"{n}", due_date="2026-03-13", title="Mend [red]") for n in range(12)]
    text = printed([state(late)])
    assert f"and {12 - MOST} more" in text
    assert "APO-0 Mend [red]: was due" in text
    assert "promised" not in text, "no table of deadlines where there are none"
    assert "Apollo Apollo" not in text
    both = printed([state(late), WELL])
    assert f"and {12 - FEW} more" in both


def test_status_says_what_is_not_read() -> None:
    blind = ProjectState(WELL.project, {**WELL.things, "synced": WELL.things["synced"][1:]}, {}, ())
    text = printed([blind])
    assert f"not read: APO in {JIRA}" in text
    assert "Well (not all read)" in text
    nothing = state([])
    assert "none in what has been read" in printed(
        [ProjectState(nothing.project, {**nothing.things, "synced": nothing.things["synced"][1:]}, {}, ())]
    )


def test_the_list_of_alerts_says_what_each_is_about() -> None:
    out = StringIO()
    known = state(
        [item("1", due_date="2026-03-13", title="Mend [red] it"), *work(1, "m3")], [milestone("m3", "2026-03-03")]
    )
    show_alerts(Console(file=out, width=250), [known], NOW, everything=False)
    first, second = out.getvalue().splitlines()[1:3]
    assert "Release m3" in first
    assert "APO-1 Mend [red] it" in second


def test_what_was_shipped_is_what_is_out_and_what_went_to_production() -> None:
    runs = [
        deployment("1", [(at("2026-03-02"), "success")], created=at("2026-03-01")),
        deployment("2", [(at("2026-03-04"), "in_progress")], created=at("2026-03-03"), url="https://ci.example.com/2"),
        deployment("3", [(at("2026-03-05"), "success")], production=False, environment="staging"),
        deployment("4", [(at("2026-03-06"), "failure"), (at("2026-03-07"), "success")]),
        deployment("5", [(at("2026-02-02"), "success")]),
    ]
    out = [release("1", at("2026-03-02", 13)), release("2"), release("3", at("2026-03-08"), prerelease=True)]
    known = state(deployments=runs, releases=out)
    assert [(each.title, each.what, each.at) for each in series(known, NOW).shipped] == [
        ("Version 3", "pre-release", at("2026-03-08")),
        ("v4", "to production: success", at("2026-03-06")),
        ("v2", "to production: in progress", at("2026-03-03")),
        ("Version 1", "release", at("2026-03-02", 13)),
        ("v1", "to production: success", at("2026-03-02")),
    ]
    then = series(known, at("2026-03-06")).shipped
    assert [(each.title, each.what) for each in then][:2] == [
        ("v4", "to production: failure"),
        ("v2", "to production: in progress"),
    ]
    assert [each.url for each in then][1] == "https://ci.example.com/2"
