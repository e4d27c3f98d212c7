"""GitHub: what its answers mean: repositories, issues, pull requests, milestones, and their histories from issue events.

All of it is pure. A thing's id is `REPOSITORY_ID/NUMBER`: both never change, and it can be fetched through
`/repositories/{id}`, after a rename too. GitHub names milestones in its events by title only, so a title is looked up
among the milestones of now; one that no longer exists stays as `title:NAME`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from heapq import merge
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from connectors import github_links
from connectors.base import Profile, Read, Ref, Retryable, Withheld, problem
from connectors.github_cards import MOVED, UNTOLD, Card, Plan, Planned, planned
from connectors.github_links import LINKING
from connectors.github_reviews import ASKING, requests_in, reviews_in
from connectors.github_shapes import Identified, Raw, Time, raw
from pmsync.core.events import (
    MAX_CHANGES,
    MAX_LINKS,
    Change,
    ChangeRequest,
    Mention,
    Milestone,
    Scalar,
    StatusCategory,
    WorkItem,
)

MAX_MENTIONS = 500


class Parts(NamedTuple):
    """All answers that make up one issue or pull request, unchecked. `blockers`: None where they were not asked for."""

    issue: Any
    events: Sequence[Any] = ()
    pull: Any = None
    reviews: Sequence[Any] = ()
    commits: Sequence[Any] = ()
    blockers: Sequence[Any] | None = None
    card: Card | None = None


@dataclass(frozen=True, slots=True)
class Home:
    """A repository: what its things need to know of it. `titles` is title -> (milestone id, when it was created), `branch` the
    default one, `at` GitHub's clock when it told of it (None: it did not say)."""

    id: int
    full_name: str
    container: str
    titles: Mapping[str, tuple[str, str]]
    branch: str = ""
    at: datetime | None = field(default=None, compare=False)

    @property
    def path(self) -> str:
        return f"/repositories/{self.id}"

    def thing(self, number: int) -> str:
        """The id of the thing with this number."""
        return f"{self.id}/{number}"

    def issue(self, number: int) -> Ref:
        """The reference of the issue with this number."""
        return Ref("work_item", self.thing(number))

    def key(self, full_name: str, number: int) -> str:
        """What the issue with this number is called; those of this repository by its configured name."""
        ours = full_name.casefold() == self.full_name.casefold()
        return f"{self.container if ours else full_name}#{number}"

    def knowing(self, milestones: Iterable[Any]) -> Home:
        """With the titles of these milestones."""
        known = [
            item for item in milestones if isinstance(item, dict) and {"title", "number", "created_at"} <= set(item)
        ]
        titles = {str(item["title"]): (self.thing(item["number"]), str(item["created_at"])) for item in known}
        return replace(self, titles=titles)

    def milestone(self, title: str, at: datetime) -> str:
        """The id of the milestone that bore this title then, or `title:NAME` where it is none of today's."""
        ident, created_at = self.titles.get(title, ("", ""))
        return ident if ident and created_at <= f"{at:%Y-%m-%dT%H:%M:%SZ}" else f"title:{title}"


def repository(body: Any, container: str | None, at: datetime | None = None) -> Home:
    """The repository in an answer of GitHub's at `at`; `container` is its configured name, GitHub's own where that is not
    known."""
    if not isinstance(body, dict) or not isinstance(body.get("id"), int) or not isinstance(body.get("full_name"), str):
        raise Retryable("GitHub's answer about a repository has no id and full_name")
    if body.get("has_issues") is False:
        raise Withheld(
            f"the issues of {body['full_name']} are turned off; turn them on, or take it out of the configuration"
        )
    branch = body.get("default_branch")
    return Home(
        body["id"],
        body["full_name"],
        container or body["full_name"],
        {},
        branch if isinstance(branch, str) else "",
        at,
    )


def reference(home: Home, item: Any, kind: str = "") -> Ref:
    """The reference of a listed item; one without a number shares `?`."""
    number = item.get("number") if isinstance(item, dict) else None
    pull = isinstance(item, dict) and item.get("pull_request") is not None
    kind = kind or ("change_request" if pull else "work_item")
    return Ref(kind, home.thing(number) if isinstance(number, int) else f"{home.id}/?")


def updated_at(item: Any) -> datetime | None:
    """When a listed item changed last; None where it does not say."""
    try:
        return _Listed.model_validate(item).updated_at
    except ValidationError:
        return None


def read_at(item: Any, card: Card | None) -> datetime | None:
    """The time of a listed item that is on a board: of its last change here or there."""
    time = updated_at(item)
    return max(time, card.at) if time and card else time


def created_at(item: Any) -> datetime | None:
    """When a listed item was made; None where it does not say."""
    try:
        return _Created.model_validate(item).created_at
    except ValidationError:
        return None


def stamp(item: Any) -> str:
    """One state of a listed item: its id and time."""
    return f"{item.get('id')}@{item.get('updated_at')}" if isinstance(item, dict) else repr(item)


def is_at_home(home: Home, issue: Any, number: int) -> bool:
    """Whether an answer is about the issue that we asked for."""
    if not isinstance(issue, dict):
        return True
    there = issue.get("repository_url")
    elsewhere = isinstance(there, str) and not there.casefold().endswith(f"/repos/{home.full_name}".casefold())
    return issue.get("number") == number and not elsewhere


# --- GitHub's shapes: the fields that we read, and no others ----------------------------------------------------------


class _Listed(Raw):
    updated_at: Time


class _Created(Raw):
    created_at: Time


class _Named(Raw):
    name: str


class _Titled(Raw):
    title: str


class _Numbered(Raw):
    number: int


class _Head(Raw):
    ref: str


class _Issue(Raw):
    number: int
    title: str
    html_url: str
    state: Literal["open", "closed"]
    state_reason: str | None = None
    created_at: Time
    updated_at: Time
    assignees: list[Identified]
    labels: list[_Named | str]
    milestone: _Numbered | None
    type: _Named | None = None


class _Pull(Raw):
    number: int
    title: str
    body: str | None
    html_url: str
    state: Literal["open", "closed"]
    draft: bool = False
    created_at: Time
    merged_at: Time | None
    closed_at: Time | None
    user: Identified | None
    milestone: _Numbered | None
    head: _Head


class _User(Raw):
    id: int
    login: str
    name: str | None = None
    email: str | None = None


class _Message(Raw):
    message: str


class _Commit(Raw):
    commit: _Message


class _Milestone(Raw):
    number: int
    title: str
    html_url: str
    state: Literal["open", "closed"]
    created_at: Time
    due_on: Time | None
    closed_at: Time | None


class _Event(Raw):
    id: int | str
    event: str
    created_at: Time
    state_reason: str | None = None
    assignee: Identified | None = None
    label: _Named | None = None
    milestone: _Titled | None = None
    left: str | None = None
    column: str | None = None


# --- translation ------------------------------------------------------------------------------------------------------


def read_profile(body: Any) -> Profile | None:
    """What an account shows to everybody; None where it cannot be read."""
    try:
        user = _User.model_validate(body)
    except ValidationError:
        return None
    return Profile(str(user.id), user.name or user.login, user.email or None)


def read_milestone(home: Home, milestone: Any) -> Read:
    """A milestone as read. It has no time: GitHub's own moves with every issue that joins or leaves it."""
    ref = reference(home, milestone, "milestone")
    try:
        return Read(ref, None, translate_milestone(home, milestone))
    except ValidationError as error:
        return Read(ref, None, problem=problem(error), raw=raw(milestone))


def read_thing(home: Home, parts: Parts) -> Read:
    """An issue or a pull request as read; what cannot be translated says so and keeps what came."""
    ref, time = reference(home, parts.issue), read_at(parts.issue, parts.card)
    try:
        if parts.pull is not None:
            content: WorkItem | ChangeRequest = translate_pull(home, parts)
        else:
            content = translate_issue(home, parts.issue, parts.events, parts.blockers, parts.card)
    except ValidationError as error:
        came = {**parts._asdict(), "card": parts.card and parts.card.node}
        return Read(ref, time, problem=problem(error), raw=raw(came))
    return Read(ref, time, content)


def unsettled(read: Read) -> bool:
    """Whether the events of a thing do not add up to its present state, but for what a board says: that never may."""
    if not isinstance(read.content, WorkItem | ChangeRequest):
        return False
    untracked = set(read.content.untracked)
    return bool(untracked - {*UNTOLD, "status", "status_category"} if untracked.issuperset(UNTOLD) else untracked)


def translate_milestone(home: Home, milestone: Any) -> Milestone:
    """A milestone; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Milestone.model_validate(milestone)
    return Milestone(
        key=f"{home.container}/milestone/{found.number}",
        container=home.container,
        title=found.title,
        url=found.html_url,
        created_at=found.created_at,
        # GitHub keeps the day as midnight of its own zone (07:00 or 08:00 UTC), so the day in UTC is the one meant.
        due_date=found.due_on.date() if found.due_on else None,
        state=found.state,
        closed_at=found.closed_at,
    )


def translate_issue(
    home: Home, issue: Any, events: Sequence[Any], blockers: Sequence[Any] | None = None, card: Card | None = None
) -> WorkItem:
    """An issue with its history; raises `ValidationError` if it, or its card, is not in GitHub's shape."""
    found, planning = _Issue.model_validate(issue), planned(card) if card else None
    labels = tuple(label if isinstance(label, str) else label.name for label in found.labels)
    lanes = {
        "status": (_closed(found.state_reason) if found.state == "closed" else "open",),
        "assignees": tuple(str(user.id) for user in found.assignees),
        "milestones": (home.thing(found.milestone.number),) if found.milestone else (),
        "blocked": tuple(filter(None, map(_blocking, labels))),
        "column": (planning.status,) if planning and planning.status else (),
    }
    fields = _issue_fields(planning)
    past = _issue_history(home, events, lanes, planning)
    linked = github_links.links(home.key, issue, events, blockers)
    return WorkItem(
        key=f"{home.container}#{found.number}",
        container=home.container,
        type=_type(labels, found.type),
        title=found.title,
        url=found.html_url,
        created_at=found.created_at,
        status=str(fields["status"].value(lanes)),
        status_category=StatusCategory(str(fields["status_category"].value(lanes))),
        assignee=_first(lanes["assignees"]),
        due_date=planning.due_date if planning else None,
        estimate=planning.estimate if planning else None,
        milestone=_last(lanes["milestones"]),
        sprint=planning.sprint if planning else None,
        blocked=bool(lanes["blocked"]),
        parent=github_links.parent(home.key, issue),
        labels=labels,
        links=tuple(linked[:MAX_LINKS]),
        links_cut=len(linked) > MAX_LINKS,
        history=past.changes,
        history_cut=past.cut,
        untracked=(*past.untracked, *(UNTOLD if planning else ())),
    )


def translate_pull(home: Home, parts: Parts) -> ChangeRequest:
    """A pull request with its reviews, commits and history; raises `ValidationError` if it is not in GitHub's shape."""
    found = _Pull.model_validate(parts.pull)
    messages = [each.commit.message for each in map(_Commit.model_validate, parts.commits)]
    named = mentions(home.container, found.head.ref, found.title, found.body or "", messages)
    state: Literal["open", "merged", "closed"] = "merged" if found.merged_at else found.state
    lanes = {
        "status": (state,),
        "draft": ("draft",) if found.draft else (),
        "milestones": (home.thing(found.milestone.number),) if found.milestone else (),
    }
    past = history(home, parts.events, lanes, _PULL_FIELDS)
    author = str(found.user.id) if found.user else None
    reviews = tuple(reviews_in(parts.reviews))
    return ChangeRequest(
        key=f"{home.container}#{found.number}",
        container=home.container,
        title=found.title,
        url=found.html_url,
        created_at=found.created_at,
        author=author,
        state=state,
        draft=found.draft,
        milestone=_last(lanes["milestones"]),
        merged_at=found.merged_at,
        closed_at=found.closed_at,
        reviews=reviews,
        review_requests=requests_in(parts.events, reviews, author),
        work_items=tuple(sorted({each.key for each in named})),
        mentions=named,
        history=past.changes,
        history_cut=past.cut,
        untracked=past.untracked,
    )


def _type(labels: Sequence[str], declared: _Named | None) -> str:
    if any(label.lower() == "bug" for label in labels):
        return "bug"
    return declared.name if declared else "issue"


_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_KEY = re.compile(r"(?<![A-Za-z0-9_-])([A-Z][A-Z0-9]{1,9})-([1-9][0-9]{0,6})(?![A-Za-z0-9_]|-[0-9]|\.[0-9])")
_NO_PROJECTS = frozenset({"CVE", "CWE", "FIPS", "HTTP", "IEEE", "ISO", "PEP", "RFC", "SHA", "TLS", "UTF"})
_CLOSES = re.compile(
    r"\b(?:close[sd]?|fix(?:es|ed)?|resolve[sd]?):?[ \t]+"
    r"(?:https?://[^/\s]+/(?P<url>[\w.-]+/[\w.-]+)/issues/|(?P<repo>[\w.-]+/[\w.-]+)?\#)(?P<number>[1-9][0-9]{0,9})\b",
    re.IGNORECASE | re.ASCII,
)


def mentions(container: str, branch: str, title: str, body: str, messages: Iterable[str]) -> tuple[Mention, ...]:
    """The work items that a pull request names, and where: keys like APO-12 anywhere, `owner/repo#12` after a closing
    keyword. The first `MAX_MENTIONS` of them, by key."""
    texts = [("title", title), ("body", _COMMENT.sub("", body)), *(("commit", message) for message in messages)]
    keys = ((match, where) for where, text in (("branch", branch), *texts) for match in _KEY.finditer(text))
    found = {(match[0], where) for match, where in keys if match[1] not in _NO_PROJECTS}
    closed = (match for _, text in texts for match in _CLOSES.finditer(text))
    found |= {(f"{match['url'] or match['repo'] or container}#{match['number']}", "closing") for match in closed}
    return tuple(Mention(key=key, where=where) for key, where in sorted(found)[:MAX_MENTIONS])


# --- history ----------------------------------------------------------------------------------------------------------
# A lane is one independent strand of a thing's state, as a tuple of texts; a field is read off one lane or two.

Lanes = Mapping[str, tuple[str, ...]]


class History(NamedTuple):
    """The changes of the tracked fields, oldest first, and the fields whose events do not add up."""

    changes: tuple[Change, ...]
    untracked: tuple[str, ...]
    cut: bool


class _Gap(Exception):
    """An event that cannot follow on what was there before: part of the history is missing."""


class _Field(NamedTuple):
    lanes: frozenset[str]
    value: Callable[[Lanes], Scalar]


class _Step(NamedTuple):
    lane: str
    act: Callable[[tuple[str, ...], str], tuple[str, ...]]
    value: Callable[[Home, _Event], str | None]


def _first(values: tuple[str, ...]) -> str | None:
    return values[0] if values else None


def _last(values: tuple[str, ...]) -> str | None:
    return values[-1] if values else None


def _status(lanes: Lanes) -> str:
    return lanes["status"][0]


def _category(lanes: Lanes) -> StatusCategory:
    if _status(lanes) == "open":
        return StatusCategory.in_progress if lanes["assignees"] else StatusCategory.todo
    return StatusCategory.done if _status(lanes) == "closed" else StatusCategory.dropped


def _on_board(lanes: Lanes) -> str:
    """What an open issue is called by its column; of a closed one its own words count, whatever its board says."""
    return (_first(lanes["column"]) or "open") if _status(lanes) == "open" else _status(lanes)


def _category_on_board(plan: Plan) -> Callable[[Lanes], Scalar]:
    def category(lanes: Lanes) -> Scalar:
        column = _first(lanes["column"]) if _status(lanes) == "open" else None
        return ((plan.category(column) if column else None) or _category(lanes)).value

    return category


def _closed(reason: str | None) -> str:
    return {"not_planned": "closed (not planned)", "duplicate": "closed (duplicate)"}.get(reason or "", "closed")


def _blocking(label: str) -> str | None:
    return "blocked" if label.lower() == "blocked" else None


def _add(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if value in values:
        raise _Gap
    return (*values, value)


def _remove(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if value not in values:
        raise _Gap
    return tuple(each for each in values if each != value)


def _enter(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    # A change of milestone is told by two events, whose order GitHub does not promise: for a moment there are two.
    if len(values) > 1:
        raise _Gap
    return _add(values, value)


def _leave(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if values[:1] != (value,):
        raise _Gap
    return values[1:]


def _reopen(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    if values == (value,):
        raise _Gap
    return (value,)


def _close(values: tuple[str, ...], value: str) -> tuple[str, ...]:
    # A closed issue may be closed again, for another reason; a merged pull request is told to be closed as well.
    return values if values == ("merged",) else (value,)


def _put(_: tuple[str, ...], value: str) -> tuple[str, ...]:
    return (value,) if value else ()


def _assignee(_: Home, event: _Event) -> str | None:
    if event.assignee is None:
        raise _Gap
    return str(event.assignee.id)


def _milestone(home: Home, event: _Event) -> str | None:
    if event.milestone is None:
        raise _Gap
    return home.milestone(event.milestone.title, event.created_at)


def _label(_: Home, event: _Event) -> str | None:
    return _blocking(event.label.name) if event.label else None


def _always(value: str) -> Callable[[Home, _Event], str]:
    return lambda _home, _event: value


_STEPS: Mapping[str, _Step] = {
    "closed": _Step("status", _close, lambda _, event: _closed(event.state_reason)),
    "reopened": _Step("status", _reopen, _always("open")),
    "merged": _Step("status", _close, _always("merged")),
    "assigned": _Step("assignees", _add, _assignee),
    "unassigned": _Step("assignees", _remove, _assignee),
    "milestoned": _Step("milestones", _enter, _milestone),
    "demilestoned": _Step("milestones", _leave, _milestone),
    "labeled": _Step("blocked", _add, _label),
    "unlabeled": _Step("blocked", _remove, _label),
    MOVED: _Step("column", _put, lambda _, event: event.column),
    "convert_to_draft": _Step("draft", _add, _always("draft")),
    "converted_to_draft": _Step("draft", _add, _always("draft")),
    "ready_for_review": _Step("draft", _remove, _always("draft")),
}
HISTORIC = frozenset(_STEPS) | ASKING | LINKING
"""The kinds of issue events that make a history, or tell of reviews or links."""
_ISSUE_FIELDS: Mapping[str, _Field] = {
    "status": _Field(frozenset({"status"}), _status),
    "status_category": _Field(frozenset({"status", "assignees"}), lambda lanes: _category(lanes).value),
    "assignee": _Field(frozenset({"assignees"}), lambda lanes: _first(lanes["assignees"])),
    "milestone": _Field(frozenset({"milestones"}), lambda lanes: _last(lanes["milestones"])),
    "blocked": _Field(frozenset({"blocked"}), lambda lanes: bool(lanes["blocked"])),
}
BOARD_FIELDS = ("status", "status_category")
"""The fields that a board has a say in."""


def _issue_fields(planning: Planned | None) -> Mapping[str, _Field]:
    """How the fields of an issue are read off its lanes, on a board or not."""
    if planning is None:
        return _ISSUE_FIELDS
    return {
        **_ISSUE_FIELDS,
        "status": _Field(frozenset({"status", "column"}), _on_board),
        "status_category": _Field(frozenset({"status", "assignees", "column"}), _category_on_board(planning.plan)),
    }


_PULL_FIELDS: Mapping[str, _Field] = {
    "state": _Field(frozenset({"status"}), _status),
    "draft": _Field(frozenset({"draft"}), lambda lanes: bool(lanes["draft"])),
    "milestone": _Field(frozenset({"milestones"}), lambda lanes: _last(lanes["milestones"])),
}


def _issue_history(home: Home, events: Sequence[Any], lanes: Lanes, planning: Planned | None) -> History:
    """The history of an issue. Where that of its card has gaps, its own stands, if it leads to the present value."""
    fields = _issue_fields(planning)
    if planning and planning.moves is not None:
        whole = history(home, events, lanes, fields, planning.moves)
        if not set(whole.untracked) & set(BOARD_FIELDS):
            return whole
    own = history(home, events, {**lanes, "column": ()}, _ISSUE_FIELDS)
    lost = [name for name in BOARD_FIELDS if fields[name].value(lanes) != _ISSUE_FIELDS[name].value(lanes)]
    untracked = tuple(name for name in fields if name in {*own.untracked, *lost})
    return own._replace(changes=tuple(each for each in own.changes if each.field not in untracked), untracked=untracked)


def history(
    home: Home, events: Sequence[Any], present: Lanes, fields: Mapping[str, _Field], moves: Sequence[Any] = ()
) -> History:
    """The changes that these events made, from the thing's creation to `present`. `moves` are events of another list.

    A field is left out, and named as untracked, where its events do not lead to the present value or one of them
    cannot follow on the one before: then the source's history is not whole, and we do not guess.
    """
    own, others = (
        [
            _Event.model_validate(event)
            for event in each
            if not isinstance(event, dict) or str(event.get("event")) in _STEPS
        ]
        for each in (events, moves)
    )
    told = list(merge(own, others, key=lambda event: event.created_at))
    told = [event for event in told if _STEPS[event.event].lane in present]
    end, gaps, changes = _replay(home, told, _beginning(told, present), fields)
    alias = _renamed(end, present)
    end = {lane: tuple(alias.get(value, value) for value in values) for lane, values in end.items()}
    gaps |= {lane for lane, values in present.items() if sorted(values) != sorted(end[lane])}
    untracked = tuple(
        name for name, field in fields.items() if field.lanes & gaps or field.value(end) != field.value(present)
    )
    kept = [_renaming(change, alias) for change in changes if change.field not in untracked]
    return History(tuple(kept[-MAX_CHANGES:]), untracked, len(kept) > MAX_CHANGES)


def _beginning(events: Sequence[_Event], present: Lanes) -> Lanes:
    """At its creation a thing is open, with nothing set; only a pull request may be a draft from the start."""
    drafts = [event.event for event in events if _STEPS[event.event].lane == "draft"]
    begun: dict[str, tuple[str, ...]] = {**dict.fromkeys(present, ()), "status": ("open",)}
    if "draft" in present:
        begun["draft"] = (("draft",) if drafts[0] == "ready_for_review" else ()) if drafts else present["draft"]
    return begun


def _replay(
    home: Home, events: Sequence[_Event], lanes: Lanes, fields: Mapping[str, _Field]
) -> tuple[Lanes, set[str], list[Change]]:
    gaps, changes = set[str](), list[Change]()
    for event in events:
        step = _STEPS[event.event]
        try:
            if event.left is not None and lanes[step.lane] != _put((), event.left):
                raise _Gap
            value = step.value(home, event)
            after = lanes if value is None else {**lanes, step.lane: step.act(lanes[step.lane], value)}
        except _Gap:
            gaps.add(step.lane)
            continue
        changes += _changes(event, lanes, after, fields)
        lanes = after
    return lanes, gaps, changes


def _changes(event: _Event, before: Lanes, after: Lanes, fields: Mapping[str, _Field]) -> list[Change]:
    pairs = {name: (field.value(before), field.value(after)) for name, field in fields.items()}
    moved = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    ident = "{}" if len(moved) == 1 else "{}/{}"
    return [
        Change(field=name, old=old, new=new, at=event.created_at, id=ident.format(event.id, name))
        for name, (old, new) in moved.items()
    ]


def _renamed(end: Lanes, present: Lanes) -> Mapping[str, str]:
    """The one title that no milestone bears today but that must be the present milestone's: it was renamed."""
    old, new = end.get("milestones", ()), present.get("milestones", ())
    return {old[0]: new[0]} if len(old) == len(new) == 1 and old[0].startswith("title:") else {}


def _renaming(change: Change, alias: Mapping[str, str]) -> Change:
    if change.field != "milestone" or not alias:
        return change
    old, new = (alias.get(str(value), value) for value in (change.old, change.new))
    return change.model_copy(update={"old": old, "new": new})
