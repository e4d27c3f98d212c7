"""The bytes of an ICS feed, read into calendar entries by pure functions.

A feed comes from strangers. It is cut into components before anything is parsed, so that a bad one loses only itself;
only the properties that tell time are parsed, so that no text can leak; and every walk through a recurrence rule is
metered, because an impossible rule (each 30 February) would otherwise be followed to the year 9999. What is hostile, and what
becomes of it, is a table in `bench/hostile_feeds.py`.

Next on the way of an event: `connectors/ics_apart.py`, the process in which this is done.
"""

from __future__ import annotations

import hashlib
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from fnmatch import fnmatchcase
from math import prod
from typing import Any, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

from dateutil.rrule import HOURLY, rrule, rrulestr  # type: ignore[import-untyped]
from icalendar import Event, Timezone, Todo, vDDDLists, vDDDTypes, vRecur, vText
from icalendar.parser import Contentline
from icalendar.timezone.tzp import TZP
from pydantic import BaseModel, ConfigDict, Field
from recurring_ical_events import EventAdapter, Series, TodoAdapter  # type: ignore[import-untyped]
from recurring_ical_events import Occurrence as Found

from connectors.base import Read, Ref, Retryable, Withheld
from pmsync.core.events import CalendarEntry, Meaning, Occurrence

MAX_COMPONENTS = 20_000
MAX_LINE = 64 * 1024
MAX_LINES = 400_000
"""Of a feed, unfolded or not: ten megabytes of lines of two letters would be half a gigabyte of strings."""
MAX_OCCURRENCES = 2_000
MAX_COMBINATIONS = 10_000
MAX_INTERVAL = 10_000
MAX_POSITIONS = 31
MAX_MOMENTS = 10_000
MAX_RULES = 20
MAX_ZONE_RULES = 40
MAX_ZONE_COMBINATIONS = 100
MAX_ZONE_TEXT = 128 * 1024
"""Characters of the zones that a feed defines and nobody else knows: icalendar takes a minute to parse ten million."""
MAX_ZONE_PIECES = 3
"""Of a name of tzdata, such as America/Argentina/Ushuaia."""
MAX_ODD_ZONES = 1_000
"""Names that nobody knows in one feed, after which only whole ones are looked up."""
MAX_UID = 255
MAX_TITLE = 500
LAST_YEAR = 2500
"""Zoned times beyond it are refused: a zone that the feed defines is walked from its first year to the time asked for."""
ENTRY_STEPS = 100_000
"""Days and candidates that the rules of one entry may look at: every hour of 5 years, every day of 130."""
FEED_STEPS = 5_000_000
"""The same for all entries of a feed together; half a minute of work at worst, and 200,000 occurrences."""
LISTED, TIMES = 40, 8
"""So many values of a rule's lists, and times within an hour, make each of its steps count for one more: dateutil goes through
the ones and makes the others in between."""
OCCURRENCE_STEPS = 25
"""What one occurrence counts for, so that the budget of a feed also bounds its memory."""

TELLING = frozenset(
    [
        "UID",
        "DTSTART",
        "DTEND",
        "DUE",
        "DURATION",
        "RRULE",
        "EXRULE",
        "RDATE",
        "EXDATE",
        "RECURRENCE-ID",
        "STATUS",
        "COMPLETED",
        "SEQUENCE",
        "SUMMARY",
        "CATEGORIES",
        "TRANSP",
    ]
)
"""The properties that are parsed at all."""

KNOWN = TELLING | frozenset(
    (  # noqa: SIM905
        "ATTACH ATTENDEE CLASS COLOR COMMENT CONFERENCE CONTACT CREATED DESCRIPTION DTSTAMP GEO IMAGE "
        "LAST-MODIFIED LOCATION ORGANIZER PERCENT-COMPLETE PRIORITY RELATED-TO REQUEST-STATUS RESOURCES TZID URL"
    ).split()
)
"""The names that may show in a dead letter. Any other could be a piece of text that was folded wrongly."""

PERIODS = frozenset({"HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"})
_SPLIT = {"VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY", "VTIMEZONE", "VAVAILABILITY"}
_PLAIN = re.compile(rf"[A-Za-z0-9_@.=-]{{1,{MAX_UID}}}")
_NAME = re.compile(r"[A-Za-z0-9-]+(?=[:;])")
_ZONE = re.compile(r"[\w+\-/ .()&:,]{1,64}", re.ASCII)
_TZID = re.compile(r"TZID[:;]", re.IGNORECASE)
_OFFSET = re.compile(r"\(?(?:UTC|GMT) ?([+-])(0?\d|1[0-4])(?::?([0-5]\d))?\)?", re.ASCII)
"""Zones whose names say how far they are from UTC, all year; east of it is plus."""
_BROKEN = (ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What icalendar and recurring-ical-events raise on bad input, besides their own errors (all of them ValueErrors)."""

Moment = date | datetime


class Window(NamedTuple):
    """The days `[start, end)` that are expanded."""

    start: date
    end: date


class Named(Protocol):
    """What says what an entry means."""

    @property
    def title(self) -> str | None: ...

    @property
    def categories(self) -> tuple[str, ...]: ...


class _Fitting(BaseModel):
    """Entries of this title or category: patterns as of file names (`*`, `?`), in any case of letters. With neither, it fits
    every entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str | None = None
    category: str | None = None

    def fits(self, entry: Named) -> bool:
        by_title = self.title is None or _is_like(entry.title or "", self.title)
        return by_title and (self.category is None or any(_is_like(c, self.category) for c in entry.categories))


class Pattern(_Fitting):
    """What entries of this title or category mean; `nothing` leaves an entry out."""

    means: Meaning | Literal["nothing"]


class Owner(_Fitting):
    """Whose entries of this title or category are: an account, by a name of the configuration's own."""

    account: str = Field(min_length=1, max_length=200)


@dataclass(frozen=True, slots=True)
class Scope:
    """Everything besides the feed itself on which its translation depends. The first of `patterns` that fits says what an
    entry means, else `meaning` does; the first of `owners`, whose it is."""

    container: str
    meaning: Meaning
    window: Window
    zone: ZoneInfo
    titles: bool = False
    patterns: tuple[Pattern, ...] = ()
    owners: tuple[Owner, ...] = ()

    @property
    def looks_at_titles(self) -> bool:
        """Whether the titles of entries are needed, be it to throw them away."""
        return self.titles or any(each.title is not None for each in (*self.patterns, *self.owners))

    def whose(self, entry: Named) -> str | None:
        """The account of whom an entry is; None where nothing says so."""
        return next((each.account for each in self.owners if each.fits(entry)), None)

    def meant(self, entry: Named) -> Meaning | None:
        """What an entry means; None if it is to be left out."""
        found: Meaning | str = next((each.means for each in self.patterns if each.fits(entry)), self.meaning)
        return found if isinstance(found, Meaning) else None


def _is_like(text: str, pattern: str) -> bool:
    return fnmatchcase(text.casefold(), pattern.casefold().replace("[", "[[]"))  # no classes of characters


# ---- feed -> reads ----


class Unreadable(ValueError):
    """One component or rule cannot be read. The message is a reason and never holds text from the feed."""


def window_at(now: datetime) -> Window:
    """Last year and three years from now on; it moves once a year, so that entries do not change from day to day."""
    return Window(date(now.year - 1, 1, 1), date(now.year + 3, 1, 1))


def read_feed(body: bytes, scope: Scope, feed: Meter | None = None) -> Iterator[Read]:
    """Every entry of a feed, in order of its first line; raises where the feed as a whole is not to be trusted. `feed` is the
    budget of steps where several bodies share one."""
    feed = feed or feed_meter()
    if body.count(b"\n") + body.count(b"\r") > 2 * MAX_LINES:
        raise Withheld(f"{scope.container}: the feed has more than {MAX_LINES} lines")
    parts = split(unfold(body), scope.container)
    zones = Zones([part for part in parts if part.kind == "VTIMEZONE"])
    groups: dict[str, list[Part]] = {}
    for part in parts:
        if part.kind in {"VEVENT", "VTODO"}:
            groups.setdefault(part.uid, []).append(part)
    for uid, group in groups.items():
        ref = Ref("calendar_entry", f"{scope.container}/{uid}")
        if feed.left <= 0:  # thousands of entries would still have to be parsed
            yield Read(ref, problem=feed.reason, raw=structure(group))
            continue
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
        return _digest("\n".join(self.lines))


def uid_of(ident: str) -> str:
    """The id of an entry that its source calls so: the same, or a digest of what is too long, or odd."""
    return ident if _PLAIN.fullmatch(ident) else _digest(ident)


def _digest(text: str) -> str:
    return "~" + hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:32]


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
            raise Withheld(f"{self.container}: the feed has more than {MAX_COMPONENTS} components")
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
    is_over: bool
    is_busy: bool
    title: str | None
    categories: tuple[str, ...] = ()


def translate(group: Sequence[Part], scope: Scope, zones: Zones, feed: Meter) -> CalendarEntry | None:
    """The entry that these components of one UID make; None if it is cancelled, means nothing, or is a to-do that is
    done or never due."""
    components = []
    for part in group:
        component = parse(part, zones)
        if component is not None:
            feed.spend(OCCURRENCE_STEPS * _listed(component))
            components.append(component)
    masters = [component for component in components if not component.is_override]
    first = max(masters or components, key=lambda component: component.sequence, default=None)
    if first is None or all(component.is_over for component in ([first] if masters else components)):
        return None
    meaning = scope.meant(first)
    if meaning is None:
        return None
    occurrences = expand(components, scope.window, scope.zone, feed)
    return entry_of(first, meaning, "RRULE" in first.event or "RDATE" in first.event, occurrences, scope)


def entry_of(
    first: Named, meaning: Meaning, recurring: bool, occurrences: Sequence[tuple[Moment, Moment, bool]], scope: Scope
) -> CalendarEntry:
    """The entry with these occurrences, in order; of too many the first are kept."""
    return CalendarEntry(
        container=scope.container,
        title=first.title[:MAX_TITLE] if scope.titles and first.title is not None else None,
        meaning=meaning,
        whose=scope.whose(first),
        recurring=recurring,
        occurrences=tuple(
            Occurrence(start=start, end=end, busy=busy) for start, end, busy in occurrences[:MAX_OCCURRENCES]
        ),
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
    return Component(
        event=event,
        sequence=event.get("SEQUENCE", -1),
        is_override="RECURRENCE-ID" in event,
        is_over=_is_over(part.kind, properties),
        is_busy=_first("STATUS", properties) != "TENTATIVE" and _first("TRANSP", properties) != "TRANSPARENT",
        title=_title(properties),
        categories=_categories(properties),
    )


def _listed(component: Component) -> int:
    """How many moments its lists have: to find what an offset a zone had then takes as long as an occurrence."""
    return sum(len(listed.dts) for name in ("RDATE", "EXDATE") for listed in component.event.get(name, ()))


def _is_over(kind: str, properties: Mapping[str, Sequence[Property]]) -> bool:
    """Whether it is called off, or a to-do that is done: then there is nothing to wait for."""
    status = _first("STATUS", properties) or ("COMPLETED" if "COMPLETED" in properties else "")
    return status == "CANCELLED" or (kind == "VTODO" and status == "COMPLETED")


def _first(name: str, properties: Mapping[str, Sequence[Property]]) -> str:
    """One of the words that a property may have, in capitals; empty where it is not there."""
    return properties[name][0].value.strip().upper() if name in properties else ""


def _properties(part: Part) -> Mapping[str, Sequence[Property]]:
    found: dict[str, list[Property]] = {}
    for line in part.lines:
        match = _NAME.match(line)
        name = match.group().upper() if match else ""
        if name not in TELLING:
            continue
        try:
            params, value = _line(name, line)
        except Unreadable:
            if name in {"CATEGORIES", "TRANSP"}:  # they tell no time, and an entry can do without
                continue
            raise
        found.setdefault(name, []).append(Property(value, params))
    if "EXRULE" in found:
        raise Unreadable("EXRULE is not supported (RFC 5545 has deprecated it)")
    return found


def _line(name: str, line: str) -> tuple[Mapping[str, Any], str]:
    if len(line) > MAX_LINE:
        raise Unreadable(f"{name} is longer than {MAX_LINE} characters")
    try:
        _, params, value = Contentline(line).parts()  # type: ignore[no-untyped-call]
    except ValueError:
        raise Unreadable(f"{name} is no valid content line") from None
    return params, value


def _title(properties: Mapping[str, Sequence[Property]]) -> str | None:
    summary = properties.get("SUMMARY")
    return str(vText.from_ical(summary[0].value)) if summary else None


def _categories(properties: Mapping[str, Sequence[Property]]) -> tuple[str, ...]:
    """A comma in the name of a category is taken for one between two: by now nothing tells them apart."""
    values = (value for each in properties.get("CATEGORIES", ()) for value in each.value.split(","))
    return tuple(str(vText.from_ical(value)).strip() for value in values)


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
    if len(properties) > MAX_RULES:
        raise Unreadable(f"RRULE is there more than {MAX_RULES} times")
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


def check_rule(rule: str, periods: Container[str] = PERIODS, combinations: int = MAX_COMBINATIONS) -> None:
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
    if prod(value.count(",") + 1 for name, value in parts if name.startswith("BY")) > combinations:
        raise Unreadable(f"RRULE has more than {combinations} combinations")
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


def feed_meter() -> Meter:
    """The budget of all entries of a feed together."""
    return Meter(FEED_STEPS, "the rules of the feed need too many steps together")


class _Beyond(Exception):
    """The walk through a rule has gone past its horizon without an occurrence to show it."""


class _Months(tuple[int, ...]):
    """The months of a rule. dateutil asks of every day that it looks at whether its rule has any: there it is metered."""

    meter: Meter
    days: int
    weight: int

    def __bool__(self) -> bool:
        self.meter.spend(self.weight)
        self.days -= 1
        if self.days < 0:
            raise _Beyond
        return len(self) > 0


def metered(rule: rrule, meter: Meter, days: int) -> Iterator[datetime]:
    """The recurrences of a rule until it has looked at so many days. Not cached: an error would leave the lock taken."""
    rule._bymonth = months = _Months(rule._bymonth or ())
    months.meter, months.days, months.weight = meter, days, weight(rule)
    rule._cache = None
    try:
        for moment in rule:
            meter.spend()
            yield moment
    except _Beyond:
        return


def weight(rule: rrule) -> int:
    """What a step of a rule counts for: one, and what dateutil goes through on the way to the next."""
    lists = (rule._bymonthday, rule._bynmonthday, rule._byyearday, rule._byweekno, rule._byweekday, rule._bynweekday)
    times = len(rule._byminute or ()) * len(rule._bysecond or ()) if rule._freq == HOURLY else 0
    return 1 + times // TIMES + sum(len(each or ()) for each in lists) // LISTED


def horizon(rule: rrule, last: datetime) -> int:
    """How many days dateutil looks at, at most, until it is past `last`: each one once, hours apart; plus a margin."""
    days: int = (last.date() - rule._dtstart.date()).days
    return max(0, days + days // 100) * (24 if rule._freq == HOURLY else 1) + 800


class _Adapter(EventAdapter):  # type: ignore[misc]
    """A component on its way through the library, with what bounds its expansion."""

    def __init__(self, component: Component, meter: Meter, enough: int) -> None:
        super().__init__(component.event)
        self.is_over = component.is_over
        self.is_busy = component.is_busy
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

    def get_component_for_recurrence_id(self, recurrence_id: Any) -> Any:
        """The last change that goes on until then; found, not walked to, since a chain of them can be long."""
        before = bisect_left(self.this_and_future, recurrence_id)
        if not before:
            return self.recurrence.core
        return self.recurrence_id_to_modification[self.this_and_future[before - 1]]

    class RecurrenceRules(Series.RecurrenceRules):  # type: ignore[misc]
        def create_rule_with_start(self, rule_string: str) -> rrule:
            rule = super().create_rule_with_start(rule_string)
            self.core.meter.spend(len(rule._timeset or ()))  # dateutil has made them all by now
            return rule

        def rrule_between(self, span_start: datetime, span_stop: datetime) -> Iterator[datetime]:
            first, last = (_comparable(moment, self.tzinfo) for moment in (span_start, span_stop))
            for rule in self.rrules:
                dates = not isinstance(rule, rrule)  # those of RDATE
                walk = _counted(rule, self.core.meter) if dates else metered(rule, self.core.meter, horizon(rule, last))
                yield from _between(walk, first, last, rule.until, self.core.enough)


def _counted(dates: Iterable[datetime], meter: Meter) -> Iterator[datetime]:
    for moment in dates:
        meter.spend()
        yield moment


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
) -> Sequence[tuple[Moment, Moment, bool]]:
    """`[start, end)` of the occurrences of one UID that touch the window, and whether they keep people busy, sorted; a few more
    than may be published."""
    meter = Meter(ENTRY_STEPS) if feed.left > ENTRY_STEPS else Meter(feed.left, feed.reason)
    before = meter.left
    enough = MAX_OCCURRENCES + 1 + sum(_exceptions(component) for component in components)
    adapters = [
        (_TodoAdapter if isinstance(component.event, Todo) else _Adapter)(component, meter, enough)
        for component in components
    ]
    start, end = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in window)
    try:
        series = _Series(adapters)
        kept = [each for each in series.between(start, end) if not each.adapter.is_over]
    finally:
        feed.left -= before - max(0, meter.left)
    found: dict[tuple[Moment, Moment], bool] = {}
    for each in kept:
        span = _span(each, zone)
        found[span] = found.get(span, False) or each.adapter.is_busy
    feed.spend(OCCURRENCE_STEPS * len(found))
    return in_order(found, zone)


def in_order(busy: Mapping[tuple[Moment, Moment], bool], zone: ZoneInfo) -> Sequence[tuple[Moment, Moment, bool]]:
    """Occurrences by their beginnings, each with whether it is `busy`; days begin in `zone`."""
    ordered = sorted(busy, key=lambda span: tuple(_instant(moment, zone) for moment in span))
    return [(*span, busy[span]) for span in ordered]


def _exceptions(component: Component) -> int:
    return component.is_override + sum(len(each.dts) for each in component.event.get("EXDATE", []))


def _span(found: _Found, zone: ZoneInfo) -> tuple[Moment, Moment]:
    start, end = found.start, found.end
    if isinstance(found.adapter, TodoAdapter):
        start = end
    if not isinstance(start, datetime) and start == end:
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
    """The zones that a feed may name: those of tzdata, their Windows names, those that it defines itself, and else those
    whose names are offsets.

    Each feed has its own, since icalendar's own registry would let one feed define a zone for another.
    """

    def __init__(self, definitions: Iterable[Part]) -> None:
        self._provider = TZP()
        self._found: dict[str, Any] = {}
        self._odd = 0
        self._rules_left = MAX_ZONE_RULES
        self._text_left = MAX_ZONE_TEXT
        for part in definitions:
            try:
                self._define(part)
            except _BROKEN:
                continue  # an entry that names this zone says so itself

    def of(self, name: str, tzid: str) -> Any:
        """The zone that the property `name` is in; raises `Unreadable` for one that nobody knows."""
        tzid = tzid.strip()
        zone = self._find(tzid) or _fixed(tzid)
        if zone is None:
            shown = tzid if _ZONE.fullmatch(tzid) else "that it names"
            raise Unreadable(f"{name}: the time zone {shown} is unknown")
        return zone

    def _find(self, tzid: str) -> Any:
        """The zone of a name; one that was not found is not looked for again."""
        if len(tzid) > MAX_UID:
            return None
        if tzid not in self._found:
            self._found[tzid] = zone = self._looked_up(tzid)
            self._odd += zone is None
        return self._found[tzid]

    def _looked_up(self, tzid: str) -> Any:
        # "/vendor/Europe/Berlin" is a globally unique id (RFC 5545, 3.2.19); icalendar would warn that it guesses.
        pieces = tzid.strip("/").split("/")
        guessing = tzid.startswith("/") and self._odd < MAX_ODD_ZONES
        ends = range(max(1, len(pieces) - MAX_ZONE_PIECES), len(pieces)) if guessing else ()
        for guess in ("/".join(pieces[start:]) for start in (0, *ends)):
            try:
                zone: Any = self._provider.timezone(guess)
            except (OSError, ValueError):
                continue
            if zone is not None:
                return zone
        return None

    def _define(self, part: Part) -> None:
        """Take a zone in, unless its name is known without it: then it is not even parsed."""
        tzid = next((_line("TZID", line)[1].strip() for line in part.lines if _TZID.match(line)), "")
        if not tzid or self._find(tzid) is not None:
            return
        text = "\r\n".join(("BEGIN:VTIMEZONE", *part.lines, "END:VTIMEZONE", ""))
        self._text_left -= len(text)
        if self._text_left < 0:
            raise Unreadable(f"the time zones of the feed are longer than {MAX_ZONE_TEXT} characters")
        zone = Timezone.from_ical(text)
        zone["TZID"] = vText(tzid)
        for observance in zone.subcomponents:
            rules: Any = observance.get("RRULE", [])
            start: Any = observance["DTSTART"]
            for rule in rules if isinstance(rules, list) else [rules]:
                self._check(rule.to_ical().decode(), start.dt)
        self._provider.cache_timezone_component(zone)
        self._found.pop(tzid, None)
        for observance in getattr(self._find(tzid), "_comps", ()):
            if observance.rrule is not None:
                observance.rrule = _Onsets(observance.rrule)

    def _check(self, rule: str, start: datetime) -> None:
        """Zones are walked by dateutil alone, so that a rule must show beforehand that it comes to its first day."""
        self._rules_left -= 1
        if self._rules_left < 0:
            raise Unreadable(f"the feed has more than {MAX_ZONE_RULES} rules of time zones")
        check_rule(rule, {"YEARLY"}, MAX_ZONE_COMBINATIONS)
        next(metered(rrulestr(rule, dtstart=start, ignoretz=True), Meter(20 * 366), LAST_YEAR * 366), None)


class _Onsets:
    """When an observance begins, year by year: walked once, and then looked up. dateutil would go through all of them again
    for each time that it places."""

    def __init__(self, rule: Iterable[datetime]) -> None:
        self._walk = iter(rule)
        self._known: list[datetime] = []
        self._is_over = False

    def before(self, at: datetime, inc: bool = False) -> datetime | None:
        """The last onset before a time; as of a rule of dateutil."""
        while not self._is_over and (not self._known or self._known[-1] <= at):
            onset = next(self._walk, None)
            if onset is None:
                self._is_over = True
            else:
                self._known.append(onset)
        index = (bisect_right if inc else bisect_left)(self._known, at)
        return self._known[index - 1] if index else None


def _fixed(tzid: str) -> timezone | None:
    """The zone of a name such as UTC+01 or (GMT -03:30)."""
    match = _OFFSET.fullmatch(tzid)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
    return timezone(-offset if sign == "-" else offset)
