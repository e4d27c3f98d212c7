"""What is written to a CalDAV server and what it answers, as XML: WebDAV (RFC 4918), CalDAV (RFC 4791) and the list of
changes of a collection (RFC 6578).

Answers come from strangers. A DTD is refused, and with it every entity; the elements of an answer are counted, and how deep
they lie, before there is a tree of them. Nothing here does I/O.

Next on the way of an event: `connectors/caldav_server.py`, which sends and receives it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit
from xml.etree.ElementTree import Element, TreeBuilder

from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import ParseError, XMLParser  # type: ignore[import-untyped]

MAX_ELEMENTS = 500_000
"""Of an answer; twenty thousand entries in a list are about two hundred thousand."""
MAX_DEPTH = 100
MAX_HREF = 2000
"""Characters of an address; of a longer one so many are looked at that it shows."""
MAX_ETAG = 200
"""Of an ETag that is kept as it is; of a longer one there is a digest."""
D, C = "{DAV:}", "{urn:ietf:params:xml:ns:caldav}"
GONE, CUT_OFF = frozenset({404, 410}), 507

_XML = '<?xml version="1.0" encoding="utf-8"?>\n'
PLACE = (
    f'{_XML}<propfind xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><resourcetype/><displayname/>'
    "<current-user-principal/><C:calendar-home-set/></prop></propfind>"
).encode()
"""Asks what is at an address, and where the calendars of who asks are."""
LIST = f'{_XML}<propfind xmlns="DAV:"><prop><resourcetype/><getetag/></prop></propfind>'.encode()
"""Asks what is in a calendar."""


class Garbled(ValueError):
    """What came is not what was asked for, or not whole."""


class Hostile(Garbled):
    """What came asks for work that no honest answer needs."""


# ---- what is asked ----


def changes_since(token: str) -> bytes:
    """Asks what changed in a calendar since the server gave this token; all that is there for an empty one."""
    return (
        f'{_XML}<sync-collection xmlns="DAV:"><sync-token>{escape(token)}</sync-token><sync-level>1</sync-level>'
        "<prop><resourcetype/><getetag/></prop></sync-collection>"
    ).encode()


def objects_at(hrefs: Iterable[str]) -> bytes:
    """Asks for the entries at these addresses."""
    listed = "".join(f"<href>{escape(href)}</href>" for href in hrefs)
    return (
        f'{_XML}<C:calendar-multiget xmlns="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><prop><getetag/>'
        f"<C:calendar-data/></prop>{listed}</C:calendar-multiget>"
    ).encode()


# ---- what came ----


class Response(NamedTuple):
    """What an answer says of one address. `status` is that of the whole, not of single properties; `properties` are those that
    were to be had."""

    href: str
    status: int
    properties: Mapping[str, Element]

    def text(self, name: str) -> str:
        found = self.properties.get(name)
        return "" if found is None else (found.text or "").strip()

    def has_kind(self, name: str) -> bool:
        """Whether it is a collection, a calendar, a principal."""
        kinds = self.properties.get(f"{D}resourcetype")
        return kinds is not None and kinds.find(name) is not None

    def links(self, name: str) -> Iterator[str]:
        """The addresses in a property."""
        found = self.properties.get(name)
        yield from () if found is None else _hrefs(found)

    @property
    def etag(self) -> str:
        """What changes whenever the entry does; empty where the server says nothing of that."""
        said = self.text(f"{D}getetag")
        return said if len(said) <= MAX_ETAG else hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()

    @property
    def data(self) -> bytes | None:
        """The entry itself, where it came along."""
        found = self.properties.get(f"{C}calendar-data")
        return None if found is None or not found.text else found.text.encode("utf-8", "replace")


class Multistatus(NamedTuple):
    """An answer about many addresses, and where the list of changes goes on."""

    responses: tuple[Response, ...]
    token: str


def multistatus(body: bytes) -> Multistatus:
    """The answer in these bytes; raises `Garbled`."""
    root = _tree(body)
    if root.tag != f"{D}multistatus":
        raise Garbled("no answer about calendars")
    responses = tuple(response for each in root.iterfind(f"{D}response") for response in _responses(each))
    return Multistatus(responses, (root.findtext(f"{D}sync-token") or "").strip())


def _responses(element: Element) -> Iterator[Response]:
    """One for each address that it names."""
    properties = {
        each.tag: each
        for stated in element.iterfind(f"{D}propstat")
        if _status(stated.findtext(f"{D}status")) // 100 == 2
        for each in stated.iterfind(f"{D}prop/*")
    }
    status = _status(element.findtext(f"{D}status"))
    for href in _hrefs(element):
        yield Response(href, status, properties)


def _hrefs(element: Element) -> Iterator[str]:
    for href in element.iterfind(f"{D}href"):
        if said := (href.text or "").strip():
            yield said[: MAX_HREF + 1]


def _status(line: str | None) -> int:
    """The number in `HTTP/1.1 404 Not Found`; 200 where nothing is said."""
    found = re.search(r"(?<!\S)[1-5][0-9]{2}(?!\S)", line or "")
    return int(found.group()) if found else 200


class _Counting(TreeBuilder):
    """Builds a tree of a bounded number of elements."""

    def __init__(self) -> None:
        super().__init__()
        self.count = self.depth = 0

    def start(self, tag: str, attrs: Any, /) -> Element:
        self.count += 1
        self.depth += 1
        if self.count > MAX_ELEMENTS or self.depth > MAX_DEPTH:
            raise Hostile(f"more than {MAX_ELEMENTS} elements, or more than {MAX_DEPTH} within each other")
        return super().start(tag, attrs)

    def end(self, tag: str, /) -> Element:
        self.depth -= 1
        return super().end(tag)


def _tree(body: bytes) -> Element:
    parser = XMLParser(target=_Counting(), forbid_dtd=True)
    try:
        parser.feed(body)
        root: Element = parser.close()
    except DefusedXmlException:
        raise Hostile("a DTD or entities, of which no answer about calendars has need") from None
    except Garbled:
        raise
    except (ParseError, ValueError, LookupError, AssertionError):
        raise Garbled("no whole XML") from None
    return root


# ---- addresses ----


def path_of(href: str, base: str) -> str | None:
    """The path that an address in an answer means, in one spelling; None if it is on another host than `base`, or is no
    address. Scheme and port are not compared: behind a proxy a server often takes itself for another one.

    It stays quoted, byte by byte: not every server's bytes are UTF-8, and a slash in a name is none between two."""
    if len(href) > MAX_HREF:
        return None
    try:
        parts, here = urlsplit(urljoin(base, href)), urlsplit(base)
        same = parts.hostname == here.hostname and parts.scheme in {"http", "https"}
    except ValueError:
        return None
    return "/".join(quote(unquote_to_bytes(name), safe="") for name in parts.path.split("/")) if same else None


def is_within(path: str, collection: str) -> bool:
    """Whether a path is that of a member of a collection, by their paths."""
    parent, _, name = path.rpartition("/")
    return name not in {"", ".", ".."} and parent == collection.rstrip("/")
