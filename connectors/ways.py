"""The way to a server of calendars and back: bounded in size and time, and led elsewhere by three redirects at most.

Only the host that the operator wrote into `pmsync.yaml` gets the credentials. Wherever else an answer leads, none are told,
and `connectors/guard.py` looks at the address before anything is connected. An address may be a password (of a private
feed), so errors name hosts only.

Next on the way of an event: `connectors/calendar.py` and `connectors/caldav.py`, which read what came.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

import requests
import urllib3

from connectors.base import Clock, Fatal, Retryable, Withheld, http_date, retry_after, unreached
from connectors.guard import GuardedAdapter
from connectors.timed import TimedAdapter

MAX_BYTES = 10 * 1024 * 1024
CHUNK = 64 * 1024
MAX_REDIRECTS = 3
MOST_SKEW = timedelta(days=1)
"""A server whose clock differs by more does not know what time it is."""
CONNECT_SECONDS, READ_SECONDS = 5.0, 30.0

Auth = Callable[[requests.PreparedRequest], requests.PreparedRequest]
"""Puts what authenticates into a request."""


class TooLarge(Withheld):
    """An answer has more bytes than are read."""


class Asked(NamedTuple):
    """A request."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: bytes | None = None


class Answer(NamedTuple):
    """What came in the end, and from which address; its body only where it was wanted."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Unled(requests.Session):
    """A session that is not led anywhere: even where it shall not follow a redirect, requests reads its whole body, of
    whatever size, to see where it would lead."""

    def __init__(self, adapter: Callable[[], TimedAdapter] = TimedAdapter) -> None:
        super().__init__()
        for scheme in ("http://", "https://"):
            self.mount(scheme, adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:  # noqa: ARG002
        return None


def guarded() -> requests.Session:
    """A session for addresses that data named."""
    return Unled(GuardedAdapter)


@dataclass(slots=True)
class Ways:
    """How one source is reached: `own` leads to where the operator said, `strange` elsewhere. `setting` is the key of the
    configuration under which the address is."""

    clock: Clock
    setting: str
    own: requests.Session = field(default_factory=Unled)
    strange: requests.Session = field(default_factory=guarded)
    skew: timedelta = timedelta()

    def now(self) -> datetime:
        """The server's own clock, as of its last answer."""
        return self.clock() + self.skew

    def ask(self, container: str, asked: Asked, home: str, auth: Auth, wanted: Collection[int]) -> Answer:
        """The answer to a request; `home` is the address in the configuration. Its body is read if its status is `wanted`."""
        try:
            with self._follow(asked, home, auth) as response:
                status, url = response.status_code, response.url
                at_home = is_same_place(url, home)
                if at_home:
                    self._notice(response)
                if status in {401, 403} and not at_home:
                    raise Withheld(
                        f"{container}: {urlsplit(url).hostname} wants credentials, which only the host under {self.setting} "
                        f"is given; if it is meant, write its address under {self.setting}"
                    )
                return Answer(url, status, response.headers, _body(container, response) if status in wanted else b"")
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
            # The error's own text holds the address, and a private feed's address is its password.
            invalid = isinstance(error, ValueError) and not isinstance(error, requests.JSONDecodeError)
            kind = Withheld if invalid else Retryable
            raise kind(f"{container}: {unreached(asked.url, error)}") from None

    def _follow(self, asked: Asked, home: str, auth: Auth) -> requests.Response:
        """The answer after at most three redirects, each of which is asked the same (RFC 9110 would have some turn to GET,
        which means nothing to a CalDAV server)."""
        url = asked.url
        for _ in range(MAX_REDIRECTS + 1):
            at_home = is_same_place(url, home)
            response = (self.own if at_home else self.strange).request(
                asked.method,
                url,
                headers=dict(asked.headers),
                data=asked.body,
                auth=auth if at_home else anonymous,
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_SECONDS, READ_SECONDS),
            )
            if not response.is_redirect:
                return response
            response.close()
            url = led(url, response.headers["Location"], self.setting)
        raise Withheld(
            f"{urlsplit(url).hostname} redirects more than {MAX_REDIRECTS} times; name the final address under {self.setting}"
        )

    def _notice(self, response: requests.Response) -> None:
        stated = http_date(response.headers.get("Date"))
        if stated is not None and abs(stated - self.clock()) <= MOST_SKEW:
            self.skew = stated - self.clock()


def led(here: str, location: str, setting: str) -> str:
    """Where a redirect or a link leads from `here`: not to another scheme, but for https instead of http."""
    try:
        url = urljoin(here, location)
        steps = urlsplit(here).scheme, urlsplit(url).scheme
    except ValueError:
        raise Withheld(
            f"{urlsplit(here).hostname} redirects to what is no address; is the one under {setting} right?"
        ) from None
    if steps not in {("http", "http"), ("https", "https"), ("http", "https")}:
        raise Withheld(f"{urlsplit(here).hostname} redirects to another scheme; name the final address under {setting}")
    return url


def is_same_place(url: str, home: str) -> bool:
    """Whether it is the same host at the same port, or at that of https where http was configured."""
    try:
        here, there = urlsplit(_dialled(url)), urlsplit(_dialled(home))
        ports = _port(there), _port(here)
    except ValueError:
        return False
    return here.hostname == there.hostname and (ports[0] == ports[1] or (ports == (80, 443) and here.scheme == "https"))


def _dialled(url: str) -> str:
    """An address as requests connects to it: of one with a backslash urlsplit would read another host."""
    return str(requests.Request("GET", url).prepare().url)


def _port(parts: SplitResult) -> int | None:
    return parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _body(container: str, response: requests.Response) -> bytes:
    """The body, bounded in size."""
    body = bytearray()
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge(f"{container}: the answer is larger than {MAX_BYTES} bytes")
    return bytes(body)


# ---- who is asking ----


def anonymous(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Given to requests so that it does not look for a password in ~/.netrc."""
    return request


def basic(user: str, password: str) -> Auth:
    """A user and a password, in UTF-8 (RFC 7617)."""
    return requests.auth.HTTPBasicAuth(user.encode(), password.encode())


def bearer(token: str) -> Auth:
    """A bearer token."""
    return _Bearer(token)


@dataclass(frozen=True, slots=True)
class _Bearer:
    token: str = field(repr=False)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


# ---- what an answer means ----


def failure(container: str, answer: Answer, now: datetime, setting: str) -> Retryable | Fatal:
    """What a status that was not wanted says about the next try. Whatever is wrong with one calendar, even its credentials,
    says nothing of the others."""
    status = answer.status
    if status in {401, 403}:
        return Withheld(f"{container}: the server refuses the credentials ({status}); check auth")
    if status in {408, 425, 429} or status >= 500:
        return Retryable(
            f"{container}: the server answers {status}", retry_after(answer.headers.get("Retry-After"), now)
        )
    return Withheld(f"{container}: the server answers {status}; is the address under {setting} right?")
