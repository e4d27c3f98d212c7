"""Calendars as ICS files or feeds, read into calendar entries.

A feed comes from strangers. It is cut into components before anything is parsed, so that a bad one loses only itself;
only the properties that tell time are parsed, so that no text can leak; and every walk through a recurrence rule is
metered, because an impossible rule (each 30 February) would otherwise be followed to the year 9999.

Next on the way of an event: `connectors/base.py`, the port; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

import requests
import urllib3
from dateutil.rrule import HOURLY, rrule, rrulestr  # type: ignore[import-untyped]
from icalendar import Event, Timezone, Todo, vDDDLists, vDDDTypes, vRecur, vText
from icalendar.parser import Contentline
from icalendar.timezone.tzp import TZP
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from recurring_ical_events import EventAdapter, Series, TodoAdapter  # type: ignore[import-untyped]
from recurring_ical_events import Occurrence as Found

from connectors.base import Clock, Fatal, Mark, Read, Ref, Retryable, SecretRef, Settings
from pmsync.core.events import CalendarEntry, Meaning, Occurrence

MAX_BYTES = 10 * 1024 * 1024
MAX_COMPONENTS = 20_000
MAX_LINE = 64 * 1024
MAX_OCCURRENCES = 2_000
MAX_COMBINATIONS = 10_000
MAX_INTERVAL = 10_000
MAX_POSITIONS = 31
MAX_MOMENTS = 10_000
MAX_ZONE_RULES = 40
MAX_UID = 255
MAX_TITLE = 500
MAX_REDIRECTS = 3
LAST_YEAR = 2500
"""Zoned times beyond it are refused: a zone that the feed defines is walked from its first year to the time asked for."""
ENTRY_STEPS = 100_000
"""Days and candidates that the rules of one entry may look at: every hour of 5 years, every day of 130."""
FEED_STEPS = 20_000_000
"""The same for all entries of a feed together; half a minute of work at worst."""
OCCURRENCE_STEPS = 50
"""What one occurrence counts for, so that the budget of a feed also bounds its memory."""
CONNECT_SECONDS, READ_SECONDS, TOTAL_SECONDS = 5.0, 30.0, 60.0

MEANINGS: Mapping[str, Meaning] = {
    "deadline": Meaning.deadline,
    "deadlines": Meaning.deadline,
    "milestone": Meaning.milestone,
    "milestones": Meaning.milestone,
    "time-off": Meaning.time_off,
    "time_off": Meaning.time_off,
    "vacation": Meaning.time_off,
    "vacations": Meaning.time_off,
    "holiday": Meaning.holiday,
    "holidays": Meaning.holiday,
}
"""What a container's name says its entries are, where the configuration does not; anything else is a meeting."""

TELLING = frozenset(
    "UID DTSTART DTEND DUE DURATION RRULE EXRULE RDATE EXDATE RECURRENCE-ID STATUS SEQUENCE SUMMARY".split()  # noqa: SIM905
)
"""The properties that are parsed at all."""

KNOWN = TELLING | frozenset(
    (  # noqa: SIM905
        "ATTACH ATTENDEE CATEGORIES CLASS COLOR COMMENT COMPLETED CONFERENCE CONTACT CREATED DESCRIPTION DTSTAMP GEO IMAGE "
        "LAST-MODIFIED LOCATION ORGANIZER PERCENT-COMPLETE PRIORITY RELATED-TO REQUEST-STATUS RESOURCES TRANSP TZID URL"
    ).split()
)
"""The names that may show in a dead letter. Any other could be a piece of text that was folded wrongly."""

PERIODS = frozenset({"HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"})
_SPLIT = {"VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VTIMEZONE", "VAVAILABILITY"}
_NAME = re.compile(r"[A-Za-z0-9-]+(?=[:;])")
_ZONE = re.compile(r"[\w+\-/ .()&:,]{1,64}", re.ASCII)
_BROKEN = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What icalendar and recurring-ical-events raise on bad input, besides their own errors (all of them ValueErrors)."""

Moment = date | datetime


class Basic(BaseModel):
    """A user and a password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str
    password: SecretRef


class Token(BaseModel):
    """A bearer token."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: SecretRef


class CalendarSettings(Settings):
    """`ics` is one URL or path for every container, or one for each. Titles are only read where they are asked for."""

    kind: Literal["calendar"] = "calendar"
    ics: str | Mapping[str, str]
    titles: bool = False
    meaning: Mapping[str, Meaning] = {}
    time_zone: str = Field(default="UTC", description="the zone of times that name none")
    auth: Basic | Token | None = None

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ValueError, OSError, LookupError):
            raise ValueError(f"{name} is not a time zone; name one as Europe/Berlin") from None
        return name

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for name, target in {"*": self.ics}.items() if isinstance(self.ics, str) else self.ics.items():
            if "/" in name:
                raise ValueError(f"the container {name} must not contain '/'")
            if "://" in target and urlsplit(target).scheme not in {"http", "https", "webcal"}:
                raise ValueError("ics must be an http, https or webcal address, or a path")
        return self


class Window(NamedTuple):
    """The days `[start, end)` that are expanded."""

    start: date
    end: date


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything besides the feed itself on which its translation depends."""

    container: str
    meaning: Meaning
    window: Window
    zone: ZoneInfo
    titles: bool = False


@dataclass(frozen=True, slots=True)
class Kept:
    """The last reading of a feed, and what proves that it has not changed since."""

    window: Window
    digest: bytes
    validators: Mapping[str, str]
    reads: Mapping[Ref, Read]


@dataclass(frozen=True, slots=True)
class Answer:
    """A feed as it came; no body means that it is the same as before."""

    body: bytes | None
    validators: Mapping[str, str] = field(default_factory=dict)


class CalendarConnector:
    """The single reader of one calendar source. Only this class does I/O; what it calls below is pure."""

    Settings: ClassVar[type[Settings]] = CalendarSettings
    name: str

    def __init__(self, settings: CalendarSettings, clock: Clock, session: requests.Session) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._session = session
        self._skew = timedelta()
        self._kept: dict[str, Kept] = {}

    @classmethod
    def connect(cls, settings: CalendarSettings, clock: Clock) -> Self:
        return cls(settings, clock, requests.Session())

    def check(self, containers: Sequence[str]) -> Iterator[str]:
        for container in containers:
            try:
                reads = self._read(container).values()
            except (Fatal, Retryable) as error:
                yield str(error)
                continue
            problems = sorted(read.problem for read in reads if read.problem)
            for reason, same in groupby(problems):
                yield f"{container}: {len(list(same))} of {len(reads)} entries cannot be read: {reason}"

    def now(self) -> datetime:
        return self._clock() + self._skew

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:  # noqa: ARG002
        """One page of everything: a feed has no time of change that could be trusted."""
        yield list(self._read(container).values())

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        yield [Mark(ref, None) for ref in self._read(container)]

    def fetch(self, refs: Sequence[Ref]) -> Iterator[Read]:
        for container, wanted in groupby(sorted(refs, key=_container), key=_container):
            reads = self._read(container)
            for ref in wanted:
                yield reads.get(ref, Read(ref))

    def _read(self, container: str) -> Mapping[Ref, Read]:
        target, scope = self._target(container), self._scope(container)
        kept = self._kept.get(container)
        if kept is not None and kept.window != scope.window:
            kept = None
        answer = self._get(container, target, kept) if "://" in target else Answer(_load(Path(target)))
        if answer.body is None:
            if kept is None:
                raise Retryable(f"{container}: the server says 304 to a request that it cannot mean")
            return kept.reads
        digest = hashlib.sha256(answer.body).digest()
        if kept is not None and kept.digest == digest:
            reads = kept.reads
        else:
            reads = {read.ref: read for read in read_feed(answer.body, scope)}
        self._kept[container] = Kept(scope.window, digest, answer.validators, reads)
        return reads

    def _target(self, container: str) -> str:
        ics = self._settings.ics
        target = ics if isinstance(ics, str) else ics.get(container)
        if target is None or "/" in container:
            raise Fatal(f"{self.name} has no calendar {container}; name it under ics")
        return re.sub(r"^webcal:", "https:", target)

    def _scope(self, container: str) -> Scope:
        settings = self._settings
        meaning = settings.meaning.get(container) or MEANINGS.get(container.lower(), Meaning.meeting)
        return Scope(container, meaning, window_at(self._clock()), ZoneInfo(settings.time_zone), settings.titles)

    def _get(self, container: str, url: str, kept: Kept | None) -> Answer:
        headers = {"Accept": "text/calendar, */*;q=0.5", "Accept-Encoding": "identity"}
        try:
            with _follow(self._session, url, headers | dict(kept.validators if kept else {}), self._auth()) as response:
                self._notice(response)
                if problem := failure(container, response.status_code, response.headers, self.now()):
                    raise problem
                if response.status_code == 304:
                    return Answer(None)
                return Answer(_body(container, response), validators(response.headers))
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            # The error's own text holds the address, and a private feed's address is its password.
            invalid = isinstance(error, ValueError) and not isinstance(error, requests.JSONDecodeError)
            kind = Fatal if invalid else Retryable
            raise kind(f"{container}: {urlsplit(url).hostname} cannot be read ({type(error).__name__})") from None

    def _notice(self, response: requests.Response) -> None:
        stated = _http_date(response.headers.get("Date"))
        if stated is not None:
            self._skew = stated - self._clock()

    def _auth(self) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
        match self._settings.auth:
            case Basic(user=user, password=password):
                return requests.auth.HTTPBasicAuth(user, password.reveal())
            case Token(token=token):
                return _Bearer(token.reveal())
            case _:
                return _anonymous


def _container(ref: Ref) -> str:
    return ref.id.partition("/")[0]


# ---- I/O ----


@dataclass(frozen=True, slots=True)
class _Bearer:
    token: str = field(repr=False)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


def _anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Given to requests so that it does not look for a password in ~/.netrc."""
    return request


def _load(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Fatal(f"cannot read the calendar {path}: {error.strerror}") from error
    if len(body) > MAX_BYTES:
        raise Fatal(f"the calendar {path} is larger than {MAX_BYTES} bytes")
    return body


def _follow(
    session: requests.Session,
    url: str,
    headers: Mapping[str, str],
    auth: Callable[[requests.PreparedRequest], requests.PreparedRequest],
) -> requests.Response:
    """The answer to a GET after at most three redirects; what authenticates goes to the first host only."""
    home = urlsplit(url).netloc
    for _ in range(MAX_REDIRECTS + 1):
        granted = auth if urlsplit(url).netloc == home else _anonymous
        response = session.get(
            url,
            headers=headers,
            auth=granted,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_SECONDS, READ_SECONDS),
        )
        if not response.is_redirect:
            return response
        response.close()
        here, url = url, urljoin(url, response.headers["Location"])
        if (urlsplit(here).scheme, urlsplit(url).scheme) not in {
            ("http", "http"),
            ("https", "https"),
            ("http", "https"),
        }:
            raise Fatal(f"{urlsplit(here).hostname} redirects to another scheme; name the final address under ics")
    raise Fatal(f"{urlsplit(url).hostname} redirects more than {MAX_REDIRECTS} times; name the final address under ics")


def _body(container: str, response: requests.Response) -> bytes:
    """The body, bounded in size and, against a server that sends a byte now and then, in time."""
    deadline, body = time.monotonic() + TOTAL_SECONDS, bytearray()
    while chunk := response.raw.read1(MAX_LINE, decode_content=True):
        body += chunk
        if len(body) > MAX_BYTES:
            raise Fatal(f"{container}: the feed is larger than {MAX_BYTES} bytes")
        if time.monotonic() > deadline:
            raise Retryable(f"{container}: the feed was not read within {TOTAL_SECONDS:.0f} s")
    return bytes(body)


# ---- what an answer means ----


def failure(container: str, status: int, headers: Mapping[str, str], now: datetime) -> Retryable | Fatal | None:
    """What a status says about the next try; None where the answer can be read."""
    if status in {200, 304}:
        return None
    if status in {401, 403}:
        return Fatal(f"{container}: the server refuses the credentials ({status}); check auth")
    if status in {408, 425, 429} or status >= 500:
        return Retryable(f"{container}: the server answers {status}", retry_after(headers.get("Retry-After"), now))
    return Fatal(f"{container}: the server answers {status}; is the address under ics right?")


def retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3)."""
    if value is not None and re.fullmatch(r"\d{1,9}", value.strip(), re.ASCII):
        return float(value)
    when = _http_date(value)
    return None if when is None else max(0.0, (when - now).total_seconds())


def validators(headers: Mapping[str, str]) -> Mapping[str, str]:
    """What makes the next request a conditional one (RFC 9110, 13.1)."""
    asked = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
    return {name: value for name, value in asked.items() if value}


def _http_date(value: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(value or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None


# ---- feed -> reads ----


class Unreadable(ValueError):
    """One component or rule cannot be read. The message is a reason and never holds text from the feed."""


def window_at(now: datetime) -> Window:
    """Last year and three years from now on; it moves once a year, so that entries do not change from day to day."""
    return Window(date(now.year - 1, 1, 1), date(now.year + 3, 1, 1))


def read_feed(body: bytes, scope: Scope) -> Iterator[Read]:
    """Every entry of a feed, in order of its first line; raises where the feed as a whole is not to be trusted."""
    parts = split(unfold(body), scope.container)
    zones = Zones([part for part in parts if part.kind == "VTIMEZONE"])
    groups: dict[str, list[Part]] = {}
    for part in parts:
        if part.kind in {"VEVENT", "VTODO"}:
            groups.setdefault(part.uid, []).append(part)
    feed = Meter(FEED_STEPS, "the rules of the feed need too many steps together")
    for uid, group in groups.items():
        ref = Ref("calendar_entry", f"{scope.container}/{uid}")
        try:
            content = translate(group, scope, zones, feed)
        except Unreadable as error:
            yield Read(ref, problem=str(error), raw=structure(group))
        except _BROKEN as error:
            yield Read(ref, problem=f"the entry cannot be expanded ({type(error).__name__})", raw=structure(group))
        else:
            if content is not None:
                yield Read(ref, content=content)


def unfold(body: bytes) -> list[str]:
    """Lines as RFC 5545 (3.1) means them. Unfolded as bytes, since a fold may cut a character in two."""
    whole = re.sub(rb"(?:\r\n|\n|\r)[ \t]", b"", body.removeprefix(b"\xef\xbb\xbf"))
    return [line.decode("utf-8", "replace") for line in re.split(rb"\r\n|\n|\r", whole) if line.strip()]


@dataclass(slots=True)
class Part:
    """The lines of one component. Nested ones (alarms) are left out, except those that define a zone."""

    kind: str
    lines: list[str] = field(default_factory=list)
    fault: str | None = None

    @property
    def uid(self) -> str:
        """The UID; where it is missing or too long to be an id, a digest that stands while the entry is unchanged."""
        for line in self.lines:
            if line[:4].upper() in {"UID:", "UID;"}:
                uid = vText.from_ical(line.partition(":")[2]).strip()
                if 0 < len(uid) <= MAX_UID:
                    return str(uid)
                break
        return "~" + hashlib.sha256("\n".join(self.lines).encode()).hexdigest()[:32]


class _Splitter:
    """Follows BEGIN and END through a feed, so that a component that is not closed does not swallow its neighbours."""

    def __init__(self, container: str) -> None:
        self.container = container
        self.parts: list[Part] = []
        self.seen = 0
        self.inside = False
        self.complete = False
        self.part: Part | None = None
        self.nested: list[str] = []

    def line(self, line: str) -> None:
        word, _, rest = line.partition(":")
        name = rest.strip().upper()
        match word.strip().upper():
            case "BEGIN":
                self.begin(name)
            case "END":
                self.end(name)
            case _ if self.part is not None and (not self.nested or self.part.kind == "VTIMEZONE"):
                self.part.lines.append(line)

    def begin(self, name: str) -> None:
        self.seen += 1
        if self.seen > MAX_COMPONENTS:
            raise Fatal(f"{self.container}: the feed has more than {MAX_COMPONENTS} components")
        if name == "VCALENDAR":
            self.close("it has no END")
            self.inside, self.complete = True, False
        elif self.part is None or name in _SPLIT:
            self.close("it has no END")
            self.part = Part(name)
        else:
            self.nest("BEGIN", name)
            self.nested.append(name)

    def end(self, name: str) -> None:
        if name == "VCALENDAR":
            self.close("it has no END")
            self.complete = self.inside
        elif self.part is not None and name == self.part.kind:
            self.close(None)
        elif self.nested and self.nested[-1] == name:
            self.nested.pop()
            self.nest("END", name)

    def nest(self, word: str, name: str) -> None:
        if self.part is not None and self.part.kind == "VTIMEZONE":
            self.part.lines.append(f"{word}:{name}")

    def close(self, fault: str | None) -> None:
        if self.part is not None:
            self.part.fault = fault
            self.parts.append(self.part)
        self.part, self.nested = None, []


def split(lines: Sequence[str], container: str) -> Sequence[Part]:
    """The components of a feed. One that is not whole says nothing about what was deleted, so it raises `Retryable`."""
    if lines and lines[0].lstrip().startswith("<"):
        raise Retryable(f"{container}: a web page came instead of a calendar; does the address need auth?")
    splitter = _Splitter(container)
    for line in lines:
        splitter.line(line)
    if not splitter.inside:
        raise Retryable(f"{container}: what came is no calendar (no BEGIN:VCALENDAR)")
    if not splitter.complete:
        raise Retryable(f"{container}: the feed is cut off (no END:VCALENDAR)")
    return splitter.parts


def structure(group: Iterable[Part]) -> bytes:
    """What a dead letter keeps of an entry: the names of its properties."""
    lines: list[str] = []
    for part in group:
        names = (name.group().upper() if (name := _NAME.match(line)) else "" for line in part.lines)
        lines += [f"BEGIN:{part.kind}", *(name if name in KNOWN else "OTHER" for name in names), f"END:{part.kind}"]
    return "\n".join(lines)[:MAX_LINE].encode()


# ---- components -> one entry ----


class Property(NamedTuple):
    """One content line."""

    value: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Component:
    """One VEVENT or VTODO that can be expanded."""

    event: Event | Todo
    sequence: int
    is_override: bool
    cancelled: bool
    title: str | None


def translate(group: Sequence[Part], scope: Scope, zones: Zones, feed: Meter) -> CalendarEntry | None:
    """The entry that these components of one UID make; None if it is cancelled, or a to-do that is never due."""
    components = [component for part in group if (component := parse(part, zones)) is not None]
    masters = [component for component in components if not component.is_override]
    first = max(masters or components, key=lambda component: component.sequence, default=None)
    if first is None or all(component.cancelled for component in ([first] if masters else components)):
        return None
    occurrences = expand(components, scope.window, scope.zone, feed)
    return CalendarEntry(
        container=scope.container,
        title=first.title if scope.titles else None,
        meaning=scope.meaning,
        recurring="RRULE" in first.event or "RDATE" in first.event,
        occurrences=tuple(Occurrence(start=start, end=end) for start, end in occurrences[:MAX_OCCURRENCES]),
        occurrences_cut=len(occurrences) > MAX_OCCURRENCES,
    )


def parse(part: Part, zones: Zones) -> Component | None:
    """The component in these lines; None for a to-do without a due date."""
    if part.fault is not None:
        raise Unreadable(f"{part.kind}: {part.fault}")
    properties = _properties(part)
    if part.kind == "VTODO" and "DUE" not in properties:
        return None
    if part.kind == "VEVENT" and "DTSTART" not in properties:
        raise Unreadable("VEVENT: it has no DTSTART")
    event = Todo() if part.kind == "VTODO" else Event()
    for name, read in _READERS.items():
        if name in properties:
            event[name] = read(name, properties[name], zones)
    status = properties.get("STATUS", [Property("", {})])[0].value.strip().upper()
    return Component(
        event, event.get("SEQUENCE", -1), "RECURRENCE-ID" in event, status == "CANCELLED", _title(properties)
    )


def _properties(part: Part) -> Mapping[str, Sequence[Property]]:
    found: dict[str, list[Property]] = {}
    for line in part.lines:
        match = _NAME.match(line)
        name = match.group().upper() if match else ""
        if name not in TELLING:
            continue
        if len(line) > MAX_LINE:
            raise Unreadable(f"{name} is longer than {MAX_LINE} characters")
        try:
            _, params, value = Contentline(line).parts()  # type: ignore[no-untyped-call]
        except ValueError:
            raise Unreadable(f"{name} is no valid content line") from None
        found.setdefault(name, []).append(Property(value, params))
    if "EXRULE" in found:
        raise Unreadable("EXRULE is not supported (RFC 5545 has deprecated it)")
    return found


def _title(properties: Mapping[str, Sequence[Property]]) -> str | None:
    summary = properties.get("SUMMARY")
    return str(vText.from_ical(summary[0].value))[:MAX_TITLE] if summary else None


def _moment(name: str, text: str, params: Mapping[str, Any], zones: Zones) -> Any:
    """A date, an instant, a duration or a period, as the text itself says; times that name no zone stay without."""
    try:
        value: Any = vDDDTypes.from_ical(text.strip())  # type: ignore[no-untyped-call]
    except ValueError:
        raise Unreadable(f"{name} is no valid date, time or duration") from None
    if isinstance(value, tuple):
        start, end = (_placed(name, each, params, zones) for each in value)
        return start, end
    return _placed(name, value, params, zones)


def _placed(name: str, value: Any, params: Mapping[str, Any], zones: Zones) -> Any:
    if "TZID" not in params or not isinstance(value, datetime) or value.tzinfo is not None:
        return value
    if value.year > LAST_YEAR:
        raise Unreadable(f"{name} is beyond the year {LAST_YEAR}")
    return value.replace(tzinfo=zones.of(name, str(params["TZID"])))


def _single(name: str, properties: Sequence[Property], zones: Zones) -> vDDDTypes:
    if len(properties) > 1:
        raise Unreadable(f"{name} is there {len(properties)} times")
    value, params = properties[0]
    moment = _moment(name, value, params, zones)
    if not isinstance(moment, timedelta if name == "DURATION" else date):
        raise Unreadable(f"{name} is of the wrong type")
    single = vDDDTypes(moment)
    if str(params.get("RANGE", "")).upper() == "THISANDFUTURE":
        single.params["RANGE"] = "THISANDFUTURE"
    return single


def _list(name: str, properties: Sequence[Property], zones: Zones) -> list[vDDDLists]:
    moments = []
    for value, params in properties:
        moments += [_moment(name, text, params, zones) for text in value.split(",") if text.strip()]
        if len(moments) > MAX_MOMENTS:
            raise Unreadable(f"{name} has more than {MAX_MOMENTS} values")
    if any(not isinstance(moment, date | tuple) for moment in moments):
        raise Unreadable(f"{name} is of the wrong type")
    return [vDDDLists(moments)]


def _sequence(name: str, properties: Sequence[Property], zones: Zones) -> int:  # noqa: ARG001
    value = properties[0].value.strip()
    return int(value) if re.fullmatch(r"\d{1,9}", value, re.ASCII) else 0


def _rules(name: str, properties: Sequence[Property], zones: Zones) -> list[vRecur]:  # noqa: ARG001
    for each in properties:
        check_rule(each.value)
    try:
        return [vRecur.from_ical(each.value.strip().rstrip(";")) for each in properties]
    except ValueError:
        raise Unreadable("RRULE is no valid rule") from None


_READERS: Mapping[str, Callable[[str, Sequence[Property], Zones], Any]] = {
    **dict.fromkeys(("DTSTART", "DTEND", "DUE", "DURATION", "RECURRENCE-ID"), _single),
    **dict.fromkeys(("RDATE", "EXDATE"), _list),
    "RRULE": _rules,
    "SEQUENCE": _sequence,
}


def check_rule(rule: str, periods: Container[str] = PERIODS) -> None:
    """Raise for a rule that costs too much per step, or asks for more often than any calendar of people does."""
    parts = [part.partition("=")[::2] for part in rule.strip().rstrip(";").upper().split(";")]
    named = dict(parts)
    if len(named) < len(parts):
        raise Unreadable("RRULE names a part twice")
    if named.get("FREQ") not in periods:
        raise Unreadable("RRULE has a FREQ that is not supported")
    interval = named.get("INTERVAL", "1")
    if not re.fullmatch(r"\d{1,5}", interval, re.ASCII) or not 1 <= int(interval) <= MAX_INTERVAL:
        raise Unreadable(f"RRULE has an INTERVAL outside 1 to {MAX_INTERVAL}")
    if prod(value.count(",") + 1 for name, value in parts if name.startswith("BY")) > MAX_COMBINATIONS:
        raise Unreadable(f"RRULE has more than {MAX_COMBINATIONS} combinations")
    if named.get("BYSETPOS", "").count(",") >= MAX_POSITIONS:  # each costs dateutil a walk through the whole period
        raise Unreadable(f"RRULE has more than {MAX_POSITIONS} BYSETPOS")


# ---- expansion ----


class Meter:
    """A budget of steps; it raises when it is spent."""

    def __init__(self, left: int, reason: str = "RRULE needs too many steps from its start") -> None:
        self.left = left
        self.reason = reason

    def spend(self, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            raise Unreadable(self.reason)


class _Beyond(Exception):
    """The walk through a rule has gone past its horizon without an occurrence to show it."""


class _Months(tuple[int, ...]):
    """The months of a rule. dateutil asks of every day that it looks at whether its rule has any: there it is metered."""

    meter: Meter
    days: int

    def __bool__(self) -> bool:
        self.meter.spend()
        self.days -= 1
        if self.days < 0:
            raise _Beyond
        return len(self) > 0


def metered(rule: rrule, meter: Meter, days: int) -> Iterator[datetime]:
    """The recurrences of a rule until it has looked at so many days. Not cached: an error would leave the lock taken."""
    rule._bymonth = months = _Months(rule._bymonth or ())
    months.meter, months.days = meter, days
    rule._cache = None
    try:
        for moment in rule:
            meter.spend()
            yield moment
    except _Beyond:
        return


def horizon(rule: rrule, last: datetime) -> int:
    """How many days dateutil looks at, at most, until it is past `last`: each one once, hours apart; plus a margin."""
    days: int = (last.date() - rule._dtstart.date()).days
    return max(0, days + days // 100) * (24 if rule._freq == HOURLY else 1) + 800


class _Adapter(EventAdapter):  # type: ignore[misc]
    """A component on its way through the library, with what bounds its expansion."""

    def __init__(self, component: Component, meter: Meter, enough: int) -> None:
        super().__init__(component.event)
        self.cancelled = component.cancelled
        self.meter = meter
        self.enough = enough


class _TodoAdapter(_Adapter, TodoAdapter):  # type: ignore[misc]
    raw_start = TodoAdapter.raw_start
    raw_end = TodoAdapter.raw_end


class _Found(Found):  # type: ignore[misc]
    def __init__(self, adapter: _Adapter, start: Moment | None, end: Moment | None, sequence: int) -> None:
        super().__init__(adapter, start, end, sequence=sequence)
        self.adapter = adapter


class _Series(Series):  # type: ignore[misc]
    """A recurrence set whose rules are walked lazily and under a meter."""

    def occurrence(self, adapter: _Adapter, start: Moment | None = None, end: Moment | None = None) -> _Found:
        return _Found(adapter, start, end, self.sequence)

    class RecurrenceRules(Series.RecurrenceRules):  # type: ignore[misc]
        def rrule_between(self, span_start: datetime, span_stop: datetime) -> Iterator[datetime]:
            first, last = (_comparable(moment, self.tzinfo) for moment in (span_start, span_stop))
            for rule in self.rrules:
                metering = isinstance(rule, rrule)  # the others are the dates of RDATE
                walk = metered(rule, self.core.meter, horizon(rule, last)) if metering else iter(rule)
                yield from _between(walk, first, last, rule.until, self.core.enough)


def _between(
    walk: Iterator[datetime], first: datetime, last: datetime, until: Moment | None, enough: int
) -> Iterator[datetime]:
    for moment in walk:
        if moment > last or enough <= 0:
            return
        if moment >= first and not (until is not None and moment > _comparable(until, moment.tzinfo)):
            enough -= 1
            yield moment


def _comparable(moment: Moment, zone: Any) -> datetime:
    """The library's own rule: where only one side has a zone, it is lent to the other; without any, none is kept."""
    at = moment if isinstance(moment, datetime) else datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001
    if zone is None or at.tzinfo is None:
        return at.replace(tzinfo=zone)
    return at


def expand(
    components: Sequence[Component], window: Window, zone: ZoneInfo, feed: Meter
) -> Sequence[tuple[Moment, Moment]]:
    """`[start, end)` of the occurrences of one UID that touch the window, sorted; a few more than may be published."""
    meter = Meter(ENTRY_STEPS) if feed.left > ENTRY_STEPS else Meter(feed.left, feed.reason)
    before = meter.left
    enough = MAX_OCCURRENCES + 1 + sum(_exceptions(component) for component in components)
    series = _Series(
        [
            (_TodoAdapter if isinstance(component.event, Todo) else _Adapter)(component, meter, enough)
            for component in components
        ]
    )
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in window)
    try:
        found = {_span(each, zone) for each in series.between(start, end) if not each.adapter.cancelled}
    finally:
        feed.left -= before - max(0, meter.left)
    feed.spend(OCCURRENCE_STEPS * len(found))
    return sorted(found, key=lambda span: tuple(_instant(moment, zone) for moment in span))


def _exceptions(component: Component) -> int:
    return component.is_override + sum(len(each.dts) for each in component.event.get("EXDATE", []))


def _span(found: _Found, zone: ZoneInfo) -> tuple[Moment, Moment]:
    start, end = found.start, found.end
    if isinstance(found.adapter, TodoAdapter):
        start = end
    elif not isinstance(start, datetime) and start == end:
        end = start + timedelta(days=1)
    if isinstance(start, datetime) or isinstance(end, datetime):
        return _instant(start, zone), _instant(end, zone)
    return start, end


def _instant(moment: Moment, zone: ZoneInfo) -> datetime:
    return _comparable(moment, moment.tzinfo if isinstance(moment, datetime) and moment.tzinfo else zone).astimezone(
        UTC
    )


# ---- time zones ----


class Zones:
    """The zones that a feed may name: those of tzdata, their Windows names, and those that it defines itself.

    Each feed has its own, since icalendar's own registry would let one feed define a zone for another.
    """

    def __init__(self, definitions: Iterable[Part]) -> None:
        self._provider = TZP()
        self._rules_left = MAX_ZONE_RULES
        for part in definitions:
            try:
                self._define(part)
            except _BROKEN:
                continue  # an entry that names this zone says so itself

    def of(self, name: str, tzid: str) -> Any:
        """The zone that the property `name` is in; raises `Unreadable` for one that nobody knows."""
        zone = self._find(tzid)
        if zone is None:
            shown = tzid if _ZONE.fullmatch(tzid) else "that it names"
            raise Unreadable(f"{name}: the time zone {shown} is unknown")
        return zone

    def _find(self, tzid: str) -> Any:
        # "/vendor/Europe/Berlin" is a globally unique id (RFC 5545, 3.2.19); icalendar would warn that it guesses.
        pieces = tzid.strip("/").split("/")
        guesses = ["/".join(pieces[i:]) for i in range(len(pieces) if tzid.startswith("/") else 1)]
        for guess in guesses:
            try:
                zone: Any = self._provider.timezone(guess)
            except (OSError, ValueError):
                continue
            if zone is not None:
                return zone
        return None

    def _define(self, part: Part) -> None:
        text = "\r\n".join(("BEGIN:VTIMEZONE", *part.lines, "END:VTIMEZONE", ""))
        zone = Timezone.from_ical(text)
        if self._find(str(zone["TZID"])) is not None:
            return
        for observance in zone.subcomponents:
            rules: Any = observance.get("RRULE", [])
            start: Any = observance["DTSTART"]
            for rule in rules if isinstance(rules, list) else [rules]:
                self._check(rule.to_ical().decode(), start.dt)
        self._provider.cache_timezone_component(zone)

    def _check(self, rule: str, start: datetime) -> None:
        """Zones are walked by dateutil alone, so that a rule must show beforehand that it comes to its first day."""
        self._rules_left -= 1
        if self._rules_left < 0:
            raise Unreadable(f"the feed has more than {MAX_ZONE_RULES} rules of time zones")
        check_rule(rule, {"YEARLY"})
        next(metered(rrulestr(rule, dtstart=start, ignoretz=True), Meter(20 * 366), LAST_YEAR * 366), None)
