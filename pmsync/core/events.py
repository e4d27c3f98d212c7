"""The vocabulary: what can be said on the bus, and how it is written down.

Everything from a source is a *snapshot* (the whole present state of one thing) or a *tombstone* (it is gone from
what we read); everything that a person said in pmsync is a *fact*. Each travels in a CloudEvents 1.0 envelope.
The newest version of a thing wins whole and facts are a set, so the order of arrival never matters.

Next on the way of an event: `pmsync/aggregator.py`, which folds events into state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from pmsync.core.cloudevents import Context, Headers, Undecodable, reasons, unwrap

MAX_CHANGES = 2000
"""A history longer than this is cut to its newest changes and flagged (`history_cut`)."""
MAX_LINKS = 500
"""Of more links those that stand are kept, then those that were removed last, and it is flagged (`links_cut`)."""
MAX_WORKLOGS = 1000
"""Of more those that were logged last are kept, and it is flagged (`worklogs_cut`)."""
MAX_ATTEMPTS = 20
"""Of more the newest are kept, and it is flagged (`attempts_cut`)."""
BLOCKED_BY = "blocked_by"
"""The relation of an item to one that blocks it."""


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("it lies before year 1 or after year 9999 in UTC") from error


Instant = Annotated[AwareDatetime, AfterValidator(_utc)]
"""An instant, always in UTC."""
Version = Annotated[int, Field(ge=0, le=253_402_300_799_999_999)]
"""µs since 1970, one per read of a thing; up to the end of the year 9999, so that it is an instant."""


class StatusCategory(StrEnum):
    """Where a work item stands, whatever its workflow calls it. `dropped` is closed without being done: out of scope."""

    todo = "todo"
    in_progress = "in_progress"
    done = "done"
    dropped = "dropped"


class Meaning(StrEnum):
    """What a calendar entry is to a project."""

    deadline = "deadline"
    milestone = "milestone"
    time_off = "time_off"
    holiday = "holiday"
    meeting = "meeting"


class Thing(NamedTuple):
    """What an event is about: `id` is the source's immutable id, never a readable key."""

    source: str
    kind: str
    id: str


class _Value(BaseModel):
    # Unknown fields pass: a newer minor version of the schema may add some.
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


Scalar = str | int | bool | None


class Change(_Value):
    """One entry of the source's own history of a tracked field. Values are of the field's own type, dates as ISO text."""

    field: str
    old: Scalar = Field(alias="from")
    new: Scalar = Field(alias="to")
    at: Instant
    id: str


class Link(_Value):
    """A link of a work item, as seen from it, to the item that was called `key` when this one changed last. `relation` is `blocked_by`, else what
    the source calls it, in lower case (`blocks`, `relates to`). It stood from `since` (None: the source does not tell) until
    `until` (None: it stands); of one that was removed, `key` is what the other item was called then."""

    relation: str
    key: str
    since: Instant | None = None
    until: Instant | None = None

    def stands(self, at: datetime) -> bool:
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


class Worklog(_Value):
    """Time that was spent on a work item, as it is logged now: `seconds` of work, begun at `started_at`, by the source account
    `by` (None: the source does not tell). It was logged at `created_at`, which may be much later."""

    id: str
    created_at: Instant
    started_at: Instant
    seconds: int
    by: str | None = None


class WorkItem(_Value):
    """A Jira issue or GitHub issue.

    `estimate` is in thousandths of the team's unit (milli-points); `time_estimate`, `time_spent` and `time_left` are the
    item's own seconds of work, without its parts': planned at first, logged, and still expected; `worklogs` say when and by
    whom, in the order in which they were logged, and with `worklogs_cut` some of them are not here; `container` is the id that the configuration maps
    (a Jira project key, `owner/repo`); `milestone` and `sprint` are ids of things of the same source; `assignee` is a
    source account id. `history` is in the source's order and covers the fields in `TRACKED`, except those named in
    `untracked`, whose source keeps no history of them.
    """

    TRACKED: ClassVar = (
        "key", "container", "status", "status_category", "assignee", "due_date", "estimate", "milestone", "sprint", "blocked",
        "time_estimate", "time_spent", "time_left",
    )  # fmt: skip

    kind: Literal["work_item"] = "work_item"
    key: str
    container: str
    type: str
    title: str
    url: str = ""
    created_at: Instant
    status: str
    status_category: StatusCategory
    assignee: str | None = None
    due_date: date | None = None
    estimate: int | None = None
    time_estimate: int | None = None
    time_spent: int | None = None
    time_left: int | None = None
    milestone: str | None = None
    sprint: str | None = None
    blocked: bool = False
    parent: str | None = None
    labels: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    links_cut: bool = False
    worklogs: tuple[Worklog, ...] = ()
    worklogs_cut: bool = False
    history: tuple[Change, ...] = ()
    history_cut: bool = False
    untracked: tuple[str, ...] = ()


class Review(_Value):
    """One review of a change request; `state` as the source says it, in lower case."""

    id: str
    at: Instant
    state: str
    reviewer: str | None = None


class ReviewRequest(_Value):
    """Somebody was asked at `at` to review a change request; it stands until `until`, or still.

    `reviewer` is a source account id, or `team:ID`. It ends when it is withdrawn, or with that reviewer's next review; a
    team's with the next one by anybody but the author, since the source does not tell who is in a team. Who is asked
    again after that has another request.
    """

    reviewer: str
    at: Instant
    until: Instant | None = None


class Mention(_Value):
    """Where a change request names a work item: in its branch, its title, its body or the message of a commit; or, in one of
    the last three, after a keyword that closes it."""

    key: str
    where: Literal["branch", "title", "body", "commit", "closing"]


class ChangeRequest(_Value):
    """A GitHub pull request. `state` is open, merged or closed; `review_requests` are all that ever were, oldest first;
    `work_items` are the keys it names, sorted, and `mentions` are the evidence for them."""

    TRACKED: ClassVar = ("container", "state", "milestone", "draft")

    kind: Literal["change_request"] = "change_request"
    key: str
    container: str
    title: str
    url: str = ""
    created_at: Instant
    author: str | None = None
    state: Literal["open", "merged", "closed"]
    draft: bool = False
    milestone: str | None = None
    merged_at: Instant | None = None
    closed_at: Instant | None = None
    reviews: tuple[Review, ...] = ()
    review_requests: tuple[ReviewRequest, ...] = ()
    work_items: tuple[str, ...] = ()
    mentions: tuple[Mention, ...] = ()
    history: tuple[Change, ...] = ()
    history_cut: bool = False
    untracked: tuple[str, ...] = ()


class Milestone(_Value):
    """A Jira version, a GitHub milestone. Its source keeps no history, so every version read of it is kept."""

    kind: Literal["milestone"] = "milestone"
    key: str
    container: str
    title: str
    url: str = ""
    created_at: Instant | None = None
    start_date: date | None = None
    due_date: date | None = None
    state: Literal["open", "closed"] = "open"
    closed_at: Instant | None = None


class Sprint(_Value):
    """A Jira sprint as one project sees it, or an iteration of a GitHub board as one repository does: a sprint of a board that
    shows several is a thing of each of them.

    `sprint` is the id by which work items name it. `starts_at` is when it was started, or is planned to be; `ends_at` is
    planned; `closed_at` is when it was completed. Its source keeps no history, so every version read of it is kept.
    """

    kind: Literal["sprint"] = "sprint"
    key: str
    container: str
    sprint: str
    title: str
    url: str = ""
    goal: str = ""
    state: Literal["future", "active", "closed"]
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    closed_at: Instant | None = None


class Deployment(_Value):
    """A GitHub deployment: `ref` (a branch, a tag or a commit), as `sha`, brought to an `environment`.

    `state` is its newest status as the source says it: `success`, `failure` and `error` end it, and `inactive` is what
    another one took the place of; before its first status it is `pending`. `history` has the statuses that changed it.
    `url` is what the newest status that has one points to: the log, else the environment.
    """

    TRACKED: ClassVar = ("state",)

    kind: Literal["deployment"] = "deployment"
    container: str
    environment: str
    ref: str
    sha: str
    url: str = ""
    production: bool = False
    creator: str | None = None
    created_at: Instant
    state: str
    history: tuple[Change, ...] = ()
    history_cut: bool = False


class Release(_Value):
    """A GitHub release; its key is its tag. Its source keeps no history, so every version read of it is kept.

    `created_at` is the source's, which is that of the commit; a draft is not published.
    """

    kind: Literal["release"] = "release"
    key: str
    container: str
    title: str
    url: str = ""
    created_at: Instant
    published_at: Instant | None = None
    draft: bool = False
    prerelease: bool = False


class Attempt(_Value):
    """One try of a workflow run. `state` is what it came to, as the source says it, or how it stands while it has not ended."""

    number: int
    started_at: Instant
    ended_at: Instant | None = None
    state: str


class WorkflowRun(_Value):
    """A run of a GitHub Actions workflow on the default branch of its repository.

    `workflow` is the source's id of it, `name` what it is called, `number` counts its runs; `event` is what set it off, and
    `title` what was said of that. It can be tried again: `attempts` are all tries that the source still knows, the oldest
    first, and tell its whole history; `state` is that of the newest.
    """

    kind: Literal["workflow_run"] = "workflow_run"
    container: str
    workflow: str
    name: str
    number: int
    title: str = ""
    url: str = ""
    branch: str
    event: str
    sha: str
    created_at: Instant
    state: str
    attempts: tuple[Attempt, ...]
    attempts_cut: bool = False


class Occurrence(_Value):
    """One occurrence of a calendar entry, `[start, end)`. An all-day one carries dates and belongs to the zone of whose it is:
    the project's, or a person's. One that is tentative, or leaves whose it is free, is not `busy`."""

    start: Instant | date
    end: Instant | date
    busy: bool = True


class CalendarEntry(_Value):
    """One calendar entry (a UID) with its occurrences inside the window that the connector expands.

    `title` is None unless the configuration asks for titles; `whose` is the account, of its source, of whom the configuration
    says by a pattern that it is about.
    """

    kind: Literal["calendar_entry"] = "calendar_entry"
    container: str
    title: str | None = None
    meaning: Meaning
    whose: str | None = None
    recurring: bool = False
    occurrences: tuple[Occurrence, ...]
    occurrences_cut: bool = False


def _known_zone(name: str) -> str:
    """Whatever is local to a project is told by its zone: one that nobody knows must not be believed until a tick."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("is no time zone that is known here; use a name such as Europe/Berlin") from None
    return name


class Shift(_Value):
    """Working hours in minutes from the beginning of a local day: `[start, end)`. Those of a night end on the next day, beyond
    1440."""

    start: int = Field(ge=0, lt=1440)
    end: int = Field(gt=0, le=2880)


class Step(_Value):
    """A step of a joiner's ramp: for so many calendar days only so many thousandths of what is allocated count."""

    days: int = Field(ge=1, le=3660)
    share: int = Field(ge=0, le=1000)


class Member(_Value):
    """Somebody who works on a project, by person id.

    `hours` are those of each weekday, Monday first, in `time_zone`; `allocation` is how many thousandths of them are the
    project's, from the day `joins` to the day `leaves` (None: ever), by the steps of `ramp` at first. Whose time off is, is
    told by container (`calendars`) or by the account that an entry names (`accounts`), of each source. `holidays` are the
    containers with their public holidays; None: the project's are theirs.
    """

    person: str
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    hours: tuple[tuple[Shift, ...], ...] = Field(min_length=7, max_length=7)
    allocation: int = Field(default=1000, ge=0, le=1000)
    joins: date | None = None
    leaves: date | None = None
    ramp: tuple[Step, ...] = ()
    calendars: Mapping[str, tuple[str, ...]] = {}
    accounts: Mapping[str, tuple[str, ...]] = {}
    holidays: Mapping[str, tuple[str, ...]] | None = None


class Promise(_Value):
    """A milestone that the configuration itself names: a title and the promised day. `also` are other titles that it has,
    by source."""

    key: str
    title: str
    due_date: date
    also: Mapping[str, tuple[str, ...]] = {}


class Thresholds(_Value):
    """When the rules speak; days are the project's working days, shares are of 1000."""

    ladder: tuple[int, ...] = (14, 7, 3, 1, 0)
    blocked_days: int = 2
    stale_days: int = 10
    on_time: int = 700


class Project(_Value):
    """A project as configured. `mapping[source][container]` is the version of the configuration that began to map it;
    `dates` are the sources in the order in which their dates of a milestone count.

    People are person ids, never addresses. `team` is who works on it; `personal` names those of the mapped containers that are
    read for their sake only, and say nothing of the project itself. Meetings lower the capacity where they are to
    (`count_meetings`); what each member has is shown where it is asked for (`per_person`).
    """

    kind: Literal["project"] = "project"
    key: str
    name: str
    leader: str | None = None
    time_zone: Annotated[str, AfterValidator(_known_zone)] = "UTC"
    working_days: tuple[int, ...] = (0, 1, 2, 3, 4)
    deadline: date | None = None
    milestones: tuple[Promise, ...] = ()
    dates: tuple[str, ...] = ()
    mapping: Mapping[str, Mapping[str, int]] = {}
    thresholds: Thresholds = Thresholds()
    notify: tuple[str, ...] = ()
    team: tuple[Member, ...] = ()
    personal: Mapping[str, tuple[str, ...]] = {}
    count_meetings: bool = False
    per_person: bool = False

    @property
    def container(self) -> str:
        """A project is its own container in the source `configuration`."""
        return self.key


class Synced(_Value):
    """The reader has read all of a container for these mappings (project -> the version that began it), with the counts
    that prove it: listed at the source, published here, in the dead letters."""

    kind: Literal["synced"] = "synced"
    container: str
    mapped: Mapping[str, int]
    listed: int
    published: int
    dead: int


Content = Annotated[
    WorkItem
    | ChangeRequest
    | Milestone
    | Sprint
    | Deployment
    | Release
    | WorkflowRun
    | CalendarEntry
    | Project
    | Synced,
    Field(discriminator="kind"),
]
KINDS: Mapping[str, type[_Value]] = {
    "work_item": WorkItem,
    "change_request": ChangeRequest,
    "milestone": Milestone,
    "sprint": Sprint,
    "deployment": Deployment,
    "release": Release,
    "workflow_run": WorkflowRun,
    "calendar_entry": CalendarEntry,
    "project": Project,
    "synced": Synced,
}
KEPT = frozenset({"milestone", "sprint", "release", "calendar_entry", "project"})
"""Kinds whose source keeps no history: every version that was read is kept."""

CONFIGURATION = "configuration"
"""The source whose things are the configured projects."""


class Acknowledgement(_Value):
    """A person has seen the alert with this fingerprint and takes it on."""

    kind: Literal["acknowledgement"] = "acknowledgement"
    fingerprint: str
    by: str
    note: str = ""


class Snapshot(_Value):
    """The whole present state of `thing`, published to `project`."""

    project: str
    thing: Thing
    version: Version
    content: Content

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.thing.kind != self.content.kind:
            raise ValueError(f"a {self.thing.kind} cannot have the content of a {self.content.kind}")
        return self


class Tombstone(_Value):
    """`thing` is gone from what pmsync is configured to read."""

    project: str
    thing: Thing
    version: Version


class Fact(_Value):
    """What a person said at an instant. It never changes; facts are a set by `id`."""

    project: str
    id: str
    at: Instant
    content: Acknowledgement


Event = Snapshot | Tombstone | Fact

_TYPES: Mapping[str, type[Snapshot] | type[Tombstone] | type[Fact]] = {
    **{f"pmsync.{kind}.v1": Snapshot for kind in KINDS},
    "pmsync.tombstone.v1": Tombstone,
    "pmsync.acknowledgement.v1": Fact,
}


def body(content: BaseModel) -> str:
    """The canonical JSON of a content: equal contents give equal text, so that text can be compared and digested."""
    return json.dumps(
        content.model_dump(mode="json", by_alias=True), ensure_ascii=False, sort_keys=True, separators=(",", ":")
    )


def digest(content: BaseModel) -> str:
    """What the ledger remembers of a content (sha256 of its canonical JSON, 32 hex digits)."""
    return hashlib.sha256(body(content).encode()).hexdigest()[:32]


def instant(version: int) -> datetime:
    """The instant at which a version was read."""
    return datetime.fromtimestamp(version // 1_000_000, UTC).replace(microsecond=version % 1_000_000)


def version_at(when: datetime) -> int:
    """The version of a read at `when`: µs since 1970."""
    return int(when.timestamp()) * 1_000_000 + when.microsecond


def type_of(event: Event) -> str:
    """The type that an event has in its envelope; a new major is another type."""
    kind = "tombstone" if isinstance(event, Tombstone) else event.content.kind
    return f"pmsync.{kind}.v1"


def encode(event: Event, traceparent: str | None = None) -> bytes:
    """The event as a CloudEvents 1.0 JSON document (structured mode); `partitionkey` is the project.

    `traceparent` says which read it came from. It is the envelope's and no part of the event, so that it can neither make
    an event news nor enter the state.
    """
    match event:
        case Snapshot(thing=thing, version=version) | Tombstone(thing=thing, version=version):
            time, ident = instant(version), f"{'/'.join(thing)}@{version}"
            source, subject = thing.source, f"{thing.kind}/{thing.id}"
        case Fact():
            time, ident = event.at, event.id
            source, subject = "people", event.content.fingerprint
    return cloud_event(
        ident=f"{event.project}/{ident}",
        source=f"/sources/{source}",
        subject=subject,
        kind=type_of(event),
        time=time,
        project=event.project,
        data=event,
        traceparent=traceparent,
    )


def cloud_event(
    *,
    ident: str,
    source: str,
    subject: str,
    kind: str,
    time: datetime,
    project: str,
    data: BaseModel,
    traceparent: str | None = None,
) -> bytes:
    """A CloudEvents 1.0 JSON document (structured mode)."""
    envelope = {
        "specversion": "1.0",
        "id": ident,
        "source": source,
        "subject": subject,
        "type": kind,
        "time": rfc3339(time),
        "datacontenttype": "application/json",
        "partitionkey": project,
        **({"traceparent": traceparent} if traceparent else {}),
        "data": data.model_dump(mode="json", by_alias=True),
    }
    return json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()


def decode(raw: bytes, headers: Headers = ()) -> Event:
    """The event in this record; raises `Undecodable` with the reason for anything else, an unknown major version included."""
    return event_in(*unwrap(raw, headers))


def event_in(context: Context, data: Any) -> Event:
    """The event that a CloudEvent of pmsync's holds; raises `Undecodable` as `decode` does."""
    cls = _TYPES.get(context.type)
    if cls is None:
        raise Undecodable(
            f"unknown type {context.type[:80]!r}; is this event from a newer pmsync?", context.traceparent
        )
    try:
        event = cls.model_validate(data)
    except ValidationError as error:
        raise Undecodable(f"data: {reasons(error)}", context.traceparent) from error
    if type_of(event) != context.type:
        raise Undecodable(f"data: a {context.type} cannot be a {type_of(event)}", context.traceparent)
    return event


def rfc3339(when: datetime) -> str:
    """An instant as text: UTC, with a fraction only where there is one."""
    return when.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"
