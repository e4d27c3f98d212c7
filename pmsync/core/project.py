"""A project's state: rows that events fold into, and the view of them at an instant.

`fold` merges by maximum and reads nothing but what events claim, so that any order, any repeats and any batches of the
same events end in the same rows (law L1). A view (`view`) shows the project as of an instant: from the sources' own
histories for tracked fields, from kept versions for milestones, releases, calendar entries and configuration.

Next on the way of an event: `pmsync/core/rules/__init__.py`, which looks at a view and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from pydantic import TypeAdapter

from pmsync.core.claims import Claim
from pmsync.core.dates import Dated, Joined, by_precedence, joined
from pmsync.core.events import (
    BLOCKED_BY,
    CONFIGURATION,
    KEPT,
    KINDS,
    Attempt,
    CalendarEntry,
    Change,
    ChangeRequest,
    Content,
    Deployment,
    Fact,
    Meaning,
    Milestone,
    Project,
    Release,
    Sprint,
    StatusCategory,
    Synced,
    Thing,
    WorkflowRun,
    WorkItem,
    version_at,
)


class Key(NamedTuple):
    """Where a row stands. `at` is 0 for the newest version of a thing, and the version itself for a kept one."""

    project: str
    source: str
    kind: str
    id: str
    at: int


class Row(NamedTuple):
    """What is known of a thing. Rows compare as tuples, and the greatest wins: the newest version, whole."""

    version: int
    gone: bool
    body: str


def entries(claim: Claim) -> Iterator[tuple[Key, Row]]:
    """The rows of a claim: the newest of its thing, and one more if versions of its kind are kept."""
    place, row = claim[:4], Row(*claim[4:])
    yield Key(*place, 0), row
    if claim.kind in KEPT and not claim.gone:
        yield Key(*place, claim.version), row


def fold(claims: Iterable[Claim]) -> dict[Key, Row]:
    """The greatest row that these claims have for each key. What is kept of many folds is again the greatest of each
    key (`greatest`), so neither order nor repeats nor the cut into batches matter."""
    folded: dict[Key, Row] = {}
    for claim in claims:
        for key, row in entries(claim):
            known = folded.get(key)
            if known is None or row > known:
                folded[key] = row
    return folded


# --- reading rows -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProjectState:
    """A project's rows, parsed. `things` are the live ones by kind; `kept` the versions read of a thing, oldest first."""

    project: Project
    things: Mapping[str, Sequence[tuple[Thing, Any]]]
    kept: Mapping[Thing, Sequence[tuple[int, Any]]] = field(default_factory=dict)
    facts: Sequence[Fact] = ()


_fact = TypeAdapter(Fact)
_contents = {kind: TypeAdapter(model) for kind, model in KINDS.items()}


def load(rows: Mapping[Key, Row]) -> ProjectState | None:
    """The state in all rows of one project; None while its configuration is not among them (or is gone)."""
    things: dict[str, list[tuple[Thing, Any]]] = {kind: [] for kind in KINDS}
    kept: dict[Thing, list[tuple[int, Any]]] = {}
    facts: list[Fact] = []
    for key, row in sorted(rows.items()):
        if key.kind not in KINDS and key.kind != "fact":
            continue  # a newer pmsync wrote it, and knows what to do with it
        thing = Thing(key.source, key.kind, key.id)
        if key.kind == "fact":
            facts.append(_fact.validate_json(row.body))
        elif key.at:
            kept.setdefault(thing, []).append((key.at, _contents[key.kind].validate_json(row.body)))
        elif not row.gone:
            things[key.kind].append((thing, _contents[key.kind].validate_json(row.body)))
    projects = things.pop("project")
    if not projects:
        return None
    return ProjectState(projects[0][1], things, kept, tuple(facts))


# --- as of an instant -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Item:
    """A work item as of an instant. `started_at` and `resolved_at` are of its present spell: going back to *to do* wipes
    both, reopening wipes `resolved_at`; they are None where the source has no whole history of the status. `estimate` is
    in thousandths, times are in seconds. `blocked_by` are the keys of what links say blocks it; of these
    `blockers` are open items of the project, `unknown_blockers` nothing that the project reads. A view judges the two."""

    thing: Thing
    content: WorkItem
    key: str
    container: str
    status: str
    status_category: StatusCategory
    assignee: str | None
    due_date: date | None
    estimate: int | None
    time_estimate: int | None
    time_spent: int | None
    time_left: int | None
    milestone: str | None
    sprint: str | None
    blocked: bool
    started_at: datetime | None
    resolved_at: datetime | None
    blocked_by: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()
    unknown_blockers: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return self.status_category is StatusCategory.done

    @property
    def open(self) -> bool:
        """Not finished, and not dropped from the scope."""
        return self.status_category in {StatusCategory.todo, StatusCategory.in_progress}


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch `[start, end)` of an item's life in which no tracked field changed."""

    start: datetime
    end: datetime
    item: Item


@dataclass(frozen=True, slots=True)
class Request:
    """A change request as of an instant; review, merge and close count once they have happened. `review_requested_at` is
    since when it waits for a review: the oldest request that stands, while it is open."""

    thing: Thing
    content: ChangeRequest
    container: str
    state: str
    milestone: str | None
    review_requested_at: datetime | None
    first_review_at: datetime | None
    merged_at: datetime | None
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Deployed:
    """A deployment as of an instant; `finished_at` is its first success, failure or error by then."""

    thing: Thing
    content: Deployment
    state: str
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Ran:
    """A workflow run as of an instant: `attempts` are those begun by then, `state` is that of the last of these."""

    thing: Thing
    content: WorkflowRun
    attempts: tuple[Attempt, ...]
    state: str

    @property
    def finished_at(self) -> datetime | None:
        """When its last attempt ended."""
        return self.attempts[-1].ended_at if self.attempts else None


@dataclass(frozen=True, slots=True)
class Deadline:
    """A milestone as a project sees it: of a source, of the configuration, or a calendar's deadline; or what several of
    these say of one.

    `items` are the work items that must be done by it. `assumed` means that nothing is known of it as early as the
    instant of the view, so that the oldest known version stands in. `dates` are the things that it is, in the order in
    which their days count: the first day is its own.
    """

    thing: Thing
    title: str
    due_date: date | None
    closed: bool
    closed_at: datetime | None
    items: tuple[Item, ...]
    url: str = ""
    assumed: bool = False
    dates: tuple[Dated, ...] = ()

    @property
    def differing(self) -> tuple[Dated, ...]:
        """Those that name a day, if these are not all the same. What is closed binds nobody any more: sources write there
        when it was."""
        dated = tuple(each for each in self.dates if each.due_date and not each.closed)
        return dated if not self.closed and len({each.due_date for each in dated}) > 1 else ()


@dataclass(frozen=True, slots=True)
class View:
    """A project at the instant `at`: what it shows, sorted by key or thing. `synced` is whether all its containers have
    been read. `calendar` is the project's own; `personal` is what is read for the sake of its team. `shown` are the containers
    that have been read."""

    project: Project
    at: datetime
    items: tuple[Item, ...]
    requests: tuple[Request, ...]
    deadlines: tuple[Deadline, ...]
    deployments: tuple[Deployed, ...]
    releases: tuple[tuple[Thing, Release], ...]
    calendar: tuple[tuple[Thing, CalendarEntry], ...]
    synced: bool
    sprints: tuple[tuple[Thing, Sprint], ...] = ()
    runs: tuple[Ran, ...] = ()
    personal: tuple[tuple[Thing, CalendarEntry], ...] = ()
    shown: frozenset[tuple[str, str]] = frozenset()

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.project.time_zone)


T = TypeVar("T", WorkItem, ChangeRequest)
TIMES = frozenset({"time_estimate", "time_spent", "time_left"})
"""Figures of working time. They change often, and no rule looks at them."""
FINISHED = frozenset({"success", "failure", "error"})
"""The states that end a deployment."""


def tracked(content: WorkItem | ChangeRequest | Deployment, at: datetime) -> dict[str, Any]:
    """The tracked fields as of `at`: the `from` of the first change after it (in the source's order), else the present
    value. Values of changes are plain (dates as text)."""
    values: dict[str, Any] = {name: getattr(content, name) for name in content.TRACKED}
    for change in reversed(content.history):
        if change.at > at:
            values[change.field] = change.old
    return values


def category_spells(content: WorkItem, until: datetime) -> list[tuple[datetime, StatusCategory]]:
    """When the item entered each category that it was in, from its creation on, as of `until`."""
    changes = [change for change in content.history if change.field == "status_category"]
    first = changes[0].old if changes else content.status_category
    spells = [(content.created_at, StatusCategory(str(first)))]
    spells += [(change.at, StatusCategory(str(change.new))) for change in changes if change.at <= until]
    return spells


def _started_and_resolved(content: WorkItem, at: datetime) -> tuple[datetime | None, datetime | None]:
    """(started, resolved), as far as the source's history goes: what is before it is not taken for the creation."""
    if "status_category" in content.untracked:
        return None, None
    started, resolved = _spell(category_spells(content, at))
    if content.history_cut:
        started = None if started == content.created_at else started
        resolved = None if resolved == content.created_at else resolved
    return started, resolved


def _spell(spells: Sequence[tuple[datetime, StatusCategory]]) -> tuple[datetime | None, datetime | None]:
    """(started, resolved) of the present spell."""
    started: datetime | None = None
    resolved: datetime | None = None
    for at, category in spells:
        if category is StatusCategory.todo:
            started = resolved = None
        elif category is StatusCategory.in_progress:
            started, resolved = started or at, None
        else:
            started, resolved = started or at, resolved or at
    return started, resolved


def item_at(thing: Thing, content: WorkItem, at: datetime) -> Item:
    """The item as of `at` (which must not be before its creation)."""
    values = tracked(content, at)
    due = values["due_date"]
    started, resolved = _started_and_resolved(content, at)
    return Item(
        thing=thing,
        content=content,
        **{
            **values,
            "due_date": date.fromisoformat(due) if isinstance(due, str) else due,
            "status_category": StatusCategory(values["status_category"]),
            "blocked": bool(values["blocked"]),
        },
        started_at=started,
        resolved_at=resolved,
        blocked_by=tuple(link.key for link in content.links if link.relation == BLOCKED_BY and link.stands(at)),
    )


def segments(item: Item, until: datetime) -> tuple[Segment, ...]:
    """The item's life from its creation to `until`, cut wherever a tracked field changed that rules look at."""
    created, history = item.content.created_at, item.content.history
    cuts = (change.at for change in history if change.field not in TIMES)
    instants = sorted({created, *(at for at in cuts if created < at <= until)})
    return tuple(
        Segment(start, end, item_at(item.thing, item.content, start)) for start, end in pairwise([*instants, until])
    )


def _request_at(thing: Thing, content: ChangeRequest, at: datetime) -> Request:
    values = tracked(content, at)
    reviews = [r.at for r in content.reviews if r.at <= at and r.reviewer != content.author and r.state != "pending"]
    asked = [r.at for r in content.review_requests if r.at <= at and (r.until is None or r.until > at)]
    return Request(
        thing=thing,
        content=content,
        container=values["container"],
        state=values["state"],
        milestone=values["milestone"],
        review_requested_at=min(asked, default=None) if values["state"] == "open" else None,
        first_review_at=min(reviews, default=None),
        merged_at=content.merged_at if content.merged_at and content.merged_at <= at else None,
        closed_at=_last_entry(content.history, "state", {"closed", "merged"}, at)
        if values["state"] != "open"
        else None,
    )


def _deployed_at(thing: Thing, content: Deployment, at: datetime) -> Deployed:
    ends = (change.at for change in content.history if change.new in FINISHED and change.at <= at)
    return Deployed(thing, content, tracked(content, at)["state"], min(ends, default=None))


def _ran_at(thing: Thing, content: WorkflowRun, at: datetime) -> Ran:
    """What an attempt came to, it came to when it ended; until then it was in progress, as far as its source tells."""
    attempts = tuple(
        attempt
        if attempt.ended_at is None or attempt.ended_at <= at
        else attempt.model_copy(update={"ended_at": None, "state": RUNNING})
        for attempt in content.attempts
        if attempt.started_at <= at
    )
    return Ran(thing, content, attempts, attempts[-1].state if attempts else QUEUED)


RUNNING, QUEUED = "in_progress", "queued"


def _last_entry(history: Iterable[Change], name: str, into: set[str], at: datetime) -> datetime | None:
    return max((c.at for c in history if c.field == name and c.new in into and c.at <= at), default=None)


def version_kept(versions: Sequence[tuple[int, T | Any]], at: datetime) -> tuple[Any, bool]:
    """The version that counted at `at` (the newest read by then, else the oldest known), and whether it is assumed."""
    read = [content for version, content in versions if version <= version_at(at)]
    return (read[-1], False) if read else (versions[0][1], True)


# --- the view ---------------------------------------------------------------------------------------------------------


def shown_containers(state: ProjectState) -> tuple[set[tuple[str, str]], bool]:
    """The (source, container) pairs whose things are shown (mapped, and read whole since), and whether these are all
    that are mapped."""
    wanted = {(source, c, since) for source, cs in state.project.mapping.items() for c, since in cs.items()}
    synced: list[tuple[Thing, Synced]] = list(state.things["synced"])
    have = {(thing.source, s.container, s.mapped.get(state.project.key)) for thing, s in synced}
    return {(source, container) for source, container, since in wanted & have}, wanted <= have


def _known(
    state: ProjectState, kind: str, shown: set[tuple[str, str]], at: datetime
) -> Iterator[tuple[Thing, Any, bool]]:
    """The live things of a kept kind as of `at`, each with whether it is assumed."""
    for thing, content in state.things[kind]:
        versions = state.kept.get(thing) or [(0, content)]
        then, assumed = version_kept(versions, at)
        if (thing.source, then.container) in shown:
            yield thing, then, assumed


def view(state: ProjectState, at: datetime) -> View:
    """The project as of `at`. What is gone from its source is not shown, whatever the instant."""
    shown, synced = shown_containers(state)
    items = [item_at(thing, c, at) for thing, c in state.things["work_item"] if c.created_at <= at]
    items = _with_blockers([item for item in items if (item.thing.source, item.container) in shown])
    requests = [_request_at(thing, c, at) for thing, c in state.things["change_request"] if c.created_at <= at]
    project = _project_at(state, at)
    known = [(thing, entry) for thing, entry, _ in _known(state, "calendar_entry", shown, at)]
    theirs = {(source, container) for source, found in project.personal.items() for container in found}
    calendar = tuple(each for each in known if _container(each) not in theirs)
    milestones = _known(state, "milestone", shown, at)
    deployments = (_deployed_at(thing, c, at) for thing, c in state.things["deployment"] if c.created_at <= at)
    releases = ((thing, each) for thing, each, _ in _known(state, "release", shown, at))
    runs = (_ran_at(thing, c, at) for thing, c in state.things["workflow_run"] if c.created_at <= at)
    ordered = tuple(sorted(items, key=lambda item: (item.thing.source, item.key, item.thing.id)))
    return View(
        project=project,
        at=at,
        items=ordered,
        requests=tuple(
            sorted(
                (request for request in requests if (request.thing.source, request.container) in shown),
                key=lambda request: (request.thing.source, request.content.key),
            )
        ),
        deadlines=tuple(_deadlines(project, milestones, calendar, ordered, at)),
        deployments=tuple(
            sorted(
                (each for each in deployments if (each.thing.source, each.content.container) in shown),
                key=lambda each: each.thing,
            )
        ),
        releases=tuple(
            sorted((each for each in releases if (each[1].published_at or each[1].created_at) <= at), key=_thing)
        ),
        calendar=calendar,
        synced=synced,
        sprints=tuple((thing, sprint) for thing, sprint, _ in _known(state, "sprint", shown, at)),
        runs=tuple(
            sorted(
                (each for each in runs if (each.thing.source, each.content.container) in shown),
                key=lambda each: each.thing,
            )
        ),
        personal=tuple(each for each in known if _container(each) in theirs),
        shown=frozenset(shown),
    )


def _container(known: tuple[Thing, CalendarEntry]) -> tuple[str, str]:
    return known[0].source, known[1].container


def _with_blockers(items: Sequence[Item]) -> list[Item]:
    """Each item with what blocks it, by the keys that these have as of the view's instant."""
    linked = {item.thing.source for item in items if item.blocked_by}
    # A link names the key that the other item had when the item with the link changed last; no key is ever given twice.
    known = {(i.thing.source, key): i for i in items if i.thing.source in linked for key in _keys(i.content)}
    return [_judged(item, known) if item.blocked_by else item for item in items]


def _keys(content: WorkItem) -> set[str]:
    """All keys that an item has or had."""
    return {content.key, *(str(change.old) for change in content.history if change.field == "key")}


def _judged(item: Item, known: Mapping[tuple[str, str], Item]) -> Item:
    found = {key: known.get((item.thing.source, key)) for key in item.blocked_by}
    return replace(
        item,
        blocked_by=tuple(sorted({other.key if other else key for key, other in found.items()})),
        blockers=tuple(sorted({other.key for other in found.values() if other and other.open})),
        unknown_blockers=tuple(sorted(key for key, other in found.items() if other is None)),
    )


def _thing(known: tuple[Thing, Any]) -> Thing:
    return known[0]


TODAYS = ("mapping", "thresholds", "notify", "team", "personal", "count_meetings", "per_person")


def _project_at(state: ProjectState, at: datetime) -> Project:
    """The project as configured at `at`, but with today's mapping, thresholds and team (which says itself who was there when):
    figures of the past are shown as a fresh installation would show them."""
    thing = Thing(CONFIGURATION, "project", state.project.key)
    versions = state.kept.get(thing)
    if not versions:
        return state.project
    then, _ = version_kept(versions, at)
    return Project.model_validate(then.model_copy(update={name: getattr(state.project, name) for name in TODAYS}))


def _deadlines(
    project: Project,
    milestones: Iterator[tuple[Thing, Any, bool]],
    calendar: Sequence[tuple[Thing, CalendarEntry]],
    items: Sequence[Item],
    at: datetime,
) -> Iterator[Deadline]:
    """The project's own deadline, then milestones of sources (joined with what else is one of them), then promises without
    a milestone, then deadlines of calendars."""
    in_scope = tuple(item for item in items if item.status_category is not StatusCategory.dropped)
    if project.deadline:
        own = Dated(Thing(CONFIGURATION, "project", project.key), project.key, project.name, project.deadline)
        yield Deadline(own.thing, project.name, project.deadline, False, None, in_scope, dates=(own,))
    by_milestone: dict[tuple[str, str], list[Item]] = {}
    for item in in_scope:
        if item.milestone:
            by_milestone.setdefault((item.thing.source, item.milestone), []).append(item)
    known = [
        _milestone_at(thing, milestone, at, assumed=assumed)
        for thing, milestone, assumed in sorted(milestones, key=lambda m: (m[1].due_date or date.max, m[0]))
        if not milestone.created_at or milestone.created_at <= at
    ]
    known += _calendar_dates(calendar, ZoneInfo(project.time_zone))
    for found in joined(known, project):
        items_of = (by_milestone.get((each.thing.source, each.thing.id), ()) for each in found.dates if each.has_items)
        yield _deadline(found, tuple(item for some in items_of for item in some), project)


def _deadline(found: Joined, items: tuple[Item, ...], project: Project) -> Deadline:
    """It is closed when all that can be closed is."""
    first = found.first
    ends = [each.closed_at for each in found.dates if each.has_items]
    closed = bool(ends) and all(each.closed for each in found.dates if each.has_items)
    dates = by_precedence(found.dates, project)
    return Deadline(
        thing=first.thing,
        title=found.title,
        due_date=next((each.due_date for each in dates if each.due_date), None),
        closed=closed,
        closed_at=max((end for end in ends if end), default=None) if closed and all(ends) else None,
        items=items,
        url=first.url,
        assumed=any(each.assumed for each in found.dates),
        dates=dates,
    )


def _milestone_at(thing: Thing, milestone: Milestone, at: datetime, *, assumed: bool) -> Dated:
    closed = milestone.state == "closed" and (milestone.closed_at is None or milestone.closed_at <= at)
    return Dated(
        thing,
        milestone.container,
        milestone.title,
        milestone.due_date,
        closed,
        milestone.closed_at if closed else None,
        milestone.url,
        assumed,
    )


def _calendar_dates(calendar: Sequence[tuple[Thing, CalendarEntry]], zone: ZoneInfo) -> Iterator[Dated]:
    """One for each day that an entry names."""
    for thing, entry in calendar:
        if entry.meaning in {Meaning.deadline, Meaning.milestone}:
            for due in sorted({local_day(occurrence.start, zone) for occurrence in entry.occurrences}):
                title = entry.title or f"{entry.meaning.value.capitalize()} in {entry.container}"
                ident = f"{thing.id}@{due.isoformat()}" if entry.recurring else thing.id
                yield Dated(
                    thing._replace(id=ident),
                    entry.container,
                    title,
                    due,
                    nameless=not entry.title,
                    recurring=entry.recurring,
                )


def local_day(when: datetime | date, zone: ZoneInfo) -> date:
    """The day of an instant in a zone; a date is its own. At the ends of time there are no other zones."""
    if not isinstance(when, datetime):
        return when
    try:
        return when.astimezone(zone).date()
    except OverflowError:
        return when.date()


def day_end(day: date, zone: ZoneInfo) -> datetime:
    """The instant at which a day ends in a zone."""
    return datetime.combine(day + timedelta(days=1), datetime.min.time(), zone)


__all__ = [
    "Content",
    "Deadline",
    "Deployed",
    "Item",
    "Key",
    "ProjectState",
    "Ran",
    "Request",
    "Row",
    "Segment",
    "View",
    "category_spells",
    "day_end",
    "entries",
    "fold",
    "item_at",
    "load",
    "local_day",
    "segments",
    "shown_containers",
    "tracked",
    "version_kept",
    "view",
]
