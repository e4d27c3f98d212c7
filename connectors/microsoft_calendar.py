"""Calendars at Microsoft 365 (Microsoft Graph), of which only what changed is read again; what an event means is read by
`connectors/microsoft_entries.py`.

Graph keeps a list of changes of a view, that is of a calendar within a window, and gives an address for our place in it. The
address and what was read are held in memory, so a process begins with one whole reading. Of a series the list says that
something changed, and not reliably what: its occurrences are asked for by its id. Where Graph lost our place, for another
window, and in a sweep, the view is read whole again; where its list of changes has no end, or is too large, it is always read
whole, plainly.

Next on the way of an event: `connectors/microsoft_entries.py`, the translation; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from connectors.base import (
    Clock,
    ConnectorError,
    Fatal,
    Mark,
    Read,
    ReadWhole,
    Ref,
    Retryable,
    Settings,
    Withheld,
    problem,
    retry_after,
)
from connectors.calendar_settings import EntrySettings
from connectors.ics import Scope, Window, uid_of
from connectors.microsoft_account import MicrosoftAuth, signed_in
from connectors.microsoft_entries import KIND, Told, fields, is_whole, read_series, told
from connectors.ways import Answer, Asked, TooLarge, Ways, failure, is_same_place, led

API = "https://graph.microsoft.com/v1.0"
SIZES = (200, 20, 1)
"""Events of a page of changes, which come with all their texts: where a page is too large, fewer are asked for."""
AS_ASKED = (0,)
"""For answers of which the size is asked for otherwise."""
PAGE = 500
"""Events of a page of other lists, of which fields are chosen; Graph's most is 1000."""
MOST_PAGES = 5000
"""A page may have fewer events than were asked for, or none, and still not be the last."""
MOST_IDLE = 10
"""Pages on end that tell nothing new, or nothing, before a list is taken for one without an end."""
MAX_EVENTS = 50_000
"""Of one calendar, all of which are held in memory; each occurrence counts."""
READING_SECONDS = 300.0
"""For all pages of one list, and for all series that are asked for in one reading."""
MOST_BROKEN = 20
"""Series of one reading at which Graph fails, before it is taken for broken itself."""
STRIKES = 2
BROKEN = "Microsoft fails at it, each time that it is asked for"

LOST = frozenset({"syncstatenotfound", "syncstateinvalid", "resyncrequired"})
"""Codes that say that our place in a list is not known any more."""
MISSING = "erroritemnotfound"
ADVICE: Mapping[str, str] = {
    "mailboxnotenabledforrestapi": "the mailbox is not in Exchange Online, or has no licence; look at the account",
    "errorinvaliduser": "there is no such mailbox",
    "errornonexistentmailbox": "there is no such mailbox",
    "resourcenotfound": "there is no such mailbox",
    "request_resourcenotfound": "there is no such mailbox",
    MISSING: "the mailbox has no such calendar",
}
"""What a 404 says by its code."""

ALLOW = "has the application the permission Calendars.ReadBasic.All, with an administrator's consent, and may it read this mailbox?"

Named = Annotated[str, StringConstraints(pattern=r"^[^/\s]{1,200}$")]
Place = Annotated[str, StringConstraints(pattern=r"^[\x21-\x2e\x30-\x7e]{1,320}(/[A-Za-z0-9_=-]{1,320})?$")]


class MicrosoftCalendarSettings(EntrySettings):
    """`calendars` says which calendar a container is: a mailbox, of which the default one is meant, or one of its others, by
    its id behind a `/`. So nobody's address becomes the name of a container."""

    kind: Literal["microsoft_calendar"] = "microsoft_calendar"
    calendars: Mapping[Named, Place] = Field(min_length=1)
    auth: MicrosoftAuth
    url: str = Field(default=API, pattern=r"^https?://[^\s@?#]+$")


class _Page(BaseModel):
    """One page of a list. An object of a proxy without `value` is none: it would say that all is gone."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    value: list[Any]
    more: str | None = Field(default=None, alias="@odata.nextLink", min_length=1)
    place: str | None = Field(default=None, alias="@odata.deltaLink", min_length=1)


class _Error(BaseModel):
    code: str = ""


class _Refusal(BaseModel):
    """What Graph says with a status that is no success."""

    error: _Error


class PlaceLost(Retryable):
    """Graph does not know our place in a list any more."""


class Circle(Retryable):
    """A list goes on, and tells nothing new."""


class Broken(Retryable):
    """Graph itself fails."""


class Refused(Withheld):
    """Graph does not understand what it is asked."""


class Missing(Withheld):
    """There is no such calendar, or no such event in it."""


class Listing(NamedTuple):
    """What a list told, by the ids of its events, and our place after it."""

    events: Mapping[str, Told]
    place: str


@dataclass(slots=True)
class Kept:
    """What is known of a calendar: its events by what they are part of, and our place in the list of changes, which it
    `follows` unless that cannot be read. Entries that are `due` are to be asked for by id; how often Graph failed at each."""

    window: Window
    place: str = ""
    follows: bool = True
    series: dict[str, Mapping[str, Told]] = field(default_factory=dict)
    due: dict[str, int] = field(default_factory=dict)
    reads: dict[str, tuple[Mapping[str, Told], Read | None]] = field(default_factory=dict)

    def replace(self, listing: Listing) -> None:
        """Take over a whole list; what it leaves out is gone."""
        found: dict[str, dict[str, Told]] = {}
        for each in listing.events.values():
            if not each.is_gone:
                found.setdefault(each.series, {})[each.id] = each
        self.due = {name: self.due.get(name, 0) for name, parts in found.items() if not is_whole(name, parts)}
        self.series = {name: self._as_before(name, parts) for name, parts in found.items()}
        self.place = listing.place

    def follow(self, listing: Listing) -> None:
        """Take over a list of changes. An event by itself is what it says; a series is to be asked for: deleted occurrences
        are not told, and a series that began before the window may be told as removed though it goes on."""
        parts_of = {ident: name for name, parts in self.series.items() for ident in parts}
        for each in listing.events.values():
            name = parts_of.get(each.id, each.series)
            known = self.series.get(name)
            is_alone = known is None or all(part.is_single for part in known.values())
            if each.is_gone and is_alone and name not in self.due:
                self.series.pop(name, None)
            elif each.is_single and is_alone and is_whole(name, {each.id: each}):
                self.put(name, {each.id: each})
            else:
                self.due.setdefault(name, 0)
        self.place = listing.place

    def put(self, name: str, parts: Mapping[str, Told]) -> None:
        """Take over what an entry is; without parts it is gone."""
        self.due.pop(name, None)
        if parts:
            self.series[name] = self._as_before(name, parts)
        else:
            self.series.pop(name, None)

    def size(self) -> int:
        return sum(map(len, self.series.values()))

    def found(self, scope: Scope) -> Mapping[Ref, Read]:
        """All entries; only what is not as it was is read again. What could not be asked for is a problem."""
        before, self.reads = self.reads, {}
        for name, parts in self.series.items():
            known = before.get(name)
            self.reads[name] = known if known and known[0] is parts else (parts, read_series(name, parts, scope))
        reads = {name: read for name, (_, read) in self.reads.items() if read is not None}
        for name in self.due:
            reads[name] = Read(Ref(KIND, f"{scope.container}/{uid_of(name)}"), problem=BROKEN)
        return {read.ref: read for read in reads.values()}

    def _as_before(self, name: str, parts: Mapping[str, Told]) -> Mapping[str, Told]:
        """What is as it was stays the same object, and so is not read again."""
        known = self.series.get(name)
        return known if known is not None and known == parts else parts


def check_size(container: str, events: int) -> None:
    """Raises `Withheld`."""
    if events > MAX_EVENTS:
        raise Withheld(
            f"{container}: the calendar has more than {MAX_EVENTS} events within the window; keep what pmsync shall read in a "
            "calendar of its own"
        )


class MicrosoftCalendarConnector(ReadWhole):
    """The single reader of calendars at Microsoft 365, as one application sees them."""

    Settings: ClassVar[type[Settings]] = MicrosoftCalendarSettings
    name: str

    def __init__(self, settings: MicrosoftCalendarSettings, clock: Clock) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._ways = Ways(clock, "url")
        self._auth = signed_in(settings.auth, settings.url, clock)
        self._kept: dict[str, Kept] = {}

    @classmethod
    def connect(cls, settings: MicrosoftCalendarSettings, clock: Clock) -> Self:
        return cls(settings, clock)

    def now(self) -> datetime:
        return self._ways.now()

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        """All that is there by a whole list, whatever the list of changes has told."""
        yield [Mark(ref, None) for ref in self._found(container, whole=True)]

    def _read(self, container: str) -> Mapping[Ref, Read]:
        return self._found(container)

    def _found(self, container: str, whole: bool = False) -> Mapping[Ref, Read]:
        if container not in self._settings.calendars:
            raise Withheld(f"{self.name} has no calendar {container}; name it under calendars")
        scope = self._settings.scope(container, self._clock())
        kept = self._kept.get(container)
        if kept is None or kept.window != scope.window:
            kept = Kept(scope.window)
        self._list(container, scope, kept, whole or not kept.place)
        self._kept[container] = kept
        self._load(container, scope, kept)
        check_size(container, kept.size())
        return kept.found(scope)

    # ---- which events there are ----

    def _list(self, container: str, scope: Scope, kept: Kept, whole: bool) -> None:
        """Take over what changed, or all that is there."""
        for place in ("",) if whole else (kept.place, ""):
            if not kept.follows:
                break
            try:
                listing = self._changes(container, scope, place)
            except PlaceLost:
                if not place:
                    raise
            except (Circle, TooLarge):
                kept.follows = False
            else:
                return kept.follow(listing) if place else kept.replace(listing)
        asked = _asked({**_window(scope), **_chosen(scope), "$top": str(PAGE)})
        return kept.replace(self._all(container, scope, f"{self._base(container)}/calendarView?{asked}"))

    def _changes(self, container: str, scope: Scope, place: str) -> Listing:
        """What changed since we were at that place, or all there is. No fields are chosen: Graph does not allow it here."""
        first = f"{self._base(container)}/calendarView/delta?{_asked(_window(scope))}"
        listing = self._all(container, scope, place or first, SIZES, placed=bool(place))
        if not listing.place:
            raise Retryable(
                f"{container}: Microsoft's list of changes is not as documented: it ends without a place in it"
            )
        return listing

    def _all(
        self, container: str, scope: Scope, url: str, sizes: Sequence[int] = AS_ASKED, placed: bool = False
    ) -> Listing:
        """All pages of a list; `placed`: its address holds our place, which may be lost."""
        deadline, events, seen, idle = time.monotonic() + READING_SECONDS, dict[str, Told](), set[str](), 0
        for _ in range(MOST_PAGES):
            if time.monotonic() > deadline:
                break
            page = self._page(container, url, sizes, placed or bool(seen))
            seen.add(url)
            fresh = {each.id: each for each in (told(raw, scope) for raw in page.value) if events.get(each.id) != each}
            events |= fresh
            check_size(container, len(events))
            if page.more is None:
                return Listing(events, self._onward(container, url, page.place) if page.place else "")
            url = self._onward(container, url, page.more)
            idle = 0 if fresh else idle + 1
            if url in seen or idle >= MOST_IDLE:
                raise Circle(f"{container}: Microsoft's list goes round in a circle; the next reading begins anew")
        raise Retryable(
            f"{container}: not all pages came within {READING_SECONDS:.0f} s and {MOST_PAGES} pages; the next reading begins anew"
        )

    # ---- the entries themselves ----

    def _load(self, container: str, scope: Scope, kept: Kept) -> None:
        """Ask for the entries that are due. One at which Graph fails, and fails again in the next reading, is a problem."""
        deadline, broken = time.monotonic() + READING_SECONDS, dict[str, ConnectorError]()
        for name in sorted(kept.due):
            if time.monotonic() > deadline:
                raise Retryable(
                    f"{container}: {len(kept.due)} entries were not read within {READING_SECONDS:.0f} s; the next reading goes on with "
                    "them"
                )
            try:
                kept.put(name, self._by_id(container, scope, name))
                check_size(container, kept.size())
            except (Broken, Refused) as error:
                broken[name] = error
                if len(broken) > MOST_BROKEN:
                    raise
        for name in broken:
            kept.due[name] += 1
        for name, why in broken.items():
            if kept.due[name] < STRIKES:
                raise why

    def _by_id(self, container: str, scope: Scope, name: str) -> Mapping[str, Told]:
        """The events that an entry is; none if it is gone."""
        url = f"{self._base(container)}/events/{quote(name, safe='', errors='replace')}"
        try:
            head = told(self._json(container, f"{url}?{_asked(_chosen(scope))}"), scope)
            if not head.is_series:
                return {name: head}
            asked = _asked({**_window(scope), **_chosen(scope), "$top": str(PAGE)})
            parts = self._all(container, scope, f"{url}/instances?{asked}").events
        except Missing:
            return {}
        return {**parts, name: head} if parts else {}

    # ---- requests ----

    def _base(self, container: str) -> str:
        mailbox, _, calendar = self._settings.calendars[container].partition("/")
        base = f"{self._settings.url.rstrip('/')}/users/{quote(mailbox, safe='')}"
        return f"{base}/calendars/{quote(calendar, safe='')}" if calendar else base

    def _page(self, container: str, url: str, sizes: Sequence[int], placed: bool) -> _Page:
        try:
            return _Page.model_validate(self._json(container, url, sizes, placed))
        except ValidationError as error:
            raise Retryable(f"{container}: Microsoft's answer is not as documented: {problem(error)}") from None

    def _json(self, container: str, url: str, sizes: Sequence[int] = AS_ASKED, placed: bool = False) -> Any:
        answer = self._answer(container, url, sizes)
        if answer.status != 200:
            raise self._failure(container, answer, placed)
        try:
            # Not pydantic's own parser: one character that is none would cost the page, and not its event alone.
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise Retryable(f"{container}: Microsoft's answer is no whole JSON") from None

    def _answer(self, container: str, url: str, sizes: Sequence[int]) -> Answer:
        *larger, smallest = sizes
        for size in larger:
            with suppress(TooLarge):
                return self._ask(container, url, size)
        return self._ask(container, url, smallest)

    def _ask(self, container: str, url: str, size: int) -> Answer:
        prefer = 'outlook.timezone="UTC"' + (f", odata.maxpagesize={size}" if size else "")
        asked = Asked(url, headers={"Prefer": prefer})
        return self._ways.ask(container, asked, self._settings.url, self._auth, {200, 400, 403, 404, 410})

    def _onward(self, container: str, here: str, link: str) -> str:
        """The address of the next page, or of our place. Only the host that was configured is asked with the token."""
        url = led(here, link, "url")
        if not is_same_place(url, self._settings.url):
            raise Withheld(
                f"{container}: Microsoft's list goes on at another host, which is not asked; is url the right one?"
            )
        return url

    def _failure(self, container: str, answer: Answer, placed: bool) -> Retryable | Fatal:
        code, after = code_of(answer.body), retry_after(answer.headers.get("Retry-After"), self.now())
        if answer.status == 410 or code in LOST or (placed and answer.status == 400):
            return PlaceLost(f"{container}: Microsoft has lost our place in its list; the next reading begins anew")
        if answer.status == 404:
            why = ADVICE.get(code, "there is no such mailbox or calendar; is url the right one?")
            kind = Missing if code == MISSING else Withheld
            return kind(f"{container}: Microsoft does not find it (404): {why}; look at calendars.{container}")
        known: Mapping[int, Retryable | Fatal] = {
            400: Refused(f"{container}: Microsoft does not understand it (400); is url the right one?"),
            401: Retryable(f"{container}: Microsoft refuses the token (401); the next reading gets a new one"),
            403: Withheld(f"{container}: Microsoft does not let it be read (403); {ALLOW}"),
            500: Broken(f"{container}: Microsoft fails (500)", after),
        }
        return known.get(answer.status) or failure(container, answer, self.now(), "url")


def _window(scope: Scope) -> Mapping[str, str]:
    """What a view shows. It is within Graph's bound of 1825 days, and cannot be changed for a list of changes."""
    first, last = (f"{day.isoformat()}T00:00:00Z" for day in scope.window)
    return {"startDateTime": first, "endDateTime": last}


def _chosen(scope: Scope) -> Mapping[str, str]:
    return {"$select": ",".join(fields(scope))}


def _asked(parameters: Mapping[str, str]) -> str:
    return urlencode(parameters, safe="$,:")


def code_of(body: bytes) -> str:
    """What Graph calls it, in small letters; nothing where it says nothing."""
    try:
        return _Refusal.model_validate_json(body).error.code.lower()
    except ValidationError:
        return ""
