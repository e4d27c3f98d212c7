"""Calendars on a CalDAV server, of which only what changed is read again; what is in an entry is read by `connectors/ics.py`.

The server keeps a list of changes (RFC 6578), and gives a token for its place in it. The token and what was read are held in
memory, so a process begins with one whole reading. Where a server keeps no such list, or lost our place in it, and in a sweep,
all entries are listed and those that differ are read. An entry is gone if the server says so, or if a whole list leaves it out.

Next on the way of an event: `connectors/caldav_server.py`, the requests; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import field_validator

from connectors.base import Clock, ConnectorError, Mark, Read, ReadWhole, Ref, Retryable, Settings, Withheld
from connectors.caldav_server import Broken, Gone, Listing, Refused, Server
from connectors.caldav_xml import GONE, MAX_HREF, Response
from connectors.calendar_bounds import Steps, check_held, held
from connectors.calendar_settings import ServerSettings
from connectors.ics import MAX_LINE, Meter, Part, Scope, Window, structure, unfold
from connectors.ics_apart import CHAMBER, GivenUp, Unable
from connectors.ways import TooLarge, Ways

KIND = "calendar_entry"
BATCH = 100
"""Entries that are asked for at once; fewer where they are large."""
READING_SECONDS = 300.0
"""For one reading of a calendar. What it has by then is kept, and the next one goes on with the rest."""

MOST_BROKEN = 20
"""Entries of one reading at which the server fails, before it is taken for broken itself."""
STRIKES = 2
NOT_THERE = "pmsync-asks-whether-this-is-there.ics"
"""No entry's name."""

BROKEN = "the server fails at it (500)"
TOO_LARGE = "it is larger than what is read at once"
LEFT_OUT = "the server lists it and does not give it"
ASTRAY = "the server lists it at an address outside of the calendar"
FAR_TOO_LONG = f"the server lists it at an address of more than {MAX_HREF} characters"
NO_CALENDAR = "what the server keeps there is no whole calendar"
_UID = re.compile(rb"^UID[:;].*(?:\r?\n[ \t].*)*", re.IGNORECASE | re.MULTILINE)


class CalDavSettings(ServerSettings):
    """`url` is a server, a collection of calendars, of which a container names one, or a single calendar."""

    kind: Literal["caldav"] = "caldav"
    url: str

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("url must be an http or https address")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("url must be without user, password, query and fragment; who signs in stands under auth")
        return url


class Known(NamedTuple):
    """An entry that was listed. One that is `due` is to be read; until then its `reads` are what it was before. `strikes` counts
    how often the server failed at it alone."""

    href: str
    etag: str = ""
    due: bool = True
    reads: tuple[Read, ...] = ()
    strikes: int = 0


@dataclass(slots=True)
class Kept:
    """What is known of a calendar: its entries by their paths, and our place in the server's list of changes. It `follows`
    that list unless the server has none."""

    url: str
    window: Window
    token: str = ""
    follows: bool = True
    entries: dict[str, Known] = field(default_factory=dict)
    astray: frozenset[str] = frozenset()

    def batches(self) -> list[list[str]]:
        """The paths of the entries that are to be read, as they are asked for, the last first: those at which the server has
        failed one by one."""
        due = sorted(path for path, known in self.entries.items() if known.due)
        sound = [path for path in due if not self.entries[path].strikes]
        alone = [[path] for path in due if self.entries[path].strikes]
        return [*alone, *(sound[start : start + BATCH] for start in range(0, len(sound), BATCH))][::-1]

    def held(self, paths: Iterable[str]) -> int:
        """What is in memory of these entries, in occurrences; of one that is due, nothing stays."""
        known = (self.entries[path] for path in paths if path in self.entries)
        return sum(held(each.reads) for each in known if not each.due)

    def take(self, listing: Listing, whole: bool) -> None:
        """Take a list over; what a whole one leaves out is gone."""
        left = self.entries.keys() - listing.entries.keys() if whole else listing.gone
        for path in left:
            self.entries.pop(path, None)
        for path, listed in listing.entries.items():
            known = self.entries.get(path, Known(listed.href))
            same = known.etag != "" and known.etag == listed.etag
            self.entries[path] = known._replace(href=listed.href, etag=listed.etag, due=known.due or not same)
        self.astray = frozenset(listing.astray) | (frozenset() if whole else self.astray)
        self.token = listing.token or self.token


class CalDavConnector(ReadWhole):
    """The single reader of one CalDAV server's calendars, as one account sees them."""

    Settings: ClassVar[type[Settings]] = CalDavSettings
    name: str

    def __init__(self, settings: CalDavSettings, clock: Clock) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._ways = Ways(clock, "url")
        self._server = Server(settings.url, settings.signs_in, self._ways)
        self._kept: dict[str, Kept] = {}

    @classmethod
    def connect(cls, settings: CalDavSettings, clock: Clock) -> Self:
        return cls(settings, clock)

    def now(self) -> datetime:
        return self._ways.now()

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        """All that is there by a plain list, whatever the list of changes has told: those of some servers leave things out
        (deletions, or what happened within the same second)."""
        yield [Mark(ref, None) for ref in self._found(container, plainly=True)]

    def _read(self, container: str) -> Mapping[Ref, Read]:
        return self._found(container)

    def _found(self, container: str, plainly: bool = False) -> Mapping[Ref, Read]:
        if "/" in container:
            raise Withheld(
                f"{container}: the name of a container has no '/'; take the end of the calendar's address instead"
            )
        scope = self._settings.scope(container, self._clock())
        kept = self._kept.get(container)
        if kept is None or kept.window != scope.window:
            url = self._server.calendar(container) if kept is None else kept.url
            kept = self._kept[container] = Kept(url, scope.window)
        try:
            self._list(container, kept, plainly)
            self._load(container, kept, scope)
        except Gone:
            del self._kept[container]
            raise
        astray = (
            _unread(scope, href, b"", ASTRAY if len(href) <= MAX_HREF else FAR_TOO_LONG) for href in sorted(kept.astray)
        )
        found: dict[Ref, Read] = {}
        for reads in (*(kept.entries[path].reads for path in sorted(kept.entries)), astray):
            for read in reads:
                if read.ref not in found or found[read.ref].problem:
                    found[read.ref] = read
        return found

    # ---- which entries there are ----

    def _list(self, container: str, kept: Kept, plainly: bool) -> None:
        if kept.follows:
            try:
                self._follow(container, kept)
            except Refused as refused:
                kept.follows, plainly = not refused.for_good, True
        if plainly or not kept.follows:
            kept.take(self._server.listing(container, kept.url), whole=True)

    def _follow(self, container: str, kept: Kept) -> None:
        """Take over what changed since the last time, and all that is there where the server has lost our place."""
        if kept.token:
            try:
                kept.take(self._server.changes(container, kept.url, kept.token), whole=False)
            except Refused:
                kept.token = ""
            else:
                return
        listing = self._server.changes(container, kept.url, "")
        if not listing.entries:
            # Some servers answer nothing to who has no token yet (Stalwart did); a plain list tells whether it is true.
            plain = self._server.listing(container, kept.url)
            if plain.entries:
                raise Refused
        kept.take(listing, whole=True)

    # ---- the entries themselves ----

    def _load(self, container: str, kept: Kept, scope: Scope) -> None:
        """Read the entries that are new or changed, some at once."""
        deadline, steps = time.monotonic() + READING_SECONDS, Steps(container)
        waiting, broken, count = kept.batches(), dict[str, Broken](), kept.held(kept.entries)
        while waiting:
            check_held(container, count)
            paths = waiting.pop()
            left = len(paths) + sum(map(len, waiting))
            if time.monotonic() > deadline:
                raise Retryable(
                    f"{container}: {left} entries were not read within {READING_SECONDS:.0f} s; the next reading goes on with them"
                )
            try:
                found = self._server.objects(container, kept.url, [kept.entries[path].href for path in paths])
            except (TooLarge, Broken) as error:
                half = len(paths) // 2
                if half:
                    waiting += [paths[half:], paths[:half]]
                elif isinstance(error, TooLarge):
                    self._fail(kept, paths[0], scope, TOO_LARGE)
                else:
                    broken[paths[0]] = error
                if len(broken) > MOST_BROKEN:
                    raise
                continue
            for number, path in enumerate(paths):
                with steps.piece(left - number) as meter:
                    self._keep(kept, path, found.get(path), scope, meter)
            count += kept.held(paths)
        check_held(container, count)
        if broken:
            self._blame(container, kept, scope, broken)

    def _blame(self, container: str, kept: Kept, scope: Scope, broken: Mapping[str, Broken]) -> None:
        """Does the server fail at these entries, or at everything? At entries if it gives another one, or where there is none
        says so of one that is not there, and fails again in the next reading; else the reading fails."""
        nothing = f"{urlsplit(kept.url).path.rstrip('/')}/{NOT_THERE}"
        sound = next((known.href for known in kept.entries.values() if not known.due), nothing)
        try:
            self._server.objects(container, kept.url, [sound])
        except Gone:  # the calendar was listed in this reading, so it is not
            raise next(iter(broken.values())) from None
        for path in broken:
            kept.entries[path] = kept.entries[path]._replace(strikes=kept.entries[path].strikes + 1)
        for path, error in broken.items():
            if kept.entries[path].strikes < STRIKES:
                raise error
        for path in broken:
            self._fail(kept, path, scope, BROKEN)

    def _keep(self, kept: Kept, path: str, came: Response | None, scope: Scope, meter: Meter) -> None:
        if came is not None and came.status in GONE:
            del kept.entries[path]
        elif came is None or came.data is None:
            self._fail(kept, path, scope, LEFT_OUT)
        else:
            href, listed, *_ = kept.entries[path]
            etag = came.etag or listed
            kept.entries[path] = Known(href, etag, due=False, reads=reads_of(came.data, href, scope, meter))

    def _fail(self, kept: Kept, path: str, scope: Scope, problem: str) -> None:
        """One entry cannot be read for now: it stays what it was by its id, and is asked for again the next time."""
        known = kept.entries[path]
        refs = [read.ref for read in known.reads] or [_unread(scope, known.href, b"", problem).ref]
        kept.entries[path] = known._replace(due=True, reads=tuple(Read(ref, problem=problem) for ref in refs))


# ---- one entry ----


def reads_of(body: bytes, href: str, scope: Scope, meter: Meter) -> tuple[Read, ...]:
    """What is at one address: an entry with its exceptions, as a rule. Raises `Unable`."""
    try:
        return tuple(CHAMBER.read(body, scope, meter))
    except Unable:
        raise
    except GivenUp as error:
        return (_unread(scope, href, body, str(error)),)
    except ConnectorError:
        return (_unread(scope, href, body, NO_CALENDAR),)


def _unread(scope: Scope, href: str, body: bytes, problem: str) -> Read:
    """An entry that cannot be read, under its own id where that can be told, else under one made of its address. It is not
    looked through as a whole: of what cannot be read it is not known what that would take."""
    found = _UID.search(body)
    uid = Part("VEVENT", unfold(found.group()[:MAX_LINE]) if found else [href]).uid
    raw = structure([Part("VEVENT", lines)]) if (lines := unfold(body[:MAX_LINE])) else b""
    return Read(Ref(KIND, f"{scope.container}/{uid}"), problem=problem, raw=raw)
