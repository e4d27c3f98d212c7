"""Google Calendar: its events said again in the words of RFC 5545, so that they are read as all entries are, in the
process apart, with the same bounds. Besides asking that process all of it is pure.

An event that recurs has its rules, and each occurrence that differs is an event of its own, which names the one that recurs
and its own original start. Together they are one entry, whose id is that of the event that recurs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connectors.base import ConnectorError, Read, Ref, problem
from connectors.ics import Meter, Scope, uid_of
from connectors.ics_apart import CHAMBER, Unable

T = TypeVar("T", bound=date)

KIND = "calendar_entry"
CANCELLED = "cancelled"
FIELDS = "id,status,transparency,eventType,recurringEventId,originalStartTime,start,end,recurrence,sequence"
"""All that is asked for of an event."""
TITLE = "summary"
"""And its title, where that is needed."""
FREE = "transparent"
ELSEWHERE = "workingLocation"
"""Says where somebody works that day, and not that anything happens."""
_RULE = re.compile(r"(?:RRULE|EXRULE|RDATE|EXDATE)[:;][\x20-\x7e]*")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class _Raw(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Time(_Raw):
    """A day, or an instant with the zone in which it was meant."""

    date: str | None = None
    at: str | None = Field(default=None, alias="dateTime")
    zone: str | None = Field(default=None, alias="timeZone")


class Event(_Raw):
    """An event, as far as it is read."""

    id: str
    status: str = "confirmed"
    transparency: str = "opaque"
    kind: str = Field(default="default", alias="eventType", pattern=r"^[A-Za-z]{1,40}$")
    of: str | None = Field(default=None, alias="recurringEventId")
    original: Time | None = Field(default=None, alias="originalStartTime")
    start: Time | None = None
    end: Time | None = None
    recurrence: tuple[str, ...] = Field(default=(), strict=False)
    sequence: int = 0
    summary: str | None = None


class Told(NamedTuple):
    """An event as Google told it: what it is called, of which entry it is a part, and what could not be read of it."""

    id: str
    series: str
    event: Event | None = None
    fault: str = ""

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted. An occurrence that was cancelled is not: it stays as the exception that it is."""
        return self.event is not None and self.event.status == CANCELLED and self.event.of is None


def told(raw: Any) -> Told:
    """An item of a list of events."""
    try:
        event = Event.model_validate(raw)
    except ValidationError as error:
        ident = _text(raw, "id") or "?"
        return Told(ident, _text(raw, "recurringEventId") or ident, fault=problem(error))
    return Told(event.id, event.of or event.id, event)


def read_series(series: str, parts: Sequence[Told], scope: Scope, meter: Meter) -> Read | None:
    """The entry that these events are together; None if it is cancelled, or means nothing. Raises `Unable`."""
    uid = uid_of(series)
    ref = Ref(KIND, f"{scope.container}/{uid}")
    if faults := [part.fault for part in parts if part.fault]:
        return Read(ref, problem=faults[0])
    try:
        body = calendar(uid, [part.event for part in parts if part.event])
        return next(iter(CHAMBER.read(body, scope, meter)), None)
    except Unable:
        raise
    except (ConnectorError, ValueError) as error:
        return Read(ref, problem=str(error))


def calendar(uid: str, events: Sequence[Event]) -> bytes:
    """These events of one entry as an iCalendar object. Raises `ValueError`, without any text of theirs."""
    zone = next((_zone(event.start) for event in events if event.recurrence), None)
    lines = ["BEGIN:VCALENDAR"]
    for event in sorted(events, key=lambda event: event.id):
        if event.kind != ELSEWHERE:
            lines += ["BEGIN:VEVENT", f"UID:{uid}", *_lines(event, zone), "END:VEVENT"]
    return "\r\n".join([*lines, "END:VCALENDAR", ""]).encode(errors="replace")


def _lines(event: Event, zone: ZoneInfo | None) -> Iterator[str]:
    yield f"SEQUENCE:{event.sequence}"
    yield f"STATUS:{event.status.upper() if event.status.isalpha() and event.status.isascii() else 'CONFIRMED'}"
    yield f"TRANSP:{'TRANSPARENT' if event.transparency == FREE else 'OPAQUE'}"
    start = event.start
    if event.of is not None:
        if event.original is None:
            raise ValueError("an occurrence does not say which one it is (originalStartTime)")
        yield _moment("RECURRENCE-ID", event.original, zone)
        if event.status == CANCELLED:
            start = event.original
    if start is None:
        raise ValueError("it has no start")
    own = zone if event.recurrence else None
    yield _moment("DTSTART", start, own)
    if event.end is not None and event.status != CANCELLED:
        yield _moment("DTEND", event.end, own)
    for rule in event.recurrence:
        if not _RULE.fullmatch(rule):
            raise ValueError("one of its lines of recurrence is none")
        yield rule
    if event.kind != "default":
        yield f"CATEGORIES:{event.kind}"
    if event.summary:
        yield f"SUMMARY:{_escaped(event.summary)}"


def _moment(name: str, time: Time, zone: ZoneInfo | None) -> str:
    """A day; or an instant, which is told by the clock of the zone in which it recurs, else in UTC."""
    if time.date is not None:
        return f"{name};VALUE=DATE:{_basic(_parsed(date.fromisoformat, time.date, name))}"
    if time.at is None:
        raise ValueError(f"{name} has neither a date nor a time")
    when = _parsed(datetime.fromisoformat, time.at, name)
    if when.tzinfo is None:
        when = when.replace(tzinfo=_zone(time) or UTC)
    try:
        when = when.astimezone(zone or UTC)
    except (OverflowError, ValueError):
        raise ValueError(f"{name} lies before year 1 or after year 9999") from None
    written = _basic(when.replace(microsecond=0, tzinfo=None))
    return f"{name};TZID={zone.key}:{written}" if zone else f"{name}:{written}Z"


def _basic(when: date) -> str:
    """ISO 8601 without signs between; `strftime` would write the year 800 with three digits."""
    return when.isoformat().replace("-", "").replace(":", "")


def _parsed(parse: Callable[[str], T], text: str, name: str) -> T:
    try:
        return parse(text)
    except ValueError:
        raise ValueError(f"{name} is no date or time") from None


def _zone(time: Time | None) -> ZoneInfo | None:
    if time is None or time.zone is None:
        return None
    try:
        return ZoneInfo(time.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("its time zone is not known here") from None


def _escaped(text: str) -> str:
    for plain, written in (("\\", "\\\\"), (";", "\\;"), (",", "\\,"), ("\n", "\\n")):
        text = text.replace(plain, written)
    return _CONTROL.sub(" ", text)


def _text(raw: Any, name: str) -> str | None:
    value = raw.get(name) if isinstance(raw, dict) else None
    return value if isinstance(value, str) and value else None
