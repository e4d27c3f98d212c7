"""OAuth 2.0 as a worker needs it: a token that is asked for when it is needed, and anew before it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from requests import PreparedRequest, RequestException, Response, Session
from requests.auth import AuthBase

from connectors.base import Clock, Fatal, Retryable, http_date, problem, retry_after, unreached, usable_token
from connectors.bounded import BoundedAdapter

TIMEOUT = (10.0, 30.0)
MARGIN = timedelta(minutes=5)
"""So long before it ends a token is exchanged: a clock may be wrong, and an answer slow."""


class Grant(BaseModel):
    """What a server of tokens answers (RFC 6749, 5.1)."""

    access_token: str
    expires_in: int = Field(gt=0, le=366 * 24 * 3600)


class Refusal(BaseModel):
    """And what it answers where it gives none (RFC 6749, 5.2)."""

    error: str = Field("", max_length=100, pattern=r"^[\x20-\x7e]*$")


class Renewed(AuthBase):
    """Signs requests with a token, which `exchange` gets. Errors are a connector's: Retryable or Fatal."""

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
                self._until = now + max(timedelta(seconds=grant.expires_in), 2 * MARGIN)
            return self._token

    def _forget_refused(self, response: Response, *_args: object, **_kwargs: object) -> None:
        """The next request begins with a new one: it may have been revoked."""
        if response.status_code == 401:
            self._until = None


def granted(url: str, form: Mapping[str, Any], advice: str) -> Grant:
    """The answer of the server of tokens at `url` to this form; where it refuses, `advice` says what to look at."""
    try:
        with Session() as session:
            session.mount("https://", BoundedAdapter(max_retries=0))
            session.mount("http://", BoundedAdapter(max_retries=0))
            # auth: nobody is to sign this by what a .netrc says.
            answer = session.post(url, data=form, timeout=TIMEOUT, allow_redirects=False, auth=lambda sent: sent)
    except RequestException as error:
        raise Retryable(f"the server of tokens at {unreached(url, error)}") from None
    if answer.status_code in (400, 401, 403):
        raise Fatal(f"the server of tokens refuses ({answer.status_code}{_reason(answer)}); {advice}")
    if not answer.ok or answer.is_redirect:
        after = retry_after(answer.headers.get("Retry-After"), http_date(answer.headers.get("Date")))
        raise Retryable(f"the server of tokens answered {answer.status_code}", after)
    try:
        return Grant.model_validate_json(answer.content)
    except ValidationError as error:
        raise Retryable(f"the answer of the server of tokens is not as documented: {problem(error)}") from None


def _reason(answer: Response) -> str:
    try:
        found = Refusal.model_validate_json(answer.content).error
    except ValidationError:
        return ""
    return f", {found}" if found else ""
