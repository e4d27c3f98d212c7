"""Atlassian's tokens: what is exchanged for them, and where. What is refused, or not as documented, is told without any of it.

Next: `connectors/jira_auth.py`, the ways of signing in, and `connectors/jira_consent.py`, that by a person's consent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from requests import RequestException, Response, Session

from connectors.base import Fatal, Retryable, http_date, problem, retry_after, unreached
from connectors.bounded import BoundedAdapter

T = TypeVar("T")

GATEWAY = "https://api.atlassian.com"
AUTHORIZE = "https://auth.atlassian.com/authorize"
TOKENS = "https://auth.atlassian.com/oauth/token"
TIMEOUT = (10.0, 30.0)
MARGIN = timedelta(minutes=5)
"""So long before it ends a token is exchanged: a clock may be wrong, and an answer slow."""
TOKEN = r"^[\x21-\x7e]{1,16384}$"  # noqa: S105  its form


class Grant(BaseModel):
    """Atlassian's answer to a secret."""

    access_token: str
    expires_in: int = Field(gt=0, le=366 * 24 * 3600)

    @property
    def life(self) -> timedelta:
        """One that is shorter than what is left over at its end would be asked for with every request."""
        return max(timedelta(seconds=self.expires_in), 2 * MARGIN)


class PersonalGrant(Grant):
    """The answer to a person's code or refresh token: the next refresh token is with it."""

    access_token: str = Field(pattern=TOKEN)
    refresh_token: str | None = Field(default=None, pattern=TOKEN)
    scope: str = ""


class Site(BaseModel):
    """A site that a person lets pmsync see."""

    id: str = Field(pattern=r"^[A-Za-z0-9-]{1,64}$")
    url: str = Field(max_length=300)
    scopes: tuple[str, ...] = ()


def exchange(wanted: Mapping[str, str], shape: type[T], refused: str) -> T:
    """What a secret is exchanged for; `refused` says what to do where Atlassian does not. Raises `Fatal` and `Retryable`."""
    with _session() as session:
        answer = _sent(lambda: session.post(TOKENS, json=dict(wanted), timeout=TIMEOUT, allow_redirects=False), TOKENS)
    if answer.status_code in (400, 401, 403):
        raise Fatal(f"Atlassian refuses {refused.replace('STATUS', str(answer.status_code))}")
    return _read(answer, TypeAdapter(shape), "a request for a token")


def sites(access_token: str) -> list[Site]:
    """All that this token opens. Raises `Fatal` and `Retryable`."""
    url = f"{GATEWAY}/oauth/token/accessible-resources"
    signed = {"Authorization": f"Bearer {access_token}", "Accept": "application/json"}
    with _session() as session:
        answer = _sent(lambda: session.get(url, headers=signed, timeout=TIMEOUT, allow_redirects=False), url)
    if answer.status_code in (401, 403):
        raise Fatal(f"Atlassian does not say which sites it may be ({answer.status_code}); sign in once more")
    return _read(answer, TypeAdapter(list[Site]), "the question which sites it may be")


@contextmanager
def _session() -> Iterator[Session]:
    with Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, BoundedAdapter(max_retries=0))
        session.auth = lambda sent: sent  # nobody is to sign this by what a .netrc says
        yield session


def _sent(send: Callable[[], Response], url: str) -> Response:
    try:
        return send()
    except RequestException as error:
        raise Retryable(f"Atlassian at {unreached(url, error)}") from None


def _read(answer: Response, shape: TypeAdapter[T], asked: str) -> T:
    if not answer.ok or answer.is_redirect:
        after = retry_after(answer.headers.get("Retry-After"), http_date(answer.headers.get("Date")))
        raise Retryable(f"Atlassian answered {answer.status_code} to {asked}", after)
    try:
        return shape.validate_json(answer.content)
    except ValidationError as error:
        raise Retryable(f"Atlassian's answer to {asked} is not as documented: {problem(error)}") from None
