"""Calendars at Google, of which only what changed is read again; what an event means is read by `connectors/google_entries.py`.

Google keeps a list of changes, and gives a token for our place in it. The token and what was read are held in memory, so a
process begins with one whole reading. Where Google lost our place, and in a sweep, a calendar is read whole again. What came
in pages counts once its last page came.

Next on the way of an event: `connectors/google_entries.py`, the translation; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from connectors.base import (
    Clock,
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
from connectors.google_account import GoogleAuth, signed_in
from connectors.google_entries import FIELDS, TITLE, Told, read_series, told
from connectors.ics import Meter, Scope, Window, feed_meter
from connectors.ways import Answer, Asked, Ways, failure

API = "https://www.googleapis.com/calendar/v3"
PAGE = 2500
"""Events of a page, Google's most."""
MOST_PAGES = 500
"""A page may have fewer events than were asked for, or none, and still not be the last."""
MAX_EVENTS = 50_000
"""Of one calendar, all of which are held in memory; exceptions of those that recur count too."""
READING_SECONDS = 300.0
"""For all pages of one reading."""

BUSY = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"})
"""Reasons of a 403 that are no refusal."""
ADVICE: Mapping[str, str] = {
    "accessNotConfigured": "enable the Google Calendar API in the project of these credentials",
    "insufficientPermissions": "the consent does not cover events of calendars; have it given again with their scope",
}
"""What to do about other reasons; of any other, the calendar is not shared."""

Named = Annotated[str, StringConstraints(pattern=r"^[^/\s]{1,200}$")]
CalendarId = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,320}$")]


class GoogleCalendarSettings(EntrySettings):
    """`calendars` says which calendar a container is, so that nobody's address becomes the name of one."""

    kind: Literal["google_calendar"] = "google_calendar"
    calendars: Mapping[Named, CalendarId] = Field(min_length=1)
    auth: GoogleAuth
    url: str = Field(default=API, pattern=r"^https?://[^\s@?#]+$")


class _Page(BaseModel):
    """One page of a list of events. Its `kind` proves that it is one: an empty object of a proxy would say that all is gone."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    kind: Literal["calendar#events"]
    items: list[Any] = []
    more: str | None = Field(default=None, alias="nextPageToken", min_length=1)
    token: str = Field(default="", alias="nextSyncToken")


class _Reason(BaseModel):
    reason: str = ""


class _Errors(BaseModel):
    errors: list[_Reason] = []


class _Refusal(BaseModel):
    """What Google says with a status that is no success."""

    error: _Errors


class PlaceLost(Exception):
    """Google does not know our place in the list of changes any more."""


@dataclass(slots=True)
class Listing:
    """What a list told, by the ids of its events, and our place after it."""

    events: dict[str, Told] = field(default_factory=dict)
    token: str = ""


@dataclass(slots=True)
class Kept:
    """What is known of a calendar: its events by what they are part of, what these were read as, and our place in the changes."""

    window: Window
    token: str = ""
    series: Mapping[str, Mapping[str, Told]] = field(default_factory=dict)
    reads: Mapping[str, Read | None] = field(default_factory=dict)

    def take(self, container: str, listing: Listing, whole: bool, scope: Scope, meter: Meter) -> None:
        """Take a list over; what a whole one leaves out is gone. Only what is not as it was is read again."""
        series = merged({} if whole else self.series, listing.events)
        check_size(container, sum(map(len, series.values())))
        self.reads = {
            name: self.reads[name]
            if parts == self.series.get(name)
            else read_series(name, list(parts.values()), scope, meter)
            for name, parts in series.items()
        }
        self.series, self.token = series, listing.token

    def found(self) -> Mapping[Ref, Read]:
        return {read.ref: read for read in self.reads.values() if read is not None}


def merged(known: Mapping[str, Mapping[str, Told]], events: Mapping[str, Told]) -> Mapping[str, Mapping[str, Told]]:
    """What is there after these events were told. One that was deleted takes its occurrences with it, but for those that are
    told too: an invitation may stand for one of them alone."""
    changed: dict[str, dict[str, Told]] = {}
    for each in sorted(events.values(), key=lambda each: not each.is_gone):
        parts = changed.setdefault(each.series, dict(known.get(each.series, {})))
        if each.is_gone:
            parts.clear()
        else:
            parts[each.id] = each
    return {name: parts for name, parts in {**known, **changed}.items() if parts}


def check_size(container: str, events: int) -> None:
    """Raises `Withheld`."""
    if events > MAX_EVENTS:
        raise Withheld(
            f"{container}: the calendar has more than {MAX_EVENTS} events; keep what pmsync shall read in a calendar of its own"
        )


class GoogleCalendarConnector(ReadWhole):
    """The single reader of calendars at Google, as one account sees them."""

    Settings: ClassVar[type[Settings]] = GoogleCalendarSettings
    name: str

    def __init__(self, settings: GoogleCalendarSettings, clock: Clock) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._ways = Ways(clock, "url")
        self._auth = signed_in(settings.auth, clock)
        self._kept: dict[str, Kept] = {}

    @classmethod
    def connect(cls, settings: GoogleCalendarSettings, clock: Clock) -> Self:
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
        try:
            whole = whole or not kept.token
            listing = self._list(container, scope, "" if whole else kept.token)
        except PlaceLost:
            whole, listing = True, self._list(container, scope, "")
        kept.take(container, listing, whole, scope, feed_meter())
        self._kept[container] = kept
        return kept.found()

    # ---- requests ----

    def _list(self, container: str, scope: Scope, since: str) -> Listing:
        """All events, or those that changed `since` that token. Google wants the same question each time but for its tokens;
        that deleted events are left out of a whole list is its default, and may not be said with a token."""
        deadline, listing, page = time.monotonic() + READING_SECONDS, Listing(), ""
        asked = {"maxResults": str(PAGE), "singleEvents": "false", "fields": fields(scope)}
        asked |= {"syncToken": since} if since else {}
        for _ in range(MOST_PAGES):
            if time.monotonic() > deadline:
                break
            got = self._page(container, asked | ({"pageToken": page} if page else {}))
            listing.events |= {each.id: each for each in map(told, got.items)}
            check_size(container, len(listing.events))
            if got.more is None:
                listing.token = got.token
                return listing
            page = got.more
        raise Retryable(
            f"{container}: not all pages came within {READING_SECONDS:.0f} s and {MOST_PAGES} pages; the next reading begins anew"
        )

    def _page(self, container: str, asked: Mapping[str, str]) -> _Page:
        place = quote(self._settings.calendars[container], safe="")
        url = f"{self._settings.url.rstrip('/')}/calendars/{place}/events?{urlencode(asked)}"
        answer = self._ways.ask(container, Asked(url), self._settings.url, self._auth, {200, 403})
        if answer.status in {400, 410} and "syncToken" in asked:
            raise PlaceLost
        if answer.status != 200:
            raise self._failure(container, answer)
        try:
            # Not pydantic's own parser: one character that is none would cost the page, and not its event alone.
            return _Page.model_validate(json.loads(answer.body))
        except ValidationError as error:
            raise Retryable(f"{container}: Google's answer is not as documented: {problem(error)}") from None
        except (ValueError, RecursionError):
            raise Retryable(f"{container}: Google's answer is no whole JSON") from None

    def _failure(self, container: str, answer: Answer) -> Retryable | Fatal:
        who = "the service account's address" if self._settings.auth.service_account else "the person who consented"
        if self._settings.auth.subject:
            who = "the person under auth.subject"
        match answer.status:
            case 401:
                return Retryable(f"{container}: Google refuses the token (401); the next reading gets a new one")
            case 403:
                reasons = reasons_of(answer.body)
                if BUSY.intersection(reasons):
                    after = retry_after(answer.headers.get("Retry-After"), self.now())
                    return Retryable(f"{container}: Google's quota is spent for now (403)", after)
                advice = next((ADVICE[each] for each in reasons if each in ADVICE), f"share the calendar with {who}")
                return Withheld(f"{container}: Google does not let it be read (403); {advice}")
            case 404:
                return Withheld(
                    f"{container}: Google knows no such calendar, or hides it (404); look at calendars.{container}, and share "
                    f"the calendar with {who}"
                )
            case 410:
                return Retryable(
                    f"{container}: the list is gone that was being read (410); the next reading begins anew"
                )
        return failure(container, answer, self.now(), "url")


def fields(scope: Scope) -> str:
    """What is asked for. A title is not, unless somebody asked for it here."""
    return f"kind,nextPageToken,nextSyncToken,items({FIELDS}{',' + TITLE if scope.looks_at_titles else ''})"


def reasons_of(body: bytes) -> Sequence[str]:
    """Why Google refuses, by its own words for it."""
    try:
        return [each.reason for each in _Refusal.model_validate_json(body).error.errors]
    except ValidationError:
        return []
