"""The requests that pmsync has for a CalDAV server: where a calendar is, what changed in it, and the entries themselves.

It never writes. Every answer is bounded (`connectors/ways.py`), and so is the number of requests for each of these.

Next on the way of an event: `connectors/caldav.py`, which keeps what it has and reads what is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from connectors.base import Fatal, Retryable, Withheld
from connectors.caldav_xml import (
    CUT_OFF,
    GONE,
    LIST,
    MAX_HREF,
    PLACE,
    C,
    D,
    Garbled,
    Hostile,
    Multistatus,
    Response,
    changes_since,
    is_within,
    multistatus,
    objects_at,
    path_of,
)
from connectors.ways import Answer, Asked, Auth, Ways, failure, led

MAX_PAGES = 200
"""Of one list of changes. Google gives some 230 entries in each."""
MAX_ENTRIES = 20_000
"""Of one calendar."""
MAX_PLACES = 2_000
"""In one home; each is an address that is taken apart."""
MAX_LISTED = 64 * 1024 * 1024
"""Bytes of all pages of one list; twenty thousand entries are some ten million."""
LISTING_SECONDS = 300.0
"""For all pages of one list."""
MAX_TOKEN = 8000
MAX_HOMES = 3
MOST_NAMES = 20
NO_TOKENS = frozenset({"", "0"})
"""What servers give that keep no list of changes (SOGo: 0)."""
NOTHING_THERE = frozenset({200, 204, 301, 302, 303, 307, 308, 400, 404, 405, 406, 410, 415, 501})
"""What servers answer where there is nothing of WebDAV's."""
PLAIN = frozenset({401, 404, 408, 425, 429})
"""What means the same in answer to any request. Whatever else a server says of its list of changes may mean that it has none,
or not our place in it: it should be 403, and was 400, 412, 415 and (of Nextcloud) 418."""
SETTING = "url"
WELL_KNOWN = "/.well-known/caldav"


class Refused(Exception):
    """The server does not do what was asked of it, or not in this way: it knows no list of changes, or not the token. Not
    `for_good` if it failed, which may pass."""

    def __init__(self, for_good: bool = True) -> None:
        super().__init__()
        self.for_good = for_good


class Gone(Withheld):
    """There is no calendar any more where it was."""


class Broken(Retryable):
    """The server itself failed (500), which it may do at one entry among others."""


class Place(NamedTuple):
    """A collection at an address, and where it says that the calendars of who asks are."""

    url: str
    itself: Response

    @property
    def name(self) -> str:
        return self.itself.text(f"{D}displayname")

    @property
    def end(self) -> str:
        """The end of its address, which stays when it is given another name."""
        return unquote(urlsplit(self.url).path.rstrip("/").rpartition("/")[2])

    @property
    def is_calendar(self) -> bool:
        return self.itself.has_kind(f"{C}calendar")


class Listed(NamedTuple):
    """An entry as a list names it: as the server writes its address, and what changes whenever the entry does."""

    href: str
    etag: str


@dataclass(slots=True)
class Listing:
    """Entries by their paths; those that are gone; addresses that no entry of this calendar can have; and where the list of
    changes goes on."""

    entries: dict[str, Listed] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    astray: set[str] = field(default_factory=set)
    token: str = ""
    size: int = 0
    """Bytes that it came in."""
    found: bool = False
    """Whether the calendar itself is in it, which a plain list is not whole without (RFC 4918, 9.1)."""

    def add(self, url: str, page: Multistatus) -> bool:
        """Take a page of it in; whether the server has more."""
        here, more = path_of(url, url) or "", False
        for response in page.responses:
            path = path_of(response.href, url)
            if response.status == CUT_OFF:
                more = True
            elif path is not None and path.rstrip("/") == here.rstrip("/"):
                self.found = response.status // 100 == 2
            elif path is not None and path.endswith("/"):
                continue  # a folder in it
            elif path is None or not is_within(path, here):
                self.astray.add(response.href)
            elif response.has_kind(f"{D}collection"):
                continue
            elif response.status in GONE:
                self.entries.pop(path, None)
                self.gone.add(path)
            else:
                self.entries[path] = Listed(response.href, response.etag)
                self.gone.discard(path)
        self.token = page.token
        return more


@dataclass(frozen=True, slots=True)
class Server:
    """A CalDAV server as one account sees it; `home` is the address in the configuration."""

    home: str
    sign_in: Callable[[], Auth]
    ways: Ways

    def calendar(self, container: str) -> str:
        """The address of a calendar: that in the configuration, or the one of that name among those that the account has."""
        start = self._start(container)
        if start.is_calendar:
            return start.url
        places = self._calendars(container, start)
        named = [place for place in places if place.name == container] or [p for p in places if p.end == container]
        if len(named) == 1:
            return named[0].url
        if named:
            ends = ", ".join(sorted(place.end for place in named)[:MOST_NAMES])
            raise Withheld(
                f"{container}: there are {len(named)} of that name; take the end of an address instead: {ends}"
            )
        if not places:
            raise Withheld(
                f"{container}: no calendar at the address under {SETTING}, nor any that it leads to; is it right?"
            )
        names = ", ".join(sorted({place.name or place.end for place in places})[:MOST_NAMES])
        raise Withheld(f"{container}: there is no calendar of that name; there are: {names}")

    def changes(self, container: str, url: str, token: str) -> Listing:
        """What changed since `token`, or all that is there for an empty one. Raises `Refused` where the server does not say
        so, or says so in a way that does not hold together."""
        listing, deadline = Listing(), time.monotonic() + LISTING_SECONDS
        for _ in range(MAX_PAGES):
            if time.monotonic() > deadline:
                raise Retryable(
                    f"{container}: what changed was not told within {LISTING_SECONDS:.0f} s, in however many pages; is the server "
                    "overloaded? The next reading begins anew; a calendar with fewer entries needs less time"
                )
            answer = self._ask(container, Asked(url, "REPORT", {"Depth": "0"}, changes_since(token)))
            if answer.status in {500, 501} or (400 <= answer.status < 500 and answer.status not in PLAIN):
                raise Refused(for_good=answer.status != 500)
            page = self._read(container, answer)
            more = listing.add(answer.url, page)
            listing.size += len(answer.body)
            _bounded(container, listing)
            if page.token in NO_TOKENS or len(page.token) > MAX_TOKEN or (more and page.token == token):
                raise Refused
            if not more:
                return listing
            token = page.token
        raise Refused

    def listing(self, container: str, url: str) -> Listing:
        """All that is there, where the server keeps no list of changes."""
        answer = self._ask(container, Asked(url, "PROPFIND", {"Depth": "1"}, LIST))
        listing = Listing()
        if listing.add(answer.url, self._read(container, answer)):
            raise Withheld(
                f"{container}: the server lists only a part of the calendar, and says no more; is it too large?"
            )
        if not listing.found:
            raise Retryable(
                f"{container}: what the server lists is not a whole calendar: it leaves the calendar itself out"
            )
        _bounded(container, listing)
        return listing

    def objects(self, container: str, url: str, hrefs: Sequence[str]) -> Mapping[str, Response]:
        """The entries at these addresses, by their paths."""
        answer = self._ask(container, Asked(url, "REPORT", {}, objects_at(hrefs)))
        if answer.status == 500:
            raise Broken(f"{container}: the server answers 500")
        found = ((path_of(each.href, answer.url), each) for each in self._read(container, answer).responses)
        return {path: each for path, each in found if path is not None}

    # ---- where the calendars are ----

    def _start(self, container: str) -> Place:
        """What is at the address in the configuration; at that of a whole server, where it says that its calendars are."""
        found = self._look(container, self.home)
        if found is None and urlsplit(self.home).path in {"", "/"}:
            found = self._look(container, urljoin(self.home, WELL_KNOWN))
        if found is None:
            raise Withheld(f"{container}: no calendar at the address under {SETTING}; is it right?")
        return found

    def _calendars(self, container: str, start: Place) -> Sequence[Place]:
        """Those in the place itself; else those in the homes that it, or the account's own page, names."""
        found = self._within(container, start.url)
        if found:
            return found
        homes = list(self._links(start, f"{C}calendar-home-set"))
        if not homes:
            principals = list(self._links(start, f"{D}current-user-principal"))[:1]
            accounts = [account for each in principals if (account := self._look(container, each))]
            homes = [home for account in accounts for home in self._links(account, f"{C}calendar-home-set")]
        return [place for home in homes[:MAX_HOMES] for place in self._within(container, home)]

    def _look(self, container: str, url: str) -> Place | None:
        """What is at an address; None if it is nothing of WebDAV's."""
        return next(iter(self._places(container, url, "0")), None)

    def _within(self, container: str, url: str) -> Sequence[Place]:
        """The calendars in a collection."""
        return [place for place in self._places(container, url, "1") if place.is_calendar]

    def _places(self, container: str, url: str, depth: str) -> Sequence[Place]:
        answer = self._ask(container, Asked(url, "PROPFIND", {"Depth": depth}, PLACE))
        if answer.status in (NOTHING_THERE if depth == "0" else NOTHING_THERE | {403}):
            return []
        found = self._read(container, answer).responses
        if len(found) > MAX_PLACES:
            raise Withheld(
                f"{container}: the server names more than {MAX_PLACES} places; is the address under {SETTING} right?"
            )
        sound = (each for each in found if each.status // 100 == 2 and len(each.href) <= MAX_HREF)
        return [Place(_address(answer.url, each.href), each) for each in sound]

    def _links(self, place: Place, name: str) -> Iterator[str]:
        return (_address(place.url, href) for href in place.itself.links(name) if len(href) <= MAX_HREF)

    # ---- one request ----

    def _ask(self, container: str, asked: Asked) -> Answer:
        headers = {"Content-Type": "application/xml; charset=utf-8", "Accept": "application/xml, text/xml"}
        return self.ways.ask(
            container, asked._replace(headers=headers | dict(asked.headers)), self.home, self.sign_in(), {207}
        )

    def _read(self, container: str, answer: Answer) -> Multistatus:
        if answer.status == 401:
            raise Fatal(f"{container}: the server refuses the credentials (401); check auth")
        if answer.status in GONE:
            raise Gone(f"{container}: the calendar is not there any more ({answer.status}); was it deleted or moved?")
        if answer.status != 207:
            raise failure(container, answer, self.ways.now(), SETTING)
        try:
            return multistatus(answer.body)
        except Hostile as error:
            raise Withheld(
                f"{container}: the server's answer has {error}; is the address under {SETTING} right?"
            ) from None
        except Garbled as error:
            raise Retryable(f"{container}: what the server answered is {error}; is a proxy between?") from None


def _address(here: str, href: str) -> str:
    """Where a link leads. On the same host the scheme and the port stay: behind a proxy a server often does not know its own."""
    path = path_of(href, here)
    if path is None:
        return led(here, href, SETTING)
    mine, theirs = urlsplit(here), urlsplit(urljoin(here, href))
    return urlunsplit((mine.scheme, mine.netloc, theirs.path, theirs.query, ""))


def _bounded(container: str, listing: Listing) -> None:
    if len(listing.entries) + len(listing.gone) + len(listing.astray) > MAX_ENTRIES:
        raise Withheld(f"{container}: the calendar has more than {MAX_ENTRIES} entries; take one with fewer")
    if listing.size > MAX_LISTED:
        raise Withheld(
            f"{container}: the server tells what changed in more than {MAX_LISTED} bytes; take a calendar with fewer entries"
        )
