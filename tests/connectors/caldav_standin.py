"""A stand-in for CalDAV servers that do what radicale does not: no list of changes, one in pages, or one that cannot be trusted;
odd addresses; answers that no server should give.

Written from RFC 4791, 4918, 6352 and 6578. It refuses what it does not understand. `quirks` turn its oddities on:

- `no changes`: it has no list of changes;        - `zero token`: its token is always 0
- `deaf to beginners`: to the empty token it answers with no entry and a token
- `stuck`: each page of changes says that there is more, with the token that it was asked with
- `lists itself`: the calendar is one of its entries, once with and once without a slash at the end
- `absolute`: addresses come with `http://`, the host in other letters, and another port
- `no etags`: entries have none
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import ClassVar, NamedTuple
from urllib.parse import quote, unquote, urlsplit
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import fromstring
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

D, C = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}"
HOME = "/calendars/pm/"
WHO = "/principals/pm/"
NOT_FOUND = "HTTP/1.1 404 Not Found"
OK = "HTTP/1.1 200 OK"


class Entry(NamedTuple):
    """What is at an address since the change of this number; None: it is gone."""

    text: str | None
    number: int


class Seen(NamedTuple):
    """One line of the journal."""

    method: str
    path: str
    depth: str | None
    kind: str
    asked: int
    authorization: str | None


@dataclass
class Calendar:
    """A calendar and its changes; tokens below `oldest` are forgotten."""

    title: str
    entries: dict[str, Entry] = field(default_factory=dict)
    number: int = 0
    oldest: int = 0

    def put(self, name: str, text: str | None) -> None:
        self.number += 1
        self.entries[name] = Entry(text, self.number)


@dataclass
class CalDavHost:
    """Calendars of one account. `instead` are answers given in place of the next ones to a request of a kind (`sync`, `get`,
    `list`, `place`); `failing` are entries at which the server itself fails."""

    user: str = "pm"
    password: str = ""
    quirks: set[str] = field(default_factory=set)
    page: int = 1000
    calendars: dict[str, Calendar] = field(default_factory=dict)
    instead: dict[str, deque[Callable[[], Response]]] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)
    """Names of entries that are listed and not given."""
    forbidden: set[str] = field(default_factory=set)
    """The same, where the server says so."""
    failing: set[str] = field(default_factory=set)
    busy_after: int = 1_000_000
    """How many times entries are given before the server is busy, once."""
    strangers: list[str] = field(default_factory=list)
    """Addresses that are in the lists too."""
    homes: tuple[str, ...] = (HOME,)
    journal: list[Seen] = field(default_factory=list)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._serve, methods=["PROPFIND", "REPORT"])])

    def add(self, name: str, title: str | None = None) -> Calendar:
        return self.calendars.setdefault(name, Calendar(name if title is None else title))

    async def _serve(self, request: Request) -> Response:
        body = await request.body()
        if request.headers.get("Authorization") != self._expected():
            self._note(request, "refused", 0)
            return Response("who are you?", 401)
        if request.headers.get("Content-Type", "").partition(";")[0] != "application/xml":
            return Response("XML, please", 415)
        root = fromstring(body, forbid_dtd=True)
        kind = self._kind(request, root)
        self._note(request, kind, len(root.findall(f"{D}href")))
        if waiting := self.instead.get(kind):
            return waiting.popleft()()
        return self._answers[kind](self, request, root)

    def _expected(self) -> str | None:
        signed = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Basic {signed}" if self.password else None

    def _note(self, request: Request, kind: str, asked: int) -> None:
        headers = request.headers
        depth, who = headers.get("Depth"), headers.get("Authorization")
        self.journal.append(Seen(request.method, request.url.path, depth, kind, asked, who))

    def _kind(self, request: Request, root: Element) -> str:
        names = {each.tag for each in root.iterfind(f"{D}prop/*")}
        known = {
            ("PROPFIND", f"{D}propfind"): "list" if f"{D}getetag" in names else "place",
            ("REPORT", f"{D}sync-collection"): "sync",
            ("REPORT", f"{C}calendar-multiget"): "get",
        }
        depths = {"list": {"1"}, "place": {"0", "1"}, "sync": {"0"}, "get": {None, "0", "1"}}
        kind = known.get((request.method, root.tag), "unknown")
        return kind if request.headers.get("Depth") in depths.get(kind, set()) else "unknown"

    # ---- what it answers ----

    def _unknown(self, request: Request, root: Element) -> Response:
        return Response("what?", 400)

    def _place(self, request: Request, root: Element) -> Response:
        path, deep = request.url.path, request.headers["Depth"] == "1"
        links = f"<D:current-user-principal><D:href>{WHO}</D:href></D:current-user-principal>"
        homes = "".join(f"<D:href>{escape(home)}</D:href>" for home in self.homes)
        collection = "<D:resourcetype><D:collection/></D:resourcetype>"
        if path == WHO:
            home = f"<C:calendar-home-set>{homes}</C:calendar-home-set>"
            return _multistatus([_found(path, f"<D:resourcetype><D:principal/></D:resourcetype>{home}")])
        if path in {"/", HOME}:
            below = [self._described(name) for name in self.calendars] if deep and path == HOME else []
            return _multistatus([_found(path, collection + links), *below])
        name = self._name(path)
        return _multistatus([self._described(name)]) if name else Response("nothing here", 404)

    def _described(self, name: str) -> str:
        title = f"<D:displayname>{escape(self.calendars[name].title)}</D:displayname>"
        kind = "<D:resourcetype><D:collection/><C:calendar/></D:resourcetype>"
        return _found(f"{HOME}{quote(name)}/", kind + title)

    def _sync(self, request: Request, root: Element) -> Response:
        name = self._name(request.url.path)
        if name is None:
            return Response("nothing here", 404)
        if "no changes" in self.quirks:
            return Response('<D:error xmlns:D="DAV:"><D:supported-report/></D:error>', 403)
        calendar, token = self.calendars[name], (root.findtext(f"{D}sync-token") or "").strip()
        since = int(token.rpartition("/")[2]) if token else 0
        if token and (since < calendar.oldest or not token.startswith("http://tokens/")):
            return Response('<D:error xmlns:D="DAV:"><D:valid-sync-token/></D:error>', 403)
        beginner = not token
        changed = sorted((each.number, file) for file, each in calendar.entries.items() if each.number > since)
        changed = [each for each in changed if not beginner or calendar.entries[each[1]].text is not None]
        if beginner and "deaf to beginners" in self.quirks:
            changed = []
        page, more = changed[: self.page], len(changed) > self.page
        listed = [self._listed(name, file) for _, file in page]
        last = page[-1][0] if more else calendar.number
        if more or "stuck" in self.quirks:
            listed.append(
                f"<D:response><D:href>{HOME}{quote(name)}/</D:href><D:status>HTTP/1.1 507 Insufficient Storage</D:status></D:response>"
            )
        given = "0" if "zero token" in self.quirks else token if "stuck" in self.quirks else f"http://tokens/{last}"
        return _multistatus([*self._odd(name), *listed], f"<D:sync-token>{escape(given)}</D:sync-token>")

    def _list(self, request: Request, root: Element) -> Response:
        name = self._name(request.url.path)
        if name is None:
            return Response("nothing here", 404)
        there = [file for file, each in self.calendars[name].entries.items() if each.text is not None]
        itself = _found(f"{HOME}{quote(name)}/", "<D:resourcetype><D:collection/><C:calendar/></D:resourcetype>")
        return _multistatus([itself, *self._odd(name), *(self._listed(name, file) for file in there)])

    def _get(self, request: Request, root: Element) -> Response:
        name = self._name(request.url.path)
        if name is None:
            return Response("nothing here", 404)
        files = [unquote(urlsplit(href.text or "").path).rpartition("/")[2] for href in root.iterfind(f"{D}href")]
        self.busy_after -= 1
        if self.busy_after == -1:
            return Response("later", 503, {"Retry-After": "7"})
        if self.failing & set(files):
            return Response("it broke", 500)
        return _multistatus([self._given(name, file) for file in files if file not in self.withheld])

    _answers: ClassVar = {"unknown": _unknown, "place": _place, "sync": _sync, "list": _list, "get": _get}

    # ---- what they are made of ----

    def _name(self, path: str) -> str | None:
        name = path.removeprefix(HOME).strip("/")
        return name if path.startswith(HOME) and name in self.calendars else None

    def _odd(self, name: str) -> Iterator[str]:
        if "lists itself" in self.quirks:
            for path in (f"{HOME}{quote(name)}/", f"{HOME}{quote(name)}"):
                yield _found(path, '<D:getetag>"itself"</D:getetag>')
        for href in self.strangers:
            yield _found(href, '<D:getetag>"odd"</D:getetag>')

    def _href(self, name: str, file: str) -> str:
        path = f"{HOME}{quote(name)}/{quote(file)}"
        return f"http://LOCALHOST:81{path}".replace("LOCALHOST", "127.0.0.1") if "absolute" in self.quirks else path

    def _etag(self, entry: Entry) -> str:
        return "" if "no etags" in self.quirks else f'<D:getetag>"{entry.number}"</D:getetag>'

    def _listed(self, name: str, file: str) -> str:
        entry = self.calendars[name].entries[file]
        return (
            _gone(self._href(name, file)) if entry.text is None else _found(self._href(name, file), self._etag(entry))
        )

    def _given(self, name: str, file: str) -> str:
        entry = self.calendars[name].entries.get(file)
        if entry is None or entry.text is None:
            return _gone(self._href(name, file))
        if file in self.forbidden:
            return f"<D:response><D:href>{self._href(name, file)}</D:href><D:status>HTTP/1.1 403 Forbidden</D:status></D:response>"
        data = f"<C:calendar-data>{escape(entry.text)}</C:calendar-data>"
        return _found(self._href(name, file), self._etag(entry) + data)


def _found(href: str, properties: str) -> str:
    return (
        f"<D:response><D:href>{escape(href)}</D:href><D:propstat><D:prop>{properties}</D:prop><D:status>{OK}</D:status></D:propstat>"
        f"<D:propstat><D:prop><D:getlastmodified/></D:prop><D:status>{NOT_FOUND}</D:status></D:propstat></D:response>"
    )


def _gone(href: str) -> str:
    return f"<D:response><D:href>{escape(href)}</D:href><D:status>{NOT_FOUND}</D:status></D:response>"


def multistatus(responses: Sequence[str], more: str = "") -> bytes:
    """The bytes of an answer."""
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav">'
        f"{''.join(responses)}{more}</D:multistatus>"
    ).encode()


def _multistatus(responses: Sequence[str], more: str = "") -> Response:
    return Response(multistatus(responses, more), 207, media_type="application/xml")
