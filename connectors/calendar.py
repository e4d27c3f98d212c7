"""Calendars as ICS files or feeds, from disk or over HTTP; what is in them is read by `connectors/ics.py`.

A feed has no time of change that could be trusted, so it is always read whole. It is bounded in size and time, asked
for again only if it changed (ETag, Last-Modified), and its address, which may be its password, shows in no error.

Next on the way of an event: `connectors/base.py`, the port; `connectors/pump.py` publishes what is read here.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Literal, Self
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

import requests
import urllib3
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from connectors.base import (
    Clock,
    Fatal,
    Read,
    ReadWhole,
    Ref,
    Retryable,
    SecretRef,
    Settings,
    Withheld,
    http_date,
    retry_after,
    unreached,
)
from connectors.ics import Pattern, Scope, Window, read_feed, window_at
from pmsync.core.events import Meaning

MAX_BYTES = 10 * 1024 * 1024
CHUNK = 64 * 1024
MAX_REDIRECTS = 3
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
    meaning: Mapping[str, Meaning | tuple[Pattern, ...]] = {}
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


class CalendarConnector(ReadWhole):
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
        return cls(settings, clock, Unled())

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
            raise Withheld(f"{self.name} has no calendar {container}; name it under ics")
        return re.sub(r"^webcal:", "https:", target)

    def _scope(self, container: str) -> Scope:
        settings = self._settings
        meant = settings.meaning.get(container, ())
        by_name = MEANINGS.get(container.lower(), Meaning.meeting)
        return Scope(
            container=container,
            meaning=meant if isinstance(meant, Meaning) else by_name,
            window=window_at(self._clock()),
            zone=ZoneInfo(settings.time_zone),
            titles=settings.titles,
            patterns=() if isinstance(meant, Meaning) else meant,
        )

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
            kind = Withheld if invalid else Retryable
            raise kind(f"{container}: {unreached(url, error)}") from None

    def _notice(self, response: requests.Response) -> None:
        stated = http_date(response.headers.get("Date"))
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


class Unled(requests.Session):
    """A session that is not led anywhere: even where it shall not follow a redirect, requests reads its whole body, of
    whatever size, to see where it would lead."""

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


def _load(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Withheld(f"cannot read the calendar {path}: {error.strerror}") from error
    if len(body) > MAX_BYTES:
        raise Withheld(f"the calendar {path} is larger than {MAX_BYTES} bytes")
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
        url = _led(url, response.headers["Location"])
    raise Withheld(
        f"{urlsplit(url).hostname} redirects more than {MAX_REDIRECTS} times; name the final address under ics"
    )


def _led(here: str, location: str) -> str:
    """Where a redirect leads."""
    try:
        url = urljoin(here, location)
        steps = urlsplit(here).scheme, urlsplit(url).scheme
    except ValueError:
        raise Withheld(
            f"{urlsplit(here).hostname} redirects to what is no address; is the one under ics right?"
        ) from None
    if steps not in {("http", "http"), ("https", "https"), ("http", "https")}:
        raise Withheld(f"{urlsplit(here).hostname} redirects to another scheme; name the final address under ics")
    return url


def _body(container: str, response: requests.Response) -> bytes:
    """The body, bounded in size and, against a server that sends a byte now and then, in time."""
    deadline, body = time.monotonic() + TOTAL_SECONDS, bytearray()
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        body += chunk
        if len(body) > MAX_BYTES:
            raise Withheld(f"{container}: the feed is larger than {MAX_BYTES} bytes")
        if time.monotonic() > deadline:
            raise Retryable(f"{container}: the feed was not read within {TOTAL_SECONDS:.0f} s")
    return bytes(body)


# ---- what an answer means ----


def failure(container: str, status: int, headers: Mapping[str, str], now: datetime) -> Retryable | Fatal | None:
    """What a status says about the next try; None where the answer can be read. Whatever is wrong with one feed, even its
    credentials, says nothing of the others."""
    if status in {200, 304}:
        return None
    if status in {401, 403}:
        return Withheld(f"{container}: the server refuses the credentials ({status}); check auth")
    if status in {408, 425, 429} or status >= 500:
        return Retryable(f"{container}: the server answers {status}", retry_after(headers.get("Retry-After"), now))
    return Withheld(f"{container}: the server answers {status}; is the address under ics right?")


def validators(headers: Mapping[str, str]) -> Mapping[str, str]:
    """What makes the next request a conditional one (RFC 9110, 13.1)."""
    asked = {"If-None-Match": headers.get("ETag"), "If-Modified-Since": headers.get("Last-Modified")}
    return {name: value for name, value in asked.items() if value}
