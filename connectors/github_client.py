"""GitHub: how it is spoken to: requests by PyGithub, page by page, and what an answer, or none, means for us.

Nothing here knows what is asked for: that is `connectors/github.py`'s.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import requests
from github import Auth, Github
from github.Requester import Requester

from connectors import github_app
from connectors.base import (
    Clock,
    ConnectorError,
    Fatal,
    Retryable,
    Withheld,
    bounded_wait,
    http_date,
    retry_after,
    unreached,
)
from connectors.bounded import BoundedAdapter
from connectors.conditional import Answers

TIMEOUT_SECONDS = 30
API_VERSION = "2022-11-28"
MAX_PAGES = 10_000
SECONDARY_LIMIT_SECONDS = 60.0
"""How long to wait where GitHub names no time (its documentation: at least one minute)."""


class Missing(Withheld):
    """GitHub says that there is no such thing (404, 410)."""


Query = Mapping[str, Any]


class Answer(NamedTuple):
    """An answer of GitHub: header names in lower case, the body parsed."""

    headers: Mapping[str, str]
    body: Any


def parsed(text: str) -> Any:
    """What is in an answer; raises ValueError and RecursionError. msgspec takes a third of the time, but not half a
    character, which must cost the thing that holds it and not the whole answer."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text)


class Page(NamedTuple):
    """One page of a list, the URL of the next one, how many pages there are, and GitHub's clock when it answered (None:
    it did not say)."""

    items: list[Any]
    next: str | None
    last: int | None
    at: datetime | None


class Client:
    """One GitHub, as one account. Only `get` with `again`, and what pages by it, keeps answers."""

    def __init__(self, url: str, auth: Auth.Auth, clock: Clock) -> None:
        self._requester = requester_of(url, auth)
        self._clock = clock
        self._answers = Answers()

    def get(
        self, path: str, query: Query | None = None, accept: Sequence[int] = (200,), *, again: bool = False
    ) -> Answer:
        """The answer to a GET. `again`: this is what each poll asks for, so it is kept, and asked for conditionally."""
        what, request = urlsplit(path).path, f"{path} {sorted((query or {}).items())}"
        known = self._answers.get(request) if again else None
        condition = {"If-None-Match": known.etag} if known else {}
        options = {"parameters": dict(query or {}), "headers": condition}
        status, headers, text = sent(self._requester, "GET", path, **options)
        if known and status == 304:
            return Answer({**known.headers, **headers}, parsed(known.text))
        if status not in accept:
            self._doubts(status)
            raise failure(status, headers, text, what, self._clock())
        try:
            answer = Answer(headers, parsed(text))
        except (ValueError, RecursionError):
            raise Retryable(f"GitHub's answer to {what} is no JSON: it was cut short, or comes from a proxy") from None
        if again:
            self._answers.keep(request, headers, text)
        return answer

    def page(self, path: str, query: Query, asked: set[str], *, again: bool = False, under: str = "") -> Page:
        """One page of a list. `asked` are the addresses of those before it: a list that goes round is broken off. `under` is
        the name that the list has in the answer, where that is an object."""
        answer = self.get(path, query, again=again)
        items = answer.body.get(under) if isinstance(answer.body, dict) else answer.body
        if not isinstance(items, list):
            raise Retryable(f"GitHub's answer to {urlsplit(path).path} is no list")
        following = next_page(answer.headers.get("link", ""), self._requester.base_url)
        if following is not None:
            if following in asked:
                raise Retryable(f"the pages of {urlsplit(path).path} go round in a circle")
            asked.add(following)
        return Page(items, following, last_page(answer.headers.get("link", "")), http_date(answer.headers.get("date")))

    def pages(self, path: str, query: Query, *, again: bool = False) -> Iterator[list[Any]]:
        """The items of a list, page by page."""
        asked = set[str]()
        for _ in range(MAX_PAGES):
            page = self.page(path, query, asked, again=again)
            yield page.items
            if page.next is None:
                return
            path, query = page.next, {}
        raise Retryable(f"{path} does not end after {MAX_PAGES} pages")

    def all(self, path: str) -> list[Any]:
        return [item for page in self.pages(path, {"per_page": 100}) for item in page]

    def post(self, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, str], str]:
        """The answer to a POST, whatever it is: status, headers, text."""
        return sent(self._requester, "POST", path, input=dict(body))

    def query(self, query: str, variables: Mapping[str, Any]) -> Any:
        """The answer of the GraphQL API, or nothing: it is there to save requests only. Where GitHub says for how long to
        leave it alone, it means all requests."""
        try:
            status, headers, text = self.post(self._requester.graphql_url, {"query": query, "variables": variables})
            answer = parsed(text) if status == 200 else None
        except (ConnectorError, ValueError, RecursionError):
            return None
        if status != 200 and "retry-after" in headers:
            raise failure(status, headers, text, "/graphql", self._clock())
        return answer

    def ask(self, query: str, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        """The answer of the GraphQL API, with its errors, for what is to be had in no other way. Its quota is one of its own, so
        that where that is spent nothing is said of how long to wait with all else."""
        status, headers, text = self.post(self._requester.graphql_url, {"query": query, "variables": dict(variables)})
        if status != 200:
            self._doubts(status)
            raise failure(status, headers, text, "/graphql", self._clock())
        try:
            answer = parsed(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise Retryable("GitHub's answer to /graphql is no JSON object: it was cut short, or comes from a proxy")
        return answer

    def _doubts(self, status: int) -> None:
        """A token of an hour that is refused within it was withdrawn; the next try asks for another one."""
        if status == 401 and isinstance(self._requester.auth, github_app.Installation):
            self._requester.auth.forget()
            raise Retryable("GitHub refuses the installation's token (401); was the App suspended, or taken off?", 60)


def requester_of(url: str, auth: Auth.Auth) -> Requester:
    """PyGithub keeps the session, without its own retries and pauses."""
    client = Github(
        auth=auth,
        base_url=url.rstrip("/"),
        timeout=TIMEOUT_SECONDS,
        user_agent="pmsync",
        api_version=API_VERSION,
        retry=0,
        seconds_between_requests=0,
        seconds_between_writes=0,
    )
    bound(client.requester)
    # At its lowest level it logs whole answers, and so the tokens that an App is given.
    logging.getLogger("github.Requester").setLevel(logging.INFO)
    return client.requester


def sent(requester: Requester, verb: str, path: str, **options: Any) -> tuple[int, Mapping[str, str], str]:
    """The answer to a request: status, headers, text. What keeps it from coming is a connector's error."""
    what = urlsplit(path).path
    try:
        return requester.requestJson(verb, path, **options)
    except requests.RequestException as error:
        raise Retryable(f"GitHub at {unreached(requester.base_url, error)}") from None
    except (ValueError, OverflowError):
        raise Retryable(f"GitHub's answer to {what} has headers that cannot be read") from None
    except RuntimeError:
        raise Fatal(f"GitHub redirects {what} to another host; correct the source's url") from None


def bound(requester: Requester) -> None:
    """Have its answers bounded. PyGithub's own way to give it other connections is one for the whole process, and makes it
    open a new one for each request."""
    inner: Any = requester._Requester__connectionClass  # type: ignore[attr-defined]

    class Bounded(inner):  # type: ignore[misc]
        def __init__(self, *values: Any, **options: Any) -> None:
            super().__init__(*values, **options)
            self.session.mount(f"{self.protocol}://", BoundedAdapter(max_retries=0))

    requester._Requester__connectionClass = Bounded  # type: ignore[attr-defined]


def failure(status: int, headers: Mapping[str, str], text: str, what: str, now: datetime) -> ConnectorError:
    """What an answer that is not 200 means for us."""
    limited = "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0"
    # The text is only looked at, never repeated: it is the one sign of some secondary limits.
    if status == 429 or (status == 403 and (limited or "rate limit" in text.lower())):
        return Retryable("GitHub's rate limit is reached", pause(headers, now))
    if status in (404, 410):
        return Missing(f"GitHub has no {what}, or the token may not see it; correct the name, or give the token access")
    if status == 401:
        return Fatal("GitHub refuses the token (401); make a new one and put it where auth.token points")
    if status in (403, 451):
        kind = Withheld if any(part in what for part in ("/repos/", "/repositories/", "/orgs/")) else Fatal
        return kind(f"the token may not read {what} ({status}); let it read metadata, issues and pull requests")
    if 400 <= status < 500 and status != 408:
        return Fatal(f"GitHub refuses {what} ({status}); is the source's url that of a GitHub API?")
    return Retryable(f"GitHub answered {status} to {what}", waits(headers, now))


def pause(headers: Mapping[str, str], now: datetime) -> float:
    """Seconds until a rate limit lets us go on, by GitHub's own clock."""
    after = waits(headers, now)
    if after is not None:
        return after
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("x-ratelimit-remaining") == "0" and re.fullmatch(r"[0-9]{1,12}", reset):
        return bounded_wait(int(reset) - answered_at(headers, now).timestamp())
    return SECONDARY_LIMIT_SECONDS


def waits(headers: Mapping[str, str], now: datetime) -> float | None:
    """What `Retry-After` says, by GitHub's own clock."""
    return retry_after(headers.get("retry-after"), answered_at(headers, now))


def answered_at(headers: Mapping[str, str], otherwise: datetime) -> datetime:
    """The `Date` of an answer."""
    return http_date(headers.get("date")) or otherwise


def next_page(link: str, base_url: str) -> str | None:
    """The URL of the next page in a `Link` header (RFC 8288); it must lie on our own host, where the token may go."""
    links = requests.utils.parse_header_links(link) if link else []
    url = next((str(item["url"]) for item in links if item.get("rel") == "next"), None)
    try:
        elsewhere = url is not None and urlsplit(url)[:2] != urlsplit(base_url)[:2]
    except ValueError:
        raise Retryable("GitHub's answer names a next page whose address is none") from None
    if elsewhere:
        raise Fatal("GitHub's next page is on another host; correct the source's url")
    return url


def last_page(link: str) -> int | None:
    """The number of the last page in a `Link` header."""
    links = requests.utils.parse_header_links(link) if link else []
    url = next((str(item["url"]) for item in links if item.get("rel") == "last"), "")
    number = re.search(r"[?&]page=([0-9]{1,6})(?:&|$)", url)
    return int(number[1]) if number else None
