"""Jira: how it is spoken to: requests by the session of the library `jira`, and what an answer, or none, means for us.

Nothing here knows what is asked for: that is `connectors/jira.py`'s, and of what differs between the two kinds of Jira
`connectors/jira_cloud.py`'s and `connectors/jira_data_center.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, ParamSpec, TypeVar
from urllib.parse import urlsplit

from jira import JIRA
from requests import RequestException, Response
from requests.auth import AuthBase
from requests.exceptions import InvalidURL, JSONDecodeError

from connectors.base import Fatal, Retryable, Withheld, bounded_wait, http_date, retry_after, unreached
from connectors.bounded import BoundedAdapter
from connectors.jira_values import Unreadable, instant, typed

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and to wait for the next bytes of an answer."""
MAX_PAGES = 20_000
BURST_SECONDS = 1.0
"""Buckets of calls fill up again within a second."""


class NotFound(Withheld):
    """Jira has no such project, version, issue or user, or none that this account may see."""


class Refused(Fatal):
    """Jira does not do what was asked, with this status; asking again will not help."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One Jira, by the session of the library `jira`. `server` is where its paths begin; `version` is that of its API."""

    def __init__(self, server: str, version: int, auth: AuthBase) -> None:
        self._root = f"{server}/rest/api/{version}"
        self._agile = f"{server}/rest/agile/1.0"
        self._server = server
        # logging=False: the library would log whole answers that it cannot read.
        self.library = JIRA(
            server,
            options={"rest_api_version": str(version)},
            get_server_info=False,
            max_retries=0,
            timeout=TIMEOUT,
            logging=False,
        )
        # No aliases: the library would take a field's id for the name of another field, and ask Jira for all names first.
        self.library._fields_cache_value = {"": ""}
        self._session = self.library._session
        self._session.auth = auth
        self._session.hooks["response"] = [refuse]
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, BoundedAdapter(max_retries=0))

    def get(self, path: str, **query: str | Sequence[str]) -> Any:
        """What is at a path. Of several values for a name each is sent under that name."""
        return self.read(lambda: self._session.get(f"{self._root}/{path}", params=query).json())

    def agile(self, path: str, **query: str) -> Any:
        """What is at a path of the API of Jira Software, which knows boards and sprints."""
        return self.read(lambda: self._session.get(f"{self._agile}/{path}", params=query).json())

    def find(self, path: str, **query: str | Sequence[str]) -> dict[str, Any] | None:
        """The thing at `path`, or None where Jira says that there is none."""
        try:
            answer = self.get(path, **query)
        except NotFound:
            return None
        return self.read(typed, answer, dict, "the answer")

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return self.read(lambda: self._session.post(f"{self._root}/{path}", data=json.dumps(body)).json())

    def send(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """For what changes something of pmsync's own; None where there is nothing to say."""

        def sent() -> Any:
            answer = self._session.request(method, f"{self._root}/{path}", data=json.dumps(body))
            return answer.json() if answer.content.strip() else None

        return self.read(sent)

    def read(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `read`; whatever else than an answer comes of it becomes one of our errors, without the original's text."""
        try:
            return read(*args, **kwargs)
        except Unreadable as error:
            raise Retryable(f"Jira's answer is not as documented: {error}") from None
        except InvalidURL:
            raise Fatal("the url of this Jira is not one that can be called; check `url`") from None
        except JSONDecodeError:
            raise Retryable("Jira's answer is no JSON: it was cut short, or comes from a proxy") from None
        except RequestException as error:
            raise Retryable(f"Jira at {unreached(self._server, error)}") from None
        except (ValueError, RecursionError, OverflowError) as error:
            raise Retryable(f"Jira did not answer in full ({type(error).__name__})") from None


class Limit(NamedTuple):
    """One of Jira's limits: what is said of it, and whether it begins anew with the hour or within a second."""

    words: str
    is_hourly: bool


LIMITS: Mapping[str, Limit] = {
    "jira-quota-global-based": Limit("what this app may ask of all its sites in an hour is used up", is_hourly=True),
    "jira-quota-tenant-based": Limit("what this app may ask of this site in an hour is used up", is_hourly=True),
    "jira-burst-based": Limit("too many calls of one kind came at once", is_hourly=False),
    "jira-per-issue-on-write": Limit("one issue was written to too often, by another program", is_hourly=False),
}
"""By the header `RateLimit-Reason` (developer.atlassian.com, "Rate limiting"); a reason that is not here is as none."""


def failure(response: Response) -> Retryable | NotFound | Refused:
    """The error that an answer other than 2xx stands for."""
    status, doing = response.status_code, f"{response.request.method} {urlsplit(response.request.url or '').path}"
    if status in (408, 425, 429) or status >= 500:
        limit = LIMITS.get(response.headers.get("RateLimit-Reason", "")) if status == 429 else None
        why = f": {limit.words}" if limit else ""
        return Retryable(f"Jira answered {status} to {doing}{why}", _wait(response.headers, limit))
    if status == 404 and re.search(r"/(project|version|board)/|/issue/\d+(/worklog)?$|/user$", doing):
        return NotFound(f"Jira has nothing at {doing}, or this account may not see it; check the key and permissions")
    advice = {
        400: "a project in the configuration may be gone or hidden from this account; run `pmsync doctor`",
        401: "check what auth names: the account, and the token or secret, which may have expired or lack a scope",
        403: "give this account the permission to browse the project",
        410: "this way into Jira was removed; update pmsync, and check `deployment`",
    }.get(status, "check the url, `deployment`, auth.cloud_id and the account")
    return Refused(f"Jira answered {status} to {doing}: {advice}", status)


def _wait(headers: Mapping[str, str], limit: Limit | None) -> float | None:
    """Seconds to wait, by Jira's own clock: what it asks for, else what the limit that was reached lets expect."""
    now = http_date(headers.get("Date"))
    after = retry_after(headers.get("Retry-After"), now)
    if after is not None or limit is None:
        return after
    if not limit.is_hourly:
        return BURST_SECONDS
    if now is None:
        return None
    try:
        left = instant(headers.get("X-RateLimit-Reset"), "X-RateLimit-Reset") - now
    except Unreadable:
        left = timedelta(hours=1) - timedelta(minutes=now.minute, seconds=now.second)
    return bounded_wait(left.total_seconds())


def refuse(response: Response, *_args: Any, **_kwargs: Any) -> None:
    """A response hook, since the library's own reading of errors fails on bodies that are not as it expects.

    A redirect is not followed: what its target lacks would look as if it were gone from Jira.
    """
    if not response.ok or response.is_redirect:
        response.close()
        raise failure(response)
    if response.headers.get("X-AUSERNAME") == "anonymous":
        response.close()
        raise Fatal("Jira takes us for nobody, to whom it shows what is public; does a proxy keep the token from it?")
