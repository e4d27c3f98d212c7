"""A stand-in for a calendar server: ICS feeds at `/NAME.ics`, shown as they were at `clock()`.

Entries are added, changed and deleted at instants written beforehand, so that a whole history can be read back as a
source would have shown it day by day. It refuses what it does not understand, and fails on demand.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Literal, NamedTuple

from icalendar import Calendar, Event, Todo, vRecur
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Moment = date | datetime


@dataclass(frozen=True, slots=True)
class Override:
    """One instance of a recurring entry that was moved, or cancelled."""

    instead_of: Moment
    start: Moment
    end: Moment
    title: str = ""
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A calendar entry as it is from an instant on. A to-do has `end` as its due date and no start."""

    uid: str
    title: str
    start: Moment
    end: Moment
    rrule: str | None = None
    rdates: Sequence[Moment] = ()
    exdates: Sequence[Moment] = ()
    overrides: Sequence[Override] = ()
    todo: bool = False
    cancelled: bool = False
    sequence: int = 0


class Version(NamedTuple):
    """What an entry is from `at` on; None: deleted."""

    at: datetime
    uid: str
    entry: Entry | None


class Fault(NamedTuple):
    """What the next request gets instead of its answer: `error` 500, `busy` 429, `page` HTML, or `cut` half a feed."""

    kind: Literal["error", "busy", "page", "cut"]
    retry_after: int | None = None


class Seen(NamedTuple):
    """One line of the journal."""

    path: str
    headers: Mapping[str, str]
    status: int


@dataclass(slots=True)
class CalendarHost:
    """Calendars over HTTP. `faults` are used up one by one; `requests` is the journal."""

    clock: Callable[[], datetime]
    user: str | None = None
    password: str = field(default="", repr=False)
    faults: deque[Fault] = field(default_factory=deque)
    requests: list[Seen] = field(default_factory=list)
    _calendars: dict[str, list[Version]] = field(default_factory=dict)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{name}.ics", self._serve, methods=["GET"])])

    def add_calendar(self, calendar: str) -> None:
        """A calendar that may stay empty; adding an entry makes one too."""
        self._calendars.setdefault(calendar, [])

    def add_entry(
        self, calendar: str, at: datetime, uid: str, title: str, start: Moment, end: Moment, **more: Any
    ) -> None:
        """`more` are other fields of `Entry`."""
        if self._entry(calendar, at, uid) is not None:
            raise ValueError(f"{calendar} has an entry {uid} at that time already")
        self._write(calendar, at, uid, Entry(uid, title, start, end, **more))

    def change_entry(self, calendar: str, at: datetime, uid: str, **changes: Any) -> None:
        entry = self._entry(calendar, at, uid)
        if entry is None:
            raise ValueError(f"{calendar} has no entry {uid} at that time")
        self._write(calendar, at, uid, replace(entry, sequence=entry.sequence + 1, **changes))

    def delete_entry(self, calendar: str, at: datetime, uid: str) -> None:
        if self._entry(calendar, at, uid) is None:
            raise ValueError(f"{calendar} has no entry {uid} at that time")
        self._write(calendar, at, uid, None)

    def shown(self, calendar: str, now: datetime) -> Mapping[str, Version]:
        """The latest version of each entry as of `now`, the deleted ones too."""
        return {version.uid: version for version in self._calendars[calendar] if version.at <= now}

    def _entry(self, calendar: str, at: datetime, uid: str) -> Entry | None:
        self.add_calendar(calendar)
        version = self.shown(calendar, at).get(uid)
        return version.entry if version else None

    def _write(self, calendar: str, at: datetime, uid: str, entry: Entry | None) -> None:
        versions = self._calendars[calendar]
        if any(version.uid == uid and version.at > at for version in versions):
            raise ValueError(f"the history of {uid} must be written in order")
        versions.append(Version(at, uid, entry))

    def _serve(self, request: Request) -> Response:
        now = self.clock()
        response = self._answer(request, now)
        response.headers["Date"] = _http_date(now)
        self.requests.append(Seen(request.url.path, dict(request.headers), response.status_code))
        return response

    def _answer(self, request: Request, now: datetime) -> Response:
        name = request.path_params["name"]
        if name not in self._calendars:
            return Response("no such calendar", 404)
        if request.url.query:
            return Response("a feed takes no parameters", 400)
        if not self._admits(request.headers.get("Authorization")):
            return Response("who are you?", 401, {"WWW-Authenticate": 'Basic realm="calendars"'})
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and fault.kind in _FAULTY:
            return _FAULTY[fault.kind](fault)
        versions = self.shown(name, now)
        body = feed(name, versions.values())
        if fault is not None:
            body = body[: len(body) // 2]
        return _conditional(request, body, max((version.at for version in versions.values()), default=None))

    def _admits(self, authorization: str | None) -> bool:
        if self.user is None:
            return True
        expected = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return secrets.compare_digest(authorization or "", f"Basic {expected}")


def _busy(fault: Fault) -> Response:
    wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return Response("slower, please", 429, wait)


_FAULTY: Mapping[str, Callable[[Fault], Response]] = {
    "error": lambda _: Response("it broke", 500),
    "busy": _busy,
    "page": lambda _: Response("<!DOCTYPE html>\n<title>Sign in</title>", media_type="text/html"),
}


def _conditional(request: Request, body: bytes, changed: datetime | None) -> Response:
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'}
    if changed is not None:
        headers["Last-Modified"] = _http_date(changed)
    known = request.headers.get("If-None-Match")
    since = request.headers.get("If-Modified-Since")
    if known is not None:  # it alone decides where both are sent (RFC 9110, 13.2.2)
        fresh = known == headers["ETag"]
    else:
        fresh = bool(since and changed and changed.replace(microsecond=0) <= parsedate_to_datetime(since))
    return (
        Response(status_code=304, headers=headers)
        if fresh
        else Response(body, headers=headers, media_type="text/calendar")
    )


def feed(name: str, versions: Iterable[Version]) -> bytes:
    """A whole VCALENDAR with these versions and the zones that they name."""
    calendar = Calendar()
    calendar.add("prodid", "-//pmsync//stand-in//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", name)
    for version in versions:
        if version.entry is not None:
            for component in components(version.entry, version.at):
                calendar.add_component(component)
    calendar.add_missing_timezones()
    body: bytes = calendar.to_ical()
    return body


def components(entry: Entry, at: datetime) -> Sequence[Event | Todo]:
    """The entry's master and its overrides."""
    master = _component(entry, at, entry.title, entry.cancelled)
    if not entry.todo:
        master.add("dtstart", entry.start)
    master.add("due" if entry.todo else "dtend", entry.end)
    if entry.rrule is not None:
        master.add("rrule", vRecur.from_ical(entry.rrule))
    for name, moments in (("rdate", entry.rdates), ("exdate", entry.exdates)):
        if moments:
            master.add(name, list(moments))
    return [master, *(_override(entry, each, at) for each in entry.overrides)]


def _override(entry: Entry, override: Override, at: datetime) -> Event | Todo:
    component = _component(entry, at, override.title or entry.title, override.cancelled)
    component.add("recurrence-id", override.instead_of)
    component.add("dtstart", override.start)
    component.add("dtend", override.end)
    return component


def _component(entry: Entry, at: datetime, title: str, cancelled: bool) -> Event | Todo:
    component = Todo() if entry.todo else Event()
    component.add("uid", entry.uid)
    component.add("dtstamp", at.astimezone(UTC))
    component.add("sequence", entry.sequence)
    component.add("summary", title)
    if cancelled:
        component.add("status", "CANCELLED")
    return component


def _http_date(when: datetime) -> str:
    return format_datetime(when.astimezone(UTC).replace(microsecond=0), usegmt=True)
