"""OAuth 2.0 as a worker needs it: what a secret is exchanged for, and a token that is asked for anew before it ends. What is
refused, or not as documented, is told without any of it.

Next: the ways of signing in, `connectors/jira_auth.py`, `connectors/google_account.py` and `connectors/microsoft_account.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from requests import PreparedRequest, RequestException, Response, Session
from requests.auth import AuthBase

from connectors.base import Clock, Fatal, Retryable, http_date, problem, retry_after, unreached, usable_token
from connectors.bounded import BoundedAdapter

T = TypeVar("T")

TIMEOUT = (10.0, 30.0)
MARGIN = timedelta(minutes=5)
"""So long before it ends a token is exchanged: a clock may be wrong, and an answer slow."""


class Grant(BaseModel):
    """What a server of tokens answers (RFC 6749, 5.1)."""

    access_token: str = Field(repr=False)
    expires_in: int = Field(gt=0, le=366 * 24 * 3600)

    @property
    def life(self) -> timedelta:
        """One that is shorter than what is left over at its end would be asked for with every request."""
        return max(timedelta(seconds=self.expires_in), 2 * MARGIN)


class Refusal(BaseModel):
    """And what it answers where it gives none (RFC 6749, 5.2)."""

    error: str = Field("", max_length=100, pattern=r"^[\x20-\x7e]*$")


class Renewed(AuthBase):
    """Signs requests with a token, which `exchange` gets; `place` is where one that cannot be sent came from. Errors are a
    connector's: Retryable or Fatal."""

    def __init__(self, exchange: Callable[[], Grant], place: str, clock: Clock) -> None:
        self._exchange = exchange
        self._place = place
        self._clock = clock
        self._token = ""
        self._until: datetime | None = None
        self._lock = threading.Lock()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.register_hook("response", self._forget_refused)  # type: ignore[no-untyped-call]
        request.headers["Authorization"] = f"Bearer {self._valid()}"
        return request

    def _valid(self) -> str:
        with self._lock:
            now = self._clock()
            if self._until is None or now >= self._until - MARGIN:
                grant = self._exchange()
                self._token = usable_token(grant.access_token, self._place)
                self._until = now + grant.life
            return self._token

    def _forget_refused(self, response: Response, *_args: object, **_kwargs: object) -> None:
        """The next request begins with a new one: it may have been revoked."""
        if response.status_code == 401:
            self._until = None


def exchange(
    who: str, url: str, wanted: Mapping[str, str], shape: type[T], refused: str, *, as_form: bool = False
) -> T:
    """What a secret is exchanged for at `url`, which is `who`'s; `refused` says what is, and what to do, where it is not: in it
    STATUS stands for the status, and REASON for the reason, if one is given. Raises `Fatal` and `Retryable`."""
    body = {"data" if as_form else "json": dict(wanted)}
    with session() as asking:
        answer = sent(who, url, lambda: asking.post(url, timeout=TIMEOUT, allow_redirects=False, **body))  # type: ignore[arg-type]
    if answer.status_code in (400, 401, 403):
        told = refused.replace("STATUS", str(answer.status_code)).replace("REASON", _reason(answer))
        raise Fatal(f"{who} refuses {told}")
    return read(who, answer, TypeAdapter(shape), "a request for a token")


@contextmanager
def session() -> Iterator[Session]:
    """One that is bounded, and that nobody signs by what a .netrc says."""
    with Session() as found:
        for scheme in ("http://", "https://"):
            found.mount(scheme, BoundedAdapter(max_retries=0))
        found.auth = lambda request: request
        yield found


def sent(who: str, url: str, send: Callable[[], Response]) -> Response:
    """The answer; raises `Retryable` where none comes."""
    try:
        return send()
    except RequestException as error:
        raise Retryable(f"{who} at {unreached(url, error)}") from None


def read(who: str, answer: Response, shape: TypeAdapter[T], asked: str) -> T:
    """What is in an answer to what was `asked`; raises `Retryable` where it is none."""
    if not answer.ok or answer.is_redirect:
        after = retry_after(answer.headers.get("Retry-After"), http_date(answer.headers.get("Date")))
        raise Retryable(f"{who} answered {answer.status_code} to {asked}", after)
    try:
        return shape.validate_json(answer.content)
    except ValidationError as error:
        raise Retryable(f"{who}'s answer to {asked} is not as documented: {problem(error)}") from None


def _reason(answer: Response) -> str:
    try:
        found = Refusal.model_validate_json(answer.content).error
    except ValidationError:
        return ""
    return f", {found}" if found else ""
