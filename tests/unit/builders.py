"""Short builders of projects, items and states, for tests of the core.

An item is told as it happened: what it was at its creation, then its moves `(when, field, value)` in order. Its history
and its present values follow.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from pmsync.core.events import (
    Acknowledgement,
    Attempt,
    CalendarEntry,
    Change,
    Deployment,
    Fact,
    Meaning,
    Milestone,
    Occurrence,
    Project,
    Release,
    Sprint,
    Synced,
    Thing,
    WorkflowRun,
    WorkItem,
)
from pmsync.core.project import ProjectState

JIRA = "jira"
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
Move = tuple[datetime, str, Any]
Item = tuple[Thing, WorkItem]


def at(day: str, hour: int = 12, minute: int = 0) -> datetime:
    """An instant of a day in UTC: `at("2026-03-02", 9)`."""
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(hours=hour, minutes=minute)


NOW = at("2026-03-16")  # a Monday
START = at("2026-01-05", 9)  # a Monday


def item(ident: str = "1", moves: Sequence[Move] = (), *, created: datetime = START, **initial: Any) -> Item:
    """A work item `APO-<ident>`."""
    values: dict[str, Any] = {
        "container": "APO", "status_category": "todo", "due_date": None, "estimate": None, "milestone": None, "blocked": False,
    } | initial  # fmt: skip
    history = []
    for n, (when, field, value) in enumerate(moves):
        history.append(Change(field=field, old=values.get(field), new=value, at=when, id=f"{ident}.{n}"))
        values[field] = value
    values.setdefault("key", f"APO-{ident}")
    values.setdefault("status", str(values["status_category"]))
    content = WorkItem.model_validate(
        {"type": "Task", "title": f"Item {ident}", "created_at": created, "history": history, **values}
    )
    return Thing(JIRA, "work_item", ident), content


def done(ident: str, when: datetime, *, created: datetime = START, **initial: Any) -> Item:
    """An item that was finished at an instant."""
    return item(ident, [(when, "status_category", "done")], created=created, **initial)


def milestone(ident: str = "m1", due: str | None = None, **values: Any) -> tuple[Thing, Milestone]:
    content = {"key": ident.upper(), "container": "APO", "title": f"Release {ident}", "due_date": due, **values}
    return Thing(JIRA, "milestone", ident), Milestone.model_validate(content)


def deployment(
    ident: str = "1", states: Sequence[tuple[datetime, str]] = (), *, created: datetime = START, **values: Any
) -> tuple[Thing, Deployment]:
    """A deployment with the states that it went through; to production, unless it is said otherwise."""
    olds = ["pending", *(state for _, state in states)]
    history = [
        Change(field="state", old=old, new=state, at=when, id=f"{ident}.{n}")
        for n, (old, (when, state)) in enumerate(zip(olds, states, strict=False))
    ]
    content = {
        "container": "APO", "environment": "production", "production": True, "ref": f"v{ident}", "sha": "5ca1ab1e",
        "created_at": created, "state": olds[-1], "history": history, **values,
    }  # fmt: skip
    return Thing(JIRA, "deployment", ident), Deployment.model_validate(content)


def release(ident: str = "1", published: datetime | None = None, **values: Any) -> tuple[Thing, Release]:
    content = {"key": f"v{ident}", "container": "APO", "title": f"Version {ident}", "created_at": START, **values}
    return Thing(JIRA, "release", ident), Release.model_validate(
        {**content, "published_at": published, "draft": published is None}
    )


def workflow_run(
    ident: str, *attempts: tuple[datetime, datetime | None, str], created: datetime | None = None, **values: Any
) -> tuple[Thing, WorkflowRun]:
    """A run of CI with its attempts (begun, ended, state); it was created with the first of them."""
    tries = [
        Attempt(number=n, started_at=began, ended_at=ended, state=came_to)
        for n, (began, ended, came_to) in enumerate(attempts, 1)
    ]
    content = {
        "container": "APO", "workflow": "7", "name": "CI", "number": int(ident), "branch": "main", "event": "push",
        "sha": "5ca1ab1e", "created_at": created or attempts[0][0], "state": attempts[-1][2], "attempts": tries, **values,
    }  # fmt: skip
    return Thing(JIRA, "workflow_run", ident), WorkflowRun.model_validate(content)


def sprint(
    ident: str, phase: str, starts: datetime | None = None, ends: datetime | None = None, **values: Any
) -> tuple[Thing, Sprint]:
    """The sprint by which items name it `<ident>`."""
    content = {"key": ident, "container": "APO", "sprint": ident, "title": f"Sprint {ident}", "state": phase}
    dates = {"starts_at": starts, "ends_at": ends}
    return Thing(JIRA, "sprint", f"1/{ident}"), Sprint.model_validate(content | dates | values)


def entry(
    ident: str, meaning: Meaning, start: date | datetime, end: date | datetime | None = None, **values: Any
) -> tuple[Thing, CalendarEntry]:
    """A calendar entry; all of a day unless it has an end."""
    occurrence = Occurrence(start=start, end=end or start + timedelta(days=1))
    content = CalendarEntry(container="team", meaning=meaning, occurrences=(occurrence,), **values)
    return Thing("calendar", "calendar_entry", ident), content


def acknowledgement(fingerprint: str, when: datetime, by: str = "ada", ident: str = "f1", note: str = "") -> Fact:
    return Fact(project="apollo", id=ident, at=when, content=Acknowledgement(fingerprint=fingerprint, by=by, note=note))


def project(**values: Any) -> Project:
    """The project, with `promises` for the milestones that the configuration names."""
    values["milestones"] = values.pop("promises", ())
    mapping = {JIRA: {"APO": 1}, "calendar": {"team": 1}}
    return Project.model_validate({"key": "apollo", "name": "Apollo", "mapping": mapping, **values})


def state(
    items: Iterable[Item] = (),
    milestones: Iterable[tuple[Thing, Milestone]] = (),
    calendar: Iterable[tuple[Thing, CalendarEntry]] = (),
    facts: Sequence[Fact] = (),
    deployments: Iterable[tuple[Thing, Deployment]] = (),
    releases: Iterable[tuple[Thing, Release]] = (),
    sprints: Iterable[tuple[Thing, Sprint]] = (),
    runs: Iterable[tuple[Thing, WorkflowRun]] = (),
    **values: Any,
) -> ProjectState:
    """A state in which every mapped container has been read."""
    configured = project(**values)
    synced = [
        (
            Thing(source, "synced", container),
            Synced(container=container, mapped={configured.key: since}, listed=0, published=0, dead=0),
        )
        for source, containers in configured.mapping.items()
        for container, since in containers.items()
    ]
    things: dict[str, Sequence[tuple[Thing, Any]]] = {
        "work_item": list(items),
        "change_request": [],
        "deployment": list(deployments),
        "release": list(releases),
        "workflow_run": list(runs),
        "milestone": list(milestones),
        "sprint": list(sprints),
        "calendar_entry": list(calendar),
        "synced": synced,
    }
    return ProjectState(configured, things, {}, facts)


def binary(raw: bytes, content_type: str = "application/json") -> tuple[bytes, list[tuple[str, bytes]]]:
    """A structured record of the log in binary mode, as others may write it: the data, and the attributes as headers."""
    envelope = json.loads(raw)
    data = json.dumps(envelope.pop("data"), ensure_ascii=False).encode()
    del envelope["datacontenttype"]
    return data, [("content-type", content_type.encode()), *((f"ce_{k}", v.encode()) for k, v in envelope.items())]


# --- any history ------------------------------------------------------------------------------------------------------

_MOVES = st.one_of(
    st.tuples(st.just("status_category"), st.sampled_from(["todo", "in_progress", "done", "dropped"])),
    st.tuples(st.just("container"), st.sampled_from(["APO", "ELSE"])),
    st.tuples(st.just("estimate"), st.sampled_from([None, 1000, 2500])),
    st.tuples(st.just("due_date"), st.sampled_from([None, "2026-03-02", "2026-03-17", "2026-04-01"])),
    st.tuples(st.just("milestone"), st.sampled_from([None, "m1", "m2"])),
    st.tuples(st.just("blocked"), st.booleans()),
)


@st.composite
def any_item(draw: st.DrawFn, ident: str) -> Item:
    """An item with any history from January to March, several moves at one instant included."""
    moves = draw(st.lists(_MOVES, max_size=8))
    hours = sorted(draw(st.lists(st.integers(0, 24 * 70), min_size=len(moves), max_size=len(moves))))
    told = [(START + timedelta(hours=h), *move) for h, move in zip(hours, moves, strict=True)]
    return item(ident, told, created=START + timedelta(hours=draw(st.integers(0, 48))))


@st.composite
def any_items(draw: st.DrawFn, most: int = 6) -> list[Item]:
    return [draw(any_item(str(n))) for n in range(draw(st.integers(0, most)))]
