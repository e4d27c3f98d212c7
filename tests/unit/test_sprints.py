"""How a sprint went: what was in it when it began, what came and left, and what was done of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from builders import NOW, Item, any_items, at, item, sprint, state
from hypothesis import given

from pmsync.core.claims import claimed
from pmsync.core.events import CONFIGURATION, Snapshot, Sprint, Thing, version_at
from pmsync.core.exports import rows
from pmsync.core.measures.sprints import Course, courses
from pmsync.core.project import ProjectState, fold, load, view

BEGAN, ENDS = at("2026-03-02", 9), at("2026-03-13", 17)
EARLY = at("2026-02-20")


def course(
    items: Sequence[Item], when: datetime = NOW, phase: str = "closed", closed: datetime | None = ENDS, **values: Any
) -> Course:
    (found,) = courses_of(state(items, sprints=[sprint("7", phase, BEGAN, ENDS, closed_at=closed, **values)]), when)
    return found


def courses_of(known: ProjectState, when: datetime) -> tuple[Course, ...]:
    return courses(known, view(known, when))


def told(found: Course) -> tuple[Any, ...]:
    return found.committed, found.added, found.removed, found.progress.scope, found.progress.done


def into(when: datetime, sprint: str | None = "7") -> tuple[datetime, str, Any]:
    return when, "sprint", sprint


def away(when: datetime, container: str = "ELSE") -> tuple[datetime, str, Any]:
    return when, "container", container


def to(when: datetime, category: str = "done") -> tuple[datetime, str, Any]:
    return when, "status_category", category


@pytest.mark.parametrize(
    ("what", "one", "counts"),
    [
        ("there from before it began", item("1", [into(EARLY)]), (1, 0, 0, 1, 0)),
        ("at the very moment at which it began", item("1", [into(BEGAN)]), (1, 0, 0, 1, 0)),
        ("a moment later", item("1", [into(BEGAN + timedelta(seconds=1))]), (0, 1, 0, 1, 0)),
        ("created in it before", item("1", created=EARLY, sprint="7"), (1, 0, 0, 1, 0)),
        ("created in it since", item("1", created=at("2026-03-04"), sprint="7"), (0, 1, 0, 1, 0)),
        ("created after it was closed", item("1", created=at("2026-03-14"), sprint="7"), (0, 0, 0, 0, 0)),
        ("taken out", item("1", [into(EARLY), into(at("2026-03-05"), None)]), (1, 0, 1, 0, 0)),
        ("in and out again", item("1", [into(at("2026-03-04")), into(at("2026-03-05"), None)]), (0, 0, 0, 0, 0)),
        ("out and in again", item("1", [into(EARLY), into(at("2026-03-04"), "8"), into(at("2026-03-05"))]), (1, 0, 0, 1, 0)),
        ("never", item("1", [into(EARLY, "8")]), (0, 0, 0, 0, 0)),
        ("done in it", item("1", [into(EARLY), to(at("2026-03-10"))]), (1, 0, 0, 1, 1)),
        ("done after it", item("1", [into(EARLY), to(at("2026-03-14"))]), (1, 0, 0, 1, 0)),
        ("reopened after it", item("1", [into(EARLY), to(at("2026-03-10")), to(at("2026-03-14"), "todo")]), (1, 0, 0, 1, 1)),
        ("dropped in it", item("1", [into(EARLY), to(at("2026-03-10"), "dropped")]), (1, 0, 0, 0, 0)),
        ("done in its last minute", item("1", [into(EARLY), to(ENDS - timedelta(seconds=9))]), (1, 0, 0, 1, 1)),
        ("moved to another project after it", item("1", [into(EARLY), to(at("2026-03-10")), away(at("2026-03-15"))]), (1, 0, 0, 1, 1)),
        ("moved to another project in it", item("1", [into(EARLY), away(at("2026-03-05"))]), (1, 0, 1, 0, 0)),
        ("moved here in it", item("1", [into(EARLY), away(at("2026-03-05"), "APO")], container="ELSE"), (0, 1, 0, 1, 0)),
        ("moved here after it", item("1", [into(EARLY), away(at("2026-03-15"), "APO")], container="ELSE"), (0, 0, 0, 0, 0)),
        ("carried over when it was closed", item("1", [into(EARLY), into(ENDS, "8")]), (1, 0, 0, 1, 0)),
        ("carried over a little before", item("1", [into(EARLY), into(ENDS - timedelta(seconds=9), "8")]), (1, 0, 0, 1, 0)),
        ("carried over a little after", item("1", [into(EARLY), into(ENDS + timedelta(seconds=9), "8")]), (1, 0, 0, 1, 0)),
    ],
)  # fmt: skip
def test_a_closed_sprint(what: str, one: Item, counts: tuple[int, ...]) -> None:
    assert told(course([one])) == counts, what


@pytest.mark.parametrize(
    ("when", "phase", "counts"),
    [
        (at("2026-02-25"), "future", (None, None, None, 2, 0)),
        (BEGAN, "active", (2, 0, 0, 2, 0)),
        (at("2026-03-05"), "active", (2, 1, 1, 2, 0)),
        (at("2026-03-11"), "active", (2, 1, 1, 2, 1)),
        (at("2026-03-20"), "closed", (2, 1, 1, 2, 1)),
    ],
)
def test_one_sprint_through_its_life(when: datetime, phase: str, counts: tuple[int | None, ...]) -> None:
    items = [
        item("1", [into(EARLY), to(at("2026-03-10"))]),
        item("2", [into(EARLY), into(at("2026-03-03"), None)]),
        item("3", [into(at("2026-03-04"))]),
    ]
    found = course(items, when)
    assert (found.state, told(found)) == (phase, counts)


@pytest.mark.parametrize(
    ("phase", "starts", "closed", "seen"),
    [
        ("future", BEGAN, None, "future"),  # its day has passed, and nobody started it
        ("active", BEGAN, None, "active"),
        ("active", None, None, "future"),
        ("active", at("2026-04-01"), None, "future"),
        ("closed", BEGAN, None, "closed"),  # when it was closed is not known: when it should have been
        ("closed", None, ENDS, "closed"),
        ("active", BEGAN, ENDS, "active"),  # opened again
    ],
)
def test_what_a_sprint_is_by_its_dates(phase: str, starts: datetime | None, closed: datetime | None, seen: str) -> None:
    known = state([item("1", [into(EARLY)])], sprints=[sprint("7", phase, starts, ENDS, closed_at=closed)])
    (found,) = courses_of(known, NOW)
    assert found.state == seen
    assert (found.committed is None) == (seen == "future" or starts is None)


def test_sprints_of_other_sources_and_unread_containers_are_others() -> None:
    elsewhere = Sprint.model_validate(
        {"key": "7", "container": "APO", "sprint": "7", "title": "Seven", "state": "future"}
    )
    known = state(
        [item("1", [into(EARLY)])],
        sprints=[(Thing("other", "sprint", "1/7"), elsewhere), sprint("8", "future", container="ELSE")],
    )
    assert courses_of(known, NOW) == ()


def test_the_same_number_elsewhere_is_another_sprint() -> None:
    thing, content = item("1", [into(EARLY)])
    other = (thing._replace(source="calendar"), content.model_copy(update={"container": "team"}))
    assert told(course([other])) == (0, 0, 0, 0, 0)


def test_the_past_shows_the_dates_that_were_read_by_then() -> None:
    thing, later = sprint("7", "active", BEGAN, at("2026-03-20"))
    first = later.model_copy(update={"ends_at": ENDS})
    told = [
        Snapshot(project="apollo", thing=thing, version=version_at(when), content=content)
        for when, content in ((at("2026-03-03"), first), (at("2026-03-05"), later))
    ]
    known = state()
    told += [
        Snapshot(project="apollo", thing=Thing(CONFIGURATION, "project", "apollo"), version=1, content=known.project),
        *(Snapshot(project="apollo", thing=each, version=1, content=synced) for each, synced in known.things["synced"]),
    ]
    folded = load(fold(map(claimed, told)))
    assert folded is not None
    seen = [view(folded, at(day)).sprints[0][1].ends_at for day in ("2026-03-04", "2026-03-06")]
    assert seen == [ENDS, at("2026-03-20")]


def test_they_come_in_the_order_of_their_beginning_and_the_undated_last() -> None:
    known = state(sprints=[sprint("1", "future"), sprint("2", "active", ENDS), sprint("3", "closed", BEGAN)])
    assert [found.sprint.sprint for found in courses_of(known, NOW)] == ["3", "2", "1"]


def test_the_rows_of_an_export() -> None:
    items = [item("1", [into(EARLY), to(at("2026-03-10"))], estimate=3000), item("2", [into(at("2026-03-04"))])]
    known = state(items, sprints=[sprint("7", "closed", BEGAN, ENDS, closed_at=ENDS, goal="Sell")])
    (row,) = rows("sprints", known, NOW, NOW)
    assert row == {
        "project": "apollo", "source": "jira", "id": "1/7", "sprint": "7", "container": "APO", "title": "Sprint 7",
        "url": "", "goal": "Sell", "state": "closed", "starts_at": "2026-03-02T09:00:00Z",
        "ends_at": "2026-03-13T17:00:00Z", "closed_at": "2026-03-13T17:00:00Z", "committed": 1, "added": 1, "removed": 0,
        "scope": 2, "done": 1, "dropped": 0, "done_share": 0.5, "estimate": 3.0, "estimate_done": 3.0, "unestimated": 1,
    }  # fmt: skip
    (then,) = rows("sprints", known, at("2026-03-05"), NOW)
    assert (then["state"], then["closed_at"], then["done"]) == ("active", None, 0)


@given(any_items())
def test_what_is_in_it_is_what_was_and_came_and_did_not_leave(items: list[Item]) -> None:
    """`any_items` moves between containers and categories; here they are all of one sprint from their creation on."""
    in_it = [(thing, content.model_copy(update={"sprint": "7"})) for thing, content in items]
    found = course(in_it, phase="active", closed=None)
    kept = (found.committed or 0) + (found.added or 0) - (found.removed or 0)
    assert kept == found.progress.scope + found.progress.dropped


def test_without_a_history_nobody_knows_what_was_in_it_when_it_began() -> None:
    thing, content = item("1", created=EARLY, sprint="7")
    untold = content.model_copy(update={"untracked": ("sprint",)})
    assert told(course([(thing, untold)])) == (None, None, None, 1, 0)
    assert told(course([(thing, untold), item("2", created=EARLY)])) == (None, None, None, 1, 0)
