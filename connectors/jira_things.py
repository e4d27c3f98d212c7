"""Jira: what its answers mean: issues and the whole of their changelog, versions, and the statuses and fields of their site.

All of it is pure. A status is judged by its id, since names differ from team to team and change.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeVar

from connectors.base import Mark, Read, Ref
from connectors.jira_links import BLOCKING, Named, Step, links, relation, told
from connectors.jira_values import (
    Unreadable,
    account,
    dump,
    identity,
    instant,
    maybe,
    problem,
    rank,
    seconds,
    take,
    typed,
)
from connectors.jira_worklogs import wordless, worklogs
from pmsync.core.events import MAX_CHANGES, MAX_LINKS, Change, Link, Milestone, Scalar, StatusCategory, WorkItem

T = TypeVar("T")

SKEW = timedelta(seconds=2)
"""Jira stamps a change and the issue's `updated` a few milliseconds apart, in either order, and Data Center may show the
latter in whole seconds."""
MOST_POINTS = 10**9

ESTIMATES = ("Story Points", "Story point estimate")
ISSUE_FIELDS = (
    "summary", "issuetype", "project", "status", "assignee", "duedate", "created", "updated", "fixVersions", "labels", "parent",
    "resolution", "timeoriginalestimate", "timespent", "timeestimate", "issuelinks", "worklog",
)  # fmt: skip
CATEGORIES: Mapping[str, StatusCategory] = {
    "new": StatusCategory.todo,
    "indeterminate": StatusCategory.in_progress,
    "done": StatusCategory.done,
}
DROPPED = (
    "won't do", "won't fix", "wont do", "wont fix", "will not do", "will not fix", "duplicate", "cannot reproduce",
    "could not reproduce", "declined", "rejected", "invalid", "incomplete", "not a bug", "not an issue", "obsolete",
    "abandoned", "withdrawn", "canceled", "cancelled",
)  # fmt: skip
"""Resolutions that say of something closed that it was not done: Jira's own, and what teams commonly add."""
SPRINT_ID = re.compile(r"\[id=(\d+),|,id=(\d+),name=|,id=(\d+)\]$")
SPRINT_STATE = re.compile(r",state=(\w+),name=|,state=(\w+)\]$")


class Status(NamedTuple):
    """What a status id means today; `category` is None where Jira's category is none of ours."""

    name: str
    category: StatusCategory | None


class CustomField(NamedTuple):
    """A custom field; its id differs from site to site."""

    id: str
    name: str


class Issue(NamedTuple):
    """An issue as Jira sent it, and the histories of its changelog; `is_cut`: the oldest of them are missing."""

    raw: Any
    histories: Sequence[Any]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """What must be known of a Jira site to read its issues. Several fields may bear one name."""

    url: str
    statuses: Mapping[str, Status]
    estimate: tuple[CustomField, ...] = ()
    sprint: tuple[CustomField, ...] = ()
    flagged: tuple[CustomField, ...] = ()
    epic: tuple[CustomField, ...] = ()
    """Where Data Center keeps the epic's key; on Cloud an epic is a parent."""
    dropped: frozenset[str] = frozenset(DROPPED)
    blocking: frozenset[str] = frozenset(BLOCKING)
    containers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """id -> configured name, of the projects whose configured name is known."""

    @property
    def fields(self) -> list[str]:
        """The fields to ask for."""
        return [*ISSUE_FIELDS, *(field.id for field in self.estimate + self.sprint + self.flagged + self.epic)]


def site(url: str, statuses: Any, fields: Any, story_points: str | None) -> Site:
    """What Jira's lists of statuses and fields say about reading its issues."""
    custom = [raw for raw in typed(fields, list, "the list of fields") if maybe(raw, "custom", bool)]
    sprint, epic = (
        [take(raw, "name", str) for raw in custom if str(maybe(raw, "schema.custom", str)).endswith(kind)]
        for kind in (":gh-sprint", ":gh-epic-link")
    )
    return Site(
        url=url,
        statuses=dict(_status(raw) for raw in typed(statuses, list, "the list of statuses")),
        estimate=_called(custom, (story_points,) if story_points else ESTIMATES),
        sprint=_called(custom, sprint or ("Sprint",)),
        flagged=_called(custom, ("Flagged",)),
        epic=_called(custom, epic),
    )


def plain_names(names: Iterable[str]) -> frozenset[str]:
    """Names of a list that people configure, as names are compared."""
    return frozenset(map(_plain_name, names))


def _called(custom: Iterable[Any], names: Sequence[str]) -> tuple[CustomField, ...]:
    """The custom fields of these names, in the order of the names."""
    found = [CustomField(take(raw, "id", str), take(raw, "name", str)) for raw in custom]
    return tuple(sorted((f for f in found if f.name in names), key=lambda f: (names.index(f.name), f.id)))


def _status(raw: Any) -> tuple[str, Status]:
    category = CATEGORIES.get(maybe(raw, "statusCategory.key", str) or "")
    return take(raw, "id", str), Status(take(raw, "name", str), category)


def marks(kind: str, things: Iterable[Any]) -> list[Mark]:
    """Lines of a sweep."""
    return [Mark(Ref(kind, take(raw, "id", str)), updated_at(raw)) for raw in things]


def updated_at(raw: Any) -> datetime | None:
    """None where it cannot be read: an issue is then fetched and looked at; a version has none."""
    try:
        return instant(take(raw, "fields.updated", str), "fields.updated")
    except Unreadable:
        return None


def failures(answer: Any) -> dict[str, Read]:
    """The issues that Jira has but could not give; those that are gone are merely absent from its answer."""
    return {
        ident: Read(Ref("work_item", ident), problem="Jira has this issue but could not give it", raw=dump(error))
        for error in maybe(answer, "issueErrors", list) or []
        if (ident := identity(error))
    }


def read_version(raw: Any, container: str, url: str) -> Read:
    """A version as a read; one that cannot be translated says why."""
    ref = Ref("milestone", identity(raw) or "unreadable")
    try:
        return Read(ref, content=translate_version(raw, container, url))
    except (ValueError, OverflowError) as error:
        return Read(ref, problem=problem(error), raw=dump(raw))


def translate_version(raw: Any, container: str, url: str) -> Milestone:
    """A version of the project `container`. Raises ValueError."""
    ident, name = take(raw, "id", str), take(raw, "name", str)
    closed = maybe(raw, "released", bool) or maybe(raw, "archived", bool)
    return Milestone(
        key=name,
        container=container,
        title=name,
        url=f"{url}/projects/{container}/versions/{ident}",
        start_date=_day(maybe(raw, "startDate", str), "startDate"),
        due_date=_day(maybe(raw, "releaseDate", str), "releaseDate"),
        state="closed" if closed else "open",
    )


def read_issue(issue: Issue, site: Site) -> Read:
    """An issue and its histories as a read; one that cannot be translated says why."""
    raw = issue.raw
    ref, time = Ref("work_item", identity(raw) or "unreadable"), updated_at(raw)
    try:
        return Read(ref, time, content=translate_issue(issue, site))
    except (ValueError, OverflowError) as error:
        return Read(
            ref, time, problem=problem(error), raw=dump({"issue": wordless(raw), "changelog": list(issue.histories)})
        )


def translate_issue(issue: Issue, site: Site) -> WorkItem:
    """An issue with the histories of its changelog, as they stood when it was last changed. Raises ValueError."""
    raw = issue.raw
    take(raw, "id", str)
    key, status = take(raw, "key", str), site.statuses.get(take(raw, "fields.status.id", str))
    if status is None or status.category is None:
        raise Unreadable("fields.status has an id or a category that Jira's list of statuses does not explain")
    updated = instant(take(raw, "fields.updated", str), "fields.updated")
    entries = [entry for entry in _entries(issue.histories) if entry.at < updated + SKEW]
    chosen = [_chosen(fields, raw, entries) for fields in (site.estimate, site.sprint, site.flagged)]
    versions = [take(version, "id", str) for version in maybe(raw, "fields.fixVersions", list) or []]
    resolution = _resolution(raw, site)
    project, linked = take(raw, "fields.project.key", str), _links(raw, entries, site)
    logged = worklogs(raw)
    item = WorkItem(
        key=key,
        container=site.containers.get(maybe(raw, "fields.project.id", str) or "", project),
        type=take(raw, "fields.issuetype.name", str),
        title=take(raw, "fields.summary", str),
        url=f"{site.url}/browse/{key}",
        created_at=instant(take(raw, "fields.created", str), "fields.created"),
        status=status.name,
        status_category=_resolved(status.category, resolution),
        assignee=account(raw, "fields.assignee"),
        due_date=_day(maybe(raw, "fields.duedate", str), "fields.duedate"),
        estimate=_points(_custom(raw, chosen[0]), "the estimate"),
        time_estimate=seconds(maybe(raw, "fields.timeoriginalestimate", object), "the original estimate"),
        time_spent=seconds(maybe(raw, "fields.timespent", object), "the time spent"),
        time_left=seconds(maybe(raw, "fields.timeestimate", object), "the remaining estimate"),
        milestone=_first(versions),
        sprint=_sprint(_custom(raw, chosen[1])),
        blocked=bool(_custom(raw, chosen[2])),
        parent=_parent(raw, site),
        labels=tuple(sorted({typed(label, str, "fields.labels") for label in maybe(raw, "fields.labels", list) or []})),
        links=tuple(linked[:MAX_LINKS]),
        links_cut=len(linked) > MAX_LINKS,
        worklogs=logged.kept,
        worklogs_cut=logged.is_cut,
    )
    changes = _changes(entries, _readers(site, chosen), site.containers)
    past = _categories(changes, entries, status.category, resolution, site)
    return _with_history(item, _milestones(past.changes, entries, versions), past.is_whole, issue.is_cut)


class Entry(NamedTuple):
    """One history of a changelog: the items that were changed together, each with the name of its field."""

    at: datetime
    id: str
    items: Sequence[tuple[str, Any]]


def _entries(changelog: Sequence[Any]) -> list[Entry]:
    """Oldest first, each once: Jira promises neither of one issue's histories."""
    found = {}
    for raw in changelog:
        ident = take(raw, "id", str)
        at = instant(take(raw, "created", object), "created of a changelog entry")
        found[ident] = Entry(at, ident, [(_name(item), item) for item in take(raw, "items", list)])
    return sorted(found.values(), key=lambda entry: _place(entry.at, entry.id))


def _place(at: datetime, ident: str) -> tuple[datetime, float, str]:
    return at, rank(ident), ident


Values = Callable[[Any, Any], Scalar]
"""(id, text) of one side of a changelog item -> the value of our field."""
Readers = Mapping[str, Sequence[tuple[str, Values]]]


def _readers(site: Site, chosen: Sequence[CustomField | None]) -> Readers:
    """For each name by which a changelog calls a field: which of ours it is, and how its values are read."""
    known = site.statuses
    readers: dict[str, Sequence[tuple[str, Values]]] = {
        "status": (
            ("status", lambda ident, text: known[ident].name if ident in known else typed(text, str, "a past status")),
            ("status_category", lambda ident, _: known[ident].category if ident in known else None),
        ),
        "assignee": (("assignee", lambda ident, _: ident),),
        "duedate": (("due_date", lambda ident, text: _iso(_day(ident or text, "a past due date"))),),
        "timeoriginalestimate": (("time_estimate", _past_seconds),),
        "timespent": (("time_spent", _past_seconds),),
        "timeestimate": (("time_left", _past_seconds),),
        "key": (("key", lambda _, text: _key(text)), ("container", lambda _, text: _key(text).rpartition("-")[0])),
    }
    readers["issuekey"] = readers["key"]
    ours: tuple[tuple[str, Values], ...] = (
        ("estimate", lambda ident, text: _points(text or ident, "a past estimate")),
        ("sprint", lambda ident, _: (ident or "").rpartition(",")[2].strip() or None),
        ("blocked", lambda ident, text: bool(ident or text)),
    )
    for field, reader in zip(chosen, ours, strict=True):
        if field is not None:
            readers[field.id] = readers[f"custom {field.name.lower()}"] = (reader,)
    return readers


def _name(item: Any) -> str:
    """How a changelog item calls its field; ids are often left out, of custom fields above all."""
    ident, name = maybe(item, "fieldId", str), (maybe(item, "field", str) or "").lower()
    custom = maybe(item, "fieldtype", str) == "custom"
    return (ident if custom else ident and ident.lower()) or (f"custom {name}" if custom else name)


def _changes(entries: Iterable[Entry], readers: Readers, containers: Mapping[str, str]) -> list[Change]:
    changes: list[Change] = []
    for entry in entries:
        times: defaultdict[str, int] = defaultdict(int)
        homes = _homes(entry, containers)
        for name, item in entry.items:
            for field, values in readers.get(name, ()):
                ident = f"{entry.id}.{times[field]}" if times[field] else entry.id
                times[field] += 1
                old, new = (values(*_side(item, *names)) for names in SIDES)
                if field == "container":
                    old, new = homes[0] or old, homes[1] or new
                changes.append(Change(field=field, old=old, new=new, at=entry.at, id=ident))
    return changes


SIDES = (("from", "fromString"), ("to", "toString"))


def _homes(entry: Entry, containers: Mapping[str, str]) -> tuple[str | None, ...]:
    """The configured names of the projects that a move was from and to: keys of the past may be other ones."""
    moved = [item for name, item in entry.items if name == "project"]
    ids = [maybe(moved[0], name, str) if moved else None for name, _ in SIDES]
    return tuple(containers.get(ident or "") for ident in ids)


def _side(item: Any, ident: str, text: str) -> tuple[str | None, str | None]:
    return maybe(item, ident, str) or None, maybe(item, text, str) or None


class Resolution(NamedTuple):
    """Why an issue is closed; `id` is None where it has none."""

    id: str | None
    is_dropped: bool


class Categories(NamedTuple):
    """Changes of all fields, those of the category as the resolutions of their time have it."""

    changes: Sequence[Change]
    is_whole: bool


def _categories(
    changes: Sequence[Change], entries: Sequence[Entry], category: StatusCategory, present: Resolution, site: Site
) -> Categories:
    """Let each resolution say whether what was closed was done, from today's backwards. Where the changelog does not
    lead to today's (`is_whole`), and it matters, there is no history of the category."""
    steps: defaultdict[str, list[Change]] = defaultdict(list)
    for change in changes:
        if change.field == "status_category":
            steps[change.id.partition(".")[0]].append(change)
    found = [change for change in changes if change.field != "status_category"]
    now: Scalar = category
    after, is_whole, matters = present, True, present.is_dropped
    for entry in reversed(entries):
        before = after
        for item in reversed([item for name, item in entry.items if name == "resolution"]):
            old, new = (_past_resolution(*_side(item, *names), present, site) for names in SIDES)
            is_whole &= new.id == before.id
            matters |= old.is_dropped or new.is_dropped
            before = old
        # Status and resolution mostly change together; a resolution alone may change the category too.
        own = [(change.old, change.new, change.id) for change in steps[entry.id]]
        for number, (was, became, ident) in enumerate(own or [(now, now, entry.id)], 1):
            step = _resolved(was, before), _resolved(became, after if number >= len(own) else before)
            if own or step[0] != step[1]:
                found.append(Change(field="status_category", old=step[0], new=step[1], at=entry.at, id=ident))
        after, now = before, own[0][0] if own else now
    return Categories(found, is_whole or not matters)


def _milestones(changes: Sequence[Change], entries: Sequence[Entry], versions: Iterable[str]) -> list[Change]:
    """Add the milestone's changes. A changelog tells only versions added and removed, and nothing of those that the
    issue was created with: so from today's set backwards."""
    found, after = list(changes), set(versions)
    for entry in reversed(entries):
        moved = [item for name, item in entry.items if name in ("fixversions", "fix version")]
        before = set(after) if moved else after
        for item in reversed(moved):
            before.discard(maybe(item, "to", str) or "")
            before |= {ident for ident in (maybe(item, "from", str),) if ident}
        if moved and _first(before) != _first(after):
            found.append(Change(field="milestone", old=_first(before), new=_first(after), at=entry.at, id=entry.id))
        after = before
    return sorted(found, key=lambda change: _place(change.at, change.id.partition(".")[0]))


def _with_history(item: WorkItem, changes: Sequence[Change], is_whole: bool, is_cut: bool) -> WorkItem:
    """A category that nobody knows any more (its status was deleted) is no history: the field is then untracked."""
    lost = any(None in (change.old, change.new) for change in changes if change.field == "status_category")
    untracked = ("status_category",) if lost or not is_whole else ()
    kept = _agreeing(item, [change for change in changes if change.field not in untracked])
    return item.model_copy(
        update={
            "history": tuple(kept[-MAX_CHANGES:]),
            "history_cut": is_cut or len(kept) > MAX_CHANGES,
            "untracked": untracked,
        }
    )


def _agreeing(item: WorkItem, changes: Iterable[Change]) -> list[Change]:
    """The last change of a field ends at the present value: renaming and deleting leave no trace in a changelog."""
    present, agreed = item.model_dump(mode="json"), list(changes)
    last = {change.field: index for index, change in enumerate(agreed)}
    for field, index in last.items():
        if agreed[index].new != present[field]:
            agreed[index] = agreed[index].model_copy(update={"new": present[field]})
    return agreed


def _chosen(fields: Sequence[CustomField], raw: Any, entries: Sequence[Entry]) -> CustomField | None:
    """Of several fields of one meaning: the one with a value, else one with a past, else the first."""
    if len(fields) < 2:
        return next(iter(fields), None)
    past = {name for entry in entries for name, _ in entry.items}
    return max(fields, key=lambda f: (_custom(raw, f) is not None, bool(past & {f.id, f"custom {f.name.lower()}"})))


def _custom(raw: Any, field: CustomField | None) -> Any:
    return None if field is None else maybe(raw, f"fields.{field.id}", object)


def _parent(raw: Any, site: Site) -> str | None:
    """The key of what the issue is a part of: of the issue that it is a sub-task of, else of its epic."""
    if maybe(raw, "fields.parent", dict):
        return take(raw, "fields.parent.key", str)
    epics = [typed(value, str, "the epic") for field in site.epic if (value := _custom(raw, field)) is not None]
    return next(filter(None, epics), None)


def _links(raw: Any, entries: Iterable[Entry], site: Site) -> list[Link]:
    """The issue's links to others; of links to pages and other sites nothing is read, nor of one that cannot be."""
    steps = [
        Step(entry.at, *(_told_link(item, text, site) for _, text in SIDES))
        for entry in entries
        for name, item in entry.items
        if name in ("link", "issuelinks")
    ]
    present = (_link(each, site) for each in maybe(raw, "fields.issuelinks", list) or [])
    return links(filter(None, present), steps)


def _link(raw: Any, site: Site) -> Named | None:
    """A link says the words of its type for either end; the issue that it holds is the other end."""
    with suppress(Unreadable):
        side = "outward" if maybe(raw, "inwardIssue", dict) is None else "inward"
        words = take(raw, f"type.{side}", str)
        return Named(relation(_plain_name(words), site.blocking), take(raw, f"{side}Issue.key", str))
    return None


def _told_link(item: Any, side: str, site: Site) -> Named | None:
    text = item.get(side)
    found = told(text) if isinstance(text, str) else None
    return found and Named(relation(_plain_name(found[0]), site.blocking), found[1])


def _plain_name(name: str) -> str:
    """A name of a resolution or link as names are compared."""
    return " ".join(name.replace("\u2019", "'").casefold().split())


def _resolution(raw: Any, site: Site) -> Resolution:
    if maybe(raw, "fields.resolution", dict) is None:
        return Resolution(None, False)
    name = _plain_name(take(raw, "fields.resolution.name", str))
    return Resolution(maybe(raw, "fields.resolution.id", str) or name, name in site.dropped)


def _past_resolution(ident: str | None, text: str | None, present: Resolution, site: Site) -> Resolution:
    """As it was called then; the present one as it is called now."""
    is_dropped = present.is_dropped if ident == present.id else _plain_name(text or "") in site.dropped
    return Resolution(ident, is_dropped and ident is not None)


def _resolved(category: T, resolution: Resolution) -> T | Literal[StatusCategory.dropped]:
    """The category of a status together with a resolution."""
    return StatusCategory.dropped if category == StatusCategory.done and resolution.is_dropped else category


def _sprint(value: Any) -> str | None:
    """The active sprint, else the last; the list holds the closed ones that the issue was in, too."""
    sprints = [_sprint_state(each) for each in typed([] if value is None else value, list, "the sprints")]
    active = [ident for ident, is_active in sprints if is_active]
    return (active or [ident for ident, _ in sprints])[-1] if sprints else None


def _sprint_state(raw: Any) -> tuple[str, bool]:
    """The id of a sprint, and whether it is active. Data Center shows it as the text of a Java object, whose goal and name
    may hold anything; so both are looked for beside what stands next to them in the orders that servers are known to use."""
    if not isinstance(raw, str):
        return str(take(raw, "id", int)), (maybe(raw, "state", str) or "").lower() == "active"
    ident, state = SPRINT_ID.search(raw), SPRINT_STATE.search(raw)
    if ident is None:
        raise Unreadable("a sprint has no id")
    return ident[ident.lastindex or 0], state is not None and state[state.lastindex or 0].lower() == "active"


def _first(versions: Iterable[str]) -> str | None:
    return min(versions, key=lambda ident: (rank(ident), ident), default=None)


def _points(value: Any, what: str) -> int | None:
    """Milli-points, from a number or its text."""
    if value is None:
        return None
    with suppress(ArithmeticError):
        points = Decimal("NaN" if isinstance(value, bool) else str(value))
        if points.is_finite() and abs(points) <= MOST_POINTS:
            return int((points * 1000).to_integral_value())
    raise Unreadable(f"{what} is no number of points")


def _past_seconds(ident: str | None, text: str | None) -> int | None:
    return seconds(ident or text, "a past time")


def _day(value: str | None, what: str) -> date | None:
    """A day, also where the changelog adds a time of midnight to it."""
    try:
        return date.fromisoformat(value[:10]) if value else None
    except ValueError:
        raise Unreadable(f"{what} is no date") from None


def _key(text: Any) -> str:
    return typed(text, str, "a past key")


def _iso(day: date | None) -> str | None:
    return day.isoformat() if day else None
