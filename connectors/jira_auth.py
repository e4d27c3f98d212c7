"""Jira: the ways of signing in.

Cloud: an account with its API token, or a service account, which exchanges its secret for a token that is good for an hour.
Whoever has scopes (all service accounts, and API tokens that were made with some) is let in by Atlassian's gateway alone.
Data Center: a personal access token.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from requests import PreparedRequest, RequestException, Response, Session
from requests.auth import AuthBase, HTTPBasicAuth

from connectors.base import (
    Clock,
    Fatal,
    Retryable,
    SecretRef,
    http_date,
    problem,
    retry_after,
    unreached,
    usable_token,
)
from connectors.bounded import BoundedAdapter

GATEWAY = "https://api.atlassian.com"
TOKENS = "https://auth.atlassian.com/oauth/token"
TIMEOUT = (10.0, 30.0)
MARGIN = timedelta(minutes=5)
"""So long before it ends a token is exchanged: a clock may be wrong, and an answer slow."""

WAYS: dict[str, tuple[frozenset[str], ...]] = {
    "cloud": (
        frozenset({"email", "token"}),
        frozenset({"email", "token", "cloud_id"}),
        frozenset({"client_id", "client_secret", "cloud_id"}),
    ),
    "data_center": (frozenset({"token"}),),
}
"""Which keys of `auth` belong together, by deployment."""


class JiraAuth(BaseModel):
    """`email` and `token`: an Atlassian account and its API token; one with scopes needs `cloud_id`, the site's, too.
    `client_id`, `client_secret` and `cloud_id`: a service account's OAuth 2.0 credential. `token` alone: a personal access
    token of Data Center."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    email: str | None = Field(default=None, min_length=1)
    token: SecretRef | None = None
    client_id: str | None = Field(default=None, pattern=r"^[\x21-\x7e]{1,200}$")
    client_secret: SecretRef | None = None
    cloud_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9-]{1,64}$")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if not any(self.keys in ways for ways in WAYS.values()):
            raise ValueError(f"give {expected('cloud')}, or of Data Center {expected('data_center')}")
        return self

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self.model_dump(exclude_none=True))


def expected(deployment: str) -> str:
    """The ways to sign in to a deployment, for people."""
    order = list(JiraAuth.model_fields)
    return " or ".join(f"{{{', '.join(sorted(way, key=order.index))}}}" for way in WAYS[deployment])


def signed_in(auth: JiraAuth, url: str, clock: Clock) -> tuple[str, AuthBase]:
    """Where Jira is spoken to, and how each request is signed. No request is sent yet. Raises `Fatal`."""
    server = f"{GATEWAY}/ex/jira/{auth.cloud_id}" if auth.cloud_id else url
    if auth.client_id and auth.client_secret:
        return server, ServiceAccount(auth.client_id, auth.client_secret, clock)
    token = auth.token.reveal() if auth.token else ""
    return server, HTTPBasicAuth(auth.email, token) if auth.email else Bearer(lambda: usable_token(token, "auth.token"))


class Bearer(AuthBase):
    """A token in the header of each request."""

    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token()}"
        return request


class Grant(BaseModel):
    """Atlassian's answer to a secret."""

    access_token: str
    expires_in: int = Field(gt=0, le=366 * 24 * 3600)


class ServiceAccount(Bearer):
    """The token of a service account, asked for anew before it ends. Errors are a connector's: Retryable or Fatal."""

    def __init__(self, client_id: str, secret: SecretRef, clock: Clock) -> None:
        super().__init__(self._valid)
        self._client_id = client_id
        self._secret = secret
        self._clock = clock
        self._grant = ""
        self._until: datetime | None = None
        self._lock = threading.Lock()

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.register_hook("response", self._forget_refused)  # type: ignore[no-untyped-call]
        return super().__call__(request)

    def _valid(self) -> str:
        with self._lock:
            now = self._clock()
            if self._until is None or now >= self._until - MARGIN:
                grant = self._exchange()
                self._grant = usable_token(grant.access_token, "the service account, in Atlassian's administration")
                self._until = now + max(timedelta(seconds=grant.expires_in), 2 * MARGIN)
            return self._grant

    def _forget_refused(self, response: Response, *_args: object, **_kwargs: object) -> None:
        """The next request begins with a new one: it may have been revoked."""
        if response.status_code == 401:
            self._until = None

    def _exchange(self) -> Grant:
        wanted = {
            "grant_type": "client_credentials",
            "client_id": self._client_id,
            "client_secret": self._secret.reveal(),
        }
        try:
            with Session() as session:
                session.mount("https://", BoundedAdapter(max_retries=0))
                session.mount("http://", BoundedAdapter(max_retries=0))
                # auth: nobody is to sign this by what a .netrc says.
                answer = session.post(
                    TOKENS, json=wanted, timeout=TIMEOUT, allow_redirects=False, auth=lambda sent: sent
                )
        except RequestException as error:
            raise Retryable(f"Atlassian at {unreached(TOKENS, error)}") from None
        if answer.status_code in (400, 401, 403):
            raise Fatal(
                f"Atlassian refuses the service account ({answer.status_code}); check auth.client_id and the secret that "
                "auth.client_secret names: it may have been revoked, or have expired"
            )
        if not answer.ok or answer.is_redirect:
            after = retry_after(answer.headers.get("Retry-After"), http_date(answer.headers.get("Date")))
            raise Retryable(f"Atlassian answered {answer.status_code} to a request for a token", after)
        try:
            return Grant.model_validate_json(answer.content)
        except ValidationError as error:
            raise Retryable(
                f"Atlassian's answer to a request for a token is not as documented: {problem(error)}"
            ) from None
