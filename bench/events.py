"""The events that the benchmarks fold: up to 200 projects, each with milestones and work items whose histories have
about ten changes. The same count gives the same bytes.

Every item is read twice, before and after its last change. Of all events 2 % come again later, and 5 % out of order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

from pmsync.bus.embedded import EmbeddedBus
from pmsync.bus.port import EVENTS, Record
from pmsync.core.events import CONFIGURATION, Milestone, Project, Snapshot, Synced, Thing, WorkItem, encode, version_at

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
"""When everything has been read: a Monday, and the instant of the ticks."""
PROJECTS = 200
EVENTS_PER_PROJECT = 50
"""At least so many; a smaller log has fewer projects."""
DAYS = 180
REPEATED, DISPLACED, DISTANCE = 0.02, 0.05, 300
DUE = (-90, -30, 20, 60)
"""When the milestones of a project are due, in days from now. Those of the past are closed."""
SOURCE = "jira"
BATCH = 1000

DUE_DATE = "the item's own"
# What happens to an item in its life, one line per instant: the field, its value before, its value after.
LIFE = (
    (("estimate", None, 3000),),
    (("assignee", None, "5b10ac8d82e05b22cc7d4ef5"),),
    (("due_date", None, DUE_DATE), ("sprint", None, "41")),
    (("status", "To Do", "In Progress"), ("status_category", "todo", "in_progress")),
    (("blocked", False, True),),
    (("blocked", True, False), ("sprint", "41", "42")),
    (("estimate", 3000, 5000),),
    (("status", "In Progress", "Review"),),
    (("status", "Review", "Done"), ("status_category", "in_progress", "done")),
)


Change = dict[str, Any]


def write(path: Path, count: int) -> None:
    """A new embedded log with these events."""
    bus = EmbeddedBus(path)
    source = records(count)
    while batch := list(islice(source, BATCH)):
        bus.publish(EVENTS, batch)
    bus.close()


def records(count: int) -> Iterator[Record]:
    """`count` events in the order in which they arrive, written down."""
    random = Random(count)
    events = islice(_reads(count, random), int(count / (1 + REPEATED)))
    read = sorted((event.version, Record(event.project, encode(event))) for event in events)
    places = [
        (n + random.random() * DISTANCE * (random.random() < DISPLACED), each) for n, (_, each) in enumerate(read)
    ]
    repeated = random.choices(places, k=count - len(read))
    again = [(place + random.random() * DISTANCE, each) for place, each in repeated]
    return (each for _, each in sorted([*places, *again]))


def update(project: int, number: int) -> Snapshot:
    """One more reading of an item, after all others."""
    return _item(project, number, _life(project, number, Random(number)), NOW + timedelta(seconds=1))


def _reads(count: int, random: Random) -> Iterator[Snapshot]:
    projects = max(1, min(PROJECTS, count // EVENTS_PER_PROJECT))
    for project in range(projects):
        yield from header(project)
    for n in range(count):
        project, number = n % projects, n // projects
        life = _life(project, number, random)
        yield _item(project, number, _before_last(life), NOW - timedelta(seconds=count - n))
        yield _item(project, number, life, NOW - timedelta(microseconds=count - n))


def header(project: int) -> Iterator[Snapshot]:
    """A project's configuration, its milestones, and that it has been read."""
    key, container, at = _key(project), f"P{project}", NOW - timedelta(days=1)
    configured = Project(
        key=key,
        name=f"Project {project}",
        leader=f"leader-{project}",
        deadline=(NOW + timedelta(days=90)).date(),
        mapping={SOURCE: {container: 1}},
    )
    yield Snapshot(project=key, thing=Thing(CONFIGURATION, "project", key), version=version_at(at), content=configured)
    for n, days in enumerate(DUE):
        due = NOW + timedelta(days=days)
        milestone = Milestone(
            key=f"R{n}",
            container=container,
            title=f"Release {n}",
            due_date=due.date(),
            state="closed" if days < 0 else "open",
            closed_at=due if days < 0 else None,
        )
        yield Snapshot(project=key, thing=_milestone(project, n), version=version_at(at), content=milestone)
    synced = Synced(container=container, mapped={key: 1}, listed=0, published=0, dead=0)
    yield Snapshot(project=key, thing=Thing(SOURCE, "synced", container), version=version_at(at), content=synced)


def _life(project: int, number: int, random: Random) -> list[Change]:
    """What happened to an item up to now: its creation, then its changes."""
    at = NOW - timedelta(minutes=random.randrange(1, DAYS * 24 * 60))
    changes: list[Change] = [{"at": at}]
    due = (at + timedelta(days=random.randrange(20, 60))).date().isoformat()
    for step in LIFE:
        at += timedelta(minutes=random.randrange(120, 6000))
        for field, old, new in step:
            if at < NOW:
                value = due if new == DUE_DATE else new
                ident = f"{project}{number:05}{len(changes):02}"
                changes.append({"field": field, "from": old, "to": value, "at": at, "id": ident})
    return changes


def _before_last(life: list[Change]) -> list[Change]:
    return [change for change in life if change is life[0] or change["at"] < life[-1]["at"]]


def _item(project: int, number: int, life: list[Change], read_at: datetime) -> Snapshot:
    created, history = life[0]["at"], life[1:]
    content: dict[str, Any] = {"status": "To Do", "status_category": "todo", "blocked": False}
    content |= {change["field"]: change["to"] for change in history}
    item = WorkItem(
        key=f"P{project}-{number}",
        container=f"P{project}",
        type="Story",
        title=f"Item {number} of project {project}: a title as long as people write them",
        url=f"https://example.atlassian.net/browse/P{project}-{number}",
        created_at=created,
        milestone=_milestone(project, _release(created)).id,
        labels=("backend", "customer"),
        history=tuple(history),
        **content,
    )
    thing = Thing(SOURCE, "work_item", f"{project}{number:05}")
    return Snapshot(project=_key(project), thing=thing, version=version_at(read_at), content=item)


def _release(created: datetime) -> int:
    """An item is for the first release that is due at least a month after its creation."""
    return next((n for n, days in enumerate(DUE) if created + timedelta(days=30) < NOW + timedelta(days=days)), 3)


def _milestone(project: int, number: int) -> Thing:
    return Thing(SOURCE, "milestone", f"{project}-{number}")


def _key(project: int) -> str:
    return f"project-{project:03}"
