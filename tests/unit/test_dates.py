"""Which things are one milestone, whose day counts, and what is said of days that differ."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

import pytest
from builders import JIRA, NOW, START, acknowledgement, at, done, entry, item, milestone, state
from hypothesis import given
from hypothesis import strategies as st

from pmsync.core.alerts import AlertState, Logged, alerts, transitions
from pmsync.core.dates import title_key
from pmsync.core.events import CalendarEntry, Meaning, Milestone, Occurrence, Thing, WorkItem
from pmsync.core.exports import rows
from pmsync.core.measures.forecast import forecast
from pmsync.core.measures.progress import progress
from pmsync.core.messages import compose
from pmsync.core.project import Deadline, ProjectState, view
from pmsync.core.rules import Episode, episodes
from pmsync.core.rules.deadlines import BY_DAY
from pmsync.core.summary import summary

GH, TEAM = "gh", "calendar"
MAPPING = {JIRA: {"APO": 1, "BETA": 1}, GH: {"acme/apollo": 1, "acme/web": 1}, TEAM: {"team": 1, "office": 1}}
PROMISED, IN_JIRA, IN_GITHUB, IN_CALENDAR = "2026-06-30", "2026-07-07", "2026-06-28", "2026-07-01"
Said = tuple[Thing, Milestone] | tuple[Thing, CalendarEntry]


def version(title: str, due: str | None = IN_JIRA, ident: str = "m1", **values: Any) -> tuple[Thing, Milestone]:
    """A version in Jira."""
    return milestone(ident, due, title=title, **values)


def mile(title: str, due: str | None = IN_GITHUB, ident: str = "g1", **values: Any) -> tuple[Thing, Milestone]:
    """A milestone at GitHub."""
    _, content = milestone(ident, due, title=title, **{"container": "acme/apollo", **values})
    return Thing(GH, "milestone", ident), content


def day(title: str | None, due: str = IN_CALENDAR, ident: str = "e1", **values: Any) -> tuple[Thing, CalendarEntry]:
    """A calendar's entry."""
    thing, content = entry(ident, Meaning.milestone, date.fromisoformat(due), title=title)
    return thing, content.model_copy(update=values)


def promise(title: str, due: str = PROMISED, **also: list[str]) -> dict[str, Any]:
    return {"key": "P", "title": title, "due_date": due, "also": also}


def known(*said: Said, items: Sequence[tuple[Thing, WorkItem]] = (), **values: Any) -> ProjectState:
    milestones = [(thing, content) for thing, content in said if isinstance(content, Milestone)]
    calendar = [(thing, content) for thing, content in said if isinstance(content, CalendarEntry)]
    return state(items, milestones, calendar, **{"mapping": MAPPING, **values})


def deadlines(*said: Said, now: datetime = NOW, **values: Any) -> tuple[Deadline, ...]:
    return view(known(*said, **values), now).deadlines


def conflicts(found: ProjectState, now: datetime = NOW) -> list[Episode]:
    return [episode for episode in episodes(found, now) if episode.rule == "dates_differ"]


# --- which are one ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "key"),
    [("Release 2.0", "release 2.0"), (" Release\u00a0 2.0\n", "release 2.0"), ("STRASSE", "strasse"), ("Straße", "strasse"), (" ", "")],
)  # fmt: skip
def test_titles_are_compared_without_case_and_blanks(title: str, key: str) -> None:
    assert title_key(title) == key


RELEASE = promise("Release 2.0", jira=["2.0"], gh=["v2.0"], calendar=["[milestone] 2.0"])
TWICE = [Occurrence(start=date(2026, 7, n), end=date(2026, 7, n + 1)) for n in (1, 8)]

ONE = {
    "the same title at two sources": ([version("2.0"), mile("2.0")], [], ["g1 m1"]),
    "in other letters and blanks": ([version("Release 2.0"), mile(" release  2.0 ")], [], ["g1 m1"]),
    "nothing cleverer": ([version("2.0"), mile("v2.0"), day("2.0.0")], [], ["g1", "m1", "e1"]),
    "in two containers of a source": ([mile("2.0"), mile("2.0", ident="g2", container="acme/web")], [], ["g1 g2"]),
    "a milestone and a calendar": ([version("2.0"), day("2.0")], [], ["m1 e1"]),
    "two calendars": ([day("2.0"), day("2.0", ident="e2", container="office")], [], ["e1 e2"]),
    "a promise of its title": ([version("2.0"), day("2.0")], [promise("2.0")], ["m1 P e1"]),
    "a promise and a calendar": ([day("2.0")], [promise("2.0")], ["P e1"]),
    "what the promise says": ([version("2.0"), mile("v2.0"), day("[milestone] 2.0")], [RELEASE], ["g1 m1 P e1"]),
    "what it does not say": ([version("v2.0"), mile("2.0")], [RELEASE], ["g1", "m1", "P"]),
    "its own title still counts": ([version("release 2.0"), mile("V2.0")], [RELEASE], ["g1 m1 P"]),
    "two titles of a container": ([mile("v2.0"), mile("Release 2.0", ident="g2")], [RELEASE], ["g1 g2 P"]),
    "a promise of another title": ([version("2.0")], [promise("3.0")], ["m1", "P"]),
    "one title twice in a container": ([version("2.0"), version("2.0", ident="m2"), mile("2.0")], [], ["g1", "m1", "m2"]),
    "and promised": ([version("2.0"), version("2.0", ident="m2")], [promise("2.0")], ["m1 P", "m2 P"]),
    "twice in a calendar": ([day("2.0"), day("2.0", ident="e2"), version("2.0")], [promise("2.0")], ["m1 P", "e1", "e2"]),
    "an entry that recurs": ([day("2.0", recurring=True), version("2.0")], [promise("2.0")], ["m1 P", f"e1@{IN_CALENDAR}"]),
    "a title that is not read": ([day(None), day(None, ident="e2", container="office")], [promise("Milestone in team")], ["P", "e1", "e2"]),
    "two days of an entry": ([day("2.0", occurrences=TWICE)], [], ["e1", "e1"]),
    "no title": ([version(" "), mile(" ")], [], ["g1", "m1"]),
}  # fmt: skip
"""The things of a project -> those of each deadline, by their ids; the first is what the deadline is known by."""


@pytest.mark.parametrize("case", ONE)
def test_which_things_are_one_milestone(case: str) -> None:
    said, promises, expected = ONE[case]
    for shuffled in (said, said[::-1]):
        found = deadlines(*shuffled, promises=promises)
        by_kind = [
            sorted(each.dates, key=lambda d: (not d.has_items, d.thing.source == TEAM, d.thing)) for each in found
        ]
        assert sorted(" ".join(d.thing.id for d in dates) for dates in by_kind) == sorted(expected)
        assert [dates[0].thing for dates in by_kind] == [each.thing for each in found]


def test_a_joined_milestone_has_the_work_of_all_and_the_name_that_it_was_given() -> None:
    def at_github(ident: str, **values: Any) -> tuple[Thing, WorkItem]:
        return Thing(GH, "work_item", ident), item(ident, container="acme/apollo", key=f"#{ident}", **values)[1]

    work = [item("1", milestone="m1"), at_github("7", milestone="g1"), at_github("8", milestone="other")]
    (one,) = deadlines(version("2.0", url="https://jira"), mile("v2.0"), items=work, promises=[RELEASE], dates=[JIRA])
    assert (one.title, one.thing.id, one.url) == ("Release 2.0", "m1", "https://jira")
    assert [each.key for each in one.items] == ["APO-1", "#7"]
    (row,) = rows("milestones", known(version("2.0"), mile("2.0"), items=work), NOW, NOW)
    assert (row["scope"], row["source"], row["id"]) == (2, GH, "g1")


@pytest.mark.parametrize("due", [None, "2026-06-01", "2026-07-01"])
def test_what_it_is_known_by_does_not_depend_on_dates(due: str | None) -> None:
    (one,) = deadlines(mile("2.0", due), mile("2.0", "2026-06-15", ident="g2", container="acme/web"))
    assert one.thing.id == "g1"


def test_a_promise_in_other_letters_renames_nothing() -> None:
    (one,) = deadlines(version("release 2.0"), promises=[promise("Release 2.0")])
    assert one.title == "release 2.0"


def test_it_is_closed_when_all_that_can_be_is() -> None:
    early, late = at("2026-03-10"), at("2026-03-12")
    over = {"state": "closed", "closed_at": late}
    (one,) = deadlines(version("2.0", **over), mile("2.0"), day("2.0"))
    assert (one.closed, one.closed_at, str(one.due_date)) == (False, None, IN_GITHUB)
    (one,) = deadlines(version("2.0", **over), mile("2.0", state="closed", closed_at=early), day("2.0", "2026-03-11"))
    assert (one.closed, one.closed_at) == (True, late)
    (one,) = deadlines(version("2.0", **over), mile("2.0", state="closed"))
    assert (one.closed, one.closed_at) == (True, None), "since when is not known of both"


@pytest.mark.parametrize("over", [{"closed_at": at("2025-03-01")}, {}])
def test_a_day_after_all_else_was_closed_is_another_one(over: dict[str, Any]) -> None:
    """A release of last year does not silence the one of this year that is called the same."""
    found = known(version("Release", state="closed", **over), day("Release", "2026-03-20"))
    shown = [(each.thing.kind, each.closed) for each in view(found, NOW).deadlines]
    assert shown == [("milestone", True), ("calendar_entry", False)]
    assert {each.rule for each in episodes(found, NOW)} >= {"milestone_near"}


def test_a_milestone_without_items_does_not_silence_a_day() -> None:
    found = known(version("Go-live", "2026-03-20"), day("Go-live", "2026-03-20"))
    (near,) = [each for each in episodes(found, NOW) if each.until is None]
    assert (near.rule, near.evidence["formula"], near.summary.count("items")) == ("milestone_near", BY_DAY, 0)


# --- whose day counts -------------------------------------------------------------------------------------------------

ALL = (version("2.0"), mile("v2.0"), day("[milestone] 2.0"))


@pytest.mark.parametrize(
    ("order", "said", "promised", "expected"),
    [
        ([], ALL, True, [PROMISED, IN_GITHUB, IN_JIRA, IN_CALENDAR]),
        ([JIRA], ALL, True, [PROMISED, IN_JIRA, IN_GITHUB, IN_CALENDAR]),
        ([TEAM], ALL, True, [PROMISED, IN_CALENDAR, IN_GITHUB, IN_JIRA]),
        ([JIRA, "configuration"], ALL, True, [IN_JIRA, PROMISED, IN_GITHUB, IN_CALENDAR]),
        ([TEAM, JIRA, GH, "configuration"], ALL, True, [IN_CALENDAR, IN_JIRA, IN_GITHUB, PROMISED]),
        ([], [version("2.0"), mile("2.0"), day("2.0", "2026-05-01")], False, [IN_GITHUB, IN_JIRA, "2026-05-01"]),
        ([JIRA], [version("2.0", None), mile("2.0")], False, [None, IN_GITHUB]),
        ([], [version("2.0"), mile("2.0", state="closed")], False, [IN_JIRA, IN_GITHUB]),
        ([GH], [version("2.0"), mile("2.0", state="closed")], False, [IN_JIRA, IN_GITHUB]),
        (
            [],
            [version("2.0", state="closed", closed_at=at("2026-03-12")), day("2.0", "2026-03-11")],
            False,
            [IN_JIRA, "2026-03-11"],
        ),
        ([JIRA, "configuration"], [version("2.0", state="closed")], True, [IN_JIRA, PROMISED]),
    ],
)
def test_whose_day_counts(order: list[str], said: Sequence[Said], promised: bool, expected: list[str | None]) -> None:
    for shuffled in (said, said[::-1]):
        (one,) = deadlines(*shuffled, dates=order, promises=[RELEASE] if promised else [])
        assert [each.due_date and each.due_date.isoformat() for each in one.dates] == expected
        assert str(one.due_date) == next(each for each in expected if each)


def test_a_milestone_has_one_deadline_wherever_it_is_shown() -> None:
    found = known(*ALL, items=[item("1", milestone="m1")], promises=[RELEASE])
    assert [(due.title, str(due.due)) for due in summary(found, NOW).deadlines] == [("Release 2.0", PROMISED)]
    (row,) = rows("milestones", found, NOW, NOW)
    assert (row["due_date"], row["dates_differ"]) == (PROMISED, True)
    assert [(each["source"], each["title"], each["due_date"]) for each in row["dates"]] == [
        ("configuration", "Release 2.0", PROMISED),
        (GH, "v2.0", IN_GITHUB),
        (JIRA, "2.0", IN_JIRA),
        (TEAM, "[milestone] 2.0", IN_CALENDAR),
    ]
    near = at("2026-06-29")
    open_now = [each for each in episodes(found, near) if each.until is None and each.subject.kind != "work_item"]
    assert sorted((each.rule, str(each.due)) for each in open_now) == [
        ("dates_differ", PROMISED), ("milestone_near", PROMISED),
    ]  # fmt: skip


def test_what_moves_between_milestones_that_are_one_joined_once() -> None:
    beta = version("2.0", ident="m2", container="BETA")
    born = [done(f"d{n}", at(f"2026-03-{2 + n:02}")) for n in range(10)]
    moved = item("1", [(at("2026-03-10"), "milestone", "m2")], milestone="m1")
    other = item("2", [(at("2026-03-10"), "milestone", "m2")], milestone="m3")
    plan = [item("3", milestone="m1"), item("4", milestone="m2")]
    for mover, growth in ((moved, 0), (other, 1)):
        shown = view(known(version("2.0"), beta, items=[*born, *plan, mover]), NOW)
        assert forecast(shown, shown.deadlines[0]).evidence["added"] == growth


def test_an_item_due_with_its_milestone_is_left_to_it_whatever_that_is_known_by() -> None:
    work = item("1", due_date="2026-03-18", milestone="m1")
    found = known(version("2.0", "2026-03-18"), mile("2.0", "2026-03-18"), items=[work])
    assert {each.rule for each in episodes(found, NOW) if each.until is None} == {"milestone_near"}


# --- what is said of it -----------------------------------------------------------------------------------------------

NEAR = at("2026-06-09", 0)  # 14 working days before the first of the days, a Sunday
FAR = at("2026-01-12", 0)


def test_each_sources_day_is_named_with_the_one_that_counts_and_what_to_do() -> None:
    (found,) = conflicts(known(*ALL, promises=[RELEASE]))
    assert (found.key, found.title, found.severity, str(found.due)) == ("G1", "Release 2.0", "info", PROMISED)
    assert found.summary == (
        "dated differently: Tue 30 Jun 2026 (configuration, used), Sun 28 Jun 2026 (gh), Tue 7 Jul 2026 (jira), "
        "Wed 1 Jul 2026 (calendar)"
    )
    assert found.evidence["used"] == ["configuration"]
    assert found.evidence["dates"][1] == {
        "source": GH, "container": "acme/apollo", "title": "v2.0", "due_date": IN_GITHUB,
    }  # fmt: skip
    assert found.evidence["what_to_do"].startswith(
        "put Tue 30 Jun 2026 into gh and jira and calendar, or the right day"
    )


def test_those_who_agree_are_named_together_and_containers_where_a_source_names_several() -> None:
    said = [mile("2.0"), mile("2.0", IN_JIRA, ident="g2", container="acme/web"), version("2.0")]
    (found,) = conflicts(known(*said))
    assert found.summary == (
        "dated differently: Sun 28 Jun 2026 (gh acme/apollo, used), Tue 7 Jul 2026 (gh acme/web, jira)"
    )


NONE: dict[str, tuple[list[Said], dict[str, Any]]] = {
    "they agree": ([version("2.0"), mile("2.0", IN_JIRA)], {}),
    "only one has a day": ([version("2.0"), mile("2.0", None)], {}),
    "one is closed": ([version("2.0"), mile("2.0", state="closed", closed_at=START)], {}),
    "all are closed": ([version("2.0", state="closed"), mile("2.0", state="closed")], {"promises": [promise("2.0")]}),
    "they are not one": ([version("2.0"), mile("v2.0")], {}),
    "a container that is not read": ([version("2.0"), mile("2.0", container="acme/other")], {}),
}


@pytest.mark.parametrize("case", NONE)
def test_nothing_is_said_where(case: str) -> None:
    said, values = NONE[case]
    found = known(*said, **values)
    assert not conflicts(found, at("2026-06-20"))
    assert not any(each.differing for each in view(found, NOW).deadlines)


def test_it_is_told_from_half_a_year_ahead_and_anew_on_the_ladder_until_the_last_day_has_passed() -> None:
    found = known(version("2.0"), mile("2.0"))
    last = at("2026-07-08", 0)
    seen = [
        (now.isoformat(), [(each.severity, each.since, each.until) for each in conflicts(found, now)])
        for now in (FAR.replace(day=11), FAR, at("2026-06-08", 23), NEAR, at("2026-07-07", 23), last)
    ]
    assert [said for _, said in seen] == [
        [],
        [("info", FAR, None)],
        [("info", FAR, None)],
        [("info", FAR, NEAR), ("warning", NEAR, None)],
        [("info", FAR, NEAR), ("warning", NEAR, None)],
        [("info", FAR, NEAR), ("warning", NEAR, last)],
    ]


@pytest.mark.parametrize(
    ("ladder", "told"), [((), ["info"]), ((150, 3), ["warning", "warning"]), ((0,), ["info", "warning"])]
)
def test_the_ladder_is_the_projects(ladder: tuple[int, ...], told: list[str]) -> None:
    found = known(version("2.0"), mile("2.0"), thresholds={"ladder": ladder})
    assert [each.severity for each in conflicts(found, at("2026-07-01"))] == told


def test_what_differs_otherwise_is_another_alert_and_an_answer_to_one_is_none_to_it() -> None:
    before, after = known(version("2.0"), mile("2.0")), known(version("2.0", "2026-07-14"), mile("2.0"))
    (first,), (second,) = conflicts(before), conflicts(after)
    assert (first.due, first.since) == (second.due, second.since)
    answered = [acknowledgement(first.fingerprint, at("2026-03-15"))]
    assert [each.state for each in alerts([first, second], answered)] == [AlertState.acknowledged, AlertState.firing]


def test_it_goes_when_they_agree() -> None:
    before, after = known(*ALL, promises=[RELEASE]), known(*(), promises=[RELEASE])
    told = transitions({}, alerts(conflicts(before), ()), NOW)
    log = {move.fingerprint: Logged(move.n, move.state, move.since) for move in told}
    agreed = known(
        version("2.0", PROMISED), mile("v2.0", PROMISED), day("[milestone] 2.0", PROMISED), promises=[RELEASE]
    )
    for mended in (agreed, after):
        (move,) = transitions(log, alerts(episodes(mended, NOW), ()), NOW)
        assert move.state is AlertState.resolved


def test_the_message_says_it_once_with_what_to_do() -> None:
    found = known(*ALL, promises=[RELEASE])
    moves = transitions({}, alerts(episodes(found, NOW), ()), NOW)
    shown = view(found, NOW)
    message = compose(found.project, moves, [], progress(shown.items), first=False, now=NOW)
    assert message.subject.startswith(
        "Apollo: Release 2.0 dated differently: Tue 30 Jun 2026 (configuration, used), Sun"
    )
    assert message.text.count("Apollo · ") == 1
    assert (
        "  What to do: put Tue 30 Jun 2026 into gh and jira and calendar, or the right day into all; " in message.text
    )
    assert "Why: open" not in message.text
    first = compose(found.project, moves, [], progress(shown.items), first=True, now=NOW)
    assert first.subject == "Apollo: 1 deadline dated differently"


# --- in any order -----------------------------------------------------------------------------------------------------

some_titles = st.sampled_from(["2.0", "v2.0", " V2.0", "Release 2.0", "", "[milestone] 2.0"])
some_days = st.sampled_from([PROMISED, IN_JIRA, IN_GITHUB, IN_CALENDAR])
some_states = st.sampled_from(["open", "closed"])


@st.composite
def anything_said(draw: st.DrawFn) -> list[Said]:
    found: list[Said] = []
    for n in range(draw(st.integers(0, 4))):
        values = {"due": draw(st.none() | some_days), "state": draw(some_states)}
        found.append(
            version(draw(some_titles), ident=f"m{n}", container=draw(st.sampled_from(["APO", "BETA"])), **values)
        )
        found.append(mile(draw(some_titles), ident=f"g{n}", **values))
        named = draw(st.none() | some_titles)
        found.append(day(named, draw(some_days), ident=f"e{n}", recurring=draw(st.booleans())))
    return found


@given(
    anything_said(),
    st.permutations([JIRA, GH, TEAM, "configuration"]),
    st.integers(0, 4),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_chance_matters(said: list[Said], order: list[str], n: int, chance: random.Random) -> None:
    values = {"promises": [RELEASE], "dates": order[:n]}
    one, other = known(*said, **values), known(*chance.sample(said, len(said)), **values)
    assert sorted(map(repr, view(one, NOW).deadlines)) == sorted(map(repr, view(other, NOW).deadlines))
    assert episodes(one, NOW) == episodes(other, NOW)
    for each in view(one, NOW).deadlines:
        assert each.due_date in {None, *(d.due_date for d in each.dates)}
        assert not each.differing or each.due_date in {d.due_date for d in each.differing}
    things = [d.thing for each in view(one, NOW).deadlines for d in each.dates if d.thing.source != "configuration"]
    assert sorted(things) == sorted(set(things)), "each thing is of one deadline"
    assert len(things) == len(said)
    assert len({each.fingerprint for each in episodes(one, NOW)}) == len(episodes(one, NOW))
