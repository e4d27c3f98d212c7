"""Calendars as ICS files or feeds, from disk or over HTTP; what is in them is read by `connectors/ics.py`.

A feed has no time of change that could be trusted, so it is always read whole. It is asked for again only if it changed
(ETag, Last-Modified), and its address, which may be its password, shows in no error.

Next on the way of an event: `connectors/base.py`, the port; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from connectors.base import Apart, Clock, Mark, Read, ReadWhole, Ref, Retryable, Settings, Withheld
from connectors.calendar_settings import ServerSettings
from connectors.ics import Scope, Window
from connectors.ics_apart import CHAMBER, GivenUp
from connectors.ways import MAX_BYTES, Answer, Asked, Ways, failure


class CalendarSettings(ServerSettings):
    """`ics` is one URL or path for every container, or one for each."""

    kind: Literal["calendar"] = "calendar"
    ics: str | Mapping[str, str]

    @model_validator(mode="after")
    def _readable(self) -> Self:
        for name, target in {"*": self.ics}.items() if isinstance(self.ics, str) else self.ics.items():
            if "/" in name:
                raise ValueError(f"the container {name} must not contain '/'")
            if "://" in target and urlsplit(target).scheme not in {"http", "https", "webcal"}:
                raise ValueError("ics must be an http, https or webcal address, or a path")
        return self


@dataclass(frozen=True, slots=True)
class Kept:
    """The last reading of a feed, and what proves that it has not changed since. One that was refused is not tried again
    until it changes: it would be refused again, after a minute of work."""

    window: Window
    digest: bytes
    validators: Mapping[str, str]
    reads: Mapping[Ref, Read]
    refusal: str = ""

    def given(self) -> Mapping[Ref, Read]:
        """Raises `Withheld`."""
        if self.refusal:
            raise Withheld(self.refusal)
        return self.reads


class CalendarConnector(ReadWhole):
    """The single reader of one calendar source. Only this class does I/O; what it calls below is pure."""

    Settings: ClassVar[type[Settings]] = CalendarSettings
    name: str

    def __init__(self, settings: CalendarSettings, clock: Clock, ways: Ways) -> None:
        self.name = settings.name
        self._settings = settings
        self._clock = clock
        self._ways = ways
        self._kept: dict[str, Kept] = {}
        self._feeds = {settings.ics} if isinstance(settings.ics, str) else set(settings.ics.values())

    @classmethod
    def connect(cls, settings: CalendarSettings, clock: Clock) -> Self:
        return cls(settings, clock, Ways(clock, "ics"))

    def now(self) -> datetime:
        return self._ways.now()

    def changed(self, container: str, since: datetime | None) -> Iterator[Sequence[Read]]:
        with self._apart():
            yield from super().changed(container, since)

    def sweep(self, container: str) -> Iterator[Sequence[Mark]]:
        with self._apart():
            yield from super().sweep(container)

    @contextmanager
    def _apart(self) -> Iterator[None]:
        """Feeds are anybody's, so that one which cannot be had now says nothing of the others; only where all are on one
        server, and it asks for a wait, do all of them wait."""
        try:
            yield
        except Retryable as error:
            hosts = {urlsplit(feed).hostname for feed in self._feeds}
            if len(self._feeds) == 1 or (error.after is not None and len(hosts) == 1):
                raise
            raise Apart(str(error), error.after) from None

    def _read(self, container: str) -> Mapping[Ref, Read]:
        target, scope = self._target(container), self._settings.scope(container, self._clock())
        kept = self._kept.get(container)
        if kept is not None and kept.window != scope.window:
            kept = None
        answer = self._get(container, target, kept) if "://" in target else _load(Path(target))
        if answer.status == 304:
            if kept is None:
                raise Retryable(f"{container}: the server says 304 to a request that it cannot mean")
            return kept.given()
        digest = hashlib.sha256(answer.body).digest()
        if kept is not None and kept.digest == digest:
            kept = replace(kept, validators=validators(answer.headers))
        else:
            reads, refusal = _reading(answer.body, scope)
            kept = Kept(scope.window, digest, validators(answer.headers), reads, refusal)
        self._kept[container] = kept
        return kept.given()

    def _target(self, container: str) -> str:
        ics = self._settings.ics
        target = ics if isinstance(ics, str) else ics.get(container)
        if target is None or "/" in container:
            raise Withheld(f"{self.name} has no calendar {container}; name it under ics")
        return re.sub(r"^webcal:", "https:", target)

    def _get(self, container: str, url: str, kept: Kept | None) -> Answer:
        headers = {"Accept": "text/calendar, */*;q=0.5", "Accept-Encoding": "identity"}
        asked = Asked(url, headers=headers | dict(kept.validators if kept else {}))
        answer = self._ways.ask(container, asked, url, self._settings.signs_in(), {200})
        if answer.status not in {200, 304}:
            raise failure(container, answer, self.now(), "ics")
        return answer


def _reading(body: bytes, scope: Scope) -> tuple[Mapping[Ref, Read], str]:
    """The entries of a feed, or why it is refused. Raises `Retryable`."""
    try:
        return {read.ref: read for read in CHAMBER.read(body, scope)}, ""
    except GivenUp as error:
        return {}, f"{scope.container}: {error}"
    except Withheld as error:
        return {}, str(error)


def _load(path: Path) -> Answer:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Withheld(f"cannot read the calendar {path}: {error.strerror}") from error
    if len(body) > MAX_BYTES:
        raise Withheld(f"the calendar {path} is larger than {MAX_BYTES} bytes")
    return Answer(str(path), 200, {}, body)


def validators(headers: Mapping[str, str]) -> Mapping[str, str]:
    """What makes the next request a conditional one (RFC 9110, 13.1)."""
    asked = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
    return {name: value for name, value in asked.items() if value}
