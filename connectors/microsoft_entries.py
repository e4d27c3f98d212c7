"""Microsoft Graph: what the events of a calendar mean. All of it is pure.

Graph expands what recurs by itself, within the window that it was asked for: an event of a series is an occurrence, or an
exception, and names the event that is the series. Together they are one entry, whose id is that of the series. The series says
what the entry is called and filed under; an occurrence may say no more than when it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.base import Read, Ref, problem
from connectors.ics import Moment, Scope, Window, Zones, entry_of, in_order, uid_of

KIND = "calendar_entry"
FIELDS = (
    "id",
    "type",
    "seriesMasterId",
    "start",
    "end",
    "isAllDay",
    "isCancelled",
    "showAs",
    "categories",
    "sensitivity",
    "originalStartTimeZone",
)
"""All that is taken of an event."""
TITLE = "subject"
"""And its title, where that is needed."""
REMOVED = "@removed"
SERIES, OCCURRENCE = "seriesMaster", "occurrence"
BUSY = "busy"
OPEN = frozenset({"free", "tentative", "workingElsewhere"})
"""As which an event is shown that leaves whose it is free to work, or may not come to be."""
HIDDEN = frozenset({"private", "confidential"})
"""Sensitivities of events whose titles are nobody else's."""

ZONES = Zones(())
"""Those that have a name of their own: of tzdata, or of Windows."""


class _Raw(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Time(_Raw):
    """A time by the clock of a zone."""

    at: str = Field(alias="dateTime")
    zone: str | None = Field(default=None, alias="timeZone")


class Event(_Raw):
    """An event, as far as it is read."""

    id: str
    type: str | None = None
    of: str | None = Field(default=None, alias="seriesMasterId")
    start: Time | None = None
    end: Time | None = None
    is_all_day: bool | None = Field(default=None, alias="isAllDay")
    is_cancelled: bool | None = Field(default=None, alias="isCancelled")
    shown: str | None = Field(default=None, alias="showAs", pattern=r"^[A-Za-z]{1,40}$")
    filed: tuple[str, ...] | None = Field(default=None, alias="categories", strict=False)
    sensitivity: str | None = None
    zone: str | None = Field(default=None, alias="originalStartTimeZone")
    subject: str | None = None

    @property
    def title(self) -> str | None:
        """Its title as it can be written, unless it is nobody else's."""
        told = None if self.sensitivity in HIDDEN else self.subject
        return told if told is None else told.encode(errors="replace").decode()

    @property
    def categories(self) -> tuple[str, ...]:
        """Its own, and how it is shown, unless that is busy, as most are."""
        return (self.filed or ()) + ((self.shown,) if self.shown and self.shown != BUSY else ())


class Told(NamedTuple):
    """An event as Graph told it: what it is called, of which entry it is a part, and what could not be read of it. One that
    is gone has nothing else."""

    id: str
    series: str
    event: Event | None = None
    fault: str = ""

    @property
    def is_gone(self) -> bool:
        return self.event is None and not self.fault

    @property
    def is_series(self) -> bool:
        return self.event is not None and self.event.type == SERIES

    @property
    def is_single(self) -> bool:
        """Whether it is an entry by itself, as far as it can be told."""
        return self.id == self.series and not self.is_series and not self.is_gone

    @property
    def speaks(self) -> bool:
        """Whether it is an occurrence that says more than when it is: all that its series says."""
        return self.event is not None and self.event.type == OCCURRENCE and self.event.shown is not None


def fields(scope: Scope) -> tuple[str, ...]:
    """What is taken of an event. A title is not, unless somebody asked for it here."""
    return (*FIELDS, TITLE) if scope.looks_at_titles else FIELDS


def told(raw: Any, scope: Scope) -> Told:
    """An item of a list of events. Whatever else it holds is left here."""
    ident, series = _text(raw, "id") or "?", _text(raw, "seriesMasterId")
    if isinstance(raw, dict) and REMOVED in raw:
        return Told(ident, series or ident)
    try:
        event = Event.model_validate(
            {name: raw[name] for name in fields(scope) if name in raw} if isinstance(raw, dict) else raw
        )
    except ValidationError as error:
        return Told(ident, series or ident, fault=problem(error))
    return Told(event.id, event.of or event.id, event)


def is_whole(name: str, parts: Mapping[str, Told]) -> bool:
    """Whether these events say all of an entry: one by itself when it is, a series which occurrences it has, and occurrences
    without their series what it would say."""
    head = parts.get(name)
    if head is None:
        return any(part.speaks for part in parts.values())
    if head.event is None:
        return True
    return len(parts) > 1 if head.is_series else head.event.start is not None and head.event.end is not None


def read_series(name: str, parts: Mapping[str, Told], scope: Scope) -> Read | None:
    """The entry that these events are together; None if it is cancelled, means nothing, or has nothing in the window."""
    ref = Ref(KIND, f"{scope.container}/{uid_of(name)}")
    if faults := sorted(part.fault for part in parts.values() if part.fault):
        return Read(ref, problem=faults[0])
    heads = [parts[name]] if name in parts else [part for _, part in sorted(parts.items()) if part.speaks]
    head = heads[0].event if heads else None
    if head is None or head.is_cancelled:
        return None
    meaning = scope.meant(head)
    if meaning is None:
        return None
    recurring = head.type == SERIES or head.of is not None
    events = [
        part.event for part in parts.values() if part.event and not part.is_series and not part.event.is_cancelled
    ]
    try:
        spans: dict[tuple[Moment, Moment], bool] = {}
        for each in events:
            if touches(span := _span(each, head), scope.window):
                spans[span] = spans.get(span, False) or (each.shown or head.shown) not in OPEN
        return (
            Read(ref, content=entry_of(head, meaning, recurring, in_order(spans, scope.zone), scope)) if spans else None
        )
    except ValueError as error:
        return Read(ref, problem=problem(error) if isinstance(error, ValidationError) else str(error))


def _span(event: Event, head: Event) -> tuple[Moment, Moment]:
    """When an event is. Raises `ValueError`, without any text of it."""
    if event.start is None or event.end is None:
        raise ValueError("it does not say when it is")
    all_day = head.is_all_day if event.is_all_day is None else event.is_all_day
    if not all_day:
        start, end = _instant("start", event.start), _instant("end", event.end)
        if end < start:
            raise ValueError("it ends before it begins")
        return start, end
    zone = event.zone or head.zone
    first, last = _day("start", event.start, zone), _day("end", event.end, zone)
    return first, max(last, first + timedelta(days=1))


def touches(span: tuple[Moment, Moment], window: Window) -> bool:
    """Whether it is in the window at all; days are those of UTC here, as those of the window."""
    start, end = (_midnight(each) if not isinstance(each, datetime) else each for each in span)
    first, last = map(_midnight, window)
    return start < last and (first < end or first <= start)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _instant(name: str, time: Time) -> datetime:
    when = _clock(name, time)
    try:
        return when.astimezone(UTC).replace(microsecond=0)
    except (OverflowError, ValueError):
        raise ValueError(f"its {name} lies before year 1 or after year 9999") from None


def _day(name: str, time: Time, zone: str | None) -> date:
    """The day that begins then: at midnight as it is told, or by the clock of the zone in which it was meant."""
    when = _clock(name, time)
    if when.time().replace(microsecond=0) != datetime.min.time() and zone:
        when = _instant(name, time).astimezone(ZONES.of(name, zone))
    if when.time().replace(microsecond=0) != datetime.min.time():
        raise ValueError(f"it lasts all day, and its {name} is not at midnight")
    return when.date()


def _clock(name: str, time: Time) -> datetime:
    try:
        when = datetime.fromisoformat(time.at)
    except ValueError:
        raise ValueError(f"its {name} is no time") from None
    if when.tzinfo is None:
        # By far the most, since it is asked for; it need not be looked up.
        when = when.replace(tzinfo=UTC if time.zone in {None, "UTC"} else ZONES.of(name, time.zone))
    return when


def _text(raw: Any, name: str) -> str | None:
    value = raw.get(name) if isinstance(raw, dict) else None
    return value if isinstance(value, str) and value else None
